//! How a ring is made: sizes, flags, restrictions, and what can be tried on it.

use std::io;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

use super::buffers::{Buffers, Sharing};
use crate::ring::probe::{Feature, Features, StartError};

/// Settings of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Operations that can be submitted at once; rounded up to a power of two.
    pub submission_entries: u32,
    /// Completions that can wait, at least as many as submissions; rounded up to a power of two.
    /// More of them take the kernel's slow path, none is lost. Four times the submissions is a
    /// good minimum.
    pub completion_entries: u32,
    /// Receive buffers when they can be shared by several receives (kernel 6.12).
    pub shared_buffers: Pool,
    /// Receive buffers when each receive takes a whole one.
    pub whole_buffers: Pool,
    /// Optional features to do without although the kernel has them.
    pub disable: Vec<Feature>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            submission_entries: 2048,
            completion_entries: 16_384,
            shared_buffers: Pool { count: 64, bytes: 64 * 1024 },
            whole_buffers: Pool { count: 512, bytes: 4 * 1024 },
            disable: Vec::new(),
        }
    }
}

/// Receive buffers of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How many: a power of two, at most 32,768.
    pub count: u16,
    /// The size of each.
    pub bytes: u32,
}

/// Submission entries below which a ring is not made smaller for want of memory.
const ENTRIES_MIN: u32 = 256;
/// How long the memory of a ring that is gone may take to come back.
const MEMORY_WAIT: Duration = Duration::from_millis(40);
/// How often something small is tried while there is no memory.
const TRIES_MAX: usize = 5;
/// IORING_UNREGISTER_RING_FDS of `linux/io_uring.h`.
const UNREGISTER_RING_FDS: u8 = 21;

/// Makes a ring; disabled until `restrict` and `enable` when it has [`Feature::Restrictions`].
///
/// Errors: of io_uring_setup(2).
pub(in crate::ring) fn open(settings: &Settings, features: Features) -> io::Result<IoUring> {
    assert!(settings.completion_entries >= settings.submission_entries);
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(settings.completion_entries);
    if features.has(Feature::NoSqarray) {
        builder.setup_no_sqarray();
    }
    if features.has(Feature::Restrictions) {
        builder.setup_r_disabled();
    }
    builder.build(settings.submission_entries)
}

/// Makes something of a ring by `make`, with half the entries (and half again, down to 256) when
/// there is no memory for more; with the fewest it is tried for a while, since rings that are gone
/// or that other shards try may still hold the memory. Returns it and the submission entries that
/// it got.
///
/// Errors: of `make`.
pub(in crate::ring) fn fit<T>(
    settings: &Settings,
    mut make: impl FnMut(&Settings) -> Result<T, StartError>,
) -> Result<(T, u32), StartError> {
    let mut sizes = settings.clone();
    while sizes.submission_entries / 2 >= ENTRIES_MIN {
        match make(&sizes) {
            Err(StartError::Memlock { .. }) => wait_for_memory(),
            made => return made.map(|made| (made, sizes.submission_entries)),
        }
        sizes.submission_entries /= 2;
        sizes.completion_entries /= 2;
    }
    insist(|| make(&sizes)).map(|made| (made, sizes.submission_entries))
}

/// Makes something by `make`, which is tried for a while when there is no memory.
///
/// Errors: of `make`.
pub(in crate::ring) fn insist<T>(
    mut make: impl FnMut() -> Result<T, StartError>,
) -> Result<T, StartError> {
    for _ in 1..TRIES_MAX {
        match make() {
            Err(StartError::Memlock { .. }) => wait_for_memory(),
            made => return made,
        }
    }
    make()
}

/// The kernel gives locked memory back only some time after a ring is gone.
#[expect(clippy::disallowed_methods, reason = "at the start, when no connection waits")]
pub(in crate::ring) fn wait_for_memory() {
    std::thread::sleep(MEMORY_WAIT);
}

/// Bytes of locked memory that a ring with these settings takes.
pub(in crate::ring) fn locked_bytes(settings: &Settings) -> u64 {
    let submissions = u64::from(settings.submission_entries.next_power_of_two());
    let completions = u64::from(settings.completion_entries.next_power_of_two());
    let buffers = u64::from(settings.shared_buffers.count.max(settings.whole_buffers.count));
    let pages = |bytes: u64| bytes.next_multiple_of(4096);
    // 64 bytes for an entry, 4 for its index, 16 for a completion and for a provided buffer.
    pages(submissions * 64) + pages(4096 + submissions * 4 + completions * 16) + pages(buffers * 16)
}

/// Registers the descriptor of `ring`, and takes that back.
///
/// Errors: of io_uring_register(2).
pub(in crate::ring) fn try_registered_ring(ring: &IoUring) -> io::Result<()> {
    let mut submitter = ring.submitter();
    submitter.register_ring_fd()?;
    submitter.unregister_ring_fd()
}

/// Registers a shared buffer (6.12), and takes that back.
///
/// Errors: of io_uring_register(2).
pub(in crate::ring) fn try_incremental_buffers(ring: &IoUring) -> io::Result<()> {
    let pool = Pool { count: 1, bytes: 4096 };
    Buffers::register(ring, pool, Sharing::Incremental)?.unregister(ring)
}

/// Restricts a disabled ring to the operations that are used here, from [`enable`] on.
///
/// Errors: of io_uring_register(2).
pub(in crate::ring) fn restrict(ring: &IoUring) -> io::Result<()> {
    let flags = Flags::IO_HARDLINK | Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    let mut restrictions = [
        Restriction::sqe_op(opcode::AcceptMulti::CODE),
        Restriction::sqe_op(opcode::RecvMulti::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_op(opcode::Close::CODE),
        Restriction::sqe_op(opcode::MsgRingData::CODE),
        Restriction::sqe_flags_allowed(flags.bits()),
        Restriction::register_op(UNREGISTER_RING_FDS),
    ];
    ring.submitter().register_restrictions(&mut restrictions)
}

/// Starts a ring that was made disabled.
///
/// Errors: of io_uring_register(2).
pub(super) fn enable(ring: &IoUring) -> io::Result<()> {
    ring.submitter().register_enable_rings()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_memory() -> StartError {
        StartError::Memlock { needed_bytes: 400_000, limit_bytes: Some(65_536) }
    }

    /// The entries that were tried when a ring of at most `most` fits, and what came of it.
    fn fit_below(most: u32) -> (Vec<(u32, u32)>, Result<u32, StartError>) {
        let mut tried = Vec::new();
        let fitted = fit(&Settings::default(), |sizes| {
            tried.push((sizes.submission_entries, sizes.completion_entries));
            if sizes.submission_entries <= most { Ok(()) } else { Err(no_memory()) }
        });
        (tried, fitted.map(|((), entries)| entries))
    }

    #[test]
    fn a_ring_that_fits_is_not_made_smaller() {
        assert_eq!(fit_below(2048), (vec![(2048, 16_384)], Ok(2048)));
    }

    #[test]
    fn entries_are_halved_until_the_ring_fits() {
        assert_eq!(fit_below(600), (vec![(2048, 16_384), (1024, 8192), (512, 4096)], Ok(512)));
    }

    #[test]
    fn a_ring_of_less_than_256_entries_is_refused() {
        let mut tried = vec![(2048, 16_384), (1024, 8192), (512, 4096)];
        tried.extend([(256, 2048); 5]);
        assert_eq!(fit_below(255), (tried, Err(no_memory())));
    }

    #[test]
    fn memory_that_comes_back_late_is_waited_for() {
        let mut late = 2;
        let made = insist(|| {
            late -= 1;
            if late == 0 { Ok("a ring") } else { Err(no_memory()) }
        });
        assert_eq!(made, Ok("a ring"));
    }

    #[test]
    fn another_failure_is_not_tried_again() {
        let mut tries = 0;
        let fitted = fit(&Settings::default(), |_| -> Result<(), _> {
            tries += 1;
            Err(StartError::Seccomp)
        });
        assert_eq!((tries, fitted), (1, Err(StartError::Seccomp)));
    }
}
