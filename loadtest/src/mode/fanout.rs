//! Fan-out: publications reach every connection of their topic, publishers included.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::link::{End, Link};
use crate::options::{Common, Mode};
use crate::sequence::{Checker, Stamp};
use crate::shared::{Shared, Stage, Topic};
use crate::worker::{Driver, Findings, Links, Place, Turn};

/// A publisher with more than this unsent waits; what was due meanwhile is sent late, not left out.
const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// A closed loop that hears nothing for this long gives up what is under way.
const STALL_NANOS: u64 = 1_000_000_000;
/// Publications of one publisher in one turn, so that received data is looked at in between.
const BURST: u32 = 64;

/// The shape of a fan-out: the same for every worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Subscribers over all topics.
    pub(crate) subscribers: u32,
    /// How many topics.
    pub(crate) topics: u32,
    /// How many publishers.
    pub(crate) publishers: u16,
    /// Whom publications reach.
    pub(crate) listening: Listening,
    /// Nanoseconds between the publications that reach all connections, if there are any: the
    /// publisher behind the others sends them to the topic behind the others.
    pub(crate) to_all: Option<u64>,
    /// What sets the pace.
    pub(crate) pace: Pace,
    /// Payload bytes.
    pub(crate) size: usize,
    /// Tells runs apart.
    pub(crate) run: u32,
}

/// Whom publications reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// All connections of their topic, publishers too.
    Everybody,
    /// Subscribers; publishers connect elsewhere and hear nothing.
    Subscribers,
}

/// What sets the pace of publishers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Nanoseconds between the publications of one publisher.
    Interval(u64),
    /// Publications under way per topic.
    Window(u32),
}

impl Shape {
    /// The topic of connection `index`: publishers first, then subscribers, each dealt in turn.
    fn topic(&self, index: u64) -> u32 {
        if self.is_to_all(index) {
            return self.topics;
        }
        let place = index.checked_sub(u64::from(self.all_publishers())).unwrap_or(index);
        u32::try_from(place % u64::from(self.topics)).unwrap_or(0)
    }

    /// Whether connection `index` publishes to all.
    fn is_to_all(&self, index: u64) -> bool {
        self.to_all.is_some() && index == u64::from(self.publishers)
    }

    /// Publishers, with the one that publishes to all.
    fn all_publishers(&self) -> u16 {
        self.publishers + u16::from(self.to_all.is_some())
    }

    /// Connections of each topic.
    pub(crate) fn receivers(&self) -> Vec<Topic> {
        let dealt = |all: u32, topic: u32| all / self.topics + u32::from(topic < all % self.topics);
        let publishers = match self.listening {
            Listening::Everybody => u32::from(self.publishers),
            Listening::Subscribers => 0,
        };
        let receivers = |topic| dealt(self.subscribers, topic) + dealt(publishers, topic);
        let all = self.subscribers + u32::from(self.all_publishers());
        let to_all = self.to_all.map(|_| Topic::new(all));
        (0..self.topics).map(|topic| Topic::new(receivers(topic))).chain(to_all).collect()
    }

    /// How many deliveries the publications of each publisher make.
    pub(crate) fn deliveries(&self, topics: &[Topic], sent: &[u64]) -> Vec<u64> {
        let receivers = |publisher| {
            let topic = usize::try_from(self.topic(publisher)).unwrap_or(0);
            u64::from(topics[topic].receivers)
        };
        (0..).zip(sent).map(|(publisher, sent)| sent * receivers(publisher)).collect()
    }
}

/// The fan-out driver of one worker.
pub(crate) struct Fanout {
    common: Common,
    mode: Mode,
    shape: Shape,
    workers: usize,
    publishers: Vec<Publisher>,
    /// By slot.
    receivers: Vec<Receiver>,
    /// Deliveries per topic since the topics were told.
    untold: Vec<u32>,
    /// Topics with something untold.
    touched: Vec<usize>,
    arrived: u64,
    started: Option<u64>,
    latency: Histogram,
    wrong: u64,
    stalls: u64,
    payload: Vec<u8>,
}

struct Publisher {
    number: u16,
    slot: usize,
    topic: usize,
    sequence: u32,
}

#[derive(Default)]
struct Receiver {
    topic: usize,
    /// One per publisher of the topic, by the publisher's number over the count of topics.
    checkers: Vec<Checker>,
    /// For what is published to all.
    to_all: Checker,
}

impl Fanout {
    /// One of the drivers of the same shape.
    pub(crate) fn new(common: &Common, mode: Mode, shape: Shape) -> Self {
        Self {
            common: common.clone(),
            mode,
            shape,
            workers: usize::from(common.threads),
            publishers: Vec::new(),
            receivers: Vec::new(),
            untold: vec![0; usize::try_from(shape.topics).unwrap_or(0) + 1],
            touched: Vec::new(),
            arrived: 0,
            started: None,
            latency: Histogram::new(),
            wrong: 0,
            stalls: 0,
            payload: Vec::new(),
        }
    }

    /// How many topics there are, but for the one of all.
    fn topics(&self) -> usize {
        usize::try_from(self.shape.topics).unwrap_or(1)
    }

    /// Publishes what is due for one publisher; `Some`: the nanoseconds until the next is.
    fn publish(&mut self, one: usize, links: &mut Links, turn: &Turn<'_>) -> Option<u64> {
        let publisher = &mut self.publishers[one];
        let link = links.touch(publisher.slot)?;
        let topic = &turn.shared.topics[publisher.topic];
        for _ in 0..BURST {
            if !link.is_open() || link.backlog_bytes() > BACKLOG_BYTES_MAX {
                return None;
            }
            let now = turn.shared.clock.nanos();
            let due = match self.shape.pace {
                Pace::Interval(interval) => {
                    let to_all =
                        self.shape.to_all.filter(|_| publisher.number == self.shape.publishers);
                    let interval = to_all.unwrap_or(interval);
                    // Publishers take turns within the interval.
                    let share = u64::from(publisher.number) * interval;
                    let phase = share / u64::from(self.shape.publishers);
                    let due = self.started? + phase + u64::from(publisher.sequence) * interval;
                    if due > now {
                        return Some(due - now);
                    }
                    due
                }
                Pace::Window(_) => now,
            };
            if !turn.shared.spend() {
                return None;
            }
            if let Pace::Window(window) = self.shape.pace
                && !topic.claim(window)
            {
                turn.shared.refund();
                return None;
            }
            let (number, sequence) = (publisher.number, publisher.sequence);
            self.payload.clear();
            Stamp { run: self.shape.run, publisher: number, sequence, due }
                .encode(self.shape.size, &mut self.payload);
            publisher.sequence += 1;
            turn.shared.expected.fetch_add(u64::from(topic.receivers), Ordering::AcqRel);
            link.send(&self.payload);
        }
        Some(0)
    }

    /// Tells the topics what arrived, and wakes the workers whose publishers waited for it.
    fn tell(&mut self, shared: &Shared) {
        shared.arrived.fetch_add(std::mem::take(&mut self.arrived), Ordering::AcqRel);
        let Pace::Window(window) = self.shape.pace else {
            self.touched.clear();
            return;
        };
        let now = shared.clock.nanos();
        for topic in self.touched.drain(..) {
            let deliveries = std::mem::take(&mut self.untold[topic]);
            let room = shared.topics[topic].delivered(deliveries, window, now);
            if room && self.workers > 1 {
                // Publisher p is on worker p modulo workers: those of one topic may be anywhere.
                (0..self.workers).for_each(|worker| _ = shared.wake(worker));
            }
        }
    }

    /// Starts loops again that lost something.
    fn revive(&mut self, shared: &Shared) {
        let now = shared.clock.nanos();
        let running = now - self.started.unwrap_or(now);
        if matches!(self.shape.pace, Pace::Interval(_)) || running < STALL_NANOS {
            return;
        }
        for publisher in &self.publishers {
            let stalled = shared.topics[publisher.topic].give_up(now, STALL_NANOS);
            self.stalls += u64::from(stalled);
        }
    }
}

impl Driver for Fanout {
    fn place(&self, index: u64) -> Place {
        let topic = format!("{}-{}", self.common.topic, self.shape.topic(index));
        let to_all = self.shape.to_all.filter(|_| !self.shape.is_to_all(index));
        let also = to_all.map(|_| format!("{}-{}", self.common.topic, self.shape.topics));
        let path = if index < u64::from(self.shape.all_publishers()) {
            self.common.publisher_path(self.mode, &topic)
        } else {
            self.common.request_path(self.mode, &topic)
        };
        Place { path, topic, also: also.into_iter().collect() }
    }

    fn opened(&mut self, slot: usize, index: u64, _link: &mut Link, _turn: &Turn<'_>) {
        let topic = usize::try_from(self.shape.topic(index)).unwrap_or(0);
        self.receivers.resize_with(self.receivers.len().max(slot + 1), Receiver::default);
        self.receivers[slot] = Receiver { topic, ..Receiver::default() };
        if index < u64::from(self.shape.all_publishers()) {
            let number = u16::try_from(index).unwrap_or(0);
            self.publishers.push(Publisher { number, slot, topic, sequence: 0 });
        }
    }

    fn payload(&mut self, slot: usize, payload: &[u8], _link: &mut Link, turn: &Turn<'_>) {
        let topics = self.topics();
        let receiver = &mut self.receivers[slot];
        let stamp = Stamp::decode(payload, self.shape.size).filter(|stamp| {
            let publisher = u64::from(stamp.publisher);
            let is_of_topic = || {
                stamp.publisher < self.shape.publishers
                    && usize::try_from(self.shape.topic(publisher)) == Ok(receiver.topic)
            };
            stamp.run == self.shape.run && (self.shape.is_to_all(publisher) || is_of_topic())
        });
        let Some(stamp) = stamp else {
            self.wrong += 1;
            return;
        };
        if self.shape.is_to_all(u64::from(stamp.publisher)) {
            receiver.to_all.note(stamp.sequence);
        } else {
            let row = usize::from(stamp.publisher) / topics;
            receiver.checkers.resize_with(receiver.checkers.len().max(row + 1), Checker::default);
            receiver.checkers[row].note(stamp.sequence);
        }
        if self.untold[receiver.topic] == 0 {
            self.touched.push(receiver.topic);
        }
        self.untold[receiver.topic] += 1;
        self.arrived += 1;
        let now = turn.shared.clock.nanos();
        if turn.stage == Stage::Measuring {
            self.latency.record(now.saturating_sub(stamp.due));
        }
    }

    fn ended(&mut self, slot: usize, _end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        self.publishers.iter_mut().filter(|one| one.slot == slot).for_each(|one| {
            one.slot = usize::MAX;
        });
        false
    }

    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration> {
        self.tell(turn.shared);
        if !turn.is_sending() {
            return None;
        }
        self.started.get_or_insert_with(|| turn.shared.clock.nanos());
        let mut wait = None;
        for one in 0..self.publishers.len() {
            if let Some(nanos) = self.publish(one, links, turn) {
                wait = Some(wait.map_or(nanos, |wait: u64| wait.min(nanos)));
            }
        }
        self.revive(turn.shared);
        wait.map(Duration::from_nanos)
    }

    fn finish(self: Box<Self>) -> Findings {
        let mut findings = Findings::none(usize::from(self.shape.all_publishers()));
        let topics = self.topics();
        for receiver in &self.receivers {
            for (row, checker) in receiver.checkers.iter().enumerate() {
                findings.arrivals[receiver.topic + row * topics].add(checker.arrivals());
            }
            if self.shape.to_all.is_some() {
                let last = findings.arrivals.len() - 1;
                findings.arrivals[last].add(receiver.to_all.arrivals());
            }
        }
        for publisher in &self.publishers {
            findings.sent[usize::from(publisher.number)] = u64::from(publisher.sequence);
        }
        findings.latency = self.latency;
        findings.faults.wrong = self.wrong;
        findings.faults.stalls = self.stalls;
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(subscribers: u32, topics: u32, publishers: u16) -> Shape {
        let pace = Pace::Window(1);
        let listening = Listening::Everybody;
        Shape { subscribers, topics, publishers, listening, to_all: None, pace, size: 32, run: 1 }
    }

    #[test]
    fn connections_are_dealt_to_topics_in_turn() {
        let shape = shape(5, 3, 2);
        let topics: Vec<u32> = (0..7).map(|index| shape.topic(index)).collect();
        assert_eq!(topics, [0, 1, 0, 1, 2, 0, 1]); // two publishers, five subscribers
        let receivers: Vec<u32> = shape.receivers().iter().map(|topic| topic.receivers).collect();
        assert_eq!(receivers, [3, 3, 1]);
    }

    #[test]
    fn a_publication_is_expected_once_per_connection_of_its_topic() {
        let shape = shape(5, 3, 2);
        assert_eq!(shape.deliveries(&shape.receivers(), &[10, 1]), [30, 3]);
        let shape = Shape { to_all: Some(1), ..shape };
        let topics: Vec<u32> = (0..8).map(|index| shape.topic(index)).collect();
        assert_eq!(topics, [0, 1, 3, 0, 1, 2, 0, 1]); // the third publishes to all
        assert_eq!(shape.deliveries(&shape.receivers(), &[10, 1, 2]), [30, 3, 16]);
    }

    #[test]
    fn publishers_elsewhere_are_not_expected_to_hear() {
        let shape = Shape { listening: Listening::Subscribers, ..shape(5, 3, 2) };
        assert_eq!(shape.deliveries(&shape.receivers(), &[10, 1]), [20, 2]);
    }
}
