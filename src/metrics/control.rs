//! The numbers of the control thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::cells::Table;
use super::http_status::HttpStatusLabel;
use super::label::Label;

/// The memory that the writer and the reader share.
pub(super) struct Numbers<M: Label> {
    pub(super) api_requests: Table<(M, HttpStatusLabel)>,
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

/// The numbers of the control thread, all 0.
pub fn control<M: Label>() -> (ControlWriter<M>, ControlReader<M>) {
    let numbers = Arc::new(Numbers { api_requests: Table::new() });
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
}
