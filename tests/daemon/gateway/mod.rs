//! A running daemon, and everything that looks at it from outside.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::ring::probe::Feature;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod authority;
pub(crate) mod canary;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod frame;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod silence;

use canary::Canary;
use client::Client;
use clock::{now, pause};
use metrics::Metrics;
use process::Usage;

/// Longest wait for anything that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the catalogue of hostile input asks for when `RINGWAY_FULL` is set, else something shorter.
pub(crate) fn scaled<T>(short: T, full: T) -> T {
    if std::env::var_os("RINGWAY_FULL").is_some() { full } else { short }
}

/// One daemon with one shard; killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    clients: SocketAddr,
    operators: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
    folder: TempDir,
}

/// Topics without a colon take publications from all, `quiet:` from nobody, `mine:` from those
/// subscribed.
fn usual_settings(clients: SocketAddr) -> String {
    format!(
        r#"
[[listener]]
address = "{clients}"

[[namespace]]
publish = "allow"

[[namespace]]
name = "quiet"

[[namespace]]
name = "mine"
publish = "subscribers"
"#
    )
}

/// An address on which nothing listens: a loopback address of this process alone, and a free port.
pub(crate) fn free_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed) % 250;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [.., second] = (call + 1).to_be_bytes();
    let address = Ipv4Addr::new(127, second, high, low);
    let listener = TcpListener::bind((address, 0)).expect("loopback addresses can be bound");
    listener.local_addr().expect("a bound socket has an address")
}

/// The command as it was built for this test run.
pub(crate) fn ringway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.stdin(Stdio::null());
    command
}

/// The command as a service manager runs it that has opened these two sockets and calls them `names`.
pub(crate) fn activated(sockets: [&TcpListener; 2], names: &str) -> Command {
    let [first, second] = sockets.map(|socket| socket.try_clone().expect("a descriptor is free"));
    let mut shell = Command::new("sh");
    let script = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null";
    shell.args(["-c", script]).arg(ringway().get_program());
    shell.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    shell.stdin(OwnedFd::from(first)).stdout(OwnedFd::from(second));
    shell
}

/// How a process ended; `None`: it did not in this time.
pub(crate) fn wait_for_end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = now() + patience;
    loop {
        let status = child.try_wait().expect("our own child can be waited for");
        if status.is_some() || now() > deadline {
            return status;
        }
        pause(Duration::from_millis(5));
    }
}

impl Gateway {
    /// Starts it with settings made for tests; `overrides` are `key.path=value` and win.
    pub(crate) fn start(overrides: &[&str]) -> Self {
        let clients = free_address();
        Self::start_with(&usual_settings(clients), clients, overrides)
    }

    /// Starts it with this configuration, whose clients connect to `clients`.
    pub(crate) fn start_with(text: &str, clients: SocketAddr, overrides: &[&str]) -> Self {
        Self::launch(ringway(), text, (clients, free_address()), overrides)
    }

    /// Starts it by this command, whose arguments are added.
    pub(crate) fn start_by(command: Command, overrides: &[&str]) -> Self {
        let clients = free_address();
        Self::launch(command, &usual_settings(clients), (clients, free_address()), overrides)
    }

    /// Starts it as a service manager does that has opened these sockets, for clients and operators.
    pub(crate) fn start_activated(sockets: [&TcpListener; 2], overrides: &[&str]) -> Self {
        let [clients, operators] = sockets.map(|socket| socket.local_addr().expect("it is bound"));
        let command = activated(sockets, "ringway.socket:operator");
        Self::launch(command, &usual_settings(clients), (clients, operators), overrides)
    }

    /// Starts it with at most `count` descriptors.
    pub(crate) fn start_with_descriptors(count: u32, overrides: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]);
        shell.arg(ringway().get_program());
        Self::start_by(shell, overrides)
    }

    /// Starts it in the control group whose list of processes is this file.
    pub(crate) fn start_in_group(processes: &Path, overrides: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("echo $$ > '{}'; exec \"$0\" \"$@\"", processes.display())]);
        shell.arg(ringway().get_program());
        Self::start_by(shell, overrides)
    }

    fn launch(
        mut command: Command,
        text: &str,
        (clients, operators): (SocketAddr, SocketAddr),
        overrides: &[&str],
    ) -> Self {
        let folder = TempDir::new().expect("there is room for a configuration");
        let path = folder.path().join("ringway.toml");
        std::fs::write(&path, text).expect("there is room for a configuration");
        command.arg("run").arg("--config").arg(&path);
        let address = format!("operator.address=\"{operators}\"");
        let usual = [
            "shards=1",
            "pin_threads=false",
            "operator.api_insecure=true",
            "echo.enabled=true",
            "drain.grace=\"0s\"",
            "drain.window=\"0s\"",
        ];
        let disabled = disabled_features();
        let settings = usual.into_iter().chain([&*address, &*disabled]);
        for setting in settings.chain(overrides.iter().copied()) {
            command.arg("--set").arg(setting);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the daemon was built");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let log_reader = Some(std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in lines.map_while(Result::ok) {
                    *log.lock().expect("nobody panics here") += &(line + "\n");
                }
            }
        }));
        let mut gateway = Self { child, clients, operators, log, log_reader, folder };
        gateway.await_readiness();
        gateway
    }

    fn await_readiness(&mut self) {
        let deadline = now() + PATIENCE;
        while metrics::get(self.operators, "/readyz").is_none_or(|(status, _)| status != 200) {
            let ended = self.child.try_wait().expect("our own child can be waited for");
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            assert!(now() < deadline, "not ready: {}", self.log());
            pause(Duration::from_millis(5));
        }
    }

    /// Where clients connect.
    pub(crate) fn clients(&self) -> SocketAddr {
        self.clients
    }

    /// Where its configuration is.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("ringway.toml")
    }

    /// Where operators connect.
    pub(crate) fn operators(&self) -> SocketAddr {
        self.operators
    }

    /// A TCP connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.clients)
    }

    /// A WebSocket connection.
    pub(crate) fn open(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.upgrade(path);
        client
    }

    /// A WebSocket connection with compression; `offer` is what stands behind the extension's name.
    /// Returns the answer too, as far as it stands behind the name.
    pub(crate) fn open_deflate(&self, path: &str, offer: &str) -> (Client, String) {
        let mut client = self.connect();
        let header = format!("Sec-WebSocket-Extensions: permessage-deflate{offer}\r\n");
        client.send(client::request(path, &header).as_bytes());
        let response = client.expect_upgrade();
        let answer = response.header("sec-websocket-extensions").expect("compression is agreed");
        let answer = answer.strip_prefix("permessage-deflate").expect("what was offered");
        (client, answer.to_owned())
    }

    /// A Centrifugo connection that has been let in.
    pub(crate) fn centrifuge(&self) -> Client {
        let mut client = self.open("/connection/websocket");
        client.send_text(r#"{"id":1,"connect":{}}"#);
        let reply = client.read_text();
        assert!(reply.starts_with(r#"{"id":1,"connect":{"client":""#), "{reply}");
        client
    }

    /// An innocent connection that is served all the while.
    pub(crate) fn canary(&self) -> Canary {
        Canary::start(self.open("/echo"))
    }

    /// Its numbers now.
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = metrics::get(self.operators, "/metrics");
        let (status, text) = answer.expect("the operator port answers");
        assert_eq!(status, 200, "{text}");
        Metrics::parse(&text)
    }

    /// Its numbers as soon as they are as wanted.
    pub(crate) fn await_metrics(&self, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if wanted(&metrics) {
                return metrics;
            }
            assert!(now() < deadline, "the numbers do not come: {metrics:#?}\n{}", self.log());
            pause(Duration::from_millis(10));
        }
    }

    /// Calls the server API.
    pub(crate) fn api(&self, method: &str, body: &str) -> String {
        let answer = metrics::post(self.operators, &format!("/api/{method}"), body);
        let (status, text) = answer.expect("the operator port answers");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// What it remembers of closes that match `query`, newest first.
    pub(crate) fn closes(&self, query: &str) -> Vec<Value> {
        let answer = metrics::get(self.operators, &format!("/debug/closes?{query}"));
        let (status, text) = answer.expect("the operator port answers");
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("it is JSON");
        answer["closes"].as_array().expect("a list").clone()
    }

    /// The first close that it remembers with this cause, as soon as there is one.
    pub(crate) fn await_close(&self, cause: &str) -> Value {
        let deadline = now() + PATIENCE;
        loop {
            if let Some(close) = self.closes(&format!("cause={cause}")).pop() {
                return close;
            }
            assert!(now() < deadline, "no close for {cause}: {:?}", self.closes(""));
            pause(Duration::from_millis(10));
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("nobody panics here").clone()
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon runs");
    }

    /// Waits for its end; returns how it ended and what it had logged.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = wait_for_end(&mut self.child, PATIENCE).expect("it ends when it is told to");
        if let Some(reader) = self.log_reader.take() {
            reader.join().expect("the log is text");
        }
        (status, self.log())
    }

    /// As [`Gateway::finish`], with at most this many descriptors in the end.
    pub(crate) fn finish_with_descriptors(self, most: usize) {
        let deadline = now() + PATIENCE;
        while self.usage().descriptors > most {
            assert!(now() < deadline, "descriptors stay open: {:?}", self.usage());
            pause(Duration::from_millis(10));
        }
        self.finish();
    }

    /// Sees that all that came has gone and been counted, and that it ends in order.
    pub(crate) fn finish(self) {
        let metrics = self.await_metrics(|metrics| {
            metrics.sum("connections") == 0 && metrics.sum("connections_handshaking") == 0
        });
        metrics.assert_balanced();
        for gauge in ["outbox_bytes", "backlogs", "subscriptions"] {
            assert_eq!(metrics.sum(gauge), 0, "{gauge}");
        }
        assert_eq!(metrics.sum("panics_total"), 0, "{}", self.log());
        self.signal(Signal::TERM);
        let (status, log) = self.end();
        assert_eq!(status.code(), Some(0), "{status:?}: {log}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It may end by itself meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
            {
                eprintln!("--- the daemon's log\n{}", self.log());
            }
        }
    }
}

/// The setting that `RINGWAY_TEST_DISABLE` asks for: `all`, or names with commas between.
fn disabled_features() -> String {
    let wanted = std::env::var("RINGWAY_TEST_DISABLE").unwrap_or_default();
    let names = Feature::ALL.map(Feature::name);
    let names =
        names.iter().filter(|name| wanted == "all" || wanted.split(',').any(|w| w == **name));
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    format!("ring.disable=[{}]", names.join(","))
}
