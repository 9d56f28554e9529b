//! Memory within the limit of a control group, which the daemon shares with others.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::gateway::client::request;
use crate::gateway::{Gateway, PATIENCE, wait_for_end};

const MIB: u64 = 1024 * 1024;

/// A control group with a limit of memory, inside that of this process; removed when dropped.
struct Group {
    folder: PathBuf,
}

impl Group {
    /// Errors: why this machine does not allow it.
    fn new(limit: u64) -> Result<Self, String> {
        let text = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let path = |controllers: &str| {
            text.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                rest.strip_prefix(controllers)?.strip_prefix(":/")
            })
        };
        let (root, path, file) = match path("memory") {
            Some(path) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            None => {
                ("/sys/fs/cgroup", path("").ok_or("there are no control groups")?, "memory.max")
            }
        };
        let own = Path::new(root).join(path);
        let folder = own.join(format!("ringway-test-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self { folder };
        let file = group.folder.join(file);
        if !file.exists() {
            return Err(format!("{}: the memory controller is not handed on", own.display()));
        }
        fs::write(&file, limit.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(group)
    }

    fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It stays while somebody is in it, which only a test that fails leaves so.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Somebody else in the group, who holds `bytes` until its input ends: `tail` waits for the end of a line.
fn neighbour(group: &Group, bytes: u64) -> Child {
    let script = format!("echo $$ > '{}'; exec tail -n 1", group.processes().display());
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let input = child.stdin.as_mut().expect("it is piped");
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..bytes / 65_536 {
        input.write_all(&chunk).expect("it reads");
    }
    child
}

#[test]
fn what_others_use_in_the_control_group_counts() {
    let limit = 160 * MIB;
    let group = match Group::new(limit) {
        Ok(group) => group,
        Err(why) => {
            eprintln!("skipped: this machine lets us make no control group: {why}");
            return;
        }
    };
    let gateway = Gateway::start_in_group(&group.processes(), &["ring.buffers=16"]);
    let canary = gateway.canary();
    let metrics = gateway.await_metrics(|metrics| metrics.sum("memory_used_bytes") > 0);
    let budget = metrics.sum("memory_budget_bytes");
    assert_eq!(budget, limit / 100 * 75, "the share of the limit that is usual");
    assert_eq!(metrics.sum("memory_level"), 0, "{metrics:?}");
    let before = metrics.sum("memory_used_bytes");

    // As much as brings it to 87 %.
    let bytes = budget / 100 * 87 - before;
    let mut other = neighbour(&group, bytes);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("memory_level") == 2);
    let grown = metrics.sum("memory_used_bytes") - before;
    assert!(grown * 100 > bytes * 80, "{grown} of {bytes}");
    assert!(metrics.sum("memory_bytes") < budget / 4, "it is not what the gateway holds");
    let mut client = gateway.connect();
    client.send(request("/echo", "").as_bytes());
    let response = client.read_response();
    assert_eq!(response.status, 503, "{response:?}");
    let refused = gateway.metrics().family("handshake_refused_total");
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["503 memory"]);
    drop(client);

    drop(other.stdin.take());
    assert!(wait_for_end(&mut other, PATIENCE).is_some(), "it ends with its input");
    gateway.await_metrics(|metrics| metrics.sum("memory_level") == 0);
    drop(gateway.open("/echo"));
    canary.finish();
    gateway.finish();
}
