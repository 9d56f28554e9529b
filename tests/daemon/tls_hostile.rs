//! Strangers who begin TLS to no good end: what they get, and what they may cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::gateway::authority::ONLY_TLS13;
use crate::gateway::canary::Canary;
use crate::gateway::client::Client;
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::metrics::family;
use crate::gateway::scaled;
use crate::tls::{NAME, Secure};

/// The beginning of a hello that announces 512 bytes, in a record of as many.
const HELLO: [u8; 9] = [22, 3, 1, 2, 4, 1, 0, 2, 0];

/// A client's whole hello, as one record.
fn hello(secure: &Secure) -> Vec<u8> {
    let name = NAME.try_into().expect("it is a DNS name");
    let config = secure.authority.client(ONLY_TLS13, None);
    let mut tls = rustls::ClientConnection::new(config, name).expect("the configuration is good");
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).expect("there is room");
    bytes
}

fn canary(secure: &Secure) -> Canary {
    Canary::start(secure.open("/echo"))
}

/// H5: nothing is said to those who are too slow, however steadily they send.
#[test]
fn dribbled_hellos_end_in_time_without_a_word() {
    let (count, time, pace) = scaled((300, 1, ms(100)), (5_000, 5, ms(1000)));
    let time_set = format!("tls.handshake_timeout=\"{time}s\"");
    let secure = Secure::start("", &[&time_set, "tls.handshakes_max=10000"]);
    let canary = canary(&secure);
    let before = secure.gateway.usage().watch();
    let time = Duration::from_secs(time);
    let mut clients: Vec<_> = (0..count).map(|_| (secure.gateway.connect(), now())).collect();
    let last = now();
    let mut at = 0;
    // The time of a handshake counts from its connection, whatever comes in between.
    while now() < last + time * 8 / 10 {
        for (client, _) in &mut clients {
            // The first ones may be over by now.
            let _ = client.try_send(&[HELLO.get(at).copied().unwrap_or(0)]);
        }
        at += 1;
        pause(pace);
    }
    let grown = before.peak_growth_kib() * 1024 / count;
    let mut took: Vec<Duration> = clients
        .iter_mut()
        .map(|(client, since)| {
            assert_eq!(client.read_all(), b"");
            now() - *since
        })
        .collect();
    took.sort_unstable();
    let [least, median, most] = [took[0], took[took.len() / 2], took[took.len() - 1]];
    // The last ones are seen late where the machine has much to do.
    let is_in_time = least > time - ms(50) && median < time + ms(500) && most < time + ms(1500);
    assert!(is_in_time, "{least:?}, {median:?}, {most:?}");
    assert!(grown < 6 * 1024, "{grown} bytes for each");
    drop(clients);
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshaking") == 0);
    assert_eq!(metrics.family("tls_handshake_failed_total"), family([("timeout", count)]));
    canary.finish();
    secure.gateway.finish();
}

/// A10: half handshakes cost little, there is a limit to them, and it is drawn before any
/// cryptography.
#[test]
fn half_handshakes_are_cheap_and_limited() {
    let count: u64 = scaled(1_500, 10_000);
    let limit = count * 2 / 3;
    let max = format!("tls.handshakes_max={limit}");
    let secure = Secure::start("", &[&max, "tls.handshake_timeout=\"60s\""]);
    let canary = canary(&secure);
    let before = secure.gateway.usage().watch();
    // Its half of a handshake: a hello, and no more.
    let hello = hello(&secure);
    let half: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream =
                TcpStream::connect(secure.gateway.clients()).expect("the gateway accepts");
            // It may be reset by now.
            let _ = stream.write_all(&hello);
            stream
        })
        .collect();
    let metrics = secure
        .gateway
        .await_metrics(|m| m.sum("tls_handshaking") + m.sum("connections_refused_total") == count);
    let refused = family([("tls_handshakes", count - limit)]);
    assert_eq!(metrics.family("connections_refused_total"), refused);
    // Answered or not: those that were let in have had their turn.
    pause(ms(500));
    let grown = before.peak_growth_kib() * 1024 / limit;
    assert!(grown <= 20 * 1024, "{grown} bytes for each");
    drop(half);
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshaking") == 0);
    assert_eq!(metrics.family("tls_handshake_failed_total"), family([("gone", limit)]));
    canary.finish();
    secure.gateway.finish();
}

/// A9: patterns that have brought down others end with an alert, or without one, but at once.
#[test]
fn broken_handshakes_are_ended_at_once() {
    let secure = Secure::start("", &["tls.handshake_timeout=\"10s\""]);
    let canary = canary(&secure);
    let before = secure.gateway.usage();
    let record = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).expect("records are short").to_be_bytes();
        [&[22, 3, 1], &len[..], bytes].concat()
    };
    let endless = [record(&[1, 0, 255, 255]), record(&[0; 16_000]).repeat(5)].concat();
    let empty = record(&[]).repeat(100);
    let goodbyes = [21, 3, 1, 0, 2, 1, 0].repeat(10);
    let hello = hello(&secure);
    let interrupted = [record(&hello[5..50]), goodbyes.clone()].concat();
    let cases: [(&str, &[u8], &str); 7] = [
        ("a handshake message of 65,535 bytes", &endless, "too_large"),
        ("a record of 65,535 bytes", &[22, 3, 1, 255, 255, 1], "malformed"),
        ("empty records", &empty, "malformed"),
        ("goodbyes for a hello", &goodbyes, "misbehaved"),
        ("goodbyes inside a hello", &interrupted, "misbehaved"),
        ("application data for a hello", &[23, 3, 3, 0, 1, 0], "misbehaved"),
        ("a change of ciphers for a hello", &[20, 3, 3, 0, 1, 1], "misbehaved"),
    ];
    let mut metrics = secure.gateway.metrics();
    for (what, bytes, reason) in cases {
        let start = now();
        let mut client = secure.gateway.connect();
        let _ = client.try_send(bytes);
        let answer = client.read_all();
        assert!(now() - start < ms(1500), "{what}");
        assert!(answer.is_empty() || answer[0] == 21, "{what}: {answer:?}");
        let family_of = "tls_handshake_failed_total";
        let now = secure.gateway.await_metrics(|m| m.sum(family_of) > metrics.sum(family_of));
        assert_eq!(now.since(&metrics, family_of), family([(reason, 1)]), "{what}");
        metrics = now;
    }
    // Whoever goes after the hello has been answered by then.
    let start = now();
    let mut client = secure.gateway.connect();
    client.send(&[&hello[..], &goodbyes].concat());
    assert_eq!(client.read_all()[0], 22);
    assert!(now() - start < ms(1500), "goodbyes behind a hello");
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshake_failed_total") == 8);
    assert_eq!(metrics.sum("tls_handshaking"), 0);
    let used = Duration::from_nanos(before.cpu_ns_since());
    assert!(used < Duration::from_secs(1), "{used:?}");
    canary.finish();
    secure.gateway.finish();
}

/// A9: a hello may come in as many records as it has bytes.
#[test]
fn a_hello_in_records_of_one_byte_is_answered() {
    let secure = Secure::start("", &[]);
    let canary = canary(&secure);
    let hello = hello(&secure);
    let cut: Vec<u8> = hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    let mut client = secure.gateway.connect();
    client.send(&cut);
    let mut answer = [0; 6];
    client.writer().read_exact(&mut answer).expect("it is answered");
    // A handshake record, and in it a hello (RFC 8446 section 4.1.3).
    assert_eq!((answer[0], answer[5]), (22, 2), "{answer:?}");
    drop(client);
    canary.finish();
    secure.gateway.finish();
}

/// A9: after the handshake, floods of records that carry nothing or ask for new keys.
#[test]
fn floods_inside_tls_are_ended_or_harmless() {
    let secure = Secure::start("", &[]);
    let canary = canary(&secure);
    let before = secure.gateway.usage().watch();
    // 16 KiB of records with one byte each: an upgrade and a message, delivered whole.
    let mut tiny = secure.connect();
    let text = "x".repeat(600);
    let upgrade = crate::gateway::client::request("/echo", "");
    let frame = crate::gateway::frame::frame(0x81, text.as_bytes());
    for byte in [upgrade.as_bytes(), &frame].concat() {
        tiny.send(&[byte]);
    }
    tiny.expect_upgrade();
    assert_eq!(tiny.read_text(), text);
    tiny.send_close(1000);
    tiny.expect_close(1000);

    let mut keys = secure.open("/echo");
    let mut is_over = false;
    for _ in 0..200 {
        keys.tls().refresh_traffic_keys().expect("TLS 1.3 can");
        is_over |= keys.try_send(b"").is_err();
    }
    let told = keys.read_error();
    assert!(is_over || !told.is_empty());
    drop(keys);
    let metrics = secure.gateway.await_metrics(|m| m.sum("closed_total") == 2);
    assert_eq!(metrics.family("closed_total")["1006 server tls_failed echo"], 1);
    assert!(before.peak_growth_kib() < 4096, "{} KiB", before.peak_growth_kib());
    canary.finish();
    secure.gateway.finish();
}

/// A storm of handshakes waits in order; open connections do not wait for it.
#[test]
fn a_storm_of_handshakes_does_not_starve_open_connections() {
    let secure = Secure::start("", &["tls.handshakes_per_turn=2"]);
    let canary = canary(&secure);
    let config = secure.authority.client(ONLY_TLS13, None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let begun = secure.gateway.connect().begin_tls(Arc::clone(&config), NAME);
                    let mut client = begun.expect("everybody's turn comes");
                    client.upgrade("/echo");
                    client.send_close(1000);
                    client.expect_close(1000);
                }
            });
        }
    });
    canary.finish();
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshakes_total") == 321);
    assert_eq!(metrics.sum("tls_handshake_failed_total"), 0);
    secure.gateway.finish();
}

/// What is left in a client's socket when the gateway resets it is of no use to anybody.
#[test]
fn connections_over_the_limit_are_reset_unread() {
    let secure = Secure::start("", &["tls.handshakes_max=1", "tls.handshake_timeout=\"10s\""]);
    let first = secure.gateway.connect();
    secure.gateway.await_metrics(|m| m.sum("tls_handshaking") == 1);
    let mut second = TcpStream::connect(secure.gateway.clients()).expect("the kernel accepts");
    let ended = second.read(&mut [0; 16]);
    assert!(ended.is_err(), "{ended:?}");
    drop(first);
    secure.gateway.await_metrics(|m| m.sum("tls_handshaking") == 0);
    let mut third = secure.open("/echo");
    third.send_close(1000);
    third.expect_close(1000);
    secure.gateway.finish();
}

/// A shard begins so many handshakes and no more, whoever asks; a plain listener has nothing to do with it.
#[test]
fn handshakes_begin_as_often_as_they_may_and_not_more() {
    let secure = Secure::start("", &["tls.handshakes_rate=2", "tls.handshakes_burst=5"]);
    let canary = canary(&secure);
    let before = secure.gateway.usage();
    let start = now();
    // The canary was one of five.
    let (mut welcome, mut refused) = (0, 0);
    for _ in 0..40 {
        // It may be reset at once.
        let client = Client::try_connect(secure.gateway.clients());
        let config = secure.authority.client(ONLY_TLS13, None);
        match client.and_then(|client| client.begin_tls(config, NAME)) {
            Ok(mut client) => {
                client.upgrade("/echo");
                client.send_close(1000);
                client.expect_close(1000);
                welcome += 1;
            }
            Err(_) => refused += 1,
        }
    }
    let earned = (now() - start).as_millis() / 500 + 1;
    assert!(welcome >= 4 && welcome <= 4 + earned, "{welcome} in {:?}", now() - start);
    let metrics = secure.gateway.metrics();
    let family_of = "connections_refused_total";
    assert_eq!(metrics.family(family_of), family([("tls_handshakes_rate", refused)]));
    assert_eq!(metrics.sum("tls_handshake_failed_total"), 0, "nothing of them was read");
    let used = Duration::from_nanos(before.cpu_ns_since());
    assert!(used < Duration::from_secs(1), "{used:?}");
    pause(ms(600));
    let mut late = secure.open("/echo");
    late.send_close(1000);
    late.expect_close(1000);
    drop(late);
    canary.finish();
    secure.gateway.finish();
}

/// What an idle connection with TLS costs stands in the ledgers.
#[test]
fn the_ledgers_know_what_tls_costs() {
    let secure = Secure::start("", &[]);
    let open = |count: u64| -> Vec<Client> { (0..count).map(|_| secure.open("/echo")).collect() };
    let held = || secure.gateway.metrics().sum("memory_bytes");
    // What the first ones make the process keep is not theirs.
    let first = open(200);
    let (memory, before) = (secure.gateway.usage().memory_kib, held());
    let count = 2_000;
    let idle = open(count);
    let grown = (secure.gateway.usage().memory_kib - memory) * 1024;
    let explained = held() - before;
    let each = format!("{} of {} bytes each", explained / count, grown / count);
    assert!(explained * 10 >= grown * 8 && explained * 10 <= grown * 12, "{each}");
    drop((first, idle));
    let metrics = secure.gateway.await_metrics(|metrics| metrics.sum("connections") == 0);
    assert_eq!(metrics.family("memory_bytes").get("private"), None);
    secure.gateway.finish();
}

/// What comes behind our goodbye is read for the client's Close only, and nothing is said about it.
#[test]
fn rubbish_behind_our_goodbye_is_no_matter() {
    let secure = Secure::start("", &[]);
    let canary = canary(&secure);
    for rubbish in [[23, 3, 3, 0, 3, 1, 2, 3], [255; 8]] {
        let mut client = secure.open("/echo");
        client.send_close(1000);
        client.expect_close(1000);
        client.send_raw(&rubbish);
    }
    canary.finish();
    let metrics = secure.gateway.await_metrics(|m| m.sum("closed_total") == 3);
    assert_eq!(metrics.family("closed_total"), family([("1000 client client_close echo", 3)]));
    secure.gateway.finish();
}

/// One publication for many becomes records for a part of them at a time.
#[test]
fn a_publication_is_not_sealed_for_all_at_once() {
    let secure = Secure::start("", &[]);
    let mut clients: Vec<_> = (0..900).map(|_| secure.open("/topic/wide")).collect();
    let text = "w".repeat(24_000);
    let body = format!(r#"{{"channel":"wide","data":"{text}"}}"#);
    let before = secure.gateway.usage().watch();
    for _ in 0..2 {
        secure.gateway.api("publish", &body);
        for client in &mut clients {
            assert_eq!(client.read_text().len(), text.len() + 2);
        }
    }
    // All at once it is 54 MB.
    let grown = before.peak_growth_kib();
    assert!(grown < 24 * 1024, "{grown} KiB");
    drop(clients);
    secure.gateway.finish();
}
