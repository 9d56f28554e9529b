//! Idle: connections are opened, join one topic and do nothing, until we close them or the server
//! does.

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
    expect_close: Option<u16>,
    unexpected: u64,
    /// Connections that the server has yet to close.
    open: u64,
}

impl Idle {
    /// Every connection joins the first topic; the server is to close them with `expect_close`.
    pub(crate) fn new(common: &Common, mode: Mode, expect_close: Option<u16>) -> Self {
        Self { common: common.clone(), mode, expect_close, unexpected: 0, open: 0 }
    }
}

impl Driver for Idle {
    fn place(&self, _index: u64) -> Place {
        let topic = format!("{}-0", self.common.topic);
        Place { path: self.common.request_path(self.mode, &topic), topic, also: Vec::new() }
    }

    fn opened(&mut self, _slot: usize, _index: u64, _link: &mut Link, turn: &Turn<'_>) {
        self.open += u64::from(self.expect_close.is_some());
        turn.shared.expected.fetch_add(1, Ordering::AcqRel);
        turn.shared.arrived.fetch_add(1, Ordering::AcqRel);
    }

    fn payload(&mut self, _slot: usize, _payload: &[u8], _link: &mut Link, _turn: &Turn<'_>) {
        self.unexpected += 1;
    }

    fn ended(&mut self, _slot: usize, end: End, _link: &Link, _turn: &Turn<'_>) -> bool {
        // Those that end otherwise are faults of their own kind, but their Close is missing too.
        if matches!(end, End::Told(code) if self.expect_close == Some(code)) {
            self.open -= 1;
        }
        false
    }

    fn expected_close(&self) -> Option<u16> {
        self.expect_close
    }

    fn act(&mut self, _links: &mut Links, _turn: &Turn<'_>) -> Option<Duration> {
        None
    }

    fn finish(self: Box<Self>) -> Findings {
        let mut findings = Findings::none(0);
        findings.faults.wrong = self.unexpected;
        findings.faults.missing = self.open;
        findings
    }
}
