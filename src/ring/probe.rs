//! What this kernel offers, and one line that says what to do when it is not enough.

use std::fmt;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, getrlimit};

use super::Errno;
use super::uring::{Settings, setup, trial};

/// Entries of a ring that is made only to try something.
const TRIAL_ENTRIES: u32 = 8;

/// Something that the ring uses where the kernel has it, and does without elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    /// Provided buffers that several receives share (IOU_PBUF_RING_INC, 6.12).
    IncrementalBuffers = 1,
    /// Wakes from ring to ring (MSG_RING); else by eventfd.
    MsgRing = 1 << 1,
    /// No indirection between submission queue and entries (NO_SQARRAY, 6.6).
    NoSqarray = 1 << 2,
    /// The ring's descriptor is looked up once (REGISTER_RING_FDS).
    RegisteredRing = 1 << 3,
    /// One operation accepts many connections, and has passed its trial here; else the ring arms
    /// anew for each.
    MultishotAccept = 1 << 4,
    /// The ring refuses every operation that we do not use (REGISTER_RESTRICTIONS).
    Restrictions = 1 << 5,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::IncrementalBuffers,
        Self::MsgRing,
        Self::NoSqarray,
        Self::RegisteredRing,
        Self::MultishotAccept,
        Self::Restrictions,
    ];

    /// As it is written in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IncrementalBuffers => "incremental_buffers",
            Self::MsgRing => "msg_ring",
            Self::NoSqarray => "no_sqarray",
            Self::RegisteredRing => "registered_ring",
            Self::MultishotAccept => "multishot_accept",
            Self::Restrictions => "restrictions",
        }
    }

    /// The feature of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

/// The optional features that a ring uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// Whether it is used.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature as u8 != 0
    }

    const fn with(self, feature: Feature, offered: bool) -> Self {
        if offered { Self(self.0 | feature as u8) } else { self }
    }

    fn without(self, disabled: &[Feature]) -> Self {
        Self(disabled.iter().fold(self.0, |features, &feature| features & !(feature as u8)))
    }
}

/// Why no ring can be made. Shown as one line that names the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The kernel has no io_uring, or one without what we need.
    KernelTooOld {
        /// As uname(2) tells it.
        release: String,
    },
    /// The kernel is new enough by its other answers, but lacks this operation or feature.
    Missing {
        /// Its name in the kernel's headers.
        name: &'static str,
        /// As uname(2) tells it.
        release: String,
    },
    /// The administrator has switched io_uring off.
    Sysctl {
        /// The value of `kernel.io_uring_disabled`, 1 or 2.
        value: u8,
    },
    /// A seccomp filter refuses the system call, as container runtimes' default filters do.
    Seccomp,
    /// Refused (EPERM), and neither the sysctl nor a filter can be seen to have done it.
    Denied,
    /// The limit of locked memory is too small.
    Memlock {
        /// What one ring needs.
        needed_bytes: u64,
        /// What the process may have; `None`: no limit, so the machine is out of memory.
        limit_bytes: Option<u64>,
    },
    /// The limit of open files is reached.
    TooManyFiles,
    /// Something else failed.
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTooOld { release } => write!(
                out,
                "kernel {release} does not offer the io_uring that ringway needs: run Linux 6.1 \
                 or newer (and not gVisor)"
            ),
            Self::Missing { name, release } => {
                write!(out, "io_uring of kernel {release} lacks {name}: run Linux 6.1 or newer")
            }
            Self::Sysctl { value } => write!(
                out,
                "io_uring is switched off by kernel.io_uring_disabled={value}: run `sysctl -w \
                 kernel.io_uring_disabled=0`, or with 1 add ringway's group to \
                 kernel.io_uring_group"
            ),
            Self::Seccomp => write!(
                out,
                "a seccomp filter refuses io_uring: allow io_uring_setup, io_uring_enter and \
                 io_uring_register there (containers: a profile of your own for --security-opt seccomp=)"
            ),
            Self::Denied => write!(
                out,
                "io_uring_setup is not permitted: check kernel.io_uring_disabled, the seccomp \
                 filter and the security module (SELinux, AppArmor)"
            ),
            Self::Memlock { needed_bytes, limit_bytes: Some(limit_bytes) } => write!(
                out,
                "locked memory is limited to {} KiB, and each shard's ring needs {} KiB: set \
                 LimitMEMLOCK= (systemd) or --ulimit memlock= (containers) to at least twice that \
                 for each shard, 64 MiB is ample",
                limit_bytes / 1024,
                needed_bytes.div_ceil(1024)
            ),
            Self::Memlock { needed_bytes, limit_bytes: None } => write!(
                out,
                "no memory for a ring of {} KiB: free some, or use fewer shards",
                needed_bytes.div_ceil(1024)
            ),
            Self::TooManyFiles => write!(
                out,
                "no descriptor is left for io_uring: raise LimitNOFILE= (systemd) or --ulimit \
                 nofile= (containers)"
            ),
            Self::Failed { step, errno } => {
                let cause = std::io::Error::from_raw_os_error(errno.0);
                write!(out, "io_uring: {step} failed: {cause}: please report it")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Finds out which optional features a ring with these settings can use here.
///
/// Also makes a ring of full size (or what locked memory allows) and drops it, so that it fails
/// like the shards would.
///
/// Errors: [`StartError`] when something indispensable is missing or forbidden.
pub fn probe(settings: &Settings) -> Result<Features, StartError> {
    let features = features(settings)?;
    let ((), entries) = setup::fit(settings, |sizes| {
        setup::open(sizes, features).map(drop).map_err(|error| explain(&error, settings))
    })?;
    if entries < settings.submission_entries {
        // Whoever makes a ring next would not find the memory of the trials.
        setup::wait_for_memory();
    }
    Ok(features)
}

/// Memory that counts as locked, of one ring with these settings, in bytes.
pub fn locked_bytes(settings: &Settings) -> u64 {
    setup::locked_bytes(settings)
}

/// The same with a small ring: the kernel gives locked memory back only some time after a ring is
/// dropped, and every shard asks.
pub(super) fn features(settings: &Settings) -> Result<Features, StartError> {
    setup::insist(|| try_features(settings))
}

fn try_features(settings: &Settings) -> Result<Features, StartError> {
    let explain = |error: std::io::Error| explain(&error, settings);
    let small = Settings {
        submission_entries: TRIAL_ENTRIES,
        completion_entries: TRIAL_ENTRIES,
        ..settings.clone()
    };
    let disabled = Features::default().with(Feature::Restrictions, true);
    let ring = setup::open(&small, disabled).map_err(explain)?;
    require_flags(&ring)?;
    let no_sqarray = setup::open(&small, disabled.with(Feature::NoSqarray, true)).map(drop);
    let offered = Features::default()
        .with(Feature::MsgRing, require_operations(&ring)?)
        .with(Feature::NoSqarray, is_offered(no_sqarray).map_err(explain)?)
        .with(
            Feature::RegisteredRing,
            is_offered(setup::try_registered_ring(&ring)).map_err(explain)?,
        )
        .with(
            Feature::IncrementalBuffers,
            is_offered(setup::try_incremental_buffers(&ring)).map_err(explain)?,
        )
        .with(Feature::Restrictions, is_offered(setup::restrict(&ring)).map_err(explain)?);
    let sqarray = Features::default().with(Feature::NoSqarray, offered.has(Feature::NoSqarray));
    let many = Feature::MultishotAccept;
    let wants_many = !settings.disable.contains(&many);
    let offered = offered.with(many, wants_many && trial::accepts_many(sqarray));
    Ok(offered.without(&settings.disable))
}

/// Tells "the kernel does not know this" from "it cannot be done now".
fn is_offered(tried: std::io::Result<()>) -> std::io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(false),
            _ => Err(error),
        },
    }
}

fn require_flags(ring: &IoUring) -> Result<(), StartError> {
    let parameters = ring.params();
    let required = [
        ("IORING_FEAT_NODROP", parameters.is_feature_nodrop()),
        ("IORING_FEAT_SUBMIT_STABLE", parameters.is_feature_submit_stable()),
        ("IORING_FEAT_FAST_POLL", parameters.is_feature_fast_poll()),
        ("IORING_FEAT_EXT_ARG", parameters.is_feature_ext_arg()),
        ("IORING_FEAT_CQE_SKIP", parameters.is_feature_skip_cqe_on_success()),
    ];
    missing(required.into_iter())
}

/// Whether the optional operation (MSG_RING) is there.
fn require_operations(ring: &IoUring) -> Result<bool, StartError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| failed("asking for the operations", &error))?;
    let required = [
        ("IORING_OP_ACCEPT", opcode::AcceptMulti::CODE),
        ("IORING_OP_RECV", opcode::RecvMulti::CODE),
        ("IORING_OP_SEND", opcode::Send::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("IORING_OP_CLOSE", opcode::Close::CODE),
        ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
    ];
    missing(required.into_iter().map(|(name, code)| (name, probe.is_supported(code))))?;
    Ok(probe.is_supported(opcode::MsgRingData::CODE))
}

fn missing(mut required: impl Iterator<Item = (&'static str, bool)>) -> Result<(), StartError> {
    match required.find(|(_, offered)| !offered) {
        None => Ok(()),
        Some((name, _)) => Err(StartError::Missing { name, release: release() }),
    }
}

/// What a failed io_uring_setup means.
pub(super) fn explain(error: &std::io::Error, settings: &Settings) -> StartError {
    match error.raw_os_error() {
        // Some filters hide what they forbid.
        Some(libc::ENOSYS) if is_filtered(status().as_deref()) => StartError::Seccomp,
        Some(libc::ENOSYS | libc::EINVAL) => StartError::KernelTooOld { release: release() },
        Some(libc::EPERM | libc::EACCES) => explain_refusal(
            std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().as_deref(),
            status().as_deref(),
        ),
        Some(libc::ENOMEM) => StartError::Memlock {
            needed_bytes: setup::locked_bytes(settings),
            limit_bytes: getrlimit(Resource::Memlock).current,
        },
        Some(libc::EMFILE | libc::ENFILE) => StartError::TooManyFiles,
        _ => failed("io_uring_setup", error),
    }
}

/// Who refused: judged by the sysctl's file and the process' status, where they can be read.
fn explain_refusal(sysctl: Option<&str>, status: Option<&str>) -> StartError {
    match sysctl.and_then(|text| text.trim().parse().ok()) {
        Some(value @ 1..=2) => StartError::Sysctl { value },
        _ if is_filtered(status) => StartError::Seccomp,
        _ => StartError::Denied,
    }
}

/// Whether the process has a seccomp filter.
fn is_filtered(status: Option<&str>) -> bool {
    let mut lines = status.unwrap_or_default().lines();
    lines.any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

fn status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

pub(super) fn failed(step: &'static str, error: &std::io::Error) -> StartError {
    StartError::Failed { step, errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)) }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_offers_a_ring() {
        let all = probe(&Settings::default()).expect("a kernel with io_uring");
        assert!(all.has(Feature::MultishotAccept));
        let disabled = Settings { disable: Feature::ALL.to_vec(), ..Settings::default() };
        assert_eq!(probe(&disabled), Ok(Features::default()));
    }

    #[test]
    fn a_refusal_is_laid_to_the_one_who_refused() {
        let filtered = Some("Name:\tringway\nSeccomp:\t2\nSeccomp_filters:\t1\n");
        let free = Some("Seccomp:\t0\n");
        assert_eq!(explain_refusal(Some("2\n"), filtered), StartError::Sysctl { value: 2 });
        assert_eq!(explain_refusal(Some("0\n"), filtered), StartError::Seccomp);
        assert_eq!(explain_refusal(None, filtered), StartError::Seccomp);
        assert_eq!(explain_refusal(None, free), StartError::Denied);
        assert_eq!(explain_refusal(Some("0\n"), None), StartError::Denied);
    }

    #[test]
    fn every_error_is_one_line() {
        let release = String::from("5.10.0");
        let errors = [
            StartError::KernelTooOld { release: release.clone() },
            StartError::Missing { name: "IORING_OP_SEND", release },
            StartError::Sysctl { value: 2 },
            StartError::Seccomp,
            StartError::Denied,
            StartError::Memlock { needed_bytes: 400_000, limit_bytes: Some(65_536) },
            StartError::Memlock { needed_bytes: 400_000, limit_bytes: None },
            StartError::TooManyFiles,
            StartError::Failed { step: "enabling", errno: Errno(libc::EBUSY) },
        ];
        for error in errors {
            let line = error.to_string();
            assert!(line.contains(": ") && !line.contains('\n') && !line.contains("  "), "{line}");
        }
    }

    #[test]
    fn features_are_found_by_their_names() {
        for feature in Feature::ALL {
            assert_eq!(Feature::from_name(feature.name()), Some(feature));
        }
        assert_eq!(Feature::from_name("sqpoll"), None);
    }
}
