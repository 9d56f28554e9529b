//! Instructions of the hot path, counted by callgrind and held against `benches/instructions.txt`:
//! unlike times they are the same on a busy machine.
//!
//! `make bench-check` fails when one has risen by more than [`RISE_MAX`]; `make bench-bless` writes
//! the file anew. Counts belong to one compiler and one profile: with another compiler there is
//! nothing to compare, and the check says so and is skipped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::{env, fs};

use ringway::dialect::centrifuge::command;
use ringway::dialect::payload;
use ringway::dialect::scratch::Scratch;
use ringway::dialect::variant::{self, Compression, Language, Variant};
use ringway::topic::name::TopicName;
use ringway::topic::publication::Publication;
use ringway::ws::deflate::Codec;
use ringway::ws::header::{Rsv, decode_header};
use ringway::ws::mask::unmask;
use ringway::ws::receiver::{Limits, Receiver};
use ringway::ws::utf8::Utf8Validator;

mod stage;

use stage::{Stage, message};

/// Where the counts are.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// A count may rise by this share.
const RISE_MAX: f64 = 0.03;
/// What two shards may take more than one for the same deliveries.
const SHARING_MAX: f64 = 0.05;
/// Units of a bench whose work is one call; others count their own.
const CALLS: usize = 1000;

/// Something that can be done over and over, and how many units it is.
type Work = (usize, Box<dyn FnMut()>);

/// A name with what prepares its work.
type Bench = (&'static str, fn() -> Work);

const BENCHES: [Bench; 13] = [
    ("unmask_16_bytes", || unmasked(16)),
    ("unmask_128_bytes", || unmasked(128)),
    ("unmask_1_kib", || unmasked(1024)),
    ("unmask_64_kib", || unmasked(64 * 1024)),
    ("frame_header", frame_header),
    ("receive_text_of_16_bytes", receive_texts),
    ("utf8_ascii_64_kib", || utf8("a plain sentence ")),
    ("utf8_multibyte_64_kib", || utf8("Zürich €5 𝄞 κόσμε ")),
    ("command_publish_parse", command_parse),
    ("push_encode", push_encode),
    ("echo_turn", echoes),
    (ONE_SHARD, || deliveries(1)),
    (TWO_SHARDS, || deliveries(2)),
];

const ONE_SHARD: &str = "delivery";
const TWO_SHARDS: &str = "delivery_by_two_shards";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("count") {
        let name = arguments.next().unwrap_or_default();
        let (_, prepare) = BENCHES.iter().find(|(known, _)| *known == name).expect("a known name");
        let (_, mut work) = prepare();
        work(); // what is allocated once is there
        counted(&mut work);
        return ExitCode::SUCCESS;
    }
    report()
}

/// Callgrind counts in here only; it finds the name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

#[expect(clippy::print_stdout, reason = "the result goes to whoever asked")]
fn report() -> ExitCode {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not there");
        return ExitCode::SUCCESS;
    }
    let compiler = compiler();
    let counts: Vec<(&str, f64)> =
        BENCHES.iter().map(|(name, prepare)| (*name, count(name) / prepare().0 as f64)).collect();
    if env::var_os("RINGWAY_BLESS").is_some() {
        fs::write(FILE, text(&compiler, &counts)).expect("the file can be written");
        println!("{} counts are in {FILE}", counts.len());
        return ExitCode::SUCCESS;
    }
    let Ok(file) = fs::read_to_string(FILE) else {
        println!("skipped: there are no counts in {FILE} yet; make bench-bless");
        return ExitCode::SUCCESS;
    };
    let (belongs_to, blessed) = read(&file);
    if belongs_to != compiler {
        println!("skipped: counts are for {belongs_to}, this is {compiler}; make bench-bless");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, count) in &counts {
        let verdict = verdict(*count, blessed.get(*name).copied());
        failed += usize::from(verdict.is_err());
        let (mark, what) = verdict.map_or_else(|what| ("FAILED", what), |what| ("ok    ", what));
        println!("{mark} {name:26} {count:>12.1} instructions, {what}");
    }
    for name in blessed.keys().filter(|name| counts.iter().all(|(known, _)| known != name)) {
        failed += 1;
        println!("FAILED {name:26} is no bench any more: make bench-bless");
    }
    let of =
        |wanted: &str| counts.iter().find(|(name, _)| *name == wanted).map(|(_, count)| *count);
    let sharing = of(TWO_SHARDS).zip(of(ONE_SHARD)).map_or(0.0, |(two, one)| two / one - 1.0);
    let is_shared = sharing <= SHARING_MAX;
    failed += usize::from(!is_shared);
    let mark = if is_shared { "ok    " } else { "FAILED" };
    println!(
        "{mark} two shards take {:+.1} % of one's; {:.0} % allowed",
        sharing * 100.0,
        SHARING_MAX * 100.0
    );
    println!("{} passed, {failed} failed", counts.len() + 1 - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What to say of a count.
///
/// Errors: what is wrong, when it has risen too much or was never written down.
fn verdict(count: f64, blessed: Option<f64>) -> Result<String, String> {
    let Some(blessed) = blessed else {
        return Err("nothing to compare with: make bench-bless".to_owned());
    };
    let change = count / blessed - 1.0;
    let what = format!("{:+.1} % of {blessed:.1}", change * 100.0);
    if change <= RISE_MAX { Ok(what) } else { Err(what) }
}

/// Runs one bench under callgrind; the instructions that it took.
fn count(name: &str) -> f64 {
    let own = env::current_exe().expect("this program has a path");
    let out = env::temp_dir().join(format!("ringway-{}-{name}.callgrind", std::process::id()));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*instructions*counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["count", name])
        .output()
        .expect("valgrind starts");
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    let text = fs::read_to_string(&out).expect("callgrind has written its file");
    fs::remove_file(&out).expect("the file can go");
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = totals.and_then(|total| total.trim().parse().ok()).expect("a total");
    assert!(total > 0.0, "{name}: callgrind did not find the function to count in");
    total
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("the compiler is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(compiler: &str, counts: &[(&str, f64)]) -> String {
    let mut text = format!(
        "# Instructions for each unit; make bench-check compares, make bench-bless writes this.\n\
         # {compiler}\n"
    );
    for (name, count) in counts {
        _ = writeln!(text, "{name} {count:.1}"); // a String takes everything
    }
    text
}

/// The compiler and the counts of the file.
fn read(text: &str) -> (String, BTreeMap<String, f64>) {
    let mut lines = text.lines().skip(1);
    let compiler = lines.next().unwrap_or_default().trim_start_matches("# ").to_owned();
    let counts = lines.filter_map(|line| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    (compiler, counts.collect())
}

fn unmasked(len: usize) -> Work {
    let mut memory = vec![0x5a_u8; len + 128];
    // Behind a short frame header, which begins a cache line.
    let start = memory.as_ptr().align_offset(64) + 6;
    let times = (CALLS * 64 / len).max(16);
    let work = move || {
        for _ in 0..times {
            unmask(black_box(&mut memory[start..start + len]), black_box([1, 2, 3, 4]), 0);
        }
    };
    (times, Box::new(work))
}

fn frame_header() -> Work {
    let forms: [&[u8]; 3] =
        [b"\x81\x90mask", b"\x82\xfe\x04\x00mask", b"\x82\xff\0\0\0\0\0\x01\0\0mask"];
    let work = move || {
        for _ in 0..CALLS {
            for form in forms {
                let _ = black_box(decode_header(black_box(form), Rsv::NONE));
            }
        }
    };
    (CALLS * forms.len(), Box::new(work))
}

fn receive_texts() -> Work {
    let stream = message(b"sixteen bytes...").repeat(CALLS);
    let mut input = stream.clone();
    let mut receiver = Receiver::default();
    let work = move || {
        let mut at = 0;
        while at < input.len() {
            let received = receiver.receive(&mut input[at..], &Limits::default());
            at += black_box(received.expect("the stream is valid")).consumed;
        }
    };
    (CALLS, Box::new(work))
}

fn utf8(pattern: &'static str) -> Work {
    let text = pattern.repeat(64 * 1024 / pattern.len());
    let work = move || {
        let mut validator = Utf8Validator::default();
        validator.push(black_box(text.as_bytes())).expect("the text is valid");
        validator.finish().expect("the text is whole");
    };
    (1, Box::new(work))
}

const DATA: &str = r#"{"user":"3f2b","text":"the quick brown fox","tags":["a","b"],"seen":true}"#;

fn command_parse() -> Work {
    let line = format!(r#"{{"id":7,"publish":{{"channel":"chat:lobby","data":{DATA}}}}}"#);
    let mut scratch = Scratch::default();
    let work = move || {
        for _ in 0..CALLS {
            let _ = black_box(command::parse(black_box(line.as_bytes()), &mut scratch));
        }
    };
    (CALLS, Box::new(work))
}

fn push_encode() -> Work {
    let mut scratch = Scratch::default();
    let mut codec = Codec::new(None, 0);
    let plain = Variant { language: Language::Centrifuge, class: None }.form();
    let payload = payload::from_json(DATA.as_bytes(), &mut scratch).expect("the input is JSON");
    let topic = TopicName::new("chat:lobby").expect("the name is valid");
    let publication = Publication { topic, offset: Some(8), payload, publisher: None, tags: None };
    let work = move || {
        for _ in 0..CALLS {
            let publication = black_box(&publication);
            let is_wanted = |form| form == plain;
            let allowed = Compression::Allowed;
            black_box(variant::encode_all(
                publication,
                is_wanted,
                allowed,
                &mut codec,
                &mut scratch,
            ));
        }
    };
    (CALLS, Box::new(work))
}

/// A thousand messages of 16 bytes, 20 from each of 50 clients, back to them: the whole turn of a
/// shard without its kernel.
fn echoes() -> Work {
    let mut stage = Stage::new(1, 50);
    let clients = stage.open(50, "/echo");
    let messages = message(b"sixteen bytes...").repeat(20);
    let work = move || {
        let before = stage.sent().bytes;
        clients.iter().for_each(|client| stage.write(*client, &messages));
        while stage.sent().bytes < before + 1000 * 18 {
            stage.turn();
        }
    };
    (1000, Box::new(work))
}

/// One publication of 128 bytes to 10,000 subscribers, from the frame that comes in to the sends:
/// the walk, the flush, and all the rest of the turns that it takes.
fn deliveries(shards: usize) -> Work {
    const SUBSCRIBERS: usize = 10_000;
    let mut stage = Stage::new(shards, SUBSCRIBERS);
    let clients = stage.open(SUBSCRIBERS, "/topic/bench");
    let publication = message(&[b'x'; 125]);
    let work = move || {
        let before = stage.sent().sends;
        stage.write(clients[0], &publication);
        while stage.sent().sends < before + SUBSCRIBERS as u64 {
            stage.turn();
        }
    };
    (SUBSCRIBERS, Box::new(work))
}
