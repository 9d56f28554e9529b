//! Responses, written into a buffer.

use std::time::Duration;

use super::status::Status;

/// A response under construction: its head grows in the buffer.
#[derive(Debug)]
#[must_use = "a head needs its empty line: call `body` or `finish`"]
pub struct Response<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Response<'o> {
    /// Appends the status line to `out`.
    pub fn new(out: &'o mut Vec<u8>, status: Status) -> Self {
        out.extend_from_slice(b"HTTP/1.1 ");
        append_number(out, u64::from(status.code()));
        out.push(b' ');
        out.extend_from_slice(status.phrase().as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Appends a header. A control character in either part is written as `?`, so that nobody's
    /// value can begin a line of its own.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.out.extend(name.bytes().map(harmless));
        self.out.extend_from_slice(b": ");
        self.out.extend(value.as_ref().iter().copied().map(harmless));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the head and appends `body`, described by type and length.
    pub fn body(self, content_type: &str, body: &[u8]) {
        let mut length = Vec::with_capacity(20);
        append_number(&mut length, body.len() as u64);
        let this = self.header("Content-Type", content_type).header("Content-Length", &length);
        this.out.extend_from_slice(b"\r\n");
        this.out.extend_from_slice(body);
    }

    /// Ends the head; the caller says what follows, as after 101 or in an event stream.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends a complete refusal, after which the connection ends.
///
/// `explanation` is shown to a person. The headers that belong to the status come along: `Allow`
/// with 405, `WWW-Authenticate` with 401, the upgrade we want with 426. `retry_after` is rounded
/// up to seconds.
/// Source: RFC 9110 §10.2.3, §11.6.1, §15.5.6, §15.5.22; RFC 6455 §4.4.
pub fn refuse(out: &mut Vec<u8>, status: Status, explanation: &str, retry_after: Option<Duration>) {
    let mut response = Response::new(out, status);
    response = match status {
        Status::Unauthorized => response.header("WWW-Authenticate", "Bearer"),
        Status::MethodNotAllowed => response.header("Allow", "GET"),
        Status::UpgradeRequired => {
            response.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13")
        }
        _ => response,
    };
    if let Some(wait) = retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut text = Vec::with_capacity(20);
        append_number(&mut text, seconds);
        response = response.header("Retry-After", &text);
    }
    let connection = if status == Status::UpgradeRequired { "close, Upgrade" } else { "close" };
    let mut body = explanation.as_bytes().to_vec();
    body.push(b'\n');
    response.header("Connection", connection).body("text/plain; charset=utf-8", &body);
}

fn append_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(number).as_bytes());
}

const fn harmless(byte: u8) -> u8 {
    if byte.is_ascii_control() && byte != b'\t' { b'?' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: Status, explanation: &str, retry_after: Option<Duration>) -> String {
        let mut out = Vec::new();
        refuse(&mut out, status, explanation, retry_after);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_is_head_and_body() {
        let mut out = b"before ".to_vec();
        Response::new(&mut out, Status::Ok).header("A", "b").body("text/html", b"<p>");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "before HTTP/1.1 200 OK\r\nA: b\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>"
        );
    }

    #[test]
    fn a_value_cannot_begin_another_line() {
        let mut out = Vec::new();
        Response::new(&mut out, Status::Ok).header("A\r\nB", "c\r\nD: e\0\n").finish();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nA??B: c??D: e??\r\n\r\n");
    }

    #[test]
    fn a_refusal_says_why_and_closes() {
        assert_eq!(
            refusal(Status::BadRequest, "No.", None),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\nNo.\n"
        );
    }

    #[test]
    fn statuses_bring_the_headers_they_owe() {
        assert!(refusal(Status::MethodNotAllowed, "", None).contains("\r\nAllow: GET\r\n"));
        assert!(
            refusal(Status::Unauthorized, "", None).contains("\r\nWWW-Authenticate: Bearer\r\n")
        );
        let upgrade = refusal(Status::UpgradeRequired, "", None);
        assert!(upgrade.contains(
            "\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\n"
        ));
        let busy = refusal(Status::Unavailable, "", Some(Duration::from_millis(1500)));
        assert!(busy.contains("\r\nRetry-After: 2\r\n"));
    }
}
