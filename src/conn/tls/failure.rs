//! Why TLS came to nothing.

use rustls::Error;

use crate::dialect::cause::Cause;

/// Why a handshake or the records behind it failed. Also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer sent a fatal alert.
    Alert,
    /// What came is not TLS, or its messages are malformed.
    Malformed,
    /// The peer broke the order of the protocol.
    Misbehaved,
    /// No version, cipher or signature suits both sides.
    Incompatible,
    /// The peer wants application protocols that are not served here.
    Alpn,
    /// The certificate of the client is missing or not good.
    ClientCertificate,
    /// A record was changed on its way, or made with other keys.
    BadRecord,
    /// More handshake bytes than a handshake has.
    TooLarge,
    /// The handshake took too long.
    Timeout,
    /// The peer went away during the handshake.
    Gone,
    /// This gateway is going away.
    Drain,
    /// The keys have served for as many records as is safe.
    WornOut,
    /// A fault of ours.
    Internal,
}

impl Failure {
    /// Every failure, in the order of the enum.
    pub const ALL: &[Self] = &[
        Self::Alert,
        Self::Malformed,
        Self::Misbehaved,
        Self::Incompatible,
        Self::Alpn,
        Self::ClientCertificate,
        Self::BadRecord,
        Self::TooLarge,
        Self::Timeout,
        Self::Gone,
        Self::Drain,
        Self::WornOut,
        Self::Internal,
    ];

    /// The value of the metric label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Misbehaved => "misbehaved",
            Self::Incompatible => "incompatible",
            Self::Alpn => "alpn",
            Self::ClientCertificate => "client_certificate",
            Self::BadRecord => "bad_record",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Gone => "gone",
            Self::Drain => "drain",
            Self::WornOut => "worn_out",
            Self::Internal => "internal",
        }
    }
}

impl Failure {
    /// The cause of a connection's end that it is.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Alert => Cause::TlsAlert,
            Self::Timeout => Cause::TlsTimeout,
            Self::Gone => Cause::ClientGone,
            Self::Drain => Cause::Drain,
            Self::Internal => Cause::Internal,
            Self::Malformed
            | Self::Misbehaved
            | Self::Incompatible
            | Self::Alpn
            | Self::ClientCertificate
            | Self::BadRecord
            | Self::TooLarge
            | Self::WornOut => Cause::TlsFailed,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::AlertReceived(_) => Self::Alert,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_) => Self::Misbehaved,
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Self::Malformed,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::NoApplicationProtocol => Self::Alpn,
            Error::NoCertificatesPresented
            | Error::InvalidCertificate(_)
            | Error::UnsupportedNameType
            | Error::InvalidCertRevocationList(_) => Self::ClientCertificate,
            Error::DecryptError => Self::BadRecord,
            _ => Self::Internal,
        }
    }
}
