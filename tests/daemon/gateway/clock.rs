//! The tests' own clock: they watch a real process.

use std::time::{Duration, Instant};

/// The time.
#[expect(clippy::disallowed_methods, reason = "tests watch a real process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "tests watch a real process")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Milliseconds.
pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
