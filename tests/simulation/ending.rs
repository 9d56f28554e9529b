//! How one connection has ended, as far as its client can know.

use ringway::ring::sim::Tail;

/// What the gateway must answer to a broken rule: code and cause.
pub(crate) type Violation = (u16, &'static str);

/// Reasons that the gateway gives: protocol (empty: any), reason, code, cause as it is [`told`].
const REASONS: [(&str, &str, u16, &str); 31] = [
    ("raw", "slow", 4008, "slow"),
    ("echo", "slow", 4008, "slow"),
    ("centrifuge", "slow", 3008, "slow"),
    ("raw", "ping timeout", 3008, "ping_timeout"),
    ("echo", "ping timeout", 3008, "ping_timeout"),
    ("centrifuge", "no pong", 3012, "ping_timeout"),
    ("raw", "idle", 3008, "idle"),
    ("echo", "idle", 3008, "idle"),
    ("centrifuge", "stale", 3502, "idle"),
    ("raw", "restart retry_ms=500-20000", 1012, "drain"),
    ("echo", "restart retry_ms=500-20000", 1012, "drain"),
    ("centrifuge", "shutdown", 3001, "drain"),
    ("raw", "publish denied", 1008, "publish_denied"),
    ("centrifuge", "bad request", 3501, "bad_command"),
    ("centrifuge", "unsupported data", 1003, "unsupported_data"),
    ("centrifuge", "bye", 3999, "disconnected"),
    ("", "unmasked_client_frame", 1002, "unmasked_client_frame"),
    ("", "reserved_bit_set", 1002, "reserved_bit_set"),
    ("", "unexpected_continuation", 1002, "unexpected_continuation"),
    ("", "unknown_opcode", 1002, "unknown_opcode"),
    ("", "expected_continuation", 1002, "expected_continuation"),
    ("", "control_fragmented", 1002, "control_fragmented"),
    ("", "control_too_long", 1002, "control_too_long"),
    ("", "length_not_minimal", 1002, "length_not_minimal"),
    ("", "length_top_bit_set", 1002, "length_top_bit_set"),
    ("", "bad_close_length", 1002, "bad_close_length"),
    ("", "bad_close_code", 1002, "bad_close_code"),
    ("", "invalid_utf8", 1007, "invalid_utf8"),
    ("", "bad_deflate", 1007, "bad_deflate"),
    ("", "too_big", 1009, "too_big"),
    ("", "flood", 1008, "control_flood"),
];

/// Causes that can come between a client and what it deserves.
const INTERVENING: [&str; 6] =
    ["slow", "ping_timeout", "idle", "drain", "disconnected", "control_flood"];

/// The cause as far as a client is told.
pub(crate) fn told(cause: &'static str) -> &'static str {
    match cause {
        "slow_full" | "slow_behind" | "slow_stalled" => "slow",
        "message_timeout" | "connect_timeout" => "idle",
        cause => cause,
    }
}

/// What is known about the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was never upgraded.
    NotUpgraded,
    /// It may have been upgraded, and ended for whatever cause.
    Nothing,
    /// It was upgraded, and ended for whatever cause.
    Upgraded,
    /// It was upgraded, and this ended it.
    Cause(&'static str),
}

#[derive(Debug)]
pub(crate) struct Ending {
    protocol: &'static str,
    pub(crate) upgraded: bool,
    refused: bool,
    /// It never finishes its request.
    pub(crate) is_mute: bool,
    pub(crate) said_close: Option<u16>,
    pub(crate) wants_fin: bool,
    pub(crate) said_fin: bool,
    was_reset: bool,
    violation: Option<Violation>,
    stuck: bool,
    pub(crate) garbage: bool,
    heard: Option<Option<(u16, String)>>,
    tail: Option<Tail>,
}

impl Ending {
    pub(crate) fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            upgraded: false,
            refused: false,
            is_mute: false,
            said_close: None,
            wants_fin: false,
            said_fin: false,
            was_reset: false,
            violation: None,
            stuck: false,
            garbage: false,
            heard: None,
            tail: None,
        }
    }

    /// Whether either side has begun to end it.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_said_last_word() || self.heard.is_some() || self.is_over()
    }

    /// Whether the client will send no more messages.
    pub(crate) fn has_said_last_word(&self) -> bool {
        self.said_close.is_some()
            || self.wants_fin
            || self.violation.is_some()
            || self.stuck
            || self.garbage
    }

    /// Whether nothing more can come.
    pub(crate) fn is_over(&self) -> bool {
        self.was_reset || self.tail.is_some()
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.upgraded = status == 101;
        self.refused = status != 101;
        // Whoever is refused has nothing left to say.
        self.wants_fin |= self.refused;
    }

    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation = Some(violation);
    }

    /// What the gateway must say to this nobody knows; perhaps nothing, so the client ends itself.
    pub(crate) fn garbage(&mut self) {
        self.garbage = true;
        self.wants_fin = true;
    }

    pub(crate) fn stuck(&mut self) {
        self.stuck = true;
    }

    pub(crate) fn reset(&mut self) {
        self.was_reset = true;
    }

    /// The gateway's Close.
    pub(crate) fn hear_close(&mut self, close: Option<(u16, String)>) {
        match &close {
            Some((code, reason)) if reason.is_empty() => {
                assert_eq!(Some(*code), self.said_close, "an echo of another Close");
            }
            Some((code, reason)) => {
                let cause = self.cause_of(*code, reason);
                let deserved = match self.violation {
                    Some((_, deserved)) => deserved == cause,
                    None => false,
                };
                let may_be = self.garbage || deserved || INTERVENING.contains(&cause);
                assert!(may_be, "closed for {cause}, though {:?}", self.violation);
            }
            None => panic!("a Close without a code, which this client never sent"),
        }
        self.heard = Some(close);
    }

    /// The end of the gateway's side.
    pub(crate) fn end(&mut self, tail: Tail, is_mid_frame: bool) {
        self.tail = Some(tail);
        if tail == Tail::Fin && self.upgraded {
            assert!(!is_mid_frame, "half a frame before FIN");
            let is_told = self.heard.is_some() || self.said_fin;
            assert!(is_told, "the connection ended without a word");
        }
    }

    pub(crate) fn known(&self) -> Known {
        if !self.upgraded {
            let is_told = self.refused || self.tail == Some(Tail::Fin);
            return if is_told { Known::NotUpgraded } else { Known::Nothing };
        }
        match &self.heard {
            Some(Some((_, reason))) if reason.is_empty() => Known::Cause("client_close"),
            Some(Some((code, reason))) => Known::Cause(self.cause_of(*code, reason)),
            Some(None) => Known::Upgraded,
            None if self.tail == Some(Tail::Fin) && self.said_close.is_none() => {
                Known::Cause("client_gone")
            }
            None => Known::Upgraded,
        }
    }

    fn cause_of(&self, code: u16, reason: &str) -> &'static str {
        let row = REASONS.iter().find(|(protocol, text, number, _)| {
            (protocol.is_empty() || *protocol == self.protocol)
                && (*text, *number) == (reason, code)
        });
        row.unwrap_or_else(|| panic!("{} was told {code} {reason:?}", self.protocol)).3
    }
}
