//! Every way a connection can end, and the one count that tells it.

use std::thread;

use ringway::metrics::{CloseCodeLabel, Label};
use rustix::process::Signal;

use crate::gateway::client::{Client, Next};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::frame::{
    BINARY, CLOSE, CONTINUATION, FIN, Length, PING, PONG, TEXT, close, frame, header,
};
use crate::gateway::metrics::Family;
use crate::gateway::{Gateway, free_address};

/// What is expected of the counters so far.
#[derive(Debug, Default)]
struct Ledger {
    closed: Family,
    sent: Family,
    received: Family,
    opened: Family,
}

/// Who says what at an end.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    /// The label `code` of the count.
    code: &'a str,
    initiator: &'a str,
    cause: &'a str,
    sent: Option<&'a str>,
    received: Option<&'a str>,
}

/// Both sides have said `code`, the client first.
fn by_client(code: &str) -> End<'_> {
    let said = Some(code);
    End { code, initiator: "client", cause: "client_close", sent: said, received: said }
}

/// Both sides have said `code`, we first.
fn by_server<'a>(code: &'a str, cause: &'a str) -> End<'a> {
    End { code, initiator: "server", cause, sent: Some(code), received: Some(code) }
}

/// We have failed the connection and heard nothing more.
fn failed<'a>(code: &'a str, cause: &'a str) -> End<'a> {
    End { received: None, ..by_server(code, cause) }
}

/// It ended without a word.
fn by_transport(cause: &str) -> End<'_> {
    End { code: "1006", initiator: "transport", cause, sent: None, received: None }
}

impl Ledger {
    fn note(&mut self, protocol: &str, end: End<'_>) {
        let count = |family: &mut Family, labels: String| *family.entry(labels).or_default() += 1;
        let End { code, initiator, cause, sent, received } = end;
        count(&mut self.closed, format!("{code} {initiator} {cause} {protocol}"));
        count(&mut self.opened, protocol.to_owned());
        if let Some(code) = sent {
            count(&mut self.sent, code.to_owned());
        }
        if let Some(code) = received {
            count(&mut self.received, code.to_owned());
        }
    }

    /// Waits until all of it is counted, and demands that nothing else is.
    fn settle(&self, gateway: &Gateway) {
        let total = self.closed.values().sum();
        let metrics = gateway.await_metrics(|metrics| metrics.sum("closed_total") >= total);
        assert_eq!(metrics.family("closed_total"), self.closed);
        assert_eq!(told(gateway), self.closed);
        assert_eq!(metrics.family("close_sent_total"), self.sent);
        assert_eq!(metrics.family("close_received_total"), self.received);
        let open = metrics.family("connections");
        let mut opened = self.opened.clone();
        open.into_iter()
            .for_each(|(protocol, count)| *opened.entry(protocol).or_default() += count);
        assert_eq!(metrics.family("opened_total"), opened);
    }
}

/// The same as `/debug/closes` has written it down.
fn told(gateway: &Gateway) -> Family {
    let mut family = Family::new();
    for close in gateway.closes("limit=1000") {
        if let Some(protocol) = close["protocol"].as_str() {
            let code = close["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let code = CloseCodeLabel::text(CloseCodeLabel::of(code.expect("a code")).index());
            let [initiator, cause] = ["initiator", "cause"].map(|key| close[key].as_str());
            let (initiator, cause) = initiator.zip(cause).expect("words");
            *family.entry(format!("{code} {initiator} {cause} {protocol}")).or_default() += 1;
        }
    }
    family
}

const PROTOCOLS: [(&str, &str); 3] =
    [("raw", "/topic/t"), ("echo", "/echo"), ("centrifuge", "/connection/websocket")];

/// Reads the server's Close and answers it in kind.
fn agree(client: &mut Client, code: u16, reason: &str) {
    let (said, text) = client.read_close();
    assert_eq!((said, &*text), (Some(code), reason));
    client.send_close(code);
    assert_eq!(client.next(), Next::Fin);
}

#[test]
fn a_close_of_the_client_is_counted_with_its_own_code() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    for (protocol, path) in PROTOCOLS {
        for (code, label) in [
            (1000, "1000"),
            (1001, "1001"),
            (1002, "1002"),
            (1003, "1003"),
            (1007, "1007"),
            (1008, "1008"),
            (1009, "1009"),
            (1010, "1010"),
            (1011, "1011"),
            (1012, "1012"),
            (1013, "1013"),
            (1014, "1014"),
            (3000, "3000"),
            (3008, "3008"),
            (3999, "3xxx_other"),
            (4000, "4xxx_other"),
            (4008, "4008"),
            (4999, "4xxx_other"),
        ] {
            let mut client = gateway.open(path);
            client.send(&close(code, b"because"));
            client.expect_close(code);
            ledger.note(protocol, by_client(label));
        }
        let mut client = gateway.open(path);
        client.send_frame(FIN | CLOSE, b"");
        assert_eq!(client.read_close(), (None, String::new()));
        assert_eq!(client.next(), Next::Fin);
        ledger.note(protocol, by_client("1005"));
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn an_end_without_a_close_is_counted_as_1006() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    for (protocol, path) in PROTOCOLS {
        let mut client = gateway.open(path);
        client.finish_writing();
        assert_eq!(client.next(), Next::Fin);
        ledger.note(protocol, by_transport("client_gone"));

        let client = gateway.open(path);
        client.reset();
        ledger.note(protocol, by_transport("reset"));

        // In the middle of a message, and of a frame.
        let mut client = gateway.open(path);
        client.send_frame(TEXT, b"{");
        client.finish_writing();
        assert_eq!(client.next(), Next::Fin);
        ledger.note(protocol, by_transport("client_gone"));
        let mut client = gateway.open(path);
        client.send(&frame(FIN | TEXT, b"{}")[..4]);
        client.reset();
        ledger.note(protocol, by_transport("reset"));
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn what_came_before_a_fin_is_answered() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    let mut client = gateway.open("/echo");
    // More than one turn of the shard takes.
    let messages = (0..1_000).map(|n| frame(FIN | TEXT, format!("{n}").as_bytes()));
    client.send(&messages.collect::<Vec<_>>().concat());
    client.finish_writing();
    for n in 0..1_000 {
        assert_eq!(client.read_text(), n.to_string());
    }
    assert_eq!(client.next(), Next::Fin);
    ledger.note("echo", by_transport("client_gone"));

    // A Close behind as many messages counts as one.
    let mut client = gateway.open("/echo");
    let mut bytes = frame(FIN | TEXT, b"x").repeat(1_000);
    bytes.extend(close(4400, b""));
    client.send(&bytes);
    client.finish_writing();
    for _ in 0..1_000 {
        assert_eq!(client.read_text(), "x");
    }
    client.expect_close(4400);
    ledger.note("echo", by_client("4400"));
    ledger.settle(&gateway);
    drop(client);
    gateway.finish();
}

#[test]
fn a_failed_connection_is_counted_with_the_code_that_failed_it() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    let broken: [(Vec<u8>, &str, &str); 16] = [
        ([FIN | TEXT, 1, b'x'].to_vec(), "1002", "unmasked_client_frame"),
        (frame(FIN | 0x40 | TEXT, b""), "1002", "reserved_bit_set"),
        (frame(FIN | 0x3, b""), "1002", "unknown_opcode"),
        (header(FIN | TEXT, 0, Length::Two(5)), "1002", "length_not_minimal"),
        (header(FIN | TEXT, 0, Length::Eight(1 << 63)), "1002", "length_top_bit_set"),
        (header(FIN | PING, 126, Length::Minimal), "1002", "control_too_long"),
        (frame(PING, b""), "1002", "control_fragmented"),
        (frame(FIN | CONTINUATION, b""), "1002", "unexpected_continuation"),
        ([frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(), "1002", "expected_continuation"),
        (frame(FIN | CLOSE, b"x"), "1002", "bad_close_length"),
        (close(1005, b""), "1002", "bad_close_code"),
        (frame(FIN | TEXT, b"\xFF"), "1007", "invalid_utf8"),
        (close(1000, b"\xFF"), "1007", "invalid_utf8"),
        (header(FIN | TEXT, 64 * 1024 + 1, Length::Minimal), "1009", "too_big"),
        (
            [frame(TEXT, b""), frame(CONTINUATION, b"").repeat(128)].concat(),
            "1008",
            "too_many_fragments",
        ),
        (frame(FIN | 0x7F, b""), "1002", "reserved_bit_set"),
    ];
    for (protocol, path) in PROTOCOLS {
        for (bytes, code, cause) in &broken {
            let mut client = gateway.open(path);
            client.send(bytes);
            client.expect_close(code.parse().expect("it is a number"));
            // What it says now no longer counts.
            let _ = client.try_send(&close(1000, b""));
            ledger.note(protocol, failed(code, cause));
        }
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn too_many_control_frames_are_a_flood() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    for (protocol, path) in PROTOCOLS {
        for opcode in [PING, PONG] {
            let mut client = gateway.open(path);
            client.send(&frame(FIN | opcode, b"").repeat(40));
            agree(&mut client, 1008, "flood");
            ledger.note(protocol, by_server("1008", "control_flood"));
        }
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn what_a_client_protocol_forbids_ends_with_the_code_of_that_protocol() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    let mut end =
        |path: &str, protocol: &str, sent: &[u8], code: u16, reason: &str, cause: &str| {
            let label = code.to_string();
            let mut client = gateway.open(path);
            client.send(sent);
            agree(&mut client, code, reason);
            ledger.note(protocol, by_server(&label, cause));
            // The same, and then FIN instead of an answer.
            let mut client = gateway.open(path);
            client.send(sent);
            assert_eq!(client.read_close().0, Some(code));
            assert_eq!(client.next(), Next::Fin);
            drop(client);
            let silent = End { code: "1006", ..failed(&label, cause) };
            ledger.note(protocol, silent);
        };
    let text = |text: &str| frame(FIN | TEXT, text.as_bytes());
    let connected = |more: &str| text(&format!("{{\"id\":1,\"connect\":{{}}}}\n{more}"));
    let ws = "/connection/websocket";
    end("/topic/quiet:t", "raw", &text("x"), 1008, "publish denied", "publish_denied");
    end(ws, "centrifuge", &text("nonsense"), 3501, "bad request", "bad_command");
    end(ws, "centrifuge", &connected("nonsense"), 3501, "bad request", "bad_command");
    end(ws, "centrifuge", &text(r#"{"id":1,"rpc":{}}"#), 3501, "bad request", "bad_command");
    let token = text(r#"{"id":1,"connect":{"token":"t"}}"#);
    end(ws, "centrifuge", &token, 3500, "invalid token", "unauthorized");
    let send = connected(r#"{"send":{"data":{}}}"#);
    end(ws, "centrifuge", &send, 3508, "not available", "not_available");
    let binary = frame(FIN | BINARY, b"{}");
    end(ws, "centrifuge", &binary, 1003, "unsupported data", "unsupported_data");
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn silence_ends_with_the_cause_that_was_due_first() {
    let gateway = Gateway::start(&[
        "websocket.ping_interval=\"300ms\"",
        "websocket.pong_timeout=\"150ms\"",
        "websocket.message_timeout=\"200ms\"",
        "centrifuge.ping_interval=\"300ms\"",
        "centrifuge.pong_timeout=\"150ms\"",
        "centrifuge.connect_timeout=\"700ms\"",
    ]);
    let mut ledger = Ledger::default();
    thread::scope(|scope| {
        for path in ["/topic/t", "/echo"] {
            scope.spawn(|| agree(&mut gateway.open(path), 3008, "ping timeout"));
            scope.spawn(|| {
                let mut client = gateway.open(path);
                client.send_frame(TEXT, b"begun");
                agree(&mut client, 3008, "idle");
            });
        }
        scope.spawn(|| agree(&mut gateway.centrifuge(), 3012, "no pong"));
        scope.spawn(|| agree(&mut gateway.open("/connection/websocket"), 3502, "stale"));
    });
    for protocol in ["raw", "echo"] {
        ledger.note(protocol, by_server("3008", "ping_timeout"));
        ledger.note(protocol, by_server("3008", "message_timeout"));
    }
    ledger.note("centrifuge", by_server("3012", "ping_timeout"));
    ledger.note("centrifuge", by_server("3502", "connect_timeout"));
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn a_client_that_only_answers_pings_is_idle() {
    let gateway = Gateway::start(&[
        "websocket.idle_timeout=\"800ms\"",
        "websocket.ping_interval=\"200ms\"",
        "websocket.pong_timeout=\"100ms\"",
        "websocket.control_frames_rate=1000",
    ]);
    let mut ledger = Ledger::default();
    for (protocol, path) in [("raw", "/topic/t"), ("echo", "/echo")] {
        let mut client = gateway.open(path);
        let mut pings = 0;
        loop {
            let frame = client.read_frame();
            if frame.first != FIN | PING {
                assert_eq!(frame.payload, [&3008_u16.to_be_bytes()[..], b"idle"].concat());
                break;
            }
            pings += 1;
            assert!(pings < 20, "kept by its pongs");
            client.send_frame(FIN | PONG, &frame.payload);
        }
        assert!(pings >= 2, "{pings} pings");
        client.send_close(3008);
        assert_eq!(client.next(), Next::Fin);
        ledger.note(protocol, by_server("3008", "idle"));

        // Who says something is not idle.
        let mut client = gateway.open(path);
        for _ in 0..15 {
            pause(ms(100));
            client.send_text("here");
            assert_eq!(client.read_text(), "here");
        }
        client.send_close(1000);
        client.expect_close(1000);
        ledger.note(protocol, by_client("1000"));
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn a_slow_client_is_counted_whether_or_not_it_reads_its_close() {
    let clients = free_address();
    let text = format!(
        "[[listener]]\naddress = \"{clients}\"\n[[namespace]]\nhistory_bytes_max = \"32 KiB\"\n"
    );
    let gateway = Gateway::start_with(
        &text,
        clients,
        &[
            "outbox.bytes_max=\"64 KiB\"",
            "outbox.soft_bytes_max=\"32 KiB\"",
            "websocket.close_timeout=\"1s\"",
            "socket.send_buffer=\"8 KiB\"",
            "socket.notsent_lowat=\"4 KiB\"",
        ],
    );
    let mut ledger = Ledger::default();
    let filler = "x".repeat(8 * 1024);
    let mut overwhelm = |reads: bool| {
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.upgrade("/topic/big");
        for _ in 0..40 {
            gateway.api("publish", &format!(r#"{{"channel":"big","data":"{filler}"}}"#));
        }
        if reads {
            agree(&mut client, 4008, "slow");
            ledger.note("raw", by_server("4008", "slow_full"));
        } else {
            let open = || gateway.metrics().sum("connections") > 0;
            while open() {
                pause(ms(20));
            }
            let sent = Some("4008");
            let (initiator, cause) = ("server", "slow_full");
            let end = End { code: "1006", initiator, cause, sent, received: None };
            ledger.note("raw", end);
        }
    };
    overwhelm(true);
    overwhelm(false);
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn the_server_api_ends_connections_with_the_code_it_is_given() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    let connect = || {
        let mut client = gateway.open("/connection/websocket");
        client.send_text(r#"{"id":1,"connect":{}}"#);
        let reply = client.read_text();
        let (_, rest) = reply.split_once(r#""client":""#).expect("it has an id");
        let id = rest.split('"').next().unwrap_or_default().to_owned();
        (client, id)
    };
    let (mut client, id) = connect();
    gateway.api("disconnect", &format!(r#"{{"user":"","client":"{id}"}}"#));
    agree(&mut client, 3503, "force disconnect");
    ledger.note("centrifuge", by_server("3503", "disconnected"));
    drop(client);
    let (mut client, id) = connect();
    let with =
        format!(r#"{{"user":"","client":"{id}","disconnect":{{"code":4321,"reason":"enough"}}}}"#);
    gateway.api("disconnect", &with);
    agree(&mut client, 4321, "enough");
    ledger.note("centrifuge", by_server("4xxx_other", "disconnected"));
    drop(client);
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn two_closes_that_cross_count_as_one_end() {
    let gateway = Gateway::start(&[]);
    let mut ledger = Ledger::default();
    for (protocol, path) in [("raw", "/topic/quiet:t"), ("centrifuge", "/connection/websocket")] {
        let mut client = gateway.open(path);
        // The first makes us close; the second is on its way by then.
        client.send(&[frame(FIN | TEXT, b"x"), close(4000, b"")].concat());
        let (code, _) = client.read_close();
        assert_eq!(client.next(), Next::Fin);
        let (sent, cause) =
            if protocol == "raw" { ("1008", "publish_denied") } else { ("3501", "bad_command") };
        assert_eq!(code.map(|code| code.to_string()).as_deref(), Some(sent));
        let end = End {
            code: "4xxx_other",
            initiator: "server",
            cause,
            sent: Some(sent),
            received: Some("4xxx_other"),
        };
        ledger.note(protocol, end);
    }
    ledger.settle(&gateway);
    gateway.finish();
}

#[test]
fn a_drain_tells_everyone_in_their_own_words_and_counts_them() {
    let gateway = Gateway::start(&["drain.window=\"1s\"", "log.level=\"warn\""]);
    let mut ledger = Ledger::default();
    let mut clients: Vec<(u16, &str, Client)> = (0..10)
        .flat_map(|_| {
            [
                (1012, "restart retry_ms=500-5000", gateway.open("/topic/t")),
                (1012, "restart retry_ms=500-5000", gateway.open("/echo")),
                (3001, "shutdown", gateway.open("/connection/websocket")),
            ]
        })
        .collect();
    // While one does not answer, the numbers can be read.
    let mut last = gateway.open("/echo");
    gateway.signal(Signal::TERM);
    for (code, reason, client) in &mut clients {
        agree(client, *code, reason);
    }
    drop(clients);
    for _ in 0..10 {
        ledger.note("raw", by_server("1012", "drain"));
        ledger.note("echo", by_server("1012", "drain"));
        ledger.note("centrifuge", by_server("3001", "drain"));
    }
    assert_eq!(last.read_close().0, Some(1012));
    *ledger.sent.entry("1012".to_owned()).or_default() += 1;
    ledger.settle(&gateway);
    drop(last);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_drain_is_spread_over_its_window() {
    let gateway = Gateway::start(&["drain.window=\"2s\"", "drain.grace=\"300ms\""]);
    let mut clients: Vec<Client> = (0..100).map(|_| gateway.open("/echo")).collect();
    let began = now();
    gateway.signal(Signal::TERM);
    let mut fifths = [0; 5];
    for client in &mut clients {
        agree(client, 1012, "restart retry_ms=500-5000");
        let since = (now() - began).saturating_sub(ms(300));
        let fifth = usize::try_from(since.as_millis() / 400).expect("it is small");
        fifths[fifth.min(4)] += 1;
    }
    assert!(fifths.iter().all(|&count| count >= 10), "{fifths:?}");
    drop(clients);
    let (status, log) = gateway.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(now() - began < ms(300 + 2_000 + 1_000), "{:?}", now() - began);
}

#[test]
fn after_every_end_what_was_opened_is_closed_or_open() {
    let gateway = Gateway::start(&[]);
    let bystanders = PROTOCOLS.map(|(_, path)| gateway.open(path));
    for round in 0..120 {
        let mut client = gateway.open(PROTOCOLS[round % 3].1);
        match round % 4 {
            0 => client.send_close(1000),
            1 => client.send(&frame(FIN | 0x3, b"")),
            2 => client.finish_writing(),
            _ => {}
        }
        if round % 4 == 3 {
            client.reset();
        } else {
            while let Next::Frame(_) = client.next() {}
            drop(client);
        }
        let metrics = gateway.await_metrics(|metrics| metrics.sum("connections") == 3);
        metrics.assert_balanced();
        assert_eq!(metrics.sum("closed_total"), round as u64 + 1);
    }
    drop(bystanders);
    gateway.finish();
}
