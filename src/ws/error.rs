//! What a client can do wrong on an open connection.

use super::close::CloseCode;

/// Makes the list below one enum with [`ProtocolError::ALL`] and the facts about each error.
macro_rules! errors {
    ($($(#[doc = $meaning:literal])+ $error:ident $code:ident $reason:literal;)*) => {
        /// Why a connection must fail (RFC 6455 §7.1.7).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProtocolError {
            $($(#[doc = $meaning])+ $error,)*
        }

        impl ProtocolError {
            /// Every error, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$error),*];

            /// The code that fails the connection.
            pub const fn close_code(self) -> CloseCode {
                match self {
                    $(Self::$error => CloseCode::$code,)*
                }
            }

            /// What the Close frame tells; also a name for logs and metric labels.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Self::$error => $reason,)*
                }
            }

            /// One sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$error => concat!($($meaning),+).trim_ascii(),)*
                }
            }
        }
    };
}

errors! {
    /// A frame of the client without a mask.
    UnmaskedClientFrame PROTOCOL_ERROR "unmasked_client_frame";
    /// A reserved bit that no extension gave a meaning to.
    ReservedBitSet PROTOCOL_ERROR "reserved_bit_set";
    /// An opcode without a meaning.
    UnknownOpcode PROTOCOL_ERROR "unknown_opcode";
    /// A payload length in more bytes than it needs.
    LengthNotMinimal PROTOCOL_ERROR "length_not_minimal";
    /// A 64-bit payload length with its highest bit set.
    LengthTopBitSet PROTOCOL_ERROR "length_top_bit_set";
    /// A control frame with more than 125 bytes.
    ControlTooLong PROTOCOL_ERROR "control_too_long";
    /// A control frame in fragments.
    ControlFragmented PROTOCOL_ERROR "control_fragmented";
    /// A continuation without a message to continue.
    UnexpectedContinuation PROTOCOL_ERROR "unexpected_continuation";
    /// A new message before the last one has ended.
    ExpectedContinuation PROTOCOL_ERROR "expected_continuation";
    /// A Close frame with one byte of payload.
    BadCloseLength PROTOCOL_ERROR "bad_close_length";
    /// A Close frame with a code that may not be sent.
    BadCloseCode PROTOCOL_ERROR "bad_close_code";
    /// Text, or the reason of a Close, that is not UTF-8.
    InvalidUtf8 INVALID_PAYLOAD "invalid_utf8";
    /// A compressed message that cannot be inflated (RFC 7692).
    BadDeflate INVALID_PAYLOAD "bad_deflate";
    /// A message with more bytes than allowed.
    MessageTooBig MESSAGE_TOO_BIG "too_big";
    /// A message in more fragments than allowed.
    TooManyFragments POLICY_VIOLATION "too_many_fragments";
}
