//! First byte: the method. Rest: the body of a request to the server API. What is taken says what
//! the JSON says, within the limits; patterns match as their definition has it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ringway::api::oracle::check(data));
