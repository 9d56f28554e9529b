//! The two queues that are shared with the kernel, and the one system call that moves both.

#![expect(unsafe_code, reason = "io_uring_enter, and entries that point to memory")]

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use crate::ring::stats::Stats;
use crate::ring::{Errno, Fatal};

/// IORING_REGISTER_RING_FDS and its opposite, of `linux/io_uring.h`.
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
/// Enters in a row that may take nothing (EAGAIN, EBUSY) before the ring counts as broken.
const FRUITLESS_MAX: u32 = 100_000;

/// How long an enter waits for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    No,
    For(Duration),
    Forever,
}

/// What is left of a completion queue entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// The queues of one ring.
pub(super) struct Queue {
    ring: IoUring,
    /// Index of the ring's descriptor in the thread's table, `None` when it is not registered.
    registered: Option<u32>,
    /// Taken from the completion queue, not yet handled.
    reaped: Vec<Reaped>,
    /// Set when the ring cannot be used any more; it is never entered again.
    broken: Option<Fatal>,
    pub(super) stats: Stats,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Self {
        Self { ring, registered: None, reaped: Vec::new(), broken: None, stats: Stats::default() }
    }

    /// Registers the ring's descriptor for this thread; it saves a look-up in each enter.
    ///
    /// Errors: of io_uring_register(2).
    pub(super) fn register_fd(&mut self) -> Result<(), std::io::Error> {
        self.registered = Some(change_ring_fds(self.fd(), REGISTER_RING_FDS, u32::MAX)?);
        Ok(())
    }

    pub(super) fn ring(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub(super) fn broken(&self) -> Option<Fatal> {
        self.broken
    }

    /// Puts entries into the submission queue, side by side; makes room first where needed. On a
    /// broken ring they are dropped.
    ///
    /// # Safety
    ///
    /// What the entries point to must stay as it is until their last completion (for a send with
    /// MSG_DONTWAIT: until [`Queue::is_submitted`], or for ever once the queue is broken: then the
    /// kernel is not entered again).
    pub(super) unsafe fn push(&mut self, entries: &[squeue::Entry]) {
        self.make_room(entries.len());
        if self.broken.is_some() {
            return;
        }
        let mut submission = self.ring.submission();
        // SAFETY: `push_multiple` wants what the entries point to valid for the whole operation:
        // that is this function's own contract.
        let pushed = unsafe { submission.push_multiple(entries) };
        assert!(pushed.is_ok(), "room was made");
        self.stats.submissions += entries.len() as u64;
    }

    /// Whether the kernel has consumed every entry.
    pub(super) fn is_submitted(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// Whether completions wait in the kernel because the completion queue was full.
    pub(super) fn is_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Submits what is queued, runs the kernel's deferred work, waits, and reaps.
    pub(super) fn enter(&mut self, pause: Pause) {
        if self.broken.is_some() {
            return;
        }
        let submissions = u32::try_from(self.ring.submission().len()).expect("a u32 of the kernel");
        let mut flags = EnterFlags::GETEVENTS;
        let want = u32::from(pause != Pause::No);
        let timespec;
        let mut arguments = SubmitArgs::new();
        if let Pause::For(duration) = pause {
            flags |= EnterFlags::EXT_ARG;
            timespec = Timespec::from(duration);
            arguments = SubmitArgs::new().timespec(&timespec);
        }
        let mut fd = self.fd();
        if let Some(index) = self.registered {
            flags |= EnterFlags::REGISTERED_RING;
            fd = index.cast_signed();
        }
        self.stats.enters += 1;
        let result = enter(fd, submissions, want, flags, &arguments);
        self.reap();
        match result {
            Err(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) | Ok(()) => {}
            Err(errno) => self.broken = Some(Fatal(Errno(errno))),
        }
        if self.ring.completion().overflow() > 0 {
            self.broken = Some(Fatal(Errno(libc::EBADR)));
        }
    }

    /// Enters until the kernel has consumed every entry and holds no completion back.
    pub(super) fn settle(&mut self) {
        let mut overflown = false;
        for _ in 0..FRUITLESS_MAX {
            let overflows = self.is_overflown();
            if self.broken.is_some() || self.is_submitted() && !overflows {
                self.stats.overflows += u64::from(overflown);
                return;
            }
            overflown |= overflows;
            self.enter(Pause::No);
        }
        self.broken = Some(Fatal(Errno(libc::EAGAIN)));
    }

    /// Whether nothing waits to be handled.
    pub(super) fn is_idle(&self) -> bool {
        self.reaped.is_empty()
    }

    /// What completed; to be given back by [`Queue::reuse`].
    pub(super) fn take_reaped(&mut self) -> Vec<Reaped> {
        std::mem::take(&mut self.reaped)
    }

    /// Keeps the memory of a handled batch.
    pub(super) fn reuse(&mut self, mut handled: Vec<Reaped>) {
        debug_assert!(self.reaped.is_empty());
        handled.clear();
        self.reaped = handled;
    }

    /// Makes the ring unusable: nothing is submitted any more.
    pub(super) fn break_with(&mut self, fatal: Fatal) {
        self.broken.get_or_insert(fatal);
    }

    fn make_room(&mut self, entries: usize) {
        let mut fruitless = 0;
        loop {
            let submission = self.ring.submission();
            if submission.capacity() - submission.len() >= entries || self.broken.is_some() {
                return;
            }
            drop(submission);
            self.enter(Pause::No);
            fruitless += 1;
            if fruitless == FRUITLESS_MAX {
                self.broken = Some(Fatal(Errno(libc::EAGAIN)));
            }
        }
    }

    fn reap(&mut self) {
        let before = self.reaped.len();
        let reaped = |entry: cqueue::Entry| Reaped {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        };
        self.reaped.extend(self.ring.completion().map(reaped));
        self.stats.completions += (self.reaped.len() - before) as u64;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(index) = self.registered {
            // The entry would keep the ring alive until the thread ends. It can only fail where it
            // does not exist, and then nothing is to be done.
            drop(change_ring_fds(self.fd(), UNREGISTER_RING_FDS, index));
        }
    }
}

/// io_uring_enter(2). Errors: its error number.
fn enter(
    fd: RawFd,
    submissions: u32,
    want: u32,
    flags: EnterFlags,
    arguments: &SubmitArgs<'_, '_>,
) -> Result<(), i32> {
    let (pointer, size) = if flags.contains(EnterFlags::EXT_ARG) {
        (std::ptr::from_ref(arguments), size_of::<SubmitArgs<'_, '_>>())
    } else {
        (std::ptr::null(), 0)
    };
    // SAFETY: io_uring_enter wants an io_uring_getevents_arg of the given size where EXT_ARG is
    // set (`SubmitArgs` is one, and the timespec it points to is borrowed for its life), and what
    // queued entries point to, which is the contract of `Queue::push`. A wrong `fd` is an error.
    let result = unsafe {
        libc::syscall(libc::SYS_io_uring_enter, fd, submissions, want, flags.bits(), pointer, size)
    };
    if result >= 0 { Ok(()) } else { Err(last_errno()) }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFd {
    index: u32,
    reserved: u32,
    fd: u64,
}

/// Registers or unregisters a ring's descriptor for this thread; returns its index.
fn change_ring_fds(fd: RawFd, operation: u32, index: u32) -> Result<u32, std::io::Error> {
    let mut update = RingFd { index, reserved: 0, fd: 0 };
    if operation == REGISTER_RING_FDS {
        update.fd = u64::try_from(fd).expect("an open descriptor");
    }
    let one = 1_u32;
    // SAFETY: io_uring_register wants one io_uring_rsrc_update that it may write to: `update` has
    // its layout and lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, operation, &raw mut update, one) };
    if result == 1 { Ok(update.index) } else { Err(std::io::Error::last_os_error()) }
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
