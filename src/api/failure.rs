//! Why a request to the server API was not carried out, and how that is said.

use std::borrow::Cow;

use super::hub::AskError;
use crate::mail::message::Refused;

/// Why a request to the server API was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API has no key, and is not open to all.
    NoAccess,
    /// The request carries no key.
    NoKey,
    /// The request carries another key.
    WrongKey,
    /// The API is open to all, but not to web pages.
    WebPage,
    /// The request does not POST.
    NotPost,
    /// There is no such method.
    UnknownMethod,
    /// There is no such order.
    UnknownOrder,
    /// The gateway is ending and takes no more orders.
    Ending,
    /// The body did not come in time.
    BodyLate,
    /// The body ended before it was complete.
    BodyBroken,
    /// The body has more bytes than this.
    BodyTooLarge(usize),
    /// The data has more bytes than this.
    DataTooLarge(usize),
    /// More channels are named than this.
    TooManyChannels(usize),
    /// More channels would be listed than this.
    ListTooLong(usize),
    /// The body is not the JSON that the method takes.
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A member of the request is missing or wrong: cause and fix.
    Invalid(&'static str),
    /// The request wants what this gateway does not do: cause and fix.
    NotAvailable(&'static str),
    /// The home of the topic refuses.
    Refused(Refused),
    /// A shard did not answer, or was not asked.
    Ask(AskError),
}

impl Failure {
    /// The HTTP status, the code of Centrifugo's error, and the message.
    pub(super) fn answer(self) -> (u16, u32, Cow<'static, str>) {
        let fixed = |status, code, message: &'static str| (status, code, Cow::Borrowed(message));
        match self {
            Self::NoAccess => fixed(
                403,
                103,
                "permission denied: the API is off; set operator.api_key in the configuration",
            ),
            Self::NoKey => fixed(
                401,
                101,
                "unauthorized: send the key as `X-API-Key: KEY` or `Authorization: apikey KEY`",
            ),
            Self::WrongKey => fixed(401, 101, "unauthorized: this is not operator.api_key"),
            Self::WebPage => fixed(
                403,
                103,
                "permission denied: web pages need a key; set operator.api_key in the configuration",
            ),
            Self::NotPost => fixed(405, 107, "bad request: methods of the API are called by POST"),
            Self::UnknownMethod => fixed(
                404,
                104,
                "method not found: there are publish, broadcast, info, channels, history and \
                 disconnect",
            ),
            Self::UnknownOrder => {
                fixed(404, 104, "order not found: there are drain, reload and diff")
            }
            Self::Ending => {
                fixed(503, 100, "internal error: the gateway is ending and takes no orders")
            }
            Self::BodyLate => fixed(408, 107, "bad request: the body did not come in time"),
            Self::BodyBroken => fixed(400, 107, "bad request: the body ended early"),
            Self::BodyTooLarge(max) => limit(413, "the body", max, "bytes; send less at a time"),
            Self::DataTooLarge(max) => {
                limit(413, "`data`", max, "bytes; publish a reference to it")
            }
            Self::TooManyChannels(max) => {
                limit(400, "`channels`", max, "names; call several times")
            }
            Self::ListTooLong(max) => limit(200, "the list", max, "channels; narrow the pattern"),
            Self::NotJson { line, column } => {
                let place = format!("line {line} column {column} of the body");
                let what = "bad request: not the JSON object that this method takes";
                (400, 107, format!("{what}, see {place}").into())
            }
            Self::Invalid(cause) => (400, 107, format!("bad request: {cause}").into()),
            Self::NotAvailable(cause) => (200, 108, format!("not available: {cause}").into()),
            Self::Refused(why) => refused(why),
            Self::Ask(AskError::Busy) => {
                fixed(503, 111, "too many requests: the gateway is busy; try again in a second")
            }
            Self::Ask(AskError::NoAnswer) => fixed(
                503,
                100,
                "internal error: a shard did not answer in time, and what it did is unknown; \
                 repeat a publish with the same idempotency_key",
            ),
        }
    }
}

/// More than `max` of something.
fn limit(status: u16, what: &str, max: usize, fix: &str) -> (u16, u32, Cow<'static, str>) {
    (status, 106, format!("limit exceeded: {what} may have {max} {fix}").into())
}

fn refused(why: Refused) -> (u16, u32, Cow<'static, str>) {
    let status = match why {
        Refused::BrokerDown | Refused::BrokerSilent => 503,
        _ => 200,
    };
    let (code, message) = match why {
        Refused::UnknownNamespace => {
            (102, "unknown channel: its namespace, the part before `:`, is not configured")
        }
        Refused::TopicsExhausted => (106, "limit exceeded: too many topics; raise topics_max"),
        Refused::NoHistory => {
            (108, "not available: the namespace of this channel keeps no history")
        }
        Refused::MustKeep => (
            108,
            "not available: skip_history leaves a gap in this channel; use a namespace of mode live",
        ),
        Refused::OtherEpoch => {
            (112, "unrecoverable position: `since` is of another epoch; read without it")
        }
        Refused::BrokerDown => (
            100,
            "internal error: the broker of this channel cannot be reached, and nothing was done; \
             try again in a second",
        ),
        Refused::BrokerSilent => (
            100,
            "internal error: the broker of this channel did not answer in time, and what it did is \
             unknown; repeat a publish only if doing it twice does no harm",
        ),
    };
    (status, code, message.into())
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}
