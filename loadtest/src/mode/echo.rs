//! Echo: every connection keeps `depth` messages under way.

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
    started: bool,
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
    /// With `depth` messages of `size` bytes under way on each connection.
    pub(crate) fn new(common: &Common, mode: Mode, depth: u32, size: usize) -> Self {
        Self {
            common: common.clone(),
            mode,
            depth,
            size,
            lanes: Vec::new(),
            started: false,
            findings: Findings::none(1),
            untold: (0, 0),
            payload: Vec::new(),
        }
    }

    fn send(&mut self, slot: usize, link: &mut Link, turn: &Turn<'_>) {
        if !link.is_open() || !turn.shared.spend() {
            return;
        }
        let lane = &mut self.lanes[slot];
        numbered::encode(lane.next, self.size, &mut self.payload);
        lane.next = lane.next.wrapping_add(1);
        lane.sent.push_back(turn.shared.clock.nanos());
        self.findings.sent[0] += 1;
        self.untold.1 += 1;
        link.send(&self.payload);
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
        if turn.is_sending() {
            self.send(slot, link, turn);
        }
    }

    fn ended(&mut self, _slot: usize, _end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        false
    }

    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration> {
        if turn.is_sending() && !self.started {
            self.started = true;
            for slot in 0..self.lanes.len() {
                let Some(link) = links.touch(slot) else { continue };
                (0..self.depth).for_each(|_| self.send(slot, link, turn));
            }
        }
        turn.shared.expected.fetch_add(std::mem::take(&mut self.untold.1), Ordering::AcqRel);
        turn.shared.arrived.fetch_add(std::mem::take(&mut self.untold.0), Ordering::AcqRel);
        None
    }

    fn finish(mut self: Box<Self>) -> Findings {
        for lane in &self.lanes {
            self.findings.arrivals[0].add(lane.checker.arrivals());
        }
        self.findings
    }
}
