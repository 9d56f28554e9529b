//! A request head, taken apart.

use super::error::HeadError;
use super::head::{HeadLimits, HeadScanner};
use super::target::Target;

/// Most header lines a [`RequestHead`] can hold.
pub const HEADERS_MAX: usize = 128;

/// Headers that may stand once; that two of them disagree is how requests are smuggled.
const SINGLE_HEADERS: [&str; 4] = ["Host", "Content-Length", "Content-Type", "Authorization"];

/// A valid head of an HTTP/1.1 request; borrows the received bytes.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    method: &'b str,
    target: Target<'b>,
    content_length: Option<u64>,
    headers: [httparse::Header<'b>; HEADERS_MAX],
    headers_count: usize,
}

impl<'b> RequestHead<'b> {
    /// Takes apart `head`, which ends with its empty line.
    ///
    /// Methods other than GET are accepted here, see [`Self::require_get`].
    ///
    /// Errors: [`HeadError`], any but `MethodNotAllowed` and `BadEscape`.
    /// Source: RFC 9112 §2–§6, RFC 6455 §4.2.1.
    pub fn parse(head: &'b [u8], limits: &HeadLimits) -> Result<Self, HeadError> {
        if HeadScanner::default().scan(head, limits)? != Some(head.len()) {
            return Err(HeadError::BadLineEnding);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(head).map_err(|error| refine(error, head))?;
        let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version)
        else {
            return Err(HeadError::UnsupportedVersion);
        };
        let headers_count = request.headers.len();
        let target = Target::parse(target)?;
        let mut parsed = Self { method, target, content_length: None, headers, headers_count };
        parsed.check_headers()?;
        Ok(parsed)
    }

    fn check_headers(&mut self) -> Result<(), HeadError> {
        if SINGLE_HEADERS.iter().any(|name| self.headers(name).nth(1).is_some()) {
            return Err(HeadError::HeaderRepeated);
        }
        let host = self.header("Host").ok_or(HeadError::HostMissing)?;
        if host.is_empty() || !host.iter().all(|&byte| is_host_byte(byte)) {
            return Err(HeadError::BadHost);
        }
        if self.header("Transfer-Encoding").is_some() {
            return Err(HeadError::TransferEncoding);
        }
        self.content_length = match self.header("Content-Length") {
            Some(text) => Some(decimal(text).ok_or(HeadError::BadContentLength)?),
            None => None,
        };
        if self.method == "GET" && self.content_length.is_some_and(|length| length > 0) {
            return Err(HeadError::BodyNotAllowed);
        }
        Ok(())
    }

    /// The method, in the case it was sent.
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// Path and query.
    pub fn target(&self) -> Target<'b> {
        self.target
    }

    /// Bytes of the body that follows the head; `None` when none was announced.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The value of the first header called `name` (in any case), without space around it.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers(name).next()
    }

    /// The values of all headers called `name` (in any case), in order.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'_, 'b, 'n> {
        self.headers[..self.headers_count]
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// Refuses every method but GET.
    ///
    /// Errors: `MethodNotAllowed`.
    pub fn require_get(&self) -> Result<(), HeadError> {
        if self.method == "GET" { Ok(()) } else { Err(HeadError::MethodNotAllowed) }
    }
}

/// Says what the peer did where the parser below says where it stopped.
fn refine(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::BadHeader,
        httparse::Error::NewLine => HeadError::BadLineEnding,
        httparse::Error::Version if names_a_version(head) => HeadError::UnsupportedVersion,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => {
            HeadError::BadRequestLine
        }
    }
}

/// Whether the request line is three words, of which the last is `HTTP/x.y`.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    let (word, more) = (words.next().unwrap_or_default(), words.next());
    more.is_none()
        && matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<RequestHead<'_>, HeadError> {
        RequestHead::parse(head.as_bytes(), &HeadLimits::default())
    }

    #[test]
    fn a_head_gives_method_target_and_headers() {
        let head =
            parse("GET /a?b=c HTTP/1.1\r\nhost: x:1\r\nA:  1 \r\nB:\r\na: 2\r\n\r\n").unwrap();
        assert_eq!(head.method(), "GET");
        assert_eq!(head.target().path(), "/a");
        assert_eq!(head.target().query_value("b").unwrap().unwrap(), "c");
        assert_eq!(head.header("HOST"), Some(&b"x:1"[..]));
        assert_eq!(head.headers("A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.header("b"), Some(&b""[..]));
        assert_eq!(head.header("c"), None);
        assert_eq!(head.content_length(), None);
    }

    #[test]
    fn each_fault_has_its_own_name() {
        use HeadError::*;
        for (head, error) in [
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", UnsupportedVersion),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", UnsupportedVersion),
            ("GET / HTTX/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
            ("GET /\r\nHost: a\r\n\r\n", BadRequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequestLine),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget),
            ("GET / HTTP/1.1\r\n\r\n", HostMissing),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeaderRepeated),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\nx y: 1\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", BadHeader),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FoldedHeader),
            ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", FoldedHeader),
            ("GET / HTTP/1.1\nHost: a\n\n", BadLineEnding),
            ("GET / HTTP/1.1\r\nHost: a\r\n", BadLineEnding),
            ("GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n", ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", BodyNotAllowed),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", BadContentLength),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", BadContentLength),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                HeaderRepeated,
            ),
        ] {
            assert_eq!(parse(head).unwrap_err(), error, "{head:?}");
        }
    }

    #[test]
    fn header_count_and_head_size_are_bounded() {
        let head = |headers: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(headers - 1))
        };
        assert!(parse(&head(64)).is_ok());
        assert_eq!(parse(&head(65)).unwrap_err(), HeadError::TooManyHeaders);
        let limits = HeadLimits { bytes_max: 1 << 20, headers_max: 1 << 20 };
        assert!(RequestHead::parse(head(128).as_bytes(), &limits).is_ok());
        let many = head(129);
        let refused = RequestHead::parse(many.as_bytes(), &limits).unwrap_err();
        assert_eq!(refused, HeadError::TooManyHeaders);
    }

    #[test]
    fn only_get_passes_require_get() {
        assert!(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().require_get().is_ok());
        let post = parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert_eq!(post.content_length(), Some(12));
        assert_eq!(post.require_get(), Err(HeadError::MethodNotAllowed));
        assert_eq!(HeadError::MethodNotAllowed.status().code(), 405);
    }
}
