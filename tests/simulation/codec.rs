//! HTTP and WebSocket as a client writes and reads them: simple, slow, and not the gateway's code.

use std::collections::BTreeMap;
use std::fmt;

use crate::deflate;

/// The key of RFC 6455 section 1.3 and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The message is compressed.
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The request that opens a WebSocket at `target`.
/// `offer` is what stands behind `permessage-deflate`; `None`: it is not offered.
pub(crate) fn request(target: &str, offer: Option<&str>) -> Vec<u8> {
    let extension = offer.map_or(String::new(), |offer| {
        format!("Sec-WebSocket-Extensions: permessage-deflate{offer}\r\n")
    });
    format!(
        "GET {target} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extension}\r\n"
    )
    .into_bytes()
}

/// A frame as clients send it; `first` is its first byte: FIN, reserved bits and opcode.
pub(crate) fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(0x80 | short),
        (_, Ok(long)) => {
            out.push(0x80 | 126);
            out.extend(long.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// What the gateway has said.
pub(crate) enum Event {
    /// The answer to the request, with lower-case header names.
    Response {
        status: u16,
        headers: BTreeMap<String, String>,
    },
    /// A text or binary message.
    Message {
        opcode: u8,
        payload: Vec<u8>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason, if any.
    Close(Option<(u16, String)>),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response { status, headers } => write!(f, "{status} {headers:?}"),
            Self::Message { opcode, payload } => {
                write!(f, "message {opcode} {}", String::from_utf8_lossy(payload))
            }
            Self::Ping(payload) => write!(f, "ping of {} bytes", payload.len()),
            Self::Pong(payload) => write!(f, "pong of {} bytes", payload.len()),
            Self::Close(close) => write!(f, "close {close:?}"),
        }
    }
}

/// Reads what the gateway sends. Panics at everything that it must not send.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    stage: Stage,
    /// Whether compression was agreed on.
    inflates: bool,
    /// Compressed messages so far.
    pub(crate) inflated: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    /// The body of a refusal, this many bytes of it.
    Body(usize),
    Frames,
    /// Nothing may follow.
    Over,
}

impl Decoder {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether half a frame or head has arrived.
    pub(crate) fn is_mid_frame(&self) -> bool {
        !self.bytes.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        match self.stage {
            Stage::Head => self.head(),
            Stage::Body(len) => {
                assert!(self.bytes.len() <= len, "more than the body of a refusal: {self:?}");
                None
            }
            Stage::Frames => self.frame(),
            Stage::Over => {
                assert!(self.bytes.is_empty(), "bytes after Close: {:02x?}", self.bytes);
                None
            }
        }
    }

    fn head(&mut self) -> Option<Event> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.bytes.drain(..end).collect()).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.expect("a status line")[..3].parse().expect("a status");
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        if status == 101 {
            assert_eq!(headers["sec-websocket-accept"], ACCEPT);
            self.stage = Stage::Frames;
            self.inflates = headers.contains_key("sec-websocket-extensions");
        } else {
            self.stage = Stage::Body(headers["content-length"].parse().expect("a length"));
        }
        Some(Event::Response { status, headers })
    }

    fn frame(&mut self) -> Option<Event> {
        let (&first, rest) = self.bytes.split_first()?;
        let (&second, rest) = rest.split_first()?;
        assert_eq!(first & 0xb0, 0x80, "a fragment or a reserved bit: {first:#04x}");
        let is_compressed = first & RSV1 != 0;
        assert!(!is_compressed || self.inflates, "compressed, and that was not agreed");
        assert_eq!(second & 0x80, 0, "a masked frame from the server");
        let (extended, len) = match second {
            126 => (2, usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?))),
            127 => {
                let len = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
                (8, usize::try_from(len).expect("a length that fits"))
            }
            len => (0, usize::from(len)),
        };
        let payload = rest.get(extended..extended + len)?.to_vec();
        self.bytes.drain(..2 + extended + len);
        let opcode = first & 0x0f;
        assert!(opcode < 8 || (len <= 125 && !is_compressed), "a bad control frame");
        let payload = match is_compressed {
            true => deflate::inflate(&payload),
            false => payload,
        };
        self.inflated += u64::from(is_compressed);
        Some(match opcode {
            TEXT | BINARY => Event::Message { opcode, payload },
            PING => Event::Ping(payload),
            PONG => Event::Pong(payload),
            CLOSE => {
                self.stage = Stage::Over;
                assert_ne!(len, 1, "half a close code");
                let close = payload.split_at_checked(2).map(|(code, reason)| {
                    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                    (u16::from_be_bytes([code[0], code[1]]), reason)
                });
                Event::Close(close)
            }
            _ => panic!("opcode {opcode}"),
        })
    }
}

/// The bytes of Base64 text, as RFC 4648 section 4 tells.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        let mut count = 0;
        for &byte in four.iter().filter(|&&byte| byte != b'=') {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
            count += 1;
        }
        bits <<= 6 * (4 - count);
        out.extend(&bits.to_be_bytes()[1..count]);
    }
    Some(out)
}
