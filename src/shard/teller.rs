//! What the log says about ends of connections.

use std::time::{Duration, Instant};

use crate::mail::close::{Close, Kind};

/// Lines are counted anew after this.
const PERIOD: Duration = Duration::from_secs(1);

/// Which ends are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Abnormal ones in one second; of more only the number is told. 0: none.
    pub abnormal_max: u32,
    /// All that are written down.
    pub all: bool,
}

/// Tells of ends, and of how many it has said nothing about.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// When the first line of the current period was told, and how many were.
    period: Option<(Instant, u32)>,
    untold: u64,
}

impl Teller {
    /// Tells of an end, if it is wanted and there is room for it.
    pub(super) fn tell(&mut self, close: &Close, settings: Settings) {
        let is_abnormal = close.kind == Kind::Abnormal;
        if settings.all || is_abnormal && self.has_room(close.at, settings) {
            tell(close);
        }
    }

    /// An end was not even written down.
    pub(super) fn pass_over(&mut self, kind: Kind, now: Instant, settings: Settings) {
        if kind == Kind::Abnormal && settings.abnormal_max > 0 {
            self.period.get_or_insert((now, 0));
            self.untold += 1;
        }
    }

    /// When [`Teller::settle`] is to be called; `None`: there is nothing to be told.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.period.filter(|_| self.untold > 0).map(|(began, _)| began + PERIOD)
    }

    /// Says how many were left out, once the period is over.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            let suppressed = std::mem::take(&mut self.untold);
            tracing::info!(suppressed, "more connections have ended abnormally: see /closes");
            self.period = None;
        }
    }

    fn has_room(&mut self, now: Instant, settings: Settings) -> bool {
        if settings.abnormal_max == 0 {
            return false;
        }
        self.settle(now);
        let (began, told) = self.period.unwrap_or((now, 0));
        let (began, told) = if now >= began + PERIOD { (now, 0) } else { (began, told) };
        let has_room = told < settings.abnormal_max;
        self.untold += u64::from(!has_room);
        self.period = Some((began, told + u32::from(has_room)));
        has_room
    }
}

/// Whatever a client has written itself is shown in quotes.
fn tell(close: &Close) {
    let abnormal = close.kind == Kind::Abnormal;
    tracing::info!(
        target: "ringway::access",
        abnormal,
        cause = close.cause,
        code = close.code,
        by = close.initiator,
        protocol = close.protocol,
        client = close.client.as_deref(),
        peer = close.peer.map(tracing::field::display),
        forwarded_for = close.forwarded_for.map(tracing::field::display),
        age_s = close.age.as_secs(),
        sent = close.sent,
        received = close.received,
        received_reason = close.received_reason.as_deref().map(tracing::field::debug),
        topics = close.topics,
        unsent_bytes = close.unsent_bytes,
        "a connection has ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Settings = Settings { abnormal_max: 3, all: false };

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn in_a_second_so_many_are_told_and_of_the_others_the_number() {
        let (began, mut teller) = (start(), Teller::default());
        let told = (0..10).filter(|_| teller.has_room(began, THREE)).count();
        assert_eq!((told, teller.untold), (3, 7));
        teller.pass_over(Kind::Abnormal, began, THREE);
        teller.pass_over(Kind::Orderly, began, THREE);
        assert_eq!((teller.untold, teller.deadline()), (8, Some(began + PERIOD)));
        teller.settle(began + PERIOD / 2);
        assert_eq!(teller.untold, 8);
        teller.settle(began + PERIOD);
        assert_eq!((teller.untold, teller.deadline()), (0, None));
        assert!(teller.has_room(began + PERIOD, THREE));
    }

    #[test]
    fn nothing_is_told_or_counted_where_nothing_is_wanted() {
        let (began, mut teller) = (start(), Teller::default());
        let none = Settings::default();
        assert!(!teller.has_room(began, none));
        teller.pass_over(Kind::Abnormal, began, none);
        assert_eq!((teller.untold, teller.deadline()), (0, None));
    }
}
