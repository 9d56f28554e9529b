//! The status codes this server answers with.

/// Status code of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 101: the connection speaks WebSocket from here.
    SwitchingProtocols,
    /// 200
    Ok,
    /// 400: the request breaks the grammar or a rule of HTTP or RFC 6455.
    BadRequest,
    /// 401: no or no valid credentials.
    Unauthorized,
    /// 403: an Origin or address that is not allowed.
    Forbidden,
    /// 404: nothing lives at this path.
    NotFound,
    /// 405: the path exists, but not for this method.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 413: the body is larger than allowed.
    ContentTooLarge,
    /// 426: the path speaks WebSocket version 13 only.
    UpgradeRequired,
    /// 429: too many attempts.
    TooManyRequests,
    /// 431: the head is larger than allowed.
    HeadTooLarge,
    /// 500: our fault.
    InternalError,
    /// 503: no room at the moment.
    Unavailable,
    /// 505: not HTTP/1.1.
    VersionNotSupported,
}

impl Status {
    /// The three digits.
    pub const fn code(self) -> u16 {
        match self {
            Self::SwitchingProtocols => 101,
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::UpgradeRequired => 426,
            Self::TooManyRequests => 429,
            Self::HeadTooLarge => 431,
            Self::InternalError => 500,
            Self::Unavailable => 503,
            Self::VersionNotSupported => 505,
        }
    }

    /// The registered phrase behind the digits.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::SwitchingProtocols => "Switching Protocols",
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::ContentTooLarge => "Content Too Large",
            Self::UpgradeRequired => "Upgrade Required",
            Self::TooManyRequests => "Too Many Requests",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::InternalError => "Internal Server Error",
            Self::Unavailable => "Service Unavailable",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}
