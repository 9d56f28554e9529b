//! What a process uses, as the kernel tells it.

use std::fs;

/// Memory, time and descriptors of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Its number.
    pub(crate) process: u32,
    /// Resident memory.
    pub(crate) memory_kib: u64,
    /// Most resident memory since [`Usage::watch`].
    pub(crate) memory_peak_kib: u64,
    /// Time on processors, of all threads.
    pub(crate) cpu_ns: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let text = line.expect("the kernel tells it").trim_start_matches(':');
            text.trim().trim_end_matches(" kB").parse().expect("it is a number")
        };
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let cpu_ns = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count();
        Self {
            process,
            memory_kib: kib("VmRSS"),
            memory_peak_kib: kib("VmHWM"),
            cpu_ns: cpu_ns.sum(),
            descriptors,
        }
    }

    /// Forgets the highest memory so far; from now on [`Usage::peak_growth_kib`] is about what
    /// follows.
    pub(crate) fn watch(self) -> Self {
        fs::write(format!("/proc/{}/clear_refs", self.process), "5").expect("it is our child");
        self
    }

    /// By how much the memory was at most above this.
    pub(crate) fn peak_growth_kib(self) -> u64 {
        Self::of(self.process).memory_peak_kib.saturating_sub(self.memory_kib)
    }

    /// Time on processors since this.
    pub(crate) fn cpu_ns_since(self) -> u64 {
        Self::of(self.process).cpu_ns - self.cpu_ns
    }
}
