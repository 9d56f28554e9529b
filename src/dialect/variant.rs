//! The forms in which a publication is delivered; each is encoded at most once.

use bytes::Bytes;

use super::cause::Protocol;
use super::centrifuge::push::{self, Data};
use super::json::Length;
use super::scratch::Scratch;
use crate::topic::publication::{Payload, Publication};
use crate::ws::header::{Fin, Opcode, encode_frame, encode_header, server_header_len};

/// One encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The payload alone: a text or binary frame.
    Raw,
    /// A Centrifugo JSON push in a text frame.
    Centrifuge,
}

impl Variant {
    /// Every variant, by its number.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Centrifuge];

    /// Whose clients are sent this form.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Raw => Protocol::Raw,
            Self::Centrifuge => Protocol::Centrifuge,
        }
    }

    /// The number under which homes count who wants this form.
    pub const fn form(self) -> u8 {
        self as u8
    }
}

/// The whole frame that carries `publication` in the form `variant`.
///
/// One allocation, of exactly the frame's length.
pub fn encode(variant: Variant, publication: &Publication, scratch: &mut Scratch) -> Bytes {
    match variant {
        Variant::Raw => {
            let payload = publication.payload.bytes();
            let mut out = Vec::with_capacity(server_header_len(payload.len()) + payload.len());
            push_raw(&mut out, publication);
            out.into()
        }
        Variant::Centrifuge => {
            let data = Data::of(&publication.payload, scratch);
            let mut length = Length::default();
            push::write(&mut length, publication, data);
            let mut out = Vec::with_capacity(server_header_len(length.0) + length.0);
            encode_header(Opcode::Text, Fin::Last, length.0, &mut out);
            push::write(&mut out, publication, data);
            debug_assert_eq!(out.len(), server_header_len(length.0) + length.0);
            out.into()
        }
    }
}

/// Appends the frame of [`Variant::Raw`].
pub(super) fn push_raw(out: &mut Vec<u8>, publication: &Publication) {
    let (opcode, payload) = match &publication.payload {
        Payload::Json(text) | Payload::Text(text) => (Opcode::Text, text),
        Payload::Binary(bytes) => (Opcode::Binary, bytes),
    };
    encode_frame(out, opcode, payload);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topic::name::TopicName;
    use crate::topic::publication::Publisher;

    fn publication(channel: &str, payload: Payload) -> Publication {
        let topic = TopicName::new(channel).unwrap();
        Publication { topic, offset: Some(8), payload, publisher: None, tags: None }
    }

    /// The payload of a frame with a header of `header` bytes.
    fn pushed(publication: &Publication, header: usize) -> String {
        let frame = encode(Variant::Centrifuge, publication, &mut Scratch::default());
        assert_eq!(frame[0], 0x81);
        String::from_utf8(frame[header..].to_vec()).unwrap()
    }

    #[test]
    fn raw_frames_are_the_payload_alone() {
        let cases: [(Payload, &[u8]); 3] = [
            (Payload::Text("hé".into()), b"\x81\x03h\xC3\xA9"),
            (Payload::Json("{}".into()), b"\x81\x02{}"),
            (Payload::Binary(Bytes::from_static(&[0, 255])), b"\x82\x02\x00\xFF"),
        ];
        for (payload, frame) in cases {
            let publication = publication("c", payload);
            assert_eq!(encode(Variant::Raw, &publication, &mut Scratch::default()), frame);
        }
    }

    #[test]
    fn a_push_is_one_text_frame() {
        let publication = publication("c", Payload::Json("{\"a\":1}".into()));
        let frame = encode(Variant::Centrifuge, &publication, &mut Scratch::default());
        assert_eq!(frame[..2], [0x81, 58]);
        assert_eq!(frame[2..], *br#"{"push":{"channel":"c","pub":{"data":{"a":1},"offset":8}}}"#);
    }

    #[test]
    fn a_push_tells_the_publisher_and_the_tags() {
        let mut publication = publication("a\"b", Payload::Json("1".into()));
        publication.publisher = Some(Arc::new(Publisher { client: "id".into(), user: "7".into() }));
        publication.tags = Some(Bytes::from_static(br#"{"k":"v"}"#));
        publication.offset = None;
        assert_eq!(
            pushed(&publication, 2),
            r#"{"push":{"channel":"a\"b","pub":{"data":1,"info":{"user":"7","client":"id"},"tags":{"k":"v"}}}}"#
        );
        publication.publisher = Some(Arc::new(Publisher { client: "id".into(), user: "".into() }));
        assert_eq!(
            pushed(&publication, 2),
            r#"{"push":{"channel":"a\"b","pub":{"data":1,"info":{"client":"id"},"tags":{"k":"v"}}}}"#
        );
    }

    #[test]
    fn text_that_is_json_is_forwarded_on_one_line() {
        let publication = publication("c", Payload::Text("[1,\r\n2]".into()));
        let text = r#"{"push":{"channel":"c","pub":{"data":[1,  2],"offset":8}}}"#;
        assert_eq!(pushed(&publication, 2), text);
    }

    #[test]
    fn other_text_is_a_json_string() {
        let publication = publication("c", Payload::Text("so \"it\"\nis".into()));
        let text = r#"{"push":{"channel":"c","pub":{"data":"so \"it\"\nis","offset":8}}}"#;
        assert_eq!(pushed(&publication, 2), text);
    }

    #[test]
    fn binary_is_a_base64_string() {
        let publication = publication("c", Payload::Binary(Bytes::from_static(&[0xFB, 0xFF])));
        let text = r#"{"push":{"channel":"c","pub":{"data":"+/8=","offset":8}}}"#;
        assert_eq!(pushed(&publication, 2), text);
    }

    #[test]
    fn long_pushes_have_long_headers() {
        let publication = publication("c", Payload::Binary(vec![0; 60_000].into()));
        let frame = encode(Variant::Centrifuge, &publication, &mut Scratch::default());
        // 51 bytes around 80,000 of Base64 in quotes make 80,053: 0x1_38B5.
        assert_eq!(frame[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0x38, 0xB5]);
        assert_eq!(frame.len(), 10 + 0x1_38B5);
    }
}
