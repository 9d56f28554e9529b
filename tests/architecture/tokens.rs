//! Rust text as tokens: comments are gone, literals are one token, every token knows its line.

/// One token: an identifier, a lifetime, `::`, a single other character, or `""` for any literal
/// with quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Cuts `source` into tokens. Text that is not Rust gives some tokens or other, never a panic.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, line: 1, found: Vec::new() };
    while let Some(next) = lexer.rest.chars().next() {
        lexer.step(next);
    }
    lexer.found
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    found: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self, next: char) {
        if next.is_whitespace() {
            self.skip(next.len_utf8());
        } else if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment_len(self.rest));
        } else if let Some(len) = raw_string_len(self.rest) {
            self.literal(len);
        } else if next == '"' {
            self.literal(quoted_len(self.rest, '"'));
        } else if next == '\'' {
            self.quote();
        } else if next.is_alphanumeric() || next == '_' {
            let start = if self.rest.starts_with("r#") { 2 } else { 0 };
            let len = self.rest[start..]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(self.rest.len() - start);
            self.push(start, len);
        } else if self.rest.starts_with("::") {
            self.push(0, 2);
        } else {
            self.push(0, next.len_utf8());
        }
    }

    /// A lifetime or a character: the latter ends with a quote after one (escaped) character.
    fn quote(&mut self) {
        let mut after = self.rest[1..].chars();
        let escaped = after.next() == Some('\\');
        if escaped || after.next() == Some('\'') {
            self.literal(quoted_len(self.rest, '\''));
        } else {
            let name = self.rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
            self.push(0, 1 + name.unwrap_or(self.rest.len() - 1));
        }
    }

    fn literal(&mut self, len: usize) {
        self.found.push(Token { line: self.line, text: "\"\"".into() });
        self.skip(len);
    }

    /// Takes `len` bytes as a token after `start` bytes that do not belong to it.
    fn push(&mut self, start: usize, len: usize) {
        let text = self.rest[start..start + len].into();
        self.found.push(Token { line: self.line, text });
        self.skip(start + len);
    }

    fn skip(&mut self, len: usize) {
        let (skipped, rest) = self.rest.split_at(len);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

/// Bytes of the block comment at the front; they nest.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Bytes of `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`, `b"…"`, `b'…'` or `c"…"` at the front.
fn raw_string_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['"', '#', '\'']))
    })?;
    let rest = &text[prefix.len()..];
    if !prefix.ends_with('r') {
        let quote = rest.chars().next().filter(|quote| *quote != '#')?;
        return Some(prefix.len() + quoted_len(rest, quote));
    }
    let hashes = rest.find(|c| c != '#').unwrap_or(rest.len());
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(prefix.len() + hashes + 1 + len)
}

/// Bytes up to and with the closing quote; backslashes escape.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn comments_and_literals_hide_their_text() {
    let source = "a /* b /* c */ d */ // e\n'f' '\\'' \"g\\\"h\" r#\"i\"j\"# b\"k\" b'l' 'm r#n::o";
    let found = tokens(source);
    let texts: Vec<_> = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["a", "\"\"", "\"\"", "\"\"", "\"\"", "\"\"", "\"\"", "'m", "n", "::", "o"]);
    assert_eq!((found[0].line, found[1].line), (1, 2));
}

#[test]
fn text_that_stops_in_the_middle_is_taken_to_its_end() {
    for source in ["/* a", "\"b", "'", "'\\", "r#\"c", "b'", "r#", "ü'ü"] {
        tokens(source);
    }
}
