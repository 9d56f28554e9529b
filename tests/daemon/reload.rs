//! The configuration is read again while connections stand and come.

use std::process::Output;

use rustix::process::Signal;

use crate::gateway::clock::{ms, now, pause};
use crate::gateway::metrics::{self, family};
use crate::gateway::{Gateway, PATIENCE, free_address, ringway};

/// A gateway without a namespace for `news:`, whose configuration can be written anew.
struct Reloadable {
    gateway: Gateway,
    text: String,
}

impl Reloadable {
    fn start(overrides: &[&str]) -> Self {
        let clients = free_address();
        let text =
            format!("[[listener]]\naddress = \"{clients}\"\n[[namespace]]\npublish = \"allow\"\n");
        Self { gateway: Gateway::start_with(&text, clients, overrides), text }
    }

    fn write(&self, more: &str) {
        let text = format!("{}{more}", self.text);
        std::fs::write(self.gateway.config(), text).expect("there is room");
    }

    /// Writes the configuration with `more` at its end and has it read; waits for the outcome.
    fn reload(&self, more: &str, outcome: &str) {
        let count = |gateway: &Gateway| {
            gateway.metrics().family("config_reloads_total").get(outcome).copied().unwrap_or(0)
        };
        let before = count(&self.gateway);
        self.write(more);
        self.gateway.signal(Signal::HUP);
        let deadline = now() + PATIENCE;
        while count(&self.gateway) == before {
            assert!(now() < deadline, "it is not read: {}", self.gateway.log());
            pause(ms(5));
        }
    }

    /// Waits until these words are logged.
    fn await_log(&self, words: &str) {
        let deadline = now() + PATIENCE;
        while !self.gateway.log().contains(words) {
            assert!(now() < deadline, "{words}: {}", self.gateway.log());
            pause(ms(5));
        }
    }

    /// Runs a command for it.
    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = ringway();
        command.args(words).arg("--config").arg(self.gateway.config());
        command.arg("--set").arg(format!("operator.address={}", self.gateway.operators()));
        let Output { status, stdout, stderr } = command.output().expect("the daemon was built");
        let text = |bytes| String::from_utf8(bytes).expect("it writes text");
        (status.code(), text(stdout) + &text(stderr))
    }
}

/// The answer to a Centrifugo client that subscribes to `topic`.
fn subscribe(gateway: &Gateway, topic: &str) -> String {
    let mut client = gateway.centrifuge();
    client.send_text(&format!(r#"{{"id":2,"subscribe":{{"channel":"{topic}"}}}}"#));
    client.read_text()
}

#[test]
fn limits_and_namespaces_change_for_those_who_are_connected() {
    let it = Reloadable::start(&[]);
    let mut client = it.gateway.open("/topic/demo");
    let refused = subscribe(&it.gateway, "news:today");
    assert!(refused.contains("102"), "{refused}");
    it.reload(
        "[[namespace]]\nname = \"news\"\n[websocket]\nmessage_bytes_max = \"1 KiB\"\n",
        "success",
    );
    let granted = subscribe(&it.gateway, "news:today");
    assert!(granted.contains("\"subscribe\":{"), "{granted}");
    client.send_text(&"x".repeat(1025));
    assert_eq!(client.read_close().0, Some(1009));
    it.await_log("changed: namespace.1: added \"news\"");
    it.await_log("websocket.message_bytes_max: \"64 KiB\" -> \"1 KiB\"");
}

#[test]
fn limits_of_connections_count_those_who_came_before() {
    let it = Reloadable::start(&[]);
    let clients: Vec<_> = (0..3).map(|_| it.gateway.open("/echo")).collect();
    it.reload("connections_max = 3\n[limits]\nconnections_max = 100\n", "failure");
    // The first line belongs to the namespace: a mistake.
    it.await_log("refused: ");
    it.reload("[limits]\nconnections_max = 3\n", "success");
    let mut late = it.gateway.connect();
    late.send(crate::gateway::client::request("/echo", "").as_bytes());
    assert_eq!(late.read_response().status, 503);
    drop((clients, late));
    it.gateway.await_metrics(|m| m.sum("connections") == 0);
    drop(it.gateway.open("/echo"));
    it.reload("", "success");
    let clients: Vec<_> = (0..5).map(|_| it.gateway.open("/echo")).collect();
    drop(clients);
    it.gateway.finish();
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let it = Reloadable::start(&[]);
    for (text, problem) in [
        ("[outbox]\nbytes_max = \"1 MB\"\n", "outbox.bytes_max"),
        ("[outbox\n", "not TOML"),
        ("[[certificate]]\nchain = \"/nowhere\"\nkey = \"/nowhere\"\n", "certificate.0.chain"),
        ("shards = 2\n[nonsense]\n[limits]\nconnections_max = 1\n", "nonsense"),
    ] {
        it.reload(text, "failure");
        it.await_log("the old one stays as a whole");
        it.await_log(problem);
    }
    let clients = [(); 2].map(|()| it.gateway.open("/echo"));
    let (code, told) = it.run(&["reload"]);
    assert_eq!(code, Some(78), "{told}");
    drop(clients);
    let metrics = it.gateway.metrics();
    assert_eq!(metrics.family("config_reloads_total"), family([("failure", 4)]));
    it.gateway.finish();
}

#[test]
fn what_needs_a_restart_is_named_and_counted() {
    let it = Reloadable::start(&[]);
    let more = "[ring]\nentries = 1024\n[lanes]\nrequests_max = 64\n[closes]\nkept = 7\n";
    it.write(more);
    let (code, told) = it.run(&["config", "diff"]);
    let expected = "at once:\n  closes.kept: 1024 -> 7\nafter a restart:\n  \
                    ring.entries: 4096 -> 1024\n  lanes.requests_max: 1024 -> 64\n";
    assert_eq!((code, &*told), (Some(0), expected));
    assert_eq!(it.gateway.metrics().sum("config_reloads_total"), 0);
    assert_eq!(it.run(&["reload"]), (Some(0), expected.to_owned()));
    assert_eq!(it.gateway.metrics().sum("config_restart_pending"), 2);
    it.await_log("counts after a restart: ring.entries");
    // What was taken over is no change any more; what waits still is one.
    let (_, told) = it.run(&["config", "diff"]);
    assert!(!told.contains("closes.kept") && told.contains("ring.entries"), "{told}");
    it.reload("", "success");
    assert_eq!(it.gateway.metrics().sum("config_restart_pending"), 0);
    assert_eq!(it.run(&["config", "diff"]), (Some(0), "nothing changes\n".to_owned()));
    it.gateway.finish();
}

#[test]
fn two_files_are_compared_without_a_gateway() {
    let it = Reloadable::start(&[]);
    let other = it.gateway.config().with_file_name("other.toml");
    std::fs::write(&other, format!("{}[http]\nheaders_max = 32\n", it.text))
        .expect("there is room");
    let other = other.to_str().expect("temporary folders have plain names");
    let (code, told) = it.run(&["config", "diff", "--against", other]);
    assert_eq!((code, &*told), (Some(0), "for new connections:\n  http.headers_max: 32 -> 64\n"));
    it.gateway.finish();
}

#[test]
fn the_key_of_the_api_changes_at_once() {
    let key = "operator.api_insecure=false";
    let it = Reloadable::start(&[key]);
    let post =
        || metrics::post(it.gateway.operators(), "/api/info", "{}").map(|(status, _)| status);
    assert_eq!(post(), Some(403));
    it.reload("[operator]\napi_key = \"sesame, sesame, sesame\"\n", "success");
    assert_eq!(post(), Some(401));
    it.await_log("operator.api_key: (secret) -> (secret)");
    assert!(!it.gateway.log().contains("sesame"), "{}", it.gateway.log());
    it.gateway.finish();
}

#[test]
fn levels_of_rooms_change_at_once() {
    let it = Reloadable::start(&[]);
    it.gateway.api("info", "{}");
    assert!(!it.gateway.log().contains("operator request"));
    it.reload("[log]\nlevels = [\"api=debug\"]\n", "success");
    it.gateway.api("info", "{}");
    it.await_log("operator request");
    it.gateway.finish();
}

#[test]
fn fifty_reloads_under_load_lose_nothing() {
    let it = Reloadable::start(&["shards=2"]);
    let mut readers: Vec<_> = (0..20).map(|_| it.gateway.open("/topic/demo")).collect();
    let mut writer = it.gateway.open("/topic/demo");
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 0..500 {
                writer.send_text(&number.to_string());
                assert_eq!(writer.read_text(), number.to_string());
                pause(ms(2));
            }
        });
        let mut round = 0;
        while round < 50 || !writing.is_finished() {
            let more = match round % 3 {
                0 => "[outbox]\nbytes_max = \"2 MiB\"\n[limits]\nsubscriptions_max = 5\n",
                1 => "[nonsense]\n",
                _ => "[websocket]\nidle_timeout = \"1h\"\n[log]\nlevel = \"warn\"\n",
            };
            it.reload(more, if round % 3 == 1 { "failure" } else { "success" });
            drop(it.gateway.open("/echo"));
            round += 1;
        }
        writing.join().expect("nothing is lost");
    });
    for reader in &mut readers {
        for number in 0..500 {
            assert_eq!(reader.read_text(), number.to_string());
        }
    }
    drop((readers, writer));
    it.gateway.finish();
}
