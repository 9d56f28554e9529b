//! Clients that read slower than they are sent to: what they are spared, what they are told.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::gateway::client::{Client, Next, request};
use crate::gateway::clock::ms;
use crate::gateway::clock::pause;
use crate::gateway::frame::{self, CLOSE, FIN, PING, PONG, TEXT};
use crate::gateway::metrics::family;
use crate::gateway::{Gateway, free_address};

/// Values of a topic of which only the newest counts, and how long each of them is.
const VALUES: u64 = 10_000;
const VALUE_BYTES: usize = 1024;

/// A gateway whose sockets hold little.
fn gateway(overrides: &[&str]) -> Gateway {
    let clients = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\n[[namespace]]\npublish = \"allow\"\n\
         [[namespace]]\nname = \"now\"\nmode = \"latest\"\npublish = \"allow\"\n"
    );
    let narrow = [
        "socket.send_buffer=\"8 KiB\"",
        "socket.notsent_lowat=\"4 KiB\"",
        "limits.commands_rate=0",
    ];
    Gateway::start_with(&text, clients, &[&narrow, overrides].concat())
}

/// A client that holds little, on a topic.
fn raw(gateway: &Gateway, path: &str) -> Client {
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade(path);
    client
}

fn centrifuge(gateway: &Gateway, channels: &[&str]) -> Client {
    let mut client = Client::connect_narrow(gateway.clients(), 4096);
    client.upgrade("/connection/websocket");
    client.send_text(r#"{"id":1,"connect":{}}"#);
    let mut lines = client.read_text().lines().count();
    for (id, channel) in (2..).zip(channels) {
        client.send_text(&format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}"}}}}"#));
    }
    while lines < 1 + channels.len() {
        lines += client.read_text().lines().count();
    }
    client
}

/// Publishes the values 0 to `VALUES - 1` to all channels, a hundred in one message.
fn publish_values(gateway: &Gateway, channels: &[&str]) {
    let mut publisher = gateway.centrifuge();
    let filler = "x".repeat(VALUE_BYTES - 20);
    let mut id = 1;
    for first in (0..VALUES).step_by(50) {
        let mut commands = Vec::new();
        for n in first..first + 50 {
            for channel in channels {
                id += 1;
                commands.push(format!(
                    r#"{{"id":{id},"publish":{{"channel":"{channel}","data":{{"n":{n},"x":"{filler}"}}}}}}"#
                ));
            }
        }
        let mut replies = commands.len();
        for commands in commands.chunks(50) {
            publisher.send_text(&commands.join("\n"));
        }
        while replies > 0 {
            let text = publisher.read_text();
            assert!(!text.contains("error"), "{text}");
            replies -= text.lines().count();
        }
    }
}

/// The number behind `name` in a text.
fn number(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(name).expect("a number of this name");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn a_client_that_lags_is_sent_the_newest_value_and_few_others() {
    let gateway = gateway(&["outbox.bytes_max=\"512 KiB\""]);
    let canary = gateway.canary();
    let mut plain = raw(&gateway, "/topic/now:a");
    let mut json = centrifuge(&gateway, &["now:a", "now:b"]);
    let before = gateway.usage().watch();
    publish_values(&gateway, &["now:a", "now:b"]);
    let growth = before.peak_growth_kib();
    assert!(growth < 4 * 1024, "{growth} KiB for values that are replaced");

    let mut heard = 0;
    let mut newest: Option<u64> = None;
    while newest != Some(VALUES - 1) {
        let value = number(&plain.read_text(), r#""n":"#);
        assert!(newest.is_none_or(|newest| newest < value), "{value} after {newest:?}");
        newest = Some(value);
        heard += 1;
    }
    assert!(plain.is_silent_for(ms(100)));
    let mut offsets: BTreeMap<String, u64> = BTreeMap::new();
    while offsets.len() < 2 || offsets.values().any(|&offset| offset < VALUES) {
        let push = json.read_text();
        let channel = if push.contains(r#""channel":"now:a""#) { "now:a" } else { "now:b" };
        let (value, offset) = (number(&push, r#""n":"#), number(&push, r#""offset":"#));
        assert_eq!(offset, value + 1);
        let earlier = offsets.insert(channel.to_owned(), offset).unwrap_or(0);
        assert!(earlier < offset, "offset {offset} of {channel} after {earlier}");
        heard += 1;
    }
    assert!(heard < 3 * VALUES / 10, "{heard} of {} were worth sending", 3 * VALUES);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("conflated_total"), 3 * VALUES - heard);
    assert_eq!(metrics.sum("outbox_bytes"), 0);
    for mut client in [plain, json] {
        client.send_close(1000);
        client.expect_close(1000);
    }
    canary.finish();
    gateway.finish();
}

#[test]
fn a_client_that_lags_on_a_topic_with_history_is_closed_and_misses_nothing_before() {
    for (route, code) in [("/topic/all", 4008), ("/connection/websocket", 3008)] {
        let gateway = gateway(&["websocket.close_timeout=\"20s\""]);
        let mut client = match code {
            4008 => raw(&gateway, route),
            _ => centrifuge(&gateway, &["all"]),
        };
        publish_values(&gateway, &["all"]);
        let mut next = 0;
        let close = loop {
            let frame = client.read_frame();
            if frame.first == FIN | CLOSE {
                break frame.payload;
            }
            let text = String::from_utf8(frame.payload).expect("text is UTF-8");
            assert_eq!(number(&text, r#""n":"#), next);
            next += 1;
        };
        assert_eq!(close, [&u16::to_be_bytes(code)[..], b"slow"].concat());
        assert!(next > 0 && next < VALUES);
        client.send_close(code);
        assert_eq!(client.next(), Next::Fin);
        drop(client);
        let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 2);
        let protocol = if code == 4008 { "raw" } else { "centrifuge" };
        let closed = format!("{code} server slow_full {protocol}");
        let publisher = "1006 transport client_gone centrifuge";
        assert_eq!(metrics.family("closed_total"), family([(&*closed, 1), (publisher, 1)]));
        assert_eq!(metrics.sum("conflated_total"), 0);
        gateway.finish();
    }
}

#[test]
fn pings_and_pongs_overtake_what_a_lagging_client_has_still_to_read() {
    let gateway =
        gateway(&["websocket.ping_interval=\"500ms\"", "websocket.pong_timeout=\"400ms\""]);
    let mut client = raw(&gateway, "/topic/all");
    let filler = "x".repeat(8 * 1024);
    for n in 0..100 {
        gateway
            .api("publish", &format!(r#"{{"channel":"all","data":{{"n":{n},"x":"{filler}"}}}}"#));
    }
    client.send_frame(FIN | PING, b"one");
    client.send_frame(FIN | PING, b"two");
    gateway.await_metrics(|metrics| metrics.sum("pings_sent_total") > 0);
    // What the sockets and one send hold comes first, then both control frames, then the rest.
    let (mut values, mut at) = (0, BTreeMap::new());
    while values < 100 {
        let frame = client.read_frame();
        assert_eq!(frame.first & FIN, FIN);
        match frame.first & !FIN {
            TEXT => {
                let text = String::from_utf8(frame.payload).expect("text is UTF-8");
                assert_eq!(number(&text, r#""n":"#), values);
                values += 1;
            }
            PONG => {
                assert_eq!(frame.payload, b"two", "only the newest ping is answered");
                assert!(at.insert("pong", values).is_none(), "two pongs");
            }
            PING => {
                client.send_frame(FIN | PONG, &frame.payload);
                at.entry("ping").or_insert(values);
            }
            other => panic!("{other:#x}"),
        }
    }
    for (name, values) in &at {
        assert!((1..40).contains(values), "the {name} came after {values} messages");
    }
    assert_eq!(at.len(), 2, "{at:?}");
    client.send_close(1000);
    client.expect_close(1000);
    drop(client);
    gateway.finish();
}

#[test]
fn a_client_that_took_nothing_for_long_and_wakes_up_finds_its_close() {
    let gateway = gateway(&["outbox.stall_timeout=\"300ms\""]);
    let mut client = raw(&gateway, "/topic/all");
    let filler = "x".repeat(8 * 1024);
    for _ in 0..20 {
        gateway.api("publish", &format!(r#"{{"channel":"all","data":"{filler}"}}"#));
    }
    gateway.await_metrics(|metrics| metrics.sum("outbox_overflows_total") == 1);
    pause(ms(100));
    assert_eq!(client.read_close(), (Some(4008), "slow".to_owned()));
    client.send(&frame::close(4008, b""));
    assert_eq!(client.next(), Next::Fin);
    drop(client);
    let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") == 1);
    assert_eq!(metrics.family("closed_total"), family([("4008 server slow_stalled raw", 1)]));
    gateway.finish();
}

/// What many recover at once is written for a part of them at a time.
#[test]
fn recoveries_of_many_do_not_pile_up_in_one_turn() {
    let gateway = Gateway::start(&["shards=1", "socket.send_buffer=\"1 MiB\""]);
    let mut first = gateway.open("/topic/past?offset=0");
    let text = "p".repeat(4000);
    for _ in 0..50 {
        first.send_text(&text);
        assert_eq!(first.read_text(), text);
    }
    let mut clients: Vec<_> = (0..400).map(|_| gateway.connect()).collect();
    gateway.await_metrics(|metrics| metrics.sum("connections_handshaking") == 400);
    let before = gateway.usage().watch();
    gateway.signal(Signal::STOP);
    for client in &mut clients {
        client.send(request("/topic/past?offset=0", "").as_bytes());
    }
    gateway.signal(Signal::CONT);
    for client in &mut clients {
        client.expect_upgrade();
        for _ in 0..50 {
            assert_eq!(client.read_text(), text);
        }
    }
    // All at once it is 38 MB.
    let grown = before.peak_growth_kib();
    assert!(grown < 12 * 1024, "{grown} KiB");
    drop((first, clients));
    gateway.finish();
}
