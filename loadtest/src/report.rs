//! The result: named figures, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::histogram::Histogram;

/// What was wrong. Anything but zero fails the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Sent, and never arrived; expected closes that never came.
    pub(crate) missing: u64,
    /// Arrived again.
    pub(crate) duplicated: u64,
    /// Arrived after a later one.
    pub(crate) out_of_order: u64,
    /// Not what was sent, or against the protocol.
    pub(crate) wrong: u64,
    /// Commands that the server refused.
    pub(crate) refused: u64,
    /// Connections that did not come up.
    pub(crate) failed: u64,
    /// Connections that ended by themselves.
    pub(crate) lost: u64,
    /// Times that a closed loop had to be started again.
    pub(crate) stalls: u64,
}

impl Faults {
    /// Adds those of another part of the run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.failed += other.failed;
        self.lost += other.lost;
        self.stalls += other.stalls;
    }

    /// Something was wrong.
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Named figures in order.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<(String, Value)>);

impl Report {
    /// Adds a figure.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds a quotient, with three decimals; `null` when there is nothing to divide by.
    pub(crate) fn put_ratio(&mut self, name: &str, over: f64, under: f64) {
        let ratio =
            if under > 0.0 { json!((over / under * 1e3).round() / 1e3) } else { Value::Null };
        self.put(name, ratio);
    }

    /// Adds percentiles in microseconds, if anything was counted.
    pub(crate) fn put_latency(&mut self, name: &str, histogram: &Histogram) {
        if histogram.total() == 0 {
            return;
        }
        for (quantile, per_mille) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
            let nanos = histogram.quantile(per_mille);
            self.put_ratio(&format!("{name}_{quantile}_us"), nanos as f64, 1e3);
        }
        self.put_ratio(&format!("{name}_max_us"), histogram.max() as f64, 1e3);
    }

    /// Adds all kinds of faults.
    pub(crate) fn put_faults(&mut self, faults: &Faults) {
        for (name, count) in [
            ("missing", faults.missing),
            ("duplicated", faults.duplicated),
            ("out_of_order", faults.out_of_order),
            ("wrong", faults.wrong),
            ("refused", faults.refused),
            ("failed", faults.failed),
            ("lost", faults.lost),
            ("stalls", faults.stalls),
        ] {
            self.put(name, count);
        }
    }

    /// One figure per line.
    pub(crate) fn table(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.iter().fold(String::new(), |mut table, (name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            _ = writeln!(table, "{name:width$}  {text}"); // a String takes everything
            table
        })
    }

    /// One JSON object.
    pub(crate) fn json(self) -> Value {
        Value::Object(self.0.into_iter().collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_counts() {
        let mut names = Vec::new();
        for kind in 0..8 {
            let mut faults = Faults::default();
            let fields = [
                &mut faults.missing,
                &mut faults.duplicated,
                &mut faults.out_of_order,
                &mut faults.wrong,
                &mut faults.refused,
                &mut faults.failed,
                &mut faults.lost,
                &mut faults.stalls,
            ];
            for (index, field) in fields.into_iter().enumerate() {
                *field = u64::from(index == kind);
            }
            assert!(faults.any());
            let mut twice = faults.clone();
            twice.add(&faults);
            let mut report = Report::default();
            report.put_faults(&twice);
            let shown = report.0.iter().filter(|(_, value)| *value == json!(2));
            names.extend(shown.map(|(name, _)| name.clone()));
        }
        let all = "missing duplicated out_of_order wrong refused failed lost stalls";
        assert_eq!(names.join(" "), all);
        assert!(!Faults::default().any());
    }

    #[test]
    fn figures_are_aligned_and_quotients_rounded() {
        let mut report = Report::default();
        report.put("mode", "echo");
        report.put_ratio("per_second", 2.0, 3.0);
        report.put_ratio("none", 1.0, 0.0);
        assert_eq!(report.table(), "mode        echo\nper_second  0.667\nnone        null\n");
        assert_eq!(report.json(), json!({"mode": "echo", "per_second": 0.667, "none": null}));
    }

    #[test]
    fn latencies_are_in_microseconds() {
        let (mut report, mut histogram) = (Report::default(), Histogram::new());
        report.put_latency("latency", &histogram);
        assert_eq!(report.table(), "");
        histogram.record(64_000);
        report.put_latency("latency", &histogram);
        assert_eq!(report.json()["latency_p50_us"], json!(64.0));
    }
}
