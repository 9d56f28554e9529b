//! Comparisons of servers that this test program itself becomes when it is asked to.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use super::{BINARY, server};

/// Says where the server of [`serve_until_killed`] is to be.
const ADDRESS: &str = "RINGWAY_LOADTEST_SERVER";

/// Not a test: what the servers of the others run.
#[test]
#[ignore = "it serves until it is killed"]
fn serve_until_killed() {
    let addr = std::env::var(ADDRESS).expect("the address is given");
    server::start_at(addr.parse().expect("it is an address"));
    loop {
        thread::park();
    }
}

/// A server with this name, and what it says of itself besides.
fn spec(name: &str, more: &str) -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("a bound address");
    let own = std::env::current_exe().expect("this program has a path");
    format!(
        "{name} ws://{addr} {more} -- {ADDRESS}={addr} exec {} --ignored --exact compare::serve_until_killed",
        own.display()
    )
}

fn compare(arguments: &[&str], specs: &[String]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["compare", "--secs", "1", "--warmup-secs", "0", "--quiet"]).args(arguments);
    for spec in specs {
        command.arg("--server").arg(spec);
    }
    command.output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

#[test]
fn two_servers_are_compared_pair_by_pair_and_drawn() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("result.json");
    let json = file.to_str().expect("a path of text");
    let runs = ["--run", "some echoes: echo --connections 4", "--run", "idle --connections 20"];
    // Also where there is one CPU only; who shares it does not matter here.
    let pinned = ["--pairs", "4", "--server-cpus", "0", "--generator-cpus", "0", "--json", json];
    let specs = [spec("one", "ready=log:running"), spec("two", "topic=/topic/{topic}")];
    let output = compare(&[&runs[..], &pinned].concat(), &specs);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    assert!(table.starts_with("load"), "{table}");
    assert!(table.contains("\nsome echoes"), "{table}");

    let written = std::fs::read_to_string(&file).expect("the result is there");
    let result: Value = serde_json::from_str(&written).expect("the result is JSON");
    let figures: Vec<_> = result["rows"].as_array().expect("rows").iter().collect();
    assert_eq!(figures.len(), 4, "echo has one figure, idle has three: {written}");
    assert_eq!(figures[0]["found"][1]["values"].as_array().map(Vec::len), Some(4));
    assert_eq!(figures[0]["ratios"][0]["pairs"].as_array().map(Vec::len), Some(4));
    // A server against itself, on a machine that does other things.
    let ratio = figures[0]["ratios"][0]["median"].as_f64().expect("a ratio");
    assert!((0.3..3.0).contains(&ratio), "{ratio}");

    let picture = Command::new(BINARY).args(["plot", json]).output().expect("the binary starts");
    assert!(picture.status.success(), "{}", text(&picture.stderr));
    assert!(text(&picture.stdout).contains(">some echoes (CPU us/message)<"));
}

#[test]
fn a_faulty_server_fails_the_comparison() {
    let specs = [spec("good", ""), spec("bad", "echo=/echo/drop")];
    let output = compare(
        &[
            "--pairs",
            "1",
            "--server-cpus",
            "0",
            "--generator-cpus",
            "0",
            "--run",
            "echo --connections 1 --depth 8 --count 150",
        ],
        &specs,
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("of bad is faulty"), "{}", text(&output.stderr));
}

#[test]
fn a_server_that_does_not_start_is_quoted() {
    let spec = "none ws://127.0.0.1:1 -- echo no such option; exit 3".to_owned();
    let output = compare(&["--server-cpus", "0", "--generator-cpus", "0"], &[spec]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("exit status: 3\nno such option"), "{told}");
}

#[test]
fn what_cannot_be_compared_is_told_before_anything_starts() {
    let spec = "a ws://127.0.0.1:1 -- false".to_owned();
    for (arguments, why) in [
        (["--run", "echo --depth 0"], "depth"),
        (["--run", "plot x.json"], "is no load"),
        (["--server-cpus", "1-0"], "ends before it begins"),
        (["--run", "fanout --protocol centrifuge --publish-path /pub"], "--publish-path"),
    ] {
        let pinned = ["--server-cpus", "0", "--generator-cpus", "0"];
        let pinned = if arguments[0] == "--server-cpus" { &pinned[2..] } else { &pinned[..] };
        let output = compare(&[&arguments[..], pinned].concat(), std::slice::from_ref(&spec));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}
