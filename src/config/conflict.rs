//! Settings that are fine alone and cannot be together.

use std::net::SocketAddr;

use super::quantity::{show_bytes, show_time};
use super::reader::Sections;
use super::violation::Violation;
use super::{ApiAccess, Config, Routes, redis, tls};

/// The receive buffers of one shard, by default; the process takes several times that.
const BUDGET_BYTES_MIN: u64 = 4 << 20;

/// Adds every conflict in `config` to `violations`; `sections` is what it was built from.
pub(super) fn report(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    report_addresses(config, sections, violations);
    tls::report(config, sections, violations);
    report_limits(config, sections, violations);
    report_namespaces(config, sections, violations);
    redis::report(config, sections, violations);
    report_ring(config, sections, violations);
    if matches!(config.routes, Routes { raw: false, echo: false, demo: false, centrifuge: false }) {
        let problem = "leaves nothing to serve: enable raw, centrifuge, echo or demo";
        violations.push(sections.one("raw").wrong("enabled", problem));
    }
}

fn report_addresses(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    let settings = sections.all("listener");
    for (index, listener) in config.listeners.iter().enumerate() {
        let earlier = &config.listeners[..index];
        if let Some(other) = earlier.iter().find(|l| is_shared(l.address, listener.address)) {
            let problem = taken(other.address, listener.address, "another listener");
            violations.push(settings[index].wrong("address", problem));
        }
        if listener.proxy_protocol && listener.trusted_proxies.is_empty() {
            let problem = "needs trusted_proxies: without any, nobody could connect";
            violations.push(settings[index].wrong("proxy_protocol", problem));
        }
    }
    let operator = sections.one("operator");
    let Some(address) = config.operator.address else { return };
    if let Some(other) = config.listeners.iter().find(|l| is_shared(l.address, address)) {
        violations.push(operator.wrong("address", taken(other.address, address, "a listener")));
    }
    if config.operator.api == ApiAccess::Insecure && !address.ip().is_loopback() {
        let problem = format!("needs a loopback operator.address, not {address}; or set api_key");
        violations.push(operator.wrong("api_insecure", problem));
    }
}

/// Whether only one of two sockets could listen there. Port 0 is a different free port each time.
fn is_shared(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let is_everywhere = a.is_unspecified() || b.is_unspecified();
    let is_overlapping = a == b || is_everywhere && a.is_ipv4() == b.is_ipv4();
    one.port() > 0 && one.port() == other.port() && is_overlapping
}

fn taken(by: SocketAddr, address: SocketAddr, whose: &str) -> String {
    if by == address {
        return format!("is {whose}'s already: choose another port");
    }
    format!("overlaps {by} of {whose}: choose another port")
}

fn report_limits(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    let pings = [("websocket", config.websocket.ping), ("centrifuge", config.centrifuge.ping)];
    for (section, ping) in pings {
        if ping.timeout >= ping.interval {
            let problem = format!("must be less than ping_interval ({})", show_time(ping.interval));
            violations.push(sections.one(section).wrong("pong_timeout", problem));
        }
    }
    let outbox = sections.one("outbox");
    let outbox_max = as_bytes(config.outbox.bytes_max);
    if config.outbox.soft_bytes_max > config.outbox.bytes_max {
        let problem = format!("must not be more than outbox.bytes_max ({outbox_max})");
        violations.push(outbox.wrong("soft_bytes_max", problem));
    }
    if config.websocket.message_bytes_max > config.outbox.bytes_max {
        let problem = format!(
            "must not be more than outbox.bytes_max ({outbox_max}): no subscriber could be sent it"
        );
        violations.push(sections.one("websocket").wrong("message_bytes_max", problem));
    }
    if config.memory.budget.is_some_and(|budget| budget < BUDGET_BYTES_MIN) {
        let least = show_bytes(BUDGET_BYTES_MIN);
        let problem = format!(
            "is too little: nobody could connect; give at least {least}, better hundreds of MiB, or 0 B for a share of what there is"
        );
        violations.push(sections.one("memory").wrong("budget", problem));
    }
    if config.socket.notsent_lowat > config.socket.send_buffer {
        let send_buffer = show_bytes(config.socket.send_buffer.into());
        let problem = format!("must not be more than socket.send_buffer ({send_buffer})");
        violations.push(sections.one("socket").wrong("notsent_lowat", problem));
    }
}

fn report_namespaces(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    let half = config.outbox.bytes_max / 2;
    let settings = sections.all("namespace");
    for (index, namespace) in config.namespaces.iter().enumerate() {
        if config.namespaces[..index].iter().any(|n| n.name == namespace.name) {
            violations.push(settings[index].wrong("name", "is another namespace's already"));
        }
        if namespace.history_bytes_max > half {
            let problem =
                format!("must not be more than half of outbox.bytes_max ({})", as_bytes(half));
            violations.push(settings[index].wrong("history_bytes_max", problem));
        }
    }
}

fn report_ring(config: &Config, sections: &Sections, violations: &mut Vec<Violation>) {
    let ring = sections.one("ring");
    let mut want_power_of_two = |name: &str, value: u32| {
        if !value.is_power_of_two() {
            let near = value.next_power_of_two();
            let problem = format!("must be a power of two, like {} or {near}", near / 2);
            violations.push(ring.wrong(name, problem));
        }
    };
    want_power_of_two("entries", config.ring.entries);
    want_power_of_two("buffers", config.ring.buffers.into());
}

fn as_bytes(amount: usize) -> String {
    show_bytes(u64::try_from(amount).unwrap_or(u64::MAX))
}
