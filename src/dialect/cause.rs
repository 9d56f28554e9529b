//! Why a connection ends, and what each client protocol is told about it.

/// The cause of an end; exactly one for each connection. Also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The client sent Close first.
    ClientClose,
    /// FIN without Close.
    ClientGone,
    /// RST or another failure of the transport.
    Reset,
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
