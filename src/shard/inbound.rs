//! What the ring reports.

use crate::conn::connection::{Connection, Room, Stage};
use crate::conn::outbox::Outbox;
use crate::conn::tls::failure::Failure;
use crate::dialect::cause::Cause;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::ring::{Completion, End, Errno, Ring, Socket, Token};
use crate::topic::subscribers::Memberships;

use super::drain::Life;
use super::labels::PauseReason;
use super::secure::Begun;
use super::slots::{Flags, Reading, Slot};
use super::{ACCEPT_PAUSES, Accepting, Settings, Shard, is_out_of_descriptors, to_u64};

impl<R: Ring> Shard<R> {
    pub(super) fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, socket } => self.accepted(listener, socket),
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

    fn accepted(&mut self, listener: usize, socket: Socket) {
        let Settings { connections_max, handshakes_max, .. } = self.settings;
        let is_full = self.slots.len() >= connections_max || self.handshaking >= handshakes_max;
        let room = if is_full { Room::Full } else { Room::Free };
        self.listeners[listener].pause = ACCEPT_PAUSES.0;
        let number = u16::try_from(listener).unwrap_or(u16::MAX);
        let settings = &self.desk.settings;
        let token = self.slots.insert(Slot {
            conn: Connection::new(number, room, self.now, settings),
            outbox: Outbox::default(),
            tls: None,
            memberships: Memberships::default(),
            socket,
            scheduled: 0,
            reading: Reading::Armed,
            flags: Flags::default(),
        });
        self.handshaking += 1;
        if self.begin_tls(listener, token) == Begun::Refused {
            return;
        }
        self.ring.receive(socket, token);
        match self.life {
            Life::Running => self.schedule(token.slot),
            Life::Draining(_) | Life::Stopping => {
                self.call(token.slot, |conn, cx| conn.end(Cause::Drain, cx));
            }
        }
    }

    fn accept_ended(&mut self, listener: usize, errno: Option<Errno>) {
        let state = &mut self.listeners[listener];
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
                slot.reading = Reading::Ended;
                let cause = self.cause_of_fin(token);
                self.call(token.slot, |conn, _| conn.handle_fin(cause));
            }
            End::Failed(_) => {
                slot.reading = Reading::Ended;
                self.call(token.slot, |conn, _| conn.handle_failure());
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

    /// Arms the receives that found no buffer, now that the leases of this turn are back.
    pub(super) fn feed_starved(&mut self) {
        while let Some(token) = self.starved.pop_front() {
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
        let Ok(sent) = result else {
            self.call(token.slot, |conn, _| conn.handle_failure());
            return;
        };
        let before = slot.outbox.bytes();
        let tls = slot.tls.as_deref_mut();
        let next = slot.outbox.progressed(sent, tls, &self.desk.settings.outbox, self.now);
        let after = slot.outbox.bytes();
        self.numbers.count(Counter::BytesSent, to_u64(sent));
        // Records are longer than what is in them.
        self.numbers.raise(Gauge::OutboxBytes, to_u64(after));
        self.numbers.lower(Gauge::OutboxBytes, to_u64(before));
        let Some(next) = next else {
            self.numbers.lower(Gauge::Backlogs, 1);
            if !slot.is_clear() {
                return self.abandon_tls(token.slot, Failure::WornOut);
            }
            if slot.conn.stage() == Stage::Talking {
                self.call(token.slot, Connection::unblocked);
            } else {
                self.see_off(token.slot);
            }
            return;
        };
        self.ring.send_owned(slot.socket, token, next);
    }
}
