//! Histograms over fixed buckets, written by one thread.

use super::cells::Cells;

/// How many observations fell between which bounds, and their sum; in the unit of the bounds.
pub(super) struct FixedHistogram {
    bounds: &'static [u64],
    /// One number for each bound, one for what is above all of them, then the sum.
    cells: Cells,
}

/// What a histogram holds at one time; histograms with equal bounds add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Observations at or below each bound and above the one before, then those above all.
    pub(super) counts: Vec<u64>,
    /// All observations together.
    pub(super) sum: u64,
}

impl FixedHistogram {
    /// `bounds` ascend; each belongs to the bucket below it.
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted_by(|a, b| a < b));
        Self { bounds, cells: Cells::new(bounds.len() + 2) }
    }

    pub(super) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.cells.add(bucket, 1);
        self.cells.add(self.bounds.len() + 1, value);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let counts = (0..=self.bounds.len()).map(|i| self.cells.value(i)).collect();
        Snapshot { counts, sum: self.cells.value(self.bounds.len() + 1) }
    }
}

impl Snapshot {
    /// Adds what `other` holds; both have the same bounds.
    pub(super) fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.counts.len(), other.counts.len());
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let histogram = FixedHistogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.snapshot(), Snapshot { counts: vec![2, 2, 2], sum: 1062 });
    }

    #[test]
    fn snapshots_add_up() {
        let mut snapshot = Snapshot { counts: vec![1, 2], sum: 30 };
        snapshot.merge(&Snapshot { counts: vec![4, 0], sum: 5 });
        assert_eq!(snapshot, Snapshot { counts: vec![5, 2], sum: 35 });
    }
}
