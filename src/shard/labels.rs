//! The label values of the shards' metrics.

use crate::conn;
use crate::conn::guest::Unheard;
use crate::conn::tls::failure::Failure;
use crate::conn::tls::session::Resumption;
use crate::conn::tls::terms::Version;
use crate::dialect::cause::{Cause, Protocol};
use crate::metrics::label::{Label, Vocabulary};

/// The labels of a shard.
#[derive(Debug)]
pub enum Labels {}

impl Vocabulary for Labels {
    type Protocol = Protocol;
    type Cause = Cause;
    type RefusalReason = RefusalReason;
    type PauseReason = PauseReason;
    type TlsVersion = Version;
    type TlsResumption = Resumption;
    type TlsFailure = Failure;
    type UnheardReason = Unheard;

    fn initiator(cause: usize) -> &'static str {
        Cause::ALL[cause].initiator().label()
    }
}

impl Label for Protocol {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].label()
    }
}

impl Label for Cause {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        let index = Self::ALL.iter().position(|cause| *cause == self);
        index.expect("every cause is listed")
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].label()
    }
}

/// Why a request was refused: one of the reasons that `http1`, `ws` and `conn` know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalReason(usize);

impl RefusalReason {
    /// The label of `reason`, one of [`conn::REFUSAL_REASONS`].
    ///
    /// # Panics
    /// If it is not listed there.
    pub fn of(reason: &str) -> Self {
        let index = conn::REFUSAL_REASONS.iter().position(|text| *text == reason);
        Self(index.expect("every reason is listed"))
    }
}

impl Label for RefusalReason {
    const COUNT: usize = conn::REFUSAL_REASONS.len();

    fn index(self) -> usize {
        self.0
    }

    fn text(index: usize) -> &'static str {
        conn::REFUSAL_REASONS[index]
    }
}

impl Label for Unheard {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        Unheard::index(self)
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].reason()
    }
}

/// Why a shard stopped accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The process or the system has no descriptor left.
    Descriptors,
    /// The kernel ended it for another reason.
    Kernel,
    /// Memory is short.
    Memory,
}

impl Label for PauseReason {
    const COUNT: usize = 3;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["fd", "kernel", "memory"][index]
    }
}

impl Label for Version {
    const COUNT: usize = 2;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["1.2", "1.3"][index]
    }
}

impl Label for Resumption {
    const COUNT: usize = 2;

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        ["false", "true"][index]
    }
}

impl Label for Failure {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        Self::ALL[index].label()
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;

    use super::*;

    fn assert_distinct<L: Label>() {
        let texts: HashSet<_> = (0..L::COUNT).map(L::text).collect();
        assert_eq!(texts.len(), L::COUNT, "{texts:?}");
        for text in texts {
            assert!(!text.is_empty());
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            );
        }
    }

    #[test]
    fn the_values_of_a_label_are_distinct_words() {
        assert_distinct::<Protocol>();
        assert_distinct::<Cause>();
        assert_distinct::<RefusalReason>();
        assert_distinct::<PauseReason>();
        assert_distinct::<Resumption>();
        assert_distinct::<Failure>();
        assert_distinct::<Unheard>();
    }

    #[test]
    fn every_value_has_its_own_text() {
        for &cause in Cause::ALL {
            assert_eq!(Cause::text(cause.index()), cause.label());
        }
        for &protocol in Protocol::ALL {
            assert_eq!(Protocol::text(protocol.index()), protocol.label());
        }
        for &failure in Failure::ALL {
            assert_eq!(Failure::text(failure.index()), failure.label());
        }
        assert_eq!(
            [Version::Tls12, Version::Tls13].map(|v| Version::text(v.index())),
            ["1.2", "1.3"]
        );
        assert_eq!(Resumption::text(Resumption::Resumed.index()), "true");
        let initiators = [Cause::ClientClose, Cause::Reset, Cause::Drain]
            .map(|cause| Labels::initiator(cause.index()));
        assert_eq!(initiators, ["client", "transport", "server"]);
        assert_eq!(PauseReason::text(PauseReason::Descriptors.index()), "fd");
        assert_eq!(PauseReason::text(PauseReason::Kernel.index()), "kernel");
    }

    #[test]
    fn every_listed_reason_finds_itself() {
        for reason in conn::REFUSAL_REASONS {
            assert_eq!(RefusalReason::text(RefusalReason::of(reason).index()), reason);
        }
    }
}
