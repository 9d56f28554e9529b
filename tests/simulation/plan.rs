//! What one seed is about: how many shards, how unkind a kernel, how small the limits.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ringway::auth::crowd::{Crowd, Seats};
use ringway::auth::network::Networks;
use ringway::auth::origin::{OriginRule, Scheme};
use ringway::auth::rate::Rate;
use ringway::conn::guest::{AddressLimits, Door};
use ringway::conn::outbox;
use ringway::conn::route::Routes;
use ringway::dialect::cause::DrainNotice;
use ringway::dialect::{self, centrifuge, keepalive};
use ringway::ring::sim::Faults;
use ringway::topic::namespace::{Broker, Mode, Namespace, Namespaces, PublishRight};
use ringway::ws::deflate;
use ringway::ws::receiver::Limits;
use ringway::{conn, mail, shard};

/// Every topic that clients may name; the last belongs to no namespace.
pub(crate) const TOPICS: [&str; 10] =
    ["s:0", "s:1", "s:2", "l:0", "l:1", "k:0", "k:1", "o:0", "d:0", "z:0"];

/// Whether a slow client may be spared all values of a topic but the newest.
pub(crate) fn is_latest(topic: usize) -> bool {
    TOPICS[topic].starts_with('k')
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Everything comes to rest, is compared, and the clients leave.
    Leave,
    /// The gateway drains in the middle of everything.
    Drain { window_ms: u64 },
    /// The gateway stops in the middle of everything.
    Stop,
}

/// One seed's world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shards: usize,
    pub(crate) lanes: mail::post::Settings,
    pub(crate) faults: Faults,
    pub(crate) clients_max: usize,
    pub(crate) steps: usize,
    /// Bytes that payloads are filled up with.
    pub(crate) padding: usize,
    /// Whether time leaps far enough for pings and idle clients to matter.
    pub(crate) leaps: bool,
    /// Whether history keeps whatever a client can miss in this run.
    pub(crate) ample_history: bool,
    pub(crate) finish: Finish,
    pub(crate) shard: shard::Settings,
}

impl Plan {
    pub(crate) fn new(dice: &mut Rng) -> Self {
        let shards = dice.usize(1..=3);
        let lane = if dice.u8(..3) > 0 { 1 } else { dice.usize(2..=64) };
        let leaps = dice.bool();
        let ample_history = dice.u8(..4) == 0;
        let finish = match dice.u8(..8) {
            0 => Finish::Drain { window_ms: 0 },
            1 => Finish::Drain { window_ms: dice.u64(1..3000) },
            2 => Finish::Stop,
            _ => Finish::Leave,
        };
        let topics_max = if dice.u8(..6) == 0 { dice.usize(1..=3) } else { 1000 };
        let connections_max = if dice.u8(..6) == 0 { dice.usize(1..=4) } else { 1000 };
        Self {
            shards,
            lanes: mail::post::Settings { requests_max: lane, deliveries_max: lane },
            faults: faults(dice),
            clients_max: dice.usize(2..=24),
            steps: dice.usize(200..2400),
            padding: if dice.bool() { 0 } else { dice.usize(1..700) },
            leaps,
            ample_history,
            finish,
            shard: shard::Settings {
                shards,
                seats: Arc::new(Seats::new(connections_max)),
                listener_seats: vec![Arc::new(Seats::new(if dice.bool() {
                    dice.usize(2..40)
                } else {
                    usize::MAX
                }))],
                buffers_bytes: 0,
                turned_away_max: dice.usize(0..4),
                handshakes_max: if dice.u8(..8) == 0 { 2 } else { 1000 },
                subscriptions_max: if dice.u8(..4) == 0 { dice.usize(1..=3) } else { 100 },
                topics_max,
                told: Default::default(),
                closes_kept: if dice.bool() { 1000 } else { dice.usize(..3) },
                deflate_contexts_max: dice.usize(..6),
                epoch_nonce: "sim".to_owned(),
                links: Vec::new(),
                tls: shard::secure::Settings::default(),
                conn: Arc::new(connections(dice, ample_history)),
            },
        }
    }

    pub(crate) fn has_topics_for_all(&self) -> bool {
        self.shard.topics_max >= TOPICS.len()
    }
}

fn faults(dice: &mut Rng) -> Faults {
    let mut faults = match dice.u8(..3) {
        0 => Faults::none(),
        _ => Faults::harsh(),
    };
    faults.socket_bytes = match dice.u8(..4) {
        0 => (1, 64),
        1 => (64, 4096),
        _ => (4096, 65_536),
    };
    if dice.u8(..4) == 0 {
        faults.delay = 0.7;
    }
    faults
}

fn connections(dice: &mut Rng, ample_history: bool) -> conn::Settings {
    let seconds = Duration::from_secs;
    let ping = match dice.bool() {
        true => keepalive::Settings { interval: seconds(25), timeout: seconds(8) },
        false => keepalive::Settings { interval: seconds(3), timeout: seconds(1) },
    };
    let bytes_max = if dice.bool() { dice.usize(500..6000) } else { 4 << 20 };
    conn::Settings {
        head: Default::default(),
        head_timeout: seconds(5),
        messages: Limits { message_bytes_max: 8192, fragments_max: 8 },
        message_timeout: seconds(10),
        close_timeout: seconds(5),
        idle_timeout: dice.bool().then(|| seconds(12)),
        control_frames: Rate::new(20, 40),
        routes: Routes { raw: true, echo: true, centrifuge: true },
        doors: vec![Door {
            origins: OriginRule { allowed: Vec::new(), any: true, missing: true },
            scheme: Scheme::Http,
            proxy_protocol: false,
            trusted: Networks::default(),
        }],
        addresses: addresses(dice),
        dialect: dialect::Settings {
            ping,
            commands: None,
            centrifuge: centrifuge::Settings { ping, connect_timeout: seconds(10) },
        },
        namespaces: namespaces(dice, ample_history),
        drain: DrainNotice { code: 1012, retry_ms: 500..=20_000 },
        outbox: outbox::Settings {
            bytes_max,
            soft_bytes_max: if dice.u8(..4) == 0 { bytes_max / 4 } else { 100 },
            soft_timeout: seconds(2),
            stall_timeout: seconds(6),
        },
        deflate: (dice.u8(..4) > 0).then(|| deflate::Settings {
            level: dice.u8(1..=9),
            bytes_min: if dice.bool() { 0 } else { dice.usize(..300) },
            client_window_bits: dice.bool().then(|| dice.u8(9..=15)),
        }),
        page: None,
    }
}

/// Every model client has the same address.
fn addresses(dice: &mut Rng) -> AddressLimits {
    let max = dice.u16(1..30);
    let crowd = (dice.u8(..4) == 0).then(|| Arc::new(Crowd::new(max, 1)));
    AddressLimits { crowd, ..AddressLimits::default() }
}

fn namespaces(dice: &mut Rng, ample_history: bool) -> Namespaces {
    let (history_size, history_age, history_bytes_max) = if ample_history {
        (1 << 20, Duration::from_secs(1 << 20), 1 << 30)
    } else {
        let age = Duration::from_millis(dice.u64(500..60_000));
        (dice.usize(1..30), age, dice.usize(2_000..100_000))
    };
    let namespace = |name: &str, mode, publish| Namespace {
        name: name.to_owned(),
        mode,
        broker: Broker::Embedded,
        history_size,
        history_age,
        history_bytes_max,
        recovery: mode != Mode::Live,
        publish,
        compress: name != "k",
    };
    Namespaces::new([
        namespace("s", Mode::Stream, PublishRight::Allow),
        namespace("l", Mode::Live, PublishRight::Allow),
        namespace("k", Mode::Latest, PublishRight::Allow),
        namespace("o", Mode::Stream, PublishRight::Subscribers),
        namespace("d", Mode::Stream, PublishRight::Deny),
    ])
}
