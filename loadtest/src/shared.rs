//! What the threads of a run share: the stage, counters, topics.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use mio::Waker;

use crate::clock::Clock;

/// How far the run is. Only the main thread moves it, always forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Connections are set up.
    Opening,
    /// Load, not yet measured.
    Warmup,
    /// Load, measured.
    Measuring,
    /// Nothing new is sent; what is under way may arrive.
    Draining,
    /// Connections are closed.
    Closing,
}

const STAGES: [Stage; 5] =
    [Stage::Opening, Stage::Warmup, Stage::Measuring, Stage::Draining, Stage::Closing];

/// Counters of the run, and who must be woken.
#[derive(Debug)]
pub(crate) struct Shared {
    stage: AtomicU8,
    /// The time of all threads.
    pub(crate) clock: Clock,
    /// Index of the next connection that takes the place of another.
    pub(crate) next_index: AtomicU64,
    /// Connections that came up.
    pub(crate) opened: AtomicU64,
    /// Connections that did not come up.
    pub(crate) failed: AtomicU64,
    /// Connections that were up and ended before we closed them.
    pub(crate) lost: AtomicU64,
    /// Connections that the server closed as it was expected to.
    pub(crate) told: AtomicU64,
    /// Units that must arrive.
    pub(crate) expected: AtomicU64,
    /// Units that arrived.
    pub(crate) arrived: AtomicU64,
    /// Workers that have seen [`Stage::Draining`].
    pub(crate) draining_workers: AtomicU32,
    /// Topics of a fan-out; else empty.
    pub(crate) topics: Vec<Topic>,
    budget: Option<AtomicU64>,
    wakers: Vec<Waker>,
}

impl Shared {
    /// At [`Stage::Opening`], with that many connections to open; `count` bounds what [`Shared::spend`] grants.
    pub(crate) fn new(
        clock: Clock,
        connections: u64,
        count: Option<u64>,
        topics: Vec<Topic>,
        wakers: Vec<Waker>,
    ) -> Self {
        Self {
            stage: AtomicU8::new(0),
            clock,
            next_index: AtomicU64::new(connections),
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            draining_workers: AtomicU32::new(0),
            topics,
            budget: count.map(AtomicU64::new),
            wakers,
        }
    }

    /// How far the run is.
    pub(crate) fn stage(&self) -> Stage {
        STAGES[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Moves on and wakes every worker.
    pub(crate) fn enter(&self, stage: Stage) -> io::Result<()> {
        let index = STAGES.iter().position(|one| *one == stage).unwrap_or(STAGES.len() - 1);
        self.stage.store(u8::try_from(index).unwrap_or(u8::MAX), Ordering::Release);
        self.wakers.iter().try_for_each(Waker::wake)
    }

    /// Takes the right to send one more; `false`: the count is used up.
    pub(crate) fn spend(&self) -> bool {
        let Some(budget) = &self.budget else { return true };
        let less = |left: u64| left.checked_sub(1);
        budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Gives back what [`Shared::spend`] granted.
    pub(crate) fn refund(&self) {
        if let Some(budget) = &self.budget {
            budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count is used up.
    pub(crate) fn spent(&self) -> bool {
        self.budget.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) == 0)
    }

    /// Wakes one worker.
    pub(crate) fn wake(&self, worker: usize) -> io::Result<()> {
        self.wakers[worker].wake()
    }
}

/// One topic of a closed loop: how many deliveries are under way.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Connections that get each publication.
    pub(crate) receivers: u32,
    under_way: AtomicI64,
    /// A publisher waits for room.
    waiting: AtomicBool,
    /// When something was delivered last, or given up.
    moved: AtomicU64,
}

impl Topic {
    /// With nothing under way.
    pub(crate) fn new(receivers: u32) -> Self {
        Self {
            receivers,
            under_way: AtomicI64::new(0),
            waiting: AtomicBool::new(false),
            moved: AtomicU64::new(0),
        }
    }

    /// Takes room for one publication if fewer than `window` are under way.
    pub(crate) fn claim(&self, window: u32) -> bool {
        let room = i64::from(self.receivers) * (i64::from(window) - 1);
        let more = |under_way: i64| {
            (under_way <= room).then(|| under_way.max(0) + i64::from(self.receivers))
        };
        let claim = || self.under_way.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        if claim().is_ok() {
            return true;
        }
        // Say so first and look again: a delivery in between would wake nobody.
        self.waiting.store(true, Ordering::SeqCst);
        claim().is_ok()
    }

    /// Notes deliveries; `true`: a publisher that waited may go on.
    pub(crate) fn delivered(&self, deliveries: u32, window: u32, now: u64) -> bool {
        self.moved.store(now, Ordering::SeqCst);
        let before = self.under_way.fetch_sub(i64::from(deliveries), Ordering::SeqCst);
        let room = i64::from(self.receivers) * (i64::from(window) - 1);
        before - i64::from(deliveries) <= room && self.waiting.swap(false, Ordering::SeqCst)
    }

    /// Gives up what is under way if nothing was delivered for `silence` before `now` (both in
    /// nanoseconds), so that a loop that lost something goes on; `true`: it did.
    pub(crate) fn give_up(&self, now: u64, silence: u64) -> bool {
        let moved = self.moved.load(Ordering::SeqCst);
        let stuck =
            self.under_way.load(Ordering::SeqCst) > 0 && now.saturating_sub(moved) > silence;
        // One of several publishers gives up, the others see that something has moved.
        let first = || self.moved.compare_exchange(moved, now, Ordering::SeqCst, Ordering::SeqCst);
        if !stuck || first().is_err() {
            return false;
        }
        self.under_way.store(0, Ordering::SeqCst);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_entered_in_order() {
        let shared = Shared::new(Clock::start(), 0, None, Vec::new(), Vec::new());
        for stage in STAGES {
            shared.enter(stage).unwrap();
            assert_eq!(shared.stage(), stage);
        }
    }

    #[test]
    fn a_count_is_spent_exactly() {
        let shared = Shared::new(Clock::start(), 0, Some(2), Vec::new(), Vec::new());
        assert!(shared.spend() && shared.spend() && !shared.spend());
        assert!(shared.spent());
        shared.refund();
        assert!(!shared.spent() && shared.spend() && !shared.spend());
    }

    #[test]
    fn a_window_of_one_waits_for_every_receiver() {
        let topic = Topic::new(3);
        assert!(topic.claim(1));
        assert!(!topic.claim(1));
        assert!(!topic.delivered(2, 1, 0));
        assert!(!topic.claim(1));
        assert!(topic.delivered(1, 1, 0)); // wakes the one that waited, once
        assert!(topic.claim(1));
    }

    #[test]
    fn a_window_of_two_keeps_two_under_way() {
        let topic = Topic::new(3);
        assert!(topic.claim(2) && topic.claim(2) && !topic.claim(2));
        assert!(topic.delivered(3, 2, 0));
        assert!(topic.claim(2) && !topic.claim(2));
    }

    #[test]
    fn a_silent_topic_is_given_up_once() {
        let topic = Topic::new(3);
        assert!(!topic.give_up(1000, 100)); // nothing under way
        assert!(topic.claim(1) && !topic.delivered(2, 1, 950));
        assert!(!topic.give_up(1050, 100));
        assert!(topic.give_up(1051, 100));
        assert!(!topic.give_up(1052, 100));
        assert!(topic.claim(1));
    }
}
