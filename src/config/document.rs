//! A configuration that can be compared with another one, and taken over as far as that is possible
//! without a restart.

use std::fmt;

use super::keys::{Elements, Reload, Section, Shape};
use super::reader::{Sections, Settings, Typed, join};
use super::violation::Violations;
use super::{Config, build, conflict, reader, tree};

/// What stands for the value of a secret.
const SECRET: &str = "(secret)";

/// A checked configuration, with its settings as they were written.
#[derive(Clone)]
pub struct Document {
    config: Config,
    sections: Sections,
    origin: String,
}

/// What another configuration changes about one setting, or about a whole section that comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `section.key`; `section.0.key` in a repeated one, counted from 0.
    pub path: String,
    /// The value until now; `None`: the section was not there.
    pub from: Option<String>,
    /// The value in the other configuration; `None`: the section is not there.
    pub to: Option<String>,
    /// For whom the change counts.
    pub reload: Reload,
}

impl Document {
    /// Reads `text` and then `overrides`, as [`super::parse`] does.
    ///
    /// Errors: the same.
    pub fn parse(text: &str, origin: &str, overrides: &[String]) -> Result<Self, Violations> {
        let mut violations = Vec::new();
        let mut tree = match tree::parse(text) {
            Ok(tree) => tree,
            Err(list) => return Err(Violations { origin: origin.to_owned(), list }),
        };
        for text in overrides {
            violations.extend(tree::apply(&mut tree, text).err());
        }
        let sections = reader::read(&tree, &mut violations);
        let config = check(&sections, &mut violations);
        if violations.is_empty() {
            return Ok(Self { config, sections, origin: origin.to_owned() });
        }
        violations.sort_by_key(|violation| violation.place);
        Err(Violations { origin: origin.to_owned(), list: violations })
    }

    /// The settings that rooms take.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What `next` would change, in the order of the list of settings.
    pub fn changes_to(&self, next: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((section, old), (_, new)) in self.sections.0.iter().zip(&next.sections.0) {
            for pair in pairs(section, old, new) {
                match pair {
                    Pair::Both(old, new) => compare(old, new, &mut changes),
                    Pair::Gone(old) => changes.push(comes_or_goes(section, old, Side::Gone)),
                    Pair::Added(new) => changes.push(comes_or_goes(section, new, Side::Added)),
                }
            }
        }
        changes
    }

    /// What a process that runs with this goes on with when it takes `next` over: all of it but what
    /// needs a restart.
    ///
    /// Errors: what of `next` does not go together with what must stay as it is.
    pub fn renewed_by(&self, next: &Self) -> Result<Self, Violations> {
        let sections = self.sections.0.iter().zip(&next.sections.0);
        let sections = sections.map(|((section, old), (_, new))| {
            let kept = pairs(section, old, new).into_iter().filter_map(|pair| match pair {
                Pair::Both(old, new) => Some(merge(section, old, new)),
                Pair::Gone(old) => (goes(section) == Reload::Restart)
                    .then(|| old.with_settings(old.settings().into_iter())),
                Pair::Added(new) => (comes(section) != Reload::Restart)
                    .then(|| new.with_settings(new.settings().into_iter())),
            });
            (*section, kept.collect())
        });
        let sections = Sections(sections.collect());
        let mut list = Vec::new();
        let config = check(&sections, &mut list);
        if list.is_empty() {
            return Ok(Self { config, sections, origin: next.origin.clone() });
        }
        Err(Violations { origin: next.origin.clone(), list })
    }
}

fn check(sections: &Sections, violations: &mut Vec<super::violation::Violation>) -> Config {
    let config = build::build(sections, violations);
    debug_assert_eq!(sections.untaken(), [""; 0], "every setting has a use");
    conflict::report(&config, sections, violations);
    config
}

/// A section in two configurations.
enum Pair<'a> {
    Both(&'a Settings, &'a Settings),
    Gone(&'a Settings),
    Added(&'a Settings),
}

/// Which elements of a section go on as which; those that were there come first, in their order.
fn pairs<'a>(section: &Section, old: &'a [Settings], new: &'a [Settings]) -> Vec<Pair<'a>> {
    let counterpart = |(index, one): (usize, &Settings), others: &'a [Settings]| match section.shape
    {
        Shape::Repeated(Elements::Known { by, .. }) => {
            others.iter().find(|other| value(other, by) == value(one, by))
        }
        Shape::Top | Shape::Single | Shape::Repeated(Elements::Replaced) => others.get(index),
    };
    let known =
        old.iter().enumerate().map(|(index, settings)| match counterpart((index, settings), new) {
            Some(next) => Pair::Both(settings, next),
            None => Pair::Gone(settings),
        });
    let added = new
        .iter()
        .enumerate()
        .filter(|(index, settings)| counterpart((*index, settings), old).is_none());
    known.chain(added.map(|(_, settings)| Pair::Added(settings))).collect()
}

fn value(settings: &Settings, name: &str) -> Option<Typed> {
    settings.settings().into_iter().find(|setting| setting.key.name == name).map(|s| s.typed)
}

fn compare(old: &Settings, new: &Settings, changes: &mut Vec<Change>) {
    for (old_setting, setting) in old.settings().into_iter().zip(new.settings()) {
        if old_setting.typed != setting.typed {
            let show = |shown: Option<String>| Some(shown.unwrap_or_else(|| SECRET.to_owned()));
            changes.push(Change {
                path: join(&new.path, setting.key.name),
                from: show(old_setting.shown),
                to: show(setting.shown),
                reload: setting.key.reload,
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Added,
    Gone,
}

fn comes_or_goes(section: &Section, settings: &Settings, side: Side) -> Change {
    let name = match section.shape {
        Shape::Repeated(Elements::Known { by, .. }) => by,
        Shape::Top | Shape::Single | Shape::Repeated(Elements::Replaced) => section.keys[0].name,
    };
    let shown = settings.settings().into_iter().find(|setting| setting.key.name == name);
    let shown = shown.and_then(|setting| setting.shown);
    let path = settings.path.clone();
    match side {
        Side::Added => Change { path, from: None, to: shown, reload: comes(section) },
        Side::Gone => Change { path, from: shown, to: None, reload: goes(section) },
    }
}

fn comes(section: &Section) -> Reload {
    match section.shape {
        Shape::Repeated(Elements::Known { added, .. }) => added,
        Shape::Top | Shape::Single | Shape::Repeated(Elements::Replaced) => section.keys[0].reload,
    }
}

fn goes(section: &Section) -> Reload {
    match section.shape {
        Shape::Repeated(Elements::Known { removed, .. }) => removed,
        Shape::Top | Shape::Single | Shape::Repeated(Elements::Replaced) => section.keys[0].reload,
    }
}

/// The settings of `new`, but those of `old` that need a restart.
fn merge(section: &Section, old: &Settings, new: &Settings) -> Settings {
    let is_identity = |name: &str| matches!(section.shape, Shape::Repeated(Elements::Known { by, .. }) if by == name);
    let settings = old.settings().into_iter().zip(new.settings());
    new.with_settings(settings.map(|(old, new)| match new.key.reload {
        Reload::Restart if !is_identity(new.key.name) => old,
        Reload::Restart | Reload::Live | Reload::Newcomers => new,
    }))
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, from, to, reload: _ } = self;
        match (from, to) {
            (None, to) => write!(f, "{path}: added {}", to.as_deref().unwrap_or_default()),
            (Some(from), None) => write!(f, "{path}: removed {from}"),
            (Some(from), Some(to)) => write!(f, "{path}: {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text, "test.toml", &[]).unwrap_or_else(|violations| panic!("{violations}"))
    }

    fn changes(old: &str, new: &str) -> Vec<String> {
        let changes = document(old).changes_to(&document(new));
        changes.iter().map(|change| format!("{change} ({})", change.reload.name())).collect()
    }

    #[test]
    fn a_change_is_told_with_both_values_and_for_whom_it_counts() {
        let old = "shards = 2\n[outbox]\nbytes_max = \"1 MiB\"\n[operator]\napi_key = \"0123456789abcdef\"";
        let new = "shards = 4\n[outbox]\nbytes_max = \"2 MiB\"\n[http]\nheaders_max = 32";
        assert_eq!(
            changes(old, new),
            [
                "shards: 2 -> 4 (restart)",
                "operator.api_key: (secret) -> (secret) (live)",
                "http.headers_max: 64 -> 32 (new connections)",
                "outbox.bytes_max: \"1 MiB\" -> \"2 MiB\" (live)",
            ]
        );
        // The same value in other words is no change.
        assert_eq!(changes("outbox.bytes_max = \"1 MiB\"", "outbox.bytes_max = 1048576"), [""; 0]);
    }

    #[test]
    fn elements_go_on_under_what_tells_them_apart_wherever_they_stand() {
        let [a, b, c] = [1, 2, 3].map(|n| format!("[[listener]]\naddress = \"127.0.0.1:{n}\"\n"));
        let old = format!("{a}{b}[[namespace]]\n[[namespace]]\nname = \"x\"\n");
        let new = format!(
            "{c}{b}connections_max = 7\n[[namespace]]\nname = \"y\"\n[[namespace]]\nrecovery = false\n"
        );
        assert_eq!(
            changes(&old, &new),
            [
                "listener.0: removed \"127.0.0.1:1\" (restart)",
                "listener.1.connections_max: 0 -> 7 (new connections)",
                "listener.0: added \"127.0.0.1:3\" (restart)",
                "namespace.1.recovery: true -> false (live)",
                "namespace.1: removed \"x\" (restart)",
                "namespace.0: added \"y\" (live)",
            ]
        );
        let renewed = document(&old).renewed_by(&document(&new)).unwrap();
        let ports: Vec<u16> = renewed.config.listeners.iter().map(|l| l.address.port()).collect();
        assert_eq!(ports, [1, 2]);
        assert_eq!(renewed.config.listeners[1].connections_max, Some(7));
        let names: Vec<&str> = renewed.config.namespaces.iter().map(|n| &*n.name).collect();
        assert_eq!(names, ["", "x", "y"]);
        assert!(!renewed.config.namespaces[0].recovery);
        // What is left is what needs a restart, and nothing else.
        let left = renewed.changes_to(&document(&new));
        assert!(left.iter().all(|change| change.reload == Reload::Restart), "{left:?}");
        assert_eq!(left.len(), 3);
    }

    #[test]
    fn certificates_are_replaced_as_a_whole() {
        let one =
            |name: &str| format!("[[certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        let (old, new) = (one("a"), one("b") + &one("c"));
        assert_eq!(
            changes(&old, &new),
            [
                "certificate.0.chain: \"a.pem\" -> \"b.pem\" (new connections)",
                "certificate.0.key: \"a.key\" -> \"b.key\" (new connections)",
                "certificate.1: added \"c.pem\" (new connections)",
            ]
        );
        let renewed = document(&new).renewed_by(&document(&old)).unwrap();
        assert_eq!(renewed.config, *document(&old).config());
    }

    #[test]
    fn what_stays_must_go_together_with_what_changes() {
        let old = document("[centrifuge]\nping_interval = \"20s\"\n[ring]\nentries = 4096");
        let new = document("[centrifuge]\nping_interval = \"9s\"\npong_timeout = \"1s\"");
        let renewed = old.renewed_by(&new).unwrap();
        assert_eq!(renewed.config.centrifuge, old.config.centrifuge);
        // A namespace that needs a restart to go keeps more than the new outbox can take.
        let old =
            document("[[namespace]]\n[[namespace]]\nname = \"x\"\nhistory_bytes_max = \"400 KiB\"");
        let new = document("[outbox]\nbytes_max = \"512 KiB\"\n[[namespace]]\n");
        let refused = old.renewed_by(&new).err().expect("it does not fit").to_string();
        assert!(
            refused.contains("history_bytes_max") && refused.contains("half of outbox"),
            "{refused}"
        );
    }
}
