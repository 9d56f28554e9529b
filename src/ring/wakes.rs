//! How threads wake each other: an eventfd for each, and the ring's descriptor for those that
//! have one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::Errno;

const NO_RING: i32 = -1;

/// The wake-up channels of all threads, shared by them: shards first, then the others.
#[derive(Debug)]
pub struct Wakes {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    eventfd: OwnedFd,
    /// Descriptor of the thread's ring while that lives, else [`NO_RING`]. A stale value does no
    /// harm: MSG_RING then fails, and its sender falls back to the eventfd.
    ring: AtomicI32,
}

impl Wakes {
    /// Channels for `nodes` threads.
    ///
    /// Errors: of eventfd(2), such as EMFILE.
    pub fn new(nodes: usize) -> Result<Self, Errno> {
        let node = |_| {
            let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Node { eventfd, ring: AtomicI32::new(NO_RING) })
        };
        (0..nodes)
            .map(node)
            .collect::<Result<_, rustix::io::Errno>>()
            .map(|nodes| Self { nodes })
            .map_err(|errno| Errno(errno.raw_os_error()))
    }

    /// How many threads there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What becomes readable when `node` is woken by [`Wakes::notify`]; a thread without a ring
    /// waits on it. Nonblocking; a read of 8 bytes makes it unreadable again.
    pub fn eventfd(&self, node: usize) -> BorrowedFd<'_> {
        self.nodes[node].eventfd.as_fd()
    }

    /// Wakes `node` from any thread.
    pub fn notify(&self, node: usize) {
        // EAGAIN: the counter is at its maximum, so the descriptor is readable already.
        let written = rustix::io::write(self.eventfd(node), &1_u64.to_ne_bytes());
        assert!(matches!(written, Ok(8) | Err(rustix::io::Errno::AGAIN)), "eventfd: {written:?}");
    }

    /// The descriptor of the node's ring.
    pub(super) fn ring(&self, node: usize) -> Option<RawFd> {
        let fd = self.nodes[node].ring.load(Ordering::Acquire);
        (fd != NO_RING).then_some(fd)
    }

    /// Tells the others that the node has this ring, or none any more.
    pub(super) fn set_ring(&self, node: usize, fd: Option<RawFd>) {
        self.nodes[node].ring.store(fd.unwrap_or(NO_RING), Ordering::Release);
    }
}
