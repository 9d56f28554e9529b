//! The one clock of a run.

use std::time::Instant;

/// Counts nanoseconds from the start of the run; the same for every thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "a load generator measures time; here alone")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
