//! Calls into connections, and what follows from them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::conn::connection::{Connection, Stage};
use crate::conn::outbox::{Piece, Pushed, arena_range};
use crate::conn::{self, Tally};
use crate::dialect::cause::Cause;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::ring::{Lease, Ring, Token};

use super::slots::{Reading, Slot};
use super::{Desk, Shard, WRITTEN_BYTES_MAX};

/// Runs `run` on a slot's connection; a panic ends that connection only.
pub(super) fn guarded(
    desk: &mut Desk,
    slot: &mut Slot,
    run: impl FnOnce(&mut Connection, &mut conn::Context<'_>),
) -> bool {
    let start = desk.arena.len();
    let guest = slot.extras.guest_mut();
    let mut cx = desk.context(guest, slot.outbox.is_backlogged());
    let conn = &mut slot.conn;
    if catch_unwind(AssertUnwindSafe(|| run(conn, &mut cx))).is_ok() {
        return true;
    }
    desk.arena.truncate(start);
    desk.actions.clear();
    conn.crash(&mut desk.context(None, false));
    false
}

impl<R: Ring> Shard<R> {
    /// Calls the connection in slot `index` and does what it wants.
    pub(super) fn call(
        &mut self,
        index: u32,
        run: impl FnOnce(&mut Connection, &mut conn::Context<'_>),
    ) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        if slot.flags.closing {
            return;
        }
        let start = self.desk.arena.len();
        if !guarded(&mut self.desk, slot, run) {
            self.numbers.count(Counter::Panics, 1);
        }
        self.settle(index, start);
    }

    /// Gives received bytes to a connection; the lease is back afterwards.
    pub(super) fn receive(&mut self, token: Token, lease: Lease) {
        self.numbers.count(Counter::BytesReceived, u64::from(lease.len()));
        let start = self.desk.arena.len();
        let slot = self.slots.get_mut(token).filter(|slot| !slot.flags.closing);
        let Some(slot) = slot else {
            self.ring.release(lease);
            return;
        };
        if slot.extras.tls().is_some() {
            return self.receive_records(token, lease);
        }
        let input = self.ring.bytes(&lease);
        let whole = guarded(&mut self.desk, slot, |conn, cx| conn.receive(input, cx));
        self.ring.release(lease);
        if !whole {
            self.numbers.count(Counter::Panics, 1);
        }
        self.notice_lack(token.slot);
        self.settle(token.slot, start);
    }

    /// Does what a connection has asked for in a call, which wrote to the arena from `start` on.
    pub(super) fn settle(&mut self, index: u32, start: usize) {
        let end = self.desk.arena.len();
        let tally = std::mem::take(&mut self.desk.tally);
        if end > start {
            self.push(index, Piece::Turn(arena_range(start, end)), &tally);
        }
        let protocol = self.slots.at_mut(index).and_then(|slot| {
            slot.story.note(&tally);
            slot.conn.protocol()
        });
        self.count(&tally, protocol);
        if !self.desk.actions.is_empty() {
            self.act(index);
        }
        self.review(index);
    }

    /// Queues whole frames for a connection, written in a call with this tally.
    fn push(&mut self, index: u32, piece: Piece, tally: &Tally) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let len = piece.len();
        let (arena, settings) = (&self.desk.arena, &self.desk.settings.outbox);
        let pushed = if tally.control_bytes == len {
            slot.outbox.push_control(piece, arena)
        } else {
            slot.outbox.push(piece, arena, settings)
        };
        self.note_queued(len, 1);
        self.watch(index, pushed);
    }

    /// Counts what was queued for clients.
    pub(super) fn note_queued(&self, len: usize, clients: usize) {
        self.numbers.raise(Gauge::OutboxBytes, super::to_u64(len * clients));
    }

    /// Sees to it that what was queued goes out, or that a client which does not read is noticed.
    pub(super) fn watch(&mut self, index: u32, pushed: Pushed) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        if !slot.outbox.is_backlogged() {
            if !slot.flags.dirty {
                slot.flags.dirty = true;
                self.dirty.push(index);
            }
            return;
        }
        slot.outbox.watch_soft_limit(&self.desk.settings.outbox, self.now);
        let bytes = super::memory::heap_bytes(slot);
        self.weights.set(index, bytes);
        let Some(slot) = self.slots.at_mut(index) else { return };
        if pushed == Pushed::OverLimit && slot.conn.stage() == Stage::Talking {
            self.give_up_slow(index, Cause::SlowFull);
        } else {
            self.schedule(index);
        }
    }

    /// Looks at what a connection needs next: reading, ending, a deadline.
    pub(super) fn review(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        match slot.conn.stage() {
            Stage::Talking => {
                if slot.conn.is_ready() && !slot.flags.ready {
                    slot.flags.ready = true;
                    self.ready.push(index);
                }
                self.adjust_reading(index);
            }
            Stage::LastWords => {
                self.leave_topics(index);
                self.adjust_reading(index);
                self.see_off(index);
            }
            Stage::Over(_) => {
                self.leave_topics(index);
                self.see_off(index);
            }
        }
        self.weigh(index);
        self.schedule(index);
    }

    /// Arms or ends receiving as the connection wants it.
    fn adjust_reading(&mut self, index: u32) {
        let Some(token) = self.slots.token(index) else { return };
        let Some(slot) = self.slots.at_mut(index) else { return };
        match (slot.reading, slot.conn.wants_input()) {
            (Reading::Armed, false) => {
                slot.reading = Reading::Cancelling;
                self.ring.cancel_receive(slot.socket, token);
            }
            (Reading::Paused, true) => {
                slot.reading = Reading::Armed;
                self.ring.receive(slot.socket, token);
            }
            _ => {}
        }
    }

    /// Enters the connection's next deadline into the wheel.
    pub(super) fn schedule(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        if slot.flags.closing {
            return;
        }
        let deadline = slot.conn.deadline(&self.desk.settings);
        if let Some(deadline) = deadline.into_iter().chain(slot.slow_at()).min() {
            slot.scheduled = self.wheel.schedule(index, deadline, slot.scheduled);
        }
    }

    /// Hands over the answers that could be given at once.
    pub(super) fn hand_over_answers(&mut self) {
        while let Some((token, ticket, answer)) = self.answers.pop_front() {
            if self.slots.get_mut(token).is_some() {
                self.call(token.slot, |conn, cx| conn.answer(ticket, answer, cx));
            }
        }
    }

    /// Goes on with connections whose bytes were too many for one turn.
    pub(super) fn resume_ready(&mut self) {
        let arena_max = self.desk.arena.len() + WRITTEN_BYTES_MAX;
        let mut ready = std::mem::take(&mut self.ready);
        let (mut seen, mut waiting) = (0, 0);
        while self.desk.arena.len() < arena_max && seen < ready.len() {
            let index = ready[seen];
            seen += 1;
            let Some(slot) = self.slots.at_mut(index) else { continue };
            if self.desk.codec.is_spent() && slot.conn.inflates() {
                ready[waiting] = index;
                waiting += 1;
                continue;
            }
            slot.flags.ready = false;
            if slot.conn.is_ready() {
                self.call(index, Connection::resume);
            }
        }
        // The others come first in the next turn.
        ready.drain(waiting..seen);
        ready.append(&mut self.ready);
        self.ready = ready;
        self.hand_over_answers();
    }
}
