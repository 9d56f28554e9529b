//! Connections with TLS: a step between their sockets and everything else.
//!
//! Handshakes cost a thousand times what a message does, so a turn takes only so many steps of them;
//! the others wait in the order in which they came.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::conn::connection::Stage;
use crate::conn::tls::failure::Failure;
use crate::conn::tls::offer::Offer;
use crate::conn::tls::session::{Established, Heard};
use crate::dialect::cause::Cause;
use crate::metrics::catalogue::{Counter, Gauge, TimeHistogram};
use crate::ring::{Lease, Ring, Token};

use super::drain::Life;
use super::slots::{Reading, Slot};
use super::{Shard, to_u64};

/// Plain bytes that room is kept for between turns.
const PLAIN_BYTES_KEPT: usize = 64 * 1024;

/// Settings of TLS; by default there is none.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What each listener offers; `None`: no TLS.
    pub offers: Vec<Option<Arc<Offer>>>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Handshakes that may be under way; more are reset before anything of them is read.
    pub handshakes_max: usize,
    /// Steps of handshakes in one turn.
    pub handshakes_per_turn: usize,
}

/// Whether a connection may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It may.
    Yes,
    /// It is to be closed before anything of it is read.
    Refused,
}

impl<R: Ring> Shard<R> {
    /// Begins TLS on a connection that `listener` has just accepted, if there is to be any.
    pub(super) fn begin_tls(&mut self, listener: usize, token: Token) -> Begun {
        let settings = &self.settings.tls;
        let Some(Some(offer)) = settings.offers.get(listener) else { return Begun::Yes };
        let Some(slot) = self.slots.get_mut(token) else { return Begun::Yes };
        if self.tls_handshaking >= settings.handshakes_max {
            self.numbers.tls_handshake_failed(Failure::Limit);
            slot.reading = Reading::Ended;
            slot.conn.abandon(Cause::Shed);
            self.review(token.slot);
            return Begun::Refused;
        }
        slot.conn.set_head_deadline(self.now + settings.handshake_timeout);
        slot.tls = Some(Box::new(offer.begin(self.now)));
        self.tls_handshaking += 1;
        Begun::Yes
    }

    /// Gives received records to a connection with TLS; the lease is back afterwards.
    pub(super) fn receive_records(&mut self, token: Token, lease: Lease) {
        let Some(slot) = self.slots.get_mut(token) else { return self.ring.release(lease) };
        let Some(tls) = slot.tls.as_mut() else { return self.ring.release(lease) };
        let was_handshaking = tls.is_handshaking();
        let must_wait = was_handshaking && (slot.flags.held || self.tls_steps == 0);
        let mut plain = std::mem::take(&mut self.desk.plain);
        let input = self.ring.bytes(&lease);
        let heard = if tls.has_failed() {
            // Not TLS any more: to be counted and thrown away.
            plain.extend_from_slice(input);
            Some(Heard::default())
        } else if must_wait {
            if !slot.flags.held {
                slot.flags.held = true;
                self.held.push_back(token);
            }
            Some(Heard { failure: tls.hold(input), ..Heard::default() })
        } else {
            self.tls_steps -= usize::from(was_handshaking);
            guarded(|| tls.receive(input, &mut plain))
        };
        self.ring.release(lease);
        self.heard(token, was_handshaking, heard, plain);
    }

    /// Goes on with handshakes that had to wait, as many as this turn allows.
    pub(super) fn resume_handshakes(&mut self) {
        self.tls_steps = self.settings.tls.handshakes_per_turn;
        while self.tls_steps > 0
            && let Some(token) = self.held.pop_front()
        {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            slot.flags.held = false;
            let Some(tls) = slot.tls.as_mut().filter(|tls| tls.is_handshaking()) else { continue };
            if slot.flags.closing {
                continue;
            }
            self.tls_steps -= 1;
            let mut plain = std::mem::take(&mut self.desk.plain);
            let heard = guarded(|| tls.resume(&mut plain));
            self.heard(token, true, heard, plain);
        }
    }

    /// Does what follows from received records; `None`: there was a panic.
    fn heard(
        &mut self,
        token: Token,
        was_handshaking: bool,
        heard: Option<Heard>,
        mut plain: Vec<u8>,
    ) {
        let has_crashed = heard.is_none();
        let heard = heard.unwrap_or_default();
        if let Some(established) = heard.established {
            self.established(token, established);
        }
        if !plain.is_empty() {
            self.receive_plain(token, &mut plain);
        }
        plain.clear();
        plain.shrink_to(PLAIN_BYTES_KEPT);
        self.desk.plain = plain;
        if heard.closed {
            self.call(token.slot, |conn, _| conn.handle_fin(Cause::ClientGone));
        }
        let failure = if has_crashed { Some(Failure::Internal) } else { heard.failure };
        if let Some(failure) = failure {
            let is_counted = was_handshaking && heard.established.is_none();
            if is_counted {
                self.tls_handshaking -= 1;
                self.numbers.tls_handshake_failed(failure);
            }
            self.fail_tls(token.slot, failure);
        }
        if has_crashed {
            self.numbers.count(Counter::Panics, 1);
            self.call(token.slot, |conn, _| conn.abandon(Cause::Internal));
        }
        self.send_records(token.slot);
    }

    fn established(&mut self, token: Token, established: Established) {
        self.tls_handshaking -= 1;
        let Established { version, resumption, since } = established;
        self.numbers.tls_handshake(version, resumption);
        let took = self.now.saturating_duration_since(since);
        self.numbers.observe_time(TimeHistogram::TlsHandshake, took);
        if let Some(slot) = self.slots.get_mut(token) {
            slot.conn.set_head_deadline(self.now + self.desk.settings.head_timeout);
            self.schedule(token.slot);
        }
    }

    /// TLS has failed: what is queued can no longer be sent, but for an alert.
    fn fail_tls(&mut self, index: u32, failure: Failure) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        if let Some(tls) = &mut slot.tls {
            tls.fail(failure);
        }
        let dropped = slot.outbox.drop_queued();
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        self.call(index, |conn, cx| conn.fail_transport(Cause::TlsAlert, cx));
    }

    /// Nothing can be encrypted any more: the connection ends without a word.
    pub(super) fn abandon_tls(&mut self, index: u32, failure: Failure) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let dropped = slot.outbox.drop_queued();
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        tracing::debug!(reason = failure.label(), "a connection cannot encrypt any more");
        self.call(index, |conn, _| conn.abandon(Cause::TlsAlert));
    }

    /// Sees to it that pending records go out.
    pub(super) fn send_records(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let waits = slot.tls.as_ref().is_some_and(|tls| !tls.is_clear());
        if waits && !slot.flags.dirty && !slot.flags.closing && !slot.outbox.is_backlogged() {
            slot.flags.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Counts a handshake that will not be completed, because its connection is about to be closed.
    pub(super) fn give_up_handshake(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let has_gone = slot.reading == Reading::Ended;
        let Some(tls) = slot.tls.as_mut().filter(|tls| tls.is_handshaking()) else { return };
        let failure = match (has_gone, self.life) {
            (true, _) => Failure::Gone,
            (false, Life::Running) => Failure::Timeout,
            (false, Life::Draining(_) | Life::Stopping) => Failure::Drain,
        };
        tls.fail(failure);
        self.tls_handshaking -= 1;
        self.numbers.tls_handshake_failed(failure);
    }

    /// The cause of an end by FIN: with TLS a peer says that it is done before it goes.
    pub(super) fn cause_of_fin(&mut self, token: Token) -> Cause {
        let tls = self.slots.get_mut(token).and_then(|slot| slot.tls.as_ref());
        match tls {
            Some(tls) if !tls.is_handshaking() && !tls.has_peer_closed() => Cause::TlsTruncated,
            Some(_) | None => Cause::ClientGone,
        }
    }
}

impl Slot {
    /// Whether nothing waits to be sent, not even records of TLS itself.
    pub(super) fn is_clear(&self) -> bool {
        self.outbox.is_clear() && self.tls.as_ref().is_none_or(|tls| tls.is_clear())
    }

    /// Has TLS say that nothing more is sent, when all else is.
    pub(super) fn close_tls(&mut self) {
        if self.outbox.is_clear()
            && !matches!(self.conn.stage(), Stage::Talking)
            && let Some(tls) = &mut self.tls
        {
            tls.close();
        }
    }
}

/// Runs `run` on hostile bytes; `None`: it has panicked, and its session is not to be used again.
fn guarded(run: impl FnOnce() -> Heard) -> Option<Heard> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
