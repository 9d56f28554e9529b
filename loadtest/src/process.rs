//! What the kernel says about processes: processor time, memory, open files.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process and those that it started have used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time so far, in microseconds.
    pub(crate) processor_micros: u64,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
}

/// What process `pid` and its living descendants have used; `None`: no such process, or not ours to
/// look at.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let mut sum = of_one(pid)?;
    for child in descendants(pid) {
        // It may have ended since it was listed.
        if let Some(one) = of_one(child) {
            sum.processor_micros += one.processor_micros;
            sum.resident_bytes += one.resident_bytes;
        }
    }
    Some(sum)
}

/// User and system time of this process so far, in microseconds.
pub(crate) fn own_processor_micros() -> u64 {
    of_one(std::process::id()).map_or(0, |own| own.processor_micros)
}

/// What the kernel holds for all sockets and files of the machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelMemory {
    /// Sockets, files, entries of epoll and the like.
    pub(crate) slab_bytes: u64,
    /// What waits in TCP sockets to be sent or read.
    pub(crate) tcp_bytes: u64,
}

/// What the kernel holds now.
pub(crate) fn kernel_memory() -> KernelMemory {
    let slab = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kibibytes(&text, "Slab:"));
    let tcp = fs::read_to_string("/proc/net/sockstat").ok().and_then(|text| tcp_pages(&text));
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    KernelMemory { slab_bytes: slab.unwrap_or(0), tcp_bytes: tcp.unwrap_or(0) * page }
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

fn of_one(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let ticks = ticks(&stat)?;
    Some(Usage {
        processor_micros: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(),
        // A process that is ending has no memory any more.
        resident_bytes: kibibytes(&rollup, "Rss:").unwrap_or(0),
    })
}

/// All living processes that descend from `pid`.
fn descendants(pid: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let parents: Vec<(u32, u32)> = all
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        at += 1;
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
    }
    found.split_off(1)
}

/// The fields of a stat line behind the name (2), which may hold blanks and brackets.
fn behind_name(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace())
}

/// The parent in a stat line. Source: proc_pid_stat(5), field 4.
fn parent(stat: &str) -> Option<u32> {
    behind_name(stat)?.nth(1)?.parse().ok()
}

/// `utime + stime` of a stat line. Source: proc_pid_stat(5), fields 14 and 15.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = behind_name(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line `NAME N kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Pages that TCP sockets hold. Source: the `mem` of the line `TCP:` in /proc/net/sockstat.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
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
    fn memory_is_in_bytes() {
        let rollup = "55-7f ---p 00000000 00:00 0 [rollup]\nRss:    12 kB\nPss:    9 kB\n";
        assert_eq!(kibibytes(rollup, "Rss:"), Some(12_288));
        let sockstat =
            "sockets: used 9\nTCP: inuse 4 orphan 0 tw 0 alloc 6 mem 3\nUDP: inuse 1 mem 7\n";
        assert_eq!(tcp_pages(sockstat), Some(3));
        assert!(kernel_memory().slab_bytes > 0);
    }

    #[test]
    fn this_process_can_be_measured() {
        let own = usage(std::process::id()).unwrap();
        assert!(own.resident_bytes > 100_000);
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn what_a_process_started_counts_as_its_own() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let children = descendants(shell.id());
        assert_eq!(children.len(), 1, "{children:?}");
        let both = usage(shell.id()).unwrap().resident_bytes;
        assert!(both > of_one(shell.id()).unwrap().resident_bytes);
        for pid in [children[0], shell.id()] {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
