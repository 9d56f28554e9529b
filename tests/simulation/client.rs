//! A model client: what it does to the gateway, and what the gateway may do to it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use ringway::ring::sim::{ClientSocket, Tail};

use crate::codec::{self, BINARY, CLOSE, CONTINUATION, Decoder, Event, PING, PONG, RSV1, TEXT};
use crate::deflate::{Sender, compress};
use crate::dialogue::Dialogue;
use crate::ending::{Ending, Known, Violation};
use crate::journal::note;
use crate::plan::{Finish, Plan, TOPICS};
use crate::raw::Raw;
use crate::truth::{Truth, payload_of};

/// A position that a client remembers: topic, epoch, offset.
pub(crate) type Position = (usize, String, u64);

/// What clients need of the world around them.
pub(crate) struct Context<'a> {
    pub(crate) truth: &'a mut Truth,
    pub(crate) dice: &'a mut Rng,
    pub(crate) plan: &'a Plan,
    /// Where earlier clients have stopped reading.
    pub(crate) memory: &'a mut Vec<Position>,
}

impl Context<'_> {
    /// A new publication's number and payload.
    pub(crate) fn draft(&mut self, topic: usize, publisher: usize) -> (usize, Vec<u8>) {
        let id = self.truth.draft(topic, Some(publisher));
        let padding = if self.dice.bool() { self.plan.padding } else { 0 };
        (id, payload_of(id, padding))
    }
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Eager,
    Slow(usize),
    Stalled,
}

/// What a client speaks.
enum Talk {
    Raw(Raw),
    /// Messages that are to come back.
    Echo(VecDeque<(u8, Vec<u8>)>),
    Centrifuge(Box<Dialogue>),
}

pub(crate) struct Client {
    pub(crate) uid: usize,
    socket: ClientSocket,
    out: Vec<u8>,
    decoder: Decoder,
    pace: Pace,
    /// Whether it answers pings.
    lively: bool,
    /// What it has sent to be answered by Pong.
    pings: VecDeque<Vec<u8>>,
    talk: Talk,
    deflate: Deflate,
    pub(crate) ending: Ending,
}

/// What it offers behind `permessage-deflate`, if it offers that at all.
const OFFERS: [Option<&str>; 8] = [
    None,
    None,
    Some(""),
    Some("; client_max_window_bits"),
    Some("; client_no_context_takeover"),
    Some("; server_max_window_bits=12"),
    Some("; server_max_window_bits=9; client_max_window_bits=10"),
    Some("; server_max_window_bits=8, permessage-deflate"),
];

/// How it compresses what it says.
enum Deflate {
    /// Not at all.
    None,
    /// Each message alone.
    Alone,
    /// With all that it said before.
    Context(Box<Sender>),
}

impl Client {
    pub(crate) fn new(uid: usize, node: usize, socket: ClientSocket, cx: &mut Context<'_>) -> Self {
        let topic = cx.dice.usize(..TOPICS.len());
        let (talk, target) = match cx.dice.u8(..8) {
            0..=2 => {
                let (raw, target) = Raw::new(topic, cx);
                (Talk::Raw(raw), target)
            }
            3 => (Talk::Echo(VecDeque::new()), "/echo".to_owned()),
            _ => {
                let (dialogue, target) = Dialogue::new(cx);
                (Talk::Centrifuge(Box::new(dialogue)), target)
            }
        };
        note!("client {uid} on shard {node}: {target}");
        let offer = OFFERS[cx.dice.usize(..OFFERS.len())];
        let mut out = codec::request(&target, offer);
        let mut ending = Ending::new(match talk {
            Talk::Raw(_) => "raw",
            Talk::Echo(_) => "echo",
            Talk::Centrifuge(_) => "centrifuge",
        });
        match cx.dice.u8(..30) {
            0 => {
                out.truncate(cx.dice.usize(..out.len()));
                ending.is_mute = true;
            }
            1 => out = b"HELO there\r\n\r\n".to_vec(),
            _ => {}
        }
        let lively = cx.dice.u8(..12) > 0;
        let pace = if cx.dice.u8(..4) > 0 { Pace::Eager } else { Pace::Slow(64) };
        let (decoder, pings) = (Decoder::default(), VecDeque::new());
        let deflate = Deflate::None;
        Self { uid, socket, out, decoder, pace, lively, pings, talk, deflate, ending }
    }

    /// Whether it stands where it can be compared: upgraded, and nobody has begun to end it.
    pub(crate) fn is_open(&self) -> bool {
        self.ending.upgraded && !self.ending.has_begun()
    }

    /// Reads whatever comes, from now on.
    pub(crate) fn rouse(&mut self) {
        self.pace = Pace::Eager;
        self.lively = true;
    }

    /// The topics that it is subscribed to, and whether it has heard `id` there.
    pub(crate) fn hears(&self, id: usize) -> Vec<(usize, bool)> {
        match &self.talk {
            Talk::Raw(raw) if self.is_open() => vec![(raw.topic, raw.run.contains(&id))],
            Talk::Centrifuge(dialogue) if self.is_open() => dialogue.hears(id),
            _ => Vec::new(),
        }
    }

    /// The last publication that it has heard of each topic.
    pub(crate) fn newest(&self) -> Vec<(usize, usize)> {
        match &self.talk {
            Talk::Raw(raw) => raw.run.last().map(|&id| (raw.topic, id)).into_iter().collect(),
            Talk::Centrifuge(dialogue) => dialogue.newest(),
            Talk::Echo(_) => Vec::new(),
        }
    }

    /// Its Centrifugo client id.
    pub(crate) fn client_id(&self) -> Option<&str> {
        match &self.talk {
            Talk::Centrifuge(dialogue) => dialogue.client_id(),
            _ => None,
        }
    }

    /// Everything that it has asked must have been answered by now.
    pub(crate) fn assert_settled(&self) {
        let uid = self.uid;
        assert!(self.out.is_empty(), "client {uid}: the gateway does not read");
        assert!(!self.decoder.is_mid_frame(), "client {uid}: half a frame");
        assert!(self.ending.upgraded, "client {uid}: no answer to its request");
        assert!(self.pings.is_empty(), "client {uid}: the last ping was not answered");
        match &self.talk {
            Talk::Raw(_) => {}
            Talk::Echo(waiting) => assert!(waiting.is_empty(), "client {uid}: no echo"),
            Talk::Centrifuge(dialogue) => dialogue.assert_settled(),
        }
    }

    /// Writes and reads some.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.is_over() {
            return false;
        }
        let mut moved = self.write(cx);
        let most = match self.pace {
            Pace::Eager => usize::MAX,
            Pace::Slow(most) => most,
            Pace::Stalled => return moved,
        };
        let mut bytes = Vec::new();
        let tail = self.socket.read_some(most, &mut bytes);
        moved |= !bytes.is_empty();
        self.decoder.feed(&bytes);
        while let Some(event) = self.decoder.next() {
            note!("client {} hears {event:?}", self.uid);
            self.hear(event, cx);
        }
        if tail != Tail::Open {
            self.end(tail, cx);
            moved = true;
        }
        moved
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.said_fin {
            return false;
        }
        if self.out.is_empty() {
            if self.ending.wants_fin {
                note!("client {} sends FIN", self.uid);
                self.socket.shutdown();
                self.ending.said_fin = true;
                return true;
            }
            return false;
        }
        let most = if cx.dice.bool() { self.out.len() } else { cx.dice.usize(1..=self.out.len()) };
        let taken = self.socket.write(&self.out[..most]);
        self.out.drain(..taken);
        taken > 0
    }

    fn hear(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Response { status, headers } => self.answered(status, &headers, cx),
            Event::Message { opcode, payload } => {
                if let Talk::Echo(waiting) = &mut self.talk {
                    let expected = waiting.pop_front();
                    assert_eq!(expected, Some((opcode, payload)), "an echo of something else");
                    return;
                }
                match &mut self.talk {
                    Talk::Raw(raw) => raw.hear(&payload, cx),
                    Talk::Centrifuge(dialogue) => {
                        assert_eq!(opcode, TEXT, "a binary message for a JSON client");
                        if let Some(pong) = dialogue.hear(&payload, cx)
                            && self.lively
                            && !self.ending.has_said_last_word()
                        {
                            self.send(TEXT, &pong, cx);
                        }
                    }
                    Talk::Echo(_) => {}
                }
            }
            Event::Ping(payload) => {
                if self.lively && !self.ending.has_said_last_word() {
                    self.send(PONG, &payload, cx);
                }
            }
            Event::Pong(_) if self.ending.garbage => {}
            Event::Pong(payload) => loop {
                let sent = self.pings.pop_front().expect("a Pong for a Ping");
                if sent == payload {
                    break;
                }
            },
            Event::Close(close) => {
                self.ending.hear_close(close);
                // Most clients answer, then end their side.
                if self.ending.said_close.is_none() && !self.ending.wants_fin {
                    if cx.dice.u8(..4) > 0 {
                        self.say_close(1000, cx);
                    }
                    self.ending.wants_fin = true;
                }
            }
        }
    }

    fn answered(&mut self, status: u16, headers: &BTreeMap<String, String>, cx: &Context<'_>) {
        self.ending.answered(status);
        if let Some(answer) = headers.get("sec-websocket-extensions") {
            // Our own engine knows one window only.
            let is_alone = ["client_no_context_takeover", "client_max_window_bits"]
                .iter()
                .any(|parameter| answer.contains(parameter));
            self.deflate = match is_alone {
                true => Deflate::Alone,
                false => Deflate::Context(Box::new(Sender::new())),
            };
        }
        if let Talk::Raw(raw) = &mut self.talk {
            raw.answered(status, headers, cx);
        } else {
            assert!([101, 400, 408, 429, 503].contains(&status), "refused with {status}");
        }
    }

    /// The gateway has ended its side.
    fn end(&mut self, tail: Tail, cx: &mut Context<'_>) {
        note!("client {} finds {tail:?}", self.uid);
        self.ending.end(tail, self.decoder.is_mid_frame());
        self.socket.close();
        self.leave(cx);
    }

    fn leave(&mut self, cx: &mut Context<'_>) {
        let is_orderly =
            matches!(self.ending.known(), Known::Cause("client_close" | "client_gone"));
        match &mut self.talk {
            Talk::Raw(raw) => {
                if is_orderly && cx.plan.finish == Finish::Leave {
                    cx.truth.sent_whole(std::mem::take(&mut raw.published));
                }
                raw.leave(cx);
            }
            Talk::Centrifuge(dialogue) => dialogue.leave(cx),
            Talk::Echo(_) => {}
        }
    }

    /// Does something that clients do.
    pub(crate) fn act(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_over() {
            return;
        }
        match cx.dice.u8(..200) {
            0..=1 => return self.reset(cx),
            2..=4 => return self.fin(),
            5..=30 => {
                self.pace = match cx.dice.u8(..5) {
                    0 => Pace::Stalled,
                    1 => Pace::Slow(cx.dice.usize(1..200)),
                    _ => Pace::Eager,
                };
                return;
            }
            _ => {}
        }
        // Nobody may talk before the upgrade, nor after the last word.
        if !self.is_open() || self.ending.has_said_last_word() || self.out.len() > 16_384 {
            return;
        }
        match cx.dice.u8(..200) {
            0..=3 => self.close(cx),
            4..=6 => self.violate(cx),
            16 => {
                note!("client {} sends garbage", self.uid);
                let mut garbage: Vec<u8> =
                    (0..cx.dice.usize(2..300)).map(|_| cx.dice.u8(..)).collect();
                if !matches!(self.talk, Talk::Centrifuge(_)) {
                    // Without a mask it is no message that others would hear.
                    garbage[1] &= 0x7f;
                }
                self.out.extend(garbage);
                self.ending.garbage();
            }
            17 => {
                note!("client {} floods", self.uid);
                (0..60).for_each(|_| self.out.extend(codec::frame(0x80 | PONG, [0; 4], b"")));
                self.ending.violate((1008, "control_flood"));
                // A slow way turns a flood into a trickle.
                self.ending.wants_fin = true;
            }
            7..=14 if self.pings.len() < 8 => {
                let payload = ping_payload(cx);
                self.pings.push_back(payload.clone());
                self.send(PING, &payload, cx);
            }
            18..=19 if matches!(self.talk, Talk::Raw(_) | Talk::Echo(_)) => {
                note!("client {} says much and goes", self.uid);
                // More than one turn takes.
                for _ in 0..cx.dice.usize(2..100) {
                    self.talk(cx);
                }
                self.fin();
            }
            15 => {
                // A message that is begun and not finished.
                self.out.extend(codec::frame(TEXT, [1, 2, 3, 4], b"{"));
                self.ending.stuck();
            }
            _ => self.talk(cx),
        }
    }

    fn talk(&mut self, cx: &mut Context<'_>) {
        let uid = self.uid;
        match &mut self.talk {
            Talk::Raw(raw) => {
                if raw.is_denied() && cx.dice.u8(..20) > 0 {
                    return;
                }
                let (id, payload) = cx.draft(raw.topic, uid);
                note!("client {uid} publishes {id} raw");
                if raw.is_denied() {
                    self.ending.violate((1008, "publish_denied"));
                } else {
                    raw.published.push(id);
                }
                let opcode = if cx.dice.u8(..4) > 0 { TEXT } else { BINARY };
                self.send(opcode, &payload, cx);
            }
            Talk::Echo(waiting) => {
                let text: String =
                    (0..cx.dice.usize(..300)).map(|_| cx.dice.alphabetic()).collect();
                let opcode = if cx.dice.bool() { TEXT } else { BINARY };
                waiting.push_back((opcode, text.clone().into_bytes()));
                self.send(opcode, text.as_bytes(), cx);
            }
            Talk::Centrifuge(dialogue) => {
                if let Some(text) = dialogue.speak(uid, cx) {
                    note!("client {uid} says {}", String::from_utf8_lossy(&text));
                    self.send(TEXT, &text, cx);
                }
            }
        }
    }

    /// Queues a message, in fragments now and then, or a control frame.
    fn send(&mut self, opcode: u8, payload: &[u8], cx: &mut Context<'_>) {
        let compressed = match &mut self.deflate {
            Deflate::Alone if opcode < CLOSE && cx.dice.bool() => Some(compress(payload)),
            Deflate::Context(sender) if opcode < CLOSE && cx.dice.bool() => {
                Some(sender.compress(payload))
            }
            _ => None,
        };
        let mut first = if compressed.is_some() { opcode | RSV1 } else { opcode };
        let mut rest = compressed.as_deref().unwrap_or(payload);
        while opcode < CLOSE && cx.dice.u8(..8) == 0 && self.pings.len() < 8 {
            let (fragment, behind) = rest.split_at(cx.dice.usize(..=rest.len()));
            self.out.extend(codec::frame(first, mask(cx), fragment));
            if cx.dice.bool() {
                let payload = ping_payload(cx);
                self.out.extend(codec::frame(0x80 | PING, mask(cx), &payload));
                self.pings.push_back(payload);
            }
            (first, rest) = (CONTINUATION, behind);
            if first == CONTINUATION && cx.dice.bool() {
                break;
            }
        }
        self.out.extend(codec::frame(0x80 | first, mask(cx), rest));
    }

    fn say_close(&mut self, code: u16, cx: &mut Context<'_>) {
        self.send(CLOSE, &code.to_be_bytes(), cx);
        self.ending.said_close = Some(code);
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        let code = [1000, 1001, 3000, 4999][cx.dice.usize(..4)];
        note!("client {} closes with {code}", self.uid);
        self.say_close(code, cx);
    }

    fn fin(&mut self) {
        note!("client {} will send FIN", self.uid);
        self.ending.wants_fin = true;
    }

    fn reset(&mut self, cx: &mut Context<'_>) {
        note!("client {} resets", self.uid);
        self.socket.reset();
        self.ending.reset();
        self.leave(cx);
    }

    /// Hands over what it still knows.
    pub(crate) fn forget(&mut self, cx: &mut Context<'_>) {
        self.leave(cx);
    }

    /// Ends in one way or another.
    pub(crate) fn go(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_over() || self.ending.wants_fin {
            return;
        }
        match cx.dice.u8(..3) {
            0 => self.reset(cx),
            1 if self.is_open() && !self.ending.has_said_last_word() => self.close(cx),
            _ => self.fin(),
        }
    }

    /// Breaks a rule; what the gateway has to say to that is known.
    fn violate(&mut self, cx: &mut Context<'_>) {
        let is_centrifuge = matches!(self.talk, Talk::Centrifuge(_));
        let compressed = match self.deflate {
            Deflate::None => (1002, "reserved_bit_set"),
            Deflate::Alone | Deflate::Context(_) => (1007, "bad_deflate"),
        };
        let rules: [(Violation, Vec<u8>); 9] = [
            (compressed, codec::frame(0xC1, [0; 4], b"\xff")),
            ((1002, "unmasked_client_frame"), vec![0x81, 0x01, b'a']),
            ((1002, "reserved_bit_set"), codec::frame(0xA1, [0; 4], b"a")),
            ((1002, "unexpected_continuation"), codec::frame(0x80, [9; 4], b"a")),
            ((1002, "unknown_opcode"), codec::frame(0x83, [9; 4], b"a")),
            ((1007, "invalid_utf8"), codec::frame(0x81, [7; 4], &[0xC0, 0x80])),
            ((1009, "too_big"), codec::frame(0x81, [7; 4], &[b'a'; 8193])),
            ((1003, "unsupported_data"), codec::frame(0x82, [5; 4], b"a")),
            ((3501, "bad_command"), codec::frame(0x81, [5; 4], b"{\"id\":}")),
        ];
        let most = if is_centrifuge { 9 } else { 7 };
        let (violation, bytes) = &rules[cx.dice.usize(..most)];
        note!("client {} violates: {violation:?}", self.uid);
        self.ending.violate(*violation);
        self.out.extend(bytes);
    }
}

/// No two pings are alike, so that it is known which of them a Pong answers.
fn ping_payload(cx: &mut Context<'_>) -> Vec<u8> {
    let padding = cx.dice.usize(..118);
    let mut payload: Vec<u8> = (0..padding).map(|_| cx.dice.u8(..)).collect();
    payload.extend(cx.dice.u64(..).to_be_bytes());
    payload
}

fn mask(cx: &mut Context<'_>) -> [u8; 4] {
    cx.dice.u32(..).to_be_bytes()
}
