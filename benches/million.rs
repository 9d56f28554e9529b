//! A million connections on one shard, without a kernel: what each of them takes, and what a
//! publication to all of them costs. Input: 1,000,000 raw clients of one topic, 128 bytes.
//!
//! Not statistics but one run of a few seconds; some 500 MB. The allocator is that of the daemon.

use std::fs;
use std::time::Instant;

mod stage;

use stage::{Stage, message};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 1_000_000;
const PUBLICATIONS: usize = 5;
/// What the ring under measurement keeps of each client itself: an optional token.
const OF_THE_RING: f64 = 12.0;
/// More than this for each connection means that something is wrong, in bytes.
const BYTES_MAX: f64 = 700.0;

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
#[expect(clippy::print_stdout, reason = "the result goes to whoever asked")]
fn main() {
    let mut stage = Stage::new(1, CLIENTS);
    let empty = resident_bytes();
    let begun = Instant::now();
    let clients = stage.open(CLIENTS, "/topic/million");
    let own = size_of_val(&clients[..]) as f64;
    let each = |now: f64| (now - empty - own) / CLIENTS as f64 - OF_THE_RING;
    let idle = each(resident_bytes());
    println!("{CLIENTS} connections with a subscription each, in {:.1?}", begun.elapsed());
    println!("resident memory: {idle:.0} B for each connection");

    let publication = message(&[b'x'; 125]);
    for (number, client) in clients.iter().take(PUBLICATIONS).enumerate() {
        let before = stage.sent().sends;
        stage.write(*client, &publication);
        let begun = Instant::now();
        while stage.sent().sends < before + CLIENTS as u64 {
            stage.turn();
        }
        let nanos = begun.elapsed().as_nanos() as f64 / CLIENTS as f64;
        println!("publication {}: {nanos:.0} ns for each delivery", number + 1);
    }
    stage.settle();
    let after = each(resident_bytes());
    println!("resident memory after that: {after:.0} B for each connection");
    assert!(after < BYTES_MAX, "{after} bytes for each connection, {BYTES_MAX} allowed");
}

/// Resident memory of this process.
fn resident_bytes() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("there is /proc");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("a number of pages") * rustix::param::page_size() as f64
}
