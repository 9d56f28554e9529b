//! Whether every shard still turns.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hub::Hub;
use crate::mail::message::Reply;

/// When each shard last showed that it turns; `None`: it has ended as it was told to.
pub struct Pulse(Vec<Cell<Option<Instant>>>);

impl Pulse {
    /// All `shards` shards turn at `now`.
    pub fn new(shards: usize, now: Instant) -> Self {
        Self(vec![Cell::new(Some(now)); shards])
    }

    /// The first shard that has been silent for longer than `silence_max`, and for how long.
    pub fn silent(&self, silence_max: Duration, now: Instant) -> Option<(usize, Duration)> {
        let heard =
            self.0.iter().enumerate().filter_map(|(shard, heard)| Some((shard, heard.get()?)));
        let silences = heard.map(|(shard, heard)| (shard, now.saturating_duration_since(heard)));
        silences.into_iter().find(|(_, silence)| *silence > silence_max)
    }

    /// Shard `shard` has ended: its silence means nothing any more.
    pub fn end(&self, shard: usize) {
        self.0[shard].set(None);
    }
}

/// Asks shard `shard` every so often whether it turns, until it has ended.
pub async fn keep(pulse: Rc<Pulse>, hub: Rc<Hub>, shard: usize, every: Duration) {
    while pulse.0[shard].get().is_some() {
        let answer = hub.ping(shard).await;
        // It may have ended meanwhile.
        if let (Ok(Reply::Pong), Some(_)) = (answer, pulse.0[shard].get()) {
            pulse.0[shard].set(Some(Instant::now()));
        }
        sleep(every).await;
    }
}

/// Takes it as a sign of life of shard `shard`, until it has ended, that the number of its turns grows: when
/// it is busy, what it is asked waits behind all that others ask.
pub async fn count(pulse: Rc<Pulse>, turns: impl Fn() -> u64, shard: usize, every: Duration) {
    let mut counted = turns();
    while pulse.0[shard].get().is_some() {
        sleep(every).await;
        let before = std::mem::replace(&mut counted, turns());
        if counted != before && pulse.0[shard].get().is_some() {
            pulse.0[shard].set(Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_of_shards_that_live() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let pulse = Pulse::new(2, began);
        assert_eq!(pulse.silent(2 * second, began + 2 * second), None);
        assert_eq!(pulse.silent(2 * second, began + 3 * second), Some((0, 3 * second)));
        pulse.end(0);
        pulse.0[1].set(Some(began + 2 * second));
        assert_eq!(pulse.silent(2 * second, began + 3 * second), None);
        assert_eq!(pulse.silent(2 * second, began + 5 * second), Some((1, 3 * second)));
    }

    #[tokio::test]
    async fn a_shard_that_turns_lives_although_it_answers_nothing() {
        let (began, every) = (Instant::now(), Duration::from_millis(1));
        let pulse = Rc::new(Pulse::new(2, began));
        let (turns, looks) = (Cell::new(7), Cell::new(0));
        let turning = count(Rc::clone(&pulse), || turns.replace(turns.get() + 1), 0, every);
        let standing = count(
            Rc::clone(&pulse),
            || {
                looks.set(looks.get() + 1);
                7
            },
            1,
            every,
        );
        let look = async {
            while pulse.0[0].get() == Some(began) || looks.get() < 3 {
                sleep(every).await;
            }
            assert_eq!(pulse.0[1].get(), Some(began), "it turns no more");
            pulse.end(0);
            pulse.end(1);
        };
        tokio::join!(turning, standing, look);
        assert_eq!((pulse.0[0].get(), pulse.0[1].get()), (None, None));
    }
}
