//! Echo: every connection keeps `depth` messages under way, or no more than that at a given rate.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::link::{End, Link};
use crate::mode::numbered;
use crate::options::{Common, Mode};
use crate::sequence::Checker;
use crate::shared::Stage;
use crate::worker::{Driver, Findings, Links, Place, Turn};

/// The echo driver of one worker.
#[derive(Debug)]
pub(crate) struct Echo {
    common: Common,
    mode: Mode,
    depth: u32,
    size: usize,
    lanes: Vec<Lane>,
    /// Nanoseconds between two messages of this worker; `None`: each follows an answer.
    interval: Option<u64>,
    /// When the load began, in nanoseconds of the run's clock.
    started: Option<u64>,
    /// Messages that were sent because they were due.
    paced: u64,
    findings: Findings,
    /// Arrivals and messages sent since the counters of the run were told.
    untold: (u64, u64),
    payload: Vec<u8>,
}

/// One connection's messages.
#[derive(Debug, Default)]
struct Lane {
    next: u32,
    sent: VecDeque<u64>,
    checker: Checker,
}

impl Echo {
    /// With `depth` messages of `size` bytes under way on each connection; with an `interval`, one
    /// of all of them each so many nanoseconds.
    pub(crate) fn new(
        common: &Common,
        mode: Mode,
        depth: u32,
        size: usize,
        interval: Option<u64>,
    ) -> Self {
        Self {
            common: common.clone(),
            mode,
            depth,
            size,
            lanes: Vec::new(),
            interval,
            started: None,
            paced: 0,
            findings: Findings::none(1),
            untold: (0, 0),
            payload: Vec::new(),
        }
    }

    /// Sends a message that was due at `due`.
    fn send(&mut self, slot: usize, link: &mut Link, due: u64, turn: &Turn<'_>) {
        if !link.is_open() || !turn.shared.spend() {
            return;
        }
        let lane = &mut self.lanes[slot];
        numbered::encode(lane.next, self.size, &mut self.payload);
        lane.next = lane.next.wrapping_add(1);
        lane.sent.push_back(due);
        self.findings.sent[0] += 1;
        self.untold.1 += 1;
        link.send(&self.payload);
    }

    /// Fills every connection.
    fn begin(&mut self, links: &mut Links, now: u64, turn: &Turn<'_>) {
        for slot in 0..self.lanes.len() {
            let Some(link) = links.touch(slot) else { continue };
            (0..self.depth).for_each(|_| self.send(slot, link, now, turn));
        }
    }

    /// Sends what is due by `now`, on each connection in turn; returns the nanoseconds until the
    /// next is. A connection that is full is waited for: what is late counts from when it was due.
    fn keep_pace(&mut self, links: &mut Links, interval: u64, now: u64, turn: &Turn<'_>) -> u64 {
        let started = self.started.unwrap_or(now);
        loop {
            let due = started + self.paced * interval;
            if due > now || self.lanes.is_empty() {
                return due - now.min(due);
            }
            let lanes = u64::try_from(self.lanes.len()).unwrap_or(u64::MAX);
            let slot = usize::try_from(self.paced % lanes).unwrap_or(0);
            let is_full = self.lanes[slot].sent.len() >= usize::try_from(self.depth).unwrap_or(1);
            let Some(link) = links.touch(slot).filter(|_| !is_full) else { return interval };
            self.paced += 1;
            self.send(slot, link, due, turn);
        }
    }
}

impl Driver for Echo {
    fn place(&self, index: u64) -> Place {
        let topic = format!("{}-{index}", self.common.topic);
        Place { path: self.common.request_path(self.mode, &topic), topic, also: Vec::new() }
    }

    fn opened(&mut self, slot: usize, _index: u64, _link: &mut Link, _turn: &Turn<'_>) {
        self.lanes.resize_with(self.lanes.len().max(slot + 1), Lane::default);
    }

    fn payload(&mut self, slot: usize, payload: &[u8], link: &mut Link, turn: &Turn<'_>) {
        let lane = &mut self.lanes[slot];
        match numbered::decode(payload, self.size) {
            Some(number) if number < lane.next => lane.checker.note(number),
            _ => self.findings.faults.wrong += 1,
        }
        // Whatever came, it takes the place of the oldest: the load goes on.
        let Some(sent) = lane.sent.pop_front() else { return };
        self.untold.0 += 1;
        if turn.stage == Stage::Measuring {
            self.findings.latency.record(turn.shared.clock.nanos().saturating_sub(sent));
        }
        if turn.is_sending() && self.interval.is_none() {
            self.send(slot, link, turn.shared.clock.nanos(), turn);
        }
    }

    fn ended(&mut self, _slot: usize, _end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        false
    }

    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration> {
        let mut wait = None;
        if turn.is_sending() {
            let now = turn.shared.clock.nanos();
            let is_first = self.started.is_none();
            self.started.get_or_insert(now);
            match self.interval {
                Some(interval) => wait = Some(self.keep_pace(links, interval, now, turn)),
                None if is_first => self.begin(links, now, turn),
                None => {}
            }
        }
        turn.shared.expected.fetch_add(std::mem::take(&mut self.untold.1), Ordering::AcqRel);
        turn.shared.arrived.fetch_add(std::mem::take(&mut self.untold.0), Ordering::AcqRel);
        wait.map(Duration::from_nanos)
    }

    fn finish(mut self: Box<Self>) -> Findings {
        for lane in &self.lanes {
            self.findings.arrivals[0].add(lane.checker.arrivals());
        }
        self.findings
    }
}
