//! Memory: what each connection owns, what a shard holds, and what is done when the process runs short.

use std::sync::Arc;

use crate::conn::connection::Stage;
use crate::conn::{self};
use crate::dialect::cause::Cause;
use crate::mail::message::Shortage;
use crate::metrics::catalogue::Gauge;
use crate::metrics::ledger::Ledger;
use crate::ring::Ring;

use super::labels::PauseReason;
use super::slots::{SLOT_BYTES, Slot};
use super::{Accepting, Shard, to_u64};

/// A connection that holds less is not worth closing.
const SHED_BYTES_MIN: usize = 16 * 1024;

/// Idle connections and unfinished messages last this part of their time when memory is short.
const IDLE_SHARE: u32 = 4;

/// What each connection owned when it was last looked at, beside the slots: most own nothing.
#[derive(Debug, Default)]
pub(super) struct Weights {
    by_slot: Vec<u32>,
    sum: usize,
    /// The slot that was last looked at to see whether its weight is right.
    checked: u32,
}

impl Weights {
    pub(super) fn sum(&self) -> usize {
        self.sum
    }

    fn of(&self, index: u32) -> usize {
        self.by_slot.get(index as usize).map_or(0, |bytes| *bytes as usize)
    }

    pub(super) fn set(&mut self, index: u32, bytes: usize) {
        let at = index as usize;
        if self.by_slot.len() <= at {
            if bytes == 0 {
                return;
            }
            self.by_slot.resize(at + 1, 0);
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sum = self.sum - self.by_slot[at] as usize + bytes as usize;
        self.by_slot[at] = bytes;
    }
}

/// Bytes that a connection owns alone.
pub(super) fn heap_bytes(slot: &Slot) -> usize {
    slot.conn.heap_bytes()
        + slot.outbox.heap_bytes()
        + slot.memberships.heap_bytes()
        + slot.extras.heap_bytes()
}

impl<R: Ring> Shard<R> {
    /// Looks again at what a connection owns.
    pub(super) fn weigh(&mut self, index: u32) {
        let bytes = self.slots.at_mut(index).map_or(0, |slot| heap_bytes(slot));
        self.weights.set(index, bytes);
    }

    /// Looks again at those whose output was flushed and had been copied, or is kept for the next turn.
    pub(super) fn weigh_flushed(&mut self) {
        for at in 0..self.flush.len() {
            let index = self.flush.slot(at);
            if self.weights.of(index) > 0 {
                self.weigh(index);
            }
        }
        for at in 0..self.dirty.len() {
            self.weigh(self.dirty[at]);
        }
        debug_assert!(self.is_next_weight_right(), "slot {} was not weighed", self.weights.checked);
    }

    /// Whether the books are right about one slot, another one each time: for builds that are tested.
    fn is_next_weight_right(&mut self) -> bool {
        self.weights.checked = (self.weights.checked + 1) % self.slots.end().max(1);
        let index = self.weights.checked;
        let found = self.slots.at_mut(index).map_or(0, |slot| heap_bytes(slot));
        self.weights.of(index) == found
    }

    /// Shows what this shard holds, with `history_bytes` of the topics at home here, whoever gives
    /// them their order.
    pub(super) fn publish_memory(&mut self, history_bytes: usize) {
        let slots = self.slots.end() as usize * SLOT_BYTES;
        let pools = slots
            + self.settings.buffers_bytes
            + self.desk.arena.capacity()
            + self.desk.codec.heap_bytes();
        for (ledger, bytes) in [
            (Ledger::Private, self.weights.sum()),
            (Ledger::Frames, self.frames.bytes()),
            (Ledger::History, history_bytes),
            (Ledger::Pools, pools),
        ] {
            self.numbers.memory(ledger, to_u64(bytes));
        }
    }

    /// Memory is as short as this from now on.
    pub(super) fn set_shortage(&mut self, shortage: Shortage) {
        let before = std::mem::replace(&mut self.shortage, shortage);
        let (was_mild, is_mild) = (before >= Shortage::Mild, shortage >= Shortage::Mild);
        if was_mild != is_mild {
            if is_mild {
                self.desk.codec.rest();
            } else {
                self.desk.codec.resume();
            }
            self.desk.settings = of_connections(&self.settings.conn, shortage);
            // A shorter time may have passed already.
            for index in 0..self.slots.end() {
                self.schedule(index);
            }
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            match (listener.accepting, shortage) {
                (Accepting::Armed, Shortage::Critical) => {
                    listener.accepting = Accepting::Held { is_ended: false };
                    self.ring.cancel_accept(index);
                    self.numbers.accept_paused(PauseReason::Memory);
                }
                (Accepting::Paused(_), Shortage::Critical) => {
                    listener.accepting = Accepting::Held { is_ended: true };
                    self.numbers.accept_paused(PauseReason::Memory);
                }
                (Accepting::Held { is_ended }, now) if now < Shortage::Critical => {
                    listener.accepting = Accepting::Armed;
                    // Otherwise it is armed when the end of the last accept comes.
                    if is_ended {
                        self.ring.accept(index);
                    }
                }
                _ => {}
            }
        }
    }

    /// Closes those who hold most until about `bytes` are free: what they own, and what waits for them.
    pub(super) fn shed(&mut self, bytes: usize) {
        let talking = self.slots.iter().filter(|(_, slot)| slot.conn.stage() == Stage::Talking);
        let held = talking.map(|(index, slot)| (heap_bytes(slot).max(slot.outbox.bytes()), index));
        let mut held: Vec<(usize, u32)> =
            held.filter(|(bytes, _)| *bytes >= SHED_BYTES_MIN).collect();
        held.sort_unstable();
        let mut freed = 0;
        while freed < bytes
            && let Some((bytes, index)) = held.pop()
        {
            freed += bytes;
            self.shed_one(index);
        }
    }

    fn shed_one(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let dropped = slot.outbox.drop_queued();
        self.closes.note_unsent(index, dropped);
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        self.call(index, |conn, cx| conn.end(Cause::Shed, cx));
    }
}

/// The settings of connections while memory is as short as this.
pub(super) fn of_connections(
    settings: &Arc<conn::Settings>,
    shortage: Shortage,
) -> Arc<conn::Settings> {
    if shortage < Shortage::Mild {
        return Arc::clone(settings);
    }
    Arc::new(in_shortage(settings))
}

/// The settings while memory is short: idle connections and unfinished messages end sooner.
fn in_shortage(settings: &conn::Settings) -> conn::Settings {
    let mut short = settings.clone();
    short.idle_timeout = settings.idle_timeout.map(|time| time / IDLE_SHARE);
    short.message_timeout = settings.message_timeout / IDLE_SHARE;
    short
}
