//! The label `ledger`: what memory is used for.

use super::label::Label;

/// One use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// What connections own alone.
    Private,
    /// Encoded frames that are alive.
    Frames,
    /// Publications that topics keep.
    History,
    /// Buffers and tables that exist whoever uses them.
    Pools,
}

impl Ledger {
    /// Every ledger, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::Private, Self::Frames, Self::History, Self::Pools];
}

impl Label for Ledger {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["private", "frames", "history", "pools"][index]
    }
}
