//! What the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Descriptors kept for everything that is not a client: rings, listeners, operators, logs.
const DESCRIPTORS_RESERVED: u64 = 256;

/// Raises the soft limit of open files to the hard one; returns it.
pub(super) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// Keeps the kernel from backing memory with huge pages: connections come and go in small pieces, and
/// a page of 2 MiB stays resident for the sake of any one of them.
pub(super) fn refuse_huge_pages() {
    // Kernels built without huge pages refuse, and need no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// How many clients there can be with `open_files` descriptors: at most 95 % of them, and a reserve
/// stays.
pub(super) fn connections_possible(open_files: u64) -> usize {
    let possible = (open_files / 20 * 19).min(open_files.saturating_sub(DESCRIPTORS_RESERVED));
    usize::try_from(possible).unwrap_or(usize::MAX).max(1)
}

/// Makes the process's table of descriptors large enough for `connections` at once.
///
/// It would grow by itself, but each time it doubles in a process of several threads the kernel waits
/// for all of them (`synchronize_rcu`), and so do clients that connect just then.
pub(super) fn widen_descriptor_table(connections: usize) {
    let wanted =
        u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS_RESERVED);
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = wanted.min(open_files).saturating_sub(1);
    // A number beyond the limit is refused; then the table grows as it is needed.
    let _ =
        i32::try_from(last).map(|last| rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last));
}

/// The CPUs that this process may use, in order.
pub(super) fn usable_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// Binds the calling thread to one CPU; returns whether the kernel agreed.
pub(super) fn pin(cpu: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_a_twentieth_and_a_reserve_of_the_descriptors() {
        assert_eq!(connections_possible(20_000), 19_000);
        assert_eq!(connections_possible(1024), 768);
        assert_eq!(connections_possible(64), 1);
    }
}
