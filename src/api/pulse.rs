//! Whether every shard still turns.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::state::{Readiness, State};
use crate::mail::message::Reply;

/// When each shard last showed that it turns.
pub(super) struct Pulse(Vec<Cell<Instant>>);

impl Pulse {
    /// All `shards` shards turn at `now`.
    pub(super) fn new(shards: usize, now: Instant) -> Self {
        Self(vec![Cell::new(now); shards])
    }

    /// The first shard that has been silent for longer than `silence_max`, and for how long.
    pub(super) fn silent(&self, silence_max: Duration, now: Instant) -> Option<(usize, Duration)> {
        let silences = self.0.iter().map(|heard| now.saturating_duration_since(heard.get()));
        silences.enumerate().find(|(_, silence)| *silence > silence_max)
    }
}

/// Asks shard `shard`, again and again, whether it turns; until the gateway drains, when shards end.
pub(super) async fn keep(state: Rc<State>, shard: usize) {
    while state.parts.readiness.get() != Readiness::Draining {
        if let Ok(Reply::Pong) = state.parts.hub.ping(shard).await {
            state.pulse.0[shard].set(Instant::now());
        }
        sleep(state.parts.limits.pulse_every).await;
    }
}
