//! The label values of the shards' metrics.

use crate::conn;
use crate::conn::closing::Initiator;
use crate::dialect::cause::{Cause, Protocol};
use crate::metrics::label::{Label, Vocabulary};

/// The labels of a shard.
#[derive(Debug)]
pub enum Labels {}

impl Vocabulary for Labels {
    type Protocol = Protocol;
    type Initiator = Initiator;
    type Cause = Cause;
    type RefusalReason = RefusalReason;
    type PauseReason = PauseReason;
}

impl Label for Protocol {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].label()
    }
}

impl Label for Cause {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].label()
    }
}

impl Label for Initiator {
    const COUNT: usize = 3;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["client", "server", "transport"][index]
    }
}

/// Why a request was refused: one of the reasons that `http1`, `ws` and `conn` know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalReason(usize);

impl RefusalReason {
    /// The label of `reason`, one of [`conn::REFUSAL_REASONS`].
    ///
    /// # Panics
    /// If it is not listed there.
    pub fn of(reason: &str) -> Self {
        let index = conn::REFUSAL_REASONS.iter().position(|text| *text == reason);
        Self(index.expect("every reason is listed"))
    }
}

impl Label for RefusalReason {
    const COUNT: usize = conn::REFUSAL_REASONS.len();

    fn index(self) -> usize {
        self.0
    }

    fn text(index: usize) -> &'static str {
        conn::REFUSAL_REASONS[index]
    }
}

/// Why a shard stopped accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The process or the system has no descriptor left.
    Descriptors,
    /// The kernel ended it for another reason.
    Kernel,
}

impl Label for PauseReason {
    const COUNT: usize = 2;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["fd", "kernel"][index]
    }
}
