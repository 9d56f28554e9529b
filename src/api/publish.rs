//! Publishing through the server API.

use std::rc::Rc;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::command::{self, Content};
use super::failure::Failure;
use super::hub::AskError;
use super::state::State;
use super::window::{Key, Known, Outcome};
use crate::mail::message::{Asker, Reply, Request};
use crate::topic::home::Draft;
use crate::topic::name::TopicName;
use crate::topic::publication::Position;

/// Publications of one broadcast that are on their way at one time.
const BROADCAST_STEP: usize = 64;

/// Where a publication got its place; `None` on topics without positions.
pub(super) type Published = Result<Option<Position>, Failure>;

/// Publishes `content` to the topic named `channel`.
///
/// With an idempotency key it is published once, as long as the key is remembered; whoever repeats
/// it learns what became of the first attempt, also when that is not known yet.
pub(super) async fn publish(state: &Rc<State>, channel: &str, content: Content) -> Published {
    let topic = command::topic(channel)?;
    let hub = &state.parts.hub;
    let Some(key) = content.key.clone() else {
        let home = topic.home(hub.shards());
        return position(hub.ask(home, |asker| request(asker, topic, content)).await?);
    };
    let key = (topic, key);
    let known = state.window.borrow_mut().enter(&key, Instant::now());
    let mut outcome = match known {
        Known::Earlier(outcome) => outcome,
        Known::New(sender) => {
            let outcome = sender.subscribe();
            spawn_local(publish_once(Rc::clone(state), key, content, sender));
            outcome
        }
    };
    match timeout(hub.answer_wait(), outcome.wait_for(Option::is_some)).await {
        Ok(Ok(settled)) => settled.clone().unwrap_or(Err(AskError::NoAnswer.into())),
        Ok(Err(_)) | Err(_) => Err(AskError::NoAnswer.into()),
    }
}

/// Publishes `content` to each of `channels`, in steps; the results are in the same order.
pub(super) async fn broadcast(
    state: &Rc<State>,
    channels: &[String],
    content: &Content,
) -> Vec<Published> {
    let mut results = Vec::with_capacity(channels.len());
    for step in channels.chunks(BROADCAST_STEP) {
        let on_their_way = step.iter().map(|channel| {
            let (state, channel, content) = (Rc::clone(state), channel.clone(), content.clone());
            spawn_local(async move { publish(&state, &channel, content).await })
        });
        for task in on_their_way.collect::<Vec<_>>() {
            results.push(task.await.unwrap_or(Err(AskError::NoAnswer.into())));
        }
    }
    results
}

/// Goes on when those who wait for it have given up: the next one with this key must learn the truth.
async fn publish_once(
    state: Rc<State>,
    key: Key,
    content: Content,
    outcome: watch::Sender<Outcome>,
) {
    let published = async {
        let hub = &state.parts.hub;
        let topic = key.0.clone();
        let home = topic.home(hub.shards());
        let call = hub.call(home, |asker| request(asker, topic, content)).await?;
        position(call.answer().await?)
    };
    let published = published.await;
    if published.is_err() {
        state.window.borrow_mut().forget(&key);
    }
    outcome.send_replace(Some(published));
}

fn request(asker: Asker, topic: TopicName, content: Content) -> Request {
    let Content { payload, tags, skip_history, key: _ } = content;
    let draft = Draft { topic, payload, publisher: None, tags, skip_history };
    Request::Publish { asker: Some(asker), draft }
}

fn position(reply: Reply) -> Published {
    match reply {
        Reply::Published(position) => Ok(position),
        reply => Err(unexpected(&reply)),
    }
}

/// The failure that a reply of another kind stands for.
pub(super) fn unexpected(reply: &Reply) -> Failure {
    let Reply::Refused { why, .. } = reply else {
        debug_assert!(false, "a shard answered another question: {reply:?}");
        return AskError::NoAnswer.into();
    };
    Failure::Refused(*why)
}
