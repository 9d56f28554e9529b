//! One client from the handshake to the end, as a shard sees it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::connection::{Connection, Leave, Stage};
use super::guest::{Door, Guest, Room, Unheard};
use super::*;
use crate::auth::crowd::Crowd;
use crate::auth::network::Networks;
use crate::auth::origin::{OriginRule, Scheme};
use crate::dialect::cause::{Cause, Farewell, Initiator};
use crate::dialect::{Answer, Recovery, Refusal as HubRefusal, Ticket, centrifuge, keepalive};
use crate::topic::namespace::{Broker, Mode, Namespace, PublishRight};
use crate::topic::publication::{Epoch, Position};

/// A request for the echo. The key and its answer are those of RFC 6455 §1.3.
const UPGRADE: &str = "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Client {
    conn: Connection,
    settings: Settings,
    now: Instant,
    frames: Vec<u8>,
    actions: Vec<Action>,
    tally: Tally,
    scratch: Scratch,
    codec: Codec,
    random: fastrand::Rng,
    guest: Option<Guest>,
    is_backlogged: bool,
}

fn door() -> Door {
    Door {
        origins: OriginRule { allowed: vec![], any: false, missing: true },
        scheme: Scheme::Http,
        proxy_protocol: false,
        trusted: Networks::default(),
    }
}

/// Short limits, and one namespace for all topics.
pub(crate) fn settings() -> Settings {
    let ping =
        keepalive::Settings { interval: Duration::from_secs(100), timeout: Duration::from_secs(8) };
    let centrifuge = centrifuge::Settings { ping, connect_timeout: Duration::from_secs(10) };
    Settings {
        head: HeadLimits::default(),
        head_timeout: Duration::from_secs(5),
        messages: Limits { message_bytes_max: 1000, fragments_max: 8 },
        message_timeout: Duration::from_secs(7),
        close_timeout: Duration::from_secs(3),
        idle_timeout: None,
        control_frames: Rate::new(10, 20),
        routes: route::Routes { raw: true, echo: true, centrifuge: true },
        doors: vec![door()],
        addresses: guest::AddressLimits::default(),
        dialect: dialect::Settings { ping, commands: None, centrifuge },
        namespaces: Namespaces::new([Namespace {
            name: String::new(),
            mode: Mode::Stream,
            broker: Broker::Embedded,
            history_size: 9,
            history_age: Duration::from_secs(9),
            history_bytes_max: 999,
            recovery: true,
            publish: PublishRight::Allow,
            compress: true,
        }]),
        drain: DrainNotice { code: 1012, retry_ms: 1..=2 },
        outbox: outbox::Settings {
            bytes_max: 1000,
            soft_bytes_max: 500,
            soft_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
        },
        deflate: None,
        page: None,
    }
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn with(settings: Settings, room: Room) -> Self {
        let now = Instant::now();
        Self {
            conn: Connection::new(0, room, now, &settings),
            codec: Codec::new(settings.deflate, 1),
            settings,
            now,
            frames: Vec::new(),
            actions: Vec::new(),
            tally: Tally::default(),
            scratch: Scratch::default(),
            random: fastrand::Rng::with_seed(1),
            guest: None,
            is_backlogged: false,
        }
    }

    fn new() -> Self {
        Self::with(settings(), Room::Free)
    }

    /// Upgraded to the echo; nothing is left of the response.
    fn open() -> Self {
        let mut client = Self::new();
        client.send(UPGRADE.as_bytes());
        assert_eq!(client.tally.opened, Some(Protocol::Echo));
        client.take();
        client
    }

    /// Upgraded to the Centrifugo protocol and greeted.
    fn connected() -> Self {
        let mut client = Self::new();
        client.send(UPGRADE.replace("/echo", "/connection/websocket").as_bytes());
        client.send(&masked(0x81, br#"{"id":1,"connect":{}}"#));
        assert_eq!(client.conn.protocol(), Some(Protocol::Centrifuge));
        client.take();
        client
    }

    fn call<T>(&mut self, run: impl FnOnce(&mut Connection, &mut Context<'_>) -> T) -> T {
        let mut cx = Context {
            now: self.now,
            frames: &mut self.frames,
            actions: &mut self.actions,
            tally: &mut self.tally,
            scratch: &mut self.scratch,
            codec: &mut self.codec,
            settings: &self.settings,
            random: &mut self.random,
            guest: self.guest.as_mut(),
            is_backlogged: self.is_backlogged,
        };
        run(&mut self.conn, &mut cx)
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.call(|conn, cx| conn.receive(&mut bytes, cx));
    }

    fn answer(&mut self, ticket: u32, answer: Answer) {
        self.call(|conn, cx| conn.answer(Ticket(ticket), answer, cx));
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.call(Connection::handle_timeout);
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.frames)
    }

    fn take_text(&mut self) -> String {
        String::from_utf8(self.take()).unwrap()
    }

    fn stage(&self) -> Stage {
        self.conn.stage()
    }

    fn assert_verdict(&self, code: u16, initiator: Initiator, cause: Cause) {
        let verdict = self.conn.verdict();
        assert_eq!((verdict.code, verdict.initiator, verdict.cause), (code, initiator, cause));
    }
}

/// A frame of a client, with a mask that changes nothing; up to 125 bytes of payload.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

fn subscribed() -> Answer {
    let position = Some(Position { offset: 4, epoch: Epoch::new("e") });
    Answer::Subscribed { position, recovery: Recovery::NotAsked }
}

#[test]
fn a_request_and_a_message_behind_it_are_answered_in_one_call() {
    let mut client = Client::new();
    client.send(&[UPGRADE.as_bytes(), &masked(0x81, b"hi")].concat());
    let answer = client.take();
    assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
    assert!(answer.ends_with(b"\r\n\r\n\x81\x02hi"));
    assert!(answer.windows(ACCEPT.len()).any(|window| window == ACCEPT.as_bytes()));
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_status_and_reason() {
    let cases: [(String, u16, &str); 9] = [
        (UPGRADE.replace("/echo", "/nowhere"), 404, "no_route"),
        (UPGRADE.replace("/echo", "/"), 404, "no_route"),
        (UPGRADE.replace("/echo", "/topic/a%0Ab"), 400, "bad_topic"),
        (UPGRADE.replace("/echo", "/topic/a:b"), 404, "unknown_namespace"),
        (UPGRADE.replace("/echo", "/topic/a?offset=x"), 400, "bad_position"),
        (UPGRADE.replace("x\r\nUpg", "x\r\nOrigin: http://y\r\nUpg"), 403, "origin"),
        (UPGRADE.replace("/echo", "/connection/websocket?cf_protocol=protobuf"), 400, "protobuf"),
        (UPGRADE.replace("GET", "PUT"), 405, "method"),
        (UPGRADE.replace(": 13", ": 12"), 426, "version"),
    ];
    for (request, status, reason) in cases {
        let mut client = Client::new();
        client.send(request.as_bytes());
        let (told, why) = client.tally.refused.expect(&request);
        assert_eq!(told.code(), status, "{request}");
        assert!(why.contains(reason), "{why}");
        assert!(REFUSAL_REASONS.contains(&why), "{why}");
        assert!(client.take_text().starts_with(&format!("HTTP/1.1 {status} ")));
        assert_eq!((client.stage(), client.conn.protocol()), (Stage::LastWords, None));
        client.call(|conn, _| conn.handle_fin(Cause::ClientGone));
        assert_eq!(client.stage(), Stage::Over(Leave::Fin));
    }
}

#[test]
fn a_full_gateway_says_when_to_try_again() {
    let mut client = Client::with(settings(), Room::Full(guest::Lack::Connections));
    client.send(UPGRADE.as_bytes());
    let answer = client.take_text().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
}

#[test]
fn a_late_head_is_told_so_and_silence_is_not_answered() {
    let mut client = Client::new();
    client.send(b"GET / HT");
    client.wait(4);
    assert_eq!(client.stage(), Stage::Talking);
    client.wait(1);
    assert!(client.take_text().starts_with("HTTP/1.1 408 "));
    assert_eq!(client.stage(), Stage::LastWords);
    let mut silent = Client::new();
    silent.wait(5);
    assert_eq!((silent.stage(), silent.frames.len()), (Stage::Over(Leave::Fin), 0));
    assert_eq!(silent.tally, Tally::default());
}

#[test]
fn a_raw_client_waits_for_the_hub_and_is_not_read_meanwhile() {
    let mut client = Client::new();
    let request = UPGRADE.replace("/echo", "/topic/news");
    client.send(&[request.as_bytes(), &masked(0x81, b"hi")].concat());
    assert!(matches!(client.actions[..], [Action::Subscribe { .. }]));
    assert!(client.frames.is_empty() && !client.conn.wants_input() && !client.conn.is_ready());
    client.actions.clear();
    client.answer(0, subscribed());
    assert!(client.take_text().contains("\r\nRingway-Offset: 4\r\n"));
    assert_eq!(client.tally.opened, Some(Protocol::Raw));
    assert!(client.conn.is_ready());
    client.call(Connection::resume);
    assert!(matches!(client.actions[..], [Action::Publish { ticket: None, .. }]));
    assert!(client.conn.wants_input() && !client.conn.is_ready());
}

#[test]
fn a_raw_client_is_refused_when_the_hub_refuses_is_late_or_drains() {
    let refuse: [fn(&mut Client); 3] = [
        |client| client.answer(0, Answer::Refused(HubRefusal::LimitExceeded)),
        |client| client.wait(5),
        |client| client.call(|conn, cx| conn.end(Cause::Drain, cx)),
    ];
    for refuse in refuse {
        let mut client = Client::new();
        let request = UPGRADE.replace("/echo", "/topic/news");
        client.send(&[request.as_bytes(), &masked(0x81, b"hi")].concat());
        refuse(&mut client);
        assert!(client.take_text().starts_with("HTTP/1.1 503 "));
        assert_eq!((client.stage(), client.conn.protocol()), (Stage::LastWords, None));
        assert!(client.conn.wants_input(), "the FIN is to be read");
        client.answer(0, subscribed());
        assert!(client.frames.is_empty(), "too late");
    }
}

#[test]
fn one_turn_handles_a_bounded_number_of_messages_and_the_next_goes_on() {
    let mut client = Client::open();
    client.send(&masked(0x81, b"x").repeat(100));
    assert_eq!(client.take(), b"\x81\x01x".repeat(64));
    assert!(client.conn.is_ready());
    // What comes meanwhile waits behind the rest.
    client.send(&masked(0x81, b"y"));
    assert_eq!(client.take(), b"");
    client.call(Connection::resume);
    assert_eq!(client.take(), [b"\x81\x01x".repeat(36), b"\x81\x01y".to_vec()].concat());
    assert!(!client.conn.is_ready());
    assert_eq!((client.tally.messages, client.tally.message_bytes_max), (101, 1));
}

/// Upgraded to the echo with compression, and a compressed "Hello" (RFC 7692 section 7.2.3.1).
fn compressing() -> (Client, Vec<u8>) {
    let deflate =
        crate::ws::deflate::Settings { level: 1, bytes_min: 100, client_window_bits: None };
    let mut client = Client::with(Settings { deflate: Some(deflate), ..settings() }, Room::Free);
    let offer = "x\r\nSec-WebSocket-Extensions: permessage-deflate\r\nUpg";
    client.send(UPGRADE.replace("x\r\nUpg", offer).as_bytes());
    client.take();
    assert!(client.conn.inflates());
    (client, masked(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"))
}

#[test]
fn compressed_messages_wait_when_enough_was_inflated_and_others_do_not() {
    let (mut client, hello) = compressing();
    let echo = b"\x81\x05Hello";
    client.codec.begin_turn(6);
    client.send(&hello.repeat(3));
    assert_eq!(client.take(), echo.repeat(2));
    client.send(&hello);
    assert!(client.take().is_empty() && client.conn.is_ready());
    client.codec.begin_turn(6);
    client.call(Connection::resume);
    assert_eq!(client.take(), echo.repeat(2));
    assert!(!client.conn.is_ready());

    let mut plain = Client::open();
    plain.codec.begin_turn(0);
    plain.send(&masked(0x81, b"hi"));
    assert_eq!(plain.take(), b"\x81\x02hi");
}

#[test]
fn a_message_completed_in_a_full_turn_is_no_longer_awaited() {
    let mut client = Client::open();
    client.send(&masked(0x01, b"a"));
    let rest = masked(0x80, b"b");
    client.send(&[rest, masked(0x81, b"x").repeat(63)].concat());
    assert!(!client.conn.is_ready(), "all is handled");
    client.wait(60);
    assert_eq!(client.stage(), Stage::Talking);
}

#[test]
fn a_message_that_is_begun_must_end() {
    let mut client = Client::open();
    client.send(&masked(0x01, b"a"));
    client.wait(6);
    client.send(&masked(0x00, b"b"));
    assert_eq!(client.stage(), Stage::Talking);
    client.wait(1);
    assert_eq!(client.take(), b"\x88\x06\x0B\xC0idle"); // 3008
    client.assert_verdict(1006, Initiator::Server, Cause::MessageTimeout);
}

#[test]
fn pongs_do_not_make_a_client_busy() {
    let mut settings = settings();
    settings.idle_timeout = Some(Duration::from_secs(20));
    let mut client = Client::with(settings, Room::Free);
    client.send(UPGRADE.as_bytes());
    client.wait(15);
    client.send(&masked(0x81, b"x"));
    client.wait(15);
    client.send(&masked(0x8A, b""));
    assert_eq!(client.stage(), Stage::Talking);
    client.wait(5);
    assert_eq!(client.stage(), Stage::LastWords);
    client.assert_verdict(1006, Initiator::Server, Cause::Idle);
}

#[test]
fn open_questions_are_limited_and_answers_make_room() {
    let mut client = Client::connected();
    let ask = |id: u32| {
        let text = format!(r#"{{"id":{id},"subscribe":{{"channel":"t{id}"}}}}"#);
        masked(0x81, text.as_bytes())
    };
    client.send(&(2..30).map(ask).collect::<Vec<_>>().concat());
    assert_eq!(client.actions.len(), 16);
    assert!(!client.conn.wants_input() && !client.conn.is_ready());
    client.answer(2, subscribed());
    assert!(client.conn.wants_input() && client.conn.is_ready());
    client.call(Connection::resume);
    assert_eq!(client.actions.len(), 17);
    assert!(!client.conn.wants_input());
    // After our Close only the client's Close and FIN matter, whatever is still open.
    client.call(|conn, cx| conn.end(Cause::Drain, cx));
    assert!(client.conn.wants_input());
    client.answer(3, subscribed());
    client.send(&masked(0x88, &[0x03, 0xE8]));
    client.assert_verdict(1000, Initiator::Server, Cause::Drain);
}

#[test]
fn a_stalled_client_is_kept_waiting_and_loses_nothing() {
    let mut client = Client::open();
    client.conn.set_stalled(true);
    client.send(&masked(0x81, b"a"));
    client.send(&masked(0x81, b"b"));
    assert!(client.frames.is_empty() && !client.conn.wants_input() && !client.conn.is_ready());
    client.conn.set_stalled(false);
    assert!(client.conn.is_ready());
    client.call(Connection::resume);
    assert_eq!(client.take(), b"\x81\x01a\x81\x01b");
}

#[test]
fn messages_before_a_fin_are_handled_first() {
    let mut client = Client::open();
    client.send(&masked(0x81, b"x").repeat(65));
    client.take();
    client.call(|conn, _| conn.handle_fin(Cause::ClientGone));
    assert_eq!(client.stage(), Stage::Talking);
    client.call(Connection::resume);
    assert_eq!(client.take(), b"\x81\x01x");
    assert_eq!(client.stage(), Stage::Over(Leave::Fin));
    client.assert_verdict(1006, Initiator::Transport, Cause::ClientGone);
}

#[test]
fn what_was_kept_for_later_is_searched_for_a_close_when_we_end_first() {
    let mut client = Client::open();
    let close = masked(0x88, &[0x03, 0xE9]);
    client.send(&[masked(0x81, b"x").repeat(64), close].concat());
    client.take();
    client.call(|conn, _| conn.handle_fin(Cause::ClientGone));
    client.call(|conn, cx| conn.end(Cause::Drain, cx));
    assert_eq!(client.tally.close_received, Some(1001));
    assert_eq!(client.stage(), Stage::Over(Leave::Fin), "Close and FIN were there already");
    client.assert_verdict(1001, Initiator::Server, Cause::Drain);
}

#[test]
fn the_clients_close_is_echoed_and_its_fin_awaited() {
    let cases: [(&[u8], &[u8], u16); 2] =
        [(&[0x0F, 0xA0, b'b', b'y', b'e'], b"\x88\x02\x0F\xA0", 4000), (b"", b"\x88\x00", 1005)];
    for (payload, echo, code) in cases {
        let mut client = Client::open();
        client.send(&[masked(0x88, payload), masked(0x81, b"late")].concat());
        assert_eq!(client.take(), echo);
        assert_eq!(client.tally.close_sent, Some(code));
        assert_eq!(client.tally.close_received, Some(code));
        assert_eq!((client.tally.messages, client.stage()), (0, Stage::LastWords));
        client.call(|conn, _| conn.handle_fin(Cause::ClientGone));
        assert_eq!(client.stage(), Stage::Over(Leave::Fin));
        client.assert_verdict(code, Initiator::Client, Cause::ClientClose);
    }
}

#[test]
fn our_close_waits_for_the_clients_and_then_for_nothing() {
    let mut client = Client::open();
    client.call(|conn, cx| conn.end(Cause::Drain, cx));
    assert_eq!(client.take(), b"\x88\x16\x03\xF4restart retry_ms=1-2"); // 1012
    client.call(|conn, cx| conn.end(Cause::SlowFull, cx));
    client.send(&masked(0x81, b"late"));
    client.send(&masked(0x89, b"ping"));
    assert!(client.frames.is_empty(), "nothing follows a Close");
    client.wait(2);
    assert_eq!(client.stage(), Stage::LastWords);
    client.wait(1);
    assert_eq!(client.stage(), Stage::Over(Leave::Reset));
    client.assert_verdict(1006, Initiator::Server, Cause::Drain);
}

#[test]
fn a_client_that_sends_on_and_on_after_our_close_is_reset() {
    let mut client = Client::open();
    client.call(|conn, cx| conn.end(Cause::Drain, cx));
    let flood = masked(0x82, &[0; 125]).repeat(500);
    // Sent before it could hear: our Close goes out behind this turn.
    for _ in 0..20 {
        client.send(&flood);
    }
    assert_eq!(client.stage(), Stage::LastWords);
    client.wait(1);
    for _ in 0..20 {
        client.send(&flood);
    }
    assert_eq!(client.stage(), Stage::Over(Leave::Reset));
}

#[test]
fn whoever_breaks_the_protocol_is_told_how_and_not_listened_to() {
    use crate::ws::error::ProtocolError::*;
    let cases = [
        (vec![0x81, 0x00], 1002, UnmaskedClientFrame),
        (masked(0xC1, b""), 1002, ReservedBitSet),
        (masked(0x81, b"\xFF"), 1007, InvalidUtf8),
        (vec![0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0], 1009, MessageTooBig), // 1001 bytes
        ([masked(0x01, b""), masked(0x00, b"").repeat(8)].concat(), 1008, TooManyFragments),
    ];
    for (frames, code, error) in cases {
        let mut client = Client::open();
        client.send(&[masked(0x81, b"x"), frames].concat());
        let told = client.take();
        assert_eq!(told[..4], *b"\x81\x01x\x88", "what came before is answered");
        assert_eq!(told[5..7], u16::to_be_bytes(code));
        assert_eq!(&told[7..], error.reason().as_bytes());
        client.send(&masked(0x88, &[0x03, 0xE8]));
        assert_eq!(client.tally.close_received, None);
        client.call(|conn, _| conn.handle_fin(Cause::ClientGone));
        client.assert_verdict(code, Initiator::Server, Cause::Broken(error));
    }
}

#[test]
fn pings_are_answered_until_they_are_too_many() {
    let mut client = Client::open();
    client.send(&masked(0x89, b"p").repeat(20));
    assert_eq!(client.take(), b"\x8A\x01p".repeat(20));
    client.send(&masked(0x89, b"p"));
    assert_eq!(client.take(), b"\x88\x07\x03\xF0flood"); // 1008
    client.assert_verdict(1006, Initiator::Server, Cause::ControlFlood);
}

#[test]
fn a_client_that_does_not_read_is_owed_one_pong() {
    let mut client = Client::open();
    client.is_backlogged = true;
    client.send(&[masked(0x89, b"1"), masked(0x89, b"2")].concat());
    assert!(client.frames.is_empty());
    client.is_backlogged = false;
    client.call(Connection::unblocked);
    client.call(Connection::unblocked);
    assert_eq!(client.take(), b"\x8A\x012");
}

#[test]
fn silence_to_a_ping_ends_the_connection() {
    let mut client = Client::open();
    client.wait(100);
    assert_eq!((client.take(), client.tally.pings), (b"\x89\x00".to_vec(), 1));
    client.wait(8);
    assert_eq!(client.take()[..4], [0x88, 14, 0x0B, 0xC0]); // 3008
    client.assert_verdict(1006, Initiator::Server, Cause::PingTimeout);
}

#[test]
fn the_transport_and_the_shard_can_end_it_at_once() {
    let mut reset = Client::open();
    reset.call(|conn, _| conn.handle_failure(Cause::Reset));
    assert_eq!(reset.stage(), Stage::Over(Leave::Reset));
    reset.assert_verdict(1006, Initiator::Transport, Cause::Reset);
    let mut slow = Client::open();
    slow.call(|conn, _| conn.abandon(Cause::SlowFull));
    slow.call(|conn, _| conn.handle_failure(Cause::Reset));
    assert_eq!(slow.stage(), Stage::Over(Leave::Reset));
    slow.assert_verdict(1006, Initiator::Server, Cause::SlowFull);
}

#[test]
fn the_server_api_chooses_code_and_reason() {
    let mut client = Client::open();
    let farewell = Farewell { code: 4321, reason: "bye".into() };
    client.call(|conn, cx| conn.disconnect(&farewell, cx));
    assert_eq!(client.take(), b"\x88\x05\x10\xE1bye");
    client.assert_verdict(1006, Initiator::Server, Cause::Disconnected);
}

#[test]
fn a_crash_says_internal_only_where_it_can_be_understood() {
    let mut client = Client::open();
    client.tally = Tally::default();
    client.call(Connection::crash);
    assert_eq!(client.take(), b"\x88\x0A\x03\xF3internal"); // 1011
    assert_eq!(client.stage(), Stage::LastWords);
    client.assert_verdict(1006, Initiator::Server, Cause::Internal);
    // The 101 response of the call that crashed is lost.
    let mut fresh = Client::new();
    fresh.send(UPGRADE.as_bytes());
    fresh.take();
    fresh.call(Connection::crash);
    assert_eq!((fresh.stage(), fresh.frames.len()), (Stage::Over(Leave::Reset), 0));
    assert_eq!(fresh.tally.opened, Some(Protocol::Echo), "opened, and closed later");
    let mut early = Client::new();
    early.call(Connection::crash);
    assert_eq!((early.stage(), early.frames.len()), (Stage::Over(Leave::Reset), 0));
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_changes_nothing(
        cuts in proptest::collection::vec(1_usize..40, 1..60)
    ) {
        let text = [
            UPGRADE.as_bytes(),
            &masked(0x81, b"one"),
            &masked(0x01, b"tw"),
            &masked(0x89, b"p"),
            &masked(0x80, b"o"),
            &masked(0x82, &[7; 125]),
            &masked(0x88, &[0x03, 0xE8]),
        ]
        .concat();
        let mut whole = Client::new();
        whole.send(&text);
        let mut parts = Client::new();
        let mut rest = &text[..];
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, behind) = rest.split_at(cut.min(rest.len()));
            parts.send(part);
            rest = behind;
        }
        prop_assert_eq!(parts.stage(), Stage::LastWords);
        prop_assert_eq!(parts.conn.verdict(), whole.conn.verdict());
        prop_assert_eq!(parts.take(), whole.take());
        let mut counted = whole.tally;
        counted.message_bytes_max = parts.tally.message_bytes_max;
        prop_assert_eq!(parts.tally, counted);
    }
}

/// A client that comes through a proxy of the network 10.0.0.0/8.
struct Proxied {
    client: Client,
    limits: guest::AddressLimits,
}

impl Proxied {
    /// Two connections for each address.
    fn new() -> Self {
        let limits = guest::AddressLimits {
            crowd: Some(std::sync::Arc::new(Crowd::new(2, 100))),
            ..guest::AddressLimits::default()
        };
        Self { client: Client::new(), limits }
    }

    /// The next connection, from `peer`, by a door of which PROXY headers are asked or not.
    fn comes_from(&mut self, peer: &str, proxy_protocol: bool) {
        let networks = ["10.0.0.0/8".to_owned()];
        let door = Door { trusted: Networks::parse(&networks).unwrap(), proxy_protocol, ..door() };
        let guest = Guest::new(peer.parse().unwrap(), &door);
        let settings = Settings { doors: vec![door], addresses: self.limits.clone(), ..settings() };
        self.client = Client::with(settings, Room::Free);
        self.client.guest = guest.ok();
    }

    /// The connection that is to stay open.
    fn stays(&mut self) -> Client {
        std::mem::replace(&mut self.client, Client::new())
    }

    fn status(&mut self, bytes: &[u8]) -> Option<u16> {
        self.client.send(bytes);
        self.client.take_text().strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }
}

const PROXY_V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\n";

#[test]
fn a_proxy_header_comes_before_the_request_however_it_is_cut() {
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187]);
    for header in [PROXY_V1.as_bytes(), &v2] {
        let bytes = [header, UPGRADE.as_bytes()].concat();
        for cut in 0..=header.len() + 3 {
            let mut proxied = Proxied::new();
            proxied.comes_from("10.0.0.1", true);
            let (first, second) = bytes.split_at(cut);
            if !first.is_empty() {
                assert_eq!(proxied.status(first), None);
            }
            assert_eq!(proxied.status(second), Some(101), "cut at {cut}");
            let guest = proxied.client.guest.as_ref().unwrap();
            assert_eq!(guest.address(), IpAddr::from([192, 0, 2, 1]));
        }
    }
}

#[test]
fn what_is_no_proxy_header_ends_the_connection_unanswered() {
    let mut proxied = Proxied::new();
    proxied.comes_from("10.0.0.1", true);
    assert_eq!(proxied.status(UPGRADE.as_bytes()), None);
    assert_eq!(proxied.client.tally.unheard, Some(Unheard::ProxyHeader));
    assert_eq!(proxied.client.stage(), Stage::Over(Leave::Reset));
    proxied.comes_from("10.0.0.1", true);
    assert_eq!(proxied.status(b"PROXY TCP4 192"), None);
    proxied.client.wait(5);
    assert_eq!(proxied.client.stage(), Stage::Over(Leave::Fin), "late, and nobody to tell");
    let door = Door { proxy_protocol: true, ..door() };
    let stranger = Guest::new("192.0.2.1".parse().unwrap(), &door);
    assert!(matches!(stranger, Err(Unheard::ProxyPeer)));
}

#[test]
fn an_address_with_too_many_connections_is_told_so() {
    let request = [PROXY_V1, UPGRADE].concat();
    let mut proxied = Proxied::new();
    let mut open = Vec::new();
    for _ in 0..2 {
        proxied.comes_from("10.0.0.1", true);
        assert_eq!(proxied.status(request.as_bytes()), Some(101));
        open.push(proxied.stays());
    }
    proxied.comes_from("10.0.0.1", true);
    proxied.client.send(PROXY_V1.as_bytes());
    assert_eq!(proxied.client.conn.lack(), Some(guest::Lack::AddressConnections));
    assert_eq!(proxied.status(UPGRADE.as_bytes()), Some(429));
    assert_eq!(proxied.client.tally.refused.map(|(_, why)| why), Some("address_connections"));
    open.pop();
    proxied.comes_from("10.0.0.1", true);
    assert_eq!(proxied.status(request.as_bytes()), Some(101));
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let forwarded = |hops: &str| {
        let line = format!("x\r\nX-Forwarded-For: {hops}\r\nUpg");
        UPGRADE.replace("x\r\nUpg", &line)
    };
    let mut proxied = Proxied::new();
    let mut open = Vec::new();
    // Whatever the client wrote itself stands before what the proxy has appended.
    for (forged, status) in [("1.1.1.1", 101), ("2.2.2.2, 10.0.0.7", 101), ("3.3.3.3", 429)] {
        proxied.comes_from("10.0.0.1", false);
        let request = forwarded(&format!("{forged}, 192.0.2.1"));
        assert_eq!(proxied.status(request.as_bytes()), Some(status), "{forged}");
        open.push(proxied.stays());
    }
    for _ in 0..3 {
        proxied.comes_from("10.0.0.1", false);
        assert_eq!(proxied.status(UPGRADE.as_bytes()), Some(101), "the proxy itself is exempt");
        open.push(proxied.stays());
    }
    proxied.comes_from("203.0.113.9", false);
    assert_eq!(proxied.status(forwarded("192.0.2.1").as_bytes()), Some(101));
    let address = proxied.client.guest.as_ref().unwrap().address();
    assert_eq!(address, IpAddr::from([203, 0, 113, 9]), "a stranger speaks for nobody");
}

#[test]
fn pages_come_by_the_scheme_that_a_trusted_proxy_tells() {
    let request = |origin: &str, proto: &str| {
        let line = format!("x\r\nOrigin: {origin}\r\nX-Forwarded-Proto: {proto}\r\nUpg");
        UPGRADE.replace("x\r\nUpg", &line)
    };
    let mut proxied = Proxied::new();
    let cases = [
        ("10.0.0.1", "https://x", "https", 101),
        ("10.0.0.1", "http://x", "https", 403),
        ("10.0.0.1", "https://x", "http", 403),
        ("203.0.113.9", "https://x", "https", 403),
        ("203.0.113.9", "http://x", "https", 101),
    ];
    for (peer, origin, proto, status) in cases {
        proxied.comes_from(peer, false);
        let answer = proxied.status(request(origin, proto).as_bytes());
        assert_eq!(answer, Some(status), "{peer} {origin} {proto}");
    }
}
