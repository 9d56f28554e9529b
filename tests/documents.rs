//! The documents say what the code says: tables of settings and metrics, targets of make, links.
//!
//! With RINGWAY_BLESS=1 the tables are written anew instead (`make bless`).

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use ringway::api::closes::PARAMETERS;
use ringway::config::keys::{Elements, Key, Kind, Reload, SECTIONS, Section, Shape};
use ringway::dialect::cause::{Cause, DrainNotice, Protocol, farewell};
use ringway::mail::close::{Event, Kind as CloseKind};
use ringway::metrics::catalogue::{self, ALL};

const DOCUMENTS: [&str; 12] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/brokers.md",
    "docs/closes.md",
    "docs/configuration.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/runbooks.md",
    "fuzz/README.md",
];

fn top(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(top(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Text for one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn default(key: &Key) -> String {
    match key.kind {
        Kind::Text | Kind::Secret | Kind::Choice(_) | Kind::Bytes { .. } | Kind::Time { .. } => {
            format!("`{:?}`", key.default)
        }
        Kind::Switch | Kind::Count { .. } | Kind::Texts | Kind::Choices(_) => {
            format!("`{}`", key.default)
        }
    }
}

fn section_title(section: &Section) -> String {
    match section.shape {
        Shape::Top => "At the top, before all sections".to_owned(),
        Shape::Single => format!("[{}]", section.name),
        Shape::Repeated(elements) => {
            let elements = match elements {
                Elements::Replaced => {
                    "the list of a new file takes the place of the old one".to_owned()
                }
                Elements::Known { by, added, removed } => format!(
                    "told apart by `{by}`; one more: {}, one less: {}",
                    added.name(),
                    removed.name()
                ),
            };
            format!("[[{}]]\n\nAny number of times; {elements}.", section.name)
        }
    }
}

/// A heading and a table for each section.
fn config_tables() -> String {
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes all");
    for section in SECTIONS {
        line(&format!("\n## {}\n", section_title(section)));
        line("| key | values | default | a change counts | meaning |\n|---|---|---|---|---|");
        for key in section.keys {
            let (values, default, help) = (cell(&key.kind.values()), default(key), cell(key.help));
            let (name, reload) = (
                key.name,
                match key.reload {
                    Reload::Live => "at once",
                    Reload::Newcomers => "for new connections",
                    Reload::Restart => "after a restart",
                },
            );
            line(&format!("| `{name}` | {values} | {default} | {reload} | {help} |"));
        }
    }
    text.push('\n');
    text
}

fn metrics_table() -> String {
    let mut table = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for entry in ALL {
        let kind = match entry.kind {
            catalogue::Kind::Counter => "counter",
            catalogue::Kind::Gauge => "gauge",
            catalogue::Kind::Histogram => "histogram",
        };
        let labels = match entry.labels {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        writeln!(table, "| `{}{labels}` | {kind} | {} |", entry.name, cell(entry.help))
            .expect("a String takes all");
    }
    table
}

/// What stands between the markers `name:begin` and `name:end`, and what is before and behind it.
fn between<'a>(text: &'a str, name: &str) -> [&'a str; 3] {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = text.split_once(&begin).expect("the beginning is marked");
    let (table, after) = rest.split_once(&end).expect("the end is marked");
    [&text[..before.len() + begin.len()], table, &text[text.len() - after.len() - end.len()..]]
}

#[test]
fn every_setting_and_every_metric_is_listed() {
    let bless = std::env::var_os("RINGWAY_BLESS").is_some_and(|value| value == "1");
    for (file, name, table) in [
        ("docs/configuration.md", "config", config_tables()),
        ("README.md", "metrics", metrics_table()),
    ] {
        let text = read(file);
        let [before, written, after] = between(&text, name);
        if written == table {
            continue;
        }
        assert!(bless, "the {name} table of {file} is not what the code says: make bless");
        fs::write(top(file), [before, &table, after].concat()).unwrap();
    }
}

/// What clients of `protocol` are told when their connection ends for `cause`.
fn told(cause: Cause, protocol: Protocol) -> String {
    let drain = DrainNotice { code: 1012, retry_ms: 500..=5000 };
    match farewell(cause, protocol, &drain) {
        Some(told) => format!("{} `{}`", told.code, told.reason),
        None => "–".to_owned(),
    }
}

/// The table of causes; what to do about each is taken from `written`, the table as it is.
fn causes_table(written: &str) -> String {
    let mut table = String::from(
        "| cause | by | raw, echo | Centrifugo | meaning | what to do |\n|---|---|---|---|---|---|\n",
    );
    for &cause in Cause::ALL {
        let begin = format!("| `{}` |", cause.label());
        let row = written.lines().find(|line| line.starts_with(&begin));
        let advice = row.and_then(|row| row.strip_suffix(" |")?.rsplit(" | ").next());
        let advice = advice.filter(|advice| advice.ends_with('.'));
        let advice = advice.unwrap_or_else(|| panic!("docs/closes.md: what to do about {begin}"));
        let (plain, centrifuge) = (told(cause, Protocol::Raw), told(cause, Protocol::Centrifuge));
        let (by, meaning) = (cause.initiator().label(), cell(cause.meaning()));
        writeln!(table, "{begin} {by} | {plain} | {centrifuge} | {meaning} | {advice} |")
            .expect("a String takes all");
    }
    table
}

#[test]
fn the_page_about_closes_lists_every_cause_parameter_event_and_kind() {
    let bless = std::env::var_os("RINGWAY_BLESS").is_some_and(|value| value == "1");
    let name = "docs/closes.md";
    let page = read(name);
    let [before, written, after] = between(&page, "causes");
    let table = causes_table(written);
    if written != table {
        assert!(bless, "the table of causes in {name} is not what the code says: make bless");
        fs::write(top(name), [before, &table, after].concat()).unwrap();
    }
    let words =
        Event::ALL.map(Event::label).into_iter().chain(CloseKind::ALL.map(CloseKind::label));
    for word in words.chain(PARAMETERS) {
        assert!(before.contains(&format!("`{word}`")), "{name} does not tell about `{word}`");
    }
}

#[test]
fn tables_are_found_between_their_markers() {
    let text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb";
    let expected = ["a\n<!-- x:begin -->\n", "old\n", "<!-- x:end -->\nb"];
    assert_eq!(between(text, "x"), expected);
}

#[test]
fn tables_hold_what_readers_look_for() {
    let config = config_tables();
    let address = "| `address` | text | `\"127.0.0.1:8000\"` | after a restart | ";
    assert!(config.contains(address) && config.contains("## [[listener]]"));
    assert!(config.contains("| `shards` | 0 to 256 | `0` | after a restart | "));
    assert!(config.contains("| `grace` | 0s to 10m | `\"2s\"` | at once | "));
    let metrics = metrics_table();
    assert!(
        metrics.contains("| `ringway_closed_total{code,initiator,cause,protocol}` | counter |")
    );
    for (table, bars) in [(config, 6), (metrics, 4)] {
        let rows = table.lines().filter(|line| line.starts_with('|'));
        rows.for_each(|row| assert_eq!(row.replace("\\|", "").matches('|').count(), bars, "{row}"));
    }
}

#[test]
fn every_make_target_that_is_named_is_there() {
    let makefile = read("Makefile");
    for document in DOCUMENTS {
        let text = read(document);
        let calls = text.split(['`', '\n']).filter_map(|code| code.strip_prefix("make "));
        for call in calls {
            let target = call.split(' ').next().unwrap_or_default();
            let rule = format!("\n{target}: ");
            assert!(makefile.contains(&rule), "{document} names make {target}");
        }
    }
}

#[test]
fn every_file_that_is_linked_is_there() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if !target.contains("://") {
                let from = top(document);
                let file = from.parent().expect("a file is in a directory").join(target);
                assert!(file.exists(), "{document} links {target}");
            }
        }
    }
}
