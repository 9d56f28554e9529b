//! The kernel's edge of a shard: submissions, completions, buffers, wake-ups and the clock.
//!
//! A [`Ring`] owns every byte that the kernel may still touch. It has two implementations that
//! answer alike: the io_uring engine ([`uring`]) and its simulated twin ([`sim`]); the scenarios of
//! `contract.rs` hold them together.
//!
//! The life of a socket: [`Completion::Accepted`] → [`Ring::receive`] → many
//! [`Completion::Received`] → [`Completion::ReceiveEnded`]; [`Ring::close`] at any time; and
//! [`Completion::Closed`], always the last completion that carries its token.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub mod listen;
pub mod probe;
pub mod sim;
mod slots;
pub mod stats;
pub mod still;
pub mod uring;
pub mod wakes;

#[cfg(test)]
mod contract;

use stats::Stats;

/// Names one connection of one shard in completions.
///
/// A slot is used again after [`Completion::Closed`], then with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Index of the slot, below [`SLOTS_MAX`].
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// Slots that one shard can have: the index shares the 64 bits of a completion's user data.
pub const SLOTS_MAX: u32 = 1 << 24;

/// One accepted socket, open until it is given to [`Ring::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(pub(in crate::ring) i32);

/// A Linux error number, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// What the kernel knows about a TCP connection (`struct tcp_info`).
///
/// A reset empties the queues, and with them the counts of what waits in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// How much it varies.
    pub rtt_variance: Duration,
    /// Segments sent again, over the whole life.
    pub retransmitted_segments: u32,
    /// Segments under way that count as lost.
    pub lost_segments: u32,
    /// Segments under way.
    pub unacked_segments: u32,
    /// Bytes that wait in the kernel for their first sending.
    pub not_sent_bytes: u32,
    /// Bytes that the peer's kernel has acknowledged.
    pub acked_bytes: u64,
    /// Bytes that have come from the peer.
    pub received_bytes: u64,
    /// Time since the last of them came.
    pub last_received: Duration,
    /// For how long, in all, the peer has left no room for what was to be sent.
    pub window_closed: Duration,
}

/// Received bytes that lie in a buffer of the ring until [`Ring::release`].
///
/// Every lease is given back before the next [`Ring::turn`].
#[derive(Debug)]
pub struct Lease {
    pub(in crate::ring) buffer: u16,
    pub(in crate::ring) start: u32,
    pub(in crate::ring) len: u32,
}

impl Lease {
    /// Bytes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a lease is never empty")]
    pub fn len(&self) -> u32 {
        self.len
    }
}

/// Why a receive is no longer armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has sent FIN; it may still read.
    Fin,
    /// The kernel ended the multishot although the socket is fine: arm it again.
    Spent,
    /// No buffer was free (ENOBUFS): arm it again when leases are back.
    NoBuffers,
    /// [`Ring::cancel_receive`] or [`Ring::close`] ended it.
    Cancelled,
    /// The connection failed (ECONNRESET, ETIMEDOUT, ...).
    Failed(Errno),
}

/// How [`Ring::close`] leaves the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// FIN after what the kernel still holds for the peer.
    Fin,
    /// RST at once; unsent bytes are dropped.
    Reset,
}

/// What the kernel has to say.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted; the listener stays armed.
    Accepted {
        /// Index into the listeners that the ring was made with.
        listener: usize,
        /// The new socket.
        socket: Socket,
    },
    /// The listener is no longer armed: arm it again with [`Ring::accept`] when the cause is gone.
    AcceptEnded {
        /// Index into the listeners that the ring was made with.
        listener: usize,
        /// `None`: the kernel ended the multishot without a fault, or it was cancelled.
        errno: Option<Errno>,
    },
    /// Bytes have arrived; at least one.
    Received {
        /// Whose bytes.
        token: Token,
        /// Where they are.
        lease: Lease,
    },
    /// The receive is no longer armed. Comes once for each [`Ring::receive`].
    ReceiveEnded {
        /// Whose receive.
        token: Token,
        /// Why.
        end: End,
    },
    /// A send of the last [`Ring::turn`] was not taken whole. Sends without this succeeded.
    SendShort {
        /// Index into the turn's [`Sends`].
        index: usize,
        /// Bytes that the socket took, less than were offered.
        sent: usize,
        /// What refused all of it (EAGAIN: the socket is full); `None` when some of it was sent:
        /// what stops the rest shows when that is tried.
        errno: Option<Errno>,
    },
    /// A [`Ring::send_owned`] is over.
    SendDone {
        /// Whose send.
        token: Token,
        /// Bytes that the socket took, or why it took none.
        result: Result<usize, Errno>,
    },
    /// The socket is closed and nothing of the token is in flight any more: the slot is free.
    Closed {
        /// Whose socket.
        token: Token,
    },
    /// Another thread has put something into this shard's lanes.
    Woken,
}

/// The sends of one turn, at most one for a socket; each is tried once and never waits.
pub trait Sends {
    /// How many.
    fn len(&self) -> usize;
    /// The socket and the bytes (at least one) of send `index`.
    fn get(&self, index: usize) -> (Socket, &[u8]);
    /// Whether there is nothing to send.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How long [`Ring::turn`] may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is more work.
    No,
    /// Until something completes or this instant has come.
    Until(Instant),
    /// Until something completes.
    Forever,
}

/// The ring cannot go on (EBADR: completions were lost; a broken ring). The process must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub Errno);

/// Submission and completion of one shard's I/O.
pub trait Ring {
    /// The time of the last [`Ring::turn`]; monotonic.
    fn now(&self) -> Instant;

    /// Reads the clock, to measure what the work of a turn takes and for nothing else.
    fn measure(&self) -> Instant {
        self.now()
    }

    /// Arms accepting on a listener.
    fn accept(&mut self, listener: usize);

    /// Ends accepting on a listener; [`Completion::AcceptEnded`] follows. Connections that were
    /// accepted meanwhile are still reported.
    fn cancel_accept(&mut self, listener: usize);

    /// Arms receiving. At most one receive of a socket is armed.
    fn receive(&mut self, socket: Socket, token: Token);

    /// Ends receiving; [`Completion::ReceiveEnded`] follows. Bytes that had already been taken from
    /// the socket are still reported.
    fn cancel_receive(&mut self, socket: Socket, token: Token);

    /// Sends `bytes` as soon as the socket has room, at least one byte of them.
    ///
    /// At most one is in flight for a socket, and none while a turn's [`Sends`] name it.
    fn send_owned(&mut self, socket: Socket, token: Token, bytes: Bytes);

    /// Ends the write side (FIN) at once; what was sent before still goes out.
    fn shutdown(&mut self, socket: Socket);

    /// Cancels what is in flight and closes; [`Completion::Closed`] follows when all of it is back.
    /// [`Completion::ReceiveEnded`] and [`Completion::SendDone`] of the token still arrive before
    /// that, [`Completion::Received`] does not: such bytes are dropped. The socket's number may
    /// name a new connection even before `Closed`.
    fn close(&mut self, socket: Socket, token: Token, farewell: Farewell);

    /// The peer's address, also after it has gone; `None` when the kernel has forgotten it.
    fn peer(&self, socket: Socket) -> Option<SocketAddr>;

    /// What the kernel knows about the connection, also after it has failed; `None` when it tells
    /// nothing.
    fn tcp_info(&self, socket: Socket) -> Option<TcpInfo>;

    /// Makes thread `node` (shards first, then control) see [`Completion::Woken`].
    fn wake(&mut self, node: usize);

    /// Submits everything, tries each of `sends` once, waits as told, appends what completed, and
    /// reads the clock.
    ///
    /// The bytes of `sends` are not touched after the return; each send that was not taken whole
    /// has its [`Completion::SendShort`] in this turn's `completions`.
    ///
    /// Errors: [`Fatal`] when completions were lost.
    fn turn<S: Sends>(
        &mut self,
        sends: &S,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> Result<(), Fatal>;

    /// The received bytes; they may be changed in place (unmasking).
    fn bytes(&mut self, lease: &Lease) -> &mut [u8];

    /// Gives the bytes' buffer back.
    fn release(&mut self, lease: Lease);

    /// Leases that are out; zero at the end of every turn.
    fn leases_out(&self) -> usize;

    /// What was counted up to the last [`Ring::turn`].
    fn stats(&self) -> &Stats;
}
