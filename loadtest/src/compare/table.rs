//! A comparison for people to read.

use std::fmt::Write as _;

use super::result::{Comparison, Ratio, Row};

/// One line for each load, figure and other server.
pub(super) fn of(comparison: &Comparison) -> String {
    let first = comparison.servers.first().map_or("", |server| &server.name);
    let mut lines = vec![
        ["load", "unit", "other", first, "other", "ratio", "80 %", "p50 us", "p99 us"]
            .map(str::to_owned),
    ];
    for row in &comparison.rows {
        for (at, ratio) in row.ratios.iter().enumerate() {
            lines.push(line(row, at + 1, &comparison.servers[at + 1].name, ratio));
        }
        if row.ratios.is_empty() {
            let (value, no) = (figure(row.found.first().and_then(|one| one.median)), String::new);
            let p50 = figure(row.found.first().and_then(|one| one.p50_us));
            let p99 = figure(row.found.first().and_then(|one| one.p99_us));
            let (load, unit) = (row.load.clone(), row.unit.clone());
            lines.push([load, unit, no(), value, no(), no(), no(), p50, p99]);
        }
    }
    let mut table = String::new();
    for line in &lines {
        for (column, text) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            // Words to the left, figures to the right; a String takes everything.
            _ = if column < 3 {
                write!(table, "{text:width$}  ")
            } else {
                write!(table, "{text:>width$}  ")
            };
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    let machine = &comparison.machine;
    _ = writeln!(
        table,
        "\nMedians of {} pairs; latencies of both. Servers on CPU {}, generator on {}; Linux {}, {}.",
        comparison.pairs,
        machine.server_cpus,
        machine.generator_cpus,
        machine.kernel,
        machine.processor
    );
    if comparison.rows.iter().flat_map(|row| &row.ratios).any(Ratio::is_slower) {
        table += "! p50 or p99 is more than 1.1 times the other's: a saving of CPU does not count there.\n";
    }
    table
}

fn line(row: &Row, other: usize, name: &str, ratio: &Ratio) -> [String; 9] {
    let (own, others) = (&row.found[0], &row.found[other]);
    let interval = ratio.interval.map(|[low, high]| format!("{low:.2}-{high:.2}"));
    let both = |own, others| match (own, others) {
        (None, None) => String::new(),
        _ => format!("{} / {}", figure(own), figure(others)),
    };
    let mark = if ratio.is_slower() { " !" } else { "" };
    [
        row.load.clone(),
        row.unit.clone(),
        name.to_owned(),
        figure(own.median),
        figure(others.median),
        ratio.median.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        interval.unwrap_or_else(|| "-".to_owned()),
        both(own.p50_us, others.p50_us),
        both(own.p99_us, others.p99_us) + mark,
    ]
}

/// Three digits that mean something.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let all = [1234.5, 12.345, 1.2345, 0.12345, 0.0].map(|value| figure(Some(value)));
        assert_eq!(all, ["1234", "12.3", "1.23", "0.123", "0.000"]);
        assert_eq!(figure(None), "-");
    }
}
