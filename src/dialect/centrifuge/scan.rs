//! Finds the bytes of a value inside a JSON text without reading it.
//!
//! simd-json tells what a command means but writes into its input and forgets where values stood;
//! this finds them in the untouched bytes. It validates nothing: the text has been validated.

use std::ops::Range;

use crate::dialect::scratch::DEPTH_MAX;

/// The span of the value of member number `index`, counted from 0, of the object `json`.
///
/// `None`: there is no such member, `json` is no object, or it is nested deeper than
/// [`DEPTH_MAX`]. Bytes that are not JSON give any span or none.
pub fn member(json: &[u8], index: usize) -> Option<Range<usize>> {
    let mut cursor = Cursor { json, at: 0 };
    cursor.take(b'{')?;
    for _ in 0..index {
        cursor.name()?;
        cursor.value()?;
        cursor.take(b',')?;
    }
    cursor.name()?;
    cursor.value()
}

/// The values at the end of a path of member numbers, outermost first.
pub fn nested(json: &[u8], path: [usize; 2]) -> Option<Range<usize>> {
    let outer = member(json, path[0])?;
    let inner = member(&json[outer.clone()], path[1])?;
    Some(outer.start + inner.start..outer.start + inner.end)
}

struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes behind `token` and the space before it.
    fn take(&mut self, token: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == token).then(|| self.at += 1)
    }

    /// Goes behind the name of a member and its colon.
    fn name(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.rest_of_string()?;
        self.take(b':')
    }

    /// Goes behind the quote that ends the string.
    fn rest_of_string(&mut self) -> Option<()> {
        loop {
            let found = memchr::memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            self.at += found + 1;
            if self.json[self.at - 1] == b'"' {
                return Some(());
            }
            self.at += 1; // what the backslash escapes
        }
    }

    /// Goes behind a value and gives its span.
    fn value(&mut self) -> Option<Range<usize>> {
        self.skip_space();
        let start = self.at;
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.rest_of_string()?;
            }
            b'{' | b'[' => self.container()?,
            _ => self.scalar(),
        }
        Some(start..self.at)
    }

    fn container(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => self.rest_of_string()?,
                b'{' | b'[' if depth == DEPTH_MAX => return None,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => return Some(()),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
    }

    fn scalar(&mut self) {
        while let Some(byte) = self.peek() {
            if matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                return;
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    fn found(json: &str, index: usize) -> Option<&str> {
        member(json.as_bytes(), index).map(|span| &json[span])
    }

    #[test]
    fn values_are_found_by_number() {
        let json =
            "\t{ \"a\" : -1.5e3 ,\"b\":\"x\\\"},\\\\\" , \"c\":[1,{\"d\":\"]\"}] ,\"e\":null}";
        assert_eq!(found(json, 0), Some("-1.5e3"));
        assert_eq!(found(json, 1), Some(r#""x\"},\\""#));
        assert_eq!(found(json, 2), Some(r#"[1,{"d":"]"}]"#));
        assert_eq!(found(json, 3), Some("null"));
        assert_eq!(found(json, 4), None);
    }

    #[test]
    fn paths_lead_inside() {
        let json = br#"{"id":1,"publish":{"channel":"c","data":{"a":[]}}}"#;
        assert_eq!(nested(json, [1, 1]).map(|span| &json[span]), Some(&br#"{"a":[]}"#[..]));
        assert_eq!(nested(json, [0, 0]), None);
    }

    #[test]
    fn unfinished_texts_have_no_span() {
        for json in [
            "",
            "{",
            "{\"",
            "{\"a",
            "{\"a\\",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":[",
            "{\"a\":\"\\\"",
            "[1]",
            "1",
        ] {
            assert_eq!(found(json, 0), None, "{json}");
        }
    }

    #[test]
    fn nesting_ends_at_32() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(found(&nested(32), 0).is_some());
        assert!(found(&nested(33), 0).is_none());
    }

    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        publish: Publish<'a>,
    }

    #[derive(Deserialize)]
    struct Publish<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            "[\"\\\\{}\\[\\],:a é\n]{0,8}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let space = "[ \t\r]{0,2}";
            prop_oneof![
                (space, prop::collection::vec(inner.clone(), 0..4)).prop_map(|(space, items)| {
                    let items = items.iter().map(|item| format!("{space}{item}{space}"));
                    format!("[{}]", items.collect::<Vec<_>>().join(","))
                }),
                (space, prop::collection::vec(("[a\"\\\\]{0,2}", inner), 0..4)).prop_map(
                    |(space, members)| {
                        let members = members.iter().map(|(name, value)| {
                            let name = serde_json::to_string(name).unwrap();
                            format!("{space}{name}{space}:{space}{value}{space}")
                        });
                        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
                    }
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn spans_are_those_of_serde_json(
            data in json(), other in json(), space in "[ \t\r\n]{0,2}", at in 0..3_usize,
        ) {
            let mut members = vec![format!("\"x\":{other}"), format!("\"y\\\"\" :{other}")];
            members.insert(at, format!("\"data\"{space}:{space}{data}{space}"));
            let json = format!("{{\"id\":7,{space}\"publish\":{{{}}}}}", members.join(","));
            let theirs: Envelope<'_> = serde_json::from_str(&json).unwrap();
            let ours = nested(json.as_bytes(), [1, at]).map(|span| &json[span]);
            prop_assert_eq!(ours, Some(theirs.publish.data.get()));
        }

        #[test]
        fn any_bytes_are_survived(
            json in "[{}\\[\\]\",:\\\\ a1]{0,40}", index in 0..4_usize, inner in 0..4_usize,
        ) {
            if let Some(span) = nested(json.as_bytes(), [index, inner]) {
                prop_assert!(span.end <= json.len() && !span.is_empty());
            }
        }
    }
}
