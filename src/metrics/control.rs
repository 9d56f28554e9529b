//! The numbers of the control thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use super::catalogue::ReloadGauge;
use super::cells::{Cells, Table};
use super::http_status::HttpStatusLabel;
use super::label::Label;

/// The memory that the writer and the reader share.
pub(super) struct Numbers<M: Label> {
    pub(super) api_requests: Table<(M, HttpStatusLabel)>,
    pub(super) tls_reloads: Table<(Reload,)>,
    pub(super) config_reloads: Table<(Reload,)>,
    /// By [`ReloadGauge`].
    pub(super) reload_gauges: Cells,
    /// When certificates end, by name; written when they are read, read by scrapes.
    expiries: Mutex<Vec<(String, i64)>>,
}

/// What became of files that were read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// They count from now on.
    Success,
    /// Something is wrong with them: those from before still count.
    Failure,
}

impl Label for Reload {
    const COUNT: usize = 2;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["success", "failure"][index]
    }
}

/// The right to change the numbers of the control thread; `M` labels methods of the server API.
///
/// There is one: it cannot be cloned, nor used by two threads.
pub struct ControlWriter<M: Label> {
    numbers: Arc<Numbers<M>>,
    not_sync: PhantomData<Cell<()>>,
}

/// A view of the numbers of the control thread.
pub struct ControlReader<M: Label> {
    pub(super) numbers: Arc<Numbers<M>>,
}

impl<M: Label> ControlReader<M> {
    /// When certificates end, in seconds since 1970, by name.
    pub(super) fn expiries(&self) -> Vec<(String, i64)> {
        self.numbers.expiries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The numbers of the control thread, all 0.
pub fn control<M: Label>() -> (ControlWriter<M>, ControlReader<M>) {
    let numbers = Arc::new(Numbers {
        api_requests: Table::new(),
        tls_reloads: Table::new(),
        config_reloads: Table::new(),
        reload_gauges: Cells::new(ReloadGauge::ALL.len()),
        expiries: Mutex::default(),
    });
    (
        ControlWriter { numbers: Arc::clone(&numbers), not_sync: PhantomData },
        ControlReader { numbers },
    )
}

impl<M: Label> ControlWriter<M> {
    /// A request to the server API was answered.
    pub fn api_request(&self, method: M, status: HttpStatusLabel) {
        self.numbers.api_requests.add((method, status), 1);
    }

    /// The files of certificates were read again.
    pub fn tls_reload(&self, outcome: Reload) {
        self.numbers.tls_reloads.add((outcome,), 1);
    }

    /// The configuration was read again, with this outcome.
    pub fn config_reload(&self, outcome: Reload) {
        self.numbers.config_reloads.add((outcome,), 1);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: ReloadGauge, value: u64) {
        self.numbers.reload_gauges.set(gauge as usize, value);
    }

    /// These are all names that certificates are for now, and when those end, in seconds since
    /// 1970. Of several for one name the first to end is shown.
    pub fn certificate_expiries(&self, named: impl Iterator<Item = (String, i64)>) {
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named.dedup_by(|later, first| later.0 == first.0);
        *self.numbers.expiries.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }
}
