use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::dialect::fixture::Fixture;
use crate::dialect::keepalive::Due;
use crate::dialect::variant::{Language, Variant};
use crate::dialect::{HistoryQuery, Order, Recovery, Refusal, Session as AnySession};
use crate::topic::name::TopicName;
use crate::topic::publication::{Epoch, Payload, Position, Publication, Publisher};

const CLIENT: &str = "00112233-4455-4677-8899-aabbccddeeff";
const RANDOM: u128 = 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF;

struct Client {
    fixture: Fixture,
    session: AnySession,
}

impl Client {
    fn new(pings: Pings) -> Self {
        let fixture = Fixture::new();
        let session = Session::new(fixture.now, RANDOM, pings, &fixture.settings.centrifuge);
        Self { fixture, session: AnySession::Centrifuge(Box::new(session)) }
    }

    fn connected(pings: Pings) -> Self {
        let mut client = Self::new(pings);
        client.says(r#"{"id":1,"connect":{}}"#);
        client
    }

    /// Sends `text` and returns the messages that come back at once.
    fn says(&mut self, text: &str) -> Vec<String> {
        self.session.message_text(text.as_bytes(), &mut self.fixture.cx());
        self.fixture.texts()
    }

    fn hears(&mut self, ticket: u32, answer: Answer) -> Vec<String> {
        self.session.answer(Ticket(ticket), answer, &mut self.fixture.cx());
        self.fixture.texts()
    }

    /// Sends `text`, which must do nothing but end the connection for the returned cause.
    fn ends(&mut self, text: &str) -> Cause {
        let messages = self.says(text);
        assert!(messages.is_empty(), "{text}: {messages:?}");
        self.ended()
    }

    fn ended(&mut self) -> Cause {
        match self.fixture.take_actions()[..] {
            [Action::Close(cause)] => cause,
            ref actions => panic!("{actions:?}"),
        }
    }

    fn acts(&mut self) -> Action {
        let mut actions = self.fixture.take_actions();
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }

    /// Subscribes, lets the hub answer and returns the reply.
    fn subscribes(&mut self, parameters: &str, answer: Answer) -> Vec<String> {
        let command = format!(r#"{{"id":2,"subscribe":{{{parameters}}}}}"#);
        assert!(self.says(&command).is_empty());
        assert!(matches!(self.acts(), Action::Subscribe { ticket: Ticket(2), .. }));
        self.hears(2, answer)
    }
}

fn position(offset: u64, epoch: &str) -> Position {
    Position { offset, epoch: Epoch::new(epoch) }
}

fn publication(offset: u64, payload: Payload) -> Arc<Publication> {
    let topic = TopicName::new("stream:c").unwrap();
    Arc::new(Publication { topic, offset: Some(offset), payload, publisher: None, tags: None })
}

fn subscribed(recovery: Recovery) -> Answer {
    Answer::Subscribed { position: Some(position(8, "e")), recovery }
}

#[test]
fn connecting_tells_the_id_and_the_pings() {
    let mut client = Client::new(Pings::Messages);
    assert_eq!(client.session.client_id().unwrap().to_string(), CLIENT);
    assert_eq!(
        client.says(r#"{"id":1,"connect":{"token":"","name":"js","data":{"a":[1]},"new":1}}"#),
        [concat!(
            r#"{"id":1,"connect":{"client":"00112233-4455-4677-8899-aabbccddeeff","#,
            r#""version":"ringway 0.1.0","ping":25,"pong":true}}"#
        )]
    );
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn with_ping_frames_no_pings_are_announced() {
    let mut client = Client::new(Pings::Frames);
    assert_eq!(
        client.says(r#"{"id":9,"connect":{}}"#),
        [concat!(
            r#"{"id":9,"connect":{"client":"00112233-4455-4677-8899-aabbccddeeff","#,
            r#""version":"ringway 0.1.0"}}"#
        )]
    );
}

#[test]
fn a_token_is_invalid_while_there_are_no_keys() {
    let mut client = Client::new(Pings::Messages);
    assert_eq!(client.ends(r#"{"id":1,"connect":{"token":"x.y.z"}}"#), Cause::Unauthorized);
}

#[test]
fn connect_comes_first_and_once() {
    let firsts = [
        "{}",
        r#"{"id":1,"subscribe":{"channel":"stream:c"}}"#,
        r#"{"send":{}}"#,
        r#"{"id":1,"rpc":{}}"#,
        r#"{"connect":{}}"#,
        r#"{"id":0,"connect":{}}"#,
    ];
    for first in firsts {
        assert_eq!(Client::new(Pings::Messages).ends(first), Cause::BadCommand, "{first}");
    }
    let mut client = Client::connected(Pings::Messages);
    assert_eq!(client.ends(r#"{"id":2,"connect":{}}"#), Cause::BadCommand);
}

#[test]
fn without_connect_the_client_is_stale_after_ten_seconds() {
    let mut client = Client::new(Pings::Messages);
    let deadline = client.fixture.now + Duration::from_secs(10);
    assert_eq!(client.session.deadline(), Some(deadline));
    client.fixture.now = deadline - Duration::from_millis(1);
    client.session.timeout(&mut client.fixture.cx());
    assert!(client.fixture.actions.is_empty());
    client.fixture.now = deadline;
    client.session.timeout(&mut client.fixture.cx());
    assert_eq!(client.ended(), Cause::ConnectTimeout);

    let mut client = Client::connected(Pings::Messages);
    assert_eq!(client.session.deadline(), None);
    client.session.timeout(&mut client.fixture.cx());
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn pings_are_empty_objects_and_so_are_the_answers() {
    let mut client = Client::connected(Pings::Messages);
    client.fixture.ping_due();
    client.session.ping(&mut client.fixture.cx());
    assert_eq!(client.fixture.texts(), ["{}"]);
    client.session.pong(&mut client.fixture.cx());
    assert!(client.fixture.keepalive.is_awaiting());
    assert!(client.says(r#"{"id":2,"rpc":{}}"#).len() == 1);
    assert!(client.fixture.keepalive.is_awaiting());
    assert!(client.says("{}").is_empty());
    assert!(!client.fixture.keepalive.is_awaiting());
    assert_eq!(client.ends("{}"), Cause::BadCommand);
}

#[test]
fn agreed_ping_frames_are_answered_by_pong_frames() {
    let mut client = Client::connected(Pings::Frames);
    client.fixture.ping_due();
    client.session.ping(&mut client.fixture.cx());
    assert_eq!(client.fixture.frames, [0x89, 0x00]);
    client.session.pong(&mut client.fixture.cx());
    assert!(!client.fixture.keepalive.is_awaiting());
    client.fixture.frames.clear();
    client.fixture.ping_due();
    assert_eq!(client.ends("{}"), Cause::BadCommand);
}

#[test]
fn nobody_is_pinged_before_connect() {
    let mut client = Client::new(Pings::Messages);
    client.fixture.ping_due();
    client.session.ping(&mut client.fixture.cx());
    assert!(client.fixture.frames.is_empty());
    client.fixture.now += Duration::from_secs(8);
    let settings = client.fixture.settings.centrifuge.ping;
    let due = client.fixture.keepalive.handle_timeout(client.fixture.now, settings);
    assert_eq!(due, Due::Nothing);
}

#[test]
fn ping_intervals_are_told_in_whole_seconds() {
    for (interval_ms, seconds) in [(200, 1), (1000, 1), (1001, 2), (25_000, 25)] {
        assert_eq!(ping_seconds(Duration::from_millis(interval_ms)), seconds);
    }
}

#[test]
fn broken_lines_end_the_connection() {
    let lines = [
        "",
        "\n",
        "{}\n\n{}",
        " ",
        "[]",
        "null",
        "{",
        r#"{"id":2}"#,
        r#"{"id":2,"dance":{}}"#,
        r#"{"dance":{}}"#,
        r#"{"id":2,"ping":{}}"#,
        r#"{"publish":{"channel":"open:c","data":1}}"#,
        r#"{"id":2,"subscribe":{"channel":""}}"#,
        r#"{"id":2,"unsubscribe":{}}"#,
        r#"{"id":2,"history":{"channel":"stream:c","limit":1e3}}"#,
        r#"{"id":2,"publish":{"channel":"open:c","data":1}} x"#,
    ];
    for line in lines {
        assert_eq!(Client::connected(Pings::Messages).ends(line), Cause::BadCommand, "{line}");
    }
}

#[test]
fn binary_messages_are_unsupported() {
    let mut client = Client::connected(Pings::Messages);
    client.session.message_binary(b"{}", &mut client.fixture.cx());
    assert_eq!(client.ended(), Cause::UnsupportedData);
}

#[test]
fn messages_for_the_server_are_not_available() {
    let mut client = Client::connected(Pings::Messages);
    assert_eq!(client.ends(r#"{"send":{"data":{}}}"#), Cause::NotAvailable);
}

#[test]
fn lines_are_taken_in_order_until_one_ends_the_connection() {
    let mut client = Client::connected(Pings::Messages);
    let batch = concat!(
        r#"{"id":2,"publish":{"channel":"open:a","data":1}}"#,
        "\n",
        r#"{"id":3,"rpc":{"method":"x"}}"#,
        "\n",
        r#"{"id":4,"presence":{"channel":"x"}}"#,
        "\n",
        r#"{"id":5,"publish":{"channel":"open:b","data":2}}"#,
        "\nbroken\n",
        r#"{"id":6,"rpc":{}}"#,
    );
    assert_eq!(
        client.says(batch),
        [concat!(
            r#"{"id":3,"error":{"code":108,"message":"not available"}}"#,
            "\n",
            r#"{"id":4,"error":{"code":108,"message":"not available"}}"#
        )]
    );
    let actions = client.fixture.take_actions();
    let [Action::Publish { topic: a, .. }, Action::Publish { topic: b, .. }, last] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((a.as_str(), b.as_str()), ("open:a", "open:b"));
    assert!(matches!(last, Action::Close(Cause::BadCommand)));
}

#[test]
fn a_line_break_may_end_a_message() {
    let mut client = Client::new(Pings::Messages);
    assert_eq!(client.says("{\"id\":1,\"connect\":{}}\n").len(), 1);
}

#[test]
fn what_is_not_offered_is_not_available() {
    let mut client = Client::connected(Pings::Messages);
    for method in ["presence", "presence_stats", "rpc", "refresh", "sub_refresh"] {
        assert_eq!(
            client.says(&format!(r#"{{"id":7,"{method}":{{"channel":"stream:c"}}}}"#)),
            [r#"{"id":7,"error":{"code":108,"message":"not available"}}"#]
        );
    }
    for command in [
        r#"{"id":7,"subscribe":{"channel":"stream:c","type":4}}"#,
        r#"{"id":7,"publish":{"channel":"stream:c","type":1,"data":1}}"#,
    ] {
        let reply = r#"{"id":7,"error":{"code":108,"message":"not available"}}"#;
        assert_eq!(client.says(command), [reply]);
    }
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn a_filter_of_tags_is_refused_and_not_ignored() {
    let mut client = Client::connected(Pings::Messages);
    let filter = r#"{"key":"lang","cmp":"eq","val":"en"}"#;
    let command = format!(r#"{{"id":7,"subscribe":{{"channel":"stream:c","tf":{filter}}}}}"#);
    let reply = r#"{"id":7,"error":{"code":107,"message":"bad request"}}"#;
    assert_eq!(client.says(&command), [reply]);
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn channels_must_be_usable_and_known() {
    let mut client = Client::connected(Pings::Messages);
    let long = "x".repeat(256);
    let cases = [
        (&*long, r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#),
        ("a\\u0001b", r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#),
        ("nowhere:c", r#"{"id":2,"error":{"code":102,"message":"unknown channel"}}"#),
        ("c", r#"{"id":2,"error":{"code":102,"message":"unknown channel"}}"#),
    ];
    for (channel, error) in cases {
        for method in ["subscribe", "publish", "history"] {
            let command = format!(r#"{{"id":2,"{method}":{{"channel":"{channel}","data":1}}}}"#);
            assert_eq!(client.says(&command), [error], "{command}");
        }
    }
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn subscribing_asks_the_hub() {
    let mut client = Client::connected(Pings::Messages);
    assert!(client.says(r#"{"id":2,"subscribe":{"channel":"stream:c","flag":1}}"#).is_empty());
    let Action::Subscribe { ticket: Ticket(2), topic, since: None, variant } = client.acts() else {
        panic!()
    };
    let plain = Variant { language: Language::Centrifuge, class: None };
    assert_eq!((topic.as_str(), variant), ("stream:c", plain));
    assert_eq!(
        client.hears(2, subscribed(Recovery::NotAsked)),
        [r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":8}}"#]
    );
}

#[test]
fn a_subscription_without_positions_says_nothing_about_them() {
    let mut client = Client::connected(Pings::Messages);
    let answer = Answer::Subscribed { position: None, recovery: Recovery::NotAsked };
    let reply = client.subscribes(r#""channel":"live:c""#, answer);
    assert_eq!(reply, [r#"{"id":2,"subscribe":{}}"#]);
    // This namespace counts its publications but lets nobody recover.
    let reply = client.subscribes(r#""channel":"quiet:c""#, subscribed(Recovery::NotAsked));
    assert_eq!(reply, [r#"{"id":2,"subscribe":{}}"#]);
}

#[test]
fn subscription_tokens_are_refused_while_there_are_no_keys() {
    let mut client = Client::connected(Pings::Messages);
    let command = r#"{"id":2,"subscribe":{"channel":"stream:c","token":"x"}}"#;
    let reply = r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
    assert_eq!(client.says(command), [reply]);
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn recovery_asks_for_what_came_after_the_position() {
    let mut client = Client::connected(Pings::Messages);
    let mut since = |parameters: &str| {
        client.says(&format!(r#"{{"id":2,"subscribe":{{{parameters}}}}}"#));
        match client.acts() {
            Action::Subscribe { since, .. } => since,
            action => panic!("{action:?}"),
        }
    };
    let full = r#""channel":"stream:c","recover":true,"offset":5,"epoch":"e""#;
    assert_eq!(since(full), Some(position(5, "e")));
    let bare = r#""channel":"latest:c","recover":true"#;
    assert_eq!(since(bare), Some(position(0, "")));
    let unwanted = r#""channel":"stream:c","offset":5,"epoch":"e""#;
    assert_eq!(since(unwanted), None);
    let impossible = r#""channel":"live:c","recover":true,"offset":5"#;
    assert_eq!(since(impossible), None);
}

#[test]
fn a_recovered_subscription_starts_at_the_offset_asked_for() {
    let mut client = Client::connected(Pings::Messages);
    let missed = vec![
        publication(7, Payload::Json("{\"a\":1}".into())),
        publication(8, Payload::Text("b\"".into())),
    ];
    let recover = r#""channel":"stream:c","recover":true,"offset":6,"epoch":"e""#;
    assert_eq!(
        client.subscribes(recover, subscribed(Recovery::Recovered(missed))),
        [concat!(
            r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":6,"#,
            r#""recovered":true,"was_recovering":true,"publications":["#,
            r#"{"data":{"a":1},"offset":7},{"data":"b\"","offset":8}]}}"#
        )]
    );
    let recover = r#""channel":"stream:c","recover":true,"offset":8,"epoch":"e""#;
    assert_eq!(
        client.subscribes(recover, subscribed(Recovery::Recovered(Vec::new()))),
        [concat!(
            r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":8,"#,
            r#""recovered":true,"was_recovering":true}}"#
        )]
    );
}

#[test]
fn a_lost_position_starts_at_the_newest_publication() {
    let mut client = Client::connected(Pings::Messages);
    let recover = r#""channel":"stream:c","recover":true,"offset":5,"epoch":"old""#;
    assert_eq!(
        client.subscribes(recover, subscribed(Recovery::Lost)),
        [concat!(
            r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":8,"#,
            r#""was_recovering":true}}"#
        )]
    );
    let answer = Answer::Subscribed { position: None, recovery: Recovery::NotAsked };
    let reply = client.subscribes(r#""channel":"live:c","recover":true"#, answer);
    assert_eq!(reply, [r#"{"id":2,"subscribe":{"was_recovering":true}}"#]);
}

#[test]
fn a_client_that_rejects_a_lost_position_is_unsubscribed_before_it_hears_of_it() {
    let mut client = Client::connected(Pings::Messages);
    let recover = r#""channel":"stream:c","recover":true,"offset":5,"epoch":"e","flag":3"#;
    assert!(client.subscribes(recover, subscribed(Recovery::Lost)).is_empty());
    let Action::Unsubscribe { ticket: Ticket(2), topic } = client.acts() else { panic!() };
    assert_eq!(topic.as_str(), "stream:c");
    let reply = r#"{"id":2,"error":{"code":112,"message":"unrecoverable position"}}"#;
    assert_eq!(client.hears(2, Answer::Unsubscribed), [reply]);
    assert_eq!(client.hears(2, Answer::Unsubscribed), [r#"{"id":2,"unsubscribe":{}}"#]);
}

#[test]
fn unsubscribing_never_fails() {
    let mut client = Client::connected(Pings::Messages);
    assert!(client.says(r#"{"id":3,"unsubscribe":{"channel":"stream:c"}}"#).is_empty());
    let Action::Unsubscribe { ticket: Ticket(3), topic } = client.acts() else { panic!() };
    assert_eq!(topic.as_str(), "stream:c");
    assert_eq!(client.hears(3, Answer::Unsubscribed), [r#"{"id":3,"unsubscribe":{}}"#]);
    let unusable = format!(r#"{{"id":4,"unsubscribe":{{"channel":"{}"}}}}"#, "x".repeat(256));
    assert_eq!(client.says(&unusable), [r#"{"id":4,"unsubscribe":{}}"#]);
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn publishing_forwards_data_byte_for_byte() {
    let mut client = Client::connected(Pings::Messages);
    let command = "{\"id\":4,\"publish\":{\"data\": { \"z\" :1.50,\t\"a\":\"\\u00e9\"} ,\"channel\":\"stream:c\"}}";
    assert!(client.says(command).is_empty());
    let Action::Publish { ticket, topic, payload, publisher, only_subscribed } = client.acts()
    else {
        panic!()
    };
    assert_eq!((ticket, topic.as_str(), only_subscribed), (Some(Ticket(4)), "stream:c", true));
    let data = Bytes::from_static(b"{ \"z\" :1.50,\t\"a\":\"\\u00e9\"}");
    assert_eq!(payload, Payload::Json(data));
    let expected = Publisher { client: CLIENT.into(), user: "".into() };
    assert_eq!(publisher.as_deref(), Some(&expected));
    assert_eq!(client.hears(4, Answer::Published), [r#"{"id":4,"publish":{}}"#]);
}

#[test]
fn namespaces_say_who_may_publish() {
    let mut client = Client::connected(Pings::Messages);
    client.says(r#"{"id":4,"publish":{"channel":"open:c","data":null}}"#);
    assert!(matches!(client.acts(), Action::Publish { only_subscribed: false, .. }));
    assert_eq!(
        client.says(r#"{"id":5,"publish":{"channel":"quiet:c","data":1}}"#),
        [r#"{"id":5,"error":{"code":103,"message":"permission denied"}}"#]
    );
    assert_eq!(
        client.says(r#"{"id":6,"publish":{"channel":"open:c"}}"#),
        [r#"{"id":6,"error":{"code":107,"message":"bad request"}}"#]
    );
    assert!(client.fixture.actions.is_empty());
}

#[test]
fn history_is_limited_to_300_and_to_subscribers() {
    let mut client = Client::connected(Pings::Messages);
    let mut query = |parameters: &str| {
        let command = format!(r#"{{"id":5,"history":{{"channel":"stream:c"{parameters}}}}}"#);
        assert!(client.says(&command).is_empty());
        match client.acts() {
            Action::History { ticket: Ticket(5), query, only_subscribed: true, .. } => query,
            action => panic!("{action:?}"),
        }
    };
    for (limit, found) in [("0", 0), ("10", 10), ("300", 300), ("301", 300), ("-1", 300)] {
        assert_eq!(query(&format!(r#","limit":{limit}"#)).limit, found);
    }
    assert_eq!(query(""), HistoryQuery { limit: 0, since: None, order: Order::Forward });
    let parameters = r#","limit":2,"since":{"offset":7,"epoch":"e"},"reverse":true"#;
    let since = Some(position(7, "e"));
    assert_eq!(query(parameters), HistoryQuery { limit: 2, since, order: Order::Reverse });
}

#[test]
fn history_is_told_with_the_position() {
    let mut client = Client::connected(Pings::Messages);
    let publications = vec![publication(8, Payload::Binary(Bytes::from_static(&[0])))];
    let answer = Answer::History { publications, position: Some(position(8, "e")) };
    assert_eq!(
        client.hears(5, answer),
        [concat!(
            r#"{"id":5,"history":{"publications":[{"data":"AA==","offset":8}],"#,
            r#""epoch":"e","offset":8}}"#
        )]
    );
    let answer = Answer::History { publications: Vec::new(), position: None };
    assert_eq!(client.hears(5, answer), [r#"{"id":5,"history":{}}"#]);
}

#[test]
fn refusals_are_errors() {
    let mut client = Client::connected(Pings::Messages);
    let cases = [
        (Refusal::AlreadySubscribed, r#""code":105,"message":"already subscribed""#),
        (Refusal::LimitExceeded, r#""code":106,"message":"limit exceeded""#),
        (Refusal::Forbidden, r#""code":103,"message":"permission denied""#),
        (Refusal::UnknownTopic, r#""code":102,"message":"unknown channel""#),
        (Refusal::NotAvailable, r#""code":108,"message":"not available""#),
        (Refusal::UnrecoverablePosition, r#""code":112,"message":"unrecoverable position""#),
        (Refusal::TryAgain, r#""code":100,"message":"internal server error","temporary":true"#),
    ];
    for (refusal, error) in cases {
        let reply = client.subscribes(r#""channel":"stream:c""#, Answer::Refused(refusal));
        assert_eq!(reply, [format!(r#"{{"id":2,"error":{{{error}}}}}"#)]);
    }
}

#[test]
fn waiting_subscribes_are_limited() {
    let mut client = Client::connected(Pings::Messages);
    for id in 2..130 {
        let command = format!(r#"{{"id":{id},"subscribe":{{"channel":"stream:{id}"}}}}"#);
        assert!(client.says(&command).is_empty());
    }
    let command = r#"{"id":130,"subscribe":{"channel":"stream:x"}}"#;
    let reply = r#"{"id":130,"error":{"code":106,"message":"limit exceeded"}}"#;
    assert_eq!(client.says(command), [reply]);
    assert_eq!(client.fixture.take_actions().len(), 128);
    assert_eq!(client.hears(2, subscribed(Recovery::NotAsked)).len(), 1);
    assert!(client.says(command).is_empty());
}

#[test]
fn nothing_of_another_client_is_ever_sent() {
    let left_by_a_panic = br#"{"id":1,"history":{}}"#;
    let mut client = Client::connected(Pings::Messages);
    client.fixture.cx().scratch.replies.extend_from_slice(left_by_a_panic);
    assert_eq!(client.hears(3, Answer::Published), [r#"{"id":3,"publish":{}}"#]);
    client.fixture.cx().scratch.replies.extend_from_slice(left_by_a_panic);
    assert_eq!(client.ends("{}"), Cause::BadCommand);
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 64, "{}", size_of::<Session>());
    assert!(size_of::<AnySession>() <= 16);
}

#[test]
fn a_client_whose_publications_are_lost_is_told_to_subscribe_again() {
    let mut client = Client::connected(Pings::Messages);
    let topic = TopicName::new("stream:a").unwrap();
    client.session.lose_position(&topic, &mut client.fixture.cx());
    // Centrifugo's code 2500: from there on clients subscribe again.
    let push = r#"{"push":{"channel":"stream:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(client.fixture.texts(), [push]);
    assert!(client.fixture.take_actions().is_empty());
}
