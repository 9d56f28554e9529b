//! Settings of the kernel that many connections need.

use crate::config::Config;

use super::doctor::Finding;

/// Memory of the kernel for one idle connection with both of its buffers, in bytes.
const SOCKET_BYTES: u64 = 4 * 1024;

/// Looks at the kernel's settings for `connections` connections.
pub(super) fn examine(config: &Config, connections: usize, findings: &mut Vec<Finding>) {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let backlog = u64::from(config.socket.backlog);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let pages = connections.saturating_mul(SOCKET_BYTES) / page;
    let rows = [
        ("net.core.somaxconn", 0, backlog, "socket.backlog connections may wait to be accepted"),
        ("net.ipv4.tcp_max_syn_backlog", 0, backlog, "as many may be in their TCP handshake"),
        ("net.ipv4.tcp_mem", 2, pages, "sockets of that many connections need so many pages"),
        (
            "fs.file-max",
            0,
            connections.saturating_add(4096),
            "the whole system opens so many files",
        ),
        ("fs.nr_open", 0, connections.saturating_add(256), "one process opens so many files"),
    ];
    findings.extend(rows.map(|(name, field, least, why)| {
        judge(name, read(name).and_then(|text| number(&text, field)), least, why)
    }));
}

fn judge(name: &'static str, value: Option<u64>, least: u64, why: &str) -> Finding {
    match value {
        Some(value) if value >= least => Finding::fine(name, value.to_string()),
        Some(value) => {
            Finding::warn(name, format!("{value}, better at least {least}: {why}; use sysctl -w"))
        }
        None => Finding::warn(name, "cannot be read here; look at it outside of the sandbox"),
    }
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()
}

fn number(text: &str, field: usize) -> Option<u64> {
    text.split_whitespace().nth(field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_low_is_told_with_what_would_do() {
        let judged = |value| judge("net.core.somaxconn", value, 4096, "they wait").to_string();
        assert_eq!(judged(Some(4096)), "ok    net.core.somaxconn: 4096");
        let low = "warn  net.core.somaxconn: 128, better at least 4096: they wait; use sysctl -w";
        assert_eq!(judged(Some(128)), low);
        assert!(judged(None).starts_with("warn  net.core.somaxconn: cannot be read"));
        assert_eq!(number("188319\t251093\t376638\n", 2), Some(376_638));
        assert_eq!(number("7\n", 1), None);
    }
}
