//! The order of one topic: where it has come to, and what is known of the way there.

use std::sync::Arc;

use super::history::{History, Recovery};
use super::namespace::{Mode, Namespace};
use super::publication::{Epoch, Position};

/// One life of a topic. Whoever publishes counts `top` up and keeps the publication in `history`, or
/// sets both.
#[derive(Debug)]
pub(super) struct Sequence {
    epoch: Epoch,
    /// The offset of the newest publication, 0 before the first.
    pub(super) top: u64,
    /// Contiguous up to `top`.
    pub(super) history: History,
}

/// The answer to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The newest publication before the first delivery; `None` on topics without positions.
    pub position: Option<Position>,
    /// What became of the wish to recover.
    pub recovery: Recovery,
}

impl Sequence {
    /// A life named `epoch`, empty on topics without positions, that has come to `top`.
    pub(super) fn new(epoch: Epoch, top: u64) -> Self {
        Self { epoch, top, history: History::default() }
    }

    /// Where it has come to; `None` on topics without positions.
    pub(super) fn position(&self) -> Option<Position> {
        (!self.epoch.as_str().is_empty())
            .then(|| Position { offset: self.top, epoch: self.epoch.clone() })
    }

    /// What a subscriber is told that wants to go on from `since`.
    pub(super) fn join(&self, namespace: &Namespace, since: Option<&Position>) -> Joined {
        let position = self.position();
        let recovery = match (since, &position) {
            (None, _) => Recovery::NotAsked,
            (Some(_), None) => Recovery::Lost,
            (Some(_), Some(_)) if !namespace.recovery => Recovery::Lost,
            (Some(since), Some(position)) => match namespace.mode {
                Mode::Latest => self.recover_latest(since, position),
                Mode::Stream | Mode::Live => self.recover_all(since, position),
            },
        };
        Joined { position, recovery }
    }

    fn recover_all(&self, since: &Position, position: &Position) -> Recovery {
        if !same_epoch(&since.epoch, &position.epoch) {
            return Recovery::Lost;
        }
        self.history.after(since.offset, self.top).map_or(Recovery::Lost, Recovery::Recovered)
    }

    fn recover_latest(&self, since: &Position, position: &Position) -> Recovery {
        if since == position {
            return Recovery::Recovered(Vec::new());
        }
        self.history
            .newest()
            .map_or(Recovery::Lost, |newest| Recovery::Recovered(vec![Arc::clone(newest)]))
    }
}

/// Clients that know no epoch yet adopt the one they find.
pub(super) fn same_epoch(theirs: &Epoch, ours: &Epoch) -> bool {
    theirs.as_str().is_empty() || theirs == ours
}
