//! What a client can do wrong on an open connection.

use super::close::CloseCode;

/// Why a connection must fail (RFC 6455 §7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// A frame of the client without a mask.
    UnmaskedClientFrame,
    /// A reserved bit that no extension gave a meaning to.
    ReservedBitSet,
    /// An opcode without a meaning.
    UnknownOpcode,
    /// A payload length in more bytes than it needs.
    LengthNotMinimal,
    /// A 64-bit payload length with its highest bit set.
    LengthTopBitSet,
    /// A control frame with more than 125 bytes.
    ControlTooLong,
    /// A control frame in fragments.
    ControlFragmented,
    /// A continuation without a message to continue.
    UnexpectedContinuation,
    /// A new message before the last one has ended.
    ExpectedContinuation,
    /// A Close frame with one byte of payload.
    BadCloseLength,
    /// A Close frame with a code that may not be sent.
    BadCloseCode,
    /// Text, or the reason of a Close, that is not UTF-8.
    InvalidUtf8,
    /// A message with more bytes than allowed.
    MessageTooBig,
    /// A message in more fragments than allowed.
    TooManyFragments,
    /// A compressed message that cannot be inflated.
    BadDeflate,
}

impl ProtocolError {
    /// The code that fails the connection.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::UnmaskedClientFrame
            | Self::ReservedBitSet
            | Self::UnknownOpcode
            | Self::LengthNotMinimal
            | Self::LengthTopBitSet
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::BadCloseLength
            | Self::BadCloseCode => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::BadDeflate => CloseCode::INVALID_PAYLOAD,
            Self::TooManyFragments => CloseCode::POLICY_VIOLATION,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// A name for logs and metric labels.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnmaskedClientFrame => "unmasked_client_frame",
            Self::ReservedBitSet => "reserved_bit_set",
            Self::UnknownOpcode => "unknown_opcode",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthTopBitSet => "length_top_bit_set",
            Self::ControlTooLong => "control_too_long",
            Self::ControlFragmented => "control_fragmented",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
            Self::BadCloseLength => "bad_close_length",
            Self::BadCloseCode => "bad_close_code",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::BadDeflate => "bad_deflate",
        }
    }
}
