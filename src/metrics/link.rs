//! The numbers of links to engines.

use std::sync::Arc;

use super::catalogue::{LinkCounter, LinkGauge};
use super::cells::Cells;

/// The right to change the numbers of one link. There is one: it cannot be cloned.
pub struct LinkWriter(Arc<Cells>);

/// A view of the numbers of one link.
#[derive(Clone)]
pub struct LinkReader {
    broker: &'static str,
    cells: Arc<Cells>,
}

/// The numbers of the link to `broker`, all 0.
pub fn link(broker: &'static str) -> (LinkWriter, LinkReader) {
    let cells = Arc::new(Cells::new(LinkCounter::ALL.len() + LinkGauge::ALL.len()));
    (LinkWriter(Arc::clone(&cells)), LinkReader { broker, cells })
}

fn place(gauge: LinkGauge) -> usize {
    LinkCounter::ALL.len() + gauge as usize
}

impl LinkWriter {
    /// One more.
    pub fn count(&self, counter: LinkCounter) {
        self.0.add(counter as usize, 1);
    }

    /// Sets a gauge; [`LinkGauge::Lag`] in microseconds.
    pub fn set(&self, gauge: LinkGauge, value: u64) {
        self.0.set(place(gauge), value);
    }
}

impl LinkReader {
    /// What the link leads to.
    pub fn broker(&self) -> &'static str {
        self.broker
    }

    /// The value of a counter.
    pub fn counter(&self, counter: LinkCounter) -> u64 {
        self.cells.value(counter as usize)
    }

    /// The value of a gauge; [`LinkGauge::Lag`] in microseconds.
    pub fn gauge(&self, gauge: LinkGauge) -> u64 {
        self.cells.value(place(gauge))
    }
}
