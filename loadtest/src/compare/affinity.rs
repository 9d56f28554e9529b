//! Sets of CPUs, and who runs on them.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpus(Vec<usize>);

impl Cpus {
    /// Those that this thread may use.
    pub(super) fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        Ok(Self((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()))
    }

    /// Lets this thread, and the threads and processes that it starts, run on these only.
    pub(super) fn take(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|cpu| set.set(*cpu));
        sched_setaffinity(None, &set).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("CPUs {self}: {error}"))
        })
    }

    /// The first of them.
    pub(super) fn first(&self) -> Self {
        self.truncated(1)
    }

    /// Those that are not in the other set.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().copied().filter(|cpu| !other.0.contains(cpu)).collect())
    }

    /// At most `count` of them.
    pub(super) fn truncated(&self, count: usize) -> Self {
        Self(self.0.iter().copied().take(count).collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Cpus {
    type Err = String;

    /// Reads numbers and ranges with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                let number = text.parse().ok().filter(|cpu: &usize| *cpu < CpuSet::MAX_CPU);
                number.ok_or_else(|| format!("{text} is not the number of a CPU"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part} ends before it begins"));
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self(cpus))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        out.write_str(&numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let cpus: Cpus = "4,0-2,1".parse().unwrap();
        assert_eq!(cpus.to_string(), "0,1,2,4");
        assert_eq!(cpus.without(&"1-3".parse().unwrap()).to_string(), "0,4");
        assert_eq!(cpus.first().to_string(), "0");
        for wrong in ["", "x", "2-1", "1,,2", "99999"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_thread_runs_where_it_was_put() {
        let allowed = Cpus::allowed().unwrap();
        std::thread::spawn(move || {
            allowed.first().take().unwrap();
            assert_eq!(Cpus::allowed().unwrap(), allowed.first());
        })
        .join()
        .unwrap();
    }
}
