//! What a request line may name: paths, queries and topics lead where they should, cost no more than
//! their bytes, and never mean two things.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/names.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
