//! The shards, the clients around them, and the order in which things happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ringway::mail::message::{Request, Shortage};
use ringway::mail::post;
use ringway::metrics::catalogue::{Counter, Gauge};
use ringway::metrics::ledger::Ledger;
use ringway::metrics::{self, Reader};
use ringway::ring::Wait;
use ringway::ring::sim::{Faults, SimRing, World};
use ringway::shard::board::Board;
use ringway::shard::labels::Labels;
use ringway::shard::{Running, Shard};

use crate::client::{Client, Context, Position};
use crate::control::Control;
use crate::ending::{Known, told};
use crate::journal::note;
use crate::plan::{Finish, Plan, TOPICS};
use crate::truth::Truth;

/// Rounds after which something that never rests counts as a fault.
const ROUNDS_MAX: usize = 20_000;

pub(crate) struct Stage {
    plan: Plan,
    dice: Rng,
    world: World,
    /// `None`: it is done.
    shards: Vec<Option<Shard<SimRing>>>,
    /// How long the shards sleep; `None`: they do not yet.
    sleeps: Vec<Option<Wait>>,
    readers: Vec<Reader<Labels>>,
    control: Control,
    clients: Vec<Client>,
    truth: Truth,
    memory: Vec<Position>,
}

/// What a run has seen, to show that it has seen something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sights {
    clients: u64,
    deliveries: u64,
    recovered: u64,
    lost: u64,
    /// Requests and publications that found a lane full.
    lanes_full: u64,
    short_sends: u64,
    /// Values whose places newer ones took.
    conflated: u64,
    /// Messages inflated, and compressed ones queued.
    inflated: u64,
    compressed: u64,
    /// Ends by cause.
    ends: BTreeMap<&'static str, u64>,
}

/// Causes that many seeds together must come upon.
const CAUSES: [&str; 25] = [
    "head_timeout",
    "refused",
    "client_close",
    "client_gone",
    "reset",
    "drain",
    "slow_full",
    "slow_behind",
    "slow_stalled",
    "ping_timeout",
    "idle",
    "message_timeout",
    "connect_timeout",
    "publish_denied",
    "disconnected",
    "bad_command",
    "unmasked_client_frame",
    "reserved_bit_set",
    "unexpected_continuation",
    "unknown_opcode",
    "invalid_utf8",
    "bad_deflate",
    "unsupported_data",
    "too_big",
    "control_flood",
];

impl Sights {
    pub(crate) fn add(&mut self, other: &Self) {
        self.clients += other.clients;
        self.deliveries += other.deliveries;
        self.recovered += other.recovered;
        self.lost += other.lost;
        self.lanes_full += other.lanes_full;
        self.short_sends += other.short_sends;
        self.conflated += other.conflated;
        self.inflated += other.inflated;
        self.compressed += other.compressed;
        for (cause, count) in &other.ends {
            *self.ends.entry(cause).or_default() += count;
        }
    }

    /// A simulation in which nothing happens finds nothing.
    pub(crate) fn assert_not_dull(&self, seeds: u64) {
        assert!(self.clients >= seeds && self.deliveries >= 10 * seeds, "{self:?}");
        if seeds >= 256 {
            let counts =
                [self.recovered, self.lost, self.lanes_full, self.short_sends, self.conflated];
            assert!(self.inflated > seeds && self.compressed > seeds, "{self:?}");
            assert!(counts.iter().all(|&count| count > 5), "{self:?}");
            assert!(CAUSES.iter().all(|cause| self.ends.contains_key(cause)), "{self:?}");
        }
    }
}

impl Stage {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed);
        let plan = Plan::new(&mut dice);
        note!("seed {seed}: {} shards, {:?}, {:?}", plan.shards, plan.lanes, plan.finish);
        let world = World::new(dice.u64(..), plan.faults);
        let mut posts = post::connect(plan.shards + 1, plan.lanes);
        let post = posts.pop().expect("one for each thread");
        let control = Control::new(post, world.clone(), plan.shards);
        let mut readers = Vec::new();
        let mut shards = Vec::new();
        let board = Arc::new(Board::new(plan.shard.clone()));
        for post in posts {
            let (writer, reader) = metrics::shard::<Labels>();
            readers.push(reader);
            let ring = world.attach(1);
            let random = Rng::with_seed(dice.u64(..));
            shards.push(Some(Shard::new(ring, 1, post, writer, Arc::clone(&board), random)));
        }
        Self {
            plan,
            dice,
            world,
            sleeps: vec![None; shards.len()],
            shards,
            readers,
            control,
            clients: Vec::new(),
            truth: Truth::default(),
            memory: Vec::new(),
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) {
        for topic in 0..TOPICS.len() - 1 {
            if self.plan.has_topics_for_all() && self.dice.bool() {
                self.control.witness(topic);
            }
        }
        self.quiesce();
        for _ in 0..self.plan.steps {
            self.step();
        }
        match self.plan.finish {
            Finish::Leave => {
                self.settle();
                self.probe();
                self.leave();
            }
            Finish::Drain { window_ms } => {
                self.control.tell_all(&Request::Drain { window_ms });
                (0..self.plan.steps / 4).for_each(|_| self.step());
            }
            Finish::Stop => self.control.tell_all(&Request::Stop),
        }
        self.rest();
        self.compare();
    }

    pub(crate) fn sights(&self) -> Sights {
        let count = |of: Counter| self.readers.iter().map(|reader| reader.counter(of)).sum();
        let mut ends = BTreeMap::new();
        for (labels, count) in self.readers.iter().flat_map(Reader::closed) {
            *ends.entry(labels[2]).or_default() += count;
        }
        for (cause, count) in self.readers.iter().flat_map(Reader::handshakes_ended) {
            *ends.entry(cause).or_default() += count;
        }
        Sights {
            clients: self.clients.len() as u64,
            deliveries: self.truth.delivered,
            recovered: self.truth.recovered,
            lost: self.truth.lost,
            lanes_full: count(Counter::LanesFull),
            short_sends: count(Counter::SendsShort),
            conflated: count(Counter::Conflated),
            inflated: count(Counter::DeflateMessagesReceived),
            compressed: count(Counter::DeflateMessagesSent),
            ends,
        }
    }

    fn step(&mut self) {
        match self.dice.u8(..100) {
            0..=49 => {
                let node = self.dice.usize(..self.plan.shards);
                if self.dice.u8(..16) == 0 {
                    self.turn(node);
                } else {
                    self.turn_if_awake(node);
                }
            }
            50..=84 => self.with_client(|client, cx| {
                client.act(cx);
                client.pump(cx);
            }),
            85..=89 => _ = self.control.pump(&mut self.truth),
            90..=92 => self.connect(),
            93 => self.operate(),
            94 if self.plan.leaps && self.dice.u8(..8) == 0 => {
                let most = if self.dice.u8(..6) == 0 { 12_000 } else { 3000 };
                let time = Duration::from_millis(self.dice.u64(..most));
                self.advance(time);
                (0..3).for_each(|_| _ = self.round());
            }
            _ => {
                let time = Duration::from_micros(self.dice.u64(..20_000));
                self.advance(time);
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        note!("{time:?} pass");
        self.world.advance(time);
    }

    fn operate(&mut self) {
        match self.dice.u8(..10) {
            8 => {
                let bytes = self.dice.usize(1..100_000);
                self.control.tell_all(&Request::Shed { bytes });
            }
            9 => {
                let levels = [
                    Shortage::None,
                    Shortage::None,
                    Shortage::Mild,
                    Shortage::Tight,
                    Shortage::Critical,
                ];
                let shortage = levels[self.dice.usize(..levels.len())];
                self.control.tell_all(&Request::Memory(shortage));
            }
            0 => {
                let ids: Vec<&str> = self.clients.iter().filter_map(Client::client_id).collect();
                if let Some(id) = ids.last() {
                    let id = id.to_string();
                    self.control.disconnect(&id);
                }
            }
            1 => self.control.take_census(),
            2 => self.control.renew(),
            _ => {
                let topic = self.dice.usize(..TOPICS.len() - 1);
                self.control.publish(topic, &mut self.truth);
            }
        }
    }

    fn connect(&mut self) {
        let open = self.clients.iter().filter(|client| !client.ending.is_over()).count();
        if open >= self.plan.clients_max {
            return;
        }
        let node = self.dice.usize(..self.plan.shards);
        if self.shards[node].is_none() {
            return;
        }
        let socket = self.world.connect(node, 0);
        let uid = self.clients.len();
        let mut cx = Context {
            truth: &mut self.truth,
            dice: &mut self.dice,
            plan: &self.plan,
            memory: &mut self.memory,
        };
        let client = Client::new(uid, node, socket, &mut cx);
        self.clients.push(client);
    }

    /// Lets some client that is not over do something.
    fn with_client(&mut self, act: impl FnOnce(&mut Client, &mut Context<'_>)) {
        let open: Vec<usize> =
            (0..self.clients.len()).filter(|&uid| !self.clients[uid].ending.is_over()).collect();
        if open.is_empty() {
            return;
        }
        let uid = open[self.dice.usize(..open.len())];
        let mut cx = Context {
            truth: &mut self.truth,
            dice: &mut self.dice,
            plan: &self.plan,
            memory: &mut self.memory,
        };
        act(&mut self.clients[uid], &mut cx);
    }

    fn each_client(&mut self, mut act: impl FnMut(&mut Client, &mut Context<'_>)) {
        for client in &mut self.clients {
            let mut cx = Context {
                truth: &mut self.truth,
                dice: &mut self.dice,
                plan: &self.plan,
                memory: &mut self.memory,
            };
            act(client, &mut cx);
        }
    }

    fn turn(&mut self, node: usize) {
        let Some(shard) = &mut self.shards[node] else { return };
        let running = shard.turn().expect("the simulated ring never fails");
        let sends = self.check(node);
        let Some(shard) = &mut self.shards[node] else { return };
        self.sleeps[node] = (sends == 0).then(|| shard.plan_wait());
        if running == Running::Done {
            note!("shard {node} is done");
            self.shards[node] = None;
        }
    }

    /// Whether a shard's thread would run now: it does not sleep, or its ring has something for it.
    fn is_awake(&self, node: usize) -> bool {
        let Some(shard) = &self.shards[node] else { return false };
        let sleeps = match self.sleeps[node] {
            None | Some(Wait::No) => false,
            Some(Wait::Until(deadline)) => self.world.now() < deadline,
            Some(Wait::Forever) => true,
        };
        !sleeps || !shard.ring().is_idle()
    }

    /// A turn of a shard that would run; now and then of one that is woken by nobody.
    fn turn_if_awake(&mut self, node: usize) -> bool {
        let awake = self.is_awake(node);
        if awake {
            self.turn(node);
        }
        awake
    }

    /// The invariants that hold between any two turns.
    ///
    /// Returns how many sends go out with the next turn.
    fn check(&self, node: usize) -> usize {
        let Some(shard) = &self.shards[node] else { return 0 };
        let reader = &self.readers[node];
        let audit = shard.audit();
        assert!(audit.faults.is_empty(), "shard {node}: {:?}", audit.faults);
        let closed: u64 = reader.closed().map(|(_, count)| count).sum();
        assert_eq!(reader.opened(), closed + reader.connections(), "a close was not counted once");
        let open = audit.connections - audit.handshaking;
        assert_eq!(reader.connections(), open as u64, "connections and slots");
        assert_eq!(reader.counter(Counter::Panics), 0, "a panic in a connection");
        assert_eq!(reader.counter(Counter::StaleCompletions), 0);
        assert!(audit.homes <= self.plan.shard.topics_max, "too many topics");
        assert_eq!(reader.gauge(Gauge::OutboxBytes), audit.outbox_bytes as u64);
        audit.sends
    }

    /// Everybody once; `false` when nothing moved between clients, threads and shards.
    fn round(&mut self) -> bool {
        let mut moved = false;
        for node in 0..self.plan.shards {
            moved |= self.turn_if_awake(node);
        }
        moved |= self.control.pump(&mut self.truth);
        self.each_client(|client, cx| moved |= client.pump(cx));
        moved
    }

    /// Goes on, without time, until nothing moves.
    fn quiesce(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("no rest after {ROUNDS_MAX} rounds");
    }

    /// A kind kernel, clients that only read and answer, and as much time as handshakes, closing and
    /// pauses may take.
    fn settle(&mut self) {
        note!("settling");
        self.control.tell_all(&Request::Memory(Shortage::None));
        let sizes = self.plan.faults;
        self.world.set_faults(Faults {
            socket_bytes: sizes.socket_bytes,
            buffers: sizes.buffers,
            buffer_bytes: sizes.buffer_bytes,
            ..Faults::none()
        });
        self.each_client(|client, _| client.rouse());
        for _ in 0..150 {
            self.quiesce();
            self.world.advance(Duration::from_millis(100));
        }
        self.quiesce();
    }

    /// One more publication for each topic; it reaches every subscriber, and nothing is open.
    fn probe(&mut self) {
        note!("probing");
        self.assert_newest_known();
        let probes: Vec<usize> = (0..TOPICS.len() - 1)
            .map(|topic| self.control.publish(topic, &mut self.truth))
            .collect();
        self.quiesce();
        self.control.take_census();
        self.quiesce();
        assert!(self.control.is_settled(), "a call of the API was not answered");
        let mut subscribers: BTreeMap<usize, u64> = BTreeMap::new();
        for topic in self.control.witnessed() {
            *subscribers.entry(*topic).or_default() += 1;
        }
        for client in self.clients.iter().filter(|client| !client.ending.has_begun()) {
            client.assert_settled();
            for (topic, &probe) in probes.iter().enumerate() {
                let heard = client.hears(probe).into_iter().find(|(of, _)| *of == topic);
                if let Some((_, heard)) = heard {
                    assert!(heard, "client {} lost {probe} of {}", client.uid, TOPICS[topic]);
                    *subscribers.entry(topic).or_default() += 1;
                }
            }
        }
        for (topic, name) in TOPICS.iter().enumerate() {
            let counted = self.control.census.get(*name).copied().unwrap_or(0);
            let found = subscribers.get(&topic).copied().unwrap_or(0);
            assert_eq!(counted, found, "subscribers of {name}: {counted} counted, {found} found");
        }
    }

    /// Whatever slow clients were spared, the newest publication of a topic has come to all that have
    /// heard any.
    fn assert_newest_known(&self) {
        for client in self.clients.iter().filter(|client| client.is_open()) {
            for (topic, id) in client.newest() {
                let Some(witness) = self.truth.witnesses.get(&topic) else { continue };
                let (uid, name) = (client.uid, TOPICS[topic]);
                assert_eq!(witness.order.last(), Some(&id), "client {uid}: the newest of {name}");
            }
        }
    }

    /// Everybody goes in peace or in a hurry: that takes no time, and nobody has to be woken by it.
    fn leave(&mut self) {
        note!("leaving");
        self.each_client(|client, cx| client.go(cx));
        self.quiesce();
        for (node, shard) in self.shards.iter().flatten().enumerate() {
            let audit = shard.audit();
            let left = [audit.connections, audit.joined, audit.pending, audit.outgoing];
            assert_eq!(left, [0; 4], "shard {node}, when all have left: {audit:?}");
            assert_eq!(audit.private_bytes, 0, "shard {node}, when all have left: {audit:?}");
        }
    }

    /// Lets all deadlines pass; then nothing may be left of anybody.
    fn rest(&mut self) {
        note!("resting");
        let gentle = Faults { socket_bytes: self.plan.faults.socket_bytes, ..Faults::none() };
        self.world.set_faults(gentle);
        self.each_client(|client, _| client.rouse());
        for _ in 0..40 {
            self.quiesce();
            self.world.advance(Duration::from_secs(1));
        }
        self.control.release();
        for _ in 0..140 {
            self.quiesce();
            self.world.advance(Duration::from_secs(1));
        }
        for node in 0..self.plan.shards {
            self.check_rest(node);
        }
        assert_eq!(self.world.open_sockets(), 0, "a descriptor was leaked");
        for (shard, reader) in self.shards.iter().flatten().zip(&self.readers) {
            let audit = shard.audit();
            assert_eq!((audit.private_bytes, audit.frames_bytes), (0, 0), "{audit:?}");
            assert_eq!(reader.memory(Ledger::Private) + reader.memory(Ledger::Frames), 0);
        }
        let seats = self.plan.shard.listener_seats.iter();
        let seats = seats.chain([&self.plan.shard.seats]);
        assert!(seats.map(|seats| seats.taken()).all(|taken| taken == 0), "a seat is left taken");
        let crowd = self.plan.shard.conn.addresses.crowd.as_ref();
        assert_eq!(crowd.map_or(0, |crowd| crowd.taken()), 0, "an address is left counted");
        let drains = self.plan.finish != Finish::Leave;
        assert!(drains || self.control.is_settled(), "a call of the API was not answered");
    }

    fn check_rest(&self, node: usize) {
        let reader = &self.readers[node];
        assert_eq!(reader.connections(), 0, "shard {node}: connections are left");
        let closed: u64 = reader.closed().map(|(_, count)| count).sum();
        assert_eq!(closed, reader.opened(), "shard {node}: each opened one is closed once");
        let unopened: u64 = reader.handshakes_ended().map(|(_, count)| count).sum();
        let accepted = reader.counter(Counter::Accepted);
        assert_eq!(accepted, reader.opened() + unopened, "shard {node}: each has its cause");
        assert_eq!(reader.gauge(Gauge::OutboxBytes), 0);
        assert_eq!(reader.gauge(Gauge::Backlogs), 0);
        let drains = self.plan.finish != Finish::Leave;
        assert_eq!(self.shards[node].is_none(), drains, "shard {node} did not end when told to");
        let Some(shard) = &self.shards[node] else { return };
        let audit = shard.audit();
        let left = [audit.connections, audit.joined, audit.pending, audit.topics, audit.outgoing];
        assert_eq!(left, [0; 5], "shard {node} at rest: {audit:?}");
        assert_eq!(audit.estates, 0, "shard {node} at rest: {audit:?}");
        let ended: u64 = audit.books.iter().map(|book| book.ended).sum();
        assert_eq!((ended, audit.books[2].ended), (accepted, unopened), "shard {node}: {audit:?}");
        for book in audit.books {
            let most = (self.plan.shard.closes_kept as u64).min(book.recorded);
            assert!(book.recorded <= book.ended && book.held == most, "shard {node}: {audit:?}");
        }
        if !self.plan.ample_history {
            assert_eq!(audit.homes, 0, "shard {node}: topics are left");
            assert_eq!(reader.gauge(Gauge::HistoryBytes), 0);
            assert_eq!(reader.gauge(Gauge::HistoryPublications), 0);
        }
    }

    /// Compares what the gateway has counted with what the clients know.
    fn compare(&mut self) {
        self.each_client(|client, cx| client.forget(cx));
        self.truth.compare();
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for (labels, count) in self.readers.iter().flat_map(Reader::closed) {
            let [_, initiator, cause, _] = labels[..] else { panic!("four labels") };
            let is_right = match cause {
                "client_close" => initiator == "client",
                "client_gone" | "reset" | "broken_pipe" => initiator == "transport",
                _ => initiator == "server",
            };
            assert!(is_right, "{cause} by {initiator}");
            *counted.entry(told(cause)).or_default() += count;
        }
        let mut known: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut upgraded, mut unknown, mut maybe) = (0, 0, 0);
        for client in &self.clients {
            match client.ending.known() {
                Known::NotUpgraded => {}
                Known::Nothing => maybe += 1,
                Known::Upgraded => unknown += 1,
                Known::Cause(cause) => *known.entry(cause).or_default() += 1,
            }
            upgraded += u64::from(client.ending.upgraded);
        }
        let opened: u64 = self.readers.iter().map(Reader::opened).sum();
        assert!((upgraded..=upgraded + maybe).contains(&opened), "{opened} opened, {upgraded} saw");
        let causes: Vec<&str> = known.keys().chain(counted.keys()).copied().collect();
        for cause in causes {
            let (known, counted) =
                (known.get(cause).copied().unwrap_or(0), counted.get(cause).copied().unwrap_or(0));
            let possible = known..=known + unknown + maybe;
            assert!(possible.contains(&counted), "{counted} ended by {cause}, {known} know it");
        }
        let slow: u64 = self.readers.iter().map(|of| of.counter(Counter::OutboxOverflows)).sum();
        assert_eq!(slow, counted.get("slow").copied().unwrap_or(0), "slow clients");
    }
}
