//! A ring for measuring the shard alone: no kernel, no chance, nothing that costs or allocates as
//! it goes.
//!
//! The simulated ring ([`super::sim`]) looks for everything that may go wrong and keeps books for
//! that; what it costs would hide the shard, and grows with each connection. Here every send is
//! taken whole and forgotten, but for its count, and what peers write comes with the next turn.

use std::cell::{Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::stats::Stats;
use super::{Completion, End, Farewell, Fatal, Lease, Ring, Sends, Socket, TcpInfo, Token, Wait};

/// A ring with one listener, at a time that stands still.
#[derive(Debug)]
pub struct StillRing {
    peers: Peers,
    /// What peers have written before this turn.
    memory: Vec<u8>,
    /// By socket; nothing is received for those without a token.
    tokens: Vec<Option<Token>>,
    /// What the next turn reports of cancelled receives and closed sockets.
    ended: Vec<Completion>,
    leases_out: usize,
    now: Instant,
    stats: Stats,
}

/// The other ends of all sockets of a [`StillRing`].
#[derive(Clone, Debug)]
pub struct Peers(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    /// Sockets of all peers so far.
    sockets: i32,
    /// Those that wait to be accepted.
    waiting: i32,
    /// Who has written, up to where in `memory`.
    written: Vec<(i32, u32)>,
    memory: Vec<u8>,
    sent: Sent,
}

/// What was sent to all peers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many sends.
    pub sends: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl StillRing {
    /// A ring with room for `sockets` without allocating, at `now` for ever; and its peers.
    pub fn new(sockets: usize, now: Instant) -> (Self, Peers) {
        let peers = Peers(Rc::default());
        let ring = Self {
            peers: peers.clone(),
            memory: Vec::new(),
            tokens: Vec::with_capacity(sockets),
            ended: Vec::new(),
            leases_out: 0,
            now,
            stats: Stats::default(),
        };
        (ring, peers)
    }

    fn token(&mut self, socket: Socket) -> &mut Option<Token> {
        let at = usize::try_from(socket.0).expect("sockets count from 0");
        if self.tokens.len() <= at {
            self.tokens.resize(at + 1, None);
        }
        &mut self.tokens[at]
    }
}

impl Peers {
    /// Connects one more, with the next turn; returns its number, from 0.
    pub fn connect(&self) -> i32 {
        let mut state = self.0.borrow_mut();
        state.waiting += 1;
        state.sockets += 1;
        state.sockets - 1
    }

    /// Writes bytes, at least one, that come in one piece with the next turn.
    pub fn write(&self, peer: i32, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        let mut state = self.0.borrow_mut();
        state.memory.extend_from_slice(bytes);
        let end = u32::try_from(state.memory.len()).expect("a turn's bytes fit 4 GiB");
        state.written.push((peer, end));
    }

    /// What all of them were sent.
    pub fn sent(&self) -> Sent {
        self.state().sent
    }

    fn state(&self) -> Ref<'_, State> {
        self.0.borrow()
    }
}

impl Ring for StillRing {
    fn now(&self) -> Instant {
        self.now
    }

    fn accept(&mut self, listener: usize) {
        assert_eq!(listener, 0, "a still ring has one listener");
    }

    fn cancel_accept(&mut self, listener: usize) {
        self.ended.push(Completion::AcceptEnded { listener, errno: None });
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        *self.token(socket) = Some(token);
    }

    fn cancel_receive(&mut self, socket: Socket, token: Token) {
        if self.token(socket).take().is_some() {
            self.ended.push(Completion::ReceiveEnded { token, end: End::Cancelled });
        }
    }

    fn send_owned(&mut self, _: Socket, token: Token, _: Bytes) {
        unreachable!("{token:?} has a backlog, but no send is ever refused");
    }

    fn shutdown(&mut self, _: Socket) {}

    fn close(&mut self, socket: Socket, token: Token, _: Farewell) {
        self.cancel_receive(socket, token);
        self.ended.push(Completion::Closed { token });
    }

    fn peer(&self, _: Socket) -> Option<SocketAddr> {
        None
    }

    fn tcp_info(&self, _: Socket) -> Option<TcpInfo> {
        None
    }

    /// Whoever drives several of these lets each of them take its turn.
    fn wake(&mut self, _: usize) {
        self.stats.wakes_sent += 1;
    }

    fn turn<S: Sends>(
        &mut self,
        sends: &S,
        _: Wait,
        completions: &mut Vec<Completion>,
    ) -> Result<(), Fatal> {
        assert_eq!(self.leases_out, 0, "a lease outlived its turn");
        let mut state = self.peers.0.borrow_mut();
        for index in 0..sends.len() {
            let (_, bytes) = sends.get(index);
            state.sent.sends += 1;
            state.sent.bytes += bytes.len() as u64;
        }
        completions.append(&mut self.ended);
        let accepted = state.sockets - state.waiting..state.sockets;
        state.waiting = 0;
        completions
            .extend(accepted.map(|at| Completion::Accepted { listener: 0, socket: Socket(at) }));
        std::mem::swap(&mut state.memory, &mut self.memory);
        state.memory.clear();
        let mut start = 0;
        for (peer, end) in state.written.drain(..) {
            let at = usize::try_from(peer).expect("sockets count from 0");
            let token = self.tokens.get(at).copied().flatten();
            let token = token.unwrap_or_else(|| panic!("peer {peer} is not read"));
            let lease = Lease { buffer: 0, start, len: end - start };
            completions.push(Completion::Received { token, lease });
            self.leases_out += 1;
            start = end;
        }
        self.stats.enters += 1;
        Ok(())
    }

    fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let start = lease.start as usize;
        &mut self.memory[start..start + lease.len as usize]
    }

    fn release(&mut self, _: Lease) {
        self.leases_out -= 1;
    }

    fn leases_out(&self) -> usize {
        self.leases_out
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::sim::{Faults, World};

    struct Greetings(Vec<Socket>);

    impl Sends for Greetings {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> (Socket, &[u8]) {
            (self.0[index], b"hello")
        }
    }

    #[test]
    fn what_peers_write_comes_with_the_next_turn_and_what_they_are_sent_is_counted() {
        let (mut ring, peers) = StillRing::new(2, World::new(1, Faults::none()).now());
        assert_eq!((peers.connect(), peers.connect()), (0, 1));
        let mut completions = Vec::new();
        ring.turn(&Greetings(Vec::new()), Wait::No, &mut completions).unwrap();
        let accepted = |of: &Completion| match of {
            Completion::Accepted { socket, .. } => Some(*socket),
            _ => None,
        };
        let sockets: Vec<Socket> = completions.iter().filter_map(accepted).collect();
        assert_eq!(sockets, [Socket(0), Socket(1)]);
        let token = |slot| Token { slot, generation: 0 };
        ring.receive(sockets[0], token(7));
        ring.receive(sockets[1], token(8));
        peers.write(1, b"ab");
        peers.write(0, b"c");
        completions.clear();
        ring.turn(&Greetings(sockets.clone()), Wait::No, &mut completions).unwrap();
        assert_eq!(peers.sent(), Sent { sends: 2, bytes: 10 });
        let mut got = Vec::new();
        for completion in completions.drain(..) {
            let Completion::Received { token, lease } = completion else { panic!() };
            got.push((token.slot, ring.bytes(&lease).to_vec()));
            ring.release(lease);
        }
        assert_eq!(got, [(8, b"ab".to_vec()), (7, b"c".to_vec())]);
        ring.close(sockets[0], token(7), Farewell::Fin);
        ring.turn(&Greetings(Vec::new()), Wait::No, &mut completions).unwrap();
        assert!(matches!(
            completions[..],
            [Completion::ReceiveEnded { end: End::Cancelled, .. }, Completion::Closed { .. }]
        ));
    }
}
