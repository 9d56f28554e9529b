//! The opening handshake, seen from the server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::deflate::negotiate::Agreement;
use super::offers::{are_extensions, are_subprotocols, list_items};
use crate::http1::error::HeadError;
use crate::http1::request::RequestHead;
use crate::http1::response::Response;
use crate::http1::status::Status;

/// What the server appends to the client's key (RFC 6455 §1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Length of 16 bytes in base64.
const KEY_TEXT_BYTES: usize = 24;

/// Why a request does not become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A method other than GET.
    MethodNotAllowed,
    /// No `Upgrade` header.
    UpgradeMissing,
    /// An `Upgrade` to something else than `websocket`.
    UpgradeUnknown,
    /// More than one `Upgrade` header.
    UpgradeRepeated,
    /// No `Connection` header with the token `upgrade`.
    ConnectionWithoutUpgrade,
    /// No `Sec-WebSocket-Version` header.
    VersionMissing,
    /// A version other than 13.
    VersionUnknown,
    /// More than one `Sec-WebSocket-Version` header.
    VersionRepeated,
    /// No `Sec-WebSocket-Key` header.
    KeyMissing,
    /// A key that is not canonical base64 of 16 bytes.
    BadKey,
    /// More than one `Sec-WebSocket-Key` header.
    KeyRepeated,
    /// `Sec-WebSocket-Protocol` is not a list of at most 32 different tokens.
    BadSubprotocols,
    /// `Sec-WebSocket-Extensions` is malformed.
    BadExtensions,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: &[Self] = &[
        Self::MethodNotAllowed,
        Self::UpgradeMissing,
        Self::UpgradeUnknown,
        Self::UpgradeRepeated,
        Self::ConnectionWithoutUpgrade,
        Self::VersionMissing,
        Self::VersionUnknown,
        Self::VersionRepeated,
        Self::KeyMissing,
        Self::BadKey,
        Self::KeyRepeated,
        Self::BadSubprotocols,
        Self::BadExtensions,
    ];

    /// The status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::MethodNotAllowed => Status::MethodNotAllowed,
            Self::UpgradeMissing
            | Self::UpgradeUnknown
            | Self::VersionMissing
            | Self::VersionUnknown => Status::UpgradeRequired,
            Self::UpgradeRepeated
            | Self::ConnectionWithoutUpgrade
            | Self::VersionRepeated
            | Self::KeyMissing
            | Self::BadKey
            | Self::KeyRepeated
            | Self::BadSubprotocols
            | Self::BadExtensions => Status::BadRequest,
        }
    }

    /// A name for logs and metric labels.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => HeadError::MethodNotAllowed.reason(),
            Self::UpgradeMissing => "upgrade_missing",
            Self::UpgradeUnknown => "upgrade_unknown",
            Self::UpgradeRepeated => "upgrade_repeated",
            Self::ConnectionWithoutUpgrade => "connection_without_upgrade",
            Self::VersionMissing => "version_missing",
            Self::VersionUnknown => "version_unknown",
            Self::VersionRepeated => "version_repeated",
            Self::KeyMissing => "key_missing",
            Self::BadKey => "bad_key",
            Self::KeyRepeated => "key_repeated",
            Self::BadSubprotocols => "bad_subprotocols",
            Self::BadExtensions => "bad_extensions",
        }
    }

    /// One line for the person at the other end: what is wrong and what would be right.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => HeadError::MethodNotAllowed.explanation(),
            Self::UpgradeMissing => {
                "This path speaks WebSocket. Connect with a WebSocket client; \
                 a proxy in between must pass the Upgrade header on."
            }
            Self::UpgradeUnknown => "The Upgrade header must be exactly: websocket",
            Self::UpgradeRepeated => "The Upgrade header was sent twice. Send it once.",
            Self::ConnectionWithoutUpgrade => {
                "The Connection header must contain: Upgrade. A proxy in between may have \
                 removed it."
            }
            Self::VersionMissing | Self::VersionUnknown => {
                "This server speaks WebSocket version 13. Send: Sec-WebSocket-Version: 13"
            }
            Self::VersionRepeated => "Sec-WebSocket-Version was sent twice. Send it once.",
            Self::KeyMissing => "The Sec-WebSocket-Key header is missing.",
            Self::BadKey => "Sec-WebSocket-Key must be 16 random bytes in base64.",
            Self::KeyRepeated => "Sec-WebSocket-Key was sent twice. Send it once.",
            Self::BadSubprotocols => {
                "Sec-WebSocket-Protocol must list at most 32 different tokens, with commas between."
            }
            Self::BadExtensions => "Sec-WebSocket-Extensions is malformed.",
        }
    }
}

/// The answer to a client's key: proof that the server speaks WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// For the key as it stands in the request.
    ///
    /// Source: RFC 6455 §4.2.2 (5.4).
    fn of(key: &[u8]) -> Self {
        let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
        let mut text = [0; 28];
        let written = STANDARD.encode_slice(digest, &mut text);
        assert!(written == Ok(28), "20 bytes are 28 characters of base64");
        Self(text)
    }

    /// As it is written into the response.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A request that may become a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'h> {
    head: &'h RequestHead<'h>,
    accept_key: AcceptKey,
}

impl<'h> Upgrade<'h> {
    /// Goes into [`accept_response`].
    pub fn accept_key(&self) -> &AcceptKey {
        &self.accept_key
    }

    /// The subprotocols offered: different tokens, the favourite first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'h str> + use<'h> {
        self.head
            .headers("Sec-WebSocket-Protocol")
            .flat_map(list_items)
            .filter_map(|token| std::str::from_utf8(token).ok())
    }

    /// The values of all `Sec-WebSocket-Extensions` headers, each a well-formed list.
    pub fn extensions(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        self.head.headers("Sec-WebSocket-Extensions")
    }

    /// The values of all `Origin` headers; a browser sends exactly one.
    pub fn origins(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        self.head.headers("Origin")
    }
}

/// Checks everything RFC 6455 demands of a request. Path, Origin and credentials are the caller's.
///
/// Extensions are checked for their form only.
///
/// Errors: [`Refusal`].
/// Source: RFC 6455 §4.2.1, §4.4, §11.3.
pub fn check<'h>(head: &'h RequestHead<'h>) -> Result<Upgrade<'h>, Refusal> {
    head.require_get().map_err(|_| Refusal::MethodNotAllowed)?;
    let upgrade = single(head, "Upgrade", Refusal::UpgradeMissing, Refusal::UpgradeRepeated)?;
    if !upgrade.eq_ignore_ascii_case(b"websocket") {
        return Err(Refusal::UpgradeUnknown);
    }
    let mut options = head.headers("Connection").flat_map(list_items);
    if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Err(Refusal::ConnectionWithoutUpgrade);
    }
    let (missing, repeated) = (Refusal::VersionMissing, Refusal::VersionRepeated);
    if single(head, "Sec-WebSocket-Version", missing, repeated)? != b"13" {
        return Err(Refusal::VersionUnknown);
    }
    let key = single(head, "Sec-WebSocket-Key", Refusal::KeyMissing, Refusal::KeyRepeated)?;
    if !is_key(key) {
        return Err(Refusal::BadKey);
    }
    if !are_subprotocols(head.headers("Sec-WebSocket-Protocol")) {
        return Err(Refusal::BadSubprotocols);
    }
    if !head.headers("Sec-WebSocket-Extensions").all(are_extensions) {
        return Err(Refusal::BadExtensions);
    }
    Ok(Upgrade { head, accept_key: AcceptKey::of(key) })
}

/// Appends the response that opens the WebSocket.
///
/// `subprotocol` and `extension` must be among those offered. Control characters in `extra_headers` are
/// written as `?`.
/// Source: RFC 6455 §4.2.2 (5).
pub fn accept_response(
    out: &mut Vec<u8>,
    accept_key: &AcceptKey,
    subprotocol: Option<&str>,
    extension: Option<&Agreement>,
    extra_headers: &[(&str, &str)],
) {
    let mut response = Response::new(out, Status::SwitchingProtocols)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", accept_key.as_bytes());
    if let Some(subprotocol) = subprotocol {
        response = response.header("Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(agreement) = extension {
        response = response.header("Sec-WebSocket-Extensions", agreement.to_string());
    }
    for (name, value) in extra_headers {
        response = response.header(name, value);
    }
    response.finish();
}

fn single<'h>(
    head: &RequestHead<'h>,
    name: &str,
    missing: Refusal,
    repeated: Refusal,
) -> Result<&'h [u8], Refusal> {
    let mut values = head.headers(name);
    let value = values.next().ok_or(missing)?;
    if values.next().is_some() { Err(repeated) } else { Ok(value) }
}

/// Whether `text` is the one base64 text of some 16 bytes.
fn is_key(text: &[u8]) -> bool {
    let mut key = [0; KEY_TEXT_BYTES / 4 * 3];
    // The engine refuses other padding and leftover bits, so no two texts mean one key.
    text.len() == KEY_TEXT_BYTES && STANDARD.decode_slice(text, &mut key) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::HeadLimits;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const CONNECTION: &str = "Connection: Upgrade\r\n";
    const UPGRADE: &str = "Upgrade: websocket\r\n";

    fn verdict(method: &str, lines: &[&str]) -> Result<(), Refusal> {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat());
        let head = RequestHead::parse(text.as_bytes(), &HeadLimits::default()).unwrap();
        check(&head).map(|_| ())
    }

    #[test]
    fn the_handshake_of_the_rfc_is_accepted() {
        // RFC 6455 §1.2, §1.3
        let text = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
            Sec-WebSocket-Version: 13\r\n\r\n";
        let head = RequestHead::parse(text, &HeadLimits::default()).unwrap();
        let upgrade = check(&head).unwrap();
        assert_eq!(upgrade.accept_key().as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upgrade.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
        assert_eq!(upgrade.origins().collect::<Vec<_>>(), [b"http://example.com"]);

        let mut out = Vec::new();
        accept_response(&mut out, upgrade.accept_key(), Some("chat"), None, &[("X-A", "b\r\nc")]);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\nX-A: b??c\r\n\r\n"
        );
    }

    #[test]
    fn case_and_company_do_not_matter_where_the_rfc_allows_them() {
        let upgrade = "uPGRADE: WebSocket\r\n";
        let connection = "Connection: keep-alive\r\nconnection: x , UPGRADE\r\n";
        let extensions = "Sec-WebSocket-Extensions: permessage-deflate; a=\"9\", b\r\n";
        assert_eq!(verdict("GET", &[upgrade, connection, VERSION, KEY, extensions]), Ok(()));
    }

    #[test]
    fn each_fault_has_its_status() {
        use Refusal::*;
        let bad_key = |key: &str| format!("Sec-WebSocket-Key: {key}\r\n");
        let cases: &[(&[&str], Refusal, u16)] = &[
            (&[CONNECTION, VERSION, KEY], UpgradeMissing, 426),
            (&["Upgrade:\r\n", CONNECTION, VERSION, KEY], UpgradeUnknown, 426),
            (&["Upgrade: websocket, h2c\r\n", CONNECTION, VERSION, KEY], UpgradeUnknown, 426),
            (&[UPGRADE, UPGRADE, CONNECTION, VERSION, KEY], UpgradeRepeated, 400),
            (&[UPGRADE, VERSION, KEY], ConnectionWithoutUpgrade, 400),
            (
                &[UPGRADE, "Connection: upgrade-not\r\n", VERSION, KEY],
                ConnectionWithoutUpgrade,
                400,
            ),
            (&[UPGRADE, CONNECTION, KEY], VersionMissing, 426),
            (&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 8\r\n", KEY], VersionUnknown, 426),
            (&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 13, 8\r\n", KEY], VersionUnknown, 426),
            (&[UPGRADE, CONNECTION, VERSION, VERSION, KEY], VersionRepeated, 400),
            (&[UPGRADE, CONNECTION, VERSION], KeyMissing, 400),
            (&[UPGRADE, CONNECTION, VERSION, KEY, KEY], KeyRepeated, 400),
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("")], BadKey, 400),
            // 15 and 17 bytes
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("AAAAAAAAAAAAAAAAAAAA")], BadKey, 400),
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("AAAAAAAAAAAAAAAAAAAAAAA=")], BadKey, 400),
            // 18 bytes, another alphabet, leftover bits, no padding
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("AAAAAAAAAAAAAAAAAAAAAAAA")], BadKey, 400),
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("-AAAAAAAAAAAAAAAAAAAAA==")], BadKey, 400),
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("AAAAAAAAAAAAAAAAAAAAAB==")], BadKey, 400),
            (&[UPGRADE, CONNECTION, VERSION, &bad_key("AAAAAAAAAAAAAAAAAAAAAA")], BadKey, 400),
            (
                &[UPGRADE, CONNECTION, VERSION, KEY, "Sec-WebSocket-Protocol: a,,b\r\n"],
                BadSubprotocols,
                400,
            ),
            (
                &[UPGRADE, CONNECTION, VERSION, KEY, "Sec-WebSocket-Extensions: a;b=\"\r\n"],
                BadExtensions,
                400,
            ),
        ];
        for (lines, refusal, status) in cases {
            assert_eq!(verdict("GET", lines), Err(*refusal), "{lines:?}");
            assert_eq!(refusal.status().code(), *status, "{lines:?}");
        }
        let post = verdict("POST", &[UPGRADE, CONNECTION, VERSION, KEY]);
        assert_eq!(post, Err(MethodNotAllowed));
    }
}
