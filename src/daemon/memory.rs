//! How much memory the process may use, how much it uses, and what the shards do about it.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::hub::Hub;
use crate::config::Memory;
use crate::mail::message::{Request, Shortage};
use crate::metrics::catalogue::ProcessGauge;
use crate::metrics::ledger::Ledger;
use crate::metrics::{ProcessWriter, Reader};
use crate::shard::labels::Labels;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Percent of the budget above which memory is as short as this.
const ENTER: [(Shortage, u64); 4] =
    [(Shortage::Critical, 95), (Shortage::Severe, 90), (Shortage::Tight, 80), (Shortage::Mild, 70)];

/// A shortage lasts until this many percent less of the budget are used.
const HYSTERESIS: u64 = 5;

/// Above 90 percent clients are closed until this many are used.
const SHED_TO: u64 = 85;

/// Looks from one round of closes to the next: what was freed shows with some delay.
const SHED_PAUSE: u32 = 3;

/// The control group's figures, in its own folder and in those of its parents: usage, limit, what could
/// be dropped at once.
const CGROUPS: [(&str, &str, &str); 2] = [
    ("memory.current", "memory.max", "inactive_file "),
    ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file "),
];

/// What the process may use and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) bytes: u64,
    /// The control group whose limit counts, if one does.
    group: Option<Group>,
}

/// A control group with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    folder: String,
    version: usize,
    limit: u64,
}

impl Budget {
    /// The configured budget, or this share in percent of the control group's limit, or of the
    /// memory of the machine.
    pub(super) async fn find(settings: Memory) -> Self {
        let group = Group::find().await;
        let automatic = match &group {
            Some(group) => group.limit,
            None => machine_bytes(),
        };
        let share = automatic / 100 * u64::from(settings.share);
        Self { bytes: settings.budget.unwrap_or(share), group }
    }

    /// What the system gives at most: the control group's limit, or the memory of the machine.
    pub(super) fn limit(&self) -> u64 {
        self.group.as_ref().map_or_else(machine_bytes, |group| group.limit)
    }

    /// What is used now, beside what the ledgers say: resident memory, and that of the group.
    async fn used(&self) -> (u64, u64) {
        let resident = match read("/proc/self/statm").await {
            Some(text) => {
                let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
                pages.unwrap_or(0) * u64::try_from(rustix::param::page_size()).unwrap_or(4096)
            }
            None => 0,
        };
        // The group is not only ours: what others in it use does not shrink a configured budget.
        match &self.group {
            Some(group) if group.limit >= self.bytes && group.limit / 2 < self.bytes => {
                (resident, group.used().await.unwrap_or(0))
            }
            _ => (resident, 0),
        }
    }
}

impl Group {
    /// The innermost group of this process that has a limit below the machine's memory.
    async fn find() -> Option<Self> {
        let text = read("/proc/self/cgroup").await?;
        for (folder, version) in folders(&text) {
            let text = read(&format!("{folder}/{}", CGROUPS[version].1)).await;
            let limit = text.and_then(|text| parse_limit(&text));
            if let Some(limit) = limit.filter(|limit| *limit < machine_bytes()) {
                return Some(Self { folder, version, limit });
            }
        }
        None
    }

    /// What is used in the group and could not be dropped at once.
    async fn used(&self) -> Option<u64> {
        let (usage, _, inactive) = CGROUPS[self.version];
        let usage = read(&format!("{}/{usage}", self.folder)).await?;
        let stat = read(&format!("{}/memory.stat", self.folder)).await?;
        parse_used(&usage, &stat, inactive)
    }
}

/// Where the memory controller may keep the groups of a process, innermost first, and its version,
/// from 0; `text` is what /proc says of its groups.
///
/// In a container the paths may be those outside, of which only the top is seen inside.
fn folders(text: &str) -> Vec<(String, usize)> {
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, version) = match controllers {
            "" => ("/sys/fs/cgroup", 0),
            list if list.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", 1),
            _ => continue,
        };
        let inside = Path::new(path).ancestors().map(Path::to_string_lossy);
        folders
            .extend(inside.map(|path| (format!("{root}{}", path.trim_end_matches('/')), version)));
    }
    folders
}

/// A group's limit; `None`: it has none.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// What a group uses beside what could be dropped at once, which stands in `stat` behind `inactive`.
fn parse_used(usage: &str, stat: &str, inactive: &str) -> Option<u64> {
    let usage: u64 = usage.trim().parse().ok()?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix(inactive)?.parse().ok());
    Some(usage.saturating_sub(inactive.unwrap_or(0)))
}

/// Watches the memory of the process for as long as it lives.
///
/// `settings` may change at any time.
pub(super) async fn watch(
    mut settings: watch::Receiver<Memory>,
    readers: Vec<Reader<Labels>>,
    numbers: ProcessWriter,
    hub: Rc<Hub>,
) {
    // No guard of the channel may live while something is awaited: it would lock its sender out.
    let wanted = *settings.borrow_and_update();
    let mut budget = Budget::find(wanted).await;
    numbers.set(ProcessGauge::MemoryBudget, budget.bytes);
    let (mut shortage, mut pause) = (Shortage::None, 0_u32);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if settings.has_changed().unwrap_or(false) {
            let wanted = *settings.borrow_and_update();
            budget = Budget::find(wanted).await;
            numbers.set(ProcessGauge::MemoryBudget, budget.bytes);
        }
        let (resident, group) = budget.used().await;
        let certain = readers.iter().map(held).sum::<u64>().max(group);
        let used = certain.max(resident);
        // The allocator gives pages back while threads allocate. Whoever accepts nobody because of
        // pages that it only keeps might do so for ever.
        let most = next(shortage, certain, budget.bytes).max(Shortage::Severe);
        let now = next(shortage, used, budget.bytes).min(most);
        numbers.set(ProcessGauge::MemoryUsed, used);
        numbers.set(ProcessGauge::MemoryLevel, now as u64);
        if now != shortage {
            tell(shortage, now, used, budget.bytes);
            shortage = now;
            for shard in 0..hub.shards() {
                hub.post(shard, Request::Memory(now)).await;
            }
        }
        pause = pause.saturating_sub(1);
        if now >= Shortage::Severe && pause == 0 {
            pause = SHED_PAUSE;
            let excess = used.saturating_sub(budget.bytes / 100 * SHED_TO);
            for (shard, bytes) in shares(excess, &readers).into_iter().enumerate() {
                if bytes > 0 {
                    hub.post(shard, Request::Shed { bytes }).await;
                }
            }
        }
    }
}

/// Says how short memory is from now on, and what follows from that.
fn tell(before: Shortage, now: Shortage, used: u64, budget: u64) {
    let percent = u128::from(used) * 100 / u128::from(budget.max(1));
    let follows = match now {
        Shortage::None => "all is as usual again",
        Shortage::Mild => "idle connections end sooner, publications are not compressed",
        Shortage::Tight => "new connections are refused",
        Shortage::Severe => "new connections are refused, clients that hold most are closed",
        Shortage::Critical => "no connections are accepted, clients that hold most are closed",
    };
    if now > before {
        let remedy = "raise memory.budget, or have fewer clients";
        tracing::warn!(
            used,
            budget,
            "memory is short, {percent} % of the budget: {follows}; {remedy}"
        );
    } else {
        tracing::info!(used, budget, "memory is less short, {percent} % of the budget: {follows}");
    }
}

/// What a shard says that it holds.
fn held(reader: &Reader<Labels>) -> u64 {
    Ledger::ALL.into_iter().map(|ledger| reader.memory(ledger)).sum()
}

/// How much each shard is to free, by what its clients hold and wait for.
fn shares(excess: u64, readers: &[Reader<Labels>]) -> Vec<usize> {
    let weigh = |reader: &Reader<Labels>| {
        use crate::metrics::catalogue::Gauge::OutboxBytes;
        u128::from(reader.memory(Ledger::Private).max(reader.gauge(OutboxBytes)))
    };
    let total: u128 = readers.iter().map(weigh).sum();
    let share = |reader| u128::from(excess) * weigh(reader) / total.max(1);
    readers.iter().map(|reader| usize::try_from(share(reader)).unwrap_or(usize::MAX)).collect()
}

/// How short memory is when `used` of `budget` bytes are in use and it was `before`.
fn next(before: Shortage, used: u64, budget: u64) -> Shortage {
    let used = u128::from(used) * 100;
    let is_reached = |(shortage, percent): &(Shortage, u64)| {
        let percent = if *shortage <= before { percent - HYSTERESIS } else { *percent };
        used > u128::from(percent) * u128::from(budget)
    };
    ENTER.iter().find(|level| is_reached(level)).map_or(Shortage::None, |level| level.0)
}

fn machine_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// The text of a small file of the kernel's, if it is there.
async fn read(path: &str) -> Option<String> {
    let file = tokio_uring::fs::File::open(path).await.ok()?;
    let (read, buffer) = file.read_at(Vec::with_capacity(16 * 1024), 0).await;
    let len = read.ok()?;
    // The kernel forgets it either way.
    let _ = file.close().await;
    String::from_utf8(buffer.get(..len)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_both_versions_and_side_by_side() {
        let of = |text: &str| folders(text);
        let found = |root: &str, paths: &[&str], version| -> Vec<(String, usize)> {
            paths.iter().map(|path| (format!("{root}{path}"), version)).collect()
        };
        let second = of("0::/system.slice/ringway.service\n");
        let paths = ["/system.slice/ringway.service", "/system.slice", ""];
        assert_eq!(second, found("/sys/fs/cgroup", &paths, 0));
        assert_eq!(of("0::/\n"), found("/sys/fs/cgroup", &[""], 0), "a namespace of its own");
        // A machine with both, where the first has the controller, and a path with a colon.
        let both = "12:cpu,cpuacct:/a\n4:memory:/docker/b:c\n1:name=systemd:/d\n0::/\n";
        let first = found("/sys/fs/cgroup/memory", &["/docker/b:c", "/docker", ""], 1);
        assert_eq!(of(both), [first, found("/sys/fs/cgroup", &[""], 0)].concat());
        assert_eq!(of("nonsense\n\n7:hugetlb:/\n"), []);
    }

    #[test]
    fn the_files_of_a_group_say_what_cannot_be_dropped() {
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("134217728\n"), Some(128 << 20));
        // The first version has no word for no limit, but a number beyond any machine.
        assert_eq!(parse_limit("9223372036854771712\n"), Some(9_223_372_036_854_771_712));
        let second = "anon 1048576\nfile 524288\ninactive_anon 4096\nactive_anon 0\n\
                      inactive_file 262144\nactive_file 262144\nworkingset_refault_file 0\n";
        assert_eq!(parse_used("2097152\n", second, CGROUPS[0].2), Some(2_097_152 - 262_144));
        let first = "cache 524288\nrss 1048576\ninactive_file 1\nactive_file 2\n\
                     hierarchical_memory_limit 134217728\ntotal_cache 524288\n\
                     total_inactive_file 65536\ntotal_active_file 0\n";
        assert_eq!(parse_used("2097152\n", first, CGROUPS[1].2), Some(2_097_152 - 65_536));
        assert_eq!(
            parse_used("4096\n", first, CGROUPS[1].2),
            Some(0),
            "they are not of one moment"
        );
        assert_eq!(parse_used("4096\n", "", CGROUPS[1].2), Some(4096));
        assert_eq!(parse_used("", first, CGROUPS[1].2), None);
    }

    #[test]
    fn levels_are_left_later_than_they_are_entered() {
        use Shortage::{Critical, Mild, None, Severe, Tight};
        let budget = 1000;
        let path = [
            (700, None),
            (701, Mild),
            (660, Mild),
            (650, None),
            (801, Tight),
            (760, Tight),
            (750, Mild),
            (905, Severe),
            (951, Critical),
            (901, Critical),
            (900, Severe),
            (850, Tight),
            (100, None),
        ];
        let mut shortage = None;
        for (used, expected) in path {
            shortage = next(shortage, used, budget);
            assert_eq!(shortage, expected, "{used}");
        }
    }
}
