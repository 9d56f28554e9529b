//! Who waits for the server, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{RedisResult, Value};

use super::{Link, is_refusal, script};
use crate::mail::message::{Asker, Refused, Reply};
use crate::metrics::catalogue::LinkCounter;
use crate::topic::history::HistoryQuery;
use crate::topic::name::TopicName;
use crate::topic::namespace::Mode;

/// A request that the server has been sent.
#[derive(Debug)]
pub(super) enum Open {
    Publication { asker: Option<Asker>, topic: TopicName, mode: Mode },
    History { asker: Asker, topic: TopicName, query: HistoryQuery },
}

/// The requests of one connection that are not answered yet, by number, oldest first.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    requests: BTreeMap<u64, Open>,
    last: u64,
}

impl OpenRequests {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Takes one in; returns its number.
    pub(super) fn add(&mut self, open: Open) -> u64 {
        self.last += 1;
        self.requests.insert(self.last, open);
        self.last
    }

    /// Passes the server's answer on.
    ///
    /// Errors: those after which the connection is of no use.
    pub(super) fn answer(
        &mut self,
        number: u64,
        answer: RedisResult<Value>,
        link: &mut Link,
    ) -> RedisResult<()> {
        match self.requests.remove(&number) {
            Some(Open::Publication { asker, topic, mode }) => {
                published(asker, topic, mode, answer, link)
            }
            Some(Open::History { asker, topic, query }) => {
                link.lanes.answer(asker, history(topic, &query, answer));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The connection has ended: nobody knows what has become of the publications.
    pub(super) fn abandon(&mut self, link: &mut Link) {
        while let Some((_, open)) = self.requests.pop_first() {
            let (asker, topic, why) = match open {
                Open::Publication { asker, topic, .. } => {
                    link.numbers.count(LinkCounter::PublishesUnknown);
                    (asker, topic, Refused::BrokerSilent)
                }
                Open::History { asker, topic, .. } => (Some(asker), topic, Refused::BrokerDown),
            };
            if let Some(asker) = asker {
                link.lanes.answer(asker, Reply::Refused { topic, why });
            }
        }
    }
}

/// Tells a publisher what has become of its publication.
///
/// Errors: those after which the connection is of no use.
fn published(
    asker: Option<Asker>,
    topic: TopicName,
    mode: Mode,
    answer: RedisResult<Value>,
    link: &mut Link,
) -> RedisResult<()> {
    let position = answer.and_then(|answer| match mode {
        Mode::Live => Ok(None),
        Mode::Stream | Mode::Latest => Ok(Some(script::position(answer)?)),
    });
    let (counter, reply, result) = match position {
        Ok(position) => (LinkCounter::Publishes, Reply::Published(position), Ok(())),
        Err(error) if is_refusal(&error) => {
            tracing::warn!(%error, "the broker has refused a publication");
            let reply = Reply::Refused { topic, why: Refused::BrokerDown };
            // A script that the server has forgotten is loaded with the next connection.
            let is_lost = error.code() == Some("NOSCRIPT");
            let result = if is_lost { Err(error) } else { Ok(()) };
            (LinkCounter::PublishesRefused, reply, result)
        }
        Err(error) => {
            let reply = Reply::Refused { topic, why: Refused::BrokerSilent };
            let result = if error.is_timeout() { Ok(()) } else { Err(error) };
            (LinkCounter::PublishesUnknown, reply, result)
        }
    };
    link.numbers.count(counter);
    if let Some(asker) = asker {
        link.lanes.answer(asker, reply);
    }
    result
}

/// What a reader of the history is told.
fn history(topic: TopicName, query: &HistoryQuery, answer: RedisResult<Value>) -> Reply {
    let read = answer.and_then(|answer| Ok(script::history(&topic, answer)?));
    let Ok((position, publications)) = read else {
        return Reply::Refused { topic, why: Refused::BrokerDown };
    };
    let epoch = query.since.as_ref().map_or("", |since| since.epoch.as_str());
    if !epoch.is_empty() && epoch != position.epoch.as_str() {
        return Reply::Refused { topic, why: Refused::OtherEpoch };
    }
    let publications = publications.into_iter().map(Arc::new).collect();
    Reply::History { publications, position }
}
