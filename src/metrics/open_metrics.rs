//! The same numbers in the text format of OpenMetrics 1.0.
//!
//! The exporter's library writes Prometheus's older text format only. The two differ in four things:
//! the family of a counter is called without `_total`, bounds are floating-point numbers, there are
//! no empty lines, and the end is marked.

use std::fmt::Write;

/// The media type by which scrapers ask for it.
pub const MEDIA_TYPE: &str = "application/openmetrics-text";

/// Writes `text`, metrics in the older format (version 0.0.4), as OpenMetrics.
pub fn convert(text: &str) -> String {
    let mut converted = String::with_capacity(text.len() + 16);
    for line in text.lines().filter(|line| !line.is_empty()) {
        // Writing to a string cannot fail.
        let _ = match (head(line), bound(line)) {
            (Some((keyword, family, rest)), _) => {
                writeln!(converted, "{keyword}{} {rest}", family.trim_end_matches("_total"))
            }
            (None, Some((before, whole, after))) => {
                writeln!(converted, "{before}{whole}.0{after}")
            }
            (None, None) => writeln!(converted, "{line}"),
        };
    }
    converted.push_str("# EOF\n");
    converted
}

/// The parts of a line that begins a family.
fn head(line: &str) -> Option<(&str, &str, &str)> {
    let keyword = ["# HELP ", "# TYPE "].into_iter().find(|keyword| line.starts_with(keyword))?;
    let (family, rest) = line[keyword.len()..].split_once(' ')?;
    Some((keyword, family, rest))
}

/// A bucket's bound that is written as a whole number, and what stands around it.
fn bound(line: &str) -> Option<(&str, &str, &str)> {
    // Where there is one, it is the last label.
    let (before, _) = line.rsplit_once("le=\"")?;
    if !before.ends_with(['{', ',']) {
        return None;
    }
    let begin = before.len() + "le=\"".len();
    let end = begin + line[begin..].find('"')?;
    let is_whole = line[begin..end].bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| (&line[..begin], &line[begin..end], &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_bounds_and_the_end_are_those_of_openmetrics() {
        let text = "# HELP x_seen_total Things seen.\n# TYPE x_seen_total counter\n\
                    x_seen_total{cause=\"a\"} 3\n\n\
                    # HELP x_topics Topics.\n# TYPE x_topics gauge\nx_topics 2\n\n\
                    # HELP x_turn_seconds Turns.\n# TYPE x_turn_seconds histogram\n\
                    x_turn_seconds_bucket{shard=\"0\",le=\"0.00001\"} 1\n\
                    x_turn_seconds_bucket{shard=\"0\",le=\"1\"} 1\n\
                    x_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 1\n\n";
        let expected = "# HELP x_seen Things seen.\n# TYPE x_seen counter\n\
                        x_seen_total{cause=\"a\"} 3\n\
                        # HELP x_topics Topics.\n# TYPE x_topics gauge\nx_topics 2\n\
                        # HELP x_turn_seconds Turns.\n# TYPE x_turn_seconds histogram\n\
                        x_turn_seconds_bucket{shard=\"0\",le=\"0.00001\"} 1\n\
                        x_turn_seconds_bucket{shard=\"0\",le=\"1.0\"} 1\n\
                        x_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(convert(text), expected);
    }

    #[test]
    fn a_label_that_only_ends_like_a_bound_stays() {
        let line = "x{title=\"1\"} 1\n";
        assert_eq!(convert(line), "x{title=\"1\"} 1\n# EOF\n");
    }
}
