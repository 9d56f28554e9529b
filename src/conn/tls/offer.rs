//! What a listener offers to those who come now.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::session::Tls;
use super::terms::Terms;

/// The newest terms of one listener.
///
/// The control thread replaces them when files have changed; shards look once for each handshake,
/// without a lock, and a handshake that has begun keeps the terms that it began with.
#[derive(Debug)]
pub struct Offer(ArcSwap<Terms>);

impl Offer {
    /// Offers these terms.
    pub fn new(terms: Arc<Terms>) -> Self {
        Self(ArcSwap::new(terms))
    }

    /// From now on these terms are offered.
    pub fn renew(&self, terms: Arc<Terms>) {
        self.0.store(terms);
    }

    /// What is offered now.
    pub fn terms(&self) -> Arc<Terms> {
        self.0.load_full()
    }

    /// A handshake that begins now.
    pub fn begin(&self, now: Instant) -> Tls {
        Tls::new(&self.0.load(), now)
    }
}
