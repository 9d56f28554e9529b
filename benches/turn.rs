//! Turns of a whole shard on the simulated ring: receive, unmask, echo, flush, without a kernel.
//! Input: 1,000 text messages of 16 bytes, 20 from each of 50 clients, and the turns that it takes to
//! have all of them back.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringway::daemon::settings;
use ringway::mail::post;
use ringway::ring::sim::{ClientSocket, Faults, SimRing, World};
use ringway::shard::Shard;
use ringway::shard::board::Board;
use ringway::{config, metrics};

const CLIENTS: usize = 50;
const MESSAGES: usize = 20;
/// A text frame of 16 bytes from a client: two bytes of header, a mask of zeros, the payload.
const FRAME: &[u8; 22] = b"\x81\x90\0\0\0\0sixteen bytes ..";
/// The same frame from the server.
const ECHO_BYTES: usize = 18;
const UPGRADE: &[u8] = b"GET /echo HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
/// More turns than anything here takes.
const TURNS_MAX: usize = 1000;

fn shard(world: &World) -> Shard<SimRing> {
    let config = config::parse(include_str!("../config/bench.toml"), "bench.toml", &[])
        .unwrap_or_else(|violations| panic!("{violations}"));
    let conn = Arc::new(settings::of_connections(&config, 1, world.now()));
    let settings = settings::of_shards(&config, 1, CLIENTS, "bench.".to_owned(), conn);
    let mut posts = post::connect(2, config.lanes);
    let (numbers, _) = metrics::shard();
    let random = fastrand::Rng::with_seed(1);
    Shard::new(
        world.attach(1),
        1,
        posts.swap_remove(0),
        numbers,
        Arc::new(Board::new(settings)),
        random,
    )
}

/// What has come back to all clients.
fn read(clients: &[ClientSocket]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for client in clients {
        client.read(&mut bytes);
    }
    bytes
}

fn write(clients: &[ClientSocket]) {
    let messages = FRAME.repeat(MESSAGES);
    for client in clients {
        assert_eq!(client.write(&messages), messages.len());
    }
}

/// Turns until so many bytes are back; how many that were.
fn turns_until(shard: &mut Shard<SimRing>, clients: &[ClientSocket], len: usize) -> usize {
    let mut back = 0;
    for turns in 1..TURNS_MAX {
        shard.turn().expect("the simulated ring does not fail");
        back += read(clients).len();
        if back == len {
            return turns;
        }
    }
    panic!("{back} bytes came back, not {len}");
}

fn benches(c: &mut Criterion) {
    let world = World::new(1, Faults::none());
    let mut shard = shard(&world);
    let clients: Vec<_> = (0..CLIENTS).map(|_| world.connect(0, 0)).collect();
    clients.iter().for_each(|client| _ = client.write(UPGRADE));
    let answer = b"HTTP/1.1 101 Switching Protocols\r\n";
    let mut answers = Vec::new();
    while answers.windows(answer.len()).filter(|bytes| bytes == answer).count() < CLIENTS {
        shard.turn().expect("the simulated ring does not fail");
        answers.extend(read(&clients));
    }
    write(&clients);
    let len = CLIENTS * MESSAGES * ECHO_BYTES;
    let turns = turns_until(&mut shard, &clients, len);

    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements((CLIENTS * MESSAGES) as u64));
    group.bench_function("1000_echoes", |b| {
        b.iter_batched(
            || {
                let back = read(&clients).len();
                assert!(back == len || back == 0, "{back} bytes came back; 0 only at first");
                write(&clients);
            },
            |()| {
                for _ in 0..turns {
                    shard.turn().expect("the simulated ring does not fail");
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(turn_benches, benches);
criterion_main!(turn_benches);
