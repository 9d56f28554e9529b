//! The text and the overrides as one tree whose leaves know where they come from.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::violation::{Place, Violation};

/// A value that somebody wrote.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// The types of TOML that settings use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Switch(bool),
    Integer(i128),
    Text(String),
    List(Vec<Node>),
    Table(Table),
    /// A type that no setting has, as written.
    Other(String),
}

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table(pub(super) Vec<(String, Node)>);

impl Table {
    pub(super) fn find(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, node)| node)
    }

    fn entry(&mut self, name: &str) -> &mut Node {
        let index = self.0.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            let value = Value::Table(Self::default());
            self.0.push((name.to_owned(), Node { place: Place::Override, value }));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }
}

impl Value {
    /// As TOML would write it, shortened.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Switch(on) => on.to_string(),
            Self::Integer(n) => n.to_string(),
            Self::Text(text) if text.chars().count() > 60 => {
                format!("{:?}…", text.chars().take(60).collect::<String>())
            }
            Self::Text(text) => format!("{text:?}"),
            Self::List(items) => {
                let shown: Vec<String> = items.iter().take(8).map(|n| n.value.show()).collect();
                format!("[{}{}]", shown.join(", "), if items.len() > 8 { ", …" } else { "" })
            }
            Self::Table(_) => "{…}".to_owned(),
            Self::Other(text) => text.clone(),
        }
    }
}

/// Parses `text`.
///
/// Errors: every place that is not TOML.
pub(super) fn parse(text: &str) -> Result<Table, Vec<Violation>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(from_table(table.get_ref(), &|offset| place_of(text, offset)));
    }
    let violation = |error: &toml::de::Error| Violation {
        place: place_of(text, error.span().map_or(text.len(), |span| span.start)),
        path: String::new(),
        value: None,
        problem: format!("not TOML: {}", error.message()),
    };
    Err(errors.iter().map(violation).collect())
}

/// Parses what stands alone: a TOML value, or a text without quotes.
///
/// Errors: it begins like a quoted text, a list or a table, and is none.
pub(super) fn parse_value(text: &str, place: Place) -> Result<Value, String> {
    match DeValue::parse(text) {
        Ok(value) => Ok(from_value(value.get_ref(), &|_| place)),
        Err(error) if text.starts_with(['"', '\'', '[', '{']) => Err(error.message().to_owned()),
        Err(_) => Ok(Value::Text(text.to_owned())),
    }
}

/// Puts `key.path=value` into `tree`. Elements of lists are counted from 0; the one after the last
/// is added.
///
/// Errors: what is wrong with it.
pub(super) fn apply(tree: &mut Table, text: &str) -> Result<(), Violation> {
    let wrong = |path: &str, problem: String| Violation {
        place: Place::Override,
        path: path.to_owned(),
        value: None,
        problem,
    };
    let Some((path, value)) = text.split_once('=') else {
        return Err(wrong(text, "write it as key.path=value".to_owned()));
    };
    let path = path.trim();
    let value = parse_value(value.trim(), Place::Override)
        .map_err(|e| wrong(path, format!("not TOML: {e}")))?;
    let mut names = path.split('.');
    let mut node = tree.entry(names.next().unwrap_or_default());
    for name in names {
        if name == "0" && node.value == Value::Table(Table::default()) {
            node.value = Value::List(Vec::new());
        }
        node = match &mut node.value {
            Value::Table(table) => table.entry(name),
            Value::List(items) => {
                let len = items.len();
                let found = name.parse().ok().and_then(|index| element(items, index));
                let problem =
                    || format!("has no {name:?}: write a number up to {len}, counted from 0");
                found.ok_or_else(|| wrong(path, problem()))?
            }
            _ => return Err(wrong(path, format!("has no {name:?}: a value stands before it"))),
        };
    }
    *node = Node { place: Place::Override, value };
    Ok(())
}

fn element(items: &mut Vec<Node>, index: usize) -> Option<&mut Node> {
    if index == items.len() {
        items.push(Node { place: Place::Override, value: Value::Table(Table::default()) });
    }
    items.get_mut(index)
}

fn from_table(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (&Spanned<toml::de::DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let node =
            Node { place: place(key.span().start), value: from_value(value.get_ref(), place) };
        (key.get_ref().to_string(), node)
    };
    Table(table.iter().map(entry).collect())
}

fn from_list(list: &DeArray<'_>, place: &dyn Fn(usize) -> Place) -> Vec<Node> {
    let node = |value: &Spanned<DeValue<'_>>| Node {
        place: place(value.span().start),
        value: from_value(value.get_ref(), place),
    };
    list.iter().map(node).collect()
}

fn from_value(value: &DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix())
            .map_or_else(|_| Value::Other(n.to_string()), Value::Integer),
        DeValue::Boolean(on) => Value::Switch(*on),
        DeValue::Array(list) => Value::List(from_list(list, place)),
        DeValue::Table(table) => Value::Table(from_table(table, place)),
        DeValue::Float(n) => Value::Other(n.to_string()),
        DeValue::Datetime(time) => Value::Other(time.to_string()),
    }
}

fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Place::Text {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str, overrides: &[&str]) -> Table {
        let mut tree = parse(text).unwrap();
        for text in overrides {
            apply(&mut tree, text).unwrap();
        }
        tree
    }

    fn show(tree: &Table, section: &str, name: &str) -> String {
        match &tree.find(section).unwrap().value {
            Value::Table(table) => table.find(name).unwrap().value.show(),
            Value::List(items) => items.iter().fold(String::new(), |all, item| {
                let Value::Table(table) = &item.value else { panic!("{item:?}") };
                all + &table.find(name).unwrap().value.show()
            }),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_know_their_line_and_column() {
        let tree = tree("a = 1\n\n['é']\n  x = 1\n'ü' = 2\n", &[]);
        assert_eq!(tree.find("a").unwrap().place, Place::Text { line: 1, column: 1 });
        let Value::Table(inner) = &tree.find("é").unwrap().value else { panic!() };
        assert_eq!(inner.find("x").unwrap().place, Place::Text { line: 4, column: 3 });
        assert_eq!(inner.find("ü").unwrap().place, Place::Text { line: 5, column: 1 });
    }

    #[test]
    fn overrides_replace_add_and_need_no_quotes() {
        let tree = tree("[a]\nx = 1\ny = 2\n", &["a.x=64 KiB", "a.z=true", "b.n = [1, 2]"]);
        assert_eq!(show(&tree, "a", "x"), "\"64 KiB\"");
        assert_eq!(show(&tree, "a", "y"), "2");
        assert_eq!(show(&tree, "a", "z"), "true");
        assert_eq!(show(&tree, "b", "n"), "[1, 2]");
    }

    #[test]
    fn overrides_reach_elements_of_lists_by_number() {
        let tree =
            tree("[[l]]\nx = 1\n[[l]]\nx = 2\n", &["l.1.x=7", "l.2.x=8", "m.0.x=1", "m.1.x=5"]);
        assert_eq!(show(&tree, "l", "x"), "178");
        assert_eq!(show(&tree, "m", "x"), "15");
    }

    #[test]
    fn an_override_that_fits_nowhere_is_told() {
        let mut tree = tree("[[l]]\nx = 1\n", &[]);
        for (text, problem) in [
            ("l.x", "write it as key.path=value"),
            ("l.9.x=1", "has no \"9\": write a number up to 1, counted from 0"),
            ("l.0.x.y=1", "has no \"y\": a value stands before it"),
        ] {
            assert_eq!(apply(&mut tree, text).unwrap_err().problem, problem);
        }
        assert!(apply(&mut tree, "a=[1").unwrap_err().problem.starts_with("not TOML: "));
    }

    #[test]
    fn every_line_that_is_not_toml_is_told() {
        let violations = parse("a = \nb = 1\né = 2\nd = 3").unwrap_err();
        let places: Vec<Place> = violations.iter().map(|v| v.place).collect();
        assert!(places.contains(&Place::Text { line: 1, column: 5 }), "{violations:?}");
        assert!(places.contains(&Place::Text { line: 3, column: 1 }), "{violations:?}");
        assert!(violations.iter().all(|v| v.problem.starts_with("not TOML: ")));
    }
}
