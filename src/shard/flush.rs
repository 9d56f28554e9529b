//! The end of a turn: one send for each connection with output.

use crate::conn::outbox::Piece;
use crate::mail::close::Event;
use crate::mail::message::Shortage;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::ring::{Completion, Errno, Ring, Sends, Socket, Token};

use super::ending::transport_cause;
use super::{Shard, WRITTEN_BYTES_MAX, to_u64};

/// An arena that has grown beyond this is given back when turns no longer fill half of it.
const ARENA_BYTES_KEPT: usize = 1024 * 1024;

/// The share of the arena's high-water mark that each turn takes off: one that is not reached any more
/// is halved in some 45 turns.
const HIGH_WATER_DECAY: usize = 64;

/// EAGAIN: the socket is full.
const FULL: Errno = Errno(11);

/// The sends that are under way in this turn.
#[derive(Debug, Default)]
pub(super) struct Flush {
    flights: Vec<Flight>,
    /// Bytes of all flights.
    bytes: usize,
    /// What the arena has held lately at the end of a turn.
    high_water: usize,
    /// Of those that had to wait, how many have not had their turn yet.
    behind: usize,
}

#[derive(Debug)]
struct Flight {
    token: Token,
    socket: Socket,
    piece: Piece,
}

/// A [`Flush`] with the arena that its pieces point into.
pub(super) struct Batch<'a> {
    flights: &'a [Flight],
    arena: &'a [u8],
}

impl Sends for Batch<'_> {
    fn len(&self) -> usize {
        self.flights.len()
    }

    fn get(&self, index: usize) -> (Socket, &[u8]) {
        let flight = &self.flights[index];
        (flight.socket, flight.piece.bytes(self.arena))
    }
}

impl Flush {
    pub(super) fn sends<'a>(&'a self, arena: &'a [u8]) -> Batch<'a> {
        Batch { flights: &self.flights, arena }
    }
}

impl Flush {
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Bytes of the arena that are worth keeping after a turn which filled `len` of them. What earlier turns
    /// needed is forgotten when memory is short: a shard that has gone quiet has few turns to find out.
    fn arena_bytes_kept(&mut self, len: usize, shortage: Shortage) -> usize {
        let lately = if shortage < Shortage::Mild { self.high_water } else { 0 };
        self.high_water = len.max(lately - lately / HIGH_WATER_DECAY);
        self.high_water.max(ARENA_BYTES_KEPT)
    }

    /// Whether somebody waits for us, not for a socket: no limit counts what is queued for them meanwhile.
    pub(super) fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// Notes that `served` of those with output had their turn, and `waiting` did not.
    ///
    /// Those who wait come first the next time. Whoever joins them meanwhile is counted when they have had
    /// their turn, so that what goes on without deliveries cannot keep these waiting for ever.
    fn note_served(&mut self, served: usize, waiting: usize) {
        self.behind = match self.behind {
            0 => waiting,
            behind => behind.saturating_sub(served),
        };
    }

    /// The slot whose send is number `at`.
    pub(super) fn slot(&self, at: usize) -> u32 {
        self.flights[at].token.slot
    }
}

impl<R: Ring> Shard<R> {
    /// Takes one send from each connection with output, in the order in which they got it, until as much
    /// is copied as one turn may; the others come first in the next one.
    pub(super) fn prepare_flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let arena_max = self.desk.arena.len() + WRITTEN_BYTES_MAX;
        let mut waiting = Vec::new();
        let (mut bytes, mut taken_bytes) = (0, 0);
        let listed = dirty.len();
        dirty.retain(|&index| {
            let Some(token) = self.slots.token(index) else { return false };
            let Some(slot) = self.slots.at_mut(index) else { return false };
            if self.desk.arena.len() >= arena_max {
                slot.outbox.leave_arena(&self.desk.arena);
                waiting.push(index);
                return false;
            }
            slot.flags.dirty = false;
            if slot.flags.closing || slot.outbox.is_backlogged() {
                return false;
            }
            let queued = slot.queued_bytes();
            let taken = match slot.extras.tls_mut() {
                None => Ok(slot.outbox.take_flight(&mut self.desk.arena)),
                Some(tls) => tls.take_flight(&mut slot.outbox, &mut self.desk.arena),
            };
            taken_bytes += queued - slot.queued_bytes();
            let piece = match taken {
                Ok(Some(piece)) => piece,
                Ok(None) => return false,
                Err(failure) => {
                    self.abandon_tls(index, failure);
                    return false;
                }
            };
            bytes += piece.len();
            self.flush.flights.push(Flight { token, socket: slot.socket, piece });
            slot.flags.dirty = !slot.is_clear();
            slot.flags.dirty
        });
        self.flush.note_served(listed - waiting.len(), waiting.len());
        // The list keeps its memory from turn to turn; those that wait are few, and mostly none.
        dirty.splice(0..0, waiting);
        // Giving up a connection can give another one output.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.flush.bytes = bytes;
        self.numbers.lower(Gauge::OutboxBytes, to_u64(taken_bytes));
    }

    /// Turns what the sockets refused into backlogs; everything else has gone.
    pub(super) fn settle_flush(&mut self) {
        for at in 0..self.completions.len() {
            if let Completion::SendShort { index, sent, errno } = self.completions[at] {
                self.refused(index, sent, errno);
            }
        }
        self.numbers.count(Counter::BytesSent, to_u64(self.flush.bytes));
        self.flush.flights.clear();
        self.empty_arena();
    }

    /// Empties the arena. Its memory stays while turns need it: it would only be fetched from the
    /// system, page by page, by the next one.
    fn empty_arena(&mut self) {
        let kept = self.flush.arena_bytes_kept(self.desk.arena.len(), self.shortage);
        self.desk.arena.clear();
        if self.desk.arena.capacity() > 2 * kept {
            self.desk.arena.shrink_to(kept);
        }
    }

    fn refused(&mut self, flight: usize, sent: usize, errno: Option<Errno>) {
        let Flight { token, piece, .. } = &self.flush.flights[flight];
        let (token, piece) = (*token, piece.clone());
        let unsent = piece.len() - sent;
        self.flush.bytes -= unsent;
        let Some(slot) = self.slots.get_mut(token) else { return };
        if let Some(errno) = errno.filter(|errno| *errno != FULL) {
            slot.story.history.note(Event::Failed);
            let dropped = slot.outbox.clear();
            self.closes.note_unsent(token.slot, dropped + unsent);
            self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
            let cause = transport_cause(errno);
            self.call(token.slot, |conn, _| conn.handle_failure(cause));
            return;
        }
        let settings = &self.desk.settings.outbox;
        let rest = slot.outbox.refused(piece, sent, &self.desk.arena, settings, self.now);
        self.numbers.raise(Gauge::OutboxBytes, to_u64(unsent));
        self.numbers.raise(Gauge::Backlogs, 1);
        slot.story.history.note(Event::BacklogBegan);
        self.ring.send_owned(slot.socket, token, rest);
        self.weigh(token.slot);
        self.schedule(token.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arena_is_given_back_slowly_and_at_once_when_memory_is_short() {
        const MIB: usize = 1024 * 1024;
        let mut flush = Flush::default();
        assert_eq!(flush.arena_bytes_kept(64 * MIB, Shortage::None), 64 * MIB);
        assert_eq!(flush.arena_bytes_kept(0, Shortage::None), 63 * MIB);
        assert_eq!(flush.arena_bytes_kept(2 * MIB, Shortage::Mild), 2 * MIB);
        assert_eq!(flush.arena_bytes_kept(0, Shortage::Mild), ARENA_BYTES_KEPT);
    }

    #[test]
    fn deliveries_wait_until_those_that_waited_were_served_and_no_longer() {
        let mut flush = Flush::default();
        flush.note_served(9, 0);
        assert!(!flush.is_behind());
        flush.note_served(3, 5);
        assert!(flush.is_behind());
        // Others have output meanwhile: two of the five are left, then none.
        flush.note_served(3, 7);
        assert!(flush.is_behind());
        flush.note_served(4, 6);
        assert!(!flush.is_behind(), "deliveries have a turn");
        flush.note_served(4, 6);
        assert!(flush.is_behind());
    }
}
