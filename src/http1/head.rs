//! Finds the end of a request head while it arrives.

use super::error::HeadError;

/// Bounds of a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes, the empty line included.
    pub bytes_max: usize,
    /// Most header lines; more than [`super::request::HEADERS_MAX`] are never taken.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: 16 * 1024, headers_max: 64 }
    }
}

/// Looks at every byte of an arriving head once, however it is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Bytes looked at so far.
    scanned: usize,
    /// Where the current line begins.
    line_start: usize,
    /// Complete lines so far; the first is the request line.
    lines: usize,
}

impl HeadScanner {
    /// The length of the head, empty line included, or `None` while its end is not there.
    ///
    /// `bytes` is everything received so far; each call must extend the bytes of the call before.
    /// What cannot become a valid head is refused at the first byte that shows it.
    ///
    /// Errors: `HeadTooLarge`, `TooManyHeaders`, `BadLineEnding`, `ControlCharacter`,
    /// `FoldedHeader`, `BadRequestLine`.
    /// Source: RFC 9112 §2.2, §5.2.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let end = bytes.len().min(limits.bytes_max);
        while self.scanned < end {
            let at = self.scanned;
            let after_cr = at > self.line_start && bytes[at - 1] == b'\r';
            match bytes[at] {
                b'\n' if !after_cr => return Err(HeadError::BadLineEnding),
                b'\n' if at == self.line_start + 1 => {
                    return if self.lines == 0 {
                        Err(HeadError::BadRequestLine)
                    } else {
                        Ok(Some(at + 1))
                    };
                }
                b'\n' => {
                    self.lines += 1;
                    self.line_start = at + 1;
                }
                _ if after_cr => return Err(HeadError::BadLineEnding),
                b'\r' => {}
                b' ' | b'\t' if at == self.line_start => {
                    return Err(if self.lines == 0 {
                        HeadError::BadRequestLine
                    } else {
                        HeadError::FoldedHeader
                    });
                }
                b'\t' => {}
                byte if byte.is_ascii_control() => return Err(HeadError::ControlCharacter),
                _ if at == self.line_start && self.lines > limits.headers_max => {
                    return Err(HeadError::TooManyHeaders);
                }
                _ => {}
            }
            self.scanned += 1;
        }
        if bytes.len() >= limits.bytes_max { Err(HeadError::HeadTooLarge) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn scan(bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        HeadScanner::default().scan(bytes, &HeadLimits::default())
    }

    #[test]
    fn the_head_ends_after_the_empty_line() {
        assert_eq!(scan(HEAD), Ok(Some(27)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80"), Ok(Some(27)));
        for cut in 0..HEAD.len() {
            assert_eq!(scan(&HEAD[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn a_byte_is_looked_at_once_however_the_head_is_dribbled() {
        let mut scanner = HeadScanner::default();
        let mut received = Vec::new();
        for (i, &byte) in HEAD.iter().enumerate() {
            received.push(byte);
            let found = scanner.scan(&received, &HeadLimits::default());
            assert_eq!(found, Ok((i + 1 == HEAD.len()).then_some(27)));
            // Looking back further than one byte would meet a character that is refused.
            if i > 0 {
                received[i - 1] = 0;
            }
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_at_the_byte_that_shows_it() {
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\n"[..], HeadError::BadLineEnding),
            (b"GET / HTTP/1.1\r\r", HeadError::BadLineEnding),
            (b"GET / HTTP/1.1\rH", HeadError::BadLineEnding),
            (b"GET / HTTP/1.1\r\nHost: a\n", HeadError::BadLineEnding),
            (b"GET / HTTP/1.1\r\n ", HeadError::FoldedHeader),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\t", HeadError::FoldedHeader),
            (b"GET / HTTP/1.1\r\nA: \0", HeadError::ControlCharacter),
            (b"GET / HTTP/1.1\r\nA: \x7f", HeadError::ControlCharacter),
            (b"\x16", HeadError::ControlCharacter),
            (b"\r\n", HeadError::BadRequestLine),
            (b" ", HeadError::BadRequestLine),
            (b"\n", HeadError::BadLineEnding),
        ] {
            assert_eq!(scan(bytes), Err(error), "{:?}", bytes.escape_ascii().to_string());
            assert_eq!(scan(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    #[test]
    fn too_many_bytes_or_headers_are_refused_before_the_end_comes() {
        let limits = HeadLimits { bytes_max: 27, headers_max: 1 };
        assert_eq!(HeadScanner::default().scan(HEAD, &limits), Ok(Some(27)));
        let limits = HeadLimits { bytes_max: 26, headers_max: 1 };
        assert_eq!(HeadScanner::default().scan(HEAD, &limits), Err(HeadError::HeadTooLarge));
        assert_eq!(HeadScanner::default().scan(&HEAD[..25], &limits), Ok(None));
        let limits = HeadLimits { bytes_max: 999, headers_max: 1 };
        let two = b"GET / HTTP/1.1\r\nHost: a\r\nB";
        assert_eq!(HeadScanner::default().scan(two, &limits), Err(HeadError::TooManyHeaders));
    }
}
