//! The lanes between threads.
//!
//! Each ordered pair of threads has a request lane and a delivery lane, both bounded and first in,
//! first out. Nobody ever blocks on them. A thread to itself has the same two lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::lane::{self, Lanes};
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
    requests: Lanes<Request>,
    deliveries: Lanes<Delivery>,
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
    let requests = lane::connect(nodes, settings.requests_max);
    let deliveries = lane::connect(nodes, settings.deliveries_max);
    let ends = requests.into_iter().zip(deliveries).enumerate();
    ends.map(|(node, (requests, deliveries))| Post {
        node,
        requests,
        deliveries,
        posted: vec![false; nodes],
        taken: vec![Taken::default(); nodes],
        sleeping: Arc::clone(&sleeping),
    })
    .collect()
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

    /// Asks thread `to`; hands the request back when the lane is full. A thread that has ended
    /// hears nothing.
    ///
    /// Errors: the request.
    #[expect(clippy::result_large_err, reason = "a refused request is put into a queue at once")]
    pub fn request(&mut self, to: usize, request: Request) -> Result<(), Request> {
        if self.requests.is_abandoned(to) {
            return Ok(());
        }
        self.requests.push(to, request)?;
        self.posted[to] = true;
        Ok(())
    }

    /// The oldest request from thread `from`, left in the lane.
    pub fn peek_request(&self, from: usize) -> Option<&Request> {
        self.requests.peek(from)
    }

    /// Takes the oldest request from thread `from`, which is woken when it may be waiting for room.
    pub fn take_request(&mut self, from: usize) -> Option<Request> {
        let request = self.requests.pop(from)?;
        self.taken[from].requests += 1;
        Some(request)
    }

    /// Whether thread `to` has room for one more delivery, or has ended and needs none.
    pub fn has_delivery_room(&self, to: usize) -> bool {
        !self.deliveries.is_full(to) || self.deliveries.is_abandoned(to)
    }

    /// Delivers to thread `to`, which must have room. A thread that has ended hears nothing.
    ///
    /// # Panics
    /// If it has none: ask [`Post::has_delivery_room`] first.
    pub fn deliver(&mut self, to: usize, delivery: Delivery) {
        if self.deliveries.is_abandoned(to) {
            return;
        }
        let is_posted = self.deliveries.push(to, delivery).is_ok();
        // Its thread may have ended between the question and the push.
        let is_heard = is_posted || self.deliveries.is_abandoned(to);
        assert!(is_heard, "a delivery was posted without room for it");
        self.posted[to] = true;
    }

    /// Takes the oldest delivery from thread `from`, which is woken when it may be waiting for room.
    pub fn take_delivery(&mut self, from: usize) -> Option<Delivery> {
        let delivery = self.deliveries.pop(from)?;
        self.taken[from].deliveries += 1;
        Some(delivery)
    }

    /// Whether deliveries wait for this thread.
    pub fn has_deliveries(&self) -> bool {
        self.deliveries.has_any()
    }

    /// Whether thread `to` has room for one more request, or has ended and needs none.
    pub fn has_request_room(&self, to: usize) -> bool {
        !self.requests.is_full(to) || self.requests.is_abandoned(to)
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
        self.requests.was_full(from, taken.requests)
            || self.deliveries.was_full(from, taken.deliveries)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;
    use std::time::Duration;

    use super::super::message::{Asker, Reply};
    use super::*;
    use crate::topic::name::TopicName;

    const ONE: Settings = Settings { requests_max: 1, deliveries_max: 1 };

    fn release(node: usize, form: u8) -> Request {
        Request::Release { node, topic: TopicName::new("t").unwrap(), form }
    }

    fn form_of(request: &Request) -> u8 {
        let Request::Release { form, .. } = request else { panic!("{request:?}") };
        *form
    }

    fn answer(ticket: u32) -> Delivery {
        let to = Asker { node: 0, slot: 0, generation: 0, ticket };
        Delivery::Reply { to, reply: Reply::Published(None) }
    }

    fn ticket_of(delivery: &Delivery) -> u32 {
        let Delivery::Reply { to, .. } = delivery else { panic!("{delivery:?}") };
        to.ticket
    }

    fn woken(post: &mut Post) -> Vec<usize> {
        let mut woken = Vec::new();
        post.wakes(|node| woken.push(node));
        woken
    }

    #[test]
    fn lanes_keep_order_are_bounded_and_do_not_mix() {
        let settings = Settings { requests_max: 2, deliveries_max: 3 };
        let mut posts = connect(3, settings);
        let [a, b, c] = &mut posts[..] else { panic!("three posts") };
        assert_eq!((a.node(), b.node(), c.node(), a.nodes()), (0, 1, 2, 3));
        a.request(2, release(0, 1)).unwrap();
        b.request(2, release(1, 7)).unwrap();
        a.request(2, release(0, 2)).unwrap();
        assert!(!a.has_request_room(2) && a.has_request_room(1));
        assert_eq!(form_of(&a.request(2, release(0, 3)).unwrap_err()), 3);
        assert_eq!(form_of(c.peek_request(0).unwrap()), 1);
        assert_eq!(form_of(&c.take_request(0).unwrap()), 1);
        assert_eq!(form_of(&c.take_request(0).unwrap()), 2);
        assert_eq!(form_of(&c.take_request(1).unwrap()), 7);
        assert!(c.take_request(0).is_none() && c.take_request(1).is_none());
        for ticket in 0..3 {
            assert!(c.has_delivery_room(0));
            c.deliver(0, answer(ticket));
        }
        assert!(!c.has_delivery_room(0) && a.has_deliveries() && !b.has_deliveries());
        let taken: Vec<_> = std::iter::from_fn(|| a.take_delivery(2)).collect();
        assert_eq!(taken.iter().map(ticket_of).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "without room")]
    fn a_delivery_without_room_is_a_fault() {
        let mut posts = connect(2, ONE);
        posts[0].deliver(1, answer(0));
        posts[0].deliver(1, answer(1));
    }

    #[test]
    fn only_sleepers_with_mail_are_woken_and_once() {
        let mut posts = connect(3, ONE);
        let [a, b, c] = &mut posts[..] else { panic!("three posts") };
        b.fall_asleep();
        c.fall_asleep();
        assert_eq!(woken(a), [0; 0]);
        a.request(1, release(0, 0)).unwrap();
        a.deliver(1, answer(0));
        assert_eq!(woken(a), [1]);
        assert_eq!(woken(a), [0; 0]);
        a.deliver(2, answer(0));
        c.wake_up();
        assert_eq!(woken(a), [0; 0], "it is awake and will look");
        a.fall_asleep();
        a.request(0, release(0, 0)).unwrap();
        assert_eq!(woken(a), [0; 0], "nobody wakes itself");
    }

    #[test]
    fn who_waits_for_room_is_woken_when_there_is_some() {
        let mut posts = connect(2, Settings { requests_max: 2, deliveries_max: 2 });
        let [a, b] = &mut posts[..] else { panic!("two posts") };
        a.request(1, release(0, 0)).unwrap();
        a.fall_asleep();
        assert!(b.take_request(0).is_some());
        assert_eq!(woken(b), [0; 0], "there was room all along");
        a.request(1, release(0, 1)).unwrap();
        a.request(1, release(0, 2)).unwrap();
        assert!(b.take_request(0).is_some() && b.take_request(0).is_some());
        assert_eq!(woken(b), [0]);
        a.deliver(1, answer(0));
        a.deliver(1, answer(1));
        a.fall_asleep();
        assert!(b.take_delivery(0).is_some());
        assert_eq!(woken(b), [0]);
    }

    /// Sleeps, as a shard does, until there is work.
    fn sleep(post: &Post, woken: &Receiver<()>, has_work: impl Fn(&Post) -> bool) {
        post.fall_asleep();
        while !has_work(post) {
            let woken = woken.recv_timeout(Duration::from_secs(20));
            assert!(woken.is_ok(), "thread {} was never woken", post.node());
            post.fall_asleep();
        }
        post.wake_up();
    }

    /// Two threads on lanes of one place; each sleeps whenever it can do nothing. A wake-up for one
    /// that has ended is of no use.
    fn play(rounds: u32) {
        let mut posts = connect(2, ONE);
        let (mut b, mut a) = (posts.pop().unwrap(), posts.pop().unwrap());
        let (wake_a, a_woken) = channel();
        let (wake_b, b_woken) = channel();
        let home = thread::spawn(move || {
            let mut served = 0;
            while served < rounds {
                while b.has_delivery_room(0) && b.take_request(0).is_some() {
                    b.deliver(0, answer(served));
                    served += 1;
                }
                b.wakes(|_| wake_a.send(()).unwrap_or_default());
                if served < rounds {
                    sleep(&b, &b_woken, |b| b.has_delivery_room(0) && b.peek_request(0).is_some());
                }
            }
        });
        let (mut asked, mut answered) = (0, 0);
        while answered < rounds {
            while asked < rounds && a.request(1, release(0, 0)).is_ok() {
                asked += 1;
            }
            while let Some(delivery) = a.take_delivery(1) {
                assert_eq!(ticket_of(&delivery), answered, "in order, each once");
                answered += 1;
            }
            a.wakes(|_| wake_b.send(()).unwrap_or_default());
            if answered < rounds {
                sleep(&a, &a_woken, |a| {
                    a.has_deliveries() || (asked < rounds && a.has_request_room(1))
                });
            }
        }
        home.join().unwrap();
    }

    #[test]
    fn no_wake_up_is_lost_between_threads_that_sleep_whenever_they_can() {
        play(100_000);
    }

    #[test]
    fn a_thread_that_has_ended_blocks_nobody() {
        let mut posts = connect(2, Settings { requests_max: 1, deliveries_max: 1 });
        let asker = Asker { node: 1, slot: 0, generation: 0, ticket: 0 };
        let delivery = || Delivery::Reply { to: asker, reply: Reply::Published(None) };
        let ended = posts.pop().unwrap();
        let mut post = posts.pop().unwrap();
        post.request(1, Request::Stop).unwrap();
        post.deliver(1, delivery());
        assert!(!post.has_request_room(1) && !post.has_delivery_room(1));
        assert!(post.request(1, Request::Stop).is_err());
        drop(ended);
        assert!(post.has_request_room(1) && post.has_delivery_room(1));
        post.request(1, Request::Stop).unwrap();
        post.deliver(1, delivery());
    }
}
