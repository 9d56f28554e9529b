//! Deadlines of many connections, to a tenth of a second.
//!
//! Each slot stands in the wheel at most once for its earliest known deadline. A deadline that moves
//! later is noticed when the old one comes; an entry whose time no longer fits its slot is dropped.

use std::time::{Duration, Instant};

/// Length of a tick.
const TICK: Duration = Duration::from_nanos(TICK_NANOS);
const TICK_NANOS: u64 = 50_000_000;

/// Ticks that the wheel spans (51.2 s); later deadlines are looked at again when they come near.
const SPAN: u64 = 1024;

/// A tick since the wheel began; 0 is never used by an entry.
pub(super) type Tick = u32;

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    began: Instant,
    /// The next tick to be handled.
    next: u64,
    buckets: Vec<Vec<Entry>>,
    entries: usize,
    /// The first tick with an entry, when known.
    soonest: Option<u64>,
}

/// One slot's appointment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whose.
    pub(super) slot: u32,
    /// When, in ticks.
    pub(super) tick: Tick,
}

impl Wheel {
    /// An empty wheel.
    pub(super) fn new(now: Instant) -> Self {
        let buckets = (0..SPAN).map(|_| Vec::new()).collect();
        Self { began: now, next: 1, buckets, entries: 0, soonest: None }
    }

    /// Enters `slot` for `deadline` unless `scheduled` is early enough; returns the tick at which it
    /// stands in the wheel now.
    pub(super) fn schedule(&mut self, slot: u32, deadline: Instant, scheduled: Tick) -> Tick {
        let due = self.tick_after(deadline).clamp(self.next, self.next + SPAN - 1);
        if scheduled != 0 && u64::from(scheduled) <= due {
            return scheduled;
        }
        let tick = Tick::try_from(due).expect("ticks last for years");
        self.buckets[bucket(due)].push(Entry { slot, tick });
        if self.entries == 0 || self.soonest.is_some_and(|soonest| due < soonest) {
            self.soonest = Some(due);
        }
        self.entries += 1;
        tick
    }

    /// Moves the entries that are due at `now` to `due`.
    pub(super) fn expire(&mut self, now: Instant, due: &mut Vec<Entry>) {
        let current = self.nanos(now) / TICK_NANOS;
        while self.next <= current {
            if self.entries == 0 {
                self.next = current + 1;
                return;
            }
            self.soonest = None;
            let entries = &mut self.buckets[bucket(self.next)];
            self.entries -= entries.len();
            due.append(entries);
            self.next += 1;
        }
    }

    /// When [`Wheel::expire`] has work at the earliest; `None` when the wheel is empty.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        if self.soonest.is_none() {
            let mut ticks = self.next..self.next + SPAN;
            self.soonest = ticks.find(|&tick| !self.buckets[bucket(tick)].is_empty());
        }
        Some(self.began + TICK * u32::try_from(self.soonest?).ok()?)
    }

    /// The first tick that is not before `deadline`.
    fn tick_after(&self, deadline: Instant) -> u64 {
        self.nanos(deadline).div_ceil(TICK_NANOS)
    }

    /// Nanoseconds since the wheel began; they fit for centuries.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

fn bucket(tick: u64) -> usize {
    usize::try_from(tick % SPAN).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn expired(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.iter().map(|entry| entry.slot).collect()
    }

    #[test]
    fn an_entry_is_due_within_one_tick_after_its_deadline_and_never_before() {
        let now = start();
        let mut wheel = Wheel::new(now);
        wheel.schedule(7, now + Duration::from_millis(5020), 0);
        assert_eq!(wheel.deadline(), Some(now + Duration::from_millis(5050)));
        assert_eq!(expired(&mut wheel, now + Duration::from_millis(5019)), [0_u32; 0]);
        assert_eq!(expired(&mut wheel, now + Duration::from_millis(5050)), [7]);
        assert_eq!(wheel.deadline(), None);
    }

    #[test]
    fn an_earlier_deadline_gets_an_entry_and_a_later_one_does_not() {
        let now = start();
        let mut wheel = Wheel::new(now);
        let first = wheel.schedule(1, now + Duration::from_secs(2), 0);
        assert_eq!(wheel.schedule(1, now + Duration::from_secs(3), first), first);
        let earlier = wheel.schedule(1, now + Duration::from_secs(1), first);
        assert!(earlier < first);
        assert_eq!(expired(&mut wheel, now + Duration::from_secs(1)), [1]);
    }

    #[test]
    fn a_deadline_beyond_the_span_is_looked_at_before_it_comes() {
        let now = start();
        let mut wheel = Wheel::new(now);
        wheel.schedule(3, now + Duration::from_secs(3600), 0);
        assert_eq!(expired(&mut wheel, now + Duration::from_secs(60)), [3]);
    }

    #[test]
    fn a_past_deadline_is_due_at_the_next_tick() {
        let now = start();
        let mut wheel = Wheel::new(now);
        expired(&mut wheel, now + Duration::from_secs(10));
        wheel.schedule(4, now, 0);
        assert_eq!(expired(&mut wheel, now + Duration::from_millis(10_050)), [4]);
    }
}
