//! Rate limits.

use std::time::{Duration, Instant};

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Average time between two events.
    pub interval: Duration,
    /// Events that may come at once after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// `per_second` events on average, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), burst: burst.max(1) }
    }
}

/// The state of one limit: the generic cell rate algorithm, 16 bytes.
///
/// Source: ITU-T I.371, virtual scheduling.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    expected: Instant,
}

impl Meter {
    /// A meter that allows a whole burst at `now`.
    pub fn new(now: Instant) -> Self {
        Self { expected: now }
    }

    /// Counts an event at `now`; `false`: it comes too soon.
    pub fn admit(&mut self, now: Instant, rate: Rate) -> bool {
        let expected = self.expected.max(now);
        if expected.saturating_duration_since(now) > rate.interval * (rate.burst - 1) {
            return false;
        }
        self.expected = expected + rate.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_burst_passes_and_then_the_average_holds() {
        let now = Instant::now();
        let rate = Rate::new(10, 20);
        let mut meter = Meter::new(now);
        assert_eq!((0..30).filter(|_| meter.admit(now, rate)).count(), 20);
        let later = now + Duration::from_millis(250);
        assert_eq!((0..30).filter(|_| meter.admit(later, rate)).count(), 2);
        let rested = later + Duration::from_secs(60);
        assert_eq!((0..30).filter(|_| meter.admit(rested, rate)).count(), 20);
    }
}
