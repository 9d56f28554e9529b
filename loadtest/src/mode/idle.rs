//! Idle: connections are opened, join one topic and do nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::link::{End, Link};
use crate::options::{Common, Mode};
use crate::worker::{Driver, Findings, Links, Place, Turn};

/// The idle driver of one worker.
#[derive(Debug)]
pub(crate) struct Idle {
    common: Common,
    mode: Mode,
    unexpected: u64,
}

impl Idle {
    /// Every connection joins the first topic.
    pub(crate) fn new(common: &Common, mode: Mode) -> Self {
        Self { common: common.clone(), mode, unexpected: 0 }
    }
}

impl Driver for Idle {
    fn place(&self, _index: u64) -> Place {
        let topic = format!("{}-0", self.common.topic);
        Place { path: self.common.request_path(self.mode, &topic), topic }
    }

    fn opened(&mut self, _slot: usize, _index: u64, _link: &mut Link, turn: &Turn<'_>) {
        turn.shared.expected.fetch_add(1, Ordering::AcqRel);
        turn.shared.arrived.fetch_add(1, Ordering::AcqRel);
    }

    fn payload(&mut self, _slot: usize, _payload: &[u8], _link: &mut Link, _turn: &Turn<'_>) {
        self.unexpected += 1;
    }

    fn ended(&mut self, _slot: usize, _end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        false
    }

    fn act(&mut self, _links: &mut Links, _turn: &Turn<'_>) -> Option<Duration> {
        None
    }

    fn finish(self: Box<Self>) -> Findings {
        let mut findings = Findings::none(0);
        findings.faults.wrong = self.unexpected;
        findings
    }
}
