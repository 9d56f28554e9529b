//! The end of connections: the last flush, FIN, close, and the count.

use crate::conn::connection::{Leave, Stage};
use crate::dialect::cause::Cause;
use crate::mail::close::Event;
use crate::metrics::catalogue::{Counter, Gauge};
use crate::metrics::close_code::CloseCodeLabel;
use crate::ring::{Errno, Ring, Token};

use super::{Shard, farewell, to_u64};

impl<R: Ring> Shard<R> {
    /// A client reads too slowly, as `cause` says: its queue is dropped, and it is told so if it
    /// still can be.
    pub(super) fn give_up_slow(&mut self, index: u32, cause: Cause) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let dropped = slot.outbox.drop_queued();
        slot.story.history.note(Event::OutputDropped);
        self.closes.note_unsent(index, dropped);
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        if slot.conn.stage() == Stage::Talking {
            self.numbers.count(Counter::OutboxOverflows, 1);
            self.call(index, |conn, cx| conn.end(cause, cx));
        } else {
            self.call(index, |conn, _| conn.abandon(cause));
        }
    }

    /// Does what an ending connection needs now: nothing before its last bytes have gone, then FIN,
    /// then close.
    pub(super) fn see_off(&mut self, index: u32) {
        let Some(token) = self.slots.token(index) else { return };
        let Some(slot) = self.slots.at_mut(index) else { return };
        if slot.flags.closing {
            return;
        }
        let leave = match slot.conn.stage() {
            Stage::Talking => return,
            Stage::Over(leave @ Leave::Reset) => leave,
            stage => {
                slot.close_tls();
                if !slot.is_clear() {
                    if !slot.flags.leaving && !slot.outbox.is_backlogged() {
                        slot.flags.leaving = true;
                        self.leaving.push(index);
                        self.send_records(index);
                    }
                    return;
                }
                match stage {
                    Stage::Over(leave) => leave,
                    Stage::Talking | Stage::LastWords => {
                        if !slot.flags.shut {
                            slot.flags.shut = true;
                            self.ring.shutdown(slot.socket);
                        }
                        return;
                    }
                }
            }
        };
        self.leave_topics(index);
        self.give_up_handshake(index);
        let Some(slot) = self.slots.at_mut(index) else { return };
        if slot.outbox.is_backlogged() {
            self.numbers.lower(Gauge::Backlogs, 1);
        }
        let opened = slot.extras.take_tls().map_or(0, |tls| tls.opened_bytes());
        let (dropped, socket) = (slot.outbox.clear() + opened, slot.socket);
        self.numbers.lower(Gauge::OutboxBytes, to_u64(dropped));
        slot.flags.closing = true;
        self.weigh(index);
        self.closes.note_unsent(index, dropped);
        self.record_close(index);
        self.ring.close(socket, token, farewell(leave));
    }

    /// Looks again at connections that waited for the flush.
    pub(super) fn depart(&mut self) {
        for index in std::mem::take(&mut self.leaving) {
            if let Some(slot) = self.slots.at_mut(index) {
                slot.flags.leaving = false;
                self.see_off(index);
                self.weigh(index);
            }
        }
    }

    /// The socket is closed and nothing of it is in flight: the slot is free.
    pub(super) fn closed(&mut self, token: Token) {
        let Some(mut slot) = self.slots.remove(token) else { return };
        self.leave_seat(&mut slot);
        self.weigh(token.slot);
        self.hurry_accept();
        let verdict = slot.conn.verdict();
        match slot.conn.protocol() {
            Some(protocol) => {
                let code = CloseCodeLabel::of(verdict.code);
                self.numbers.closed(code, verdict.cause, protocol);
            }
            None => {
                self.handshaking -= 1;
                self.numbers.handshake_ended(verdict.cause);
            }
        }
    }
}

/// The cause that a failure of the transport is.
pub(super) fn transport_cause(errno: Errno) -> Cause {
    match errno.0 {
        32 => Cause::BrokenPipe,                     // EPIPE
        104 => Cause::Reset,                         // ECONNRESET
        110 => Cause::TcpTimeout,                    // ETIMEDOUT
        100 | 101 | 112 | 113 => Cause::Unreachable, // ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH
        _ => Cause::TransportError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_transport_are_told_apart() {
        let causes = [
            (libc::ECONNRESET, Cause::Reset),
            (libc::ETIMEDOUT, Cause::TcpTimeout),
            (libc::EPIPE, Cause::BrokenPipe),
            (libc::EHOSTUNREACH, Cause::Unreachable),
            (libc::ENETUNREACH, Cause::Unreachable),
            (libc::EHOSTDOWN, Cause::Unreachable),
            (libc::ENETDOWN, Cause::Unreachable),
            (libc::ECONNABORTED, Cause::TransportError),
            (libc::EBADF, Cause::TransportError),
        ];
        for (errno, cause) in causes {
            assert_eq!(transport_cause(Errno(errno)), cause, "errno {errno}");
        }
    }
}
