//! What is logged about ends of connections, and how lines look to the journal.

use std::process::Command;

use crate::gateway::clock::{ms, now, pause};
use crate::gateway::{Gateway, PATIENCE, ringway};

/// Waits until the log holds this many lines with `words`; returns them.
fn await_lines(gateway: &Gateway, words: &str, count: usize) -> Vec<String> {
    let deadline = now() + PATIENCE;
    loop {
        let log = gateway.log();
        let found: Vec<_> = log.lines().filter(|line| line.contains(words)).collect();
        if found.len() >= count {
            return found.into_iter().map(str::to_owned).collect();
        }
        assert!(now() < deadline, "{words}: {log}");
        pause(ms(5));
    }
}

#[test]
fn abnormal_ends_are_told_up_to_a_rate_and_the_others_counted() {
    let gateway = Gateway::start(&["log.closes_rate=3"]);
    let clients: Vec<_> = (0..20).map(|_| gateway.open("/echo")).collect();
    clients.into_iter().for_each(|client| client.reset());
    let told = await_lines(&gateway, "a connection has ended", 3);
    assert!(told.iter().all(|line| line.contains("cause=\"reset\"")), "{told:?}");
    await_lines(&gateway, "more connections have ended abnormally", 1);
    let log = gateway.log();
    let told = log.matches("a connection has ended").count();
    let suppressed: usize = log
        .lines()
        .filter_map(|line| line.split("suppressed=").nth(1)?.trim().parse::<usize>().ok())
        .sum();
    assert_eq!(told + suppressed, 20, "{log}");
    // What ends in order is no news.
    let mut client = gateway.open("/echo");
    client.send_close(1000);
    client.expect_close(1000);
    gateway.finish();
}

#[test]
fn the_access_log_tells_of_all_and_quotes_what_clients_say() {
    let gateway = Gateway::start(&["log.access=true", "log.format=\"json\""]);
    let mut client = gateway.open("/echo");
    client.send_frame(0x88, b"\x0f\xa0so long\"\n{}");
    client.expect_close(4000);
    let line = await_lines(&gateway, "a connection has ended", 1).remove(0);
    let line: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
    assert_eq!(line["cause"], "client_close");
    assert_eq!(line["code"], 4000);
    assert_eq!(line["received_reason"], "\"so long\\\"\\n{}\"");
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.")), "{line}");
    gateway.finish();
}

#[test]
fn lines_for_the_journal_begin_with_their_priority_and_have_no_time() {
    let mut shell = Command::new("sh");
    let script = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$0\" \"$@\"";
    shell.args(["-c", script]).arg(ringway().get_program());
    let gateway = Gateway::start_by(shell, &["limits.connections_max=16000000"]);
    await_lines(&gateway, "serving", 1);
    let log = gateway.log();
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    assert!(log.contains("<6> INFO serving") && log.contains("<4> WARN"), "{log}");
    gateway.finish();
}
