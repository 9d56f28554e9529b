//! Why a connection ends, and what each client protocol is told about it.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::ws::error::ProtocolError;

/// Which side ended a connection. Also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// The client: it sent Close first.
    Client,
    /// This gateway.
    Server,
    /// The network, or a client that went without a word.
    Transport,
}

impl Initiator {
    /// Every initiator, in the order of the enum.
    pub const ALL: &[Self] = &[Self::Client, Self::Server, Self::Transport];

    /// The value of the metric label `initiator`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Transport => "transport",
        }
    }
}

/// What a cause has to say to the clients of one protocol.
#[derive(Clone, Copy)]
enum Word {
    /// There is nobody to tell, or the client's own code is echoed.
    Nothing,
    /// A Close with this code and reason.
    Close(u16, &'static str),
    /// A Close as the [`DrainNotice`] says.
    Restart,
}

/// Makes the list below one enum and the facts about each cause. In a row: what it means; variant,
/// label, who ends the connection; what raw and echo clients are told; what Centrifugo clients are
/// told.
macro_rules! causes {
    ($(
        $(#[doc = $meaning:literal])+
        $cause:ident $label:literal $initiator:ident, $plain:expr, $centrifuge:expr;
    )*) => {
        /// The cause of an end; exactly one for each connection. Also a metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            /// RFC 6455 or RFC 7692 was broken, in this way.
            Broken(ProtocolError),
            $($(#[doc = $meaning])+ $cause,)*
        }

        /// The causes that are no protocol errors.
        const PLAIN: &[Cause] = &[$(Cause::$cause),*];

        impl Cause {
            /// The value of the metric label `cause`.
            pub const fn label(self) -> &'static str {
                match self {
                    Self::Broken(error) => error.reason(),
                    $(Self::$cause => $label,)*
                }
            }

            /// Which side ends a connection for this cause.
            pub const fn initiator(self) -> Initiator {
                match self {
                    Self::Broken(_) => Initiator::Server,
                    $(Self::$cause => Initiator::$initiator,)*
                }
            }

            /// One sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self {
                    Self::Broken(error) => error.meaning(),
                    $(Self::$cause => concat!($($meaning),+).trim_ascii(),)*
                }
            }

            const fn word(self, protocol: Protocol) -> Word {
                use Word::{Close, Nothing, Restart};
                let (plain, centrifuge) = match self {
                    Self::Broken(error) => {
                        let close = Close(error.close_code().0, error.reason());
                        (close, close)
                    }
                    $(Self::$cause => ($plain, $centrifuge),)*
                };
                match protocol {
                    Protocol::Raw | Protocol::Echo => plain,
                    Protocol::Centrifuge => centrifuge,
                }
            }
        }
    };
}

causes! {
    /// The client sent Close first.
    ClientClose "client_close" Client, Nothing, Nothing;
    /// The client ended its side of the TCP connection without a Close.
    ClientGone "client_gone" Transport, Nothing, Nothing;
    /// The client, or something on the way to it, reset the TCP connection.
    Reset "reset" Transport, Nothing, Nothing;
    /// The kernel gave up sending: nothing came back from the client for too long.
    TcpTimeout "tcp_timeout" Transport, Nothing, Nothing;
    /// The client had closed its socket and reset what was still sent to it.
    BrokenPipe "broken_pipe" Transport, Nothing, Nothing;
    /// No route leads to the client any more.
    Unreachable "unreachable" Transport, Nothing, Nothing;
    /// The TCP connection failed in another way.
    TransportError "transport_error" Transport, Nothing, Nothing;
    /// The client ended the TCP connection without ending TLS: bytes may be missing.
    TlsTruncated "tls_truncated" Transport, Nothing, Nothing;
    /// The client sent a fatal TLS alert.
    TlsAlert "tls_alert" Transport, Nothing, Nothing;
    /// What the client sent is no valid TLS, or offers nothing that is accepted.
    TlsFailed "tls_failed" Server, Nothing, Nothing;
    /// The TLS handshake took too long.
    TlsTimeout "tls_timeout" Server, Nothing, Nothing;
    /// What came first is no header of the PROXY protocol, or comes from nobody who may send one.
    ProxyHeader "proxy_header" Server, Nothing, Nothing;
    /// The request head took too long.
    HeadTimeout "head_timeout" Server, Nothing, Nothing;
    /// The request was answered with an HTTP error, or there was no room to hear it.
    Refused "refused" Server, Nothing, Nothing;
    /// The request was answered with a page.
    Page "page" Server, Nothing, Nothing;
    /// The gateway is being drained or stopped.
    Drain "drain" Server, Restart, Close(3001, "shutdown");
    /// The process runs short of something.
    Shed "shed" Server, Close(1013, "try again later"), Close(3013, "too many requests");
    /// The client took none of the bytes queued for it for `outbox.stall_timeout`.
    SlowStalled "slow_stalled" Server, Close(4008, "slow"), Close(3008, "slow");
    /// More than `outbox.bytes_max` bytes were queued for the client.
    SlowFull "slow_full" Server, Close(4008, "slow"), Close(3008, "slow");
    /// More than `outbox.soft_bytes_max` bytes were queued for the client for
    /// `outbox.soft_timeout`.
    SlowBehind "slow_behind" Server, Close(4008, "slow"), Close(3008, "slow");
    /// The client did not answer a ping in time.
    PingTimeout "ping_timeout" Server, Close(3008, "ping timeout"), Close(3012, "no pong");
    /// The client sent no message for `websocket.idle_timeout`.
    Idle "idle" Server, Close(3008, "idle"), Close(3502, "stale");
    /// The client did not finish a message in `websocket.message_timeout`.
    MessageTimeout "message_timeout" Server, Close(3008, "idle"), Close(3502, "stale");
    /// The client sent no connect command in `centrifuge.connect_timeout`.
    ConnectTimeout "connect_timeout" Server, Close(3008, "idle"), Close(3502, "stale");
    /// The client's credentials are missing or wrong.
    Unauthorized "unauthorized" Server, Close(3000, "unauthorized"), Close(3500, "invalid token");
    /// The client may not do what it tried to do.
    Forbidden "forbidden" Server, Close(3003, "forbidden"), Close(3507, "permission denied");
    /// A raw client sent a message to a topic that takes none from clients.
    PublishDenied "publish_denied" Server,
        Close(1008, "publish denied"), Close(3507, "permission denied");
    /// The client wants something that this gateway does not offer.
    NotAvailable "not_available" Server,
        Close(1008, "not available"), Close(3508, "not available");
    /// The client's token has expired.
    Expired "expired" Server, Close(3000, "expired"), Close(3005, "connection expired");
    /// The server API ended the connection; the code and the reason are the caller's.
    Disconnected "disconnected" Server,
        Close(3003, "disconnected"), Close(3503, "force disconnect");
    /// The client broke its client protocol.
    BadCommand "bad_command" Server, Close(4400, "bad command"), Close(3501, "bad request");
    /// The client sent a type of message that its route does not take.
    UnsupportedData "unsupported_data" Server,
        Close(1003, "unsupported data"), Close(1003, "unsupported data");
    /// The client sent too many commands.
    Rate "rate" Server, Close(4429, "rate"), Close(3013, "too many requests");
    /// The client sent too many control frames.
    ControlFlood "control_flood" Server, Close(1008, "flood"), Close(1008, "flood");
    /// Publications were lost for this client.
    PositionLost "position_lost" Server,
        Close(4010, "position lost"), Close(3010, "insufficient state");
    /// The broker cannot be reached.
    BrokerLost "broker_lost" Server, Close(1013, "broker unavailable"), Close(3004, "internal");
    /// A fault of this gateway.
    Internal "internal" Server, Close(1011, "internal"), Close(3004, "internal");
}

impl Cause {
    /// Every cause: first those that are no protocol errors, in the order of the enum.
    pub const ALL: &[Self] = &{
        let mut all = [Self::ClientClose; PLAIN.len() + ProtocolError::ALL.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = if at < PLAIN.len() {
                PLAIN[at]
            } else {
                Self::Broken(ProtocolError::ALL[at - PLAIN.len()])
            };
            at += 1;
        }
        all
    };

    /// The causes for which nothing ends yet: what leads to them is not built. They are here
    /// so that labels, documents and pages know them from the start; `tests/catalogue.rs`
    /// holds this list to the code.
    pub const UNREACHED: &[Self] = &[Self::Forbidden, Self::Expired];
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
    match cause.word(protocol) {
        Word::Nothing => None,
        Word::Close(code, reason) => Some(Farewell { code, reason: reason.into() }),
        Word::Restart => {
            let (from, to) = (drain.retry_ms.start(), drain.retry_ms.end());
            let reason = format!("restart retry_ms={from}-{to}");
            Some(Farewell { code: drain.code, reason: reason.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;

    use super::*;

    type Told = Option<(u16, &'static str)>;

    const fn told(code: u16, reason: &'static str) -> Told {
        Some((code, reason))
    }

    /// Label, initiator, what raw and echo clients are told, what Centrifugo clients are told.
    #[rustfmt::skip] // One cause, one line.
    const ROWS: [(&str, Initiator, Told, Told); 52] = [
        ("client_close", Initiator::Client, None, None),
        ("client_gone", Initiator::Transport, None, None),
        ("reset", Initiator::Transport, None, None),
        ("tcp_timeout", Initiator::Transport, None, None),
        ("broken_pipe", Initiator::Transport, None, None),
        ("unreachable", Initiator::Transport, None, None),
        ("transport_error", Initiator::Transport, None, None),
        ("tls_truncated", Initiator::Transport, None, None),
        ("tls_alert", Initiator::Transport, None, None),
        ("tls_failed", Initiator::Server, None, None),
        ("tls_timeout", Initiator::Server, None, None),
        ("proxy_header", Initiator::Server, None, None),
        ("head_timeout", Initiator::Server, None, None),
        ("refused", Initiator::Server, None, None),
        ("page", Initiator::Server, None, None),
        ("drain", Initiator::Server, told(1012, "restart retry_ms=500-20000"), told(3001, "shutdown")),
        ("shed", Initiator::Server, told(1013, "try again later"), told(3013, "too many requests")),
        ("slow_stalled", Initiator::Server, told(4008, "slow"), told(3008, "slow")),
        ("slow_full", Initiator::Server, told(4008, "slow"), told(3008, "slow")),
        ("slow_behind", Initiator::Server, told(4008, "slow"), told(3008, "slow")),
        ("ping_timeout", Initiator::Server, told(3008, "ping timeout"), told(3012, "no pong")),
        ("idle", Initiator::Server, told(3008, "idle"), told(3502, "stale")),
        ("message_timeout", Initiator::Server, told(3008, "idle"), told(3502, "stale")),
        ("connect_timeout", Initiator::Server, told(3008, "idle"), told(3502, "stale")),
        ("unauthorized", Initiator::Server, told(3000, "unauthorized"), told(3500, "invalid token")),
        ("forbidden", Initiator::Server, told(3003, "forbidden"), told(3507, "permission denied")),
        ("publish_denied", Initiator::Server, told(1008, "publish denied"), told(3507, "permission denied")),
        ("not_available", Initiator::Server, told(1008, "not available"), told(3508, "not available")),
        ("expired", Initiator::Server, told(3000, "expired"), told(3005, "connection expired")),
        ("disconnected", Initiator::Server, told(3003, "disconnected"), told(3503, "force disconnect")),
        ("bad_command", Initiator::Server, told(4400, "bad command"), told(3501, "bad request")),
        ("unsupported_data", Initiator::Server, told(1003, "unsupported data"), told(1003, "unsupported data")),
        ("rate", Initiator::Server, told(4429, "rate"), told(3013, "too many requests")),
        ("control_flood", Initiator::Server, told(1008, "flood"), told(1008, "flood")),
        ("position_lost", Initiator::Server, told(4010, "position lost"), told(3010, "insufficient state")),
        ("broker_lost", Initiator::Server, told(1013, "broker unavailable"), told(3004, "internal")),
        ("internal", Initiator::Server, told(1011, "internal"), told(3004, "internal")),
        ("unmasked_client_frame", Initiator::Server, told(1002, "unmasked_client_frame"), told(1002, "unmasked_client_frame")),
        ("reserved_bit_set", Initiator::Server, told(1002, "reserved_bit_set"), told(1002, "reserved_bit_set")),
        ("unknown_opcode", Initiator::Server, told(1002, "unknown_opcode"), told(1002, "unknown_opcode")),
        ("length_not_minimal", Initiator::Server, told(1002, "length_not_minimal"), told(1002, "length_not_minimal")),
        ("length_top_bit_set", Initiator::Server, told(1002, "length_top_bit_set"), told(1002, "length_top_bit_set")),
        ("control_too_long", Initiator::Server, told(1002, "control_too_long"), told(1002, "control_too_long")),
        ("control_fragmented", Initiator::Server, told(1002, "control_fragmented"), told(1002, "control_fragmented")),
        ("unexpected_continuation", Initiator::Server, told(1002, "unexpected_continuation"), told(1002, "unexpected_continuation")),
        ("expected_continuation", Initiator::Server, told(1002, "expected_continuation"), told(1002, "expected_continuation")),
        ("bad_close_length", Initiator::Server, told(1002, "bad_close_length"), told(1002, "bad_close_length")),
        ("bad_close_code", Initiator::Server, told(1002, "bad_close_code"), told(1002, "bad_close_code")),
        ("invalid_utf8", Initiator::Server, told(1007, "invalid_utf8"), told(1007, "invalid_utf8")),
        ("bad_deflate", Initiator::Server, told(1007, "bad_deflate"), told(1007, "bad_deflate")),
        ("too_big", Initiator::Server, told(1009, "too_big"), told(1009, "too_big")),
        ("too_many_fragments", Initiator::Server, told(1008, "too_many_fragments"), told(1008, "too_many_fragments")),
    ];

    #[test]
    fn every_cause_is_told_as_the_table_says() {
        assert_eq!(Cause::ALL.len(), ROWS.len());
        for (&cause, (label, initiator, plain, centrifuge)) in Cause::ALL.iter().zip(ROWS) {
            assert_eq!((cause.label(), cause.initiator()), (label, initiator));
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
        for &cause in Cause::ALL {
            for &protocol in Protocol::ALL {
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
    fn every_cause_is_one_byte_and_listed_once_with_a_sentence() {
        assert_eq!(size_of::<Cause>(), 1);
        let distinct: HashSet<_> = Cause::ALL.iter().collect();
        assert_eq!(distinct.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            let meaning = cause.meaning();
            assert!(meaning.ends_with('.') && !meaning.contains("  "), "{meaning:?}");
        }
        assert!(Cause::UNREACHED.iter().all(|cause| distinct.contains(cause)));
    }

    #[test]
    fn protocols_and_initiators_have_labels() {
        let labels = [Protocol::Raw, Protocol::Echo, Protocol::Centrifuge].map(Protocol::label);
        assert_eq!(labels, ["raw", "echo", "centrifuge"]);
        let labels: Vec<_> = Initiator::ALL.iter().map(|initiator| initiator.label()).collect();
        assert_eq!(labels, ["client", "server", "transport"]);
    }
}
