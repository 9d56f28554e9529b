//! What a comparison found: every run's figures, and what follows from them.

use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::Mode;

use super::affinity::Cpus;
use super::cell::Cell;
use super::spec::ServerSpec;
use super::statistics::{interval, median};

/// A whole comparison, as `--json` writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How often every server ran each load, unless it was interrupted.
    pub(crate) pairs: u16,
    /// The servers; each of the others is compared with the first.
    pub(crate) servers: Vec<Named>,
    /// One for each load and figure.
    pub(crate) rows: Vec<Row>,
}

/// Where a comparison ran.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Name of the processor.
    pub(crate) processor: String,
    /// CPUs of the servers.
    pub(crate) server_cpus: String,
    /// CPUs of the generator.
    pub(crate) generator_cpus: String,
}

/// One server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) name: String,
    /// Where its clients connected.
    pub(crate) url: String,
    /// How it was started.
    pub(crate) command: String,
}

/// One figure of one load, of all servers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name of the load.
    pub(crate) load: String,
    /// As it was asked for.
    pub(crate) arguments: String,
    /// Name of the figure in the reports of single runs.
    pub(crate) figure: String,
    /// What it is, with its unit.
    pub(crate) unit: String,
    /// What was found, in the order of the servers.
    pub(crate) found: Vec<Found>,
    /// The first server over each of the others, in their order.
    pub(crate) ratios: Vec<Ratio>,
}

/// The figure of one server, pair by pair.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Each run's value.
    pub(crate) values: Vec<f64>,
    /// Their median; `None`: there was no value.
    pub(crate) median: Option<f64>,
    /// Median of what half of all answers did not take longer than, in microseconds.
    pub(crate) p50_us: Option<f64>,
    /// The same of 99 in 100 answers.
    pub(crate) p99_us: Option<f64>,
}

/// The first server over another one, pair by pair.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Each pair's ratio.
    pub(crate) pairs: Vec<f64>,
    /// Their median.
    pub(crate) median: Option<f64>,
    /// Holds the true median four times out of five; `None`: too few pairs.
    pub(crate) interval: Option<[f64; 2]>,
    /// Median of the ratios of p50.
    pub(crate) p50: Option<f64>,
    /// Median of the ratios of p99.
    pub(crate) p99: Option<f64>,
}

impl Machine {
    pub(super) fn this(server_cpus: &Cpus, generator_cpus: &Cpus) -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: name.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned(),
            server_cpus: server_cpus.to_string(),
            generator_cpus: generator_cpus.to_string(),
        }
    }
}

impl Named {
    pub(super) fn of(spec: &ServerSpec) -> Self {
        let (name, command) = (spec.name.clone(), spec.command.clone());
        Self { name, url: spec.target.to_string(), command }
    }
}

impl Row {
    /// The rows of one load, from the reports of each server's runs.
    pub(super) fn all_of(cell: &Cell, servers: &[Named], reports: &[Vec<Value>]) -> Vec<Self> {
        debug_assert_eq!(servers.len(), reports.len());
        let row = |&(figure, unit): &(&str, &str)| {
            let found: Vec<Found> =
                reports.iter().map(|of_one| Found::of(of_one, figure)).collect();
            let first = &reports[0];
            let ratios = reports[1..].iter().map(|other| Ratio::of(first, other, figure));
            Self {
                load: cell.label.clone(),
                arguments: cell.text.clone(),
                figure: figure.to_owned(),
                unit: unit.to_owned(),
                found,
                ratios: ratios.collect(),
            }
        };
        figures(cell.mode()).iter().map(row).collect()
    }
}

/// What is compared of a mode: the name in its report, and the unit.
fn figures(mode: Mode) -> &'static [(&'static str, &'static str)] {
    match mode {
        Mode::Echo { .. } => &[("server_cpu_us_per_unit", "CPU us/message")],
        Mode::Fanout { .. } => &[("server_cpu_us_per_unit", "CPU us/delivery")],
        Mode::Churn { .. } => &[("server_cpu_us_per_unit", "CPU us/cycle")],
        Mode::Idle { .. } | Mode::Stalled { .. } => &[
            ("server_cpu_us_per_unit", "CPU us/accept"),
            ("server_rss_bytes_per_connection", "RSS B/connection"),
            ("server_cpu_us_per_connection_second", "CPU us/s, idle"),
        ],
    }
}

impl Found {
    fn of(reports: &[Value], figure: &str) -> Self {
        let values = |name: &str| -> Vec<f64> {
            reports.iter().filter_map(|report| report[name].as_f64()).collect()
        };
        Self {
            median: median(&values(figure)),
            values: values(figure),
            p50_us: median(&values("latency_p50_us")),
            p99_us: median(&values("latency_p99_us")),
        }
    }
}

impl Ratio {
    fn of(first: &[Value], other: &[Value], figure: &str) -> Self {
        let pairs = |name: &str| -> Vec<f64> {
            let both = first.iter().zip(other);
            let values =
                both.filter_map(|(one, two)| Some((one[name].as_f64()?, two[name].as_f64()?)));
            values.filter(|(_, under)| *under > 0.0).map(|(over, under)| over / under).collect()
        };
        let own = pairs(figure);
        Self {
            median: median(&own),
            interval: interval(&own),
            pairs: own,
            p50: median(&pairs("latency_p50_us")),
            p99: median(&pairs("latency_p99_us")),
        }
    }

    /// Whether the first server saves at the price of answers that take longer: more than a tenth.
    pub(crate) fn is_slower(&self) -> bool {
        [self.p50, self.p99].into_iter().flatten().any(|ratio| ratio > 1.1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(cpu: f64, p99: f64) -> Value {
        json!({"server_cpu_us_per_unit": cpu, "latency_p50_us": 10.0, "latency_p99_us": p99})
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine is twice as slow in the second pair, for both.
        let first = [report(1.0, 50.0), report(2.0, 100.0), report(1.0, 50.0)];
        let other = [report(2.0, 40.0), report(4.0, 80.0), report(2.0, 40.0)];
        let ratio = Ratio::of(&first, &other, "server_cpu_us_per_unit");
        assert_eq!((&ratio.pairs, ratio.median), (&vec![0.5; 3], Some(0.5)));
        assert_eq!((ratio.interval, ratio.p50, ratio.p99), (None, Some(1.0), Some(1.25)));
        assert!(ratio.is_slower());
        let found = Found::of(&other, "server_cpu_us_per_unit");
        assert_eq!((found.median, found.p99_us), (Some(2.0), Some(40.0)));
    }

    #[test]
    fn a_run_without_the_figure_makes_no_pair() {
        let first = [report(1.0, 1.0), json!({})];
        let ratio = Ratio::of(&first, &first, "server_cpu_us_per_unit");
        assert_eq!((ratio.pairs.len(), ratio.is_slower()), (1, false));
        let none = Ratio::of(&[], &[], "server_cpu_us_per_unit");
        assert_eq!((none.median, none.interval), (None, None));
    }
}
