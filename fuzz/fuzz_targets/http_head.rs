//! First byte: length of the pieces. Rest: what a client sends.
//!
//! The scanner's verdict is the same for any cut, and bounded; what is accepted satisfies
//! httparse and holds what the handshake relies on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::http1::error::HeadError;
use ringway::http1::head::{HeadLimits, HeadScanner};
use ringway::http1::request::RequestHead;
use ringway::http1::target::percent_decode;
use ringway::ws::handshake;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 1024, headers_max: 16 };

fn scan(bytes: &[u8], piece_len: usize) -> Result<Option<usize>, HeadError> {
    let mut scanner = HeadScanner::default();
    let mut received = 0;
    while received < bytes.len() {
        received = (received + piece_len).min(bytes.len());
        if let Some(len) = scanner.scan(&bytes[..received], &LIMITS)? {
            return Ok(Some(len));
        }
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece_len, bytes)) = data.split_first() else { return };
    let whole = scan(bytes, usize::MAX / 2);
    assert_eq!(whole, scan(bytes, usize::from(piece_len).max(1)));
    assert_eq!(whole, scan(bytes, 1));
    let Ok(Some(len)) = whole else { return };
    assert!(len <= LIMITS.bytes_max);
    let Ok(head) = RequestHead::parse(&bytes[..len], &LIMITS) else { return };

    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut oracle = httparse::Request::new(&mut headers);
    assert_eq!(oracle.parse(&bytes[..len]), Ok(httparse::Status::Complete(len)));
    assert_eq!(oracle.method, Some(head.method()));
    assert_eq!(oracle.version, Some(1));
    let named = |name: &str| {
        oracle.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count()
    };
    assert_eq!(named("host"), 1);
    assert_eq!(named("transfer-encoding"), 0);
    assert!(head.target().path().starts_with('/'));
    assert!(!head.header("Host").is_some_and(<[u8]>::is_empty));
    if let Ok(path) = percent_decode(head.target().path()) {
        assert!(path.len() <= head.target().path().len());
    }
    let _ = head.target().query_value("token");
    if let Ok(upgrade) = handshake::check(&head) {
        assert_eq!(named("sec-websocket-key"), 1);
        assert_eq!(named("sec-websocket-version"), 1);
        assert_eq!(head.method(), "GET");
        assert!(upgrade.subprotocols().all(|token| !token.is_empty()));
    }
});
