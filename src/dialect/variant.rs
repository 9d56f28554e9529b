//! The forms in which a publication is delivered; each is encoded at most once.

use bytes::Bytes;

use super::cause::Protocol;
use super::centrifuge::push::{self, Data};
use super::json::Length;
use super::scratch::Scratch;
use crate::topic::interests::FORMS_MAX;
use crate::topic::publication::{Payload, Publication};
use crate::ws::deflate::{Class, Codec, Outbound};
use crate::ws::header::{
    Fin, Opcode, Rsv, encode_compressed_frame, encode_frame, encode_header, server_header_len,
};

/// What is written into the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// The payload alone, as text or binary.
    Raw,
    /// A Centrifugo JSON push, as text.
    Centrifuge,
}

impl Language {
    const ALL: [Self; 2] = [Self::Raw, Self::Centrifuge];
}

/// One encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// What is written.
    pub language: Language,
    /// How it is compressed, if it is worth it; `None`: never.
    pub class: Option<Class>,
}

impl Variant {
    /// The payload alone, not compressed.
    pub const RAW: Self = Self { language: Language::Raw, class: None };

    /// Every variant, by its number.
    pub const ALL: [Self; FORMS_MAX] = {
        let [raw, centrifuge] = Language::ALL;
        let (wide, narrow) = (Some(Class::Wide), Some(Class::Narrow));
        [
            Self { language: raw, class: None },
            Self { language: raw, class: wide },
            Self { language: raw, class: narrow },
            Self { language: centrifuge, class: None },
            Self { language: centrifuge, class: wide },
            Self { language: centrifuge, class: narrow },
        ]
    };

    /// Whose clients are sent this form.
    pub const fn protocol(self) -> Protocol {
        match self.language {
            Language::Raw => Protocol::Raw,
            Language::Centrifuge => Protocol::Centrifuge,
        }
    }

    /// The number under which homes count who wants this form.
    pub const fn form(self) -> u8 {
        let class = match self.class {
            None => 0,
            Some(Class::Wide) => 1,
            Some(Class::Narrow) => 2,
        };
        self.language as u8 * 3 + class
    }
}

/// Whether publications of a topic may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Where it is worth it.
    Allowed,
    /// Never: they hold secrets that their length must not tell.
    Forbidden,
}

/// The whole frames that carry `publication`, in every form that is wanted.
///
/// Forms that would hold the same bytes share them: what is not worth compressing is plain in every
/// form, and what fits the smallest window is compressed once.
pub fn encode_all(
    publication: &Publication,
    is_wanted: impl Fn(u8) -> bool,
    compression: Compression,
    codec: &mut Codec,
    scratch: &mut Scratch,
) -> [Option<Bytes>; FORMS_MAX] {
    let mut forms: [Option<Bytes>; FORMS_MAX] = Default::default();
    for language in Language::ALL {
        let form = |class| usize::from(Variant { language, class }.form());
        let is_wanted = |class| is_wanted(Variant { language, class }.form());
        let (wide, narrow) = (Some(Class::Wide), Some(Class::Narrow));
        if ![None, wide, narrow].into_iter().any(is_wanted) {
            continue;
        }
        let plain = encode(language, publication, scratch);
        let mut compress = |class: Class| match compression {
            Compression::Allowed => compressed(&plain, class, codec),
            Compression::Forbidden => plain.clone(),
        };
        let is_short = plain.len() <= 1 << Class::Narrow.bits();
        if is_wanted(wide) {
            forms[form(wide)] = Some(compress(Class::Wide));
        }
        if is_wanted(narrow) {
            let shared = forms[form(wide)].clone().filter(|_| is_short);
            forms[form(narrow)] = Some(shared.unwrap_or_else(|| compress(Class::Narrow)));
        }
        if is_wanted(None) {
            forms[form(None)] = Some(plain);
        }
    }
    forms
}

/// The compressed form of the frame `plain`, or the frame itself if too little would be gained.
fn compressed(plain: &Bytes, class: Class, codec: &mut Codec) -> Bytes {
    let header_len = match plain[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let opcode = if plain[0] & 0x0F == Opcode::Text as u8 { Opcode::Text } else { Opcode::Binary };
    match codec.compress(&plain[header_len..], class.bits()) {
        Some(payload) => {
            let mut out = Vec::with_capacity(server_header_len(payload.len()) + payload.len());
            encode_compressed_frame(&mut out, opcode, payload);
            out.into()
        }
        None => plain.clone(),
    }
}

/// Whether `frame`, one of [`encode_all`], is compressed.
pub fn is_compressed(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x40 != 0)
}

/// The plain frame that carries `publication`: one allocation, of exactly the frame's length.
fn encode(language: Language, publication: &Publication, scratch: &mut Scratch) -> Bytes {
    match language {
        Language::Raw => {
            let (opcode, payload) = content(publication);
            let mut out = Vec::with_capacity(server_header_len(payload.len()) + payload.len());
            encode_frame(&mut out, opcode, payload);
            out.into()
        }
        Language::Centrifuge => {
            let data = Data::of(&publication.payload, scratch);
            let mut length = Length::default();
            push::write(&mut length, publication, data);
            let mut out = Vec::with_capacity(server_header_len(length.0) + length.0);
            encode_header(Opcode::Text, Fin::Last, Rsv::NONE, length.0, &mut out);
            push::write(&mut out, publication, data);
            debug_assert_eq!(out.len(), server_header_len(length.0) + length.0);
            out.into()
        }
    }
}

/// Appends `publication` for one raw client.
pub(super) fn push_raw(
    out: &mut Vec<u8>,
    publication: &Publication,
    outbound: Option<&mut Outbound<'_>>,
) {
    let (opcode, payload) = content(publication);
    match outbound {
        Some(outbound) => outbound.encode_frame(out, opcode, payload),
        None => encode_frame(out, opcode, payload),
    }
}

fn content(publication: &Publication) -> (Opcode, &[u8]) {
    match &publication.payload {
        Payload::Json(text) | Payload::Text(text) => (Opcode::Text, text),
        Payload::Binary(bytes) => (Opcode::Binary, bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topic::name::TopicName;
    use crate::topic::publication::Publisher;
    use crate::ws::deflate;

    fn publication(channel: &str, payload: Payload) -> Publication {
        let topic = TopicName::new(channel).unwrap();
        Publication { topic, offset: Some(8), payload, publisher: None, tags: None }
    }

    /// The payload of a frame with a header of `header` bytes.
    fn pushed(publication: &Publication, header: usize) -> String {
        let frame = encode(Language::Centrifuge, publication, &mut Scratch::default());
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
            assert_eq!(encode(Language::Raw, &publication, &mut Scratch::default()), frame);
        }
    }

    fn codec() -> Codec {
        let settings = deflate::Settings { level: 3, bytes_min: 50, client_window_bits: None };
        Codec::new(Some(settings), 0)
    }

    fn all(payload: &[u8], compression: Compression, codec: &mut Codec) -> Vec<Bytes> {
        let payload = Payload::Text(Bytes::copy_from_slice(payload));
        let publication = publication("c", payload);
        let mut scratch = Scratch::default();
        let forms = encode_all(&publication, |_| true, compression, codec, &mut scratch);
        forms.into_iter().map(|form| form.expect("it was wanted")).collect()
    }

    fn is_shared(one: &Bytes, other: &Bytes) -> bool {
        std::ptr::eq(one.as_ptr(), other.as_ptr())
    }

    #[test]
    fn every_variant_has_its_own_number() {
        for (number, variant) in Variant::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(variant.form()), number);
        }
        assert_eq!(Variant::RAW.form(), 0);
    }

    #[test]
    fn forms_of_the_same_bytes_share_them() {
        let mut codec = codec();
        let short = all(b"too short", Compression::Allowed, &mut codec);
        assert!(is_shared(&short[0], &short[1]) && is_shared(&short[0], &short[2]));
        assert_eq!(codec.numbers().compressed, 0);
        let medium = all(&b"over and over; ".repeat(50), Compression::Allowed, &mut codec);
        assert!(is_shared(&medium[1], &medium[2]) && !is_shared(&medium[0], &medium[1]));
        assert!(is_shared(&medium[4], &medium[5]) && !is_shared(&medium[1], &medium[4]));
        assert_eq!(codec.numbers().compressed, 2, "once for each language");
        let long = all(&b"over and over; ".repeat(500), Compression::Allowed, &mut codec);
        assert!(!is_shared(&long[1], &long[2]));
        assert_eq!(codec.numbers().compressed, 2 + 4);
        for (number, form) in long.iter().enumerate() {
            assert_eq!(is_compressed(form), number % 3 > 0);
            assert_eq!(form[0] & 0xBF, 0x81, "whole and a text");
        }
        let secret = all(&b"over and over; ".repeat(50), Compression::Forbidden, &mut codec);
        assert!(is_shared(&secret[0], &secret[1]) && is_shared(&secret[0], &secret[2]));
        assert_eq!(codec.numbers().compressed, 2 + 4);
    }

    #[test]
    fn only_what_is_wanted_is_encoded() {
        let publication = publication("c", Payload::Text(Bytes::from(vec![b'x'; 500])));
        let (mut codec, mut scratch) = (codec(), Scratch::default());
        for wanted in 0..Variant::ALL.len() {
            let is_wanted = |form| usize::from(form) == wanted;
            let allowed = Compression::Allowed;
            let forms = encode_all(&publication, is_wanted, allowed, &mut codec, &mut scratch);
            for (number, form) in forms.iter().enumerate() {
                assert_eq!(form.is_some(), number == wanted);
            }
        }
        assert_eq!(codec.numbers().compressed, 4);
    }

    #[test]
    fn a_push_is_one_text_frame() {
        let publication = publication("c", Payload::Json("{\"a\":1}".into()));
        let frame = encode(Language::Centrifuge, &publication, &mut Scratch::default());
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
        let frame = encode(Language::Centrifuge, &publication, &mut Scratch::default());
        // 51 bytes around 80,000 of Base64 in quotes make 80,053: 0x1_38B5.
        assert_eq!(frame[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0x38, 0xB5]);
        assert_eq!(frame.len(), 10 + 0x1_38B5);
    }
}
