//! What the process leaves behind.

use std::fmt;

/// Why the process could not start or had to end. Shown as one line.
#[derive(Debug)]
pub enum Failure {
    /// The configuration, the machine or the kernel is not fit for it.
    Unfit(String),
    /// A fault of ours.
    Internal(String),
    /// The answer of a gateway that was asked is no, or there is none.
    No(String),
}

/// Exit code after a wrong command line (EX_USAGE of sysexits.h).
pub const USAGE: u8 = 64;

impl Failure {
    /// The exit code: 78 (EX_CONFIG) or 70 (EX_SOFTWARE), as sysexits.h names them, or 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unfit(_) => 78,
            Self::Internal(_) => 70,
            Self::No(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(text) | Self::No(text) => f.write_str(text),
            Self::Internal(text) => write!(f, "internal error: {text}"),
        }
    }
}
