//! Errors that a reply can carry.

use crate::dialect::Refusal;

/// What went wrong with one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// A fault or a shortage of ours; it may work later.
    Internal,
    /// The channel belongs to no namespace.
    UnknownChannel,
    /// The namespace or the hub does not allow it.
    PermissionDenied,
    /// The channel is subscribed already.
    AlreadySubscribed,
    /// Too many of something.
    LimitExceeded,
    /// A name or a value that cannot be used.
    BadRequest,
    /// Not offered here.
    NotAvailable,
    /// Too many commands; it works a little later.
    TooManyRequests,
    /// The history no longer reaches back to the position.
    UnrecoverablePosition,
}

impl ErrorCode {
    /// The number that clients know it by.
    pub const fn code(self) -> u16 {
        match self {
            Self::Internal => 100,
            Self::UnknownChannel => 102,
            Self::PermissionDenied => 103,
            Self::AlreadySubscribed => 105,
            Self::LimitExceeded => 106,
            Self::BadRequest => 107,
            Self::NotAvailable => 108,
            Self::TooManyRequests => 111,
            Self::UnrecoverablePosition => 112,
        }
    }

    /// The text that developers read.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Whether clients should try again by themselves.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AlreadySubscribed => Self::AlreadySubscribed,
            Refusal::LimitExceeded => Self::LimitExceeded,
            Refusal::Forbidden => Self::PermissionDenied,
            Refusal::UnknownTopic => Self::UnknownChannel,
            Refusal::NotAvailable => Self::NotAvailable,
            Refusal::UnrecoverablePosition => Self::UnrecoverablePosition,
            Refusal::TryAgain => Self::Internal,
        }
    }
}
