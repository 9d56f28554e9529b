//! Why a connection ends, and what each client protocol is told about it.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The cause of an end; exactly one for each connection. Also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The client sent Close first.
    ClientClose,
    /// FIN without Close.
    ClientGone,
    /// RST or another failure of the transport.
    Reset,
    /// TLS was broken off by a fatal alert, or its records were.
    TlsAlert,
    /// FIN without the close_notify of TLS: bytes may be missing.
    TlsTruncated,
    /// SIGTERM or `ringway drain`.
    Drain,
    /// The process runs short of something.
    Shed,
    /// The client reads too slowly.
    Slow,
    /// A ping was not answered.
    PingTimeout,
    /// Nothing came for too long, or a message was begun and not finished.
    Idle,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The topic or the action is not allowed.
    Forbidden,
    /// A raw client sent a message to a topic that takes none from clients.
    PublishDenied,
    /// The client wants something that this gateway does not offer.
    NotAvailable,
    /// The token has expired.
    Expired,
    /// By the server API.
    Disconnected,
    /// The client protocol was broken.
    BadCommand,
    /// Too many commands.
    Rate,
    /// Publications were lost for this subscriber.
    PositionLost,
    /// The broker cannot be reached.
    BrokerLost,
    /// RFC 6455 was broken.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message type that the route does not take.
    UnsupportedData,
    /// A message over the limit.
    TooBig,
    /// Too many fragments or control frames.
    Flood,
    /// A fault of ours.
    Internal,
}

impl Cause {
    /// Every cause, in the order of the enum.
    pub const ALL: &[Self] = &[
        Self::ClientClose,
        Self::ClientGone,
        Self::Reset,
        Self::TlsAlert,
        Self::TlsTruncated,
        Self::Drain,
        Self::Shed,
        Self::Slow,
        Self::PingTimeout,
        Self::Idle,
        Self::Unauthorized,
        Self::Forbidden,
        Self::PublishDenied,
        Self::NotAvailable,
        Self::Expired,
        Self::Disconnected,
        Self::BadCommand,
        Self::Rate,
        Self::PositionLost,
        Self::BrokerLost,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::UnsupportedData,
        Self::TooBig,
        Self::Flood,
        Self::Internal,
    ];

    /// The value of the metric label `cause`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientClose => "client_close",
            Self::ClientGone => "client_gone",
            Self::Reset => "reset",
            Self::TlsAlert => "tls_alert",
            Self::TlsTruncated => "tls_truncated",
            Self::Drain => "drain",
            Self::Shed => "shed",
            Self::Slow => "slow",
            Self::PingTimeout => "ping_timeout",
            Self::Idle => "idle",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::PublishDenied => "publish_denied",
            Self::NotAvailable => "not_available",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
            Self::BadCommand => "bad_command",
            Self::Rate => "rate",
            Self::PositionLost => "position_lost",
            Self::BrokerLost => "broker_lost",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::UnsupportedData => "unsupported_data",
            Self::TooBig => "too_big",
            Self::Flood => "flood",
            Self::Internal => "internal",
        }
    }
}

/// The language of a connection. Also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One topic, no envelope.
    Raw,
    /// Every message comes back.
    Echo,
    /// Centrifugo v2 JSON.
    Centrifuge,
}

impl Protocol {
    /// Every protocol, in the order of the enum.
    pub const ALL: &[Self] = &[Self::Raw, Self::Echo, Self::Centrifuge];

    /// The value of the metric label `protocol`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Echo => "echo",
            Self::Centrifuge => "centrifuge",
        }
    }
}

/// What a Close frame tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The close code.
    pub code: u16,
    /// The reason, at most 123 bytes. Never empty: `centrifuge-js` does not believe a code that
    /// forbids reconnecting unless a reason comes with it.
    pub reason: Cow<'static, str>,
}

/// What raw and echo clients are told when the gateway drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainNotice {
    /// 1012 (service restart) or 1001 (going away).
    pub code: u16,
    /// When they should come back, in milliseconds.
    pub retry_ms: RangeInclusive<u32>,
}

/// The Close frame that a client is sent when its connection ends for `cause`.
///
/// `None`: there is nobody to tell, or (`ClientClose`) the client's own code is to be echoed.
pub fn farewell(cause: Cause, protocol: Protocol, drain: &DrainNotice) -> Option<Farewell> {
    use Protocol::{Centrifuge, Echo, Raw};
    let (code, reason) = match (cause, protocol) {
        (
            Cause::ClientClose
            | Cause::ClientGone
            | Cause::Reset
            | Cause::TlsAlert
            | Cause::TlsTruncated,
            _,
        ) => return None,
        (Cause::Drain, Raw | Echo) => {
            let (from, to) = (drain.retry_ms.start(), drain.retry_ms.end());
            let reason = format!("restart retry_ms={from}-{to}");
            return Some(Farewell { code: drain.code, reason: reason.into() });
        }
        (Cause::Drain, Centrifuge) => (3001, "shutdown"),
        (Cause::Shed, Raw | Echo) => (1013, "try again later"),
        (Cause::Shed | Cause::Rate, Centrifuge) => (3013, "too many requests"),
        (Cause::Slow, Raw | Echo) => (4008, "slow"),
        (Cause::Slow, Centrifuge) => (3008, "slow"),
        (Cause::PingTimeout, Raw | Echo) => (3008, "ping timeout"),
        (Cause::PingTimeout, Centrifuge) => (3012, "no pong"),
        (Cause::Idle, Raw | Echo) => (3008, "idle"),
        (Cause::Idle, Centrifuge) => (3502, "stale"),
        (Cause::Unauthorized, Raw | Echo) => (3000, "unauthorized"),
        (Cause::Unauthorized, Centrifuge) => (3500, "invalid token"),
        (Cause::Forbidden, Raw | Echo) => (3003, "forbidden"),
        (Cause::PublishDenied, Raw | Echo) => (1008, "publish denied"),
        (Cause::Forbidden | Cause::PublishDenied, Centrifuge) => (3507, "permission denied"),
        (Cause::NotAvailable, Raw | Echo) => (1008, "not available"),
        (Cause::NotAvailable, Centrifuge) => (3508, "not available"),
        (Cause::Expired, Raw | Echo) => (3000, "expired"),
        (Cause::Expired, Centrifuge) => (3005, "connection expired"),
        (Cause::Disconnected, Raw | Echo) => (3003, "disconnected"),
        (Cause::Disconnected, Centrifuge) => (3503, "force disconnect"),
        (Cause::BadCommand, Raw | Echo) => (4400, "bad command"),
        (Cause::BadCommand, Centrifuge) => (3501, "bad request"),
        (Cause::Rate, Raw | Echo) => (4429, "rate"),
        (Cause::PositionLost, Raw | Echo) => (4010, "position lost"),
        (Cause::PositionLost, Centrifuge) => (3010, "insufficient state"),
        (Cause::BrokerLost, Raw | Echo) => (1013, "broker unavailable"),
        (Cause::BrokerLost | Cause::Internal, Centrifuge) => (3004, "internal"),
        (Cause::Internal, Raw | Echo) => (1011, "internal"),
        (Cause::ProtocolError, Raw | Echo | Centrifuge) => (1002, "protocol error"),
        (Cause::InvalidUtf8, Raw | Echo | Centrifuge) => (1007, "invalid payload"),
        (Cause::UnsupportedData, Raw | Echo | Centrifuge) => (1003, "unsupported data"),
        (Cause::TooBig, Raw | Echo | Centrifuge) => (1009, "message too big"),
        (Cause::Flood, Raw | Echo | Centrifuge) => (1008, "flood"),
    };
    Some(Farewell { code, reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Option<(u16, &'static str)>;

    /// Cause, label, what raw and echo clients are told, what Centrifugo clients are told.
    const ROWS: [(Cause, &str, Told, Told); 26] = [
        (Cause::ClientClose, "client_close", None, None),
        (Cause::ClientGone, "client_gone", None, None),
        (Cause::Reset, "reset", None, None),
        (Cause::TlsAlert, "tls_alert", None, None),
        (Cause::TlsTruncated, "tls_truncated", None, None),
        (
            Cause::Drain,
            "drain",
            Some((1012, "restart retry_ms=500-20000")),
            Some((3001, "shutdown")),
        ),
        (Cause::Shed, "shed", Some((1013, "try again later")), Some((3013, "too many requests"))),
        (Cause::Slow, "slow", Some((4008, "slow")), Some((3008, "slow"))),
        (Cause::PingTimeout, "ping_timeout", Some((3008, "ping timeout")), Some((3012, "no pong"))),
        (Cause::Idle, "idle", Some((3008, "idle")), Some((3502, "stale"))),
        (
            Cause::Unauthorized,
            "unauthorized",
            Some((3000, "unauthorized")),
            Some((3500, "invalid token")),
        ),
        (
            Cause::Forbidden,
            "forbidden",
            Some((3003, "forbidden")),
            Some((3507, "permission denied")),
        ),
        (
            Cause::PublishDenied,
            "publish_denied",
            Some((1008, "publish denied")),
            Some((3507, "permission denied")),
        ),
        (
            Cause::NotAvailable,
            "not_available",
            Some((1008, "not available")),
            Some((3508, "not available")),
        ),
        (Cause::Expired, "expired", Some((3000, "expired")), Some((3005, "connection expired"))),
        (
            Cause::Disconnected,
            "disconnected",
            Some((3003, "disconnected")),
            Some((3503, "force disconnect")),
        ),
        (
            Cause::BadCommand,
            "bad_command",
            Some((4400, "bad command")),
            Some((3501, "bad request")),
        ),
        (Cause::Rate, "rate", Some((4429, "rate")), Some((3013, "too many requests"))),
        (
            Cause::PositionLost,
            "position_lost",
            Some((4010, "position lost")),
            Some((3010, "insufficient state")),
        ),
        (
            Cause::BrokerLost,
            "broker_lost",
            Some((1013, "broker unavailable")),
            Some((3004, "internal")),
        ),
        (
            Cause::ProtocolError,
            "protocol_error",
            Some((1002, "protocol error")),
            Some((1002, "protocol error")),
        ),
        (
            Cause::InvalidUtf8,
            "invalid_utf8",
            Some((1007, "invalid payload")),
            Some((1007, "invalid payload")),
        ),
        (
            Cause::UnsupportedData,
            "unsupported_data",
            Some((1003, "unsupported data")),
            Some((1003, "unsupported data")),
        ),
        (
            Cause::TooBig,
            "too_big",
            Some((1009, "message too big")),
            Some((1009, "message too big")),
        ),
        (Cause::Flood, "flood", Some((1008, "flood")), Some((1008, "flood"))),
        (Cause::Internal, "internal", Some((1011, "internal")), Some((3004, "internal"))),
    ];

    #[test]
    fn every_cause_is_told_as_the_table_says() {
        for (cause, label, plain, centrifuge) in ROWS {
            assert_eq!(cause.label(), label);
            let columns = [
                (Protocol::Raw, plain),
                (Protocol::Echo, plain),
                (Protocol::Centrifuge, centrifuge),
            ];
            for (protocol, expected) in columns {
                let drain = DrainNotice { code: 1012, retry_ms: 500..=20_000 };
                let told = farewell(cause, protocol, &drain);
                let told = told.as_ref().map(|f| (f.code, &*f.reason));
                assert_eq!(told, expected, "{cause:?} {protocol:?}");
            }
        }
    }

    #[test]
    fn reasons_are_never_empty_never_json_and_fit_a_control_frame() {
        for (cause, ..) in ROWS {
            for protocol in [Protocol::Raw, Protocol::Echo, Protocol::Centrifuge] {
                let drain = DrainNotice { code: 1012, retry_ms: u32::MAX..=u32::MAX };
                let Some(told) = farewell(cause, protocol, &drain) else {
                    continue;
                };
                assert!((1..=123).contains(&told.reason.len()), "{cause:?}");
                assert!(told.reason.starts_with(|c: char| c.is_ascii_lowercase()), "{cause:?}");
            }
        }
    }

    #[test]
    fn protocols_have_labels() {
        let labels = [Protocol::Raw, Protocol::Echo, Protocol::Centrifuge].map(Protocol::label);
        assert_eq!(labels, ["raw", "echo", "centrifuge"]);
    }
}
