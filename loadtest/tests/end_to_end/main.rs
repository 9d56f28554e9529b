//! The load generator against a server whose faults are known.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

mod compare;
mod server;

const BINARY: &str = env!("CARGO_BIN_EXE_ringway-loadtest");

/// Exit code, result and standard output of one run.
struct Run {
    code: Option<i32>,
    result: Value,
    table: String,
}

/// Runs for two seconds, unless the arguments say otherwise.
fn run(addr: SocketAddr, arguments: &str) -> Run {
    let secs = if arguments.contains("--secs") { "" } else { " --secs 2" };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("result.json");
    let output = Command::new(BINARY)
        .args(format!("{arguments}{secs}").split(' '))
        .args(["--addr", &addr.to_string(), "--warmup-secs", "0", "--json"])
        .arg(&file)
        .output()
        .expect("the binary starts");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_owned());
    Run {
        code: output.status.code(),
        result: serde_json::from_str(&text).expect("the result is JSON"),
        table: String::from_utf8(output.stdout).expect("the table is text"),
    }
}

const FAULTS: [&str; 8] =
    ["missing", "duplicated", "out_of_order", "wrong", "refused", "failed", "lost", "stalls"];

fn faults(result: &Value) -> Vec<&'static str> {
    FAULTS.into_iter().filter(|name| result[name] != 0).collect()
}

#[test]
fn a_faultless_server_passes_every_mode() {
    let addr = server::start();
    for (arguments, sent) in [
        ("echo --connections 5 --depth 4 --count 2000", 2000),
        ("echo --connections 4 --size 300 --threads 2 --count 500", 500),
        ("echo --connections 2 --count 200 --path /echo/fragment", 200),
        ("echo --connections 3 --count 200 --topic own --protocol centrifuge", 200),
        ("fanout --subscribers 7 --count 200 --topic a", 200),
        (
            "fanout --subscribers 7 --topics 3 --publishers 4 --window 4 --threads 2 --count 400 --topic b",
            400,
        ),
        ("fanout --subscribers 5 --topics 2 --publishers 3 --rate 900 --count 300 --topic c", 300),
        ("fanout --subscribers 5 --count 200 --topic d --protocol centrifuge", 200),
        (
            "fanout --subscribers 5 --topics 2 --publishers 2 --rate 200 --rate-to-all 100 --threads 2 --count 90 --topic f --protocol centrifuge",
            90,
        ),
        ("churn --connections 3 --count 60", 60),
        ("churn --connections 3 --count 60 --threads 2 --topic e --protocol centrifuge", 60),
    ] {
        let run = run(addr, arguments);
        assert_eq!(faults(&run.result), [""; 0], "{arguments}\n{}", run.table);
        assert_eq!(run.code, Some(0), "{arguments}\n{}", run.table);
        assert_eq!(run.result["sent"], sent, "{arguments}");
    }
}

#[test]
fn idle_connections_are_counted_and_measured() {
    let addr = server::start();
    let own = std::process::id(); // the server is a thread of this process
    let run = run(addr, &format!("idle --connections 50 --threads 2 --secs 1 --server-pid {own}"));
    assert_eq!(run.code, Some(0), "{}", run.table);
    assert_eq!(run.result["units"], 50);
    assert!(run.result["server_rss_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(run.result["server_cpu_us_per_unit"].is_number());
    assert!(run.result["handshake_p99_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_close_is_a_fault_unless_it_is_the_expected_one() {
    let addr = server::start();
    for (arguments, expected) in [
        ("--path /topic/restart --expect-close 1012", &[][..]),
        ("--path /topic/restart --expect-close 1001", &["missing", "lost"]),
        ("--path /topic/restart", &["lost"]),
        ("--path /topic/quiet --expect-close 1012", &["missing"]),
    ] {
        let run = run(addr, &format!("idle --connections 20 --secs 1 {arguments}"));
        assert_eq!(faults(&run.result), expected, "{arguments}\n{}", run.table);
        assert_eq!(run.code, Some(i32::from(!expected.is_empty())), "{arguments}");
    }
}

#[test]
fn a_stalled_connection_is_a_fault_unless_the_server_ends_it() {
    let addr = server::start();
    for (path, expected) in [("/topic/kick", &[][..]), ("/topic/quiet", &["missing"])] {
        let run = run(addr, &format!("stalled --connections 20 --threads 2 --path {path}"));
        assert_eq!(faults(&run.result), expected, "{path}\n{}", run.table);
        assert_eq!(run.code, Some(i32::from(!expected.is_empty())), "{path}");
        assert_eq!(run.result["units"], 20, "{path}");
    }
}

#[test]
fn every_mutant_of_the_server_is_caught() {
    let addr = server::start();
    for (fault, found) in [
        ("drop", "missing"),
        ("swap", "out_of_order"),
        ("duplicate", "duplicated"),
        ("corrupt", "wrong"),
    ] {
        let topic = fault.chars().next().unwrap();
        for arguments in [
            format!("echo --connections 1 --depth 8 --count 150 --path /echo/{fault}"),
            format!("fanout --subscribers 3 --window 4 --count 60 --path /topic/{fault}/{topic}"),
            format!(
                "fanout --subscribers 3 --threads 2 --rate 200 --count 60 --topic {fault} \
                 --protocol centrifuge --path /connection/{fault}"
            ),
        ] {
            let run = run(addr, &arguments);
            assert_eq!(run.code, Some(1), "{arguments}\n{}", run.table);
            assert!(faults(&run.result).contains(&found), "{arguments}\n{}", run.table);
            let table = run.table.lines().find(|line| line.starts_with(found)).unwrap();
            assert!(!table.ends_with(" 0"), "{table}");
        }
    }
}

#[test]
fn one_dropped_publication_is_missed_by_every_receiver() {
    let addr = server::start();
    // The 25th of 40 publications does not reach the three subscribers and the publisher.
    let run = run(addr, "fanout --subscribers 3 --rate 400 --count 40 --path /topic/drop/one");
    assert_eq!(run.result["missing"], 4, "{}", run.table);
    assert_eq!(faults(&run.result), ["missing"], "{}", run.table);
}

#[test]
fn a_closed_loop_goes_on_after_a_loss() {
    let addr = server::start();
    let run = run(addr, "fanout --subscribers 3 --count 40 --secs 5 --path /topic/drop/loop");
    assert_eq!(faults(&run.result), ["missing", "stalls"], "{}", run.table);
    assert_eq!((&run.result["sent"], &run.result["stalls"]), (&40.into(), &1.into()));
}

#[test]
fn servers_that_refuse_or_leave_fail_the_run() {
    let addr = server::start();
    let busy = run(addr, "idle --connections 7 --path /busy");
    assert_eq!((busy.code, &busy.result["failed"]), (Some(1), &7.into()), "{}", busy.table);
    let leaves = run(addr, "echo --connections 3 --count 100 --path /echo/leave");
    assert_eq!((leaves.code, &leaves.result["lost"]), (Some(1), &3.into()), "{}", leaves.table);
    assert_eq!(leaves.result["missing"], 3);
    let lingers = run(addr, "churn --connections 3 --count 9 --path /echo/linger");
    assert_eq!((lingers.code, &lingers.result["wrong"]), (Some(1), &3.into()), "{}", lingers.table);
    let closed = run(addr, "echo --connections 2 --count 9 --topic closed --protocol centrifuge");
    assert_eq!((closed.code, &closed.result["refused"]), (Some(1), &2.into()), "{}", closed.table);
    let nobody = "127.0.0.1:1".parse().unwrap();
    let absent = run(nobody, "churn --connections 2");
    assert_eq!((absent.code, &absent.result["failed"]), (Some(1), &2.into()), "{}", absent.table);
}

#[test]
fn a_foreign_target_is_refused() {
    let run = run("192.0.2.1:80".parse().unwrap(), "idle");
    assert_eq!((run.code, run.table.as_str()), (Some(2), ""));
}

#[test]
fn ctrl_c_prints_what_there_is() {
    let addr = server::start();
    let mut child = Command::new(BINARY)
        .args(["echo", "--connections", "3", "--secs", "600", "--warmup-secs", "0"])
        .args(["--addr", &addr.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut progress).unwrap();
    assert!(progress.contains("measuring 3 open, 0 failed, 0 lost"), "{progress}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut table = String::new();
    child.stdout.take().unwrap().read_to_string(&mut table).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{table}");
    assert!(table.contains("interrupted             true\n"), "{table}");
    assert!(table.contains("\nunits_per_s "), "{table}");
}
