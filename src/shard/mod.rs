//! One thread: a ring, its connections, the topics at home here, and the lanes to the other threads.
//!
//! A turn submits and waits, settles the sends of the last flush, handles what completed, what is
//! due, what other threads have sent, and prepares the next flush. The walk over subscribers only
//! queues; the flush sends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::crowd::Seats;
use crate::auth::rate::Meter;
use crate::conn::connection::Leave;
use crate::conn::guest::Guest;
use crate::conn::{self, Codec, Tally};
use crate::dialect::scratch::Scratch;
use crate::dialect::{Action, Answer, Ticket};
use crate::mail::frames::Frames;
use crate::mail::message::{Asker, Request, Shortage};
use crate::mail::post::Post;
use crate::metrics::Writer;
use crate::metrics::catalogue::{Gauge, SizeHistogram, TimeHistogram};
use crate::ring::{Completion, Errno, Farewell, Fatal, Ring, Socket, Token, Wait};
use crate::topic::home::Homes;
use crate::topic::namespace::Broker;
use crate::topic::splice::Splices;
use crate::topic::subscribers::Topics;

mod actions;
mod admission;
pub mod audit;
pub mod board;
mod call;
mod closes;
mod deliver;
mod drain;
mod ending;
mod engines;
mod extras;
mod flush;
mod hub;
mod inbound;
pub mod labels;
mod memory;
mod numbers;
pub mod secure;
mod slots;
pub mod teller;
mod volley;
mod wheel;

use board::Board;
use closes::Registry;
use drain::Life;
use engines::Engine;
use flush::Flush;
use labels::Labels;
use memory::Weights;
use slots::Slots;
use volley::Volley;
use wheel::Wheel;

/// Settings of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many shards there are; the control thread comes after them.
    pub shards: usize,
    /// Connections of all shards; more are answered with 503.
    pub seats: Arc<Seats>,
    /// Connections of all shards by listener; without a limit of its own there are very many.
    pub listener_seats: Vec<Arc<Seats>>,
    /// Connections of this shard that wait to be told that there is no room; more are closed unheard.
    pub turned_away_max: usize,
    /// Connections of this shard that are not upgraded yet; more are answered with 503.
    pub handshakes_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Topics at home on this shard.
    pub topics_max: usize,
    /// Ended connections of each kind that are remembered.
    pub closes_kept: usize,
    /// Those that are told in the log.
    pub told: teller::Settings,
    /// Clients of this shard that may keep their context of compression.
    pub deflate_contexts_max: usize,
    /// Memory of the receive buffers of this shard.
    pub buffers_bytes: usize,
    /// Sets the epochs of this process apart from all others.
    pub epoch_nonce: String,
    /// The engines that give topics their order, with the threads of their links.
    pub links: Vec<(Broker, usize)>,
    /// Settings of TLS.
    pub tls: secure::Settings,
    /// Settings of connections.
    pub conn: Arc<conn::Settings>,
}

/// Whether a shard goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Call [`Shard::turn`] again.
    Yes,
    /// It has drained, or was told to stop: nothing is left.
    Done,
}

/// One thread's share of the gateway.
pub struct Shard<R: Ring> {
    ring: R,
    post: Post,
    settings: Arc<Settings>,
    board: Arc<Board>,
    numbers: Writer<Labels>,
    slots: Slots,
    /// Connections that are not upgraded yet.
    handshaking: usize,
    /// Connections whose TLS handshake is not complete.
    tls_handshaking: usize,
    /// How often handshakes begin.
    tls_pace: Meter,
    /// Steps of handshakes that this turn may still take.
    tls_steps: usize,
    /// Connections whose handshake waits for a later turn, oldest first.
    held: VecDeque<Token>,
    /// Those among them that wait to be told that there is no room.
    turned_away: usize,
    /// Accepted connections that wait for their turn.
    newcomers: VecDeque<(usize, Socket)>,
    wheel: Wheel,
    topics: Topics,
    homes: Homes,
    engines: Vec<Engine>,
    /// The frames that are made here.
    frames: Frames,
    weights: Weights,
    shortage: Shortage,
    closes: Registry,
    desk: Desk,
    flush: Flush,
    /// Memory for publications that are delivered together; empty between turns.
    volley: Volley,
    /// Slots with output, in the order in which they got it.
    dirty: Vec<u32>,
    /// Slots with received bytes to go on with.
    ready: Vec<u32>,
    /// Slots that wait for the flush before their socket is shut or closed.
    leaving: Vec<u32>,
    /// Slots whose receive waits for buffers, oldest first.
    starved: VecDeque<Token>,
    /// Answers that could be given at once, to be handed over after the call that asked.
    answers: VecDeque<(Token, Ticket, Answer)>,
    /// Requests that wait for room in their lane, by thread.
    outgoing: Vec<VecDeque<Request>>,
    /// Connections that are not read until `outgoing` has moved.
    stalled: Vec<Token>,
    /// The thread whose lanes come first in this turn.
    first_lane: usize,
    completions: Vec<Completion>,
    listeners: Vec<Listener>,
    life: Life,
    next_sweep: Instant,
    now: Instant,
}

/// What every call into a connection needs; see [`conn::Context`].
struct Desk {
    now: Instant,
    arena: Vec<u8>,
    /// What TLS has decrypted.
    plain: Vec<u8>,
    actions: Vec<Action>,
    tally: Tally,
    scratch: Scratch,
    codec: Codec,
    random: fastrand::Rng,
    settings: Arc<conn::Settings>,
}

/// How a listener does.
#[derive(Clone, Copy, Debug)]
struct Listener {
    accepting: Accepting,
    /// The next pause, should the kernel refuse.
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// Connections come.
    Armed,
    /// Stopped by the kernel; to be armed again at this time.
    Paused(Instant),
    /// Stopped by us until memory is less short; whether the kernel has ended it.
    Held { is_ended: bool },
    /// Stopped by us, for good.
    Closed,
}

/// First and longest pause of accepting when no descriptor is left.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Bytes that are written in one turn for deliveries, as many for input that was too much for an earlier
/// turn, and as many that the flush copies or seals. What is left then waits for the next turn. Whatever
/// goes out from its own memory does not count.
const WRITTEN_BYTES_MAX: usize = 1024 * 1024;

/// Bytes to which the messages of all connections are inflated in one turn, or one message more. Then
/// those who compress wait, in the order in which they came.
const INFLATED_BYTES_MAX: usize = 1024 * 1024;

/// Time between two looks at old history, and topics looked at.
const SWEEP: (Duration, usize) = (Duration::from_millis(100), 1024);

impl<R: Ring> Shard<R> {
    /// A shard on `ring`, with `listeners` listeners, which start to accept at once, and the settings
    /// on the board.
    pub fn new(
        mut ring: R,
        listeners: usize,
        post: Post,
        numbers: Writer<Labels>,
        board: Arc<Board>,
        random: fastrand::Rng,
    ) -> Self {
        let (now, settings) = (ring.now(), board.newest());
        (0..listeners).for_each(|listener| ring.accept(listener));
        let nonce = format!("{}{}", settings.epoch_nonce, post.node());
        Self {
            slots: Slots::default(),
            handshaking: 0,
            tls_handshaking: 0,
            tls_pace: Meter::new(now),
            tls_steps: 0,
            held: VecDeque::new(),
            turned_away: 0,
            frames: Frames::default(),
            weights: Weights::default(),
            shortage: Shortage::None,
            newcomers: VecDeque::new(),
            wheel: Wheel::new(now),
            topics: Topics::default(),
            homes: Homes::new(nonce, settings.topics_max),
            engines: settings.links.iter().copied().map(Engine::new).collect(),
            closes: Registry::new(settings.closes_kept, now),
            desk: Desk {
                now,
                arena: Vec::new(),
                plain: Vec::new(),
                actions: Vec::new(),
                tally: Tally::default(),
                scratch: Scratch::default(),
                codec: Codec::new(settings.conn.deflate, settings.deflate_contexts_max),
                random,
                settings: Arc::clone(&settings.conn),
            },
            flush: Flush::default(),
            volley: Volley::default(),
            dirty: Vec::new(),
            ready: Vec::new(),
            leaving: Vec::new(),
            starved: VecDeque::new(),
            answers: VecDeque::new(),
            outgoing: (0..post.nodes()).map(|_| VecDeque::new()).collect(),
            stalled: Vec::new(),
            first_lane: 0,
            completions: Vec::new(),
            listeners: vec![
                Listener { accepting: Accepting::Armed, pause: ACCEPT_PAUSES.0 };
                listeners
            ],
            life: Life::Running,
            next_sweep: now + SWEEP.0,
            now,
            ring,
            post,
            settings,
            board,
            numbers,
        }
    }

    /// Sends, waits, and handles what has come.
    ///
    /// Errors: [`Fatal`], when the ring cannot go on.
    pub fn turn(&mut self) -> Result<Running, Fatal> {
        let wait = self.plan_wait();
        let worked = self.ring.measure();
        self.numbers.observe_time(TimeHistogram::Turn, worked.duration_since(self.now));
        let sends = self.flush.sends(&self.desk.arena);
        self.ring.turn(&sends, wait, &mut self.completions)?;
        self.post.wake_up();
        self.now = self.ring.now();
        self.desk.now = self.now;

        self.numbers.observe_size(SizeHistogram::TurnCompletions, to_u64(self.completions.len()));
        self.first_lane = (self.first_lane + 1) % self.post.nodes();

        self.settle_flush();
        self.desk.codec.begin_turn(INFLATED_BYTES_MAX);
        self.resume_ready();
        self.resume_handshakes();
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.handle(completion);
        }
        self.completions = completions;
        self.admit_newcomers();
        self.feed_starved();
        self.handle_timeouts();
        self.handle_requests();
        self.handle_deliveries();
        self.move_outgoing();
        self.drain();
        self.depart();
        self.prepare_flush();
        self.weigh_flushed();
        let ring = &mut self.ring;
        self.post.wakes(|node| ring.wake(node));
        assert_eq!(self.ring.leases_out(), 0, "a lease outlived its turn");
        self.publish_numbers();
        Ok(if self.is_done() { Running::Done } else { Running::Yes })
    }

    /// The ring, for whoever drives a simulated one.
    pub fn ring(&self) -> &R {
        &self.ring
    }

    /// How long the ring may sleep: not at all while there is work. From now on the other threads
    /// send wakes.
    pub fn plan_wait(&mut self) -> Wait {
        if self.has_work() {
            return Wait::No;
        }
        self.post.fall_asleep();
        let can_move = self.can_move_outgoing() || self.can_move_effects();
        if self.post.has_deliveries() || self.can_serve_any() || can_move {
            return Wait::No;
        }
        let retries = self.listeners.iter().filter_map(|listener| match listener.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::Armed | Accepting::Held { .. } | Accepting::Closed => None,
        });
        let sweep = (!self.homes.is_empty() || self.awaits_departures()).then_some(self.next_sweep);
        let untold = self.closes.teller.deadline();
        let deadlines = [self.wheel.deadline(), sweep, self.life.deadline(self.now), untold];
        let soonest = deadlines.into_iter().flatten().chain(retries).min();
        soonest.map_or(Wait::Forever, Wait::Until)
    }

    fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.ready.is_empty()
            || !self.leaving.is_empty()
            || !self.starved.is_empty()
            || !self.answers.is_empty()
            || !self.held.is_empty()
            || !self.newcomers.is_empty()
    }

    fn handle_timeouts(&mut self) {
        let lag = self.wheel.deadline().map(|deadline| self.now.checked_duration_since(deadline));
        if let Some(Some(lag)) = lag {
            self.numbers.observe_time(TimeHistogram::LoopLag, lag);
        }
        let mut due = Vec::new();
        self.wheel.expire(self.now, &mut due);
        for entry in due {
            let Some(slot) = self.slots.at_mut(entry.slot) else { continue };
            if slot.scheduled != entry.tick {
                continue;
            }
            slot.scheduled = 0;
            self.time_out_handshake(entry.slot);
            let Some(slot) = self.slots.at_mut(entry.slot) else { continue };
            match slot.slowness(self.now) {
                Some(cause) => self.give_up_slow(entry.slot, cause),
                None => self.call(entry.slot, |conn, cx| conn.handle_timeout(cx)),
            }
        }
        self.retry_accept();
        self.closes.teller.settle(self.now);
        if self.now >= self.next_sweep {
            self.next_sweep = self.now + SWEEP.0;
            let namespaces = &self.settings.conn.namespaces;
            self.homes.sweep(|name| namespaces.of(name), SWEEP.1, self.now);
            self.sweep_engines();
        }
    }

    /// A descriptor is free again: a pause that waits for one is over.
    fn hurry_accept(&mut self) {
        for listener in &mut self.listeners {
            if let Accepting::Paused(until) = &mut listener.accepting {
                *until = self.now;
            }
        }
    }

    /// Arms accepting again where a pause is over.
    fn retry_accept(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if matches!(listener.accepting, Accepting::Paused(until) if until <= self.now) {
                listener.accepting = Accepting::Armed;
                self.ring.accept(index);
            }
        }
    }

    fn publish_numbers(&mut self) {
        self.numbers.set(Gauge::TlsHandshaking, to_u64(self.tls_handshaking));
        let on_their_way = self.handshaking + self.newcomers.len();
        self.numbers.set(Gauge::ConnectionsHandshaking, to_u64(on_their_way));
        self.numbers.set(Gauge::Subscriptions, to_u64(self.topics.subscribers()));
        let engines = self.engines.iter().map(|engine| &engine.splices);
        let sum = |of: fn(&Splices<Asker>) -> usize| engines.clone().map(of).sum::<usize>();
        let topics = self.homes.len() + sum(Splices::len);
        let history_bytes = self.homes.history_bytes() + sum(Splices::kept_bytes);
        let history_len = self.homes.history_len() + sum(Splices::kept_len);
        self.numbers.set(Gauge::Topics, to_u64(topics));
        self.numbers.set(Gauge::HistoryBytes, to_u64(history_bytes));
        self.numbers.set(Gauge::HistoryPublications, to_u64(history_len));
        self.publish_memory(history_bytes);
        self.publish_deflate_stats();
        self.publish_ring_stats();
    }
}

impl Desk {
    fn context<'a>(
        &'a mut self,
        guest: Option<&'a mut Guest>,
        is_backlogged: bool,
    ) -> conn::Context<'a> {
        conn::Context {
            now: self.now,
            frames: &mut self.arena,
            actions: &mut self.actions,
            tally: &mut self.tally,
            scratch: &mut self.scratch,
            codec: &mut self.codec,
            settings: &self.settings,
            random: &mut self.random,
            guest,
            is_backlogged,
        }
    }
}

fn farewell(leave: Leave) -> Farewell {
    match leave {
        Leave::Fin => Farewell::Fin,
        Leave::Reset => Farewell::Reset,
    }
}

/// EMFILE and ENFILE: no descriptor is left in the process or in the system.
fn is_out_of_descriptors(errno: Errno) -> bool {
    matches!(errno.0, 23 | 24)
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
