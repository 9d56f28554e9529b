//! What is in flight for one simulated connection, and how it comes back.

use bytes::Bytes;

use super::lender::Lender;
use super::pipe::Inbound;
use super::world::State;
use crate::ring::slots::{Part, Slots};
use crate::ring::{Completion, End, Errno, Farewell, Socket, Token};

/// A connection that was named by a token.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) token: Token,
    pub(super) pipe: usize,
    pub(super) receive: Option<Receive>,
    pub(super) send: Option<Bytes>,
    pub(super) close: Option<Close>,
}

/// An armed receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Armed,
    /// A cancel is under way; the receive may still end in any other way before it.
    Cancelled,
}

/// A close that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The descriptor is still open.
    Asked(Farewell),
    /// The descriptor is closed and may be in use again.
    Done,
}

/// What a connection's completions are made from.
pub(super) struct Kernel<'a> {
    pub(super) world: &'a mut State,
    pub(super) lender: &'a mut Lender,
    pub(super) slots: &'a mut Slots,
    pub(super) starved: &'a mut u64,
}

impl Connection {
    /// Whether something would complete without anything else happening.
    pub(super) fn is_due(&self, world: &State) -> bool {
        let pipe = &world.pipes[self.pipe];
        let receive = self.receive.is_some_and(|receive| {
            receive == Receive::Cancelled || pipe.inbound() != Inbound::Nothing
        });
        let send = self.send.is_some() && pipe.is_writable();
        receive || send || self.close.is_some()
    }

    /// Lets due operations complete, or some of them; appends what completed.
    ///
    /// `true`: the token's last completion was appended.
    pub(super) fn poll(&mut self, kernel: &mut Kernel<'_>, out: &mut Vec<Completion>) -> bool {
        // Receiving and sending are independent: either may be reported first.
        if kernel.world.dice.delays() {
            self.poll_send(kernel, out);
            self.poll_receive(kernel, out);
        } else {
            self.poll_receive(kernel, out);
            self.poll_send(kernel, out);
        }
        self.poll_close(kernel);
        if self.close == Some(Close::Done) {
            // What was cancelled may come back after the descriptor is gone.
            self.poll_receive(kernel, out);
            self.poll_send(kernel, out);
        }
        let free = self.close == Some(Close::Done)
            && self.receive.is_none()
            && self.send.is_none()
            && !kernel.world.dice.delays();
        if free {
            assert!(kernel.slots.free(self.token));
            out.push(Completion::Closed { token: self.token });
        }
        free
    }

    fn poll_receive(&mut self, kernel: &mut Kernel<'_>, out: &mut Vec<Completion>) {
        while let Some(receive) = self.receive {
            if kernel.world.dice.delays() {
                return;
            }
            let inbound = kernel.world.pipes[self.pipe].inbound();
            let cancelled = receive == Receive::Cancelled;
            // A cancel that meets a receive about to complete may lose (EALREADY, ENOENT).
            let races = cancelled && self.close != Some(Close::Done) && kernel.world.dice.delays();
            if cancelled && !races {
                return self.end_receive(kernel, End::Cancelled, out);
            }
            let spent = kernel.world.dice.faults.spent;
            match inbound {
                Inbound::Bytes(bytes) => self.receive_bytes(bytes, kernel, out),
                Inbound::Fin => self.end_receive(kernel, End::Fin, out),
                Inbound::Failed => {
                    let errno = kernel.world.pipes[self.pipe].take_error();
                    let errno = errno.expect("the pipe has failed");
                    self.end_receive(kernel, End::Failed(errno), out);
                }
                Inbound::Nothing if kernel.world.dice.happens(spent) => {
                    self.end_receive(kernel, End::Spent, out);
                }
                Inbound::Nothing if cancelled => {}
                Inbound::Nothing => return,
            }
        }
    }

    fn receive_bytes(&mut self, ready: usize, kernel: &mut Kernel<'_>, out: &mut Vec<Completion>) {
        let faults = kernel.world.dice.faults;
        if kernel.lender.vacant() == 0 || kernel.world.dice.happens(faults.no_buffers) {
            *kernel.starved += 1;
            return self.end_receive(kernel, End::NoBuffers, out);
        }
        // A shared buffer is filled from its front: bytes may lie anywhere in it.
        let start = match faults.delay > 0.0 {
            true => kernel.world.dice.below(kernel.lender.bytes_max()),
            false => 0,
        };
        let most = ready.min(kernel.lender.bytes_max() - start);
        let len = kernel.world.dice.some_of(most, faults.short_receive);
        let bytes = kernel.world.pipes[self.pipe].take(len);
        if self.close.is_none() {
            let lease = kernel.lender.lend(start, bytes).expect("a buffer is vacant");
            out.push(Completion::Received { token: self.token, lease });
        } else {
            drop(bytes);
        }
        if kernel.world.dice.happens(faults.spent) {
            self.end_receive(kernel, End::Spent, out);
        }
    }

    fn end_receive(&mut self, kernel: &mut Kernel<'_>, end: End, out: &mut Vec<Completion>) {
        self.receive = None;
        assert!(kernel.slots.end(self.token, Part::Receive));
        kernel.slots.end(self.token, Part::CancelReceive);
        out.push(Completion::ReceiveEnded { token: self.token, end });
    }

    fn poll_send(&mut self, kernel: &mut Kernel<'_>, out: &mut Vec<Completion>) {
        let Some(bytes) = &self.send else { return };
        let state = &mut *kernel.world;
        let pipe = &mut state.pipes[self.pipe];
        let cancelled = match self.close {
            Some(Close::Done) => true,
            // A send that meets its cancel may still succeed.
            Some(Close::Asked(_)) => !pipe.is_writable() || !state.dice.delays(),
            None => false,
        };
        if state.dice.delays() || !cancelled && !pipe.is_writable() {
            return;
        }
        let result = if cancelled {
            Err(Errno(libc::ECANCELED))
        } else {
            let most = state.dice.some_of(bytes.len(), state.dice.faults.short_send);
            pipe.send(bytes, most)
        };
        self.send = None;
        assert!(kernel.slots.end(self.token, Part::Send));
        out.push(Completion::SendDone { token: self.token, result });
    }

    fn poll_close(&mut self, kernel: &mut Kernel<'_>) {
        let Some(Close::Asked(farewell)) = self.close else { return };
        if kernel.world.dice.delays() {
            return;
        }
        self.close = Some(Close::Done);
        kernel.world.pipes[self.pipe].close(farewell);
        kernel.world.fds.remove(&self.socket.0);
        kernel.slots.end(self.token, Part::CancelAll);
        assert!(kernel.slots.end(self.token, Part::Close));
    }
}
