//! A configuration is taken or refused as a whole: the same text gets the same answer, complaints name
//! a place and are bounded, and what is taken satisfies what the program relies on.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/config.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
