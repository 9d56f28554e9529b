//! Good input with a few bytes changed, thousands of times.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;

use fastrand::Rng;

use crate::gateway::Gateway;
use crate::gateway::client::{Client, request};
use crate::gateway::frame::{self, BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close};

/// Broken inputs in a usual run; `RINGWAY_MUTATIONS` says otherwise.
const CASES: u64 = 20_000;

/// Threads that send them.
const SENDERS: u8 = 4;

const PATHS: [&str; 4] = ["/echo", "/topic/t", "/topic/mine:t", "/connection/websocket"];

/// What a good client might send after the upgrade.
fn good_frames(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(1..6) {
        let more = match rng.u8(0..10) {
            0 => frame::frame(FIN | TEXT, br#"{"id":1,"connect":{}}"#),
            1 => frame::frame(
                FIN | TEXT,
                b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
                {\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":{\"x\":[1,\"\\u00e9\"]}}}\n\
                {\"id\":4,\"history\":{\"channel\":\"a\",\"limit\":3}}",
            ),
            2 => frame::frame(FIN | TEXT, "κόσμε".as_bytes()),
            3 => frame::frame(FIN | BINARY, &vec![rng.u8(..); rng.usize(0..70_000)]),
            4 => frame::frame(FIN | PING, &vec![0; rng.usize(0..=125)]),
            5 => frame::frame(FIN | PONG, b""),
            6 => [frame::frame(TEXT, b"one"), frame::frame(FIN | CONTINUATION, b"two")].concat(),
            7 => close(rng.u16(1000..1015), b"bye"),
            8 => frame::frame(FIN | CLOSE, b""),
            _ => frame::frame(BINARY, &vec![1; rng.usize(0..300)]),
        };
        bytes.extend(more);
    }
    bytes
}

/// A good opening request.
fn good_request(rng: &mut Rng) -> Vec<u8> {
    let more = [
        "",
        "Origin: http://gateway.test\r\n",
        "Sec-WebSocket-Protocol: centrifuge-json, ringway\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        "Content-Length: 0\r\nCookie: a=\"b\"; c=d\r\n",
    ];
    let path = ["/echo", "/topic/a%2Fb?offset=3&epoch=x", "/connection/websocket?format=json", "/"];
    request(path[rng.usize(0..path.len())], more[rng.usize(0..more.len())]).into_bytes()
}

/// Changes `bytes` in a few places.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(0..bytes.len());
        // Most of what matters stands in front.
        let at = if rng.bool() { at.min(rng.usize(0..20)) } else { at };
        match rng.u8(0..7) {
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at] = rng.u8(..),
            2 => bytes[at] = [0, 0x7F, 0x80, 0xFE, 0xFF][rng.usize(0..5)],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, rng.u8(..)),
            5 => {
                bytes.remove(at);
            }
            _ => {
                let end = bytes.len().min(at + rng.usize(1..64));
                bytes.extend_from_within(at..end);
            }
        }
    }
}

/// One broken input on a connection of its own; the answer is to be well-formed and to end.
fn try_one(address: SocketAddr, rng: &mut Rng) {
    let mut client = Client::connect(address);
    let is_upgraded = rng.bool();
    let mut bytes = if is_upgraded {
        client.upgrade(PATHS[rng.usize(0..PATHS.len())]);
        good_frames(rng)
    } else {
        [good_request(rng), good_frames(rng)].concat()
    };
    mutate(&mut bytes, rng);
    let mut writer = client.writer();
    let cut = rng.usize(0..=bytes.len());
    thread::scope(|scope| {
        scope.spawn(move || {
            // The server may have had enough before the end.
            let _ = writer.write_all(&bytes[..cut]);
            let _ = writer.write_all(&bytes[cut..]);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut answer = client.read_all();
        if !is_upgraded && !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.expect("heads are sent whole") + 4;
            let is_open = answer.starts_with(b"HTTP/1.1 101 ");
            answer.drain(..if is_open { end } else { answer.len() });
        }
        let mut is_closed = false;
        while let Some(frame) = frame::take(&mut answer) {
            assert!(!is_closed, "something after the Close: {frame:02x?}");
            if frame.first == FIN | CLOSE {
                is_closed = true;
                expect_sendable(&frame.payload);
            }
        }
    });
    client.reset();
}

/// A Close of ours: empty, or a code that may be sent, and text.
fn expect_sendable(payload: &[u8]) {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return assert!(payload.is_empty(), "{payload:02x?}");
    };
    let code = u16::from_be_bytes(*code);
    assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "{code}");
    assert!(std::str::from_utf8(reason).is_ok(), "{reason:02x?}");
}

#[test]
fn broken_inputs_break_nothing_but_their_own_connection() {
    let cases = std::env::var("RINGWAY_MUTATIONS")
        .ok()
        .map_or(CASES, |text| text.parse().expect("RINGWAY_MUTATIONS is a number"));
    let seed = std::env::var("RINGWAY_SEED")
        .ok()
        .map_or(0x52_49_4E_47, |text| text.parse().expect("RINGWAY_SEED is a number"));
    let gateway = Gateway::start(&["log.level=\"warn\""]);
    let canary = gateway.canary();
    let address = gateway.clients();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                for case in (u64::from(sender)..cases).step_by(usize::from(SENDERS)) {
                    let mut rng = Rng::with_seed(seed ^ case.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        try_one(address, &mut rng);
                    }));
                    assert!(tried.is_ok(), "RINGWAY_SEED={seed}, case {case}");
                }
            });
        }
    });
    canary.finish();
    gateway.finish();
}
