//! Whether messages come back through the engine, and from there through each shard.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two canaries.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// How long a canary may take through the engine before that counts as out of reach.
const ENGINE_MAX: Duration = Duration::from_secs(1);

/// How long a shard may show no sign of a canary.
const SHARD_MAX: Duration = Duration::from_secs(2);

/// Canaries and what has become of them.
#[derive(Debug)]
pub(super) struct Canary {
    last: u32,
    /// The oldest that has not come back through the engine.
    out: Option<(u32, Instant)>,
    /// When the last came back through each shard.
    shards: Vec<Instant>,
}

impl Canary {
    pub(super) fn new(shards: usize, now: Instant) -> Self {
        Self { last: 0, out: None, shards: vec![now; shards] }
    }

    /// The next one, to be sent now; `None` while one is out.
    pub(super) fn send(&mut self, now: Instant) -> Option<u32> {
        if self.out.is_some() {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.out = Some((self.last, now));
        Some(self.last)
    }

    /// Number `number` has come back through the engine; returns how long that took.
    pub(super) fn returned(&mut self, number: u32, now: Instant) -> Option<Duration> {
        let (_, sent) = self.out.take_if(|(out, _)| *out == number)?;
        Some(now.saturating_duration_since(sent))
    }

    /// It has come through this shard, too.
    pub(super) fn passed(&mut self, shard: usize, now: Instant) {
        self.shards[shard] = now;
    }

    /// The connection is another: what was out will not come.
    pub(super) fn forget(&mut self) {
        self.out = None;
    }

    /// How long one has been out that should be back.
    pub(super) fn is_overdue(&self, now: Instant) -> Option<Duration> {
        let (_, sent) = self.out?;
        Some(now.saturating_duration_since(sent)).filter(|out| *out >= ENGINE_MAX)
    }

    /// Shards that none has passed for too long.
    pub(super) fn silent_shards(&self, now: Instant) -> usize {
        let silent = |last: &&Instant| now.saturating_duration_since(**last) >= SHARD_MAX;
        self.shards.iter().filter(silent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_canary_that_stays_out_is_overdue_and_no_second_is_sent() {
        let now = Instant::now();
        let mut canary = Canary::new(2, now);
        let number = canary.send(now).unwrap();
        assert_eq!(canary.send(now), None);
        let later = now + Duration::from_millis(999);
        assert_eq!(canary.is_overdue(later), None);
        assert_eq!(canary.is_overdue(now + ENGINE_MAX), Some(ENGINE_MAX));
        assert_eq!(canary.returned(number + 1, later), None);
        assert_eq!(canary.returned(number, later), Some(Duration::from_millis(999)));
        canary.passed(1, later);
        assert_eq!(canary.silent_shards(now + SHARD_MAX), 1);
        assert!(canary.send(later).is_some());
    }
}
