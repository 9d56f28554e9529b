//! The history of a topic holds what a plain list would, whatever its bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/history.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
