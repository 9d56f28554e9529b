//! One connection, driven by steps that are written down in bytes as a shard might drive it: at most
//! one Close is sent and nothing behind it, a connection never comes back from its end, everything
//! that it asked may be answered late or in another order, and it ends when its deadlines pass.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../properties/connection.rs"]
mod property;

fuzz_target!(|data: &[u8]| property::check(data));
