//! The recent publications of one topic, bounded in count, age and bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::namespace::{Mode, Namespace};
use super::publication::{Position, Publication};

/// A part of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Most publications to return; 0 asks for the position only.
    pub limit: usize,
    /// Only publications after (in reverse: before) this one.
    pub since: Option<Position>,
    /// Which end comes first.
    pub order: Order,
}

/// The direction in which history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Forward,
    /// Newest first.
    Reverse,
}

/// What became of a subscriber's wish to recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nobody asked.
    NotAsked,
    /// Everything that was missed, oldest first.
    Recovered(Vec<Arc<Publication>>),
    /// History no longer covers it, or the epoch is another.
    Lost,
}

/// Kept publications, oldest first, with contiguous offsets that end at the topic's newest.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    published: Instant,
}

impl History {
    /// Publications kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Payload bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `publication` as the newest and drops what no longer fits.
    pub fn push(&mut self, publication: Arc<Publication>, namespace: &Namespace, now: Instant) {
        self.bytes += weight(&publication);
        self.entries.push_back(Entry { publication, published: now });
        self.trim(namespace);
        self.expire(namespace, now);
    }

    /// Keeps `older`, which end where the oldest that is kept begins, in front of the others.
    pub fn extend_back(
        &mut self,
        older: Vec<Arc<Publication>>,
        namespace: &Namespace,
        now: Instant,
    ) {
        let newer = std::mem::take(self);
        older.into_iter().for_each(|publication| self.push(publication, namespace, now));
        self.bytes += newer.bytes;
        self.entries.extend(newer.entries);
        self.trim(namespace);
    }

    /// Drops what is too old at `now`.
    pub fn expire(&mut self, namespace: &Namespace, now: Instant) {
        while self
            .entries
            .front()
            .is_some_and(|e| now.saturating_duration_since(e.published) >= namespace.history_age)
        {
            self.drop_oldest();
        }
    }

    /// All publications after `offset` up to the newest, `top`; `None` when one of them is gone or
    /// `offset` lies beyond `top`.
    pub fn after(&self, offset: u64, top: u64) -> Option<Vec<Arc<Publication>>> {
        let missed = usize::try_from(top.checked_sub(offset)?).ok()?;
        let skip = self.entries.len().checked_sub(missed)?;
        Some(self.entries.iter().skip(skip).map(|e| Arc::clone(&e.publication)).collect())
    }

    /// The offset of the oldest publication; `None` when nothing is kept.
    pub fn oldest_offset(&self) -> Option<u64> {
        self.entries.front().and_then(|e| e.publication.offset)
    }

    /// The newest publication.
    pub fn newest(&self) -> Option<&Arc<Publication>> {
        self.entries.back().map(|e| &e.publication)
    }

    /// At most `query.limit` publications; `query.since` must be of this topic's epoch.
    pub fn read(&self, query: &HistoryQuery) -> Vec<Arc<Publication>> {
        let offset = |e: &&Entry| e.publication.offset.unwrap_or(0);
        let since = query.since.as_ref().map(|p| p.offset);
        let publications = |e: &Entry| Arc::clone(&e.publication);
        match query.order {
            Order::Forward => self
                .entries
                .iter()
                .filter(|e| since.is_none_or(|since| offset(e) > since))
                .take(query.limit)
                .map(publications)
                .collect(),
            Order::Reverse => self
                .entries
                .iter()
                .rev()
                .filter(|e| since.is_none_or(|since| offset(e) < since))
                .take(query.limit)
                .map(publications)
                .collect(),
        }
    }

    /// Drops what is more than the namespace allows.
    fn trim(&mut self, namespace: &Namespace) {
        let size = if namespace.mode == Mode::Latest { 1 } else { namespace.history_size };
        while self.entries.len() > size || self.bytes > namespace.history_bytes_max {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= weight(&entry.publication);
        }
    }
}

/// What a history weighs on the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) bytes: usize,
    pub(super) len: usize,
}

impl Weight {
    pub(super) fn of(history: &History) -> Self {
        Self { bytes: history.bytes(), len: history.len() }
    }

    /// One of the histories that this sums up weighs something else now.
    pub(super) fn change(&mut self, before: Self, after: Self) {
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.len = self.len + after.len - before.len;
    }
}

fn weight(publication: &Publication) -> usize {
    publication.payload.bytes().len() + publication.tags.as_ref().map_or(0, bytes::Bytes::len)
}
