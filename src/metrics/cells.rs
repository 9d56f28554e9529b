//! Memory for numbers that one thread writes and any thread reads.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use super::label::LabelSet;

/// Numbers in one cell line: 128 bytes, since processors fetch cache lines in pairs.
const LINE: usize = 16;

#[repr(align(128))]
#[derive(Default)]
struct Line([AtomicU64; LINE]);

/// A row of numbers, all 0 at first, on cache lines that hold nothing else.
///
/// Exactly one thread calls the methods that change it; a second one would lose updates.
pub(super) struct Cells(Box<[Line]>);

impl Cells {
    pub(super) fn new(len: usize) -> Self {
        Self((0..len.div_ceil(LINE)).map(|_| Line::default()).collect())
    }

    fn cell(&self, index: usize) -> &AtomicU64 {
        &self.0[index / LINE].0[index % LINE]
    }

    pub(super) fn value(&self, index: usize) -> u64 {
        self.cell(index).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, index: usize, value: u64) {
        self.cell(index).store(value, Ordering::Relaxed);
    }

    pub(super) fn add(&self, index: usize, n: u64) {
        self.set(index, self.value(index).wrapping_add(n));
    }

    pub(super) fn subtract(&self, index: usize, n: u64) {
        let value = self.value(index);
        debug_assert!(value >= n, "a gauge must not go below zero");
        self.set(index, value.saturating_sub(n));
    }
}

/// One number for each combination of labels.
pub(super) struct Table<S> {
    cells: Cells,
    labels: PhantomData<fn(S)>,
}

impl<S: LabelSet> Table<S> {
    pub(super) fn new() -> Self {
        Self { cells: Cells::new(S::COUNT), labels: PhantomData }
    }

    pub(super) fn add(&self, labels: S, n: u64) {
        self.cells.add(labels.index(), n);
    }

    pub(super) fn subtract(&self, labels: S, n: u64) {
        self.cells.subtract(labels.index(), n);
    }

    pub(super) fn set(&self, labels: S, value: u64) {
        self.cells.set(labels.index(), value);
    }

    /// The number of combination `index`.
    pub(super) fn value(&self, index: usize) -> u64 {
        self.cells.value(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_zero_and_stand_alone() {
        let cells = Cells::new(40);
        cells.add(39, 7);
        cells.add(39, 1);
        cells.subtract(39, 2);
        cells.set(0, 3);
        let values: Vec<u64> = (0..40).map(|i| cells.value(i)).collect();
        assert_eq!((values[0], values[39]), (3, 6));
        assert_eq!(values.iter().sum::<u64>(), 9);
    }

    #[test]
    fn rows_share_no_cache_line_with_anything_else() {
        assert_eq!(size_of::<Line>(), 128);
        assert_eq!(align_of::<Line>(), 128);
    }
}
