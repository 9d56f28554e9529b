//! One simulated TCP connection: two bounded directions, FIN and RST, as Linux treats them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ring::{Errno, Farewell, TcpInfo};

const ECONNRESET: Errno = Errno(libc::ECONNRESET);
const EPIPE: Errno = Errno(libc::EPIPE);
const EAGAIN: Errno = Errno(libc::EAGAIN);

/// What the server's next receive would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    Nothing,
    Bytes(usize),
    Fin,
    Failed,
}

/// What a client finds after the bytes that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// More may come.
    Open,
    /// The gateway has sent FIN.
    Fin,
    /// The connection was reset.
    Reset,
}

/// A connection; the server's end is a socket of a ring, the other a model client's.
#[derive(Debug)]
pub(super) struct Pipe {
    inbound: VecDeque<u8>,
    inbound_max: usize,
    inbound_fin: bool,
    outbound: VecDeque<u8>,
    outbound_max: usize,
    outbound_fin: bool,
    server_gone: bool,
    client_gone: bool,
    /// The error that the server's next operation gets, once.
    error: Option<Errno>,
    /// The client has reset the connection.
    broken: bool,
    /// The server has reset the connection.
    client_reset: bool,
    /// Bytes that the server has sent.
    sent: u64,
    /// Bytes that the client has sent.
    received: u64,
}

impl Pipe {
    pub(super) fn new(inbound_max: usize, outbound_max: usize) -> Self {
        Self {
            inbound: VecDeque::new(),
            inbound_max,
            inbound_fin: false,
            outbound: VecDeque::new(),
            outbound_max,
            outbound_fin: false,
            server_gone: false,
            client_gone: false,
            error: None,
            broken: false,
            client_reset: false,
            sent: 0,
            received: 0,
        }
    }

    /// What the server's next receive would find.
    pub(super) fn inbound(&self) -> Inbound {
        match self.inbound.len() {
            0 if self.inbound_fin => Inbound::Fin,
            0 if self.error.is_some() => Inbound::Failed,
            // The error went to another operation; after it Linux reports an end.
            0 if self.broken => Inbound::Fin,
            0 => Inbound::Nothing,
            bytes => Inbound::Bytes(bytes),
        }
    }

    /// The server takes received bytes.
    pub(super) fn take(&mut self, bytes: usize) -> impl Iterator<Item = u8> {
        self.inbound.drain(..bytes)
    }

    /// The server takes the error.
    pub(super) fn take_error(&mut self) -> Option<Errno> {
        self.error.take()
    }

    /// Room for the server's bytes; a socket that would fail at once has room.
    pub(super) fn is_writable(&self) -> bool {
        self.broken || self.outbound_fin || self.outbound.len() < self.outbound_max
    }

    /// The server sends; takes at most `most` of the bytes.
    pub(super) fn send(&mut self, bytes: &[u8], most: usize) -> Result<usize, Errno> {
        if let Some(errno) = self.error.take() {
            return Err(errno);
        }
        if self.broken || self.outbound_fin {
            return Err(EPIPE);
        }
        let sent = most.min(bytes.len()).min(self.outbound_max - self.outbound.len());
        if sent == 0 {
            return Err(EAGAIN);
        }
        if self.client_gone {
            // Nobody is there: the bytes leave, and RST comes back for them.
            self.break_off();
        } else {
            self.outbound.extend(&bytes[..sent]);
        }
        self.sent += sent as u64;
        Ok(sent)
    }

    /// The server ends its direction.
    pub(super) fn shutdown(&mut self) {
        self.outbound_fin = true;
    }

    /// The server's descriptor is closed.
    pub(super) fn close(&mut self, farewell: Farewell) {
        self.server_gone = true;
        // Linux answers unread bytes by RST also when it closes in peace.
        if farewell == Farewell::Reset || !self.inbound.is_empty() {
            self.client_reset = true;
            self.outbound.clear();
        } else {
            self.outbound_fin = true;
        }
        self.inbound.clear();
    }

    /// What the kernel would tell: there is no network, so nothing is late or lost.
    pub(super) fn tcp_info(&self) -> TcpInfo {
        TcpInfo {
            rtt: Duration::ZERO,
            rtt_variance: Duration::ZERO,
            retransmitted_segments: 0,
            lost_segments: 0,
            unacked_segments: 0,
            not_sent_bytes: 0,
            acked_bytes: self.sent,
            received_bytes: self.received,
            last_received: Duration::ZERO,
            window_closed: Duration::ZERO,
        }
    }

    /// The client sends; returns how many bytes its kernel takes.
    pub(super) fn client_write(&mut self, bytes: &[u8]) -> usize {
        if self.client_gone || self.inbound_fin || self.client_reset {
            return 0;
        }
        if self.server_gone {
            self.client_reset = true;
            return bytes.len();
        }
        let taken = bytes.len().min(self.inbound_max - self.inbound.len());
        self.inbound.extend(&bytes[..taken]);
        self.received += taken as u64;
        taken
    }

    /// The client reads at most `most` bytes.
    pub(super) fn client_read(&mut self, most: usize, out: &mut Vec<u8>) -> Tail {
        let taken = most.min(self.outbound.len());
        out.extend(self.outbound.drain(..taken));
        if !self.outbound.is_empty() {
            Tail::Open
        } else if self.client_reset {
            Tail::Reset
        } else if self.outbound_fin {
            Tail::Fin
        } else {
            Tail::Open
        }
    }

    /// The client ends its direction.
    pub(super) fn client_shutdown(&mut self) {
        self.inbound_fin = true;
    }

    /// The client resets; only the first `arrived` of the bytes under way reach the server.
    pub(super) fn client_reset(&mut self, arrived: usize) {
        self.client_gone = true;
        self.inbound.truncate(arrived);
        if !self.server_gone {
            self.break_off();
        }
    }

    /// The client closes.
    pub(super) fn client_close(&mut self) {
        let unread = !self.outbound.is_empty();
        if unread {
            self.client_reset(self.inbound.len());
        } else {
            self.inbound_fin = true;
            self.client_gone = true;
        }
    }

    /// Bytes on their way to the server.
    pub(super) fn inbound_len(&self) -> usize {
        self.inbound.len()
    }

    fn break_off(&mut self) {
        // After FIN Linux reports EPIPE for a reset, before it ECONNRESET.
        self.error = Some(if self.inbound_fin { EPIPE } else { ECONNRESET });
        self.broken = true;
        self.outbound.clear();
    }
}
