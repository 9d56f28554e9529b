//! `ringway doctor`: whether this machine is fit for this configuration, and what to do where it is not.

use std::fmt;

use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::ring::listen;
use crate::ring::probe::{Feature, Features, locked_bytes, probe};
use crate::ring::uring;

use super::caller::Callee;
use super::certificates::Keeper;
use super::cli::Source;
use super::exit::Failure;
use super::memory::Budget;
use super::source::read_document;
use super::{limits, settings, sysctl};

/// How long a gateway that may run already has to answer.
const ANSWER_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    verdict: Verdict,
    /// What was looked at.
    about: &'static str,
    /// What was found, and what to do about it.
    told: String,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Fine,
    /// The gateway runs, but not as well as it could.
    Warn,
    /// The gateway does not start, or clients will suffer.
    Fail,
}

impl Finding {
    pub(super) fn fine(about: &'static str, told: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, about, told: told.into() }
    }

    pub(super) fn warn(about: &'static str, told: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, about, told: told.into() }
    }

    fn fail(about: &'static str, told: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, about, told: told.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict:<5} {}: {}", self.about, self.told)
    }
}

/// Looks at everything, and says what it has found.
///
/// Errors: [`Failure::No`], when anything is not as it should be.
pub(super) fn examine(source: &Source) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let config = match read_document(source) {
        Ok(document) => {
            findings.push(Finding::fine("configuration", "good"));
            document.config().clone()
        }
        Err(failure) => {
            let told = failure.to_string().replace('\n', "; ");
            findings.push(Finding::fail(
                "configuration",
                format!("{told}; the rest is about the defaults"),
            ));
            Config::default()
        }
    };
    let cpus = limits::usable_cpus().len();
    let shards = config.shards.unwrap_or(cpus).max(1);
    let connections = config
        .limits
        .connections_max
        .unwrap_or_else(|| limits::connections_possible(limits::raise_open_files()));
    findings.push(threads(shards, cpus));
    let ring = settings::of_ring(&config);
    let has_ring = kernel(&ring, &mut findings);
    findings.push(open_files(&config));
    findings.push(locked_memory(&ring, shards));
    sysctl::examine(&config, connections, &mut findings);
    if has_ring {
        tokio_uring::start(examine_on_ring(&config, &mut findings));
    } else {
        findings
            .push(Finding::warn("certificates, ports, memory", "not looked at without io_uring"));
    }
    findings.push(operators(&config));
    findings.push(clock());
    conclude(&findings)
}

/// What is read like the gateway would.
async fn examine_on_ring(config: &Config, findings: &mut Vec<Finding>) {
    match Keeper::load(config).await {
        Ok(keeper) => match keeper.warnings().as_slice() {
            [] => {
                findings.push(Finding::fine("certificates", "readable, valid, and with their keys"))
            }
            warnings => {
                findings.extend(warnings.iter().map(|told| Finding::warn("certificates", told)))
            }
        },
        Err(violations) => findings.extend(violations.iter().map(|violation| {
            let file = violation.value.as_deref().unwrap_or_default();
            Finding::fail(
                "certificates",
                format!("{} = {file}: {}", violation.path, violation.problem),
            )
        })),
    }
    let is_running = is_running(config).await;
    ports(config, is_running, findings);
    findings.push(memory(&Budget::find(config.memory).await));
}

fn conclude(findings: &[Finding]) -> Result<(), Failure> {
    #[expect(clippy::print_stdout, reason = "the answer to `ringway doctor`")]
    findings.iter().for_each(|finding| println!("{finding}"));
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => Ok(()),
        (fails, warnings) => {
            Err(Failure::No(format!("not all is well: {fails} failures, {warnings} warnings")))
        }
    }
}

fn threads(shards: usize, cpus: usize) -> Finding {
    let told = format!("{shards} shards on {cpus} usable CPUs");
    if shards <= cpus {
        return Finding::fine("threads", told);
    }
    Finding::warn("threads", format!("{told}: they take turns; set shards = 0 for one on each"))
}

/// Whether there is a ring for the gateway.
fn kernel(ring: &uring::Settings, findings: &mut Vec<Finding>) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match probe(ring) {
        Ok(features) => {
            let told = format!("{release} offers io_uring, and no seccomp filter is in the way");
            findings.push(Finding::fine("kernel", told));
            findings.push(optional(features, &ring.disable));
            true
        }
        Err(error) => {
            findings.push(Finding::fail("kernel", error.to_string()));
            false
        }
    }
}

/// What the gateway does without on this kernel.
fn optional(features: Features, disabled: &[Feature]) -> Finding {
    let missing = Feature::ALL.into_iter().filter(|feature| !features.has(*feature));
    let missing: Vec<&str> =
        missing.filter(|feature| !disabled.contains(feature)).map(Feature::name).collect();
    if missing.is_empty() {
        return Finding::fine(
            "io_uring",
            "every optional feature is there or disabled by ring.disable",
        );
    }
    let missing = missing.join(", ");
    Finding::warn(
        "io_uring",
        format!("without {missing}: it works, and costs more; run Linux 6.12 or newer"),
    )
}

fn open_files(config: &Config) -> Finding {
    let about = "open files";
    let possible = limits::connections_possible(limits::raise_open_files());
    match config.limits.connections_max {
        Some(wanted) if wanted > possible => Finding::fail(
            about,
            format!(
                "room for {possible} connections, limits.connections_max is {wanted}: raise LimitNOFILE=, ulimit -n or --ulimit nofile="
            ),
        ),
        _ if possible < 10_000 => Finding::warn(
            about,
            format!(
                "room for {possible} connections only: raise LimitNOFILE=, ulimit -n or --ulimit nofile="
            ),
        ),
        _ => Finding::fine(about, format!("room for {possible} connections")),
    }
}

fn locked_memory(ring: &uring::Settings, shards: usize) -> Finding {
    let about = "locked memory";
    let wanted = locked_bytes(ring).saturating_mul(u64::try_from(shards).unwrap_or(u64::MAX));
    let (wanted_kib, limit) = (wanted.div_ceil(1024), getrlimit(Resource::Memlock).current);
    match limit {
        // The kernel gives it back late, so that twice as much is wanted in a restart.
        Some(limit) if limit < wanted.saturating_mul(2) => Finding::warn(
            about,
            format!(
                "{} KiB may be locked, the rings may need {wanted_kib} KiB and as much again in a restart: set LimitMEMLOCK=64M or --ulimit memlock=67108864",
                limit / 1024
            ),
        ),
        _ => Finding::fine(about, format!("enough for {wanted_kib} KiB of rings")),
    }
}

fn ports(config: &Config, is_running: bool, findings: &mut Vec<Finding>) {
    let clients = config.listeners.iter().map(|l| (l.address, listen::require_unused(l.address)));
    let operators = config.operator.address.map(|a| (a, listen::require_unused(a)));
    for (address, unused) in clients.chain(operators) {
        findings.push(match unused {
            Ok(()) => Finding::fine("port", format!("{address} is free")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && is_running => {
                Finding::fine(
                    "port",
                    format!("{address} is in use, and a gateway answers operators"),
                )
            }
            Err(error) => {
                Finding::fail("port", super::threads::cannot_listen(address, &error).to_string())
            }
        });
    }
}

async fn is_running(config: &Config) -> bool {
    let Ok(callee) = Callee::of(config) else { return false };
    callee.ask(hyper::Method::GET, "/livez", String::new(), ANSWER_WAIT).await.is_ok()
}

fn memory(budget: &Budget) -> Finding {
    let (budget_mib, limit) = (budget.bytes >> 20, budget.limit());
    let told = format!("a budget of {budget_mib} MiB of {} MiB", limit >> 20);
    if budget.bytes > limit / 10 * 9 {
        let advice =
            "the system kills the gateway before it acts: lower memory.budget or raise MemoryMax=";
        return Finding::fail("memory", format!("{told}: {advice}"));
    }
    Finding::fine("memory", told)
}

fn operators(config: &Config) -> Finding {
    let about = "operator port";
    match config.operator.address {
        None => Finding::warn(
            about,
            "there is none: no metrics, no health checks; set operator.address",
        ),
        Some(address) if !address.ip().is_loopback() && config.operator.tls.is_none() => {
            Finding::warn(
                about,
                format!(
                    "{address} can be reached from other machines, and the key travels in the clear: set operator.tls or use a private network"
                ),
            )
        }
        Some(address) => Finding::fine(about, address.to_string()),
    }
}

/// Certificates are judged by the clock, and so are logs and metrics.
fn clock() -> Finding {
    let about = "clock";
    #[expect(clippy::disallowed_methods, reason = "it is the clock that is looked at")]
    let now = std::time::SystemTime::now();
    let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // When this was written.
    if seconds < 1_767_225_600 {
        return Finding::fail(
            about,
            "it is before 2026 here: set the clock, and run timesyncd or chrony",
        );
    }
    Finding::fine(about, format!("{seconds} s since 1970"))
}
