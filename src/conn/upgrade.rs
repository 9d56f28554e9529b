//! The opening handshake: from a request head to a session.

use std::time::{Duration, Instant};

use crate::dialect::cause::Cause;
use crate::dialect::centrifuge;
use crate::dialect::raw::{self, OpenError};
use crate::dialect::{Answer, Session};
use crate::http1::error::HeadError;
use crate::http1::head::HeadScanner;
use crate::http1::request::RequestHead;
use crate::http1::response::{Response, refuse};
use crate::http1::status::Status;
use crate::http1::target::percent_decode;
use crate::topic::name::TopicName;
use crate::ws::deflate::negotiate::Agreement;
use crate::ws::deflate::{Class, Outbound, Peer};
use crate::ws::handshake::{self, AcceptKey, Upgrade, accept_response};

use super::Context;
use super::guest::{Guest, Lack, Room};
use super::route::Route;

/// The subprotocol that Centrifugo clients may offer for JSON.
const CENTRIFUGE_JSON: &str = "centrifuge-json";

/// The subprotocol that raw clients may offer.
const RAW: &str = "ringway";

/// Refused clients are asked to wait this many seconds at least; chance adds up to as many again.
const RETRY_AFTER_SECONDS: u64 = 2;

/// A connection whose request head is on its way.
#[derive(Debug)]
pub(super) struct Head {
    scanner: HeadScanner,
    room: Room,
    pub(super) deadline: Instant,
}

/// What reading the head came to.
#[derive(Debug)]
pub(super) enum Step {
    /// More bytes are needed.
    Incomplete,
    /// An answer was written; the connection ends with it, for this cause.
    Answered(Cause),
    /// The hub must be asked before the answer.
    Admit(Box<Admission>),
    /// The 101 response was written.
    Open(Session, Option<Box<Peer>>),
}

/// A valid request for a topic that waits for the hub.
#[derive(Debug)]
pub(super) struct Admission {
    session: raw::Session,
    accept: AcceptKey,
    subprotocol: Option<&'static str>,
    deflate: Option<(Agreement, Box<Peer>)>,
    pub(super) deadline: Instant,
}

/// A request that is not answered with 101.
#[derive(Clone, Copy, Debug)]
struct Refused {
    status: Status,
    reason: &'static str,
    explanation: &'static str,
}

impl Head {
    pub(super) fn new(deadline: Instant, room: Room) -> Self {
        Self { scanner: HeadScanner::default(), room, deadline }
    }

    /// Why there is no room for the client.
    pub(super) fn lack(&self) -> Option<Lack> {
        match self.room {
            Room::Free => None,
            Room::Full(lack) => Some(lack),
        }
    }

    /// There is no room for the client, as it turns out.
    pub(super) fn refuse(&mut self, lack: Lack) {
        if self.room == Room::Free {
            self.room = Room::Full(lack);
        }
    }

    /// Reads the head at the front of `input`, which holds all bytes received so far; returns how many
    /// were used up.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        listener: u16,
        cx: &mut Context<'_>,
    ) -> (usize, Step) {
        let scanned = self.scanner.scan(input, &cx.settings.head);
        let len = match scanned {
            Ok(None) => return (0, Step::Incomplete),
            Ok(Some(len)) => len,
            Err(error) => return (input.len(), refused(error.into(), cx)),
        };
        match self.answer(&input[..len], listener, cx) {
            Ok(step) => (len, step),
            Err(error) => (input.len(), refused(error, cx)),
        }
    }

    /// The head did not come in time.
    pub(super) fn time_out(&self, cx: &mut Context<'_>) {
        let late = Refused {
            status: Status::RequestTimeout,
            reason: "head_timeout",
            explanation: "the request head did not arrive in time",
        };
        refused(late, cx);
    }

    fn answer(&self, head: &[u8], listener: u16, cx: &mut Context<'_>) -> Result<Step, Refused> {
        let request = RequestHead::parse(head, &cx.settings.head)?;
        request.require_get()?;
        let door = cx.settings.doors.get(usize::from(listener)).ok_or(NO_ROUTE)?;
        if let Some(lack) = self.lack() {
            return Err(lack.into());
        }
        if let Some(guest) = cx.guest.as_deref_mut() {
            guest.hear(&request, door, &cx.settings.addresses, cx.now)?;
        }
        let path = request.target().path();
        let route = cx.settings.routes.find(path).ok_or(NO_ROUTE)?;
        if route == Route::Page {
            let page = cx.settings.page.ok_or(NO_ROUTE)?;
            Response::new(cx.frames, Status::Ok)
                .header("Connection", "close")
                .body("text/html; charset=utf-8", page.as_bytes());
            return Ok(Step::Answered(Cause::Page));
        }
        let upgrade = handshake::check(&request).map_err(|refusal| Refused {
            status: refusal.status(),
            reason: refusal.reason(),
            explanation: refusal.explanation(),
        })?;
        let host = request.header("Host").unwrap_or_default();
        let scheme = cx.guest.as_deref().and_then(Guest::scheme).unwrap_or(door.scheme);
        if !door.origins.admits(request.headers("Origin"), host, scheme) {
            return Err(BAD_ORIGIN);
        }
        match route {
            Route::Topic(topic) => self.admit(topic, &request, &upgrade, cx),
            Route::Echo => Ok(open(Session::Echo, &upgrade, None, cx)),
            Route::Centrifuge => {
                let session = centrifuge_session(&request, cx)?;
                Ok(open(session, &upgrade, Some(CENTRIFUGE_JSON), cx))
            }
            Route::Page => Err(NO_ROUTE),
        }
    }

    fn admit(
        &self,
        topic: &str,
        request: &RequestHead<'_>,
        upgrade: &Upgrade<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Step, Refused> {
        let topic = percent_decode(topic)?;
        let topic = TopicName::new(&topic).map_err(|_| BAD_TOPIC)?;
        let offset = request.target().query_value("offset")?;
        let epoch = request.target().query_value("epoch")?;
        let since = raw::wanted_position(offset.as_deref(), epoch.as_deref())?;
        let deflate = cx.codec.negotiate(upgrade.extensions());
        let class = deflate.as_ref().and_then(|(_, peer)| Class::of(peer.window_bits));
        let (session, subscribe) = raw::open(topic, since, class, &cx.settings.namespaces)?;
        cx.actions.push(subscribe);
        Ok(Step::Admit(Box::new(Admission {
            session,
            accept: *upgrade.accept_key(),
            subprotocol: offered(upgrade, RAW),
            deflate,
            deadline: self.deadline,
        })))
    }
}

impl Admission {
    /// Writes the answer; `None`: the request was refused.
    pub(super) fn answered(
        self,
        answer: Answer,
        cx: &mut Context<'_>,
    ) -> Option<(Session, Option<Box<Peer>>)> {
        let mut recovered = Vec::new();
        let (agreement, peer) = self.deflate.unzip();
        let window_bits = peer.as_ref().map(|peer| peer.window_bits);
        let codec = &mut *cx.codec;
        let outbound = window_bits.map(|window_bits| Outbound { codec, window_bits });
        match self.session.opened(answer, &cx.settings.namespaces, outbound, &mut recovered) {
            Ok(opened) => {
                let headers: Vec<(&str, String)> = opened.headers().collect();
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (accept, extension) = (&self.accept, agreement.as_ref());
                accept_response(cx.frames, accept, self.subprotocol, extension, &headers);
                cx.frames.extend_from_slice(&recovered);
                cx.tally.written += u64::try_from(opened.written).unwrap_or(u64::MAX);
                Some((Session::Raw(self.session), peer))
            }
            Err(error) => {
                refused(error.into(), cx);
                None
            }
        }
    }

    /// Holds the name that all who listen to its topic share.
    pub(super) fn share_name(&mut self, name: &TopicName) {
        self.session.share_name(name);
    }

    /// Bytes on the heap, its own included.
    pub(super) fn heap_bytes(&self) -> usize {
        let peer = self.deflate.as_ref().map_or(0, |(_, peer)| size_of_val(&**peer));
        size_of::<Self>() + peer
    }

    pub(super) fn keeps_context(&self) -> bool {
        self.deflate.as_ref().is_some_and(|(_, peer)| peer.context.is_some())
    }

    /// The hub did not answer in time.
    pub(super) fn time_out(&self, cx: &mut Context<'_>) {
        refused(LATE_HUB, cx);
    }

    /// The connection is to end before the hub has answered.
    pub(super) fn refuse_unavailable(&self, cx: &mut Context<'_>) {
        refused(UNAVAILABLE, cx);
    }
}

const NO_ROUTE: Refused = Refused {
    status: Status::NotFound,
    reason: "no_route",
    explanation: "nothing is served at this path; see the routes in the configuration",
};

const BAD_TOPIC: Refused = Refused {
    status: Status::BadRequest,
    reason: "bad_topic",
    explanation: "a topic name has 1 to 255 bytes of UTF-8 without control characters",
};

const BAD_ORIGIN: Refused = Refused {
    status: Status::Forbidden,
    reason: "origin",
    explanation: "pages of this origin may not connect; see listener.origins in the configuration",
};

const LATE_HUB: Refused = Refused {
    status: Status::Unavailable,
    reason: "hub_timeout",
    explanation: "the topic could not be joined in time; try again",
};

const UNAVAILABLE: Refused = Refused {
    status: Status::Unavailable,
    reason: "unavailable",
    explanation: "the gateway takes no more connections for now; try again",
};

const PROTOBUF: Refused = Refused {
    status: Status::BadRequest,
    reason: "protobuf",
    explanation: "this gateway speaks the JSON form of the Centrifugo protocol only",
};

/// Reasons of this file, for the labels of metrics.
pub(super) const REASONS: &[&str] = &[
    "head_timeout",
    NO_ROUTE.reason,
    BAD_TOPIC.reason,
    BAD_ORIGIN.reason,
    LATE_HUB.reason,
    UNAVAILABLE.reason,
    PROTOBUF.reason,
    "bad_position",
    "no_positions",
    "unknown_namespace",
    "forbidden",
    "hub_unavailable",
];

impl From<HeadError> for Refused {
    fn from(error: HeadError) -> Self {
        Self { status: error.status(), reason: error.reason(), explanation: error.explanation() }
    }
}

impl From<Lack> for Refused {
    fn from(lack: Lack) -> Self {
        Self { status: lack.status(), reason: lack.reason(), explanation: lack.explanation() }
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        let (status, reason, explanation) = match error {
            OpenError::MalformedPosition => (
                Status::BadRequest,
                "bad_position",
                "offset must be a number; epoch needs an offset",
            ),
            OpenError::NoPositions => {
                (Status::BadRequest, "no_positions", "messages of this topic cannot be recovered")
            }
            OpenError::UnknownTopic => {
                (Status::NotFound, "unknown_namespace", "no namespace of this name is configured")
            }
            OpenError::Forbidden => {
                (Status::Forbidden, "forbidden", "this topic is not open to you")
            }
            OpenError::Unavailable => {
                (Status::Unavailable, "hub_unavailable", "too many topics; try again later")
            }
        };
        Self { status, reason, explanation }
    }
}

fn refused(refused: Refused, cx: &mut Context<'_>) -> Step {
    let retry = matches!(refused.status, Status::Unavailable | Status::TooManyRequests)
        .then(|| Duration::from_secs(RETRY_AFTER_SECONDS + cx.random.u64(0..=RETRY_AFTER_SECONDS)));
    refuse(cx.frames, refused.status, refused.explanation, retry);
    cx.tally.refused = Some((refused.status, refused.reason));
    Step::Answered(Cause::Refused)
}

fn open(
    session: Session,
    upgrade: &Upgrade<'_>,
    subprotocol: Option<&'static str>,
    cx: &mut Context<'_>,
) -> Step {
    let subprotocol = subprotocol.and_then(|name| offered(upgrade, name));
    let (agreement, peer) = cx.codec.negotiate(upgrade.extensions()).unzip();
    accept_response(cx.frames, upgrade.accept_key(), subprotocol, agreement.as_ref(), &[]);
    Step::Open(session, peer)
}

fn offered(upgrade: &Upgrade<'_>, name: &'static str) -> Option<&'static str> {
    upgrade.subprotocols().any(|offer| offer == name).then_some(name)
}

fn centrifuge_session(request: &RequestHead<'_>, cx: &mut Context<'_>) -> Result<Session, Refused> {
    let target = request.target();
    let format = target.query_value("cf_protocol")?.or(target.query_value("format")?);
    if format.is_some_and(|format| format == "protobuf") {
        return Err(PROTOBUF);
    }
    let frame_pings = target.query_value("cf_ws_frame_ping_pong")?.is_some_and(|v| v == "true");
    let pings = if frame_pings { centrifuge::Pings::Frames } else { centrifuge::Pings::Messages };
    let id = cx.random.u128(..);
    let session = centrifuge::Session::new(cx.now, id, pings, &cx.settings.dialect.centrifuge);
    Ok(Session::Centrifuge(Box::new(session)))
}
