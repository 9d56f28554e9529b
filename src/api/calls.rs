//! The methods of the server API.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;

use super::command::{self, Channels, Disconnect, History, Publish};
use super::failure::Failure;
use super::glob::Glob;
use super::method::Method;
use super::publish::{self, unexpected};
use super::reply::{self, Count};
use super::state::State;
use crate::mail::message::{Reply, Request};

/// Calls `method` with the request `body` and returns the answer's JSON.
///
/// Errors: [`Failure`].
pub(super) async fn call(
    state: &Rc<State>,
    method: Method,
    body: &[u8],
) -> Result<Vec<u8>, Failure> {
    // Centrifugo's clients leave the body out where there is nothing to say.
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    match method {
        Method::Publish => publish_one(state, read(body)?).await,
        Method::Broadcast => publish_many(state, read(body)?).await,
        Method::Info => Ok(info(state)),
        Method::Channels => channels(state, read(body)?).await,
        Method::History => history(state, &read(body)?).await,
        Method::Disconnect => disconnect(state, read(body)?).await,
        Method::Unknown => Err(Failure::UnknownMethod),
    }
}

/// What a body says.
///
/// Errors: [`Failure::NotJson`].
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    // Structs can be read from arrays, too; the API has never said so.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::NotJson { line: 1, column: 1 });
    }
    // Members that nobody looks at are not read, and yet JSON is text as a whole.
    let text = std::str::from_utf8(body).map_err(|error| {
        let before = &body[..error.valid_up_to()];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        Failure::NotJson { line: lines + 1, column: before.len() - line_start + 1 }
    })?;
    Ok(serde_json::from_str(text)?)
}

async fn publish_one(state: &Rc<State>, request: Publish<'_>) -> Result<Vec<u8>, Failure> {
    let content = request.content(state.parts.limits.get().data_bytes_max)?;
    let position = publish::publish(state, &request.channel, content).await?;
    Ok(reply::success(&reply::Published::at(position.as_ref())))
}

async fn publish_many(state: &Rc<State>, request: Publish<'_>) -> Result<Vec<u8>, Failure> {
    let limits = state.parts.limits.get();
    let channels = request.names(limits.broadcast_max)?;
    let content = request.content(limits.data_bytes_max)?;
    let published = publish::broadcast(state, &channels, &content).await;
    Ok(reply::success(&reply::Broadcast::of(&published)))
}

fn info(state: &State) -> Vec<u8> {
    let figures = (state.parts.figures)();
    reply::success(&reply::Info::of(&state.parts.node, &figures))
}

async fn channels(state: &State, request: Channels) -> Result<Vec<u8>, Failure> {
    let pattern = request.pattern.as_deref().filter(|pattern| !pattern.is_empty()).unwrap_or("*");
    let too_long = "`pattern` may have 127 bytes besides its `*`; shorten it";
    let glob = Glob::new(pattern).ok_or(Failure::Invalid(too_long))?;
    let hub = &state.parts.hub;
    let mut listed = BTreeMap::new();
    for shard in 0..hub.shards() {
        let census = match hub.ask(shard, |asker| Request::Census { asker }).await? {
            Reply::Census(census) => census,
            reply => return Err(unexpected(&reply)),
        };
        for (topic, num_clients) in census {
            if num_clients > 0 && glob.matches(topic.as_str()) {
                listed.insert(topic.as_str().to_owned(), Count { num_clients });
            }
        }
        if listed.len() > state.parts.limits.get().list_max {
            return Err(Failure::ListTooLong(state.parts.limits.get().list_max));
        }
    }
    Ok(reply::success(&reply::Channels { channels: listed }))
}

async fn history(state: &State, request: &History) -> Result<Vec<u8>, Failure> {
    let topic = command::topic(&request.channel)?;
    let query = request.query(state.parts.limits.get().history_max);
    let hub = &state.parts.hub;
    let home = topic.home(hub.shards());
    match hub.ask(home, |asker| Request::History { asker, topic, query }).await? {
        Reply::History { publications, position } => {
            Ok(reply::success(&reply::History::of(&publications, &position)))
        }
        reply => Err(unexpected(&reply)),
    }
}

async fn disconnect(state: &State, request: Disconnect) -> Result<Vec<u8>, Failure> {
    let (client, code, reason) = request.order()?;
    let (client, reason): (Arc<str>, Arc<str>) = (client.into(), reason.into());
    let hub = &state.parts.hub;
    for shard in 0..hub.shards() {
        let (client, reason) = (Arc::clone(&client), Arc::clone(&reason));
        let asked = hub.ask(shard, |asker| Request::Disconnect { asker, client, code, reason });
        match asked.await? {
            Reply::Disconnected(_) => {}
            reply => return Err(unexpected(&reply)),
        }
    }
    Ok(reply::success(&reply::Nothing {}))
}
