//! What the kernel says about processes: processor time, memory, open files.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// User and system time of a process so far, in microseconds; `None`: no such process.
pub(crate) fn processor_micros(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ticks(&stat)? * 1_000_000 / rustix::param::clock_ticks_per_second())
}

/// Resident memory of a process in bytes; `None`: no such process, or not ours to look at.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// Raises the soft limit of open files to the hard one; returns it.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// `utime + stime` of a stat line. Source: proc_pid_stat(5), fields 14 and 15; the name (2) may
/// hold blanks and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a (b) c) R 1 1 1 0 -1 4 10 20 30 40 500 25 9 9 20 0 1 0 3";
        assert_eq!(ticks(stat), Some(525));
        assert_eq!(ticks("7 (cut off) R 1 2"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let rollup = "55-7f ---p 00000000 00:00 0 [rollup]\nRss:    12 kB\nPss:    9 kB\n";
        assert_eq!(resident(rollup), Some(12_288));
    }

    #[test]
    fn this_process_can_be_measured() {
        let own = std::process::id();
        assert!(processor_micros(own).is_some());
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(processor_micros(u32::MAX), None);
    }
}
