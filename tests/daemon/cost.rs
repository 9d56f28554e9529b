//! What a stranger can cost: memory for each connection in each phase, processor time for what it sends.
//! SECURITY.md quotes what this prints: `cargo nextest run --test daemon cost --no-capture`.

use std::io::Write;
use std::thread;

use crate::deflate::compress;
use crate::gateway::Gateway;
use crate::gateway::client::{Client, request};
use crate::gateway::clock::{ms, pause};
use crate::gateway::frame::{BINARY, CONTINUATION, FIN, Length, PING, RSV1, TEXT, frame, header};

/// Connections of one kind, whose cost is divided by their number.
const COUNT: u64 = 200;

/// Memory of one connection of a kind, in bytes: `make` opens one and does to it what it likes.
fn memory(what: &str, most: u64, settings: &[&str], make: impl Fn(&Gateway, u64) -> Client) {
    let common = ["http.head_timeout=\"1m\"", "websocket.message_timeout=\"1m\""];
    let gateway = Gateway::start(&[&common, settings].concat());
    // What the first clients make the process keep is not theirs: receive buffers and the like.
    let mut echo = gateway.open("/echo");
    for _ in 0..100 {
        echo.send_frame(FIN | BINARY, &[0; 60 * 1024]);
        echo.read_frame();
    }
    drop((echo, make(&gateway, 0)));
    gateway.await_metrics(|of| of.sum("connections") + of.sum("connections_handshaking") == 0);
    let before = gateway.usage().watch();
    let clients: Vec<Client> = (1_000..1_000 + COUNT).map(|n| make(&gateway, n)).collect();
    pause(ms(300));
    let each = before.peak_growth_kib() * 1024 / COUNT;
    report(what, each, "bytes for each connection", most);
    drop(clients);
    gateway.finish();
}

/// Processor time for each KiB that the gateway reads of `bytes`, sent over and over, in nanoseconds.
fn time(what: &str, most: u64, open: impl Fn(&Gateway) -> Client, bytes: &[u8], settings: &[&str]) {
    let gateway = Gateway::start(settings);
    let read = || gateway.metrics().sum("bytes_received_total");
    let run = || {
        let (before, read_before) = (gateway.usage(), read());
        let mut sent = 0;
        while sent < 1 << 20 {
            let mut client = open(&gateway);
            let mut writer = client.writer();
            thread::scope(|scope| {
                scope.spawn(move || {
                    // It is cut off where the gateway has had enough.
                    let _ = writer.write_all(bytes);
                    let _ = writer.shutdown(std::net::Shutdown::Write);
                });
                client.read_all();
            });
            sent += bytes.len().min(64 * 1024);
        }
        before.cpu_ns_since() * 1024 / (read() - read_before)
    };
    run();
    report(what, run(), "ns for each KiB", most);
    gateway.finish();
}

fn report(what: &str, found: u64, unit: &str, most: u64) {
    #[expect(clippy::print_stdout, reason = "figures for people")]
    {
        println!("{what}: {found} {unit}");
    }
    assert!(found <= most, "{what}: {found} {unit}, {most} allowed");
}

#[test]
fn cost_in_memory_of_a_connection_in_each_phase() {
    memory("connected and silent", 1_500, &[], |gateway, _| gateway.connect());
    memory("a request head that does not end", 34_000, &[], |gateway, _| {
        let mut client = gateway.connect();
        client.send(&[b"GET / HTTP/1.1\r\nX: ", &[b'x'; 16_000][..]].concat());
        client
    });
    memory("upgraded to the echo and idle", 1_500, &[], |gateway, _| gateway.open("/echo"));
    memory("on a raw topic and idle", 3_000, &[], |gateway, n| {
        gateway.open(&format!("/topic/{n}"))
    });
    memory("connected as a Centrifugo client", 2_500, &[], |gateway, _| gateway.centrifuge());
    memory(
        "128 subscriptions to topics of its own, of 255 bytes",
        256 * 1024,
        &[],
        |gateway, n| {
            let mut client = gateway.centrifuge();
            let name = |of: u64| format!("{n:08}{of:03}{}", "x".repeat(244));
            let command = |of: u64| {
                format!(r#"{{"id":{},"subscribe":{{"channel":"{}"}}}}"#, of + 2, name(of))
            };
            let commands: Vec<String> = (0..128).map(command).collect();
            let mut replies = 0;
            for commands in commands.chunks(16) {
                client.send_text(&commands.join("\n"));
            }
            while replies < 128 {
                replies += client.read_text().lines().count();
            }
            client
        },
    );
    memory("a message of 64 KiB without its last byte", 80 * 1024, &[], |gateway, _| {
        let mut client = gateway.open("/echo");
        client.send(&header(FIN | BINARY, 64 * 1024, Length::Minimal));
        client.send(&vec![0; 64 * 1024 - 1]);
        client
    });
    memory("127 empty fragments", 2_000, &[], |gateway, _| {
        let mut client = gateway.open("/echo");
        client.send(&[frame(TEXT, b""), frame(CONTINUATION, b"").repeat(126)].concat());
        client
    });
    let deflate = ["deflate.enabled=true", "deflate.client_takeover=true"];
    memory("with a window of 32 KiB for what it compresses", 56 * 1024, &deflate, |gateway, _| {
        let (mut client, _) = gateway.open_deflate("/echo", "; client_max_window_bits");
        let noise: Vec<u8> =
            (0..60_000_u32).map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()[0]).collect();
        client.send_frame(FIN | RSV1 | BINARY, &compress(&noise));
        while client.read_frame().first & !RSV1 != FIN | BINARY {}
        client
    });
    let narrow = ["socket.send_buffer=\"8 KiB\"", "socket.notsent_lowat=\"4 KiB\""];
    memory("an echo of 900 KiB that is not read", 1_100 * 1024, &narrow, |gateway, _| {
        let mut client = Client::connect_narrow(gateway.clients(), 4096);
        client.upgrade("/echo");
        client.send(&frame(FIN | TEXT, &[b'x'; 60 * 1024]).repeat(15));
        client
    });
}

#[test]
fn cost_in_time_of_what_is_sent() {
    let flood = ["websocket.control_frames_rate=1000000", "websocket.control_frames_burst=1000000"];
    let echo = |gateway: &Gateway| gateway.open("/echo");
    let talk = |gateway: &Gateway| gateway.open("/connection/websocket");
    let connect = frame(FIN | TEXT, br#"{"id":1,"connect":{}}"#);
    let after_connect = |text: &str| {
        let mut bytes = connect.clone();
        let command = frame(FIN | TEXT, text.as_bytes());
        while bytes.len() < 256 * 1024 {
            bytes.extend_from_slice(&command);
        }
        bytes
    };
    time(
        "requests of 128 bytes that are none",
        1_000_000,
        Gateway::connect,
        &[b'x'; 2].repeat(64),
        &[],
    );
    time(
        "request heads that are refused",
        1_000_000,
        Gateway::connect,
        request("/nowhere", "").as_bytes(),
        &[],
    );
    time("upgrades", 1_000_000, Gateway::connect, request("/echo", "").as_bytes(), &[]);
    time("echoes of one byte", 200_000, echo, &frame(FIN | TEXT, b"x").repeat(30_000), &[]);
    time("echoes of 64 KiB", 20_000, echo, &frame(FIN | TEXT, &[b'x'; 65_536]).repeat(8), &[]);
    time("empty fragments", 400_000, echo, &frame(CONTINUATION, b"").repeat(128), &[]);
    time("pings without a limit", 200_000, echo, &frame(FIN | PING, b"").repeat(30_000), &flood);
    let publish = r#"{"id":2,"publish":{"channel":"quiet:a","data":1}}"#;
    time("commands that are refused", 200_000, talk, &after_connect(publish), &[]);
    let deep =
        format!(r#"{{"id":2,"publish":{{"channel":"quiet:a","data":{}1}}}}"#, "[".repeat(60_000));
    time("nested commands of 60 KB", 200_000, talk, &after_connect(&deep), &[]);
    let deflate = |gateway: &Gateway| gateway.open_deflate("/echo", "").0;
    let bomb = frame(FIN | RSV1 | BINARY, &compress(&[0; 64 * 1024])).repeat(1_000);
    time(
        "compressed messages of 64 KiB of zeros",
        5_000_000,
        deflate,
        &bomb,
        &["deflate.enabled=true"],
    );
}
