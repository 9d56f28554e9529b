//! How many connections have ended, and how many of them lately.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::state::State;
use crate::metrics::{Reader, Vocabulary};

/// Time between two snapshots.
const EVERY: Duration = Duration::from_secs(15);

/// Snapshots that are kept: an hour's.
const KEPT: usize = 241;

/// How many connections have ended since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Upgraded ones, by code, initiator, cause and protocol; none that are 0.
    pub closed: BTreeMap<[&'static str; 4], u64>,
    /// Those that were never upgraded, by cause; none that are 0.
    pub unopened: BTreeMap<&'static str, u64>,
}

impl Ends {
    /// The sums over these shards.
    pub fn sum<V: Vocabulary>(shards: &[Reader<V>]) -> Self {
        let mut ends = Self::default();
        for (labels, count) in shards.iter().flat_map(Reader::closed) {
            if let Ok(labels) = <[&str; 4]>::try_from(labels) {
                *ends.closed.entry(labels).or_default() += count;
            }
        }
        for (cause, count) in shards.iter().flat_map(Reader::handshakes_ended) {
            *ends.unopened.entry(cause).or_default() += count;
        }
        ends
    }
}

/// What the numbers were at times within the last hour.
#[derive(Debug)]
pub(in crate::api) struct Snapshots(VecDeque<(Instant, Ends)>);

impl Snapshots {
    /// Nothing has ended at `now`.
    pub(in crate::api) fn new(now: Instant) -> Self {
        Self(VecDeque::from([(now, Ends::default())]))
    }

    fn add(&mut self, now: Instant, ends: Ends) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, ends));
    }

    /// The last snapshot that is at least `window` old at `now`; else the oldest.
    pub(super) fn before(&self, now: Instant, window: Duration) -> (Instant, &Ends) {
        let is_old = |(at, _): &&(Instant, Ends)| now.saturating_duration_since(*at) >= window;
        let found = self.0.iter().rev().find(is_old).or(self.0.front());
        let (at, ends) =
            found.expect("there is one from the start on, and one goes when one comes");
        (*at, ends)
    }
}

/// Takes snapshots for as long as the operators' port is open.
pub(in crate::api) async fn keep(state: Rc<State>) {
    loop {
        sleep(EVERY).await;
        let ends = (state.parts.ends)();
        state.snapshots.borrow_mut().add(Instant::now(), ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(count: u64) -> Ends {
        Ends { unopened: BTreeMap::from([("reset", count)]), ..Ends::default() }
    }

    #[test]
    fn the_snapshot_before_a_window_is_the_last_that_is_old_enough() {
        let start = Instant::now();
        let mut snapshots = Snapshots::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        (1..=4).for_each(|n| snapshots.add(at(n * 15), ends(n)));
        let before = |now, window| {
            let (at, ends) = snapshots.before(at(now), Duration::from_secs(window));
            ((at - start).as_secs(), ends.unopened.get("reset").copied())
        };
        assert_eq!(before(62, 30), (30, Some(2)));
        assert_eq!(before(62, 2), (60, Some(4)));
        assert_eq!(before(62, 62), (0, None));
        assert_eq!(before(62, 3600), (0, None), "no older than the start");
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let start = Instant::now();
        let mut snapshots = Snapshots::new(start);
        (1..2000).for_each(|n| snapshots.add(start + EVERY * n, ends(n.into())));
        assert_eq!(snapshots.0.len(), KEPT);
        let (oldest, _) = snapshots.before(start + EVERY * 1999, Duration::MAX);
        assert_eq!(oldest, start + EVERY * (2000 - 241));
    }
}
