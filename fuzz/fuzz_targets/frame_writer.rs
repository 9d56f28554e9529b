//! A frame that we write reads back as what was written, without a mask, and its length is told in the
//! fewest bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/frame_writer.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
