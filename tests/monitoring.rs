//! The rules for Prometheus and the dashboard ask for metrics that there are, and for each alert there
//! is a runbook and a test.
//!
//! What promtool can check, `tests/run-deploy.sh` has it check.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ringway::dialect::cause::{Cause, Initiator};
use ringway::metrics::catalogue::{ALL, Entry, Kind};
use serde_json::Value;

const ALERTS: &str = "deploy/prometheus/ringway.alerts.yml";
const RECORDING: &str = "deploy/prometheus/ringway.recording.yml";
const DASHBOARD: &str = "deploy/prometheus/grafana-dashboard.json";
const RUNBOOKS: &str = "docs/runbooks.md";
const UNIT_TESTS: &str = "tests/deploy/alerts.test.yml";

/// Labels that Prometheus itself adds.
const TARGET: [&str; 2] = ["job", "instance"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// One rule of a file, as far as it is looked at here.
#[derive(Debug, Default)]
struct Rule {
    name: String,
    expr: String,
    /// `severity`, `summary`, `runbook`.
    notes: BTreeMap<String, String>,
}

/// The rules of a file that is written as ours are: one `key: value` to a line, long expressions as
/// blocks.
fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut block = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        if let Some(level) = block {
            if indent > level {
                let rule = rules.last_mut().unwrap();
                rule.expr = format!("{} {}", rule.expr, line.trim());
                continue;
            }
            block = None;
        }
        let Some((key, value)) = line.trim().split_once(": ") else { continue };
        match key {
            "- alert" | "- record" => {
                rules.push(Rule { name: value.to_owned(), ..Rule::default() });
            }
            "expr" if value == ">-" => block = Some(indent),
            "expr" => rules.last_mut().unwrap().expr = value.to_owned(),
            "severity" | "summary" | "runbook" => {
                let value = value.trim_matches('"').to_owned();
                rules.last_mut().unwrap().notes.insert(key.to_owned(), value);
            }
            _ => {}
        }
    }
    rules
}

/// What the dashboard asks, each with the labels that its legend shows.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            let text = |key: &str| target[key].as_str().unwrap().to_owned();
            queries.push((text("expr"), text("legendFormat")));
        }
    }
    let starts = dashboard["annotations"]["list"].as_array().unwrap();
    queries.extend(starts.iter().map(|entry| {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        (text("expr"), text("titleFormat"))
    }));
    queries
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The series that an expression names: ours, and those that are recorded; with their matchers.
fn selectors(expr: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(at) = rest.find("ringway_") {
        let begin = rest[..at].rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
        let end = rest[at..].find(|c| !is_name(c)).map_or(rest.len(), |len| at + len);
        let name = &rest[begin..end];
        rest = &rest[end..];
        let mut matchers = Vec::new();
        if let Some(inside) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            rest = inside.1;
            let mut text = inside.0;
            while let Some((label, after)) = text.split_once(['=', '!']) {
                let after = after.trim_start_matches(['=', '~']);
                let value = after.split('"').nth(1).unwrap();
                text = &after[value.len() + 2..];
                matchers.push((label.trim_matches([',', ' ']), value));
            }
        }
        found.push((name, matchers));
    }
    found
}

/// Labels after `by`, `without`, `on`, `ignoring`, and in a legend.
fn named_labels<'a>(expr: &'a str, legend: &'a str) -> Vec<&'a str> {
    let mut labels = Vec::new();
    for word in ["by (", "without (", "on (", "ignoring ("] {
        let lists = expr.split(word).skip(1).filter_map(|after| after.split(')').next());
        labels.extend(lists.flat_map(|list| list.split(',').map(str::trim)));
    }
    let shown = legend.split("{{").skip(1).filter_map(|after| after.split("}}").next());
    labels.extend(shown.map(|label| label.trim().trim_start_matches("$labels.")));
    labels
}

/// The metric of the catalogue whose series is called `name`.
fn entry(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| match entry.kind {
        Kind::Histogram => name
            .strip_prefix(entry.name)
            .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
        Kind::Counter | Kind::Gauge => entry.name == name,
    })
}

/// The labels of each recorded series: those it is summed by, or those of what it is made of.
fn recorded() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    for rule in rules(&read(RECORDING)) {
        let mut labels: BTreeSet<String> =
            named_labels(&rule.expr, "").into_iter().map(str::to_owned).collect();
        labels.remove("le");
        labels.extend(TARGET.map(str::to_owned));
        series.insert(rule.name, labels);
    }
    series
}

/// What is wrong with a query: metrics, labels and values that there are not.
fn faults(expr: &str, legend: &str, recorded: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = TARGET.into_iter().chain(["le"]).collect();
    for (name, matchers) in selectors(expr) {
        let labels: BTreeSet<&str> = match (entry(name), recorded.get(name)) {
            (Some(entry), _) => entry.labels.iter().copied().chain(TARGET).collect(),
            (None, Some(labels)) => labels.iter().map(String::as_str).collect(),
            (None, None) => {
                faults.push(format!("there is no {name}"));
                continue;
            }
        };
        known.extend(&labels);
        for (label, value) in matchers {
            if !labels.contains(label) {
                faults.push(format!("{name} has no label {label}"));
            }
            let is_known = |value: &str| match label {
                "cause" => Cause::ALL.iter().any(|cause| cause.label() == value),
                "initiator" => Initiator::ALL.iter().any(|initiator| initiator.label() == value),
                _ => true,
            };
            faults.extend(
                value
                    .split('|')
                    .filter(|value| !is_known(value))
                    .map(|value| format!("no {label} is called {value}")),
            );
        }
    }
    for label in named_labels(expr, legend) {
        if !known.contains(label) {
            faults.push(format!("nothing in it has a label {label}"));
        }
    }
    faults.into_iter().map(|fault| format!("{fault}: {expr}")).collect()
}

#[test]
fn rules_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let recorded = recorded();
    let mut wrong = Vec::new();
    for file in [ALERTS, RECORDING] {
        let rules = rules(&read(file));
        assert!(rules.len() > 5, "{file}: {} rules", rules.len());
        for rule in rules {
            assert!(!rule.expr.is_empty(), "{}", rule.name);
            let summary = rule.notes.get("summary").map_or("", String::as_str);
            let summary = summary.replace("{{ $value", "");
            wrong.extend(faults(&rule.expr, &summary, &recorded));
        }
    }
    let queries = dashboard_queries();
    assert!(queries.len() > 40, "{} queries", queries.len());
    for (expr, legend) in queries {
        wrong.extend(faults(&expr, &legend, &recorded));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_alert_has_a_severity_a_runbook_and_a_test() {
    let (runbooks, tests) = (read(RUNBOOKS), read(UNIT_TESTS));
    let mut sections: BTreeSet<&str> =
        runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for alert in rules(&read(ALERTS)) {
        let (name, notes) = (&alert.name, &alert.notes);
        assert!(["page", "ticket"].contains(&&*notes["severity"]), "{name}");
        assert!(!notes["summary"].is_empty(), "{name}");
        let anchor = format!("{RUNBOOKS}#{}", name.to_lowercase());
        assert_eq!(notes["runbook"], anchor, "{name}");
        assert!(sections.remove(&**name), "{RUNBOOKS} has no section {name}");
        assert!(tests.contains(&format!("alertname: {name}\n")), "{UNIT_TESTS} leaves {name} out");
    }
    let others: Vec<_> = sections.iter().filter(|name| name.starts_with("Ringway")).collect();
    assert!(others.is_empty(), "{RUNBOOKS} is about alerts that there are not: {others:?}");
}

#[test]
fn panels_of_the_dashboard_lie_beside_each_other() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{title} is outside the page");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{title} lies on another");
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_query_is_found() {
    let recorded =
        BTreeMap::from([("a:ringway_b:c".to_owned(), BTreeSet::from(["job".to_owned()]))]);
    let wrong = |expr: &str, legend: &str| faults(expr, legend, &recorded).join("\n");
    let good =
        r#"sum by (cause) (rate(ringway_closed_total{job=~"$job",cause=~"drain|shed"}[5m]))"#;
    assert_eq!(wrong(good, "{{cause}}"), "");
    assert_eq!(wrong("a:ringway_b:c / ringway_turn_seconds_sum", ""), "");
    assert!(wrong("ringway_clos_total", "").starts_with("there is no ringway_clos_total"));
    assert!(wrong("ringway_turn_seconds", "").starts_with("there is no ringway_turn_seconds"));
    assert!(wrong(r#"ringway_topics{cause="drain"}"#, "").contains("has no label cause"));
    assert!(wrong(r#"ringway_closed_total{cause="drian"}"#, "").contains("called drian"));
    assert!(wrong("sum by (shard) (ringway_topics)", "").contains("a label shard"));
    assert!(wrong("ringway_topics", "{{ $labels.shard }}").contains("a label shard"));
    assert!(wrong(r#"a:ringway_b:c{cause="drain"}"#, "").contains("has no label cause"));
}
