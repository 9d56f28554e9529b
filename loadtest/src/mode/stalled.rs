//! Stalled: connections that join topics and never read again; the server is to end them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::link::{End, Link};
use crate::options::{Common, Mode};
use crate::worker::{Driver, Findings, Links, Place, Turn};

/// What the kernel holds for each of them, so that the server soon finds the socket full.
const ROOM_BYTES: usize = 4096;

/// Between two signs of life of each of them.
const SIGN_NANOS: u64 = 1_000_000_000;

/// The driver of one worker.
#[derive(Debug)]
pub(crate) struct Stalled {
    common: Common,
    mode: Mode,
    topics: u32,
    subscriptions: u32,
    /// Slots that were in use.
    slots: usize,
    /// When a sign of life is due.
    next_sign: u64,
    /// Connections that the server has yet to end.
    open: u64,
}

impl Stalled {
    /// Every connection joins `subscriptions` of the topics.
    pub(crate) fn new(common: &Common, mode: Mode, topics: u32, subscriptions: u32) -> Self {
        Self {
            common: common.clone(),
            mode,
            topics,
            subscriptions,
            slots: 0,
            next_sign: 0,
            open: 0,
        }
    }
}

impl Driver for Stalled {
    fn place(&self, index: u64) -> Place {
        let name = |place: u64| {
            let topic = place % u64::from(self.topics);
            format!("{}-{topic}", self.common.topic)
        };
        let topic = name(index);
        let also = (1..u64::from(self.subscriptions)).map(|more| name(index + more)).collect();
        Place { path: self.common.request_path(self.mode, &topic), topic, also }
    }

    fn opened(&mut self, slot: usize, _index: u64, _link: &mut Link, turn: &Turn<'_>) {
        self.open += 1;
        self.slots = self.slots.max(slot + 1);
        turn.shared.expected.fetch_add(1, Ordering::AcqRel);
        turn.shared.arrived.fetch_add(1, Ordering::AcqRel);
    }

    fn payload(&mut self, _slot: usize, _payload: &[u8], _link: &mut Link, _turn: &Turn<'_>) {
        // What came with the answer to the last subscription was read with it.
    }

    fn ended(&mut self, _slot: usize, end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        self.open -= u64::from(end == End::Abandoned);
        false
    }

    fn room(&self) -> Option<usize> {
        Some(ROOM_BYTES)
    }

    fn reads(&self) -> bool {
        false
    }

    /// The reset of a connection whose window is closed may come to nothing: whoever writes hears of
    /// the end all the same.
    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration> {
        let now = turn.shared.clock.nanos();
        if turn.is_sending() && now >= self.next_sign {
            self.next_sign = now + SIGN_NANOS;
            for slot in 0..self.slots {
                if let Some(link) = links.touch(slot).filter(|link| link.is_open()) {
                    link.pong();
                }
            }
        }
        None
    }

    fn finish(self: Box<Self>) -> Findings {
        let mut findings = Findings::none(0);
        findings.faults.missing = self.open;
        findings
    }
}
