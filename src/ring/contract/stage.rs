//! What the scenarios do with a ring and its clients, and what holds in all of them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::kernels::{Client, Kernel};
use crate::ring::sim::Tail;
use crate::ring::{Completion, End, Errno, Ring, Sends, Socket, Token, Wait};

/// Turns after which something that is due counts as lost.
const TURNS_MAX: usize = 10_000;

/// A completion whose bytes were copied and whose lease is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Accepted(Socket),
    AcceptEnded(Option<Errno>),
    Received(Token, Vec<u8>),
    ReceiveEnded(Token, End),
    SendShort { index: usize, sent: usize, errno: Option<Errno> },
    SendDone(Token, Result<usize, Errno>),
    Closed(Token),
    Woken,
}

impl Event {
    fn token(&self) -> Option<Token> {
        match self {
            Self::Received(token, _)
            | Self::ReceiveEnded(token, _)
            | Self::SendDone(token, _)
            | Self::Closed(token) => Some(*token),
            _ => None,
        }
    }
}

/// The sends of a turn.
pub(super) struct Batch<'a>(pub(super) Vec<(Socket, &'a [u8])>);

impl Sends for Batch<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> (Socket, &[u8]) {
        self.0[index]
    }
}

/// One connection of the stage.
pub(super) struct Line<C> {
    pub(super) socket: Socket,
    pub(super) token: Token,
    pub(super) client: C,
}

/// A kernel on which a scenario is played; checks what holds in all of them.
pub(super) struct Stage<K: Kernel> {
    pub(super) kernel: K,
    /// Events that nobody has asked for yet.
    pub(super) events: VecDeque<Event>,
    closed: Vec<Token>,
    closing: Vec<Token>,
    armed: bool,
    next: Token,
}

impl<K: Kernel> Stage<K> {
    pub(super) fn new(kernel: K) -> Self {
        let next = Token { slot: 5, generation: u32::MAX - 1 };
        let (events, closed, closing) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { kernel, events, closed, closing, armed: false, next }
    }

    /// A turn; its events wait in `events`.
    pub(super) fn turn(&mut self, sends: &Batch<'_>) {
        let ring = self.kernel.ring();
        let wait = if sends.is_empty() && self.events.is_empty() {
            Wait::Until(ring.now() + Duration::from_millis(2))
        } else {
            Wait::No
        };
        let mut completions = Vec::new();
        ring.turn(sends, wait, &mut completions).unwrap();
        let mut leases = Vec::new();
        for completion in completions {
            let event = match completion {
                Completion::Accepted { socket, .. } => Event::Accepted(socket),
                Completion::AcceptEnded { errno, .. } => Event::AcceptEnded(errno),
                Completion::Received { token, lease } => {
                    assert!(lease.len > 0);
                    let bytes = ring.bytes(&lease).to_vec();
                    // Unmasking in place must not touch another lease.
                    ring.bytes(&lease).fill(0xee);
                    leases.push(lease);
                    Event::Received(token, bytes)
                }
                Completion::ReceiveEnded { token, end } => Event::ReceiveEnded(token, end),
                Completion::SendShort { index, sent, errno } => {
                    assert!(sent < sends.get(index).1.len());
                    assert_eq!(errno.is_some(), sent == 0);
                    Event::SendShort { index, sent, errno }
                }
                Completion::SendDone { token, result } => Event::SendDone(token, result),
                Completion::Closed { token } => Event::Closed(token),
                Completion::Woken => Event::Woken,
            };
            if let Some(token) = event.token() {
                assert!(!self.closed.contains(&token), "{event:?} after Closed");
                let received = matches!(event, Event::Received(..));
                assert!(!received || !self.closing.contains(&token), "{event:?} after close");
            }
            if let Event::Closed(token) = event {
                self.closed.push(token);
            }
            self.events.push_back(event);
        }
        assert_eq!(ring.leases_out(), leases.len());
        leases.into_iter().rev().for_each(|lease| ring.release(lease));
        assert_eq!(ring.stats().stale, 0);
    }

    /// Takes turns until an event satisfies `wanted`; removes and returns it. Others stay.
    pub(super) fn expect(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..TURNS_MAX {
            if let Some(index) = self.events.iter().position(&wanted) {
                return self.events.remove(index).unwrap();
            }
            self.settle_once();
        }
        panic!("no {what}; instead {:?}", self.events);
    }

    /// Some turns, in which whatever is due comes.
    pub(super) fn settle(&mut self) {
        (0..20).for_each(|_| self.settle_once());
    }

    pub(super) fn arm_accept(&mut self) {
        if !self.armed {
            self.kernel.ring().accept(0);
            self.armed = true;
        }
    }

    pub(super) fn cancel_accept(&mut self) {
        self.kernel.ring().cancel_accept(0);
        self.armed = false;
    }

    /// A socket that was accepted; arms accepting again whenever it ends.
    pub(super) fn accepted(&mut self) -> Socket {
        loop {
            self.arm_accept();
            let wanted =
                |event: &Event| matches!(event, Event::Accepted(_) | Event::AcceptEnded(_));
            match self.expect("connection", wanted) {
                Event::Accepted(socket) => return socket,
                _ => self.armed = false,
            }
        }
    }

    /// A connection with a token of its own; not receiving.
    pub(super) fn line(&mut self) -> Line<K::Client> {
        let client = self.kernel.connect();
        let socket = self.accepted();
        self.next.slot += 1;
        Line { socket, token: self.next, client }
    }

    /// A connection whose token uses `slot` for another time.
    pub(super) fn line_again(&mut self, slot: u32) -> Line<K::Client> {
        let line = self.line();
        let generation = line.token.generation + 1;
        Line { token: Token { slot, generation }, ..line }
    }

    pub(super) fn receive(&mut self, line: &Line<K::Client>) {
        self.kernel.ring().receive(line.socket, line.token);
    }

    /// How an armed receive ends after dropping what it still takes; never Spent or `NoBuffers`.
    pub(super) fn end(&mut self, line: &Line<K::Client>) -> End {
        loop {
            match self.next_of(line) {
                Event::Received(..) => {}
                Event::ReceiveEnded(_, End::Spent | End::NoBuffers) => self.receive(line),
                Event::ReceiveEnded(_, end) => return end,
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn next_of(&mut self, line: &Line<K::Client>) -> Event {
        let token = line.token;
        self.expect("event of a connection", |event| event.token() == Some(token))
    }

    /// Has the client write everything while the armed receive takes it; it is armed afterwards.
    pub(super) fn exchanged(&mut self, line: &mut Line<K::Client>, bytes: &[u8]) -> Vec<u8> {
        self.exchanged_after(line, bytes, bytes.len())
    }

    /// The same when bytes of earlier writes are still to come: `len` in all.
    pub(super) fn exchanged_after(
        &mut self,
        line: &mut Line<K::Client>,
        bytes: &[u8],
        len: usize,
    ) -> Vec<u8> {
        let (mut written, mut got) = (0, Vec::new());
        let token = line.token;
        for _ in 0..TURNS_MAX {
            if got.len() == len {
                return got;
            }
            written += line.client.write(&bytes[written..]);
            self.settle_once();
            let of_line = |event: &Event| event.token() == Some(token);
            while let Some(index) = self.events.iter().position(of_line) {
                match self.events.remove(index).unwrap() {
                    Event::Received(_, more) => got.extend(more),
                    Event::ReceiveEnded(_, End::Spent | End::NoBuffers) => self.receive(line),
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("{} of {len} bytes arrived", got.len());
    }

    /// A turn without sends; it sleeps also while older events wait.
    fn settle_once(&mut self) {
        let others = std::mem::take(&mut self.events);
        self.turn(&Batch(Vec::new()));
        let new = std::mem::replace(&mut self.events, others);
        self.events.extend(new);
    }

    /// Sends in one turn; returns what was short.
    pub(super) fn send(
        &mut self,
        sends: Vec<(Socket, &[u8])>,
    ) -> Vec<(usize, usize, Option<Errno>)> {
        let others = std::mem::take(&mut self.events);
        self.turn(&Batch(sends));
        let mut short = Vec::new();
        let new = std::mem::replace(&mut self.events, others);
        for event in new {
            match event {
                Event::SendShort { index, sent, errno } => short.push((index, sent, errno)),
                other => self.events.push_back(other),
            }
        }
        short
    }

    /// Sends by owned sends until all is taken; the client reads meanwhile, into `out`.
    pub(super) fn send_rest(
        &mut self,
        line: &mut Line<K::Client>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            self.kernel.ring().send_owned(line.socket, line.token, rest.clone());
            let token = line.token;
            for _ in 0..TURNS_MAX {
                line.client.read(out);
                self.settle_once();
                let done = |event: &Event| matches!(event, Event::SendDone(of, _) if *of == token);
                if self.events.iter().any(done) {
                    break;
                }
            }
            let done = self.expect(
                "end of a send",
                |event| matches!(event, Event::SendDone(of, _) if *of == token),
            );
            let Event::SendDone(_, Ok(sent)) = done else { panic!("{done:?}") };
            assert!((1..=rest.len()).contains(&sent));
            rest = rest.slice(sent..);
        }
    }

    /// What the client reads, until it has `len` bytes or nothing more can come.
    pub(super) fn read(&mut self, line: &mut Line<K::Client>, len: usize) -> (Vec<u8>, Tail) {
        let mut bytes = Vec::new();
        let mut tail = Tail::Open;
        for _ in 0..TURNS_MAX {
            tail = line.client.read(&mut bytes);
            if bytes.len() >= len || tail != Tail::Open {
                break;
            }
            self.settle_once();
        }
        (bytes, tail)
    }

    /// How the client's reading ends.
    pub(super) fn tail(&mut self, line: &mut Line<K::Client>) -> Tail {
        self.read(line, usize::MAX).1
    }

    pub(super) fn close(&mut self, line: &Line<K::Client>, farewell: crate::ring::Farewell) {
        self.kernel.ring().close(line.socket, line.token, farewell);
        self.closing.push(line.token);
    }

    /// Everything of the token up to `Closed`.
    pub(super) fn until_closed(&mut self, line: &Line<K::Client>) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.next_of(line) {
                Event::Closed(_) => return events,
                other => events.push(other),
            }
        }
    }
}
