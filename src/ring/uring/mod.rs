//! The io_uring engine.
//!
//! One `io_uring_enter` in a turn: it submits everything, runs the kernel's deferred work and waits.
//! More only when sends go out in slices, or when the completion queue overflowed.

#![expect(unsafe_code, reason = "descriptors and memory that the kernel is given")]

use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use bytes::Bytes;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, opcode, squeue};

use super::listen::Listener;
use super::probe::{self, Feature, Features, StartError, explain, failed};
use super::slots::{Part, Slots};
use super::stats::Stats;
use super::wakes::Wakes;
use super::{Completion, Errno, Farewell, Fatal, Lease, Ring, Sends, Socket, TcpInfo, Token, Wait};

mod accept;
mod buffers;
mod memory;
mod queue;
mod reap;
pub(in crate::ring) mod setup;
mod socket;
pub(in crate::ring) mod trial;
mod user_data;

use accept::warn_of_single_accepts;
use buffers::{Buffers, Sharing};
use queue::{Pause, Queue};
pub use setup::{Pool, Settings};
use socket::{borrow, own};
use user_data::{Kind, UserData};

/// Sends that one enter submits: bounds the time that a fan-out keeps received bytes waiting.
const SENDS_PER_ENTER: usize = 1024;
/// Bytes of one send; the kernel silently sends less from about 2 GiB on.
const SEND_BYTES_MAX: usize = 1 << 30;
/// A send of a turn: tried once; WAITALL is what makes a short one a reported failure.
const SEND_NOW: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// Enters that a ring which is dropped spends on getting its operations back.
const LAST_ENTERS_MAX: usize = 1000;

/// What a ring is made with.
#[derive(Debug)]
pub struct Parts {
    /// Listening sockets; completions name them by their index. Made blocking.
    pub listeners: Vec<Listener>,
    /// The thread that the ring belongs to, an index into `wakes`.
    pub node: usize,
    /// Every thread's wake-up channel.
    pub wakes: Arc<Wakes>,
}

/// The ring of one shard, tied to the thread that made it.
///
/// Sockets that were not given to [`Ring::close`] stay open when it is dropped.
pub struct Uring {
    queue: Queue,
    // Both are leaked when the kernel may still use them after the drop.
    buffers: ManuallyDrop<Buffers>,
    owned: ManuallyDrop<Owned>,
    slots: Slots,
    features: Features,
    listeners: Vec<Listener>,
    /// Which of them are to accept, by their index.
    accepting: Vec<bool>,
    /// Those whose accept has ended in this turn; the next one arms them again.
    accept_next: Vec<usize>,
    node: usize,
    wakes: Arc<Wakes>,
    /// Operations whose last completion is to come.
    in_flight: usize,
    now: Instant,
    stats: Stats,
    /// A ring's queues belong to one thread (SINGLE_ISSUER).
    _thread: std::marker::PhantomData<*const ()>,
}

/// The bytes of owned sends.
#[derive(Debug, Default)]
struct Owned {
    bytes: Vec<Bytes>,
    vacant: Vec<u32>,
}

impl Uring {
    /// A ring for the calling thread; other threads cannot use it.
    ///
    /// Errors: why the kernel does not give one.
    pub fn new(settings: &Settings, parts: Parts) -> Result<Self, StartError> {
        let features = probe::features(settings)?;
        warn_of_single_accepts(settings, features);
        let (ring, buffers) = open_with_buffers(settings, features)?;
        let mut queue = Queue::new(ring);
        if features.has(Feature::RegisteredRing) {
            queue.register_fd().map_err(|error| failed("registering the ring", &error))?;
        }
        if features.has(Feature::Restrictions) {
            setup::restrict(queue.ring()).map_err(|error| failed("restricting", &error))?;
            setup::enable(queue.ring()).map_err(|error| failed("enabling", &error))?;
            if !trial::refuses_strangers(&mut queue) {
                let error = std::io::Error::from_raw_os_error(libc::EIO);
                return Err(failed("testing the restrictions", &error));
            }
        }
        parts.listeners.iter().try_for_each(|listener| make_blocking(&listener.socket))?;
        if features.has(Feature::MsgRing) {
            parts.wakes.set_ring(parts.node, Some(queue.fd()));
        }
        let mut ring = Self {
            queue,
            buffers: ManuallyDrop::new(buffers),
            owned: ManuallyDrop::default(),
            slots: Slots::default(),
            features,
            accepting: vec![false; parts.listeners.len()],
            accept_next: Vec::new(),
            listeners: parts.listeners,
            node: parts.node,
            wakes: parts.wakes,
            in_flight: 0,
            now: read_clock(),
            stats: Stats::default(),
            _thread: std::marker::PhantomData,
        };
        ring.count();
        ring.watch_eventfd();
        Ok(ring)
    }

    /// The optional features in use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Queues an operation that points to no memory and has a last completion.
    fn start(&mut self, entry: squeue::Entry, user_data: UserData) {
        self.in_flight += 1;
        // SAFETY: `push` wants memory that entries point to kept: the callers' entries have none.
        unsafe { self.queue.push(&[entry.user_data(user_data.encode())]) }
    }

    fn watch_eventfd(&mut self) {
        let eventfd = Fd(self.wakes.eventfd(self.node).as_raw_fd());
        let readable = u32::try_from(libc::POLLIN).expect("a small flag");
        let poll = opcode::PollAdd::new(eventfd, readable).multi(true).build();
        self.start(poll, UserData::of_index(Kind::Eventfd, self.node));
    }

    fn cancel(&mut self, target: UserData, own: UserData) {
        self.start(opcode::AsyncCancel::new(target.encode()).build(), own);
    }

    fn cancel_receive_again(&mut self, token: Token) {
        self.slots.begin(token, Part::CancelReceive);
        let target = UserData::of_token(Kind::Receive, token);
        self.cancel(target, UserData::of_token(Kind::CancelReceive, token));
    }

    /// Queues a turn's sends; all but the last slice are submitted.
    fn send_now<S: Sends>(&mut self, sends: &S) {
        for index in 0..sends.len() {
            if index > 0 && index % SENDS_PER_ENTER == 0 {
                self.queue.enter(Pause::No);
            }
            let (socket, bytes) = sends.get(index);
            assert!(!bytes.is_empty());
            assert!(bytes.len() <= SEND_BYTES_MAX);
            #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
            let len = bytes.len() as u32;
            let send = opcode::Send::new(Fd(socket.0), bytes.as_ptr(), len)
                .flags(SEND_NOW)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(UserData::of_send(index).encode());
            // SAFETY: `push` wants the bytes kept until the entry is submitted (DONTWAIT: the
            // kernel reads them while it consumes the entry, never later). `sends` is borrowed
            // until `turn` returns, which it does when everything is submitted or the queue broken;
            // `Unsent` breaks the queue when a panic of `sends` leaves earlier.
            unsafe { self.queue.push(&[send]) }
        }
    }

    fn count(&mut self) {
        self.stats = self.queue.stats;
        self.stats.buffers_free = self.buffers.free();
    }
}

/// The time. The only place where a shard's clock is read.
#[expect(clippy::disallowed_methods, reason = "the ring is the shard's clock")]
fn read_clock() -> Instant {
    Instant::now()
}

fn make_blocking(listener: &OwnedFd) -> Result<(), StartError> {
    // An accept on a nonblocking listener would be refused (EAGAIN) instead of waiting.
    let make = || {
        let flags = rustix::fs::fcntl_getfl(listener)?;
        rustix::fs::fcntl_setfl(listener, flags - rustix::fs::OFlags::NONBLOCK)
    };
    make().map_err(|errno| failed("making a listener blocking", &errno.into()))
}

/// The ring and its receive buffers, smaller than `settings` wants where locked memory is short.
fn open_with_buffers(
    settings: &Settings,
    features: Features,
) -> Result<(IoUring, Buffers), StartError> {
    let (pool, sharing) = if features.has(Feature::IncrementalBuffers) {
        (settings.shared_buffers, Sharing::Incremental)
    } else {
        (settings.whole_buffers, Sharing::Whole)
    };
    let (opened, entries) = setup::fit(settings, |sizes| {
        let ring = setup::open(sizes, features).map_err(|error| explain(&error, settings))?;
        let buffers = Buffers::register(&ring, pool, sharing);
        let buffers = buffers.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOMEM) => explain(&error, settings),
            _ => failed("registering buffers", &error),
        })?;
        Ok((ring, buffers))
    })?;
    if entries < settings.submission_entries {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::warn!(
                entries,
                wanted = settings.submission_entries,
                needed_bytes_per_shard = setup::locked_bytes(settings),
                "locked memory is short, so rings are smaller: raise LimitMEMLOCK="
            );
        });
    }
    Ok(opened)
}

impl Ring for Uring {
    fn now(&self) -> Instant {
        self.now
    }

    fn measure(&self) -> Instant {
        read_clock()
    }

    fn accept(&mut self, listener: usize) {
        self.accepting[listener] = true;
        self.arm_accept(listener);
    }

    fn cancel_accept(&mut self, listener: usize) {
        self.accepting[listener] = false;
        let target = UserData::of_index(Kind::Accept, listener);
        self.cancel(target, UserData::of_index(Kind::CancelAccept, listener));
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.slots.begin(token, Part::Receive);
        let receive = opcode::RecvMulti::new(Fd(socket.0), buffers::GROUP).build();
        self.start(receive, UserData::of_token(Kind::Receive, token));
    }

    fn cancel_receive(&mut self, _socket: Socket, token: Token) {
        if self.slots.has(token, Part::Receive) && !self.slots.has(token, Part::CancelReceive) {
            self.cancel_receive_again(token);
        }
    }

    fn send_owned(&mut self, socket: Socket, token: Token, bytes: Bytes) {
        assert!(!bytes.is_empty());
        assert!(bytes.len() <= SEND_BYTES_MAX);
        self.slots.begin(token, Part::Send);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let send = opcode::Send::new(Fd(socket.0), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(UserData::of_token(Kind::SendOwned, token).encode());
        let index = self.owned.keep(bytes);
        self.slots.set_send(token, index);
        self.in_flight += 1;
        // SAFETY: `push` wants the bytes kept until the last completion: `owned` holds a reference
        // to them (whose address does not change) until `reap` sees that completion; and `drop`
        // leaks `owned` when it never came.
        unsafe { self.queue.push(&[send]) }
    }

    fn shutdown(&mut self, socket: Socket) {
        // ENOTCONN: the peer has reset the connection, so there is nobody to tell.
        rustix::net::shutdown(borrow(&socket), rustix::net::Shutdown::Write).unwrap_or_default();
    }

    fn close(&mut self, socket: Socket, token: Token, farewell: Farewell) {
        if farewell == Farewell::Reset {
            // It fails only on what is not a socket, and then there is no peer to reset.
            rustix::net::sockopt::set_socket_linger(borrow(&socket), Some(Duration::ZERO))
                .unwrap_or_default();
        }
        let close = opcode::Close::new(Fd(socket.0))
            .build()
            .user_data(UserData::of_token(Kind::Close, token).encode());
        if self.slots.begin_close(token).is_empty() {
            self.in_flight += 1;
            // SAFETY: `push` wants memory kept: a close has none.
            unsafe { self.queue.push(&[close]) }
            return;
        }
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(socket.0)).all())
            .build()
            .flags(squeue::Flags::IO_HARDLINK)
            .user_data(UserData::of_token(Kind::CancelAll, token).encode());
        self.in_flight += 2;
        // SAFETY: `push` wants memory kept: neither has any.
        unsafe { self.queue.push(&[cancel, close]) }
    }

    fn peer(&self, socket: Socket) -> Option<SocketAddr> {
        socket::peer(socket)
    }

    fn tcp_info(&self, socket: Socket) -> Option<TcpInfo> {
        socket::tcp_info(socket)
    }

    fn wake(&mut self, node: usize) {
        self.queue.stats.wakes_sent += 1;
        let ring = self.features.has(Feature::MsgRing).then(|| self.wakes.ring(node)).flatten();
        let Some(fd) = ring else { return self.wakes.notify(node) };
        let woken = UserData::of_index(Kind::Woken, self.node).encode();
        let wake = opcode::MsgRingData::new(Fd(fd), 0, woken, None)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(UserData::of_index(Kind::Wake, node).encode());
        // SAFETY: `push` wants memory kept: the entry has none.
        unsafe { self.queue.push(&[wake]) }
    }

    fn turn<S: Sends>(
        &mut self,
        sends: &S,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> Result<(), Fatal> {
        assert_eq!(self.buffers.leases(), 0, "a lease outlived its turn");
        self.accept_again(completions);
        let unsent = Unsent(self);
        unsent.0.send_now(sends);
        let pause = if unsent.0.queue.is_idle() { pause(wait) } else { Pause::No };
        unsent.0.queue.enter(pause);
        unsent.0.queue.settle();
        unsent.disarm();
        self.handle_reaped(completions);
        self.now = read_clock();
        self.count();
        self.queue.broken().map_or(Ok(()), Err)
    }

    fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        self.buffers.bytes(lease)
    }

    fn release(&mut self, lease: Lease) {
        self.buffers.release(lease);
    }

    fn leases_out(&self) -> usize {
        self.buffers.leases()
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// A ring with entries that point to memory of the turn: broken when dropped, so that they are
/// never submitted later.
struct Unsent<'a>(&'a mut Uring);

impl Unsent<'_> {
    fn disarm(self) {
        debug_assert!(self.0.queue.broken().is_some() || self.0.queue.is_submitted());
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.0.queue.break_with(Fatal(Errno(libc::ECANCELED)));
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.wakes.set_ring(self.node, None);
        self.accepting.fill(false);
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        self.start(everything, UserData::of_index(Kind::CancelRing, 0));
        let mut completions = Vec::new();
        for _ in 0..LAST_ENTERS_MAX {
            if self.in_flight == 0 || self.queue.broken().is_some() {
                break;
            }
            self.queue.enter(Pause::For(Duration::from_millis(10)));
            self.handle_reaped(&mut completions);
            completions.drain(..).for_each(|completion| self.discard(completion));
        }
        if self.in_flight == 0 {
            // SAFETY: `ManuallyDrop::drop` wants the value not used again: nothing of the ring is
            // in flight, so the kernel does not, and `self` is going.
            unsafe { ManuallyDrop::drop(&mut self.buffers) }
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.owned) }
        }
    }
}

impl Owned {
    /// Keeps the bytes; returns where.
    fn keep(&mut self, bytes: Bytes) -> u32 {
        if let Some(index) = self.vacant.pop() {
            self.bytes[index as usize] = bytes;
            return index;
        }
        self.bytes.push(bytes);
        u32::try_from(self.bytes.len() - 1).expect("at most one for each slot")
    }

    /// Lets the bytes go.
    fn drop_at(&mut self, index: u32) {
        self.bytes[index as usize] = Bytes::new();
        self.vacant.push(index);
    }
}

fn pause(wait: Wait) -> Pause {
    match wait {
        Wait::No => Pause::No,
        Wait::Forever => Pause::Forever,
        Wait::Until(deadline) => match deadline.saturating_duration_since(read_clock()) {
            Duration::ZERO => Pause::No,
            duration => Pause::For(duration),
        },
    }
}

#[cfg(test)]
mod tests;
