//! Commands that need no gateway: what they say about the machine, and the papers that they write.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::gateway::{free_address, ringway};

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the daemon was built");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (status.code(), text(stdout) + &text(stderr))
}

/// The doctor's words about a gateway on free ports, with these settings and in this shell.
fn examined(shell: &str, settings: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    let script = format!("{shell}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(ringway().get_program()).arg("doctor");
    let ports = [
        format!("listener.0.address={}", free_address()),
        format!("operator.address={}", free_address()),
    ];
    for setting in ports.iter().map(String::as_str).chain(settings.iter().copied()) {
        command.arg("--set").arg(setting);
    }
    run(&mut command)
}

fn line<'a>(told: &'a str, about: &str) -> &'a str {
    let found = told.lines().find(|line| line.get(6..).is_some_and(|line| line.starts_with(about)));
    found.unwrap_or_else(|| panic!("nothing about {about}: {told}"))
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let (_, told) = examined(":", &["limits.connections_max=100"]);
    for about in ["configuration", "kernel", "certificates", "port", "memory", "clock"] {
        assert!(line(&told, about).starts_with("ok "), "{told}");
    }
    for about in ["net.core.somaxconn", "net.ipv4.tcp_mem", "fs.nr_open", "locked memory"] {
        line(&told, about);
    }
    let (code, told) = examined("ulimit -n 1000", &["limits.connections_max=2000"]);
    assert_eq!(code, Some(1), "{told}");
    let files = line(&told, "open files");
    assert!(files.starts_with("FAIL ") && files.contains("raise LimitNOFILE="), "{told}");
    assert!(told.contains("not all is well: "), "{told}");
    let (code, told) = examined(":", &["memory.budget=\"900 GiB\"", "shards=200"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(line(&told, "memory").starts_with("FAIL "), "{told}");
    assert!(line(&told, "threads").starts_with("warn "), "{told}");
}

#[test]
fn the_doctor_reads_the_certificates_and_tries_the_ports() {
    let taken = std::net::TcpListener::bind(free_address()).expect("free");
    let address = format!("listener.0.address={}", taken.local_addr().expect("it is bound"));
    let (code, told) = examined(
        ":",
        &[
            &address,
            "listener.0.tls=true",
            "certificate.0.chain=/nowhere/a.pem",
            "certificate.0.key=/nowhere/a.key",
        ],
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(line(&told, "port").contains("another process listens there"), "{told}");
    let certificate = line(&told, "certificates");
    assert!(certificate.starts_with("FAIL ") && certificate.contains("/nowhere/a.pem"), "{told}");
}

#[test]
fn every_command_has_its_page_in_the_manual_with_every_option() {
    let folder = TempDir::new().expect("there is room");
    let pages = folder.path().join("man");
    let (code, told) = run(ringway().arg("man").arg(&pages));
    assert_eq!((code, &*told), (Some(0), ""));
    let page = |name: &str| {
        let text = fs::read_to_string(pages.join(format!("{name}.1")));
        text.unwrap_or_else(|error| panic!("{name}: {error}")).replace("\\-", "-")
    };
    let top = page("ringway");
    for verb in
        ["run", "check", "doctor", "health", "drain", "reload", "config", "man", "completions"]
    {
        assert!(top.contains(&format!("ringway-{verb}(1)")), "{verb}: {top}");
        let own = page(&format!("ringway-{verb}"));
        let (_, help) = run(ringway().args([verb, "--help"]));
        let options = help.split_whitespace().filter(|word| word.starts_with("--"));
        for option in options.map(|option| option.trim_end_matches([',', '.', '`', ']'])) {
            let name = option.split(['=', '`']).next().unwrap_or(option);
            assert!(own.contains(name), "{verb} {name}: {own}");
        }
    }
    assert!(page("ringway-config-diff").contains("--against"));
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    for shell in ["bash", "fish", "zsh"] {
        let (code, script) = run(ringway().args(["completions", shell]));
        assert_eq!(code, Some(0), "{script}");
        for word in ["doctor", "health", "drain", "reload", "config", "against", "timeout"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let (_, script) = run(ringway().args(["completions", "bash"]));
    let (code, told) = run(Command::new("bash").args(["-n", "-c", &script]));
    assert_eq!((code, &*told), (Some(0), ""));
}
