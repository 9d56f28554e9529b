//! `GET /debug/closes`: how connections have ended, as numbers and as examples.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use super::publish::unexpected;
use super::reply;
use super::state::State;
use crate::mail::close::{Closes, Kind};
use crate::mail::message::{Reply, Request};

mod answer;
mod ends;
mod query;

use answer::{Answer, Entry};
pub use ends::Ends;
pub(super) use ends::{Snapshots, keep};
use query::Query;
pub(super) use query::Wrong;
pub use query::{PARAMETERS, Words};

/// The page that shows it to people, its program and its style.
pub(super) const PAGE: &str = include_str!("page.html");
pub(super) const PROGRAM: &str = include_str!("page.js");
pub(super) const STYLE: &str = include_str!("page.css");

/// Answers a request with this query.
///
/// Shards that do not answer in time are named in the answer; the others' closes are in it.
///
/// Errors: [`Wrong`], naming the parameter.
pub(super) async fn answer(state: &Rc<State>, query: &str) -> Result<Vec<u8>, Wrong> {
    let (now, unix_now) = (Instant::now(), unix_now());
    let query = Query::parse(query, &state.parts.words, now.into_std(), unix_now)?;
    let (closes, silent) = ask(state, &query).await;
    let snapshots = state.snapshots.borrow();
    let total = (state.parts.ends)();
    let (since, before) = snapshots.before(now, query.window);
    let answer = Answer {
        now: unix_now.as_secs_f64(),
        uptime_seconds: state.parts.node.uptime().as_secs_f64(),
        window_seconds: now.saturating_duration_since(since).as_secs_f64(),
        counts: answer::counts(&total, before, &state.parts.words),
        unopened: answer::unopened(&total, before, &state.parts.words),
        books: answer::books(&closes),
        silent_shards: &silent,
        matched: closes.matched,
        closes: closes.found.iter().map(|close| Entry::new(close, now, unix_now)).collect(),
    };
    Ok(reply::json(&answer))
}

/// Asks all shards at once; returns what they say, and who has said nothing.
async fn ask(state: &State, query: &Query) -> (Closes, Vec<usize>) {
    let hub = &state.parts.hub;
    let until = Instant::now() + hub.answer_wait();
    let mut asked = Vec::with_capacity(hub.shards());
    for shard in 0..hub.shards() {
        let filter = query.filter.clone();
        asked.push(hub.call(shard, |asker| Request::Closes { asker, filter }).await);
    }
    let mut all = Closes::default();
    let mut silent = Vec::new();
    for (shard, call) in asked.into_iter().enumerate() {
        let answered = match call {
            Ok(call) => timeout_at(until, call.answer()).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        match answered {
            Some(Reply::Closes(closes)) => add(&mut all, closes),
            Some(reply) => {
                unexpected(&reply);
                silent.push(shard);
            }
            None => silent.push(shard),
        }
    }
    all.found.sort_by_key(|close| std::cmp::Reverse(close.at));
    all.found.truncate(query.filter.limit);
    (all, silent)
}

fn add(all: &mut Closes, closes: Closes) {
    all.found.extend(closes.found);
    all.matched += closes.matched;
    for kind in Kind::ALL {
        let (sum, book) = (&mut all.books[kind as usize], closes.books[kind as usize]);
        sum.ended += book.ended;
        sum.recorded += book.recorded;
        sum.held += book.held;
    }
}

/// Time since 1970.
#[expect(clippy::disallowed_methods, reason = "what operators are told is in their time")]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
