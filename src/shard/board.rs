//! The newest settings of all shards, where the control thread puts them up.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::ring::Ring;

use super::memory::of_connections;
use super::{Settings, Shard};

/// Where the settings of the shards stand.
///
/// A shard takes them over between two turns, when it is told to by mail, and works with its own copy
/// of the reference: nothing is looked up or locked while it serves.
#[derive(Debug)]
pub struct Board(ArcSwap<Settings>);

impl Board {
    /// Puts up the first settings.
    pub fn new(settings: Settings) -> Self {
        Self(ArcSwap::from_pointee(settings))
    }

    /// Puts up others: the same listeners, buffers and compression.
    pub fn renew(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }

    /// What stands there now.
    pub fn newest(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}

impl<R: Ring> Shard<R> {
    /// From now on the newest settings count, also for those who are connected.
    pub(super) fn take_over_settings(&mut self) {
        self.settings = self.board.newest();
        self.homes.set_topics_max(self.settings.topics_max);
        self.closes.set_kept(self.settings.closes_kept);
        self.desk.settings = of_connections(&self.settings.conn, self.shortage);
        // A time that is shorter now may have passed already.
        for index in 0..self.slots.end() {
            self.schedule(index);
        }
    }
}
