//! Whole shards without a kernel, for what is measured of them: on rings that cost nothing
//! themselves ([`ringway::ring::still`]), with the settings of `config/bench.toml`.

use std::sync::Arc;

use ringway::daemon::settings;
use ringway::mail::post;
use ringway::ring::sim::{Faults, World};
use ringway::ring::still::{Peers, Sent, StillRing};
use ringway::shard::Shard;
use ringway::shard::board::Board;
use ringway::{config, metrics};

/// Connections that are set up at the same time; fewer than `handshakes_max` of the settings.
const NEWCOMERS: usize = 10_000;
/// More turns than anything here takes.
const TURNS_MAX: usize = 10_000;

/// One or more shards and their clients.
pub(crate) struct Stage {
    shards: Vec<(Shard<StillRing>, Peers)>,
    clients: usize,
}

/// A client: its shard, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(usize, i32);

impl Stage {
    /// Shards with room for so many clients in all.
    pub(crate) fn new(shards: usize, clients_max: usize) -> Self {
        let config = config::parse(include_str!("../../config/bench.toml"), "bench.toml", &[])
            .unwrap_or_else(|violations| panic!("{violations}"));
        let now = World::new(1, Faults::none()).now();
        let conn = Arc::new(settings::of_connections(&config, shards, now));
        let settings = settings::of_shards(&config, shards, clients_max, "stage.".to_owned(), conn);
        let board = Arc::new(Board::new(settings));
        // The last thread is that of control, which has nothing to say.
        let mut posts = post::connect(shards + 1, config.lanes);
        posts.truncate(shards);
        let shard = |post| {
            let (ring, peers) = StillRing::new(clients_max.div_ceil(shards), now);
            let random = fastrand::Rng::with_seed(1);
            let (numbers, _) = metrics::shard();
            (Shard::new(ring, 1, post, numbers, Arc::clone(&board), random), peers)
        };
        Self { shards: posts.into_iter().map(shard).collect(), clients: 0 }
    }

    /// Opens clients at `path`, on each shard in turn, and waits until all of them are up.
    pub(crate) fn open(&mut self, count: usize, path: &str) -> Vec<Client> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let before = self.sent().sends;
            let batch: Vec<Client> =
                (0..NEWCOMERS.min(count - all.len())).map(|_| self.connect()).collect();
            self.settle();
            batch.iter().for_each(|client| self.write(*client, request.as_bytes()));
            self.settle();
            let answers = self.sent().sends - before;
            assert_eq!(answers, batch.len() as u64, "each request has one answer");
            all.extend(batch);
        }
        all
    }

    fn connect(&mut self) -> Client {
        let node = self.clients % self.shards.len();
        self.clients += 1;
        Client(node, self.shards[node].1.connect())
    }

    /// Lets a client send these bytes.
    pub(crate) fn write(&self, client: Client, bytes: &[u8]) {
        self.shards[client.0].1.write(client.1, bytes);
    }

    /// One turn of every shard.
    pub(crate) fn turn(&mut self) {
        for (shard, _) in &mut self.shards {
            shard.turn().expect("a still ring does not fail");
        }
    }

    /// Turns until nothing more is sent; a few of them with nothing to do.
    pub(crate) fn settle(&mut self) {
        const QUIET: usize = 8;
        let (mut sent, mut quiet) = (self.sent(), 0);
        for _ in 0..TURNS_MAX {
            self.turn();
            let now = self.sent();
            quiet = if now == sent { quiet + 1 } else { 0 };
            sent = now;
            // Newcomers come in 256 at a time, and are sent nothing yet.
            if quiet > QUIET + NEWCOMERS / 256 {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// What all clients were sent so far.
    pub(crate) fn sent(&self) -> Sent {
        let mut sum = Sent::default();
        for (_, peers) in &self.shards {
            let sent = peers.sent();
            sum.sends += sent.sends;
            sum.bytes += sent.bytes;
        }
        sum
    }
}

/// A text message from a client, at most 125 bytes, with a mask of zeros.
pub(crate) fn message(text: &[u8]) -> Vec<u8> {
    let len = u8::try_from(text.len()).ok().filter(|len| *len <= 125).expect("a short message");
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text].concat()
}
