//! A comparison as a picture: the ratio of each row with its interval, on one axis.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::compare::result::{Comparison, Ratio};

/// Draws the ratios of a result of `compare` as SVG, on standard output.
///
/// One line for each load, figure and other server; left of 1 the first server is the cheaper one.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plot {
    /// What `compare --json` wrote.
    result: PathBuf,
}

/// Pixels.
const WIDTH: f64 = 910.0;
const LABELS: f64 = 330.0;
const FIGURES: f64 = 200.0;
const HEAD: f64 = 58.0;
const LINE: f64 = 26.0;
const FOOT: f64 = 46.0;
/// The axis ends here, or at the next half above the largest ratio.
const AXIS_MIN: f64 = 1.5;
/// The axis never goes further; what lies beyond is drawn at its end and told by its figure.
const AXIS_MAX: f64 = 5.0;

/// Colours for light and for dark pages; the background is the page's.
const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .axis { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-dasharray: 4 3 }
  .good { fill: #1a7f37; stroke: #1a7f37 } .bad { fill: #bc4c00; stroke: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 }
    .axis { stroke: #3d444d } .one { stroke: #9198a1 }
    .good { fill: #3fb950; stroke: #3fb950 } .bad { fill: #f0883e; stroke: #f0883e }
  }
";

impl Plot {
    /// Prints the picture.
    ///
    /// Errors: the file cannot be read, is no result, or compares nothing.
    pub(crate) fn draw(&self) -> io::Result<ExitCode> {
        let told = |why: String| io::Error::other(format!("{}: {why}", self.result.display()));
        let text = fs::read_to_string(&self.result).map_err(|error| told(error.to_string()))?;
        let comparison = serde_json::from_str(&text).map_err(|error| told(error.to_string()))?;
        let picture = picture(&comparison).ok_or_else(|| told("it compares nothing".to_owned()))?;
        io::stdout().write_all(picture.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The picture as SVG; `None`: there is no ratio to draw.
fn picture(comparison: &Comparison) -> Option<String> {
    let first = comparison.servers.first()?;
    let others = comparison.servers.get(1..)?;
    let mut rows = Vec::new();
    for row in &comparison.rows {
        for (ratio, other) in row.ratios.iter().zip(others) {
            let name = format!("{} ({})", row.load, row.unit);
            let against =
                if others.len() > 1 { format!(" ÷ {}", other.name) } else { String::new() };
            rows.extend(ratio.median.map(|median| (name + &against, median, ratio)));
        }
    }
    let largest = rows.iter().map(|(_, median, _)| *median).reduce(f64::max)?;
    let axis = ((largest * 2.0).ceil() / 2.0).clamp(AXIS_MIN, AXIS_MAX);
    let across = |ratio: f64| LABELS + ratio.min(axis) / axis * (WIDTH - LABELS - FIGURES);
    let bottom = HEAD + rows.len() as f64 * LINE;
    let height = bottom + FOOT;
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let title = escaped(&format!("{} ÷ {}: less is better", first.name, names.join(", ")));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<text x=\"12\" y=\"24\">{title}</text>\n"
    );
    // A String takes everything.
    let mut tick = 0.0;
    while tick <= axis {
        let (x, class) = (across(tick), if tick == 1.0 { "one" } else { "axis" });
        _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{HEAD}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <text class=\"small\" x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{tick}</text>",
            HEAD - 8.0
        );
        tick += 0.5;
    }
    for (at, (name, median, ratio)) in rows.iter().enumerate() {
        let y = HEAD + (at as f64 + 0.5) * LINE;
        mark(&mut svg, y, name, *median, ratio, across);
    }
    let machine = &comparison.machine;
    let foot = format!(
        "Medians of {} pairs, lines: 80 % intervals. Linux {}, {}. Servers on CPU {}, generator on {}.",
        comparison.pairs,
        machine.kernel,
        machine.processor,
        machine.server_cpus,
        machine.generator_cpus
    );
    let y = bottom + FOOT - 18.0;
    _ = writeln!(svg, "<text class=\"small\" x=\"12\" y=\"{y}\">{}</text>\n</svg>", escaped(&foot));
    Some(svg)
}

/// One row: its name, its interval and median, its figures.
fn mark(
    svg: &mut String,
    y: f64,
    name: &str,
    median: f64,
    ratio: &Ratio,
    across: impl Fn(f64) -> f64,
) {
    let class = if median <= 1.0 && !ratio.is_slower() { "good" } else { "bad" };
    let text = y + 4.5;
    _ = writeln!(svg, "<text x=\"12\" y=\"{text}\">{}</text>", escaped(name));
    let mut figures = format!("{median:.2}");
    if let Some([low, high]) = ratio.interval {
        let (low_x, high_x) = (across(low), across(high));
        _ = writeln!(
            svg,
            "<line class=\"{class}\" stroke-width=\"2\" x1=\"{low_x:.1}\" y1=\"{y}\" x2=\"{high_x:.1}\" y2=\"{y}\"/>"
        );
        figures += &format!(" ({low:.2}–{high:.2})");
    }
    if ratio.is_slower() {
        figures += ", slower";
    }
    _ = writeln!(
        svg,
        "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y}\" r=\"4.5\"/><text x=\"{:.0}\" y=\"{text}\">{figures}</text>",
        across(median),
        WIDTH - FIGURES + 12.0
    );
}

/// Text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn comparison(rows: &serde_json::Value) -> Comparison {
        let server = |name: &str| json!({"name": name, "url": "ws://h:1", "command": "c"});
        serde_json::from_value(json!({
            "machine": {"kernel": "6", "processor": "p", "server_cpus": "0", "generator_cpus": "1"},
            "pairs": 9,
            "servers": [server("a"), server("b & c")],
            "rows": rows,
        }))
        .unwrap()
    }

    #[test]
    fn a_ratio_is_a_dot_with_its_interval() {
        let svg = picture(&comparison(&json!([{
            "load": "1 < 2", "arguments": "echo", "figure": "f", "unit": "us", "found": [],
            "ratios": [{"pairs": [], "median": 0.75, "interval": [0.5, 1.0], "p50": 1.0, "p99": null}],
        }])))
        .unwrap();
        // The axis is 380 pixels long for 1.5, and begins at 330.
        assert!(svg.contains("<circle class=\"good\" cx=\"520.0\""), "{svg}");
        assert!(svg.contains("x1=\"456.7\"") && svg.contains("x2=\"583.3\""), "{svg}");
        assert!(svg.contains("0.75 (0.50–1.00)") && svg.contains("1 &lt; 2 (us)"), "{svg}");
        assert!(svg.contains("a ÷ b &amp; c") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn what_is_dearer_or_slower_shows_and_stays_within_the_picture() {
        let svg = picture(&comparison(&json!([{
            "load": "x", "arguments": "echo", "figure": "f", "unit": "us", "found": [],
            "ratios": [{"pairs": [], "median": 9.0, "interval": null, "p50": 1.2, "p99": 1.0}],
        }])))
        .unwrap();
        assert!(
            svg.contains("<circle class=\"bad\" cx=\"710.0\"") && svg.contains(">9.00, slower<")
        );
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(picture(&comparison(&json!([]))).is_none());
    }
}
