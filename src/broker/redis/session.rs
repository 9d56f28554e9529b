//! One connection of the link, from its making to its end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::open::{Open, OpenRequests};
use super::script::{self, Server};
use super::{Connected, Link, is_refusal};
use crate::broker::body;
use crate::broker::canary;
use crate::broker::inbox::{Inbox, Item};
use crate::mail::message::{Asker, Refused, Reply, Request};
use crate::metrics::catalogue::{LinkCounter, LinkGauge};
use crate::topic::history::{HistoryQuery, Order};
use crate::topic::home::Draft;
use crate::topic::name::TopicName;
use crate::topic::namespace::{Mode, Namespace};
use crate::topic::publication::{Epoch, Position};
use crate::topic::splice::{Errand, Found, News};

/// Channels in one SUBSCRIBE.
const BATCH_MAX: usize = 512;

/// Time between two looks at canaries, and between two batches of topics that are asked for anew.
const TICK: Duration = Duration::from_millis(50);

/// Messages, requests and results that are taken before others get their turn, each.
const TURN_MAX: usize = 1024;

/// Time until a question about a topic that the server has refused is asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How long a server may keep silent before the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One connection.
pub(super) struct Session {
    commands: MultiplexedConnection,
    subscriptions: MultiplexedConnection,
    server: Arc<Server>,
    inbox: Arc<Inbox>,
    /// Topics to be asked for anew, paced.
    again: VecDeque<TopicName>,
    /// Topics about which the server has said no, and when they are asked for anew.
    refused: VecDeque<(Instant, TopicName)>,
    /// Publications and questions that wait for the server.
    open: OpenRequests,
    next_canary: Instant,
    send: UnboundedSender<Done>,
    done: UnboundedReceiver<Done>,
}

/// What a task has come to.
enum Done {
    /// Channels are subscribed.
    Subscribed(Vec<(TopicName, u32)>),
    Head {
        topic: TopicName,
        ticket: u32,
        answer: RedisResult<Value>,
    },
    Read {
        topic: TopicName,
        ticket: u32,
        answer: RedisResult<Value>,
    },
    /// What is open under this number was answered.
    Answered {
        number: u64,
        answer: RedisResult<Value>,
    },
    /// A command whose answer says nothing.
    Failed(RedisError),
}

impl Session {
    pub(super) fn new(connected: Connected) -> Self {
        let Connected { commands, subscriptions, server, inbox } = connected;
        let (send, done) = unbounded_channel();
        Self {
            commands,
            subscriptions,
            server: Arc::new(server),
            inbox,
            again: VecDeque::new(),
            refused: VecDeque::new(),
            open: OpenRequests::default(),
            next_canary: Instant::now(),
            send,
            done,
        }
    }

    /// Serves until the connection breaks, and answers whoever still waits then; returns why it broke.
    pub(super) async fn serve(mut self, link: &mut Link) -> RedisError {
        let ended = self.serve_while_connected(link).await;
        self.abandon(link);
        ended
    }

    async fn serve_while_connected(&mut self, link: &mut Link) -> RedisError {
        link.canary.forget();
        if let Err(error) = self.subscriptions.subscribe(self.inbox.canary_channel()).await {
            return error;
        }
        link.come_up();
        self.again.extend(link.topics.keys().cloned());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let requests = self.take_requests(link);
            while let Some((shard, _)) = link.lanes.take_pong() {
                link.canary.passed(shard, Instant::now());
            }
            self.take_canary(link);
            let taken = self.take_messages(link);
            let pending = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
            link.numbers.set(LinkGauge::Pending, pending);
            link.lanes.flush();
            let goes_on = match taken {
                Err(error) => return error,
                // There are more: nothing else is waited for, and nothing else forgotten.
                Ok(messages) if requests.max(messages) == TURN_MAX => tokio::select! {
                    biased;
                    _ = tick.tick() => self.look_after(link),
                    Some(done) = self.done.recv() => self.finish_all(done, link),
                    () = yield_now() => Ok(()),
                },
                Ok(_) => tokio::select! {
                    () = link.lanes.rung() => Ok(()),
                    () = self.inbox.arrived() => Ok(()),
                    _ = tick.tick() => self.look_after(link),
                    Some(done) = self.done.recv() => self.finish_all(done, link),
                },
            };
            if let Err(error) = goes_on {
                return error;
            }
        }
    }

    /// Takes what the other threads want; returns how many requests.
    fn take_requests(&mut self, link: &mut Link) -> usize {
        let (mut listens, mut taken) = (Vec::new(), 0);
        while taken < TURN_MAX
            && let Some(request) = link.lanes.take_request()
        {
            taken += 1;
            match request {
                Request::Errand { errand, .. } => self.run_errand(errand, &mut listens, link),
                Request::Publish { asker, draft } => self.publish(asker, &draft, link),
                Request::History { asker, topic, query } => {
                    self.read_history(asker, topic, query, link);
                }
                _ => debug_assert!(false, "a link is asked nothing else"),
            }
        }
        self.listen(listens, link);
        taken
    }

    fn run_errand(&mut self, errand: Errand, listens: &mut Vec<(TopicName, u32)>, link: &mut Link) {
        match errand {
            Errand::Listen { topic, ticket } => {
                link.remember(topic.clone(), ticket);
                listens.push((topic, ticket));
            }
            Errand::Ignore { topic } => {
                // What was asked before must be asked before.
                self.listen(std::mem::take(listens), link);
                link.forget(&topic);
                let mut subscriptions = self.subscriptions.clone();
                let (send, channel) = (self.send.clone(), link.keys(&topic).channel);
                spawn_local(async move {
                    if let Err(error) = subscriptions.unsubscribe(channel).await {
                        let _ = send.send(Done::Failed(error));
                    }
                });
            }
            Errand::Read { topic, ticket, since } => {
                let Some(namespace) = link.namespaces.of(&topic) else { return };
                let since = Some(Position { offset: since, epoch: Epoch::new("") });
                let limit = kept(namespace);
                let query = HistoryQuery { limit, since, order: Order::Forward };
                let read = self.server.read(&link.keys(&topic), &query, namespace.history_age);
                self.ask(read, move |answer| Done::Read { topic, ticket, answer });
            }
            Errand::Renew { topic, ticket, epoch } => {
                let head = self.server.head(&link.keys(&topic), Some(&epoch));
                self.ask(head, move |answer| Done::Head { topic, ticket, answer });
            }
        }
    }

    /// Subscribes to the channels of topics, and then asks where these have come to.
    fn listen(&self, mut topics: Vec<(TopicName, u32)>, link: &Link) {
        while !topics.is_empty() {
            let rest = topics.split_off(topics.len().min(BATCH_MAX));
            let batch = std::mem::replace(&mut topics, rest);
            let channels = batch.iter().map(|(topic, _)| link.keys(topic).channel);
            let channels: Vec<String> = channels.collect();
            let (mut subscriptions, send) = (self.subscriptions.clone(), self.send.clone());
            spawn_local(async move {
                let subscribed = subscriptions.subscribe(channels).await;
                // Nobody listens any more when the session has ended.
                let _ = send.send(match subscribed {
                    Ok(()) => Done::Subscribed(batch),
                    Err(error) => Done::Failed(error),
                });
            });
        }
    }

    fn publish(&mut self, asker: Option<Asker>, draft: &Draft, link: &mut Link) {
        let topic = draft.topic.clone();
        let Some(namespace) = link.namespaces.of(&topic) else { return };
        if !link.is_up || self.open.len() >= link.settings.pending_max {
            link.numbers.count(LinkCounter::PublishesRefused);
            if let Some(asker) = asker {
                link.lanes.answer(asker, Reply::Refused { topic, why: Refused::BrokerDown });
            }
            return;
        }
        let keys = link.keys(&topic);
        let mode = namespace.mode;
        let command = if mode == Mode::Live {
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(keys.channel).arg(body::encode(body::UNNUMBERED, draft));
            publish
        } else {
            let body = body::encode("", draft);
            self.server.publish(&keys, &body, kept(namespace), namespace.history_age)
        };
        self.ask_for(Open::Publication { asker, topic, mode }, command);
    }

    fn read_history(
        &mut self,
        asker: Asker,
        topic: TopicName,
        query: HistoryQuery,
        link: &mut Link,
    ) {
        let Some(namespace) = link.namespaces.of(&topic) else { return };
        if !link.is_up || self.open.len() >= link.settings.pending_max {
            let refused = Reply::Refused { topic, why: Refused::BrokerDown };
            return link.lanes.answer(asker, refused);
        }
        let read = self.server.read(&link.keys(&topic), &query, namespace.history_age);
        self.ask_for(Open::History { asker, topic, query }, read);
    }

    /// Sends a command for somebody who is answered whatever becomes of it.
    fn ask_for(&mut self, open: Open, command: Cmd) {
        let number = self.open.add(open);
        self.ask(command, move |answer| Done::Answered { number, answer });
    }

    /// Sends a command; tasks begin in the order in which they are made, so commands keep theirs.
    fn ask(&self, command: Cmd, done: impl FnOnce(RedisResult<Value>) -> Done + 'static) {
        let (mut commands, send) = (self.commands.clone(), self.send.clone());
        spawn_local(async move {
            let answer = command.query_async::<Value>(&mut commands).await;
            // Nobody listens any more when the session has ended.
            let _ = send.send(done(answer));
        });
    }

    /// Hands over what has been sent to us, as far as there is room; returns how many messages.
    fn take_messages(&mut self, link: &mut Link) -> RedisResult<usize> {
        for taken in 0..TURN_MAX {
            if link.lanes.is_crowded() {
                return Ok(taken);
            }
            match self.inbox.take() {
                None => return Ok(taken),
                Some(Item::Broken) => {
                    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Err(gone.into());
                }
                Some(Item::Missed { channel }) => {
                    link.numbers.count(LinkCounter::Overflows);
                    if let Some(topic) = link.channels.get(&channel) {
                        self.again.push_back(topic.clone());
                    }
                }
                Some(Item::Message { channel, payload }) => Self::arrived(&channel, payload, link),
            }
        }
        Ok(TURN_MAX)
    }

    /// Takes in the canary that has come back, however much else waits.
    fn take_canary(&mut self, link: &mut Link) {
        let Some(number) = self.inbox.take_canary() else { return };
        let Some(took) = link.canary.returned(number, Instant::now()) else { return };
        link.numbers.set(LinkGauge::Lag, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        link.lanes.ping_all(number);
        if !link.is_up {
            tracing::info!(server = ?link.settings, "the broker answers again");
            link.come_up();
            self.again = link.topics.keys().cloned().collect();
        }
    }

    fn arrived(channel: &[u8], payload: Vec<u8>, link: &mut Link) {
        let Some(topic) = link.channels.get(channel).cloned() else { return };
        match body::decode_message(&topic, &Bytes::from(payload)) {
            Some((epoch, publication)) => {
                let publication = Arc::new(publication);
                link.lanes.tell_home(&topic, News::Arrived { epoch, publication });
            }
            None => link.numbers.count(LinkCounter::Unreadable),
        }
    }

    /// Sends canaries, notices those that stay out, and asks for topics anew.
    fn look_after(&mut self, link: &mut Link) -> RedisResult<()> {
        let now = Instant::now();
        if now >= self.next_canary
            && let Some(number) = link.canary.send(now)
        {
            self.next_canary = now + canary::EVERY;
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(self.inbox.canary_channel()).arg(number);
            let (mut commands, send) = (self.commands.clone(), self.send.clone());
            spawn_local(async move {
                // A canary that stays out is noticed by that.
                if let Err(error) = publish.query_async::<Value>(&mut commands).await
                    && error.is_unrecoverable_error()
                {
                    let _ = send.send(Done::Failed(error));
                }
            });
        }
        if let Some(silence) = link.canary.is_overdue(now) {
            if link.is_up {
                tracing::warn!(server = ?link.settings, ?silence, "the broker does not answer");
                link.go_down();
            }
            if silence > SILENCE_MAX {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        let silent = u64::try_from(link.canary.silent_shards(now)).unwrap_or(u64::MAX);
        link.numbers.set(LinkGauge::SilentShards, silent);
        while let Some((_, topic)) = self.refused.pop_front_if(|(at, _)| *at <= now) {
            self.again.push_back(topic);
        }
        if link.is_up && !self.again.is_empty() {
            let batch = self.again.drain(..self.again.len().min(BATCH_MAX));
            let batch = batch.filter_map(|topic| {
                let ticket = *link.topics.get(&topic)?;
                Some((topic, ticket))
            });
            let batch: Vec<_> = batch.collect();
            self.listen(batch, link);
        }
        Ok(())
    }

    /// Takes in `first` and what else tasks have come to meanwhile.
    fn finish_all(&mut self, first: Done, link: &mut Link) -> RedisResult<()> {
        self.finish(first, link)?;
        for _ in 0..TURN_MAX {
            let Ok(done) = self.done.try_recv() else { break };
            self.finish(done, link)?;
        }
        Ok(())
    }

    fn finish(&mut self, done: Done, link: &mut Link) -> RedisResult<()> {
        match done {
            Done::Subscribed(batch) => {
                for (topic, ticket) in batch {
                    let mode = link.namespaces.of(&topic).map(|namespace| namespace.mode);
                    if mode == Some(Mode::Live) {
                        let listening =
                            News::Listening { topic: topic.clone(), ticket, head: None };
                        link.lanes.tell_home(&topic, listening);
                    } else {
                        let head = self.server.head(&link.keys(&topic), None);
                        self.ask(head, move |answer| Done::Head { topic, ticket, answer });
                    }
                }
            }
            // Whoever waits for it is refused when the connection ends.
            Done::Head { topic, ticket, answer } => {
                let head = answer.and_then(|answer| Ok(script::head(answer)?));
                let news = match unless_refused(head)? {
                    Some(head) => {
                        News::Listening { topic: topic.clone(), ticket, head: Some(head) }
                    }
                    None => {
                        self.refused.push_back((Instant::now() + REFUSED_PAUSE, topic.clone()));
                        News::Unknown { topic: topic.clone(), ticket }
                    }
                };
                link.lanes.tell_home(&topic, news);
            }
            Done::Read { topic, ticket, answer } => {
                let read = answer.and_then(|answer| Ok(script::history(&topic, answer)?));
                let found = unless_refused(read)?.map(|(head, publications)| {
                    let publications = publications.into_iter().map(Arc::new).collect();
                    Found { head, publications }
                });
                link.lanes.tell_home(&topic.clone(), News::Read { topic, ticket, found });
            }
            Done::Answered { number, answer } => return self.open.answer(number, answer, link),
            Done::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Answers all who still wait when the connection has ended.
    fn abandon(&mut self, link: &mut Link) {
        while let Ok(done) = self.done.try_recv() {
            if let Done::Answered { number, answer } = done {
                // The connection has ended already; a further reason changes nothing.
                let _ = self.open.answer(number, answer, link);
            }
        }
        self.open.abandon(link);
        link.numbers.set(LinkGauge::Pending, 0);
    }
}

/// The answer to a question about one topic; `None`: the server has said no, about this topic only.
///
/// Errors: those after which the connection is of no use.
fn unless_refused<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_refusal(&error) && error.code() != Some("NOSCRIPT") => {
            tracing::warn!(%error, "the broker has refused a question about a topic");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Publications that are kept of each topic.
fn kept(namespace: &Namespace) -> usize {
    if namespace.mode == Mode::Latest { 1 } else { namespace.history_size }
}
