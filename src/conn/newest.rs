//! Where the newest values of topics wait in a backlog's queue, so that still newer ones can take
//! their places.

use hashbrown::HashMap;

use crate::topic::subscribers::TopicId;

/// Places in a queue, by topic. A lookup takes constant time however many there are, and they are no
/// more than the client has subscriptions.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// How many pieces have left the front of the queue.
    taken: u64,
    /// How many pieces were in front of the one of the topic when it was queued, those that have left
    /// included.
    ahead: HashMap<TopicId, u64>,
}

impl Places {
    /// Where the value of `topic` waits; `None` when it is on its way or was never queued.
    pub(super) fn find(&self, topic: TopicId) -> Option<usize> {
        let index = self.ahead.get(&topic)?.checked_sub(self.taken)?;
        usize::try_from(index).ok()
    }

    /// The value of `topic` waits at `index` now.
    pub(super) fn note(&mut self, topic: TopicId, index: usize) {
        self.ahead.insert(topic, self.taken + index as u64);
    }

    /// What comes for `topic` from now on has nothing to do with what waits.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.ahead.remove(&topic);
    }

    /// `count` pieces have left the front.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count as u64;
    }

    /// All pieces have left.
    pub(super) fn clear(&mut self) {
        self.ahead.clear();
    }
}
