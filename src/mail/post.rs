//! The lanes between threads.
//!
//! Each ordered pair of threads has a request lane and a delivery lane, both bounded and first in,
//! first out. Nobody ever blocks on them. A thread to itself uses the same two lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use super::message::{Delivery, Request};

/// Capacities of the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests that wait between two threads.
    pub requests_max: usize,
    /// Deliveries that wait between two threads.
    pub deliveries_max: usize,
}

/// One thread's ends of all its lanes.
#[derive(Debug)]
pub struct Post {
    node: usize,
    requests_in: Vec<Consumer<Request>>,
    requests_out: Vec<Producer<Request>>,
    deliveries_in: Vec<Consumer<Delivery>>,
    deliveries_out: Vec<Producer<Delivery>>,
    /// Which threads were posted to since the last [`Post::wakes`].
    posted: Vec<bool>,
    /// What was taken from the lanes of each thread since the last [`Post::wakes`].
    taken: Vec<Taken>,
    sleeping: Arc<[AtomicBool]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    requests: usize,
    deliveries: usize,
}

/// Connects `nodes` threads; the shards come first, then the control thread.
pub fn connect(nodes: usize, settings: Settings) -> Vec<Post> {
    let sleeping: Arc<[AtomicBool]> = (0..nodes).map(|_| AtomicBool::new(false)).collect();
    let mut posts: Vec<Post> = (0..nodes)
        .map(|node| Post {
            node,
            requests_in: Vec::new(),
            requests_out: Vec::new(),
            deliveries_in: Vec::new(),
            deliveries_out: Vec::new(),
            posted: vec![false; nodes],
            taken: vec![Taken::default(); nodes],
            sleeping: Arc::clone(&sleeping),
        })
        .collect();
    for from in 0..nodes {
        for to in 0..nodes {
            let (producer, consumer) = RingBuffer::new(settings.requests_max);
            posts[from].requests_out.push(producer);
            posts[to].requests_in.push(consumer);
            let (producer, consumer) = RingBuffer::new(settings.deliveries_max);
            posts[from].deliveries_out.push(producer);
            posts[to].deliveries_in.push(consumer);
        }
    }
    posts
}

impl Post {
    /// This thread's number.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Number of threads that are connected.
    pub fn nodes(&self) -> usize {
        self.posted.len()
    }

    /// Asks thread `to`; hands the request back when the lane is full.
    ///
    /// Errors: the request.
    #[expect(clippy::result_large_err, reason = "a refused request is put into a queue at once")]
    pub fn request(&mut self, to: usize, request: Request) -> Result<(), Request> {
        self.requests_out[to].push(request).map_err(|PushError::Full(request)| request)?;
        self.posted[to] = true;
        Ok(())
    }

    /// The oldest request from thread `from`, left in the lane.
    pub fn peek_request(&self, from: usize) -> Option<&Request> {
        self.requests_in[from].peek().ok()
    }

    /// Takes the oldest request from thread `from`, which is woken when it may be waiting for room.
    pub fn take_request(&mut self, from: usize) -> Option<Request> {
        let request = self.requests_in[from].pop().ok()?;
        self.taken[from].requests += 1;
        Some(request)
    }

    /// Whether thread `to` has room for one more delivery.
    pub fn has_delivery_room(&self, to: usize) -> bool {
        !self.deliveries_out[to].is_full()
    }

    /// Delivers to thread `to`, which must have room.
    ///
    /// # Panics
    /// If it has none: ask [`Post::has_delivery_room`] first.
    pub fn deliver(&mut self, to: usize, delivery: Delivery) {
        let pushed = self.deliveries_out[to].push(delivery);
        assert!(pushed.is_ok(), "a delivery was posted without room for it");
        self.posted[to] = true;
    }

    /// Takes the oldest delivery from thread `from`, which is woken when it may be waiting for room.
    pub fn take_delivery(&mut self, from: usize) -> Option<Delivery> {
        let delivery = self.deliveries_in[from].pop().ok()?;
        self.taken[from].deliveries += 1;
        Some(delivery)
    }

    /// Whether deliveries wait for this thread.
    pub fn has_deliveries(&self) -> bool {
        self.deliveries_in.iter().any(|lane| !lane.is_empty())
    }

    /// Whether thread `to` has room for one more request.
    pub fn has_request_room(&self, to: usize) -> bool {
        !self.requests_out[to].is_full()
    }

    /// Calls `wake` for each other thread that sleeps and was posted to, or may have found one of its
    /// lanes to this thread full.
    pub fn wakes(&mut self, mut wake: impl FnMut(usize)) {
        // Pairs with the fence of `fall_asleep`: either we see that it sleeps, or it sees the mail
        // and the room.
        fence(Ordering::SeqCst);
        for to in 0..self.posted.len() {
            let made_room = self.made_room(to);
            if (std::mem::take(&mut self.posted[to]) || made_room)
                && to != self.node
                && self.sleeping[to].load(Ordering::Relaxed)
                && self.sleeping[to].swap(false, Ordering::Relaxed)
            {
                wake(to);
            }
        }
    }

    /// Announces that this thread is going to sleep, so that it is woken for new mail and for room
    /// in a lane that was full. The caller must look once more for work after this.
    pub fn fall_asleep(&self) {
        self.sleeping[self.node].store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Announces that this thread is awake and needs no wake-ups.
    pub fn wake_up(&self) {
        self.sleeping[self.node].store(false, Ordering::Relaxed);
    }

    /// Whether thread `from` may have found a lane full before something was taken from it.
    ///
    /// Only now, behind the fence, is it certain that we see all it had posted before it fell asleep:
    /// whether a lane was full cannot be told in the moment of taking.
    fn made_room(&mut self, from: usize) -> bool {
        let taken = std::mem::take(&mut self.taken[from]);
        was_full(&self.requests_in[from], taken.requests)
            || was_full(&self.deliveries_in[from], taken.deliveries)
    }
}

fn was_full<T>(lane: &Consumer<T>, taken: usize) -> bool {
    taken > 0 && lane.slots() + taken >= lane.buffer().capacity()
}
