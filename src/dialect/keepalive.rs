//! When to ping a client and when to give it up.

use std::time::{Duration, Instant};

/// Ping settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between pings.
    pub interval: Duration,
    /// How long an answer may take; less than `interval`.
    pub timeout: Duration,
}

/// What is to be done when a keepalive's deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a ping.
    Ping,
    /// The client did not answer in time.
    Dead,
}

/// The pings of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    deadline: Instant,
    awaiting: bool,
}

impl Keepalive {
    /// Starts at `now`; `spread` (0 to 1) places the first ping in the second half of the first
    /// interval, so that clients which came together are not pinged together.
    pub fn new(now: Instant, settings: Settings, spread: f32) -> Self {
        let first = settings.interval.mul_f32(0.5 + 0.5 * spread.clamp(0.0, 1.0));
        Self { deadline: now + first, awaiting: false }
    }

    /// When [`Keepalive::handle_timeout`] wants to be called.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a ping is unanswered.
    pub fn is_awaiting(&self) -> bool {
        self.awaiting
    }

    /// Says what is due at `now` and moves the deadline on.
    pub fn handle_timeout(&mut self, now: Instant, settings: Settings) -> Due {
        if now < self.deadline {
            return Due::Nothing;
        }
        if self.awaiting {
            return Due::Dead;
        }
        self.awaiting = true;
        self.deadline = now + settings.timeout;
        Due::Ping
    }

    /// The client has answered.
    pub fn answered(&mut self, settings: Settings) {
        if self.awaiting {
            self.awaiting = false;
            // The ping went out `timeout` before the deadline.
            self.deadline += settings.interval.saturating_sub(settings.timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { interval: Duration::from_secs(25), timeout: Duration::from_secs(8) };

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_ping_falls_into_the_second_half_of_the_interval() {
        let now = start();
        assert_eq!(Keepalive::new(now, SETTINGS, 0.0).deadline(), now + SETTINGS.interval / 2);
        assert_eq!(Keepalive::new(now, SETTINGS, 1.0).deadline(), now + SETTINGS.interval);
    }

    #[test]
    fn an_unanswered_ping_is_death_and_an_answered_one_keeps_the_rhythm() {
        let now = start();
        let mut keepalive = Keepalive::new(now, SETTINGS, 1.0);
        assert_eq!(keepalive.handle_timeout(now + Duration::from_secs(24), SETTINGS), Due::Nothing);
        let pinged = now + Duration::from_secs(25);
        assert_eq!(keepalive.handle_timeout(pinged, SETTINGS), Due::Ping);
        keepalive.answered(SETTINGS);
        assert_eq!(keepalive.deadline(), pinged + Duration::from_secs(25));
        let second = pinged + Duration::from_secs(25);
        assert_eq!(keepalive.handle_timeout(second, SETTINGS), Due::Ping);
        let late = second + Duration::from_secs(8);
        assert_eq!(keepalive.handle_timeout(late, SETTINGS), Due::Dead);
    }
}
