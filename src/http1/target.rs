//! The target of a request: path and query.

use std::borrow::Cow;

use super::error::HeadError;

/// A path with an optional query, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Splits `text` at the first `?`.
    ///
    /// Errors: `BadTarget` unless it begins with `/` and is visible ASCII without `#`.
    /// Source: RFC 9112 §3.2.1, RFC 6455 §3.
    pub fn parse(text: &'b str) -> Result<Self, HeadError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !visible || !text.starts_with('/') {
            return Err(HeadError::BadTarget);
        }
        Ok(match text.split_once('?') {
            Some((path, query)) => Self { path, query: Some(query) },
            None => Self { path: text, query: None },
        })
    }

    /// The path as sent, escapes included. Take it apart at `/` before decoding its segments.
    pub fn path(&self) -> &'b str {
        self.path
    }

    /// The value of the first pair called `name` in the query, decoded; `+` means a space.
    ///
    /// Errors: `BadEscape` when that value is not decodable.
    pub fn query_value(&self, name: &str) -> Result<Option<Cow<'b, str>>, HeadError> {
        for pair in self.query.unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !pair.is_empty() && decode(key, Plus::IsSpace).is_ok_and(|key| key == name) {
                return decode(value, Plus::IsSpace).map(Some);
            }
        }
        Ok(None)
    }
}

/// Decodes the `%XX` escapes of a path or of a segment of it.
///
/// Errors: `BadEscape` when a `%` lacks its digits or the result is not UTF-8.
/// Source: RFC 3986 §2.1.
pub fn percent_decode(text: &str) -> Result<Cow<'_, str>, HeadError> {
    decode(text, Plus::IsPlus)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsPlus,
    IsSpace,
}

fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, HeadError> {
    let space_for = if plus == Plus::IsSpace { b'+' } else { b' ' };
    if !text.bytes().any(|byte| byte == b'%' || byte == space_for) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(HeadError::BadEscape),
            },
            _ if byte == space_for => b' ',
            _ => byte,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| HeadError::BadEscape)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_with_an_optional_query() {
        let target = Target::parse("/topic/a%20b?x=1?2").unwrap();
        assert_eq!(target.path(), "/topic/a%20b");
        assert_eq!(target.query_value("x").unwrap().unwrap(), "1?2");
        for bad in ["", "*", "topic", "http://a/b", "/a#b", "/a?b#c", "/é", "/a\u{7f}"] {
            assert_eq!(Target::parse(bad), Err(HeadError::BadTarget), "{bad:?}");
        }
    }

    #[test]
    fn escapes_decode_to_utf8_or_not_at_all() {
        assert_eq!(percent_decode("/a+b").unwrap(), "/a+b");
        assert_eq!(percent_decode("Z%C3%bcrich%2F1").unwrap(), "Zürich/1");
        for bad in ["%", "%4", "%4g", "%zz", "%ff", "%C3", "%ED%A0%80"] {
            assert_eq!(percent_decode(bad), Err(HeadError::BadEscape), "{bad:?}");
        }
    }

    #[test]
    fn query_values_are_found_by_decoded_name() {
        let target = Target::parse("/?%zz=0&&a=1&t%6Fken=x+y%2B&a=2&flag").unwrap();
        assert_eq!(target.query_value("token").unwrap().unwrap(), "x y+");
        assert_eq!(target.query_value("a").unwrap().unwrap(), "1");
        assert_eq!(target.query_value("flag").unwrap().unwrap(), "");
        assert_eq!(target.query_value("b").unwrap(), None);
        assert_eq!(target.query_value("").unwrap(), None);
        assert_eq!(Target::parse("/?a=%f").unwrap().query_value("a"), Err(HeadError::BadEscape));
    }
}
