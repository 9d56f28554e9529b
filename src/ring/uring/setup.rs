//! How a ring is made: sizes, flags, restrictions, and what can be tried on it.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

use super::buffers::{Buffers, Sharing};
use crate::ring::probe::{Feature, Features};

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
