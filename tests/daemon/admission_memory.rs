//! Memory runs short: who is refused, who is closed, and that it is known what it is used for.

use std::io::Write;
use std::time::Duration;

use crate::gateway::client::{Client, Next, request};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{BINARY, FIN, frame};
use crate::gateway::{Gateway, PATIENCE};

const MIB: u64 = 1 << 20;

/// Nobody is slow for hours, however much they leave unread.
const PATIENT: [&str; 6] = [
    "outbox.bytes_max=\"32 MiB\"",
    "outbox.soft_bytes_max=\"32 MiB\"",
    "outbox.soft_timeout=\"1h\"",
    "outbox.stall_timeout=\"1h\"",
    "socket.send_buffer=\"8 KiB\"",
    "socket.notsent_lowat=\"4 KiB\"",
];

fn start(more: &[&str]) -> Gateway {
    Gateway::start(&[&PATIENT, more].concat())
}

/// A client of the echo that sends `mib` MiB, as far as they are taken, and reads nothing.
fn fat(gateway: &Gateway, mib: usize) -> Client {
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade("/echo");
    let message = frame(FIN | BINARY, &vec![7; 32 * 1024]);
    let mut writer = client.writer();
    for _ in 0..mib * 32 {
        if writer.write_all(&message).is_err() {
            break;
        }
    }
    client
}

#[test]
fn clients_that_hold_much_are_closed_and_the_innocent_stay() {
    let gateway = start(&["memory.budget=\"96 MiB\"", "websocket.close_timeout=\"1s\""]);
    let canary = gateway.canary();
    let mut idle: Vec<Client> = (0..20).map(|_| gateway.open("/topic/quiet")).collect();
    let mut crowd = Vec::new();
    let deadline = now() + PATIENCE;
    while gateway.metrics().family("closed_total").is_empty() {
        assert!(now() < deadline, "nobody was closed: {:?}", gateway.metrics());
        // While memory is tight nobody comes in; those inside go on.
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.send(request("/echo", "").as_bytes());
        let response = client.read_response();
        if response.status == 503 {
            assert!(response.header("retry-after").is_some(), "{response:?}");
            pause(ms(20));
            for client in &mut crowd {
                push(client, 1);
            }
            continue;
        }
        push(&mut client, 4);
        crowd.push(client);
    }
    // What they held is free again, and with it the level falls.
    let metrics = gateway.await_metrics(|metrics| metrics.sum("memory_level") < 3);
    let closed = metrics.family("closed_total");
    assert!(closed.keys().all(|labels| labels.ends_with("server shed echo")), "{closed:?}");
    assert!(crowd.len() > 5, "{} were enough", crowd.len());
    for client in &mut idle {
        assert!(client.is_silent_for(ms(1)), "an idle client was told something");
    }
    drop(crowd);
    gateway.await_metrics(|metrics| metrics.sum("memory_level") == 0);
    let ledger = |metrics: &crate::gateway::metrics::Metrics, name: &str| {
        metrics.family("memory_bytes").get(name).copied().unwrap_or(0)
    };
    gateway.await_metrics(|metrics| ledger(metrics, "private") < 64 * 1024);
    drop(gateway.open("/echo"));
    drop(idle);
    // One late message in a hundred says nothing, one in twenty would.
    pause(ms(2_000));
    canary.finish();
    gateway.finish();
}

/// Sends more, as far as it is taken at once.
fn push(client: &mut Client, mib: usize) {
    let message = frame(FIN | BINARY, &vec![7; 32 * 1024]);
    let mut writer = client.writer();
    writer.set_write_timeout(Some(Duration::from_millis(200))).expect("it is a TCP socket");
    for _ in 0..mib * 32 {
        if writer.write_all(&message).is_err() {
            break;
        }
    }
}

#[test]
fn whoever_is_closed_for_memory_is_told_to_try_again() {
    let gateway = start(&[]);
    let used = gateway.await_metrics(|metrics| metrics.sum("memory_used_bytes") > 0);
    let budget = used.sum("memory_used_bytes") + 24 * MIB;
    drop(gateway);
    let gateway = start(&[&format!("memory.budget={budget}")]);
    let mut client = Client::connect(gateway.clients());
    client.upgrade("/echo");
    push(&mut client, 31);
    gateway.await_metrics(|metrics| metrics.sum("close_sent_total") > 0);
    assert_eq!(client.read_close(), (Some(1013), "try again later".to_owned()));
    drop(client);
    gateway.await_metrics(|metrics| metrics.sum("memory_level") < 3);
    gateway.finish();
}

#[test]
fn new_connections_are_refused_when_memory_is_tight_and_not_accepted_when_it_is_critical() {
    let gateway = start(&[]);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("memory_used_bytes") > 0);
    let used = metrics.sum("memory_used_bytes");
    assert!(metrics.sum("memory_budget_bytes") > used, "{metrics:?}");
    drop(gateway);
    let tight = start(&[&format!("memory.budget={}", used * 100 / 85)]);
    tight.await_metrics(|metrics| metrics.sum("memory_level") == 2);
    let mut client = tight.connect();
    client.send(request("/echo", "").as_bytes());
    let response = client.read_response();
    assert_eq!(response.status, 503);
    let wait = response.header("retry-after").and_then(|text| text.parse::<u32>().ok());
    assert!(wait.is_some_and(|seconds| (2..=4).contains(&seconds)), "{response:?}");
    assert_eq!(client.next(), Next::Fin);
    let refused = tight.metrics().family("handshake_refused_total");
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["503 memory"]);
    let log = tight.log();
    assert!(log.contains("new connections are refused; raise memory.budget"), "{log}");
    tight.finish();

    // The receive buffers alone are more.
    let critical = start(&["memory.budget=\"4 MiB\""]);
    let metrics = critical.await_metrics(|metrics| metrics.sum("memory_level") == 4);
    assert_eq!(metrics.family("accept_paused_total").get("memory"), Some(&1));
    let mut client = critical.connect();
    client.send(request("/echo", "").as_bytes());
    assert!(client.is_silent_for(ms(300)), "the kernel's queue, and nobody takes it");
    drop(client);
    critical.finish();
}

#[test]
fn the_ledgers_explain_what_memory_is_used_for() {
    let gateway = start(&["memory.budget=\"8 GiB\""]);
    let held = || gateway.metrics().sum("memory_bytes");
    // Receive buffers are touched one after the other, and are on the ledger from the start.
    drop(fat(&gateway, 8));
    gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let (memory, before) = (gateway.usage().memory_kib, held());
    let crowd: Vec<Client> = (0..8).map(|_| fat(&gateway, 8)).collect();
    gateway.await_metrics(|metrics| metrics.sum("outbox_bytes") > 60 * MIB);
    let growth = (gateway.usage().memory_kib.saturating_sub(memory)) * 1024;
    let explained = held() - before;
    assert!(growth > 32 * MIB, "{growth} more");
    assert!(explained * 10 >= growth * 8, "{explained} of {growth} are explained");
    assert!(explained <= growth * 13 / 10, "{explained} are explained, and {growth} there");
    drop(crowd);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    let family = metrics.family("memory_bytes");
    assert_eq!((family.get("private"), family.get("frames")), (None, None), "{family:?}");
    gateway.finish();
}
