//! What the socket of a connection is to do.

/// What the socket is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Read and write.
    Talking,
    /// Write what is queued, then FIN; read on.
    LastWords,
    /// Close.
    Over(Leave),
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// With FIN.
    Fin,
    /// With RST.
    Reset,
}
