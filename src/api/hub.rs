//! The control thread's end of the lanes: questions to shards, and their answers.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::mail::message::{Asker, Delivery, Reply, Request};
use crate::mail::post::Post;

/// Bounds of a [`Hub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions that wait for an answer.
    pub calls_max: usize,
    /// How long a question waits for room in its lane.
    pub lane_wait: Duration,
    /// How long [`Hub::ask`] waits for the answer.
    pub answer_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_max: 1024,
            lane_wait: Duration::from_millis(250),
            answer_wait: Duration::from_secs(5),
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskError {
    /// Too many questions are open, or the lane is full. It was not asked.
    Busy,
    /// It was asked, and nothing came in time: what became of it is unknown.
    NoAnswer,
}

/// Asks shards on behalf of tasks of the control thread.
///
/// The control thread counts as sleeping at all times, so each delivery to it is announced; the
/// daemon calls [`Hub::dispatch`] then.
pub struct Hub {
    desk: RefCell<Desk>,
    /// Wakes the tasks that wait for room in a lane.
    room: Notify,
    wake: Box<dyn Fn(usize)>,
    shards: usize,
    limits: Limits,
}

struct Desk {
    post: Post,
    calls: Vec<Slot>,
    vacant: Vec<u32>,
}

/// A place for an open call; a place that is used again has another generation.
struct Slot {
    generation: u32,
    answer: Option<oneshot::Sender<Reply>>,
}

/// A question that was asked. Dropping it gives its place free; an answer that comes later is
/// ignored.
pub(super) struct Call<'h> {
    hub: &'h Hub,
    asker: Asker,
    answer: oneshot::Receiver<Reply>,
}

impl Hub {
    /// The control thread's end, `post`, of the lanes to `shards` shards; `wake` wakes a thread.
    ///
    /// `wake` must not call the hub.
    pub fn new(post: Post, shards: usize, wake: Box<dyn Fn(usize)>, limits: Limits) -> Self {
        assert!(shards <= post.node(), "the shards come before the control thread");
        post.fall_asleep();
        let desk = Desk { post, calls: Vec::new(), vacant: Vec::new() };
        Self { desk: RefCell::new(desk), room: Notify::new(), wake, shards, limits }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// How long [`Hub::ask`] waits for the answer.
    pub(super) fn answer_wait(&self) -> Duration {
        self.limits.answer_wait
    }

    /// Asks thread `node` what `make` makes of the asker, and waits for the answer.
    ///
    /// Errors: [`AskError`].
    pub async fn ask(
        &self,
        node: usize,
        make: impl FnOnce(Asker) -> Request,
    ) -> Result<Reply, AskError> {
        let call = self.call(node, make).await?;
        timeout(self.limits.answer_wait, call.answer()).await.unwrap_or(Err(AskError::NoAnswer))
    }

    /// Whether shard `shard` still turns: asks it past the limit of open questions.
    pub(super) async fn ping(&self, shard: usize) -> Result<Reply, AskError> {
        let call = self.open(self.limits.calls_max + self.shards)?;
        let request = Request::Ping { asker: call.asker };
        let until = Instant::now() + self.limits.answer_wait;
        let asked = async {
            self.post(shard, request).await;
            call.answer().await
        };
        timeout_at(until, asked).await.unwrap_or(Err(AskError::NoAnswer))
    }

    /// Asks thread `node`; the caller decides how long to wait for the answer.
    ///
    /// Errors: [`AskError::Busy`].
    pub(super) async fn call(
        &self,
        node: usize,
        make: impl FnOnce(Asker) -> Request,
    ) -> Result<Call<'_>, AskError> {
        let call = self.open(self.limits.calls_max)?;
        let posted = self.post(node, make(call.asker));
        timeout(self.limits.lane_wait, posted).await.map_err(|_| AskError::Busy)?;
        Ok(call)
    }

    /// Sends `request`, which asks for no answer, to thread `node`; waits for room in the lane, for
    /// as long as it takes.
    pub async fn post(&self, node: usize, mut request: Request) {
        loop {
            match self.try_post(node, request) {
                Ok(()) => return,
                Err(refused) => request = refused,
            }
            self.room.notified().await;
        }
    }

    /// Takes what has been delivered and hands it to those who asked.
    pub fn dispatch(&self) {
        let mut desk = self.desk.borrow_mut();
        loop {
            desk.take_deliveries();
            desk.post.fall_asleep();
            if !desk.post.has_deliveries() {
                break;
            }
        }
        desk.post.wakes(&self.wake);
        self.room.notify_waiters();
    }

    #[expect(clippy::result_large_err, reason = "a refused request is tried again at once")]
    fn try_post(&self, node: usize, request: Request) -> Result<(), Request> {
        let mut desk = self.desk.borrow_mut();
        desk.post.request(node, request)?;
        desk.post.wakes(&self.wake);
        Ok(())
    }

    fn open(&self, calls_max: usize) -> Result<Call<'_>, AskError> {
        let (sender, answer) = oneshot::channel();
        let asker = self.desk.borrow_mut().open(sender, calls_max)?;
        Ok(Call { hub: self, asker, answer })
    }

    /// Questions that wait for an answer.
    #[cfg(test)]
    pub(super) fn open_calls(&self) -> usize {
        let desk = self.desk.borrow();
        desk.calls.len() - desk.vacant.len()
    }
}

impl Desk {
    fn open(
        &mut self,
        answer: oneshot::Sender<Reply>,
        calls_max: usize,
    ) -> Result<Asker, AskError> {
        if self.calls.len() - self.vacant.len() >= calls_max {
            return Err(AskError::Busy);
        }
        let index = match self.vacant.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.calls.len()).map_err(|_| AskError::Busy)?;
                self.calls.push(Slot { generation: 0, answer: None });
                index
            }
        };
        let slot = &mut self.calls[index as usize];
        assert!(slot.answer.is_none(), "a place was given twice");
        slot.answer = Some(answer);
        let node = self.post.node();
        Ok(Asker { node, slot: index, generation: slot.generation, ticket: 0 })
    }

    /// Frees the place of `asker` and returns where its answer goes; `None` when it was freed before.
    fn close(&mut self, asker: Asker) -> Option<oneshot::Sender<Reply>> {
        let slot = self.calls.get_mut(asker.slot as usize)?;
        if slot.generation != asker.generation {
            return None;
        }
        let answer = slot.answer.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(asker.slot);
        Some(answer)
    }

    fn take_deliveries(&mut self) {
        for from in 0..self.post.nodes() {
            while let Some(delivery) = self.post.take_delivery(from) {
                let Delivery::Reply { to, reply } = delivery else {
                    debug_assert!(false, "the control thread subscribes to nothing");
                    continue;
                };
                if let Some(answer) = self.close(to) {
                    // Whoever asked may have gone in this very turn.
                    drop(answer.send(reply));
                }
            }
        }
    }
}

impl Call<'_> {
    /// Waits for the answer, for as long as it takes.
    pub(super) async fn answer(mut self) -> Result<Reply, AskError> {
        (&mut self.answer).await.map_err(|_| AskError::NoAnswer)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.hub.desk.borrow_mut().close(self.asker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::post::{Settings, connect};

    fn hub(requests_max: usize, calls_max: usize) -> (Hub, Post) {
        let mut posts = connect(2, Settings { requests_max, deliveries_max: 8 });
        let control = posts.pop().unwrap();
        let limits = Limits {
            calls_max,
            lane_wait: Duration::from_millis(50),
            answer_wait: Duration::from_millis(50),
        };
        (Hub::new(control, 1, Box::new(|_| ()), limits), posts.pop().unwrap())
    }

    fn asker(shard: &mut Post) -> Asker {
        match shard.take_request(1) {
            Some(Request::Census { asker } | Request::Ping { asker }) => asker,
            other => panic!("{other:?}"),
        }
    }

    fn reply(shard: &mut Post, to: Asker, count: usize) {
        let reply = Reply::Disconnected(count);
        shard.deliver(1, Delivery::Reply { to, reply });
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn answers_find_those_who_asked_in_any_order() {
        run(async {
            let (hub, mut shard) = hub(8, 8);
            let first = hub.call(0, |asker| Request::Census { asker }).await.unwrap();
            let second = hub.call(0, |asker| Request::Census { asker }).await.unwrap();
            let askers = [asker(&mut shard), asker(&mut shard)];
            reply(&mut shard, askers[1], 2);
            reply(&mut shard, askers[0], 1);
            hub.dispatch();
            assert!(matches!(first.answer().await, Ok(Reply::Disconnected(1))));
            assert!(matches!(second.answer().await, Ok(Reply::Disconnected(2))));
            assert_eq!(hub.open_calls(), 0);
        });
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_call_in_its_place() {
        run(async {
            let (hub, mut shard) = hub(8, 8);
            let asked = hub.ask(0, |asker| Request::Census { asker }).await;
            assert_eq!(asked.unwrap_err(), AskError::NoAnswer);
            let late = asker(&mut shard);
            let next = hub.call(0, |asker| Request::Census { asker }).await.unwrap();
            let current = asker(&mut shard);
            assert_eq!(late.slot, current.slot);
            reply(&mut shard, late, 1);
            reply(&mut shard, current, 2);
            hub.dispatch();
            assert!(matches!(next.answer().await, Ok(Reply::Disconnected(2))));
        });
    }

    #[test]
    fn too_many_calls_and_a_full_lane_are_busy_but_a_ping_gets_through() {
        run(async {
            let (hub, mut shard) = hub(1, 2);
            let first = hub.call(0, |asker| Request::Census { asker }).await.unwrap();
            let full = hub.call(0, |asker| Request::Census { asker }).await;
            assert_eq!(full.err(), Some(AskError::Busy));
            let _ = asker(&mut shard);
            let second = hub.call(0, |asker| Request::Census { asker }).await.unwrap();
            let over = hub.call(0, |asker| Request::Census { asker }).await;
            assert_eq!(over.err(), Some(AskError::Busy));
            let _ = asker(&mut shard);
            let (pong, ()) = tokio::join!(hub.ping(0), async {
                let to = asker(&mut shard);
                shard.deliver(1, Delivery::Reply { to, reply: Reply::Pong });
                hub.dispatch();
            });
            assert!(matches!(pong, Ok(Reply::Pong)));
            drop((first, second));
            assert_eq!(hub.open_calls(), 0);
        });
    }

    #[test]
    fn who_waits_for_room_in_a_lane_goes_on_when_there_is_some() {
        run(async {
            let (hub, mut shard) = hub(1, 8);
            hub.post(0, Request::Stop).await;
            tokio::join!(hub.post(0, Request::Drain { window_ms: 7 }), async {
                assert!(matches!(shard.take_request(1), Some(Request::Stop)));
                hub.dispatch();
            });
            assert!(matches!(shard.take_request(1), Some(Request::Drain { window_ms: 7 })));
        });
    }
}
