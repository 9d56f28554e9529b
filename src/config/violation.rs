//! What is wrong with a configuration, in words for the one who wrote it.

use std::fmt;

/// Where a setting comes from. In the order in which violations are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the text; both count from 1.
    Text {
        /// Line of the key.
        line: usize,
        /// Column of the key, in characters.
        column: usize,
    },
    /// From the command line.
    Override,
    /// Nobody wrote it: it is the default.
    Default,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it is.
    pub place: Place,
    /// The setting, as `section.key`; empty where the text is not TOML.
    pub path: String,
    /// The value as it was written; `None` where it does not matter or is a secret.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Everything that is wrong with one configuration; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations {
    /// Name of the text, normally its path.
    pub origin: String,
    /// In the order of the text.
    pub list: Vec<Violation>,
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.list {
            match violation.place {
                Place::Text { line, column } => write!(f, "{}:{line}:{column}: ", self.origin)?,
                Place::Override => f.write_str("--set: ")?,
                Place::Default => write!(f, "{}: ", self.origin)?,
            }
            f.write_str(&violation.path)?;
            if let Some(value) = &violation.value {
                write!(f, " = {value}")?;
            }
            if !violation.path.is_empty() {
                f.write_str(": ")?;
            }
            writeln!(f, "{}", violation.problem)?;
        }
        match self.list.len() {
            1 => f.write_str("1 problem"),
            n => write!(f, "{n} problems"),
        }
    }
}

impl std::error::Error for Violations {}
