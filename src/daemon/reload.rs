//! Reading the configuration again while the gateway serves.
//!
//! All of it is judged before any of it counts. What can change, changes for everybody or for those who
//! connect from then on (`config/keys.rs` says which); what needs a restart is named and waits for one.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::api::orders::Changes;
use crate::api::state::{Access, Limits};
use crate::config::document::{Change, Document};
use crate::config::keys::Reload;
use crate::config::violation::Violations;
use crate::config::{ApiAccess, Config};
use crate::mail::message::Request;
use crate::metrics::Reload as Outcome;
use crate::metrics::catalogue::ReloadGauge;

use super::control::Gateway;
use super::source::read_text;
use super::{limits, settings, start, systemd};

impl Gateway {
    /// Reads the configuration again and takes it over; says what that changes.
    ///
    /// Errors: what is wrong with it; nothing has changed then.
    pub(super) async fn reload(&mut self) -> Result<Changes, String> {
        systemd::reloading();
        let reloaded = self.try_reload().await;
        match &reloaded {
            Ok(changes) => {
                self.numbers.config_reload(Outcome::Success);
                tell(changes);
                systemd::ready("serving");
            }
            Err(problems) => {
                self.numbers.config_reload(Outcome::Failure);
                tracing::error!("the configuration is refused, the old one stays as a whole");
                problems.lines().for_each(|line| tracing::error!("refused: {line}"));
                systemd::ready("serving; the new configuration was refused, see the log");
            }
        }
        reloaded
    }

    async fn try_reload(&mut self) -> Result<Changes, String> {
        let (text, origin) = read_text(&self.source).await.map_err(|error| error.to_string())?;
        let next = Document::parse(&text, &origin, &self.source.overrides);
        let next = next.map_err(|violations| violations.to_string())?;
        let renewed = self.document.renewed_by(&next);
        let renewed = renewed.map_err(|violations| {
            format!("{violations}; beside what cannot change without a restart")
        })?;
        let files = self.keeper.prepare(renewed.config()).await.map_err(|list| {
            self.numbers.tls_reload(Outcome::Failure);
            Violations { origin, list }.to_string()
        })?;
        let changes = grouped(&self.document.changes_to(&next));
        self.keeper.take_over(files, &self.numbers);
        self.document = renewed;
        self.apply().await;
        self.show_reload(changes.restart.len());
        Ok(changes)
    }

    /// What the configuration in `text` would change.
    ///
    /// Errors: what is wrong with it. The files that it names are not looked at.
    pub(super) fn compare(&self, text: &str) -> Result<Changes, String> {
        let next = Document::parse(text, "the configuration", &self.source.overrides);
        let next = next.map_err(|violations| violations.to_string())?;
        Ok(grouped(&self.document.changes_to(&next)))
    }

    /// Brings the settings to all who work with them; returns when every shard has them.
    async fn apply(&self) {
        let config = self.document.config();
        self.verbosity.set(&config.log);
        if let Some(operators) = &self.operators {
            operators.renew(access(config), operator_limits(config));
        }
        // Nobody watches the memory when there is nobody to tell.
        let _ = self.memory.send(config.memory);
        let connections_max = start::connections_max(config, limits::raise_open_files());
        let former = self.board.newest();
        let now = Instant::now().into_std();
        self.board.renew(settings::renewed(config, &former, connections_max, now));
        for shard in 0..self.hub.shards() {
            if self.hub.ask(shard, |asker| Request::Renew { asker }).await.is_err() {
                tracing::warn!(
                    shard,
                    "a shard has not answered yet: it takes the settings over later"
                );
            }
        }
    }

    /// Shows when the configuration that counts was read, and how much of it needs a restart.
    pub(super) fn show_reload(&self, restart_pending: usize) {
        #[expect(clippy::disallowed_methods, reason = "told to operators, and nothing else")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.numbers.set(ReloadGauge::LastSuccess, since.as_secs());
        let pending = u64::try_from(restart_pending).unwrap_or(u64::MAX);
        self.numbers.set(ReloadGauge::RestartPending, pending);
    }
}

/// Who may call the server API.
pub(super) fn access(config: &Config) -> Access {
    match &config.operator.api {
        ApiAccess::Refused => Access::Closed,
        ApiAccess::Key(key) => Access::Key(key.secret().to_owned()),
        ApiAccess::Insecure => Access::Open,
    }
}

/// Bounds of operator requests.
pub(super) fn operator_limits(config: &Config) -> Limits {
    Limits {
        body_bytes_max: config.operator.body_bytes_max,
        body_wait: config.operator.body_timeout,
        data_bytes_max: config.websocket.message_bytes_max,
        ..Limits::default()
    }
}

/// Changes by the time at which they count.
pub(super) fn grouped(changes: &[Change]) -> Changes {
    let of = |reload| {
        let those = changes.iter().filter(|change| change.reload == reload);
        those.map(Change::to_string).collect()
    };
    Changes {
        live: of(Reload::Live),
        new_connections: of(Reload::Newcomers),
        restart: of(Reload::Restart),
    }
}

fn tell(changes: &Changes) {
    let Changes { live, new_connections, restart } = changes;
    tracing::info!(
        live = live.len(),
        new_connections = new_connections.len(),
        restart = restart.len(),
        "the configuration was read again"
    );
    live.iter().for_each(|change| tracing::info!("changed: {change}"));
    new_connections
        .iter()
        .for_each(|change| tracing::info!("changed for new connections: {change}"));
    restart.iter().for_each(|change| tracing::warn!("counts after a restart: {change}"));
}
