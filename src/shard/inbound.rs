//! What the ring reports.

use crate::conn::connection::{Connection, Stage};
use crate::conn::tls::failure::Failure;
use crate::mail::close::Event;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::ring::{Completion, End, Errno, Ring, Token};

use super::ending::transport_cause;
use super::labels::PauseReason;
use super::slots::Reading;
use super::{ACCEPT_PAUSES, Accepting, Shard, is_out_of_descriptors, to_u64};

/// Receives that one turn arms again after they found no buffer; as many as there are buffers where
/// each of them wants a whole one.
const FED_MAX: usize = 64;

impl<R: Ring> Shard<R> {
    pub(super) fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, socket } => {
                self.listeners[listener].pause = ACCEPT_PAUSES.0;
                self.newcomers.push_back((listener, socket));
            }
            Completion::AcceptEnded { listener, errno } => self.accept_ended(listener, errno),
            Completion::Received { token, lease } => {
                self.receive(token, lease);
                self.hand_over_answers();
            }
            Completion::ReceiveEnded { token, end } => self.receive_ended(token, end),
            // Settled before anything else.
            Completion::SendShort { .. } => {}
            Completion::SendDone { token, result } => self.send_done(token, result),
            Completion::Closed { token } => self.closed(token),
            // The lanes are looked at in every turn.
            Completion::Woken => {}
        }
    }

    fn accept_ended(&mut self, listener: usize, errno: Option<Errno>) {
        let state = &mut self.listeners[listener];
        if let Accepting::Held { is_ended } = &mut state.accepting {
            *is_ended = true;
            return;
        }
        let Some(errno) = errno else {
            if state.accepting == Accepting::Armed {
                self.ring.accept(listener);
            }
            return;
        };
        if state.accepting == Accepting::Closed {
            return;
        }
        state.accepting = Accepting::Paused(self.now + state.pause);
        state.pause = (state.pause * 2).min(ACCEPT_PAUSES.1);
        let reason = if is_out_of_descriptors(errno) {
            PauseReason::Descriptors
        } else {
            PauseReason::Kernel
        };
        self.numbers.accept_paused(reason);
    }

    fn receive_ended(&mut self, token: Token, end: End) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        if slot.flags.closing {
            slot.reading = Reading::Ended;
            return;
        }
        match end {
            End::Fin => {
                slot.story.history.note(Event::FinReceived);
                slot.reading = Reading::Ended;
                let cause = self.cause_of_fin(token);
                self.call(token.slot, |conn, _| conn.handle_fin(cause));
            }
            End::Failed(errno) => {
                slot.story.history.note(Event::Failed);
                slot.reading = Reading::Ended;
                let cause = transport_cause(errno);
                self.call(token.slot, |conn, _| conn.handle_failure(cause));
            }
            End::NoBuffers => {
                slot.reading = Reading::Starved;
                self.starved.push_back(token);
            }
            End::Spent | End::Cancelled => {
                slot.reading = Reading::Paused;
                self.review(token.slot);
            }
        }
    }

    /// Arms the receives that found no buffer, oldest first, now that the leases of this turn are
    /// back. No more than may find one: the others would only be refused again.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..FED_MAX {
            let Some(token) = self.starved.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(token)
                && slot.reading == Reading::Starved
            {
                slot.reading = Reading::Paused;
                self.review(token.slot);
            }
        }
    }

    fn send_done(&mut self, token: Token, result: Result<usize, Errno>) {
        let Some(slot) = self.slots.get_mut(token) else { return };
        if slot.flags.closing {
            return;
        }
        let sent = match result {
            Ok(sent) => sent,
            Err(errno) => {
                slot.story.history.note(Event::Failed);
                let cause = transport_cause(errno);
                self.call(token.slot, |conn, _| conn.handle_failure(cause));
                return;
            }
        };
        if slot.outbox.is_between_frames(sent)
            && !slot.is_mid_frame()
            && slot.conn.stage() == Stage::Talking
        {
            // What is owed goes out in front of what is queued.
            self.call(token.slot, Connection::unblocked);
        }
        let slot = self.slots.get_mut(token).filter(|slot| !slot.flags.closing);
        let Some(slot) = slot else { return };
        let before = slot.queued_bytes();
        let tls = slot.extras.tls_mut();
        let next = slot.outbox.progressed(sent, tls, &self.desk.settings.outbox, self.now);
        // Records are longer than what is in them.
        self.numbers.raise(Gauge::OutboxBytes, to_u64(slot.queued_bytes()));
        self.numbers.lower(Gauge::OutboxBytes, to_u64(before));
        self.numbers.count(Counter::BytesSent, to_u64(sent));
        let Some(next) = next else {
            self.numbers.lower(Gauge::Backlogs, 1);
            slot.story.history.note(Event::BacklogEnded);
            let is_talking = slot.conn.stage() == Stage::Talking;
            let has_failed = slot.extras.tls().is_some_and(|tls| tls.has_failed());
            if !slot.is_clear() || is_talking && has_failed {
                self.abandon_tls(token.slot, Failure::WornOut);
            } else if !is_talking {
                self.see_off(token.slot);
            }
            self.weigh(token.slot);
            return;
        };
        self.ring.send_owned(slot.socket, token, next);
        self.weigh(token.slot);
    }
}
