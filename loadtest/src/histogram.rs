//! Latencies in buckets whose width grows with the value.

/// Each power of two is cut into this many buckets: values are off by at most 1/64.
const STEPS: u64 = 64;
/// `log2(STEPS)`.
const STEP_BITS: u32 = 6;
/// Buckets for every `u64`: one per value below `STEPS`, then `STEPS` for each power of two.
const BUCKETS: usize = ((64 - STEP_BITS + 1) as usize) << STEP_BITS;

/// How often each latency came, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// An empty one, for any `u64`.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exact.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `per_mille` of 1,000 do not exceed, rounded up to the end of its bucket.
    ///
    /// 0 when nothing was counted.
    pub(crate) fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_end(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    let index = match value.checked_ilog2() {
        Some(log) if log >= STEP_BITS => {
            let shift = log - STEP_BITS;
            u64::from(shift) * STEPS + (value >> shift)
        }
        _ => value,
    };
    usize::try_from(index).expect("a bucket index is below 2^12")
}

/// The largest value that falls into the bucket.
fn bucket_end(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let first = (index % STEPS + STEPS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_exact() {
        for value in 0..128 {
            assert_eq!(bucket_end(bucket(value)), value);
        }
        assert_eq!(bucket_end(bucket(128)), 129); // buckets of two from here on
        assert_eq!(bucket(128), bucket(129));
        assert_ne!(bucket(129), bucket(130));
    }

    #[test]
    fn buckets_adjoin_over_the_whole_range() {
        for index in 0..BUCKETS - 1 {
            let end = bucket_end(index);
            assert_eq!(bucket(end), index);
            assert_eq!(bucket(end + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_end(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn a_bucket_is_at_most_a_64th_of_its_values() {
        for value in [1_000, 99_999, 1_000_000_007, u64::MAX / 3] {
            let end = bucket_end(bucket(value));
            assert!(end >= value && end - value <= value / 64, "{value} {end}");
        }
    }

    #[test]
    fn quantiles_come_from_ranks() {
        let mut histogram = Histogram::new();
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.quantile(500), 50);
        assert_eq!(histogram.quantile(990), 99);
        assert_eq!(histogram.quantile(1000), 100);
        assert_eq!(histogram.quantile(0), 1);
        assert_eq!(Histogram::new().quantile(500), 0);
    }

    #[test]
    fn merging_is_counting_both() {
        let (mut low, mut high) = (Histogram::new(), Histogram::new());
        low.record(10);
        low.record(20);
        high.record(1_000_000);
        low.merge(&high);
        assert_eq!(low.total(), 3);
        assert_eq!(low.max(), 1_000_000);
        assert_eq!(low.quantile(500), 20);
        assert_eq!(low.quantile(1000), 1_000_000);
    }
}
