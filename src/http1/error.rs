//! What can be wrong with a request head.

use super::status::Status;

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// More bytes than allowed before the empty line.
    HeadTooLarge,
    /// More header lines than allowed.
    TooManyHeaders,
    /// A line that does not end in CR LF, or a CR inside of a line.
    BadLineEnding,
    /// A control character other than a tab.
    ControlCharacter,
    /// A header line that begins with a space or a tab.
    FoldedHeader,
    /// The first line is not `METHOD target HTTP/1.1`.
    BadRequestLine,
    /// The target is not a path, or holds a `#` or bytes outside of visible ASCII.
    BadTarget,
    /// A `%` without two hexadecimal digits, or escapes that are not UTF-8.
    BadEscape,
    /// A version of HTTP other than 1.1.
    UnsupportedVersion,
    /// A header line that is not `name: value`.
    BadHeader,
    /// No `Host` header.
    HostMissing,
    /// A `Host` header that is empty or not a host with an optional port.
    BadHost,
    /// A header that may stand once stands twice.
    HeaderRepeated,
    /// A `Transfer-Encoding` header.
    TransferEncoding,
    /// A `Content-Length` that is not a decimal number.
    BadContentLength,
    /// A GET that announces a body.
    BodyNotAllowed,
    /// A method other than GET where only GET is served.
    MethodNotAllowed,
}

impl HeadError {
    /// Every error.
    pub const ALL: &[Self] = &[
        Self::HeadTooLarge,
        Self::TooManyHeaders,
        Self::BadLineEnding,
        Self::ControlCharacter,
        Self::FoldedHeader,
        Self::BadRequestLine,
        Self::BadTarget,
        Self::BadEscape,
        Self::UnsupportedVersion,
        Self::BadHeader,
        Self::HostMissing,
        Self::BadHost,
        Self::HeaderRepeated,
        Self::TransferEncoding,
        Self::BadContentLength,
        Self::BodyNotAllowed,
        Self::MethodNotAllowed,
    ];

    /// The status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => Status::HeadTooLarge,
            Self::BadLineEnding
            | Self::ControlCharacter
            | Self::FoldedHeader
            | Self::BadRequestLine
            | Self::BadTarget
            | Self::BadEscape
            | Self::BadHeader
            | Self::HostMissing
            | Self::BadHost
            | Self::HeaderRepeated
            | Self::TransferEncoding
            | Self::BadContentLength
            | Self::BodyNotAllowed => Status::BadRequest,
            Self::UnsupportedVersion => Status::VersionNotSupported,
            Self::MethodNotAllowed => Status::MethodNotAllowed,
        }
    }

    /// A name for logs and metric labels.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::BadLineEnding => "bad_line_ending",
            Self::ControlCharacter => "control_character",
            Self::FoldedHeader => "folded_header",
            Self::BadRequestLine => "bad_request_line",
            Self::BadTarget => "bad_target",
            Self::BadEscape => "bad_escape",
            Self::UnsupportedVersion => "unsupported_version",
            Self::BadHeader => "bad_header",
            Self::HostMissing => "host_missing",
            Self::BadHost => "bad_host",
            Self::HeaderRepeated => "header_repeated",
            Self::TransferEncoding => "transfer_encoding",
            Self::BadContentLength => "bad_content_length",
            Self::BodyNotAllowed => "body_not_allowed",
            Self::MethodNotAllowed => "method_not_allowed",
        }
    }

    /// One line for the person at the other end: what is wrong and what would be right.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "The request head is too large. Send fewer or shorter headers.",
            Self::TooManyHeaders => "The request has too many headers. Send fewer.",
            Self::BadLineEnding => "A line of the request head does not end in CR LF.",
            Self::ControlCharacter => "The request head contains a control character.",
            Self::FoldedHeader => "A header line begins with a space. Put each header on one line.",
            Self::BadRequestLine => "The first line must be: METHOD /path HTTP/1.1",
            Self::BadTarget => "The request target must be a path in visible ASCII without '#'.",
            Self::BadEscape => "The path or query has a bad % escape. Escape UTF-8 as %XX.",
            Self::UnsupportedVersion => "This server speaks HTTP/1.1 only.",
            Self::BadHeader => "A header line is malformed. Write it as 'Name: value'.",
            Self::HostMissing => "The Host header is missing.",
            Self::BadHost => "The Host header must be a host name with an optional port.",
            Self::HeaderRepeated => "A header that may be sent once was sent twice.",
            Self::TransferEncoding => "Transfer-Encoding is not supported. Use Content-Length.",
            Self::BadContentLength => "Content-Length must be a decimal number.",
            Self::BodyNotAllowed => "A GET request must not have a body.",
            Self::MethodNotAllowed => "This path answers GET only.",
        }
    }
}
