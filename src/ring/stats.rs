//! What a ring has counted since it was made.

/// Counters of one ring; one writer, read by its own thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Operations given to the kernel.
    pub submissions: u64,
    /// Completions taken from the kernel.
    pub completions: u64,
    /// Turns in which the completion queue overflowed; nothing was lost by it.
    pub overflows: u64,
    /// Receives that ended because no buffer was free (ENOBUFS).
    pub starved: u64,
    /// Sends of a turn that were short or refused.
    pub short_sends: u64,
    /// Completions that belonged to no operation in flight; zero unless there is a bug.
    pub stale: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Wakes sent to other threads.
    pub wakes_sent: u64,
    /// Wakes received; several of one turn are reported once.
    pub wakes_received: u64,
    /// Buffers that the kernel can fill now.
    pub buffers_free: u32,
}
