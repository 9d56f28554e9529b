//! How often each address connects, counted over all threads.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::network::household;
use super::rate::Rate;

/// Addresses that share a row of the table: a cache line.
const ROW: usize = 8;

/// Times are kept in units of this, in 32 bits: they come again after three days.
const TICK: Duration = Duration::from_micros(64);

/// Times that another thread has changed are tried again this often.
const TRIES_MAX: usize = 8;

/// A rate limit for each address; a table of fixed size.
///
/// The same algorithm as [`super::rate::Meter`], with the mark of the address in the upper half of an
/// entry and the time in the lower. An entry whose time is past says nothing and is free. When a row
/// has no such entry, that address is forgotten which has used its limit least.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    rate: Rate,
    hasher: RandomState,
    rows: Box<[[AtomicU64; ROW]]>,
}

impl Pace {
    /// A table with room for about `addresses`.
    pub fn new(rate: Rate, addresses: usize, now: Instant) -> Self {
        let rows = addresses.div_ceil(ROW).next_power_of_two();
        let rows = (0..rows).map(|_| Default::default()).collect();
        Self { began: now, rate, hasher: RandomState::default(), rows }
    }

    /// The limit.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts a connection of `address` at `now`; `false`: it comes too soon.
    pub fn admit(&self, address: IpAddr, now: Instant) -> bool {
        let hash = self.hasher.hash_one(household(address));
        let (mark, index) = (hash >> 32, usize::try_from(hash & 0xffff_ffff).unwrap_or(0));
        let row = &self.rows[index & (self.rows.len() - 1)];
        let clock = ticks(now.saturating_duration_since(self.began));
        let interval = ticks(self.rate.interval).max(1);
        let window = interval.saturating_mul(self.rate.burst - 1);
        // How far ahead of the clock an entry's time is; what is further than can be is long past.
        let ahead = |entry: u64| {
            let ahead = low(entry).wrapping_sub(clock);
            if ahead <= window.saturating_add(interval) { ahead } else { 0 }
        };
        for _ in 0..TRIES_MAX {
            let entries = row.iter().map(|entry| (entry, entry.load(Ordering::Relaxed)));
            let own = entries.clone().find(|(_, value)| value >> 32 == mark);
            let Some((entry, old)) = own.or_else(|| entries.min_by_key(|(_, v)| ahead(*v))) else {
                return true;
            };
            let used = if old >> 32 == mark { ahead(old) } else { 0 };
            if used > window {
                return false;
            }
            let expected = clock.wrapping_add(used).wrapping_add(interval);
            let new = mark << 32 | u64::from(expected);
            if entry.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        true
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low(entry: u64) -> u32 {
    entry as u32
}

#[expect(clippy::cast_possible_truncation, reason = "times come again, see `TICK`")]
fn ticks(time: Duration) -> u32 {
    (time.as_nanos() / TICK.as_nanos()) as u32
}

#[cfg(test)]
mod tests {
    use super::super::rate::Meter;
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn each_address_has_the_pace_of_a_meter() {
        let rate = Rate::new(10, 20);
        let mut now = start();
        let pace = Pace::new(rate, 65_536, now);
        let mut meters: Vec<Meter> = (0..50).map(|_| Meter::new(now)).collect();
        let mut random = fastrand::Rng::with_seed(7);
        // Steps of whole ticks, so that both round alike; then three days, after which times recur.
        for step in 0..40_000 {
            let n = random.u32(..50);
            let expected = meters[n as usize].admit(now, Rate { interval: ticks_of(rate), ..rate });
            assert_eq!(pace.admit(address(n), now), expected, "step {step}");
            now += TICK * random.u32(..300);
            if step % 10_000 == 9_999 {
                now += Duration::from_secs(3 * 86_400);
            }
        }
    }

    fn ticks_of(rate: Rate) -> Duration {
        TICK * ticks(rate.interval)
    }

    #[test]
    fn a_full_row_forgets_who_has_used_least() {
        let now = start();
        let pace = Pace::new(Rate::new(1, 3), 1, now);
        assert_eq!((0..5).filter(|_| pace.admit(address(0), now)).count(), 3);
        for n in 1..50 {
            assert!(pace.admit(address(n), now), "{n}");
        }
        assert!(!pace.admit(address(0), now), "whoever is at the limit stays known");
    }
}
