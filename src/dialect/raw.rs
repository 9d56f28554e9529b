//! One topic per connection, no envelope.
//!
//! The upgrade: [`open`] says what to ask the hub for; its answer goes to [`Session::opened`], which
//! gives the header fields of the 101 response and the frames that follow it.

use bytes::Bytes;

use super::allowance::Verdict;
use super::cause::Cause;
use super::variant::{self, Language, Variant};
use super::{Action, Answer, Context, Recovery, Refusal, Ticket};
use crate::topic::name::TopicName;
use crate::topic::namespace::{Mode, Namespaces, PublishRight};
use crate::topic::publication::{Epoch, Payload, Position};
use crate::ws::deflate::{Class, Outbound};

/// The ticket of the only question a raw client asks.
pub const OPENING: Ticket = Ticket(0);

/// One raw client.
#[derive(Debug)]
pub struct Session {
    topic: TopicName,
}

/// Why an upgrade to the raw protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// `offset` is no number, or `epoch` came without it.
    MalformedPosition,
    /// A position was given for a topic whose messages cannot be counted.
    NoPositions,
    /// The topic belongs to no namespace.
    UnknownTopic,
    /// The hub does not allow it.
    Forbidden,
    /// Something is at its limit, or not ready.
    Unavailable,
}

impl OpenError {
    /// The status of the HTTP response.
    pub const fn status(self) -> u16 {
        match self {
            Self::MalformedPosition | Self::NoPositions => 400,
            Self::Forbidden => 403,
            Self::UnknownTopic => 404,
            Self::Unavailable => 503,
        }
    }
}

/// The position that the query parameters `offset` and `epoch`, percent-decoded, ask to start from.
///
/// Without `epoch` the topic's own is taken.
///
/// Errors: [`OpenError::MalformedPosition`].
pub fn wanted_position(
    offset: Option<&str>,
    epoch: Option<&str>,
) -> Result<Option<Position>, OpenError> {
    let Some(offset) = offset else {
        return if epoch.is_none() { Ok(None) } else { Err(OpenError::MalformedPosition) };
    };
    let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
    match offset.parse() {
        Ok(offset) if digits => {
            Ok(Some(Position { offset, epoch: Epoch::new(epoch.unwrap_or_default()) }))
        }
        _ => Err(OpenError::MalformedPosition),
    }
}

/// A client that wants to hear `topic`, compressed in `class`, and what to ask the hub for before it
/// is answered.
///
/// Errors: [`OpenError::UnknownTopic`], [`OpenError::NoPositions`].
pub fn open(
    topic: TopicName,
    since: Option<Position>,
    class: Option<Class>,
    namespaces: &Namespaces,
) -> Result<(Session, Action), OpenError> {
    let namespace = namespaces.of(&topic).ok_or(OpenError::UnknownTopic)?;
    let recoverable = namespace.recovery && namespace.mode == Mode::Stream;
    if since.is_some() && !recoverable {
        return Err(OpenError::NoPositions);
    }
    let variant = Variant { language: Language::Raw, class };
    let subscribe = Action::Subscribe { ticket: OPENING, topic: topic.clone(), since, variant };
    Ok((Session { topic }, subscribe))
}

/// What the 101 response tells about the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whether everything missed follows; `None` when nobody asked.
    pub recovered: Option<bool>,
    /// The position before the first message; `None` where messages cannot be counted.
    pub position: Option<Position>,
    /// Recovered messages that were written.
    pub written: usize,
}

impl Opened {
    /// The header fields of the response.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let recovered =
            self.recovered.map(|recovered| ("Ringway-Recovered", recovered.to_string()));
        let position = self.position.as_ref();
        let epoch = position.map(|p| ("Ringway-Epoch", p.epoch.as_str().to_owned()));
        let offset = position.map(|p| ("Ringway-Offset", p.offset.to_string()));
        recovered.into_iter().chain(epoch).chain(offset)
    }
}

impl Session {
    /// What the hub's answer to the opening question means; appends the frames of recovered
    /// publications, which belong behind the 101 response, to `frames`.
    ///
    /// Errors: [`OpenError`]; the upgrade is to be refused.
    pub fn opened(
        &self,
        answer: Answer,
        namespaces: &Namespaces,
        outbound: Option<Outbound<'_>>,
        frames: &mut Vec<u8>,
    ) -> Result<Opened, OpenError> {
        let (position, recovery) = match answer {
            Answer::Subscribed { position, recovery } => (position, recovery),
            Answer::Refused(refusal) => return Err(open_error(refusal)),
            Answer::Unsubscribed | Answer::Published | Answer::History { .. } => {
                debug_assert!(false, "the hub answers a subscribe with Subscribed or Refused");
                return Err(OpenError::Unavailable);
            }
        };
        // Offsets of other modes do not count messages.
        let namespace = namespaces.of(&self.topic);
        let counted = namespace.is_some_and(|n| n.mode == Mode::Stream);
        let mut outbound = outbound.filter(|_| namespace.is_some_and(|n| n.compress));
        let mut position = position.filter(|_| counted);
        let mut written = 0;
        let recovered = match recovery {
            Recovery::NotAsked => None,
            Recovery::Lost => Some(false),
            Recovery::Recovered(missed) => {
                if let Some(position) = &mut position {
                    let count = u64::try_from(missed.len()).unwrap_or(u64::MAX);
                    position.offset = position.offset.saturating_sub(count);
                }
                written = missed.len();
                for publication in &missed {
                    variant::push_raw(frames, publication, outbound.as_mut());
                }
                Some(true)
            }
        };
        Ok(Opened { recovered, position, written })
    }

    /// Holds `name` where its own is equal: one name for all who listen to a topic, instead of a copy
    /// for each.
    pub fn share_name(&mut self, name: &TopicName) {
        if self.topic == *name {
            self.topic = name.clone();
        }
    }

    /// Publishes a text message.
    pub(super) fn message_text(&self, text: &[u8], cx: &mut Context<'_>) {
        self.publish(Payload::Text(Bytes::copy_from_slice(text)), cx);
    }

    /// Publishes a binary message.
    pub(super) fn message_binary(&self, bytes: &[u8], cx: &mut Context<'_>) {
        self.publish(Payload::Binary(Bytes::copy_from_slice(bytes)), cx);
    }

    fn publish(&self, payload: Payload, cx: &mut Context<'_>) {
        // There is no answer by which it could be told to wait.
        if cx.allowance.take(cx.now, cx.settings.commands) != Verdict::Granted {
            return cx.actions.push(Action::Close(Cause::Rate));
        }
        let right = cx.namespaces.of(&self.topic).map_or(PublishRight::Deny, |n| n.publish);
        cx.actions.push(match right {
            PublishRight::Deny => Action::Close(Cause::PublishDenied),
            // A raw client is subscribed for as long as it is open.
            PublishRight::Subscribers | PublishRight::Allow => Action::Publish {
                ticket: None,
                topic: self.topic.clone(),
                payload,
                publisher: None,
                only_subscribed: false,
            },
        });
    }
}

const fn open_error(refusal: Refusal) -> OpenError {
    match refusal {
        Refusal::UnknownTopic => OpenError::UnknownTopic,
        Refusal::Forbidden => OpenError::Forbidden,
        Refusal::NotAvailable | Refusal::UnrecoverablePosition => OpenError::NoPositions,
        Refusal::AlreadySubscribed | Refusal::LimitExceeded | Refusal::TryAgain => {
            OpenError::Unavailable
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dialect::Protocol;
    use crate::dialect::fixture::{Fixture, namespaces};
    use crate::topic::publication::Publication;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn position(offset: u64, epoch: &str) -> Position {
        Position { offset, epoch: Epoch::new(epoch) }
    }

    fn session(name: &str) -> Session {
        open(topic(name), None, None, &namespaces()).unwrap().0
    }

    fn headers(opened: &Opened) -> Vec<(&'static str, String)> {
        opened.headers().collect()
    }

    #[test]
    fn opening_subscribes() {
        let (_, action) =
            open(topic("stream:a"), None, Some(Class::Narrow), &namespaces()).unwrap();
        let Action::Subscribe { ticket, topic, since, variant } = action else {
            panic!("{action:?}")
        };
        assert_eq!((ticket, topic.as_str()), (Ticket(0), "stream:a"));
        let expected = Variant { language: Language::Raw, class: Some(Class::Narrow) };
        assert_eq!((since, variant), (None, expected));
    }

    #[test]
    fn opening_needs_a_namespace_and_for_recovery_positions() {
        let refused =
            |name, since| open(topic(name), since, None, &namespaces()).unwrap_err().status();
        assert_eq!(refused("nowhere:a", None), 404);
        assert_eq!(refused("latest:a", Some(position(1, "e"))), 400);
        assert_eq!(refused("live:a", Some(position(1, "e"))), 400);
        let (_, action) =
            open(topic("stream:a"), Some(position(1, "e")), None, &namespaces()).unwrap();
        assert!(
            matches!(action, Action::Subscribe { since: Some(since), .. } if since == position(1, "e"))
        );
    }

    #[test]
    fn positions_are_read_from_the_query() {
        assert_eq!(wanted_position(None, None), Ok(None));
        assert_eq!(wanted_position(Some("7"), Some("e")), Ok(Some(position(7, "e"))));
        assert_eq!(wanted_position(Some("0"), None), Ok(Some(position(0, ""))));
        for bad in ["", "+1", "-1", "1.0", "18446744073709551616", "x"] {
            assert_eq!(
                wanted_position(Some(bad), None),
                Err(OpenError::MalformedPosition),
                "{bad}"
            );
        }
        assert_eq!(wanted_position(None, Some("e")), Err(OpenError::MalformedPosition));
    }

    #[test]
    fn an_ordinary_opening_tells_the_position() {
        let mut frames = Vec::new();
        let answer =
            Answer::Subscribed { position: Some(position(8, "e1")), recovery: Recovery::NotAsked };
        let opened = session("stream:a").opened(answer.clone(), &namespaces(), None, &mut frames);
        assert_eq!(
            headers(&opened.unwrap()),
            [("Ringway-Epoch", "e1".to_owned()), ("Ringway-Offset", "8".to_owned())]
        );
        // Messages of `latest` topics may be skipped, so counting them would mislead.
        let opened = session("latest:a").opened(answer, &namespaces(), None, &mut frames);
        assert_eq!(headers(&opened.unwrap()), []);
        assert!(frames.is_empty());
    }

    #[test]
    fn a_recovery_starts_at_the_offset_asked_for_and_brings_what_was_missed() {
        let missed = |offset, payload| {
            let topic = topic("stream:a");
            let offset = Some(offset);
            Arc::new(Publication { topic, offset, payload, publisher: None, tags: None })
        };
        let answer = Answer::Subscribed {
            position: Some(position(8, "e1")),
            recovery: Recovery::Recovered(vec![
                missed(7, Payload::Text("a".into())),
                missed(8, Payload::Binary("b".into())),
            ]),
        };
        let mut frames = Vec::new();
        let opened = session("stream:a").opened(answer, &namespaces(), None, &mut frames).unwrap();
        assert_eq!(
            headers(&opened),
            [
                ("Ringway-Recovered", "true".to_owned()),
                ("Ringway-Epoch", "e1".to_owned()),
                ("Ringway-Offset", "6".to_owned())
            ]
        );
        assert_eq!(frames, b"\x81\x01a\x82\x01b");
    }

    #[test]
    fn a_lost_position_is_told() {
        let answer =
            Answer::Subscribed { position: Some(position(8, "e1")), recovery: Recovery::Lost };
        let opened =
            session("stream:a").opened(answer, &namespaces(), None, &mut Vec::new()).unwrap();
        assert_eq!(opened.recovered, Some(false));
        assert_eq!(opened.position, Some(position(8, "e1")));
    }

    #[test]
    fn a_client_holds_the_name_that_all_of_its_topic_share() {
        let shared = topic("stream:a");
        let mut session = session("stream:a");
        session.share_name(&topic("stream:b"));
        assert_eq!(session.topic, shared);
        assert!(!session.topic.is_same(&shared));
        session.share_name(&shared);
        assert!(session.topic.is_same(&shared));
    }

    #[test]
    fn refusals_have_statuses() {
        let cases = [
            (Refusal::AlreadySubscribed, 503),
            (Refusal::LimitExceeded, 503),
            (Refusal::TryAgain, 503),
            (Refusal::Forbidden, 403),
            (Refusal::UnknownTopic, 404),
            (Refusal::NotAvailable, 400),
            (Refusal::UnrecoverablePosition, 400),
        ];
        for (refusal, status) in cases {
            let answer = Answer::Refused(refusal);
            let opened = session("stream:a").opened(answer, &namespaces(), None, &mut Vec::new());
            assert_eq!(opened.unwrap_err().status(), status, "{refusal:?}");
        }
    }

    #[test]
    fn messages_are_published_in_their_type() {
        let mut fixture = Fixture::new();
        let mut raw = crate::dialect::Session::Raw(session("stream:a"));
        assert_eq!(raw.protocol(), Protocol::Raw);
        raw.message_text(b"hi", &mut fixture.cx());
        raw.message_binary(b"\xFF", &mut fixture.cx());
        let payloads: Vec<_> = fixture
            .actions
            .iter()
            .map(|action| match action {
                Action::Publish { ticket: None, topic, payload, publisher: None, .. } => {
                    (topic.as_str(), payload.clone())
                }
                _ => panic!("{action:?}"),
            })
            .collect();
        let text = Payload::Text("hi".into());
        let binary = Payload::Binary(Bytes::from_static(b"\xFF"));
        assert_eq!(payloads, [("stream:a", text), ("stream:a", binary)]);
        assert!(fixture.frames.is_empty());
    }

    #[test]
    fn publishing_faster_than_allowed_ends_the_connection() {
        let mut fixture = Fixture::new();
        fixture.settings.commands = Some(crate::auth::rate::Rate::new(1, 3));
        for _ in 0..4 {
            session("stream:a").message_text(b"hi", &mut fixture.cx());
        }
        assert!(matches!(
            fixture.actions[..3],
            [Action::Publish { .. }, Action::Publish { .. }, Action::Publish { .. }]
        ));
        assert!(matches!(fixture.actions[3..], [Action::Close(Cause::Rate)]));
    }

    #[test]
    fn publishing_where_clients_may_not_ends_the_connection() {
        let mut fixture = Fixture::new();
        session("quiet:a").message_text(b"hi", &mut fixture.cx());
        assert!(matches!(fixture.actions[..], [Action::Close(Cause::PublishDenied)]));
    }
}
