//! A link's end of the lanes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::mail::message::{Asker, Delivery, Reply, Request};
use crate::mail::post::Post;
use crate::topic::name::TopicName;
use crate::topic::splice::News;

/// News for one shard that may wait for room in its lane; then no more is taken from the engine.
const NEWS_MAX: usize = 1024;

/// What a link talks to the other threads with.
pub struct Lanes {
    post: Post,
    shards: usize,
    wake: Box<dyn Fn(usize)>,
    bell: AsyncFd<OwnedFd>,
    /// News and pings that wait for room, by shard.
    requests: Vec<VecDeque<Request>>,
    /// Answers that wait for room, by thread.
    answers: Vec<VecDeque<Delivery>>,
}

impl Lanes {
    /// The end `post` of the lanes to `shards` shards and the control thread. `wake` wakes a thread;
    /// `bell` becomes readable when this one is woken.
    ///
    /// Errors: when the runtime has no room for `bell`.
    pub fn new(
        post: Post,
        shards: usize,
        wake: Box<dyn Fn(usize)>,
        bell: OwnedFd,
    ) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for descriptors that lie; this is none"
        )]
        let bell = AsyncFd::with_interest(bell, Interest::READABLE)?;
        post.fall_asleep();
        let nodes = post.nodes();
        Ok(Self {
            post,
            shards,
            wake,
            bell,
            requests: (0..shards).map(|_| VecDeque::new()).collect(),
            answers: (0..nodes).map(|_| VecDeque::new()).collect(),
        })
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    /// Tells the home of `topic`.
    pub(super) fn tell_home(&mut self, topic: &TopicName, news: News) {
        self.tell(topic.home(self.shards), news);
    }

    /// Tells all shards.
    pub(super) fn tell_all(&mut self, news: &News) {
        (0..self.shards).for_each(|shard| self.tell(shard, news.clone()));
    }

    fn tell(&mut self, shard: usize, news: News) {
        let link = self.post.node();
        self.requests[shard].push_back(Request::News { link, news });
    }

    /// Asks all shards to show that they turn; `ticket` comes back with the answers.
    pub(super) fn ping_all(&mut self, ticket: u32) {
        let asker = Asker { node: self.post.node(), slot: 0, generation: 0, ticket };
        self.requests.iter_mut().for_each(|queue| queue.push_back(Request::Ping { asker }));
    }

    /// Answers somebody.
    pub(super) fn answer(&mut self, to: Asker, reply: Reply) {
        self.answers[to.node].push_back(Delivery::Reply { to, reply });
    }

    /// Whether so much waits for room that nothing should be added.
    pub(super) fn is_crowded(&self) -> bool {
        self.requests.iter().any(|queue| queue.len() >= NEWS_MAX)
    }

    /// The next request; `None`: there is none, and [`Lanes::rung`] tells when that changes.
    pub(super) fn take_request(&mut self) -> Option<Request> {
        for _ in 0..2 {
            let nodes = 0..self.post.nodes();
            if let Some(request) = nodes.into_iter().find_map(|from| self.post.take_request(from)) {
                return Some(request);
            }
            self.post.fall_asleep();
        }
        None
    }

    /// The next shard that shows that it turns, with the ticket of its ping.
    pub(super) fn take_pong(&mut self) -> Option<(usize, u32)> {
        for _ in 0..2 {
            for from in 0..self.post.nodes() {
                while let Some(delivery) = self.post.take_delivery(from) {
                    match delivery {
                        Delivery::Reply { to, reply: Reply::Pong } => {
                            return Some((from, to.ticket));
                        }
                        _ => debug_assert!(false, "a link asks nothing else"),
                    }
                }
            }
            self.post.fall_asleep();
        }
        None
    }

    /// Posts what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        for (to, queue) in self.requests.iter_mut().enumerate() {
            while let Some(request) = queue.pop_front() {
                if let Err(request) = self.post.request(to, request) {
                    queue.push_front(request);
                    break;
                }
            }
        }
        for (to, queue) in self.answers.iter_mut().enumerate() {
            while self.post.has_delivery_room(to)
                && let Some(answer) = queue.pop_front()
            {
                self.post.deliver(to, answer);
            }
        }
        self.post.wakes(&self.wake);
    }

    /// Waits until there is mail, or room for what waits.
    pub(super) async fn rung(&self) {
        if let Ok(mut ready) = self.bell.readable().await {
            let mut count = [0; 8];
            // Nothing to read means that the wake was taken in already.
            let _ = rustix::io::read(self.bell.get_ref(), &mut count);
            ready.clear_ready();
        }
    }
}
