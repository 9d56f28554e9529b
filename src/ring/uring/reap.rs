//! What each completion of the kernel means to the shard.

use io_uring::cqueue;

use super::Uring;
use super::buffers::Filled;
use super::queue::Reaped;
use super::user_data::{Kind, UserData};
use crate::ring::slots::Part;
use crate::ring::{Completion, End, Errno, Socket, Token};

impl Uring {
    /// Handles everything that was reaped and appends what it means.
    pub(super) fn handle_reaped(&mut self, completions: &mut Vec<Completion>) {
        let reaped = self.queue.take_reaped();
        let wakes_before = self.queue.stats.wakes_received;
        for &entry in &reaped {
            match UserData::decode(entry.user_data) {
                Some(user_data) => self.handle(user_data, entry, completions),
                None => self.queue.stats.stale += 1,
            }
        }
        if self.queue.stats.wakes_received != wakes_before {
            completions.push(Completion::Woken);
        }
        // Handling may have entered the kernel for room, and so reaped more.
        if self.queue.is_idle() {
            self.queue.reuse(reaped);
        }
    }

    fn handle(&mut self, of: UserData, entry: Reaped, completions: &mut Vec<Completion>) {
        let last = !cqueue::more(entry.flags);
        match of.kind {
            Kind::Accept => self.accepted(of.slot as usize, entry, completions),
            Kind::Receive => self.received(of.token(), entry, completions),
            Kind::CancelReceive => self.receive_cancelled(of.token(), entry, completions),
            Kind::SendOwned => self.sent_owned(of.token(), entry, completions),
            Kind::CancelAll => self.part_ended(of.token(), Part::CancelAll, completions),
            Kind::Close => self.part_ended(of.token(), Part::Close, completions),
            Kind::Send => {
                self.queue.stats.short_sends += 1;
                let index = of.generation as usize;
                let sent = usize::try_from(entry.result).unwrap_or(0);
                completions.push(Completion::SendShort { index, sent, errno: errno(entry) });
            }
            Kind::Eventfd => {
                self.queue.stats.wakes_received += 1;
                if last {
                    self.in_flight -= 1;
                    self.rewatch_eventfd(entry);
                }
            }
            Kind::Wake => self.wakes.notify(of.slot as usize),
            Kind::Woken => self.queue.stats.wakes_received += 1,
            Kind::CancelAccept | Kind::CancelRing => self.in_flight -= 1,
            Kind::SelfTest => self.queue.stats.stale += 1,
        }
    }

    /// The poll of the eventfd ends only under overflow, or because the ring goes.
    fn rewatch_eventfd(&mut self, entry: Reaped) {
        if entry.result != -libc::ECANCELED {
            self.watch_eventfd();
        }
    }

    fn accepted(&mut self, listener: usize, entry: Reaped, completions: &mut Vec<Completion>) {
        let last = !cqueue::more(entry.flags);
        self.in_flight -= usize::from(last);
        let errno = errno(entry);
        if errno.is_none() {
            self.queue.stats.accepted += 1;
            completions.push(Completion::Accepted { listener, socket: Socket(entry.result) });
            if !self.accepts_many(listener) && self.accepting[listener] {
                return self.accept_next.push(listener);
            }
        }
        if last {
            let errno = errno.filter(|errno| errno.0 != libc::ECANCELED);
            completions.push(Completion::AcceptEnded { listener, errno });
        }
    }

    fn received(&mut self, token: Token, entry: Reaped, completions: &mut Vec<Completion>) {
        let last = !cqueue::more(entry.flags);
        let known = self.slots.has(token, Part::Receive);
        self.queue.stats.stale += u64::from(!known);
        if let Some(filled) = filled(entry) {
            if filled.len == 0 || !known || self.slots.is_closing(token) {
                self.buffers.discarded(filled);
            } else {
                let lease = self.buffers.filled(filled);
                completions.push(Completion::Received { token, lease });
            }
        }
        if !last || !known {
            return;
        }
        self.in_flight -= 1;
        self.slots.end(token, Part::Receive);
        let end = match entry.result {
            1.. => End::Spent,
            0 => End::Fin,
            result if result == -libc::ENOBUFS => {
                self.queue.stats.starved += 1;
                self.buffers.exhausted();
                End::NoBuffers
            }
            result if result == -libc::ECANCELED => End::Cancelled,
            result => End::Failed(Errno(-result)),
        };
        completions.push(Completion::ReceiveEnded { token, end });
        self.free(token, completions);
    }

    fn receive_cancelled(
        &mut self,
        token: Token,
        entry: Reaped,
        completions: &mut Vec<Completion>,
    ) {
        self.part_ended(token, Part::CancelReceive, completions);
        // ENOENT, EALREADY: it was about to complete. When that was not its last completion, it
        // must be cancelled again.
        let missed = entry.result < 0 && self.slots.has(token, Part::Receive);
        if missed && !self.slots.is_closing(token) {
            self.cancel_receive_again(token);
        }
    }

    fn sent_owned(&mut self, token: Token, entry: Reaped, completions: &mut Vec<Completion>) {
        if !self.slots.has(token, Part::Send) {
            self.queue.stats.stale += 1;
            return;
        }
        self.owned.drop_at(self.slots.send(token));
        let sent = usize::try_from(entry.result).map_err(|_| Errno(-entry.result));
        completions.push(Completion::SendDone { token, result: sent });
        self.part_ended(token, Part::Send, completions);
    }

    fn part_ended(&mut self, token: Token, part: Part, completions: &mut Vec<Completion>) {
        if self.slots.end(token, part) {
            self.in_flight -= 1;
            self.free(token, completions);
        } else {
            self.queue.stats.stale += 1;
        }
    }

    fn free(&mut self, token: Token, completions: &mut Vec<Completion>) {
        if self.slots.free(token) {
            completions.push(Completion::Closed { token });
        }
    }

    /// Undoes a completion that nobody will handle.
    pub(super) fn discard(&mut self, completion: Completion) {
        match completion {
            Completion::Received { lease, .. } => self.buffers.release(lease),
            Completion::Accepted { socket, .. } => close_now(socket),
            Completion::AcceptEnded { .. }
            | Completion::ReceiveEnded { .. }
            | Completion::SendShort { .. }
            | Completion::SendDone { .. }
            | Completion::Closed { .. }
            | Completion::Woken => {}
        }
    }
}

/// Closes a socket that was accepted while the ring went.
fn close_now(socket: Socket) {
    drop(super::own(socket));
}

/// The error of a completion that is not a success.
fn errno(entry: Reaped) -> Option<Errno> {
    (entry.result < 0).then(|| Errno(-entry.result))
}

/// The buffer of a receive.
fn filled(entry: Reaped) -> Option<Filled> {
    let buffer = cqueue::buffer_select(entry.flags)?;
    let len = u32::try_from(entry.result).unwrap_or(0);
    Some(Filled { buffer, len, more: cqueue::buffer_more(entry.flags) })
}
