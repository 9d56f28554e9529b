//! What the hot path allocates: nothing for a message that is echoed, nothing for a delivery.
//!
//! Whole shards on rings that allocate nothing themselves. The counting allocator counts this
//! thread only.

use allocation_counter::measure;

#[path = "../benches/stage/mod.rs"]
mod stage;

use stage::{Client, Stage, message};

/// Rounds before anything is counted: buffers have then grown to what they need.
const WARM_UP: usize = 200;
/// Rounds that are counted.
const ROUNDS: u64 = 50;
/// Allocations of one publication on one shard, however many subscribers there are.
const PUBLICATION: u64 = 6;

/// Allocations of [`ROUNDS`] rounds.
fn allocations(round: &mut dyn FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| round());
    measure(|| (0..ROUNDS).for_each(|_| round())).count_total
}

/// Every client sends its messages, and has all of them back.
fn echo(stage: &mut Stage, clients: &[Client], messages: &[u8], echo_bytes: usize) {
    let before = stage.sent().bytes;
    clients.iter().for_each(|client| stage.write(*client, messages));
    while stage.sent().bytes < before + (clients.len() * echo_bytes) as u64 {
        stage.turn();
    }
}

/// The first client publishes, and all have got that.
fn publish(stage: &mut Stage, clients: &[Client], publication: &[u8]) {
    let before = stage.sent().sends;
    stage.write(clients[0], publication);
    while stage.sent().sends < before + clients.len() as u64 {
        stage.turn();
    }
}

#[test]
fn an_echo_allocates_nothing() {
    for (clients, each) in [(1, 1), (100, 1), (100, 60)] {
        let mut stage = Stage::new(1, clients);
        let clients = stage.open(clients, "/echo");
        let messages = message(b"sixteen bytes...").repeat(each);
        let round = &mut || echo(&mut stage, &clients, &messages, each * 18);
        assert_eq!(allocations(round), 0, "{each} messages from each of {}", clients.len());
    }
}

#[test]
fn a_delivery_allocates_nothing_and_a_publication_as_much_for_many_as_for_few() {
    // For each shard with subscribers one: the frame, as all connections there refer to it.
    for (shards, most) in [(1, PUBLICATION), (2, PUBLICATION + 1)] {
        for subscribers in [10, 5_000] {
            let mut stage = Stage::new(shards, subscribers);
            let clients = stage.open(subscribers, "/topic/bench");
            let publication = message(&[b'x'; 125]);
            let all = allocations(&mut || publish(&mut stage, &clients, &publication));
            assert_eq!(all, most * ROUNDS, "{subscribers} subscribers on {shards} shards");
        }
    }
}
