//! One connection, driven by steps that are written down in bytes as a shard might drive it: at most
//! one Close is sent and nothing behind it, a connection never comes back from its end, everything
//! that it asked may be answered late or in another order, and it ends when its deadlines pass.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ringway::config;
use ringway::conn::connection::{Connection, Leave, Room, Stage};
use ringway::conn::guest::Lack;
use ringway::conn::{Codec, Context, Settings, Tally};
use ringway::daemon::settings::of_connections;
use ringway::dialect::cause::{Cause, Farewell};
use ringway::dialect::scratch::Scratch;
use ringway::dialect::{Action, Answer, Recovery, Refusal, Ticket};
use ringway::topic::publication::{Epoch, Position};

/// Steps of one run.
const STEPS_MAX: usize = 300;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n[echo]\nenabled = true\n\
        [deflate]\nenabled = true\nclient_takeover = true\nbytes_min = \"0 B\"\n[websocket]\nmessage_bytes_max = \"2 KiB\"\nidle_timeout = \"40s\"\n\
        [[namespace]]\npublish = \"allow\"\n[[namespace]]\nname = \"quiet\"\n\
        [[namespace]]\nname = \"mine\"\nmode = \"latest\"\npublish = \"subscribers\"\n";
    let config = config::parse(text, "fuzz", &[]).expect("these settings are good");
    of_connections(&config, 1, *START)
});

const PATHS: [&str; 7] = [
    "/echo",
    "/topic/t",
    "/topic/t?offset=3&epoch=e",
    "/topic/quiet:t",
    "/connection/websocket",
    "/connection/websocket?cf_ws_frame_ping_pong=true",
    "/nowhere",
];

const COMMANDS: [&str; 12] = [
    "{\"id\":1,\"connect\":{}}",
    "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}",
    "{\"id\":3,\"subscribe\":{\"channel\":\"mine:a\",\"recover\":true,\"offset\":7,\"epoch\":\"e\"}}",
    "{\"id\":4,\"publish\":{\"channel\":\"a\",\"data\":{\"x\":[1,null]}}}",
    "{\"id\":5,\"publish\":{\"channel\":\"quiet:a\",\"data\":1}}",
    "{\"id\":6,\"history\":{\"channel\":\"a\",\"limit\":3}}",
    "{\"id\":7,\"unsubscribe\":{\"channel\":\"a\"}}",
    "{\"id\":8,\"presence\":{\"channel\":\"a\"}}",
    "{\"id\":9,\"ping\":{}}\n{\"id\":10,\"publish\":{\"channel\":\"a\",\"data\":\"b\"}}",
    "{}",
    "{\"id\":11,\"connect\":{}}",
    "{\"id\":12,",
];

const REFUSALS: [Refusal; 7] = [
    Refusal::AlreadySubscribed,
    Refusal::LimitExceeded,
    Refusal::Forbidden,
    Refusal::UnknownTopic,
    Refusal::NotAvailable,
    Refusal::UnrecoverablePosition,
    Refusal::TryAgain,
];

/// What has come out of the connection so far.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// No whole response head yet.
    Nothing,
    /// 101.
    Upgraded,
    /// Another response, or our Close: nothing may follow.
    LastWord,
}

struct Run<'a> {
    bytes: std::slice::Iter<'a, u8>,
    conn: Connection,
    now: Instant,
    arena: Vec<u8>,
    scratch: Scratch,
    codec: Codec,
    random: fastrand::Rng,
    is_backlogged: bool,
    is_stalled: bool,
    has_fin: bool,
    /// Questions that wait for their answers.
    asked: VecDeque<Action>,
    heard: Heard,
    stage: Stage,
}

/// Runs the steps in `data`, and then lets the connection end.
pub(crate) fn check(data: &[u8]) {
    let mut bytes = data.iter();
    let room = if bytes.next().is_some_and(|byte| *byte > 250) {
        Room::Full(Lack::Connections)
    } else {
        Room::Free
    };
    let now = *START;
    let mut run = Run {
        bytes,
        conn: Connection::new(0, room, now, &SETTINGS),
        now,
        arena: Vec::new(),
        scratch: Scratch::default(),
        codec: Codec::new(SETTINGS.deflate, 1),
        random: fastrand::Rng::with_seed(1),
        is_backlogged: false,
        is_stalled: false,
        has_fin: false,
        asked: VecDeque::new(),
        heard: Heard::Nothing,
        stage: Stage::Talking,
    };
    for _ in 0..STEPS_MAX {
        if run.is_over() || !run.step() {
            break;
        }
    }
    run.end();
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Run<'_> {
    fn is_over(&self) -> bool {
        matches!(self.conn.stage(), Stage::Over(_))
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn take(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        self.bytes.by_ref().take(len).copied().collect()
    }

    /// `false`: there are no more steps.
    fn step(&mut self) -> bool {
        let Some(&step) = self.bytes.next() else { return false };
        match step % 16 {
            0 => {
                let byte = self.byte();
                let path = PATHS[usize::from(byte) % PATHS.len()];
                let offer = if byte >= 128 {
                    "Sec-WebSocket-Extensions: permessage-deflate\r\n"
                } else {
                    ""
                };
                self.receive(
                    format!(
                        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
                    )
                    .into_bytes(),
                );
            }
            1 => {
                let bytes = self.take();
                self.receive(bytes);
            }
            2..=4 => {
                let first = self.byte();
                let payload = self.take();
                self.receive(masked(first, &payload));
            }
            5..=7 => {
                let text = COMMANDS[usize::from(self.byte()) % COMMANDS.len()];
                self.receive(masked(0x81, text.as_bytes()));
            }
            8..=9 => self.answer(),
            10 => {
                let pause = Duration::from_millis(u64::from(self.byte()) * 200);
                self.wait(pause);
            }
            11 => {
                self.is_backlogged ^= true;
                if !self.is_backlogged && self.stage == Stage::Talking {
                    self.call(Connection::unblocked);
                }
            }
            12 => {
                self.is_stalled ^= true;
                let before = self.conn.set_stalled(self.is_stalled);
                assert_ne!(before, self.is_stalled);
                self.resume();
            }
            13 => match self.byte() {
                0..=39 => self.call(|conn, cx| conn.end(Cause::Drain, cx)),
                40..=79 => self.call(|conn, cx| conn.end(Cause::SlowFull, cx)),
                80..=119 => {
                    let farewell = Farewell { code: 4001, reason: "bye".into() };
                    self.call(|conn, cx| conn.disconnect(&farewell, cx));
                }
                120..=159 => self.call(|conn, _| conn.handle_failure(Cause::Reset)),
                160..=199 => self.call(|conn, _| conn.abandon(Cause::SlowStalled)),
                _ => self.call(Connection::crash),
            },
            14 => {
                self.has_fin = true;
                self.call(|conn, _| conn.handle_fin(Cause::ClientGone));
            }
            _ => self.resume(),
        }
        true
    }

    fn receive(&mut self, mut bytes: Vec<u8>) {
        if !self.has_fin {
            self.call(|conn, cx| conn.receive(&mut bytes, cx));
        }
    }

    fn resume(&mut self) {
        if self.conn.is_ready() {
            self.call(Connection::resume);
        }
    }

    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let which = usize::from(self.byte()) % self.asked.len();
        let Some(action) = self.asked.remove(which) else { return };
        let kind = self.byte();
        let refusal = REFUSALS[usize::from(kind) % REFUSALS.len()];
        let position = (kind & 2 == 0).then(|| Position { offset: 7, epoch: Epoch::new("e") });
        let answer = match &action {
            Action::Unsubscribe { .. } => Answer::Unsubscribed,
            _ if kind & 1 == 1 => Answer::Refused(refusal),
            Action::Subscribe { since, .. } => {
                let recovery = match (since, kind & 4) {
                    (None, _) => Recovery::NotAsked,
                    (Some(_), 0) => Recovery::Lost,
                    (Some(_), _) => Recovery::Recovered(Vec::new()),
                };
                Answer::Subscribed { position, recovery }
            }
            Action::Publish { .. } => Answer::Published,
            Action::History { .. } => Answer::History { publications: Vec::new(), position },
            Action::Close(_) => unreachable!("closes are carried out by the connection"),
        };
        let ticket = action.ticket().unwrap_or(Ticket(0));
        self.call(|conn, cx| conn.answer(ticket, answer, cx));
    }

    fn wait(&mut self, pause: Duration) {
        self.now += pause;
        if self.conn.deadline(&SETTINGS).is_some_and(|deadline| deadline <= self.now) {
            self.call(Connection::handle_timeout);
        }
    }

    /// Calls the connection and looks at what came of it.
    fn call(&mut self, run: impl FnOnce(&mut Connection, &mut Context<'_>)) {
        if self.is_over() {
            return;
        }
        let (mut actions, mut tally) = (Vec::new(), Tally::default());
        let start = self.arena.len();
        let mut cx = Context {
            now: self.now,
            frames: &mut self.arena,
            actions: &mut actions,
            tally: &mut tally,
            scratch: &mut self.scratch,
            codec: &mut self.codec,
            guest: None,
            settings: &SETTINGS,
            random: &mut self.random,
            is_backlogged: self.is_backlogged,
        };
        run(&mut self.conn, &mut cx);
        assert!(tally.control_bytes <= self.arena.len() - start);
        self.asked.extend(actions.into_iter().filter(|action| action.ticket().is_some()));
        let close_sent = self.hear(start);
        assert_eq!(tally.close_sent, close_sent, "a Close is counted when it is written");
        let stage = self.conn.stage();
        match (self.stage, stage) {
            (Stage::LastWords, Stage::Talking) => panic!("it speaks again"),
            (before, Stage::Talking) => assert_eq!(before, stage),
            _ => {}
        }
        self.stage = stage;
        assert_eq!(self.conn.deadline(&SETTINGS).is_none(), self.is_over());
        assert_eq!(
            self.conn.protocol().is_some(),
            self.heard != Heard::Nothing && self.is_upgraded()
        );
    }

    fn is_upgraded(&self) -> bool {
        self.arena.starts_with(b"HTTP/1.1 101 ")
    }

    /// Reads what was written from `start` on; returns the code of a Close in it.
    fn hear(&mut self, start: usize) -> Option<u16> {
        let mut rest = &self.arena[start..];
        if rest.is_empty() {
            return None;
        }
        assert_ne!(self.heard, Heard::LastWord, "something behind the last word");
        if self.heard == Heard::Nothing {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.expect("heads are written whole") + 4;
            if !rest.starts_with(b"HTTP/1.1 101 ") {
                assert!(rest.starts_with(b"HTTP/1.1 "));
                self.heard = Heard::LastWord;
                return None;
            }
            rest = &rest[end..];
            self.heard = Heard::Upgraded;
        }
        let mut close = None;
        while !rest.is_empty() {
            assert_eq!(close, None, "something behind the Close");
            let (first, payload, behind) = server_frame(rest);
            rest = behind;
            if first == 0x88 {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                assert!(code == 1005 || matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
                close = Some(code);
                self.heard = Heard::LastWord;
            } else {
                assert!(matches!(first, 0x81 | 0x82 | 0x89 | 0x8A | 0xC1 | 0xC2), "{first:#x}");
            }
        }
        close
    }

    /// The peer goes and time passes: that must be the end.
    fn end(&mut self) {
        if !self.has_fin {
            self.call(|conn, _| conn.handle_fin(Cause::ClientGone));
        }
        for _ in 0..8 {
            if let Some(deadline) = self.conn.deadline(&SETTINGS) {
                self.now = self.now.max(deadline);
                self.call(Connection::handle_timeout);
            }
        }
        let stage = self.conn.stage();
        assert!(matches!(stage, Stage::Over(Leave::Fin | Leave::Reset)), "{stage:?} for ever");
        let code = self.conn.verdict().code;
        assert!(matches!(code, 1000..=1014 | 3000..=4999), "counted as {code}");
    }
}

/// A frame of a client, with a mask that changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ ..=125) => frame.push(0x80 | len),
        _ => {
            frame.push(0x80 | 126);
            let len = u16::try_from(payload.len()).expect("short payloads");
            frame.extend_from_slice(&len.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// First byte and payload of the frame at the front, and what is behind it.
fn server_frame(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (len, start) = match bytes[1] {
        len @ 0..=125 => (usize::from(len), 2),
        126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        other => panic!("{other:#x} as the length of a short frame, or a mask"),
    };
    (bytes[0], &bytes[start..start + len], &bytes[start + len..])
}
