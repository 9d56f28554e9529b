//! The fences: what the compiler and clippy cannot hold. Each takes the source tree as input, so
//! that the tests below can show that it bites.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path as FilePath;

#[path = "architecture/paths.rs"]
mod paths;
#[path = "architecture/tokens.rs"]
mod tokens;

use paths::{module_of, paths};
use tokens::{Token, tokens};

/// A room and the rooms that it may import.
const ROOMS: [(&str, &str); 15] = [
    ("http1", ""),
    ("ws", "http1"),
    ("topic", ""),
    ("auth", ""),
    ("ring", ""),
    ("metrics", ""),
    ("mail", "topic ring"),
    ("dialect", "http1 ws topic auth"),
    ("conn", "http1 ws topic dialect auth"),
    ("broker", "topic mail metrics"),
    ("hooks", "auth mail"),
    ("shard", "ring conn dialect topic auth mail metrics"),
    ("api", "topic mail broker auth metrics"),
    ("config", "types of all rooms"),
    ("daemon", "everything"),
];

/// Rooms that see no socket, clock, thread or file.
const PURE: [&str; 6] = ["http1", "ws", "topic", "auth", "dialect", "conn"];

/// What a pure room must not name.
const IMPURE: [&str; 15] = [
    "std::fs",
    "std::net::*",
    "std::net::Tcp",
    "std::net::ToSocketAddrs",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "hyper",
    "io_uring",
    "libc",
    "rustix",
    "socket2",
    "tokio",
    "tokio_uring",
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 3] = ["src/ring/", "src/ws/mask.rs", "src/daemon/handover.rs"];

/// Where the clock may be read.
const CLOCK: [&str; 4] = ["src/ring/", "src/daemon/", "src/api/", "src/broker/"];

/// Where rustls may be named, and where the glue between it and the operators' HTTP.
const TLS: [(&str, &str); 2] = [("rustls", "src/conn/tls/"), ("tokio_rustls", "src/daemon/")];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "helper", "helpers", "common", "misc", "type", "types"];

/// Lines of a file, not counting its tests.
const LINES_MAX: usize = 500;

/// Text by path from the repository's root.
type Tree = BTreeMap<String, String>;

/// Where and what, one line each: `src/ws/mod.rs:7: …`.
type Violations = Vec<String>;

/// All files below the root but those that git ignores.
fn repository() -> Tree {
    let ignored = ["target", ".git", ".test-env", "node_modules", "__pycache__", "corpus"];
    let mut tree = Tree::new();
    let mut folders = vec![FilePath::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read").flatten() {
            let path = entry.path();
            if ignored.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&path);
                tree.insert(name.display().to_string(), text);
            }
        }
    }
    tree
}

fn rust(tree: &Tree) -> impl Iterator<Item = (&String, &String)> {
    tree.iter().filter(|(file, _)| file.ends_with(".rs"))
}

/// The files of the daemon with their rooms; `main.rs` and `lib.rs` belong to none.
fn rooms(tree: &Tree) -> impl Iterator<Item = (&String, String, &String)> {
    let files = rust(tree).filter(|(file, _)| file.starts_with("src/"));
    files.filter_map(|(file, source)| Some((file, module_of(file).into_iter().next()?, source)))
}

fn is_under(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| file.starts_with(place))
}

/// Whether the tokens from `at` on are these.
fn reads(tokens: &[Token], at: usize, words: &str) -> bool {
    words
        .split(' ')
        .enumerate()
        .all(|(i, word)| tokens.get(at + i).is_some_and(|token| token.text == word))
}

/// Index of the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// A module that exists for tests only.
struct TestModule {
    name: String,
    line: usize,
    /// Index of the token after it; `None`: it stands in a file of its own.
    end: Option<usize>,
}

fn test_modules(tokens: &[Token]) -> Vec<TestModule> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if !reads(tokens, at, "# [ cfg (") {
            continue;
        }
        let end = closing(tokens, at + 1);
        let condition = &tokens[at..end];
        let says = |word: &str| condition.iter().any(|token| token.text == word);
        if !says("test") || says("not") || says("any") {
            continue;
        }
        let mut next = end + 1;
        while reads(tokens, next, "# [") {
            next = closing(tokens, next + 1) + 1;
        }
        while tokens.get(next).is_some_and(|token| token.text == "pub") {
            next += 1;
            if reads(tokens, next, "(") {
                next = closing(tokens, next) + 1;
            }
        }
        if reads(tokens, next, "mod") && tokens.len() > next + 2 {
            let inline = reads(tokens, next + 2, "{");
            found.push(TestModule {
                name: tokens[next + 1].text.clone(),
                line: tokens[at].line,
                end: inline.then(|| closing(tokens, next + 2) + 1),
            });
        }
    }
    found
}

/// The line of the tests at the end of a file, or the line after its last.
fn tail(source: &str, tokens: &[Token]) -> usize {
    let own = test_modules(tokens).into_iter().find(|module| module.end.is_some());
    own.map_or(source.lines().count() + 1, |module| module.line)
}

/// Modules in files of their own that exist for tests only.
fn test_only(tree: &Tree) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (file, _, source) in rooms(tree) {
        for module in test_modules(&tokens(source)) {
            if module.end.is_none() {
                found.insert([module_of(file), vec![module.name]].concat());
            }
        }
    }
    found
}

fn is_test_only(file: &str, modules: &BTreeSet<Vec<String>>) -> bool {
    let own = module_of(file);
    (1..=own.len()).any(|len| modules.contains(&own[..len]))
}

/// Rooms import only what [`ROOMS`] lists.
fn arrows(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, room, source) in rooms(tree) {
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            violations.push(format!("{file}:1: `{room}` is not a room"));
            continue;
        };
        for path in paths(file, source) {
            if path.segments[0] != "crate" {
                continue;
            }
            let target = path.segments.get(1).map_or("*", String::as_str);
            let is_type = || path.segments[2..].iter().any(|at| at.starts_with(char::is_uppercase));
            let is_allowed = match room.as_str() {
                _ if target == room => true,
                _ if !ROOMS.iter().any(|(name, _)| *name == target) => false,
                "daemon" => true,
                "config" => is_type(),
                _ => allowed.split(' ').any(|name| name == target),
            };
            if !is_allowed {
                let full = path.segments.join("::");
                violations.push(format!("{file}:{}: `{room}` must not name `{full}`", path.line));
            }
        }
    }
    violations
}

/// Pure rooms name nothing of [`IMPURE`].
fn purity(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, room, source) in rooms(tree).filter(|(_, room, _)| PURE.contains(&room.as_str())) {
        for path in paths(file, source) {
            let full = path.segments.join("::").replacen("core::", "std::", 1);
            let is_impure = |banned: &&str| {
                let after = full.strip_prefix(*banned);
                after.is_some_and(|after| {
                    after.is_empty() || after.starts_with("::") || banned.starts_with("std::net::")
                })
            };
            if IMPURE.iter().any(is_impure) {
                let line = path.line;
                violations.push(format!("{file}:{line}: `{room}` is pure and names `{full}`"));
            }
        }
    }
    violations
}

/// Unsafe code stands where [`UNSAFE`] says, and is let in by an `expect` with a reason.
fn unsafety(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, source) in rust(tree) {
        let tokens = tokens(source);
        for (at, token) in tokens.iter().enumerate() {
            let line = token.line;
            if token.text == "unsafe" && !is_under(file, &UNSAFE) {
                violations.push(format!("{file}:{line}: `unsafe` may not stand here"));
            }
            if token.text == "unsafe_code" {
                let attribute = tokens[..at].iter().rposition(|token| token.text == "[");
                let attribute = attribute.map_or(at, |open| open + 1);
                let rest = &tokens[at..closing(&tokens, attribute.saturating_sub(1))];
                let has_reason = rest.iter().any(|token| token.text == "reason");
                if !reads(&tokens, attribute, "expect (") || !has_reason {
                    violations.push(format!(
                        "{file}:{line}: let `unsafe_code` in by `expect(unsafe_code, reason = …)`"
                    ));
                }
            }
        }
    }
    let lint = "unsafe_code = \"deny\"";
    if !tree.get("Cargo.toml").is_some_and(|text| text.contains(lint)) {
        violations.push(format!("Cargo.toml:1: `{lint}` is missing"));
    }
    for (file, text) in tree.iter().filter(|(file, _)| file.ends_with("Cargo.toml")) {
        if !text.contains("[lints]\nworkspace = true") && !file.starts_with("fuzz/") {
            violations.push(format!("{file}:1: the lints of the workspace are not taken over"));
        }
    }
    violations
}

/// Files end before [`LINES_MAX`], tests not counted; those in a file of code stand at its end.
fn lengths(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    let test_only = test_only(tree);
    for (file, source) in rust(tree) {
        let tokens = tokens(source);
        if file.starts_with("tests/") || is_test_only(file, &test_only) {
            continue;
        }
        for module in test_modules(&tokens) {
            if module.end.is_some_and(|end| end < tokens.len()) {
                violations.push(format!("{file}:{}: tests stand at the end", module.line));
            }
        }
        let lines = tail(source, &tokens) - 1;
        if lines > LINES_MAX {
            violations.push(format!("{file}:{lines}: more than {LINES_MAX} lines"));
        }
    }
    violations
}

/// Files and folders are named after the noun that they own.
fn names(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, _) in rust(tree) {
        let mut parts = file.trim_end_matches(".rs").split('/');
        if let Some(part) = parts.find(|part| EMPTY_NAMES.contains(part)) {
            violations.push(format!("{file}:1: `{part}` says nothing about what it holds"));
        }
    }
    violations
}

/// The clock is read where [`CLOCK`] says, and in tests.
fn clock(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    let test_only = test_only(tree);
    for (file, source) in rust(tree).filter(|(file, _)| file.starts_with("src/")) {
        if is_under(file, &CLOCK) || is_test_only(file, &test_only) {
            continue;
        }
        let tokens = tokens(source);
        let tail = tail(source, &tokens);
        for (at, token) in tokens.iter().enumerate().take_while(|(_, token)| token.line < tail) {
            let readings = ["Instant :: now", "SystemTime :: now", ". elapsed (", "clock_gettime"];
            if let Some(reading) = readings.iter().find(|words| reads(&tokens, at, words)) {
                let reading = reading.replace(' ', "");
                violations.push(format!("{file}:{}: `{reading}` reads the clock", token.line));
            }
        }
    }
    violations
}

/// Rustls and what belongs to it are named where [`TLS`] says.
fn tls(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, source) in rust(tree).filter(|(file, _)| file.starts_with("src/")) {
        for token in tokens(source) {
            let place = TLS.iter().find(|(name, _)| {
                let more = token.text.strip_prefix(name);
                more.is_some_and(|more| more.is_empty() || more.starts_with('_'))
            });
            if let Some((name, place)) = place.filter(|(_, place)| !file.starts_with(place)) {
                violations.push(format!("{file}:{}: only {place} names {name}", token.line));
            }
        }
    }
    violations
}

/// The repository stands alone: only `.ci` may look for things beside it.
fn outside(tree: &Tree) -> Violations {
    let mut violations = Violations::new();
    for (file, text) in tree {
        for (line, text) in text.lines().enumerate() {
            let is_beside = text.contains(concat!("..", "/shared")) && !file.starts_with(".ci/");
            if is_beside || text.contains(concat!("/work", "/shared")) {
                violations.push(format!("{file}:{}: names what is not in here", line + 1));
            }
        }
    }
    violations
}

#[test]
fn the_repository_keeps_within_its_fences() {
    let tree = repository();
    assert!(tree.contains_key("src/lib.rs"), "the sources are found");
    let fences = [arrows, purity, unsafety, lengths, names, clock, tls, outside];
    let violations: Violations = fences.iter().flat_map(|fence| fence(&tree)).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_drawing_shows_the_rooms_as_they_are_held() {
    let tree = repository();
    let drawn: Vec<_> = tree["ARCHITECTURE.md"]
        .lines()
        .skip_while(|line| *line != "```rooms")
        .skip(1)
        .take_while(|line| *line != "```")
        .map(|line| line.split("  #").next().unwrap_or("").split_whitespace().collect::<Vec<_>>())
        .map(|words| words.join(" "))
        .collect();
    let held = ROOMS.map(|(room, imports)| format!("{room}: {imports}").trim().to_string());
    assert_eq!(drawn, held);
}

/// What a fence says about one file.
fn says(fence: fn(&Tree) -> Violations, file: &str, text: &str) -> Violations {
    fence(&Tree::from([(file.into(), text.into())]))
}

#[test]
fn imports_against_the_arrows_are_reported() {
    let cases = [
        ("src/ws/mod.rs", "use crate::topic::name::TopicName;", 1),
        ("src/ws/mod.rs", "fn f() {\n crate::mail::post() }", 1),
        ("src/ws/mod.rs", "use super::{http1, dialect::{raw, echo}};", 2),
        ("src/ws/mod.rs", "use crate as root;", 1),
        ("src/ws/mod.rs", "use crate::*;", 1),
        ("src/ws/mod.rs", "use crate::http1::head; use super::ws::frame; use std::fmt;", 0),
        ("src/shard/mod.rs", "use crate::{ring::Ring, metrics, api::x};", 1),
        ("src/ring/mod.rs", "// crate::topic\nconst A: &str = \"crate::topic::b\";", 0),
        ("src/config/mod.rs", "use crate::dialect::Settings;", 0),
        ("src/config/mod.rs", "use crate::dialect::centrifuge::open;", 1),
        ("src/daemon/mod.rs", "use crate::{config, shard::Shard};", 0),
        ("src/cellar/mod.rs", "", 1),
        ("src/main.rs", "use ringway::daemon;", 0),
    ];
    for (file, source, count) in cases {
        assert_eq!(says(arrows, file, source).len(), count, "{file}: {source}");
    }
    assert_eq!(
        says(arrows, "src/ws/mod.rs", "fn f() {\n crate::mail::post() }"),
        ["src/ws/mod.rs:2: `ws` must not name `crate::mail::post`"]
    );
}

#[test]
fn sockets_threads_and_files_in_pure_rooms_are_reported() {
    let cases = [
        ("src/conn/mod.rs", "use std::net::{IpAddr, TcpStream};", 1),
        ("src/conn/mod.rs", "use std::net; fn f(a: net::IpAddr) {}", 0),
        ("src/conn/mod.rs", "use std::net; fn f(a: net::TcpListener) {}", 1),
        ("src/auth/mod.rs", "fn f() { std::thread::yield_now(); tokio::spawn(x); }", 2),
        ("src/topic/mod.rs", "use std::fs as disk;", 1),
        ("src/topic/mod.rs", "use std::fmt; use tokio_util::x;", 0),
        ("src/daemon/mod.rs", "use std::fs; use tokio::net;", 0),
    ];
    for (file, source, count) in cases {
        assert_eq!(says(purity, file, source).len(), count, "{file}: {source}");
    }
}

#[test]
fn unsafe_code_in_the_wrong_place_or_manner_is_reported() {
    let cases = [
        ("src/topic/mod.rs", "fn f() { unsafe { g() } }", 1),
        ("src/topic/mod.rs", "// unsafe\nfn f() { \"unsafe\" }", 0),
        ("src/ring/uring.rs", "unsafe fn f() {}", 0),
        ("tests/x.rs", "unsafe impl Send for X {}", 1),
        ("src/ring/uring.rs", "#![allow(unsafe_code, reason = \"x\")]", 1),
        ("src/ring/uring.rs", "#[expect(unsafe_code)] mod x;", 1),
        ("src/ring/uring.rs", "#![expect(unsafe_code, reason = \"x\")]", 0),
    ];
    for (file, source, count) in cases {
        let manifest = "[workspace.lints.rust]\nunsafe_code = \"deny\"\n[lints]\nworkspace = true";
        let tree = [("Cargo.toml", manifest), (file, source)];
        let tree = tree.map(|(file, text)| (file.to_string(), text.to_string()));
        assert_eq!(unsafety(&Tree::from(tree)).len(), count, "{file}: {source}");
    }
    assert_eq!(says(unsafety, "Cargo.toml", "[package]").len(), 2);
}

#[test]
fn long_files_and_tests_in_the_middle_are_reported() {
    let code = "const A: u8 = 0;\n".repeat(500);
    let tests = "#[cfg(test)]\nmod tests {\n const B: u8 = 0;\n}\n";
    let cases = [
        (code.clone(), 0),
        (format!("{code}{tests}"), 0),
        (format!("{code}//\n{tests}"), 1),
        (format!("{tests}{code}"), 1),
        (format!("#[cfg(test)]\nmod tests;\n{code}"), 1),
        ("#[cfg(not(test))]\nmod real {}\nconst A: u8 = 0;".into(), 0),
    ];
    for (source, count) in &cases {
        assert_eq!(says(lengths, "src/ws/mod.rs", source).len(), *count, "{source}");
    }
    let tree = [
        ("src/ws/mod.rs".into(), "#[cfg(test)] mod cases;".into()),
        ("src/ws/cases.rs".into(), code.repeat(2)),
        ("src/ws/cases/more.rs".into(), code.repeat(2)),
        ("src/ws/frame.rs".into(), code.repeat(2)),
    ];
    assert_eq!(lengths(&Tree::from(tree)), ["src/ws/frame.rs:1000: more than 500 lines"]);
}

#[test]
fn empty_names_are_reported() {
    for file in ["src/ws/utils.rs", "tests/common/mod.rs", "loadtest/src/types.rs"] {
        assert_eq!(says(names, file, "").len(), 1, "{file}");
    }
    assert!(says(names, "src/ws/frame.rs", "").is_empty());
}

#[test]
fn readings_of_the_clock_are_reported() {
    let cases = [
        ("src/shard/mod.rs", "let a = Instant::now();", 1),
        ("src/topic/mod.rs", "std::time::SystemTime::now(); a.elapsed()", 2),
        ("src/ring/sim.rs", "let a = Instant::now();", 0),
        ("src/topic/mod.rs", "#[cfg(test)]\nmod tests {\n fn f() { Instant::now(); }\n}", 0),
        ("tests/x.rs", "let a = Instant::now();", 0),
    ];
    for (file, source, count) in cases {
        assert_eq!(says(clock, file, source).len(), count, "{file}: {source}");
    }
}

#[test]
fn other_places_that_name_rustls_are_reported() {
    let source = "use rustls::ServerConfig;\nuse rustls_pki_types as pki;";
    assert_eq!(says(tls, "src/daemon/mod.rs", source).len(), 2);
    assert!(says(tls, "src/conn/tls/terms.rs", source).is_empty());
    assert_eq!(says(tls, "src/api/server.rs", "use tokio_rustls::TlsAcceptor;").len(), 1);
    assert!(says(tls, "src/daemon/operators.rs", "use tokio_rustls::TlsAcceptor;").is_empty());
}

#[test]
fn what_lies_beside_the_repository_is_reported() {
    let text = concat!("a\nls ..", "/shared/x");
    assert_eq!(says(outside, "Makefile", text), ["Makefile:2: names what is not in here"]);
    assert!(says(outside, ".ci/autobahn", text).is_empty());
    assert_eq!(says(outside, ".ci/run", concat!("/work", "/shared")).len(), 1);
}
