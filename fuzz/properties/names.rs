//! What a request line may name: paths, queries and topics lead where they should, cost no more than
//! their bytes, and never mean two things.

use ringway::conn::route::{Route, Routes};
use ringway::http1::target::percent_decode;
use ringway::topic::name::TopicName;

const ALL: Routes = Routes { raw: true, echo: true, centrifuge: true };
const NONE: Routes = Routes { raw: false, echo: false, centrifuge: false };

/// All bytes that are text are taken as a path and as a name.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ALL.find(text) {
        Some(Route::Topic(topic)) => assert_eq!(text.strip_prefix("/topic/"), Some(topic)),
        Some(Route::Echo) => assert_eq!(text, "/echo"),
        Some(Route::Centrifuge) => assert_eq!(text, "/connection/websocket"),
        Some(Route::Page) => assert_eq!(text, "/"),
        None => assert!(!text.starts_with("/topic/")),
    }
    assert!(matches!(NONE.find(text), None | Some(Route::Page)));

    if let Ok(decoded) = percent_decode(text) {
        assert!(decoded.len() <= text.len());
        assert_eq!(decoded.as_bytes(), naive(text));
        // Written with every byte escaped, it means the same.
        let escaped: String = decoded.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(percent_decode(&escaped).expect("it is the same text"), decoded);
    }

    let is_good = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    let name = TopicName::new(text);
    assert_eq!(name.is_ok(), is_good);
    let Ok(name) = name else { return };
    assert_eq!(name.as_str(), text);
    assert_eq!(name, TopicName::new(text).expect("it was good before"));
    let (before, colon) = text.split_once(':').map_or(("", false), |(before, _)| (before, true));
    assert_eq!(name.namespace(), before);
    assert!(colon || name.namespace().is_empty());
    for shards in [1, 2, 3, 64] {
        assert!(name.home(shards) < shards);
    }
}

/// What the escapes of `text` stand for.
fn naive(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut at, mut decoded) = (0, Vec::new());
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}
