//! What the service manager is told: sd_notify(3). Without one, nothing is.

use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

use crate::api::pulse::Pulse;

/// A shard that has shown no sign of life for longer is given up: the watchdog is not fed.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// The watchdog is fed so many times in the time after which it bites.
const FEEDS: u32 = 4;

/// The gateway serves. `status` is shown by `systemctl status`, as all of them are.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The gateway reads its configuration again; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(problem) => tracing::warn!(%problem, "no monotonic clock for the service manager"),
    }
}

/// The gateway drains, and will have ended after `longest` at the latest.
pub(super) fn stopping(status: &str, longest: Duration) {
    // More than an hour is told as an hour, the most that fits.
    let extension = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    let extension = NotifyState::ExtendTimeoutUsec(extension);
    tell(&[NotifyState::Stopping, extension, NotifyState::Status(status)]);
}

/// Feeds the watchdog, if there is one, as long as every shard turns.
pub(super) async fn feed_watchdog(pulse: Rc<Pulse>) {
    let Some(bite) = sd_notify::watchdog_enabled() else { return };
    let mut was_silent = None;
    loop {
        let silent = pulse.silent(SILENCE_MAX, Instant::now());
        match silent {
            None => tell(&[NotifyState::Watchdog]),
            Some((shard, silence)) if was_silent.is_none() => tracing::error!(
                shard,
                ?silence,
                "a shard does not turn: the watchdog is not fed, and systemd will restart the gateway"
            ),
            Some(_) => {}
        }
        was_silent = silent;
        sleep(bite / FEEDS).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(problem) = sd_notify::notify(states) {
        tracing::warn!(%problem, "the service manager could not be told: check NOTIFY_SOCKET");
    }
}
