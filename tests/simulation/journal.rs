//! What has happened in a run: a hash of all of it, and the end of it in words.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

/// Events that are shown when a run fails.
const SHOWN: usize = 60;

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::new(Journal::new());
}

struct Journal {
    last: VecDeque<String>,
    hash: u64,
    events: u64,
}

impl Journal {
    fn new() -> Self {
        // The offset basis of FNV-1a.
        Self { last: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }
}

/// Begins a new run on this thread.
pub(crate) fn begin() {
    JOURNAL.with_borrow_mut(|journal| *journal = Journal::new());
}

/// Notes one event.
pub(crate) fn write(event: fmt::Arguments<'_>) {
    JOURNAL.with_borrow_mut(|journal| {
        let text = event.to_string();
        for byte in text.bytes() {
            journal.hash = (journal.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        journal.events += 1;
        if journal.last.len() == SHOWN {
            journal.last.pop_front();
        }
        journal.last.push_back(text);
    });
}

/// The hash of everything noted in this run.
pub(crate) fn hash() -> u64 {
    JOURNAL.with_borrow(|journal| journal.hash)
}

/// The last events, a line each.
pub(crate) fn tail() -> String {
    JOURNAL.with_borrow(|journal| {
        let first = journal.events - journal.last.len() as u64;
        let lines = journal.last.iter().enumerate();
        lines.map(|(i, text)| format!("{:6} {text}\n", first + i as u64)).collect()
    })
}

/// Notes an event, written as for `format!`.
macro_rules! note {
    ($($part:tt)*) => { crate::journal::write(format_args!($($part)*)) };
}
pub(crate) use note;
