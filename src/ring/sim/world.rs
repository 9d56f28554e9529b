//! Everything outside the simulated rings: sockets, model clients, time and chance.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::SimRing;
use super::faults::{Dice, Faults};
use super::pipe::{Pipe, Tail};
use crate::ring::Socket;

/// Descriptors below this are other things'.
const FIRST_FD: i32 = 10;
/// The client of pipe 0 has this port.
const FIRST_PORT: usize = 10_000;

/// A world of threads and clients, determined by its seed and by what is done to it.
///
/// Clones are handles of the same world. A driver lets its rings take turns in any order, moves its
/// clients, and advances the time; nothing happens otherwise.
#[derive(Clone, Debug)]
pub struct World(Rc<RefCell<State>>);

/// What the rings of a world share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) pipes: Vec<Pipe>,
    /// Open descriptors, numbered as Linux does: the lowest that is free.
    pub(super) fds: BTreeMap<i32, Open>,
    /// Connections that wait to be accepted, by node and listener.
    pub(super) backlogs: BTreeMap<(usize, usize), VecDeque<usize>>,
    /// Threads that were woken and have not noticed.
    woken: BTreeMap<usize, ()>,
    base: Instant,
    elapsed: Duration,
    rings: usize,
}

/// An open descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) pipe: usize,
    pub(super) node: usize,
}

impl World {
    /// A world without rings and clients.
    #[expect(clippy::disallowed_methods, reason = "an `Instant` has no other origin; unused below")]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(State {
            dice: Dice::new(seed, faults),
            pipes: Vec::new(),
            fds: BTreeMap::new(),
            backlogs: BTreeMap::new(),
            woken: BTreeMap::new(),
            base: Instant::now(),
            elapsed: Duration::ZERO,
            rings: 0,
        })))
    }

    /// The ring of the next node (0, 1, ...), with this many listeners.
    pub fn attach(&self, listeners: usize) -> SimRing {
        let mut state = self.state();
        let node = state.rings;
        state.rings += 1;
        for listener in 0..listeners {
            state.backlogs.insert((node, listener), VecDeque::new());
        }
        let faults = state.dice.faults;
        drop(state);
        SimRing::new(self.clone(), node, listeners, faults)
    }

    /// Changes what may go wrong from now on; sockets and buffers keep their sizes.
    pub fn set_faults(&self, faults: Faults) {
        self.state().dice.faults = faults;
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.state().now()
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.state().elapsed += duration;
    }

    /// Lets time pass until `deadline`, if that is still to come.
    pub fn advance_to(&self, deadline: Instant) {
        let duration = deadline.saturating_duration_since(self.now());
        self.advance(duration);
    }

    /// A new client; its connection waits at the listener to be accepted.
    pub fn connect(&self, node: usize, listener: usize) -> ClientSocket {
        let mut state = self.state();
        let (inbound, outbound) = (state.dice.socket_bytes(), state.dice.socket_bytes());
        let pipe = state.pipes.len();
        state.pipes.push(Pipe::new(inbound, outbound));
        let backlog = state.backlogs.get_mut(&(node, listener));
        backlog.expect("a listener of an attached ring").push_back(pipe);
        drop(state);
        ClientSocket { world: self.clone(), pipe }
    }

    /// Wakes a thread from outside the rings, as the control thread does.
    pub fn wake(&self, node: usize) {
        self.state().wake(node);
    }

    /// Whether a thread without a ring was woken since this was last asked.
    pub fn take_wake(&self, node: usize) -> bool {
        self.state().take_wake(node)
    }

    /// Descriptors that are open; zero when no connection was leaked.
    pub fn open_sockets(&self) -> usize {
        self.state().fds.len()
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }
}

impl State {
    pub(super) fn now(&self) -> Instant {
        self.base + self.elapsed
    }

    pub(super) fn wake(&mut self, node: usize) {
        self.woken.insert(node, ());
    }

    pub(super) fn is_woken(&self, node: usize) -> bool {
        self.woken.contains_key(&node)
    }

    pub(super) fn take_wake(&mut self, node: usize) -> bool {
        self.woken.remove(&node).is_some()
    }

    /// Opens a descriptor for a connection that was accepted.
    pub(super) fn open(&mut self, pipe: usize, node: usize) -> Socket {
        let fd = (FIRST_FD..).find(|fd| !self.fds.contains_key(fd)).expect("a free number");
        self.fds.insert(fd, Open { pipe, node });
        Socket(fd)
    }

    /// What the caller's socket is.
    ///
    /// Panics when the node does not own it, for example since it was closed.
    pub(super) fn socket(&self, socket: Socket, node: usize) -> Open {
        let open = self.fds.get(&socket.0).copied();
        let open = open.unwrap_or_else(|| panic!("{socket:?} is not open"));
        assert_eq!(open.node, node, "{socket:?} belongs to another ring");
        open
    }
}

/// The client's end of a simulated connection.
#[derive(Debug)]
pub struct ClientSocket {
    world: World,
    pipe: usize,
}

impl ClientSocket {
    /// The client's address, as [`crate::ring::Ring::peer`] tells it.
    pub fn address(&self) -> SocketAddr {
        client_address(self.pipe)
    }

    /// Sends; returns how many of the bytes were taken, 0 on a dead connection.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.world.state().pipes[self.pipe].client_write(bytes)
    }

    /// Appends everything that has arrived and tells what comes after it.
    pub fn read(&self, out: &mut Vec<u8>) -> Tail {
        self.read_some(usize::MAX, out)
    }

    /// Appends at most `most` bytes: a slow reader. A stalled one does not read at all.
    pub fn read_some(&self, most: usize, out: &mut Vec<u8>) -> Tail {
        self.world.state().pipes[self.pipe].client_read(most, out)
    }

    /// Sends FIN; reading goes on.
    pub fn shutdown(&self) {
        self.world.state().pipes[self.pipe].client_shutdown();
    }

    /// Sends RST; some bytes that were under way may be lost by it.
    pub fn reset(&self) {
        let mut state = self.world.state();
        let state = &mut *state;
        let pipe = &mut state.pipes[self.pipe];
        let arrived = match state.dice.faults.delay > 0.0 {
            true => state.dice.below(pipe.inbound_len() + 1),
            false => pipe.inbound_len(),
        };
        pipe.client_reset(arrived);
    }

    /// Closes: FIN, or RST when bytes are unread.
    pub fn close(&self) {
        self.world.state().pipes[self.pipe].client_close();
    }
}

/// The address of a pipe's client.
pub(super) fn client_address(pipe: usize) -> SocketAddr {
    let port = u16::try_from((FIRST_PORT + pipe) % 0x1_0000).expect("reduced above");
    SocketAddr::from(([127, 0, 0, 1], port))
}
