//! Churn: connect, upgrade, one message and its echo, closing handshake; then the next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::link::{End, Link};
use crate::mode::numbered;
use crate::options::{Common, Mode};
use crate::shared::Stage;
use crate::worker::{Driver, Findings, Links, Place, Turn};

/// The churn driver of one worker.
#[derive(Debug)]
pub(crate) struct Churn {
    common: Common,
    mode: Mode,
    size: usize,
    cycles: Vec<Cycle>,
    findings: Findings,
    payload: Vec<u8>,
}

/// Where the connection of a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cycle {
    /// Opened before the load began.
    Waiting,
    /// The message with this number is under way.
    Asked(u32),
    /// It came back, and the closing handshake is begun.
    Answered,
    /// Nothing is expected of it any more.
    Over,
}

impl Churn {
    /// With messages of `size` bytes.
    pub(crate) fn new(common: &Common, mode: Mode, size: usize) -> Self {
        Self {
            common: common.clone(),
            mode,
            size,
            cycles: Vec::new(),
            findings: Findings::none(1),
            payload: Vec::new(),
        }
    }

    fn ask(&mut self, slot: usize, link: &mut Link, turn: &Turn<'_>) {
        if !turn.shared.spend() {
            self.cycles[slot] = Cycle::Over;
            return;
        }
        let number = fastrand::u32(..);
        numbered::encode(number, self.size, &mut self.payload);
        link.send(&self.payload);
        self.cycles[slot] = Cycle::Asked(number);
        self.findings.sent[0] += 1;
        turn.shared.expected.fetch_add(1, Ordering::AcqRel);
    }
}

impl Driver for Churn {
    fn place(&self, index: u64) -> Place {
        let topic = format!("{}-{index}", self.common.topic);
        Place { path: self.common.request_path(self.mode, &topic), topic, also: Vec::new() }
    }

    fn opened(&mut self, slot: usize, _index: u64, link: &mut Link, turn: &Turn<'_>) {
        self.cycles.resize(self.cycles.len().max(slot + 1), Cycle::Over);
        self.cycles[slot] = Cycle::Waiting;
        if turn.is_sending() {
            self.ask(slot, link, turn);
        }
    }

    fn payload(&mut self, slot: usize, payload: &[u8], link: &mut Link, _turn: &Turn<'_>) {
        let arrivals = &mut self.findings.arrivals[0];
        match self.cycles[slot] {
            Cycle::Asked(number) if numbered::decode(payload, self.size) == Some(number) => {
                arrivals.distinct += 1;
                self.cycles[slot] = Cycle::Answered;
                link.close();
            }
            Cycle::Answered => arrivals.duplicated += 1,
            Cycle::Waiting | Cycle::Asked(_) | Cycle::Over => self.findings.faults.wrong += 1,
        }
    }

    fn ended(&mut self, slot: usize, end: End, link: &Link, turn: &Turn<'_>) -> bool {
        let Some(cycle) = self.cycles.get_mut(slot) else { return turn.is_sending() };
        if std::mem::replace(cycle, Cycle::Over) == Cycle::Answered {
            turn.shared.arrived.fetch_add(1, Ordering::AcqRel);
            match end {
                End::Clean if turn.stage == Stage::Measuring => {
                    let nanos = turn.shared.clock.nanos().saturating_sub(link.begun);
                    self.findings.latency.record(nanos);
                }
                End::Clean => {}
                End::Failed | End::Lost | End::Told(_) | End::Abandoned | End::Unclean => {
                    self.findings.faults.wrong += 1
                }
            }
        }
        turn.is_sending() && !turn.shared.spent()
    }

    fn act(&mut self, links: &mut Links, turn: &Turn<'_>) -> Option<Duration> {
        if turn.is_sending() {
            for slot in 0..self.cycles.len() {
                if self.cycles[slot] == Cycle::Waiting
                    && let Some(link) = links.touch(slot)
                {
                    self.ask(slot, link, turn);
                }
            }
        }
        None
    }

    fn finish(mut self: Box<Self>) -> Findings {
        // Servers must end the stream after the closing handshake (RFC 6455 §7.1.1).
        let open = self.cycles.iter().filter(|cycle| **cycle == Cycle::Answered).count();
        self.findings.faults.wrong += open as u64;
        self.findings
    }
}
