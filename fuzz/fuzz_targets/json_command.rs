//! One line from a Centrifugo client.
//!
//! What is accepted is JSON for serde_json too, reads the same a second time, and the data of a
//! publication is a part of the line and makes a push of exactly the length its header tells.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::dialect::centrifuge::command::{self, Line, Method};
use ringway::dialect::centrifuge::scan;
use ringway::dialect::scratch::Scratch;
use ringway::dialect::variant::{self, Compression, Language, Variant};
use ringway::topic::publication::Publication;
use ringway::ws::deflate::Codec;

fuzz_target!(|line: &[u8]| {
    // The scanner must bear bytes that are not JSON.
    if let Some(span) = scan::nested(line, [1, 1]) {
        assert!(span.end <= line.len());
    }
    let mut scratch = Scratch::default();
    let read = command::parse(line, &mut scratch);
    assert_eq!(command::parse(line, &mut scratch), read);
    let Ok(read) = read else { return };
    let json: serde_json::Value = serde_json::from_slice(line).expect("what we accept is JSON");
    let Line::Command { id, method } = read else { return };
    assert_ne!(id, 0);
    let Method::Publish(publish) = method else { return };
    let (Ok(topic), Some(payload)) = (publish.channel, publish.data) else { return };
    let data: serde_json::Value = serde_json::from_slice(payload.bytes()).expect("data is JSON");
    assert_eq!(json["publish"]["data"], data);

    let publication = Publication { topic, offset: Some(1), payload, publisher: None, tags: None };
    let plain = Variant { language: Language::Centrifuge, class: None }.form();
    let (mut codec, allowed) = (Codec::new(None, 0), Compression::Allowed);
    let wanted = |form| form == plain;
    let forms = variant::encode_all(&publication, wanted, allowed, &mut codec, &mut scratch);
    let frame = forms[usize::from(plain)].as_ref().expect("what is wanted is there");
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let push: serde_json::Value = serde_json::from_slice(&frame[header..]).expect("a push is JSON");
    assert_eq!(push["push"]["pub"]["data"], data);
    assert_eq!(push["push"]["channel"], publication.topic.as_str());
    assert!(!frame[header..].contains(&b'\n'));
});
