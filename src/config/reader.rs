//! Holds a tree against the list of settings; what comes out has all settings, typed and in range.

use std::cell::RefCell;
use std::time::Duration;

use crate::auth::rate::Rate;

use super::keys::{Key, Kind, SECTIONS, Section, Shape};
use super::quantity::{parse_bytes, parse_time, show_bytes, show_time};
use super::tree::{Node, Table, Value, parse_value};
use super::violation::{Place, Violation};

/// A value of the right type, within its limits.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Switch(bool),
    Number(u64),
    Time(Duration),
    Text(String),
    Texts(Vec<String>),
}

/// One setting and where it comes from.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    pub(super) typed: Typed,
    place: Place,
    /// As it was written; `None` for secrets.
    pub(super) shown: Option<String>,
    taken: bool,
}

/// The settings of one section; each of them is to be taken once.
#[derive(Clone)]
pub(super) struct Settings {
    /// `websocket`, `listener.0`; empty at the top.
    pub(super) path: String,
    settings: RefCell<Vec<Setting>>,
}

/// All sections.
#[derive(Clone)]
pub(super) struct Sections(pub(super) Vec<(&'static Section, Vec<Settings>)>);

/// Reads `tree` with every default filled in. What is wrong counts as not written and goes to
/// `violations`.
pub(super) fn read(tree: &Table, violations: &mut Vec<Violation>) -> Sections {
    report_strangers(tree, violations);
    let sections = SECTIONS.iter().map(|section| {
        let all = match (section.shape, tree.find(section.name)) {
            (Shape::Top, _) => vec![read_section(section, String::new(), tree, violations)],
            (_, None) => vec![defaults(section)],
            (Shape::Single, Some(Node { value: Value::Table(table), .. })) => {
                vec![read_section(section, section.name.to_owned(), table, violations)]
            }
            (Shape::Repeated(_), Some(Node { value: Value::List(items), .. })) => {
                read_items(section, items, violations)
            }
            (_, Some(node)) => {
                violations.push(wrong_section(section, section.name.to_owned(), node));
                vec![defaults(section)]
            }
        };
        (section, all)
    });
    Sections(sections.collect())
}

impl Sections {
    /// The sections called `name`, at least one where the list has it.
    pub(super) fn all(&self, name: &str) -> &[Settings] {
        let found = self.0.iter().find(|(section, _)| section.name == name);
        found.map_or_else(|| panic!("no section {name} in the list"), |(_, all)| all)
    }

    /// The section called `name`, which comes once.
    pub(super) fn one(&self, name: &str) -> &Settings {
        &self.all(name)[0]
    }

    /// Names of settings that nobody has taken.
    pub(super) fn untaken(&self) -> Vec<String> {
        let sections = self.0.iter().flat_map(|(_, all)| all);
        let names = sections.flat_map(|section| {
            let settings = section.settings.borrow();
            let untaken = settings.iter().filter(|s| !s.taken);
            untaken.map(|s| join(&section.path, s.key.name)).collect::<Vec<_>>()
        });
        names.collect()
    }
}

impl Settings {
    pub(super) fn switch(&self, name: &str) -> bool {
        match self.take(name) {
            Typed::Switch(on) => on,
            other => panic!("{name} is not a switch but {other:?}"),
        }
    }

    pub(super) fn number<N: TryFrom<u64>>(&self, name: &str) -> N {
        let Typed::Number(number) = self.take(name) else { panic!("{name} is not a number") };
        N::try_from(number).unwrap_or_else(|_| panic!("the list lets {name} be {number}"))
    }

    /// A rate by the names of its average and its burst; `None`: the average is 0, which stands for any.
    pub(super) fn rate(&self, average: &str, burst: &str) -> Option<Rate> {
        let (average, burst) = (self.number::<u32>(average), self.number(burst));
        (average > 0).then(|| Rate::new(average, burst))
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match self.take(name) {
            Typed::Time(time) => time,
            other => panic!("{name} is not a time but {other:?}"),
        }
    }

    pub(super) fn text(&self, name: &str) -> String {
        match self.take(name) {
            Typed::Text(text) => text,
            other => panic!("{name} is not a text but {other:?}"),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        match self.take(name) {
            Typed::Texts(texts) => texts,
            other => panic!("{name} is not a list of texts but {other:?}"),
        }
    }

    /// Whether somebody wrote it.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.with(name, |setting| setting.place != Place::Default)
    }

    /// What is to be said when the value of `name` does not do.
    pub(super) fn wrong(&self, name: &str, problem: impl Into<String>) -> Violation {
        self.with(name, |setting| Violation {
            place: setting.place,
            path: join(&self.path, name),
            value: setting.shown.clone(),
            problem: problem.into(),
        })
    }

    /// The same path with these settings, none of which is taken.
    pub(super) fn with_settings(&self, settings: impl Iterator<Item = Setting>) -> Self {
        let untaken = settings.map(|setting| Setting { taken: false, ..setting });
        Self { path: self.path.clone(), settings: RefCell::new(untaken.collect()) }
    }

    /// All settings, in the order of the list.
    pub(super) fn settings(&self) -> Vec<Setting> {
        self.settings.borrow().clone()
    }

    fn take(&self, name: &str) -> Typed {
        self.with(name, |setting| {
            setting.taken = true;
            setting.typed.clone()
        })
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Setting) -> T) -> T {
        let mut settings = self.settings.borrow_mut();
        let found = settings.iter_mut().find(|s| s.key.name == name);
        act(found.unwrap_or_else(|| panic!("no setting {name} in the list")))
    }
}

fn report_strangers(tree: &Table, violations: &mut Vec<Violation>) {
    let top = SECTIONS.iter().filter(|s| s.shape == Shape::Top).flat_map(|s| s.keys);
    let names = top.map(|key| key.name).chain(SECTIONS.iter().map(|s| s.name));
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    for (name, node) in tree.0.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
        violations.push(stranger("", name, node.place, &names));
    }
}

fn read_items(
    section: &'static Section,
    items: &[Node],
    violations: &mut Vec<Violation>,
) -> Vec<Settings> {
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}.{index}", section.name);
        match &item.value {
            Value::Table(table) => all.push(read_section(section, path, table, violations)),
            _ => violations.push(wrong_section(section, path, item)),
        }
    }
    if items.is_empty() { vec![defaults(section)] } else { all }
}

fn read_section(
    section: &'static Section,
    path: String,
    table: &Table,
    violations: &mut Vec<Violation>,
) -> Settings {
    let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    for (name, node) in table.0.iter().filter(|_| section.shape != Shape::Top) {
        if !names.contains(&name.as_str()) {
            violations.push(stranger(&path, name, node.place, &names));
        }
    }
    let settings = section.keys.iter().map(|key| {
        let Some(node) = table.find(key.name) else { return default_of(key) };
        let shown = (key.kind != Kind::Secret).then(|| node.value.show());
        match check(key.kind, &node.value) {
            Ok(typed) => Setting { key, typed, place: node.place, shown, taken: false },
            Err(problem) => {
                let path = join(&path, key.name);
                violations.push(Violation { place: node.place, path, value: shown, problem });
                default_of(key)
            }
        }
    });
    let settings = RefCell::new(settings.collect());
    Settings { path, settings }
}

fn defaults(section: &'static Section) -> Settings {
    let settings = section.keys.iter().map(default_of).collect();
    let path = match section.shape {
        Shape::Repeated(_) => format!("{}.0", section.name),
        Shape::Top | Shape::Single => section.name.to_owned(),
    };
    Settings { path, settings: RefCell::new(settings) }
}

fn default_of(key: &'static Key) -> Setting {
    let value = parse_value(key.default, Place::Default).unwrap_or_else(|e| panic!("{key:?}: {e}"));
    let typed = check(key.kind, &value).unwrap_or_else(|e| panic!("{key:?}: {e}"));
    let shown = (key.kind != Kind::Secret).then(|| value.show());
    Setting { key, typed, place: Place::Default, shown, taken: false }
}

fn wrong_section(section: &Section, path: String, node: &Node) -> Violation {
    let name = section.name;
    let problem = match section.shape {
        Shape::Repeated(_) if node.place == Place::Override => {
            format!(
                "is a section that may come several times: write {name}.0.key=value for the first, and leave no gap"
            )
        }
        Shape::Repeated(_) => format!("is a section that may come several times: [[{name}]]"),
        Shape::Top | Shape::Single => format!("is a section: [{}]", section.name),
    };
    Violation { place: node.place, path, value: Some(node.value.show()), problem }
}

/// What is to be said about a name that nobody knows.
fn stranger(path: &str, name: &str, place: Place, known: &[&str]) -> Violation {
    let what = if path.is_empty() { "section or setting" } else { "setting" };
    let near = known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min();
    let elsewhere = || SECTIONS.iter().find(|s| s.keys.iter().any(|key| key.name == name));
    let hint = match (near, elsewhere()) {
        (Some((_, candidate)), _) => format!("; did you mean {candidate}?"),
        (None, Some(Section { shape: Shape::Top, .. })) => {
            "; it belongs to the top of the file, before all sections".to_owned()
        }
        (None, Some(section)) => format!("; it belongs to section {}", section.name),
        (None, None) => String::new(),
    };
    Violation {
        place,
        path: join(path, name),
        value: None,
        problem: format!("no such {what}{hint}"),
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn check(kind: Kind, value: &Value) -> Result<Typed, String> {
    match (kind, value) {
        (Kind::Switch, Value::Switch(on)) => Ok(Typed::Switch(*on)),
        (Kind::Switch, _) => Err("must be true or false".to_owned()),
        (Kind::Count { min, max }, Value::Integer(n)) => match u64::try_from(*n) {
            Ok(n) if (min..=max).contains(&n) => Ok(Typed::Number(n)),
            _ => Err(format!("must be between {min} and {max}")),
        },
        (Kind::Count { .. }, _) => Err("must be a whole number without a unit".to_owned()),
        (Kind::Bytes { min, max }, value) => match byte_amount(value)? {
            n if (min..=max).contains(&n) => Ok(Typed::Number(n)),
            _ => Err(format!("must be between {} and {}", show_bytes(min), show_bytes(max))),
        },
        (Kind::Time { min, max }, Value::Text(text)) => match parse_time(text) {
            Some(time) if (min..=max).contains(&time) => Ok(Typed::Time(time)),
            Some(_) => Err(format!("must be between {} and {}", show_time(min), show_time(max))),
            None => Err(TIME_WANTED.to_owned()),
        },
        (Kind::Time { .. }, _) => Err(TIME_WANTED.to_owned()),
        (Kind::Text | Kind::Secret, Value::Text(text)) => Ok(Typed::Text(text.clone())),
        (Kind::Text | Kind::Secret, _) => Err("must be a text in quotes".to_owned()),
        (Kind::Choice(choices), Value::Text(text)) => {
            one_of(choices, text).map(|()| Typed::Text(text.clone()))
        }
        (Kind::Choice(choices), _) => Err(format!("must be one of {}", choices.join(", "))),
        (Kind::Texts, value) => texts(value).map(Typed::Texts),
        (Kind::Choices(choices), value) => {
            let texts = texts(value)?;
            texts.iter().try_for_each(|text| one_of(choices, text))?;
            Ok(Typed::Texts(texts))
        }
    }
}

const TIME_WANTED: &str = "must be a time with its unit, like \"30s\", \"250ms\" or \"5m\"";

fn byte_amount(value: &Value) -> Result<u64, String> {
    let amount = match value {
        Value::Integer(n) => u64::try_from(*n).ok(),
        Value::Text(text) => parse_bytes(text),
        _ => None,
    };
    amount.ok_or_else(|| "must be bytes, like 4096, \"64 KiB\" or \"1 MiB\"".to_owned())
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let texts = match value {
        Value::List(items) => items.iter().map(text).collect(),
        _ => None,
    };
    texts.ok_or_else(|| "must be a list of texts, like [\"one\", \"two\"]".to_owned())
}

fn one_of(choices: &[&str], text: &str) -> Result<(), String> {
    if choices.contains(&text) {
        return Ok(());
    }
    Err(format!("must be one of {}", choices.join(", ")))
}

/// How many characters must be added, removed or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn problems(text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        read(&tree::parse(text).unwrap(), &mut violations);
        violations.into_iter().map(|v| format!("{}: {}", v.path, v.problem)).collect()
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest_known_one() {
        assert_eq!(
            problems("[websoket]"),
            ["websoket: no such section or setting; did you mean websocket?"]
        );
        assert_eq!(
            problems("[http]\nheader_max = 1"),
            ["http.header_max: no such setting; did you mean headers_max?"]
        );
        assert_eq!(
            problems("[http]\nping_interval = '1s'"),
            ["http.ping_interval: no such setting; it belongs to section websocket"]
        );
        assert_eq!(
            problems("[ring]\nshards = 3"),
            [
                "ring.shards: no such setting; it belongs to the top of the file, before all sections"
            ]
        );
        assert_eq!(problems("[ring]\nzzz = 3"), ["ring.zzz: no such setting"]);
    }

    #[test]
    fn each_kind_tells_what_it_wants() {
        for (text, problem) in [
            ("pin_threads = 1", "pin_threads: must be true or false"),
            ("shards = -1", "shards: must be between 0 and 256"),
            ("shards = '2'", "shards: must be a whole number without a unit"),
            (
                "http.head_bytes_max = '64 KB'",
                "http.head_bytes_max: must be bytes, like 4096, \"64 KiB\" or \"1 MiB\"",
            ),
            ("http.head_bytes_max = 10", "http.head_bytes_max: must be between 1 KiB and 64 KiB"),
            (
                "http.head_timeout = 5",
                "http.head_timeout: must be a time with its unit, like \"30s\", \"250ms\" or \"5m\"",
            ),
            ("http.head_timeout = '1ms'", "http.head_timeout: must be between 100ms and 5m"),
            ("operator.address = 9000", "operator.address: must be a text in quotes"),
            ("log.level = 'loud'", "log.level: must be one of error, warn, info, debug, trace"),
            (
                "listener = [{ origins = 'x' }]",
                "listener.0.origins: must be a list of texts, like [\"one\", \"two\"]",
            ),
            (
                "ring.disable = ['sqpoll']",
                "ring.disable: must be one of incremental_buffers, msg_ring, no_sqarray, registered_ring, multishot_accept, restrictions",
            ),
            ("ring = 3", "ring: is a section: [ring]"),
            ("[listener]", "listener: is a section that may come several times: [[listener]]"),
            (
                "listener = [1]",
                "listener.0: is a section that may come several times: [[listener]]",
            ),
        ] {
            assert_eq!(problems(text), [problem], "{text}");
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for key in SECTIONS.iter().flat_map(|section| section.keys) {
            default_of(key);
        }
    }
}
