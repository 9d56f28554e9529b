//! What people are told who start it wrongly, and how it ends when it is told to.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::gateway::clock::{ms, now, pause};
use crate::gateway::{Gateway, free_address, metrics, ringway, wait_for_end};

/// Runs it to its end, which must come by itself.
fn run(command: &mut Command) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon was built");
    let Some(status) = wait_for_end(&mut child, Duration::from_secs(5)) else {
        child.kill().expect("it runs");
        let output = child.wait_with_output().expect("it was killed");
        panic!("it does not end: {output:?}");
    };
    let Output { stdout, stderr, .. } = child.wait_with_output().expect("it has ended");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (status.code().expect("no signal ended it"), text(stdout), text(stderr))
}

fn file(text: &str) -> (TempDir, String) {
    let folder = TempDir::new().expect("there is room");
    let path = folder.path().join("ringway.toml");
    std::fs::write(&path, text).expect("there is room");
    let path = path.to_str().expect("temporary folders have plain names").to_owned();
    (folder, path)
}

#[test]
fn check_names_everything_that_is_wrong_at_once() {
    let (_folder, path) = file(
        "shards = -1\n\
         [[listener]]\n\
         address = \"localhost\"\n\
         [outbox]\n\
         bytes_max = \"1 MB\"\n\
         [websocket]\n\
         pong_timeout = \"1m\"\n\
         message_bytes = 5\n\
         [nonsense]\n\
         [[namespace]]\n\
         mode = \"queue\"\n",
    );
    let (code, _, told) = run(ringway().args(["check", "--config", &path]));
    assert_eq!(code, 78, "{told}");
    for (line, key) in [
        (1, "shards"),
        (3, "listener.0.address"),
        (5, "outbox.bytes_max"),
        (7, "websocket.pong_timeout"),
        (8, "websocket.message_bytes"),
        (9, "nonsense"),
        (11, "namespace.0.mode"),
    ] {
        let at = format!("{path}:{line}:");
        let found = told.lines().any(|text| text.starts_with(&at) && text.contains(key));
        assert!(found, "{key} in line {line} is not named:\n{told}");
    }
    assert!(told.ends_with("problems\n"), "{told}");
    // `run` says the same and does not start.
    let (code, _, same) = run(ringway().args(["run", "--config", &path]));
    assert_eq!((code, same), (78, told));
}

#[test]
fn check_says_so_when_all_is_well() {
    let (_folder, path) = file("shards = 1\n");
    let (code, said, told) = run(ringway().args(["check", "--config", &path]));
    assert_eq!((code, &*said, &*told), (0, "the configuration is good\n", ""));
}

#[test]
fn overrides_are_checked_too() {
    let (code, _, told) = run(ringway().args(["check", "--set", "outbox.bytes_max=\"2 XiB\""]));
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("--set: outbox.bytes_max"), "{told}");
    for (words, says) in [
        ("outbox", "write it as key.path=value"),
        ("listener.1.address=\"[::1]:1\"", "write listener.0.key=value for the first"),
        ("limits.address_exempt.7=\"::1\"", "limits.address_exempt"),
    ] {
        let (code, _, told) = run(ringway().args(["check", "--set", words]));
        assert_eq!(code, 78, "{told}");
        assert!(
            told.contains(&format!("--set: {}", words.split('.').next().unwrap_or(words))),
            "{told}"
        );
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn text_that_is_not_toml_is_located() {
    let (_folder, path) = file("shards = 1\n[http\n");
    let (code, _, told) = run(ringway().args(["check", "--config", &path]));
    assert_eq!(code, 78, "{told}");
    assert!(told.contains(&format!("{path}:2:")), "{told}");
}

#[test]
fn a_missing_file_is_named() {
    for verb in ["run", "check"] {
        let (code, _, told) = run(ringway().args([verb, "--config", "/nowhere/ringway.toml"]));
        assert_eq!(code, 78, "{told}");
        assert!(told.contains("/nowhere/ringway.toml") && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn a_file_that_is_none_or_not_text_is_told_with_what_to_do() {
    let (folder, path) = file("");
    let (code, _, told) = run(ringway().args(["check", "--config"]).arg(folder.path()));
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("Is a directory") && told.contains("name the file itself"), "{told}");
    std::fs::write(&path, b"\x30\x82\xff").expect("there is room");
    let (code, _, told) = run(ringway().args(["check", "--config", &path]));
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("is not UTF-8 text") && told.contains("check --config"), "{told}");
}

#[test]
fn unknown_words_on_the_command_line_are_usage_errors() {
    for words in [&["--frobnicate"][..], &["explode"], &["run", "--config"], &["check", "a", "b"]] {
        let (code, said, told) = run(ringway().args(words));
        assert_eq!(code, 64, "{words:?}: {told}");
        assert!(said.is_empty() && told.contains("--help"), "{words:?}: {told}");
    }
    let (code, said, _) = run(ringway().arg("--version"));
    assert_eq!((code, said), (0, format!("ringway {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(ringway().arg("--help")).0, 0);
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let gateway = Gateway::start(&[]);
    let taken = gateway.clients();
    let free = free_address();
    for (listener, operator, named) in [(taken, free, taken), (free, taken, taken)] {
        let (_folder, path) = file(&format!(
            "shards = 1\n[[listener]]\naddress = \"{listener}\"\n\
             [operator]\naddress = \"{operator}\"\n"
        ));
        let (code, _, told) = run(ringway().args(["run", "--config", &path]));
        assert_eq!(code, 78, "{told}");
        let line = told.lines().find(|line| line.starts_with("ringway: ")).unwrap_or_default();
        assert!(line.contains(&named.to_string()), "{told}");
        assert!(line.contains("another process listens there"), "{told}");
    }
    gateway.finish();
}

#[test]
fn an_interrupt_drains_and_a_second_one_ends_at_once() {
    let gateway = Gateway::start(&["drain.window=\"500ms\""]);
    let mut client = gateway.open("/echo");
    gateway.signal(Signal::INT);
    assert_eq!(client.read_close().0, Some(1012));
    client.send_close(1012);
    drop(client);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("draining") && log.contains("SIGINT"), "{log}");

    for second in [Signal::INT, Signal::TERM] {
        let gateway = Gateway::start(&["drain.grace=\"1m\"", "drain.window=\"1m\""]);
        let _client = gateway.open("/echo");
        gateway.signal(Signal::INT);
        while !gateway.log().contains("draining") {
            pause(ms(5));
        }
        let began = now();
        gateway.signal(second);
        let (status, log) = gateway.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(now() - began < ms(1_500), "{:?}: {log}", now() - began);
    }
}

#[test]
fn readiness_fails_as_soon_as_it_drains() {
    let gateway = Gateway::start(&["drain.grace=\"1s\""]);
    let client = gateway.open("/echo");
    let status = || metrics::get(gateway.operators(), "/readyz").map(|(s, _)| s);
    assert_eq!(status(), Some(200));
    gateway.signal(Signal::TERM);
    while !gateway.log().contains("draining") {
        pause(ms(5));
    }
    assert_eq!(status(), Some(503));
    // Clients are served for the time of grace.
    let mut late = gateway.open("/echo");
    late.send_text("still");
    assert_eq!(late.read_text(), "still");
    drop((client, late));
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn certificates_that_are_pipes_are_not_waited_for() {
    let (folder, path) = file("");
    let pipe = folder.path().join("pipe.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let text =
        format!("[[listener]]\ntls = true\n[[certificate]]\nchain = {pipe:?}\nkey = {pipe:?}\n");
    std::fs::write(&path, text).expect("there is room");
    let (code, _, told) = run(ringway().args(["check", "--config", &path]));
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("pipe.pem") && told.contains("it is a pipe"), "{told}");
    assert!(told.contains("name the file itself"), "{told}");
}
