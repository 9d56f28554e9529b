//! Every path that a file names, written out from the crate's root where it is ours.

use std::collections::BTreeMap;

use crate::tokens::{Token, tokens};

/// One path: `["crate", "topic", "name"]` for ours, `["std", "thread"]` for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// All paths of the file at `file` (`src/ws/mod.rs`): of `use` trees, one for each leaf, and of
/// code with at least two segments. `self`, `super` and names brought in by `use` are resolved.
pub(crate) fn paths(file: &str, source: &str) -> Vec<Path> {
    let found = tokens(source);
    let mut walk = Walk { tokens: &found, at: 0, module: module_of(file), leaves: Vec::new() };
    let inline = walk.all();
    let leaves = walk.leaves;
    let mut aliases = BTreeMap::new();
    for leaf in &leaves {
        aliases.insert(leaf.name.clone(), leaf.path.segments.clone());
    }
    let inline = inline.into_iter().map(|path| follow(path, &aliases));
    leaves.iter().map(|leaf| leaf.path.clone()).chain(inline).collect()
}

/// The module path of a file: `src/ws/frame.rs` is `["ws", "frame"]`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let stem = file.trim_start_matches("src/").trim_end_matches(".rs");
    let last_is_own = !matches!(stem, "lib" | "main");
    let parts = stem.split('/').filter(|part| last_is_own && *part != "mod");
    parts.map(String::from).collect()
}

/// Replaces a first segment that a `use` of the file has brought in.
fn follow(mut path: Path, aliases: &BTreeMap<String, Vec<String>>) -> Path {
    // A chain of aliases is short; the bound ends `use a::b as a`.
    for _ in 0..4 {
        match aliases.get(&path.segments[0]) {
            Some(full) if full[0] != path.segments[0] => {
                path.segments.splice(0..1, full.iter().cloned());
            }
            _ => break,
        }
    }
    path
}

/// One name that a `use` brings in, and its path.
struct Leaf {
    name: String,
    path: Path,
}

struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    module: Vec<String>,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn is_word(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(Token::is_word)
    }

    /// Collects the leaves of all `use` trees; returns the paths of code.
    fn all(&mut self) -> Vec<Path> {
        let mut inline = Vec::new();
        let mut depth = 0usize;
        let mut inner = Vec::new();
        while self.at < self.tokens.len() {
            match self.text(self.at) {
                "use"
                    if self.is_word(self.at + 1)
                        || matches!(self.text(self.at + 1), "::" | "{") =>
                {
                    self.at += 1;
                    self.tree(&[]);
                    continue;
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    inner.push(depth);
                    self.module.push(self.text(self.at + 1).into());
                    self.at += 1;
                }
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inner.pop_if(|outer| *outer == depth).is_some() {
                        self.module.pop();
                    }
                }
                _ if self.starts_path() => {
                    inline.extend(self.code_path());
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
        inline
    }

    /// Whether a path of code begins here: a word, not the middle of a path.
    fn starts_path(&self) -> bool {
        let before = |back: usize| self.at.checked_sub(back).map_or("", |at| self.text(at));
        let joined = before(1) == "::"
            && (before(2) == ">" || self.at.checked_sub(2).is_some_and(|at| self.is_word(at)));
        self.is_word(self.at) && !joined
    }

    /// Takes `a::b::c`; `None` when it is a single word other than `crate`.
    fn code_path(&mut self) -> Option<Path> {
        let line = self.tokens[self.at].line;
        let mut segments = vec![self.text(self.at).to_string()];
        self.at += 1;
        while self.text(self.at) == "::" && self.is_word(self.at + 1) {
            segments.push(self.text(self.at + 1).into());
            self.at += 2;
        }
        (segments.len() > 1).then(|| Path { line, segments: self.resolve(segments) })
    }

    /// Takes one tree of a `use` declaration below `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        if self.text(self.at) == "::" {
            self.at += 1;
        }
        loop {
            let line = self.tokens.get(self.at).map_or(0, |token| token.line);
            match self.text(self.at) {
                "{" => return self.group(&segments),
                "" | ";" | "," | "}" => return,
                text => segments.push(text.into()),
            }
            self.at += 1;
            match self.text(self.at) {
                "::" => self.at += 1,
                "as" => {
                    let name = self.text(self.at + 1).to_string();
                    self.at += 2;
                    return self.leaf(line, segments, Some(name));
                }
                _ => return self.leaf(line, segments, None),
            }
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while !matches!(self.text(self.at), "" | "}") {
            self.tree(prefix);
            if self.text(self.at) == "," {
                self.at += 1;
            } else if self.text(self.at) != "}" {
                return; // not Rust: the compiler says so
            }
        }
        self.at += 1;
    }

    fn leaf(&mut self, line: usize, mut segments: Vec<String>, alias: Option<String>) {
        if segments.len() > 1 {
            segments.pop_if(|last| last == "self");
        }
        let name = alias.or_else(|| segments.last().cloned()).unwrap_or_default();
        let path = Path { line, segments: self.resolve(segments) };
        self.leaves.push(Leaf { name, path });
    }

    /// Writes `self` and `super` out from the crate's root.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let ours = |segment: &String| matches!(segment.as_str(), "self" | "super");
        let (up, rest) = segments.split_at(segments.iter().take_while(|at| ours(at)).count());
        if up.is_empty() {
            return segments;
        }
        let up = up.iter().filter(|segment| *segment == "super").count();
        let kept = &self.module[..self.module.len().saturating_sub(up)];
        [&[String::from("crate")], kept, rest].concat()
    }
}

#[test]
fn every_form_of_a_path_is_written_out() {
    let source = "use crate::topic::{self, name::{A, B as C}, *};\n\
        use std::{net, thread as t};\n\
        fn f() -> crate::ws::D { net::TcpStream::new(); t::spawn(); super::x::y(); C::new(); }\n\
        mod tests { use super::super::conn; pub(in crate::ring) struct E; }\n\
        macro_rules! m { () => { $crate::mail::F } }";
    let found = paths("src/ws/frame.rs", source);
    let found: Vec<_> =
        found.iter().map(|path| format!("{} {}", path.line, path.segments.join("::"))).collect();
    assert_eq!(
        found,
        [
            "1 crate::topic",
            "1 crate::topic::name::A",
            "1 crate::topic::name::B",
            "1 crate::topic::*",
            "2 std::net",
            "2 std::thread",
            "4 crate::ws::conn",
            "3 crate::ws::D",
            "3 std::net::TcpStream::new",
            "3 std::thread::spawn",
            "3 crate::ws::x::y",
            "3 crate::topic::name::B::new",
            "4 crate::ring",
            "5 crate::mail::F",
        ]
    );
}

#[test]
fn files_know_their_module() {
    assert_eq!(module_of("src/ws/frame.rs"), ["ws", "frame"]);
    assert_eq!(module_of("src/ws/mod.rs"), ["ws"]);
    assert!(module_of("src/lib.rs").is_empty());
}
