//! Draining: no new connections, and the old ones told to come back elsewhere, at a steady rate.

use std::time::{Duration, Instant};

use crate::conn::connection::Stage;
use crate::dialect::cause::Cause;
use crate::metrics::catalogue::Counter;
use crate::ring::Ring;

use super::{Accepting, Shard, to_u64};

/// Time between two rounds of closes.
const ROUND: Duration = Duration::from_millis(20);

/// Whether a shard is on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    /// It serves.
    Running,
    /// It closes its connections over a window.
    Draining(Draining),
    /// Everything is closed at once.
    Stopping,
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    began: Instant,
    window: Duration,
    /// Connections when it began.
    total: usize,
    /// Connections told to go.
    told: usize,
    /// The next slot to look at; [`ALL_TOLD`] behind the last.
    cursor: u32,
}

/// Where the cursor stands when everybody was told.
const ALL_TOLD: u32 = u32::MAX;

impl Life {
    /// When the next connections are to be told.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Draining(draining) if draining.cursor != ALL_TOLD => Some(now + ROUND),
            Self::Running | Self::Draining(_) | Self::Stopping => None,
        }
    }
}

impl<R: Ring> Shard<R> {
    /// Begins to drain over `window_ms` milliseconds.
    pub(super) fn begin_drain(&mut self, window_ms: u64) {
        if !matches!(self.life, Life::Running) {
            return;
        }
        self.close_listeners();
        self.life = Life::Draining(Draining {
            began: self.now,
            window: Duration::from_millis(window_ms),
            total: self.slots.len(),
            told: 0,
            cursor: 0,
        });
    }

    /// Closes everything at once.
    pub(super) fn stop(&mut self) {
        self.close_listeners();
        self.life = Life::Stopping;
        self.numbers.count(Counter::DrainStragglers, to_u64(self.slots.len()));
        for index in 0..self.slots.end() {
            self.call(index, |conn, _| conn.abandon(Cause::Drain));
        }
    }

    /// Tells as many connections as are due by now.
    pub(super) fn drain(&mut self) {
        let Life::Draining(mut draining) = self.life else { return };
        let elapsed = self.now.saturating_duration_since(draining.began);
        while draining.cursor < self.slots.end() && draining.told < draining.due(elapsed) {
            let index = draining.cursor;
            draining.cursor += 1;
            // Newcomers were told when they came, and do not count.
            let slot = self.slots.at_mut(index);
            if slot.is_some_and(|slot| slot.conn.stage() == Stage::Talking) {
                draining.told += 1;
                self.call(index, |conn, cx| conn.end(Cause::Drain, cx));
            }
        }
        if draining.cursor >= self.slots.end() {
            draining.cursor = ALL_TOLD;
        }
        self.life = Life::Draining(draining);
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        !matches!(self.life, Life::Running) && self.slots.len() == 0 && self.newcomers.is_empty()
    }

    fn close_listeners(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.accepting == Accepting::Armed {
                self.ring.cancel_accept(index);
            }
            listener.accepting = Accepting::Closed;
        }
    }
}

impl Draining {
    /// How many connections are to have been told after `elapsed`.
    fn due(&self, elapsed: Duration) -> usize {
        if elapsed >= self.window {
            return usize::MAX;
        }
        let share = elapsed.as_secs_f64() / self.window.as_secs_f64().max(f64::MIN_POSITIVE);
        let total = f64::from(u32::try_from(self.total).unwrap_or(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u32, and never negative"
        )]
        let due = (total * share).ceil() as u32;
        due as usize
    }
}
