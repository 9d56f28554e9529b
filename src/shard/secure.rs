//! Connections with TLS: a step between their sockets and everything else.
//!
//! Handshakes cost as much as dozens of messages, so a turn takes only so many steps of them;
//! the others wait in the order in which they came.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::rate::Rate;
use crate::conn::Context;
use crate::conn::connection::{Connection, Stage};
use crate::conn::guest::Lack;
use crate::conn::tls::failure::Failure;
use crate::conn::tls::offer::Offer;
use crate::conn::tls::session::{Established, Heard, Tls};
use crate::dialect::cause::Cause;
use crate::metrics::catalogue::{Counter, Gauge, TimeHistogram};
use crate::ring::{Lease, Ring, Token};

use super::slots::Slot;
use super::{Shard, call, to_u64};

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
    /// How often a shard begins a handshake; `None`: at any pace.
    pub handshakes_rate: Option<Rate>,
}

impl<R: Ring> Shard<R> {
    /// Counts the TLS handshake of one more connection at `listener`, if there is TLS; what is in its
    /// way, if anything.
    pub(super) fn take_tls_handshake(&mut self, listener: usize) -> Result<(), Lack> {
        let Settings { offers, handshakes_max, handshakes_rate, .. } = &self.settings.tls;
        if !matches!(offers.get(listener), Some(Some(_))) {
            return Ok(());
        }
        if self.tls_handshaking >= *handshakes_max {
            return Err(Lack::TlsHandshakes);
        }
        match handshakes_rate {
            Some(rate) if !self.tls_pace.admit(self.now, *rate) => Err(Lack::TlsHandshakesRate),
            Some(_) | None => Ok(()),
        }
    }

    /// Begins TLS on a connection that `listener` has just accepted, if there is to be any.
    pub(super) fn begin_tls(&mut self, listener: usize, conn: &mut Connection) -> Option<Box<Tls>> {
        let settings = &self.settings.tls;
        let offer = settings.offers.get(listener)?.as_ref()?;
        conn.set_head_deadline(self.now + settings.handshake_timeout);
        self.tls_handshaking += 1;
        Some(Box::new(offer.begin(self.now)))
    }

    /// Gives received records to a connection with TLS; the lease is back afterwards.
    pub(super) fn receive_records(&mut self, token: Token, lease: Lease) {
        let start = self.desk.arena.len();
        let Some(slot) = self.slots.get_mut(token) else { return self.ring.release(lease) };
        let is_held = slot.extras.is_held();
        let is_introduced = slot.extras.guest_mut().is_some_and(|guest| guest.is_awaited());
        let mut input = self.ring.bytes(&lease);
        if is_introduced {
            // What a load balancer says comes before TLS.
            let mut used = input.len();
            let read = |conn: &mut Connection, cx: &mut Context<'_>| {
                used = conn.read_proxy_header(input, cx);
            };
            if !call::guarded(&mut self.desk, slot, read) {
                self.numbers.count(Counter::Panics, 1);
            }
            input = &mut input[used..];
        }
        let Some(tls) = slot.extras.tls_mut() else { return self.ring.release(lease) };
        let mut plain = std::mem::take(&mut self.desk.plain);
        let was_handshaking = tls.is_handshaking();
        let must_wait = was_handshaking && (is_held || self.tls_steps == 0);
        let heard = if input.is_empty() {
            Some(Heard::default())
        } else if tls.has_failed() {
            // Not TLS any more: to be counted and thrown away.
            plain.extend_from_slice(input);
            Some(Heard::default())
        } else if must_wait {
            let failure = tls.hold(input);
            if !slot.extras.set_held(true) {
                self.held.push_back(token);
            }
            Some(Heard { failure, ..Heard::default() })
        } else {
            self.tls_steps -= usize::from(was_handshaking);
            caught(|| tls.receive(input, &mut plain))
        };
        self.ring.release(lease);
        if is_introduced {
            self.settle(token.slot, start);
        }
        self.notice_lack(token.slot);
        self.heard(token, was_handshaking, heard, plain);
        self.review(token.slot);
    }

    /// Goes on with handshakes that had to wait, as many as this turn allows.
    pub(super) fn resume_handshakes(&mut self) {
        self.tls_steps = self.settings.tls.handshakes_per_turn;
        while self.tls_steps > 0
            && let Some(token) = self.held.pop_front()
        {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            slot.extras.set_held(false);
            let tls = slot.extras.tls_mut().filter(|tls| tls.is_handshaking());
            let Some(tls) = tls else { continue };
            self.tls_steps -= 1;
            let mut plain = std::mem::take(&mut self.desk.plain);
            let heard = caught(|| tls.resume(&mut plain));
            self.heard(token, true, heard, plain);
            self.weigh(token.slot);
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
            self.call(token.slot, |conn, cx| conn.receive(&mut plain, cx));
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
        let before = slot.queued_bytes();
        if let Some(tls) = slot.extras.tls_mut() {
            tls.fail(failure);
        }
        slot.outbox.drop_queued();
        let dropped = before - slot.queued_bytes();
        self.closes.note_unsent(index, dropped);
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        self.call(index, |conn, cx| conn.fail_transport(failure.cause(), cx));
    }

    /// Nothing can be encrypted any more: the connection ends without a word.
    pub(super) fn abandon_tls(&mut self, index: u32, failure: Failure) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let dropped = slot.outbox.drop_queued();
        self.closes.note_unsent(index, dropped);
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        self.call(index, |conn, _| conn.abandon(failure.cause()));
    }

    /// Ends a handshake whose time is over; nothing is said.
    pub(super) fn time_out_handshake(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let deadline = slot.conn.deadline(&self.desk.settings);
        let is_handshaking = slot.extras.tls().is_some_and(|tls| tls.is_handshaking());
        if is_handshaking && deadline.is_some_and(|deadline| deadline <= self.now) {
            self.call(index, |conn, _| conn.leave(Cause::TlsTimeout));
        }
    }

    /// Sees to it that pending records go out.
    pub(super) fn send_records(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let waits = slot.extras.tls().is_some_and(|tls| !tls.is_clear());
        if waits && !slot.flags.dirty && !slot.flags.closing && !slot.outbox.is_backlogged() {
            slot.flags.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Counts a handshake that will not be completed, because its connection is about to be closed.
    pub(super) fn give_up_handshake(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let failure = match slot.conn.verdict().cause {
            Cause::TlsTimeout => Failure::Timeout,
            Cause::Drain => Failure::Drain,
            _ => Failure::Gone,
        };
        let Some(tls) = slot.extras.tls_mut().filter(|tls| tls.is_handshaking()) else { return };
        tls.fail(failure);
        self.tls_handshaking -= 1;
        self.numbers.tls_handshake_failed(failure);
    }

    /// The cause of an end by FIN: with TLS a peer says that it is done before it goes.
    pub(super) fn cause_of_fin(&mut self, token: Token) -> Cause {
        let tls = self.slots.get_mut(token).and_then(|slot| slot.extras.tls());
        match tls {
            Some(tls) if !tls.is_handshaking() && !tls.has_peer_closed() => Cause::TlsTruncated,
            Some(_) | None => Cause::ClientGone,
        }
    }
}

impl Slot {
    /// Whether nothing waits to be sent, not even records of TLS itself.
    pub(super) fn is_clear(&self) -> bool {
        self.outbox.is_clear() && self.extras.tls().is_none_or(|tls| tls.is_clear())
    }

    /// Bytes queued for the client, those that TLS has begun to seal included.
    pub(super) fn queued_bytes(&self) -> usize {
        self.outbox.bytes() + self.extras.tls().map_or(0, |tls| tls.opened_bytes())
    }

    /// Whether a frame has begun to be sent whose rest TLS has not sealed.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.extras.tls().is_some_and(|tls| tls.is_mid_frame())
    }

    /// Has TLS say that nothing more is sent, when all else is.
    pub(super) fn close_tls(&mut self) {
        if self.outbox.is_clear()
            && !matches!(self.conn.stage(), Stage::Talking)
            && let Some(tls) = self.extras.tls_mut()
        {
            tls.close();
        }
    }
}

/// Runs `run` on hostile bytes; `None`: it has panicked, and its session is not to be used again.
fn caught(run: impl FnOnce() -> Heard) -> Option<Heard> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
