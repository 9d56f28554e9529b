//! The provided buffers: which bytes the kernel may write, which are leased.

#![expect(unsafe_code, reason = "memory that is shared with the kernel")]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::memory::Memory;
use super::setup::Pool;
use crate::ring::Lease;

/// The group that every receive takes its buffers from.
pub(super) const GROUP: u16 = 0;
/// IOU_PBUF_RING_INC of `linux/io_uring.h`.
const INCREMENTAL: u16 = 2;

/// Whether a buffer serves one receive or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Each receive takes a whole buffer.
    Whole,
    /// Receives take parts of a buffer, one after the other, until it is full.
    Incremental,
}

/// What of a completion concerns its buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub(super) buffer: u16,
    pub(super) len: u32,
    /// The kernel goes on filling this buffer (IORING_CQE_F_BUF_MORE).
    pub(super) more: bool,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Bytes from the start that the kernel is done with.
    filled: u32,
    /// Leases that are out.
    leases: u32,
    /// The kernel may write beyond `filled`.
    kernels: bool,
}

/// The receive buffers of one ring, and the queue in which the kernel finds them.
#[derive(Debug)]
pub(super) struct Buffers {
    memory: Memory,
    queue: Memory,
    tail: u16,
    pool: Pool,
    sharing: Sharing,
    states: Vec<State>,
    leases: usize,
    /// Buffers that the kernel can fill.
    free: u32,
    /// Buffers kept back, the one used last on top: few buffers that are used again and again stay
    /// in the cache, and those never used cost no memory.
    reserve: Vec<u16>,
    /// How many buffers the kernel is offered; doubles when they were too few.
    offer: u32,
    /// It has doubled for the leases that are out: what else found no buffer meanwhile found none for
    /// the same reason.
    has_doubled: bool,
}

/// The part of the buffers that is offered to the kernel at first: the kernel fills those that it has
/// one after the other, so that all of them take memory as soon as a few thousand clients have come.
const FIRST_OFFER_SHARE: u32 = 32;

impl Buffers {
    /// Makes the buffers and gives the first of them to the kernel.
    ///
    /// Must outlive every receive of `ring`.
    ///
    /// Errors: of io_uring_register(2); EINVAL: `sharing` is not offered.
    pub(super) fn register(ring: &IoUring, pool: Pool, sharing: Sharing) -> io::Result<Self> {
        assert!(pool.count.is_power_of_two());
        assert!(pool.count <= 1 << 15);
        assert!(pool.bytes > 0);
        let count = usize::from(pool.count);
        let queue = Memory::zeroed(count * size_of::<BufRingEntry>());
        let flags = match sharing {
            Sharing::Whole => 0,
            Sharing::Incremental => INCREMENTAL,
        };
        let address = queue.start().as_ptr().expose_provenance() as u64;
        // SAFETY: `register_buf_ring_with_flags` wants `count` entries at the address until the
        // group is unregistered or the ring is gone: `queue` has that size and lives in the result,
        // which by this function's contract outlives the receives that make the kernel look at it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, pool.count, GROUP, flags)?
        };
        let mut buffers = Self {
            memory: Memory::zeroed(count * pool.bytes as usize),
            queue,
            tail: 0,
            pool,
            sharing,
            states: vec![State { filled: 0, leases: 0, kernels: false }; count],
            leases: 0,
            free: 0,
            reserve: (0..pool.count).rev().collect(),
            offer: (u32::from(pool.count) / FIRST_OFFER_SHARE).max(1),
            has_doubled: false,
        };
        buffers.top_up();
        Ok(buffers)
    }

    /// Takes the buffers away from `ring`, on which no receive is in flight.
    pub(super) fn unregister(self, ring: &IoUring) -> io::Result<()> {
        ring.submitter().unregister_buf_ring(GROUP)
    }

    /// Leases the bytes that a receive has filled.
    pub(super) fn filled(&mut self, filled: Filled) -> Lease {
        let start = self.take(filled);
        self.states[usize::from(filled.buffer)].leases += 1;
        self.leases += 1;
        Lease { buffer: filled.buffer, start, len: filled.len }
    }

    /// Takes note of a buffer whose bytes nobody wants.
    pub(super) fn discarded(&mut self, filled: Filled) {
        self.take(filled);
        self.give_when_unused(filled.buffer);
    }

    /// The leased bytes.
    pub(super) fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let state = &self.states[usize::from(lease.buffer)];
        let end = lease.start.checked_add(lease.len).expect("a lease of this ring");
        assert!(state.leases > 0, "a lease of this ring");
        assert!(end <= state.filled, "a lease of this ring");
        let start = usize::from(lease.buffer) * self.pool.bytes as usize + lease.start as usize;
        // SAFETY: `add` wants the result inside the allocation: `start` is below the end of buffer
        // `lease.buffer`, since `filled` never exceeds the size of a buffer.
        let start = unsafe { self.memory.start().add(start) };
        // SAFETY: `from_raw_parts_mut` wants initialised bytes that nobody else touches meanwhile:
        // the memory started zeroed; the kernel writes only beyond `filled` until the buffer is
        // given again, which needs `leases` to be 0; and our own accesses go through `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), lease.len as usize) }
    }

    /// Takes a lease back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a lease that is back must not be used again"
    )]
    pub(super) fn release(&mut self, lease: Lease) {
        let state = &mut self.states[usize::from(lease.buffer)];
        state.leases = state.leases.checked_sub(1).expect("a lease of this ring");
        self.leases -= 1;
        self.has_doubled &= self.leases > 0;
        self.give_when_unused(lease.buffer);
    }

    /// Leases that are out.
    pub(super) fn leases(&self) -> usize {
        self.leases
    }

    /// Buffers that the kernel can fill, now or when they are offered.
    pub(super) fn free(&self) -> u32 {
        self.free + u32::try_from(self.reserve.len()).unwrap_or(u32::MAX)
    }

    /// Notes that a receive found no buffer: more are offered from now on.
    pub(super) fn exhausted(&mut self) {
        if !self.has_doubled {
            self.has_doubled = true;
            self.offer = (self.offer * 2).min(u32::from(self.pool.count));
            self.top_up();
        }
    }

    /// Where the filled bytes start.
    fn take(&mut self, filled: Filled) -> u32 {
        let state = &mut self.states[usize::from(filled.buffer)];
        assert!(state.kernels, "the kernel filled buffer {} that it does not own", filled.buffer);
        let start = state.filled;
        state.filled += filled.len;
        assert!(state.filled <= self.pool.bytes);
        if self.sharing == Sharing::Whole || !filled.more {
            state.kernels = false;
            self.free -= 1;
            self.top_up();
        }
        start
    }

    fn give_when_unused(&mut self, buffer: u16) {
        let state = self.states[usize::from(buffer)];
        if state.leases == 0 && !state.kernels {
            self.reserve.push(buffer);
            self.top_up();
        }
    }

    /// Offers the kernel as many buffers as it is to have.
    fn top_up(&mut self) {
        while self.free < self.offer
            && let Some(buffer) = self.reserve.pop()
        {
            self.give(buffer);
        }
    }

    /// Puts a buffer at the end of the kernel's queue.
    fn give(&mut self, buffer: u16) {
        self.states[usize::from(buffer)] = State { filled: 0, leases: 0, kernels: true };
        self.free += 1;
        let start = self.memory.start().as_ptr().expose_provenance()
            + usize::from(buffer) * self.pool.bytes as usize;
        let index = usize::from(self.tail & (self.pool.count - 1));
        // SAFETY: `add` wants the result inside the allocation: `index` is below `count`, and the
        // queue has that many entries.
        let entry = unsafe { self.queue.start().cast::<BufRingEntry>().add(index) };
        // SAFETY: `as_mut` wants an initialised entry that nobody else touches: the queue started
        // zeroed, and the kernel is done with this entry, since no buffer is in the queue twice and
        // the queue has one entry for each. The tail that shares the first entry's memory is
        // touched by nobody else while this reference lives.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(start as u64);
        entry.set_len(self.pool.bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    fn publish(&self) {
        // SAFETY: `tail` wants the address of the queue's first, initialised entry: so it is.
        let tail = unsafe { BufRingEntry::tail(self.queue.start().as_ptr().cast()) };
        // SAFETY: `from_ptr` wants an aligned, valid u16 that is only accessed atomically meanwhile:
        // it is a field of the first entry, which `&self` keeps alive, and the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entry before the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::setup::{self, Settings};
    use super::*;
    use crate::ring::probe::Features;

    fn fill(buffers: &mut Buffers, buffer: u16) -> Lease {
        buffers.filled(Filled { buffer, len: 1, more: false })
    }

    #[test]
    fn the_offer_doubles_once_for_the_leases_that_are_out() {
        let ring = setup::open(&Settings::default(), Features::default()).unwrap();
        let pool = Pool { count: 64, bytes: 4096 };
        let mut buffers = Buffers::register(&ring, pool, Sharing::Whole).unwrap();
        assert_eq!((buffers.free, buffers.reserve.len()), (2, 62));
        let leases = [fill(&mut buffers, 0), fill(&mut buffers, 1)];
        assert_eq!((buffers.free, buffers.reserve.len()), (2, 60), "others take their place");
        for _ in 0..100 {
            buffers.exhausted();
        }
        assert_eq!(buffers.free, 4);
        leases.into_iter().for_each(|lease| buffers.release(lease));
        buffers.exhausted();
        assert_eq!((buffers.free, buffers.reserve.len()), (8, 56));
        for _ in 0..10 {
            let offered = buffers.states.iter().position(|state| state.kernels).unwrap();
            let lease = fill(&mut buffers, u16::try_from(offered).unwrap());
            buffers.release(lease);
            buffers.exhausted();
        }
        assert_eq!((buffers.free, buffers.reserve.len()), (64, 0));
    }
}
