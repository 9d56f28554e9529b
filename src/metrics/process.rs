//! The numbers of the process as a whole.

use std::sync::Arc;

use super::catalogue::ProcessGauge;
use super::cells::Cells;

/// The right to change these numbers. There is one: it cannot be cloned.
pub struct ProcessWriter(Arc<Cells>);

/// A view of these numbers.
pub struct ProcessReader(Arc<Cells>);

/// The numbers of the process, all 0.
pub fn process() -> (ProcessWriter, ProcessReader) {
    let cells = Arc::new(Cells::new(ProcessGauge::ALL.len()));
    (ProcessWriter(Arc::clone(&cells)), ProcessReader(cells))
}

impl ProcessWriter {
    /// Sets a gauge.
    pub fn set(&self, gauge: ProcessGauge, value: u64) {
        self.0.set(gauge as usize, value);
    }
}

impl ProcessReader {
    /// The value of a gauge.
    pub fn gauge(&self, gauge: ProcessGauge) -> u64 {
        self.0.value(gauge as usize)
    }
}
