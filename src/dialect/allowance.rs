//! How many commands a client may send: publications of raw clients, lines of Centrifugo clients.

use std::time::Instant;

use crate::auth::rate::{Meter, Rate};

/// A client that is refused this often in a row does not listen.
const REFUSED_MAX: u32 = 100;

/// What one client has used up. A client that never sends owns no memory for it.
#[derive(Debug, Default)]
pub struct Allowance(Option<Box<Used>>);

#[derive(Debug)]
struct Used {
    meter: Meter,
    /// Commands refused since the last that was not.
    refused: u32,
}

/// Whether a command may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Granted,
    /// It comes too soon.
    Refused,
    /// It comes too soon, as so many before: the client does not listen.
    Flood,
}

impl Allowance {
    /// Counts a command at `now`; without a `rate` there is no limit.
    pub fn take(&mut self, now: Instant, rate: Option<Rate>) -> Verdict {
        let Some(rate) = rate else { return Verdict::Granted };
        let fresh = || Box::new(Used { meter: Meter::new(now), refused: 0 });
        let used = self.0.get_or_insert_with(fresh);
        if used.meter.admit(now, rate) {
            used.refused = 0;
            return Verdict::Granted;
        }
        used.refused += 1;
        if used.refused < REFUSED_MAX { Verdict::Refused } else { Verdict::Flood }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<Used>())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn whoever_does_not_listen_is_told_apart_from_whoever_is_a_little_fast() {
        let (mut now, rate) = (Instant::now(), Some(Rate::new(10, 5)));
        let mut allowance = Allowance::default();
        assert_eq!(allowance.take(now, None), Verdict::Granted);
        assert_eq!(allowance.heap_bytes(), 0);
        assert!((0..5).all(|_| allowance.take(now, rate) == Verdict::Granted));
        assert!((0..99).all(|_| allowance.take(now, rate) == Verdict::Refused));
        assert_eq!(allowance.take(now, rate), Verdict::Flood);
        // Half of what it sends is too much, but it waits in between.
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            assert_eq!(allowance.take(now, rate), Verdict::Granted);
            assert_eq!(allowance.take(now, rate), Verdict::Refused);
        }
    }
}
