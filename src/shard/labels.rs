//! The label values of the shards' metrics.

use crate::conn;
use crate::conn::closing::Initiator;
use crate::dialect::cause::{Cause, Protocol};
use crate::http1::error::HeadError;
use crate::metrics::label::{Label, Vocabulary};
use crate::ws::handshake::Refusal;

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

/// What a reason is called that no room has listed; there is none.
const UNLISTED: &str = "other";

impl RefusalReason {
    /// The label of `reason`.
    pub fn of(reason: &str) -> Self {
        let index = Self::texts().position(|text| text == reason);
        debug_assert!(index.is_some(), "{reason} is not listed");
        Self(index.unwrap_or(0))
    }

    fn texts() -> impl Iterator<Item = &'static str> {
        [UNLISTED]
            .into_iter()
            .chain(conn::REFUSAL_REASONS.iter().copied())
            .chain(HeadError::ALL.iter().map(|error| error.reason()))
            .chain(Refusal::ALL.iter().map(|refusal| refusal.reason()))
    }
}

impl Label for RefusalReason {
    const COUNT: usize =
        1 + conn::REFUSAL_REASONS.len() + HeadError::ALL.len() + Refusal::ALL.len();

    fn index(self) -> usize {
        self.0
    }

    fn text(index: usize) -> &'static str {
        Self::texts().nth(index).unwrap_or(UNLISTED)
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
