//! One thread: a poll, its connections, and the driver that says what they do.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::histogram::Histogram;
use crate::language::Language;
use crate::link::{End, Event, Link, Server};
use crate::options::Protocol;
use crate::report::Faults;
use crate::sequence::Arrivals;
use crate::shared::{Shared, Stage};

/// The token of the waker; connections have their slot's index.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// Longest sleep: stages and counters are looked at this often.
const NAP: Duration = Duration::from_millis(20);
/// A connection that is not up by then has failed, and a closing one is given up.
const SETUP_NANOS_MAX: u64 = 10_000_000_000;
/// Bytes read at once.
const READ_BYTES: usize = 128 * 1024;

/// What a mode does with the connections of one worker.
pub(crate) trait Driver {
    /// Path and topic of connection `index`, counted over all workers.
    fn place(&self, index: u64) -> Place;
    /// A connection is up.
    fn opened(&mut self, slot: usize, index: u64, link: &mut Link, turn: &Turn<'_>);
    /// A delivery came.
    fn payload(&mut self, slot: usize, payload: &[u8], link: &mut Link, turn: &Turn<'_>);
    /// A connection ended; `true`: another one takes its place.
    fn ended(&mut self, slot: usize, end: End, link: &Link, turn: &Turn<'_>) -> bool;
    /// How much the kernel holds for a connection that does not read; `None`: what it likes.
    fn room(&self) -> Option<usize> {
        None
    }
    /// Whether open connections are read.
    fn reads(&self) -> bool {
        true
    }
    /// The code with which the server is to close every connection, if it is.
    fn expected_close(&self) -> Option<u16> {
        None
    }
    /// Once per turn, after all events: sends what is due. Returns how long to sleep at most.
    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration>;
    /// What it found.
    fn finish(self: Box<Self>) -> Findings;
}

/// Where a connection goes.
#[derive(Debug)]
pub(crate) struct Place {
    /// Request path.
    pub(crate) path: String,
    /// The topic it joins and publishes to.
    pub(crate) topic: String,
    /// Topics that it joins as well.
    pub(crate) also: Vec<String>,
}

/// One round of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'a> {
    /// Stage at the beginning of the round.
    pub(crate) stage: Stage,
    /// Counters of the run.
    pub(crate) shared: &'a Shared,
}

impl Turn<'_> {
    /// Load is wanted.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Warmup | Stage::Measuring)
    }
}

/// What one worker found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Latencies of the measured time.
    pub(crate) latency: Histogram,
    /// From connect to usable.
    pub(crate) handshake: Histogram,
    /// What was wrong.
    pub(crate) faults: Faults,
    /// Numbers seen, for each publisher (echo and churn: one entry).
    pub(crate) arrivals: Vec<Arrivals>,
    /// Messages sent, for each publisher.
    pub(crate) sent: Vec<u64>,
}

impl Findings {
    /// Nothing found, for `publishers` of them.
    pub(crate) fn none(publishers: usize) -> Self {
        Self {
            latency: Histogram::new(),
            handshake: Histogram::new(),
            faults: Faults::default(),
            arrivals: vec![Arrivals::default(); publishers],
            sent: vec![0; publishers],
        }
    }
}

/// The connections of a worker by slot; those touched are flushed at the end of the turn.
#[derive(Debug, Default)]
pub(crate) struct Links {
    slots: Vec<Option<(u64, Link)>>,
    dirty: Vec<usize>,
}

impl Links {
    fn is_open(&self, slot: usize) -> bool {
        let link = self.slots.get(slot).and_then(Option::as_ref);
        link.is_some_and(|(_, link)| link.is_open())
    }

    /// The connection in a slot, to be flushed.
    pub(crate) fn touch(&mut self, slot: usize) -> Option<&mut Link> {
        let (_, link) = self.slots.get_mut(slot)?.as_mut()?;
        self.dirty.push(slot);
        Some(link)
    }
}

/// What a worker is started with.
pub(crate) struct Worker {
    /// Its poll, with the waker registered.
    pub(crate) poll: Poll,
    /// What it does.
    pub(crate) driver: Box<dyn Driver + Send>,
    /// Counters of the run.
    pub(crate) shared: Arc<Shared>,
    /// The server.
    pub(crate) server: Server,
    /// Its language.
    pub(crate) protocol: Protocol,
    /// Connections that are set up at the same time.
    pub(crate) burst: usize,
    /// Indices of the connections to open.
    pub(crate) indices: VecDeque<u64>,
}

impl Worker {
    /// Works until [`Stage::Closing`] is over.
    pub(crate) fn run(self) -> io::Result<Findings> {
        let mut rounds = Rounds {
            links: Links::default(),
            free: Vec::new(),
            setting_up: VecDeque::new(),
            pending: 0,
            live: 0,
            handshake: Histogram::new(),
            faults: Faults::default(),
            worker: self,
        };
        rounds.run()?;
        let mut findings = rounds.worker.driver.finish();
        findings.handshake.merge(&rounds.handshake);
        findings.faults.add(&rounds.faults);
        Ok(findings)
    }
}

struct Rounds {
    worker: Worker,
    links: Links,
    free: Vec<usize>,
    /// Slots in the order in which they were begun, with that time.
    setting_up: VecDeque<(usize, u64)>,
    /// Connections that are not up yet.
    pending: usize,
    /// Connections that have a slot.
    live: usize,
    handshake: Histogram,
    faults: Faults,
}

impl Rounds {
    fn run(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.worker.shared);
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let (mut nap, mut before, mut closing_since) = (NAP, Stage::Opening, None);
        loop {
            match self.worker.poll.poll(&mut events, Some(nap)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let turn = Turn { stage: shared.stage(), shared: &shared };
            for event in events.iter().filter(|event| event.token() != WAKER) {
                let slot = event.token().0;
                let is_read = self.worker.driver.reads() || !self.links.is_open(slot);
                if is_read {
                    self.receive(slot, &mut buffer, &turn);
                } else if event.is_error() || event.is_read_closed() {
                    self.abandoned(slot, &turn);
                }
            }
            if turn.stage >= Stage::Draining && before < Stage::Draining {
                shared.draining_workers.fetch_add(1, Ordering::AcqRel);
            }
            if turn.stage == Stage::Closing {
                let since = *closing_since.get_or_insert_with(|| shared.clock.nanos());
                if before < Stage::Closing {
                    self.close_all();
                }
                if self.live == 0 || shared.clock.nanos() - since > SETUP_NANOS_MAX / 5 {
                    return Ok(());
                }
            } else {
                if turn.stage < Stage::Draining {
                    self.open(&turn);
                }
                self.give_up(&turn);
            }
            before = turn.stage;
            let wish = self.worker.driver.act(&mut self.links, &turn);
            nap = if self.worker.indices.is_empty() { NAP } else { NAP / 20 };
            // Timers of epoll are in milliseconds: below one, look again at once.
            nap = wish
                .map_or(nap, |wish| if wish < NAP / 20 { Duration::ZERO } else { wish.min(nap) });
            self.flush(&turn);
        }
    }

    fn receive(&mut self, slot: usize, buffer: &mut [u8], turn: &Turn<'_>) {
        let Some((index, mut link)) = self.links.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let mut broken = false;
        let alive = link.receive(buffer, |link, event| match event {
            Event::Opened => {
                self.pending -= 1;
                self.handshake.record(turn.shared.clock.nanos().saturating_sub(link.begun));
                turn.shared.opened.fetch_add(1, Ordering::Relaxed);
                self.worker.driver.opened(slot, index, link, turn);
            }
            Event::Payload(payload) => self.worker.driver.payload(slot, payload, link, turn),
            Event::Refused => self.faults.refused += 1,
            Event::Broken => {
                self.faults.wrong += 1;
                broken = true;
            }
        });
        let flushed = link.flush();
        if broken || flushed.is_err() || !matches!(alive, Ok(true)) {
            if let Some(error) = alive.err().or(flushed.err()) {
                self.explain(&link, &error);
            }
            self.end(slot, &link, turn);
        } else {
            self.links.slots[slot] = Some((index, link));
        }
    }

    /// Says why the first connection did not come up: of the others there is a count.
    fn explain(&self, link: &Link, error: &io::Error) {
        if link.end() == End::Failed && self.faults.failed == 0 {
            let line = format!("{}: {error}\n", self.worker.server.target);
            // A courtesy: a closed stderr does not end the run.
            _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// The server has ended a connection that is not read.
    fn abandoned(&mut self, slot: usize, turn: &Turn<'_>) {
        if let Some((_, mut link)) = self.links.slots.get_mut(slot).and_then(Option::take) {
            link.abandoned();
            self.end(slot, &link, turn);
        }
    }

    /// Takes note of the end of a connection that has left its slot.
    fn end(&mut self, slot: usize, link: &Link, turn: &Turn<'_>) {
        let end = link.end();
        self.free.push(slot);
        self.live -= 1;
        match end {
            End::Failed => {
                self.pending -= 1;
                if turn.stage < Stage::Closing {
                    self.fail(turn);
                }
            }
            End::Told(code) if self.worker.driver.expected_close() == Some(code) => {
                turn.shared.told.fetch_add(1, Ordering::Relaxed);
            }
            End::Abandoned => _ = turn.shared.told.fetch_add(1, Ordering::Relaxed),
            End::Lost | End::Told(_) if turn.stage < Stage::Closing => {
                self.faults.lost += 1;
                turn.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
            End::Lost | End::Told(_) | End::Clean | End::Unclean => {}
        }
        if self.worker.driver.ended(slot, end, link, turn) {
            let index = turn.shared.next_index.fetch_add(1, Ordering::Relaxed);
            self.worker.indices.push_back(index);
        }
    }

    fn fail(&mut self, turn: &Turn<'_>) {
        self.faults.failed += 1;
        turn.shared.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&mut self, turn: &Turn<'_>) {
        while self.pending < self.worker.burst
            && let Some(index) = self.worker.indices.pop_front()
        {
            let Place { path, topic, also } = self.worker.driver.place(index);
            let language = Language::new(self.worker.protocol, topic, also);
            let begun = turn.shared.clock.nanos();
            let room = self.worker.driver.room();
            let begun = Link::begin(&self.worker.server, index, &path, language, begun, room);
            let Ok(mut link) = begun else {
                self.fail(turn);
                continue;
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.links.slots.push(None);
                self.links.slots.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.worker.poll.registry();
            if registry.register(&mut link.transport.stream, Token(slot), interest).is_err() {
                self.free.push(slot);
                self.fail(turn);
                continue;
            }
            self.pending += 1;
            self.live += 1;
            self.setting_up.push_back((slot, link.begun));
            self.links.slots[slot] = Some((index, link));
        }
    }

    /// Ends connections that are not up in time.
    fn give_up(&mut self, turn: &Turn<'_>) {
        let now = turn.shared.clock.nanos();
        while let Some((slot, begun)) = self.setting_up.front().copied()
            && now - begun > SETUP_NANOS_MAX
        {
            self.setting_up.pop_front();
            let late = self.links.slots[slot]
                .take_if(|(_, link)| link.begun == begun && link.end() == End::Failed);
            if let Some((_, link)) = late {
                self.end(slot, &link, turn);
            }
        }
    }

    fn close_all(&mut self) {
        self.worker.indices.clear();
        for slot in 0..self.links.slots.len() {
            if let Some(link) = self.links.touch(slot) {
                link.close();
            }
        }
    }

    fn flush(&mut self, turn: &Turn<'_>) {
        while let Some(slot) = self.links.dirty.pop() {
            let ended = self.links.slots[slot].take_if(|(_, link)| link.flush().is_err());
            if let Some((_, link)) = ended {
                self.end(slot, &link, turn);
            }
        }
    }
}
