//! The simulated twin of the io_uring engine: the same promises, kept by a seeded [`World`].
//!
//! It does what kernels may do (see [`Faults`]) and panics where the shard breaks the contract of
//! [`Ring`]: a use after close, a second receive, a send beside an owned one, a lease that
//! outlives its turn. Leased bytes are spoilt as soon as they are released.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::slots::{Part, Slots};
use super::stats::Stats;
use super::{Completion, Errno, Farewell, Fatal, Lease, Ring, Sends, Socket, TcpInfo, Token, Wait};

mod connection;
mod faults;
mod lender;
mod pipe;
mod world;

use connection::{Close, Connection, Kernel, Receive};
pub use faults::Faults;
use lender::Lender;
pub use pipe::Tail;
use world::State;
pub use world::{ClientSocket, World};

/// A ring of a [`World`]. A turn never sleeps: it reports what is due by now.
#[derive(Debug)]
pub struct SimRing {
    world: World,
    node: usize,
    listeners: Vec<Listener>,
    /// By slot. A token's entry goes when its `Closed` is reported.
    connections: BTreeMap<u32, Connection>,
    slots: Slots,
    lender: Lender,
    /// Threads to wake with the next turn.
    wakes: Vec<usize>,
    now: Instant,
    wait: Wait,
    stats: Stats,
}

/// Whether a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Idle,
    Armed,
    Cancelled,
}

impl SimRing {
    fn new(world: World, node: usize, listeners: usize, faults: Faults) -> Self {
        let now = world.now();
        Self {
            world,
            node,
            listeners: vec![Listener::Idle; listeners],
            connections: BTreeMap::new(),
            slots: Slots::default(),
            lender: Lender::new(faults.buffers, faults.buffer_bytes),
            wakes: Vec::new(),
            now,
            wait: Wait::No,
            stats: Stats::default(),
        }
    }

    /// The index by which other threads wake this ring's.
    pub fn node(&self) -> usize {
        self.node
    }

    /// When the last turn would have stopped sleeping: `None`, never. A driver may jump there when
    /// every ring is idle.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.wait {
            Wait::No => Some(self.now),
            Wait::Until(deadline) => Some(deadline),
            Wait::Forever => None,
        }
    }

    /// Whether nothing completes before a client, another thread or the clock moves.
    pub fn is_idle(&self) -> bool {
        let world = self.world.state();
        let accepts = self.listeners.iter().enumerate().any(|(index, listener)| match listener {
            Listener::Idle => false,
            Listener::Armed => !world.backlogs[&(self.node, index)].is_empty(),
            Listener::Cancelled => true,
        });
        let woken = world.is_woken(self.node) || !self.wakes.is_empty();
        !accepts && !woken && !self.connections.values().any(|of| of.is_due(&world))
    }

    /// The connection of the token, known from now on.
    fn connection(&mut self, socket: Socket, token: Token) -> &mut Connection {
        let pipe = self.world.state().socket(socket, self.node).pipe;
        let connection = self.connections.entry(token.slot).or_insert(Connection {
            socket,
            token,
            pipe,
            receive: None,
            send: None,
            close: None,
        });
        assert_eq!(connection.token, token, "the slot is in use");
        assert_eq!(connection.pipe, pipe, "{token:?} names another socket");
        connection
    }

    fn accept_some(&mut self, index: usize, world: &mut State) -> Vec<Completion> {
        let mut out = Vec::new();
        while self.listeners[index] != Listener::Idle && !world.dice.delays() {
            let cancelled = self.listeners[index] == Listener::Cancelled;
            let waiting = !world.backlogs[&(self.node, index)].is_empty();
            let faults = world.dice.faults;
            let errno = if cancelled && (!waiting || !world.dice.delays()) {
                None
            } else if waiting && world.dice.happens(faults.no_descriptors) {
                Some(Errno(libc::EMFILE))
            } else if world.dice.happens(faults.accept_ended) {
                None
            } else if waiting {
                let backlog = world.backlogs.get_mut(&(self.node, index));
                let pipe = backlog.and_then(std::collections::VecDeque::pop_front);
                let socket = world.open(pipe.expect("one is waiting"), self.node);
                self.stats.accepted += 1;
                out.push(Completion::Accepted { listener: index, socket });
                continue;
            } else {
                break;
            };
            self.listeners[index] = Listener::Idle;
            out.push(Completion::AcceptEnded { listener: index, errno });
        }
        out
    }

    fn poll_connections(&mut self, world: &mut State, sequences: &mut Vec<Vec<Completion>>) {
        let mut kernel = Kernel {
            world,
            lender: &mut self.lender,
            slots: &mut self.slots,
            starved: &mut self.stats.starved,
        };
        self.connections.retain(|_, connection| {
            let mut out = Vec::new();
            let freed = connection.poll(&mut kernel, &mut out);
            if !out.is_empty() {
                sequences.push(out);
            }
            !freed
        });
    }

    /// Tries each send once.
    fn send_now<S: Sends>(&mut self, sends: &S, world: &mut State) -> Vec<Completion> {
        let mut out = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..sends.len() {
            let (socket, bytes) = sends.get(index);
            assert!(!bytes.is_empty(), "send {index} is empty");
            assert!(seen.insert(socket.0), "{socket:?} is sent to twice in a turn");
            let pipe = world.socket(socket, self.node).pipe;
            let mut of_socket = self.connections.values().filter(|of| of.pipe == pipe);
            let busy = of_socket.any(|of| of.send.is_some() || of.close.is_some());
            assert!(!busy, "a send beside an owned one, or after close: {socket:?}");
            let faults = world.dice.faults;
            let result = if world.dice.happens(faults.refused_send) {
                Err(Errno(libc::EAGAIN))
            } else {
                let most = world.dice.some_of(bytes.len(), faults.short_send);
                world.pipes[pipe].send(bytes, most)
            };
            if result == Ok(bytes.len()) {
                continue;
            }
            self.stats.short_sends += 1;
            out.push(Completion::SendShort {
                index,
                sent: result.unwrap_or(0),
                errno: result.err(),
            });
        }
        out
    }
}

impl Ring for SimRing {
    fn now(&self) -> Instant {
        self.now
    }

    fn accept(&mut self, listener: usize) {
        assert_eq!(self.listeners[listener], Listener::Idle, "accept is armed");
        self.listeners[listener] = Listener::Armed;
    }

    fn cancel_accept(&mut self, listener: usize) {
        if self.listeners[listener] == Listener::Armed {
            self.listeners[listener] = Listener::Cancelled;
        }
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.slots.begin(token, Part::Receive);
        self.connection(socket, token).receive = Some(Receive::Armed);
    }

    fn cancel_receive(&mut self, socket: Socket, token: Token) {
        if self.slots.has(token, Part::Receive) && !self.slots.has(token, Part::CancelReceive) {
            self.slots.begin(token, Part::CancelReceive);
            self.connection(socket, token).receive = Some(Receive::Cancelled);
        }
    }

    fn send_owned(&mut self, socket: Socket, token: Token, bytes: Bytes) {
        assert!(!bytes.is_empty());
        self.slots.begin(token, Part::Send);
        self.connection(socket, token).send = Some(bytes);
    }

    fn shutdown(&mut self, socket: Socket) {
        let mut world = self.world.state();
        let pipe = world.socket(socket, self.node).pipe;
        world.pipes[pipe].shutdown();
    }

    fn close(&mut self, socket: Socket, token: Token, farewell: Farewell) {
        self.slots.begin_close(token);
        let connection = self.connection(socket, token);
        connection.close = Some(Close::Asked(farewell));
        connection.receive = connection.receive.map(|_| Receive::Cancelled);
    }

    fn peer(&self, socket: Socket) -> Option<SocketAddr> {
        let world = self.world.state();
        let pipe = world.socket(socket, self.node).pipe;
        Some(world::client_address(pipe))
    }

    fn tcp_info(&self, socket: Socket) -> Option<TcpInfo> {
        let world = self.world.state();
        let pipe = world.socket(socket, self.node).pipe;
        Some(world.pipes[pipe].tcp_info())
    }

    fn wake(&mut self, node: usize) {
        self.stats.wakes_sent += 1;
        self.wakes.push(node);
    }

    fn turn<S: Sends>(
        &mut self,
        sends: &S,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> Result<(), Fatal> {
        assert_eq!(self.lender.out(), 0, "a lease outlived its turn");
        let handle = self.world.clone();
        let mut world = handle.state();
        self.wakes.drain(..).for_each(|node| world.wake(node));
        let mut sequences = vec![self.send_now(sends, &mut world)];
        for index in 0..self.listeners.len() {
            sequences.push(self.accept_some(index, &mut world));
        }
        self.poll_connections(&mut world, &mut sequences);
        let spurious = world.dice.faults.spurious_wake;
        let woken = world.is_woken(self.node) && !world.dice.delays() && world.take_wake(self.node);
        if woken || world.dice.happens(spurious) {
            self.stats.wakes_received += 1;
            sequences.push(vec![Completion::Woken]);
        }
        let before = completions.len();
        world.dice.interleave(sequences, completions);
        self.stats.completions += (completions.len() - before) as u64;
        self.stats.enters += 1;
        self.stats.buffers_free = u32::try_from(self.lender.vacant()).expect("at most 2^16");
        self.now = world.now();
        self.wait = wait;
        Ok(())
    }

    fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        self.lender.bytes(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.lender.release(&lease);
    }

    fn leases_out(&self) -> usize {
        self.lender.out()
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

#[cfg(test)]
mod tests;
