//! The text that Prometheus reads.
//!
//! Counters and gauges go through the `metrics` facade into the exporter's registry. Histograms do
//! not: the exporter keeps every observation until the next scrape, one by one, so a shard that
//! turns 100,000 times a second would cost memory without a limit while nobody scrapes, and the
//! sums would be guesses. Ours are counted into buckets by the shards; here they are only written
//! down, with the exporter's own formatting.

use std::time::{SystemTime, UNIX_EPOCH};

use ::metrics::{Key, Label as Pair, Level, Metadata, Recorder};
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};
use metrics_exporter_prometheus::{LabelSet as Pairs, PrometheusBuilder, PrometheusRecorder};

use super::catalogue::{
    ALL, ControlFamily, ControlGauge, Counter, CounterFamily, Entry, Fact, Gauge, GaugeFamily,
    Kind, LinkCounter, LinkGauge, ProcessGauge, ReloadGauge, SizeHistogram, TimeHistogram, Unit,
};
use super::cells::Table;
use super::control::ControlReader;
use super::histogram::Snapshot;
use super::label::{Label, LabelSet, Vocabulary};
use super::link::LinkReader;
use super::process::ProcessReader;
use super::shard::{Numbers, Reader};

/// The registry asks where a metric comes from; nobody filters by it.
const METADATA: Metadata<'static> = Metadata::new("ringway", Level::INFO, None);

/// Sums the numbers of all threads and writes them down.
pub struct Exporter<V: Vocabulary, M: Label> {
    shards: Vec<Reader<V>>,
    control: ControlReader<M>,
    process: ProcessReader,
    links: Vec<LinkReader>,
    registry: PrometheusRecorder,
}

impl<V: Vocabulary, M: Label> Exporter<V, M> {
    /// An exporter of these threads' numbers; shards are labelled by their place in `shards`.
    pub fn new(
        shards: Vec<Reader<V>>,
        control: ControlReader<M>,
        process: ProcessReader,
        links: Vec<LinkReader>,
        version: &str,
        started: SystemTime,
    ) -> Self {
        let registry = PrometheusBuilder::new().build_recorder();
        for entry in ALL {
            let (name, unit) = (entry.name.into(), Some(facade_unit(entry.unit)));
            match entry.kind {
                Kind::Counter => registry.describe_counter(name, unit, entry.help.into()),
                Kind::Gauge => registry.describe_gauge(name, unit, entry.help.into()),
                Kind::Histogram => {}
            }
        }
        let exporter = Self { shards, control, process, links, registry };
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        exporter.gauge(Fact::BuildInfo.entry(), &[version], 1.0);
        exporter.gauge(Fact::StartTime.entry(), &[], started.as_secs_f64());
        exporter
    }

    /// The numbers of now, in the text format of Prometheus (version 0.0.4).
    ///
    /// A family with one label shows all of its series, a family with several those that are not 0.
    pub fn render(&self) -> String {
        for counter in Counter::ALL {
            let sum = self.shards.iter().map(|shard| shard.counter(*counter)).sum();
            self.counter(counter.entry(), &[], sum);
        }
        for gauge in Gauge::ALL {
            let sum = self.shards.iter().map(|shard| shard.gauge(*gauge)).sum();
            self.gauge(gauge.entry(), &[], as_f64(sum));
        }
        for family in GaugeFamily::ALL {
            let entry = family.entry();
            let show = |labels: &[&str], sum| self.gauge(entry, labels, as_f64(sum));
            match family {
                GaugeFamily::Connections => for_each_sum(&self.tables(|n| &n.connections), show),
                GaugeFamily::MemoryBytes => for_each_sum(&self.tables(|n| &n.memory), show),
            }
        }
        for gauge in ProcessGauge::ALL {
            self.gauge(gauge.entry(), &[], as_f64(self.process.gauge(*gauge)));
        }
        self.show_links();
        for family in CounterFamily::ALL {
            self.counter_family(*family);
        }
        for family in ControlFamily::ALL {
            let numbers = &self.control.numbers;
            match family {
                ControlFamily::ApiRequests => {
                    self.counters(family.entry(), &[&numbers.api_requests]);
                }
                ControlFamily::TlsReloads => self.counters(family.entry(), &[&numbers.tls_reloads]),
                ControlFamily::ConfigReloads => {
                    self.counters(family.entry(), &[&numbers.config_reloads]);
                }
            }
        }
        for gauge in ReloadGauge::ALL {
            let value = self.control.numbers.reload_gauges.value(*gauge as usize);
            self.gauge(gauge.entry(), &[], as_f64(value));
        }
        let mut text = self.registry.handle().render();
        self.write_expiries(&mut text);
        self.write_times(&mut text);
        self.write_sizes(&mut text);
        text
    }

    fn show_links(&self) {
        for link in &self.links {
            let labels = [link.broker()];
            for counter in LinkCounter::ALL {
                self.counter(counter.entry(), &labels, link.counter(*counter));
            }
            for gauge in LinkGauge::ALL {
                let value = as_f64(link.gauge(*gauge));
                let value = if *gauge == LinkGauge::Lag { value / 1e6 } else { value };
                self.gauge(gauge.entry(), &labels, value);
            }
        }
    }

    /// Not through the registry, which forgets nothing: a name can go.
    fn write_expiries(&self, text: &mut String) {
        let entry = ControlGauge::CertificateExpiry.entry();
        write_head(text, entry, "gauge");
        for (name, expiry) in self.control.expiries() {
            let key = key(entry, &[&name]);
            let pairs = Pairs::from_key_and_global(&key, &Default::default());
            write_metric_line::<&str, i64>(text, entry.name, None, &pairs, None, expiry, None);
        }
        text.push('\n');
    }

    fn counter_family(&self, family: CounterFamily) {
        let entry = family.entry();
        match family {
            CounterFamily::Opened => self.counters(entry, &self.tables(|n| &n.opened)),
            CounterFamily::Closed => self.counters(entry, &self.tables(|n| &n.closed)),
            CounterFamily::CloseSent => self.counters(entry, &self.tables(|n| &n.close_sent)),
            CounterFamily::CloseReceived => {
                self.counters(entry, &self.tables(|n| &n.close_received));
            }
            CounterFamily::HandshakesEnded => {
                self.counters(entry, &self.tables(|n| &n.handshakes_ended));
            }
            CounterFamily::HandshakeRefused => {
                self.counters(entry, &self.tables(|n| &n.handshake_refused));
            }
            CounterFamily::ConnectionsRefused => {
                self.counters(entry, &self.tables(|n| &n.connections_refused));
            }
            CounterFamily::MessagesReceived => {
                self.counters(entry, &self.tables(|n| &n.messages_received));
            }
            CounterFamily::MessagesSent => {
                self.counters(entry, &self.tables(|n| &n.messages_sent));
            }
            CounterFamily::AcceptPaused => {
                self.counters(entry, &self.tables(|n| &n.accept_paused));
            }
            CounterFamily::TlsHandshakes => {
                self.counters(entry, &self.tables(|n| &n.tls_handshakes));
            }
            CounterFamily::TlsHandshakeFailed => {
                self.counters(entry, &self.tables(|n| &n.tls_handshake_failed));
            }
        }
    }

    fn tables<S>(&self, table: impl Fn(&Numbers<V>) -> &Table<S>) -> Vec<&Table<S>> {
        self.shards.iter().map(|shard| table(&shard.numbers)).collect()
    }

    fn counters<S: LabelSet>(&self, entry: Entry, tables: &[&Table<S>]) {
        for_each_sum(tables, |labels, sum| {
            if sum > 0 || labels.len() == 1 {
                self.counter(entry, labels, sum);
            }
        });
    }

    fn counter(&self, entry: Entry, labels: &[&str], value: u64) {
        self.registry.register_counter(&key(entry, labels), &METADATA).absolute(value);
    }

    fn gauge(&self, entry: Entry, labels: &[&str], value: f64) {
        self.registry.register_gauge(&key(entry, labels), &METADATA).set(value);
    }

    fn write_times(&self, text: &mut String) {
        for histogram in TimeHistogram::ALL {
            let entry = histogram.entry();
            write_head(text, entry, "histogram");
            for (index, shard) in self.shards.iter().enumerate() {
                let snapshot = shard.numbers.times[*histogram as usize].snapshot();
                let labels = [index.to_string()];
                let key = key(entry, &labels.each_ref().map(String::as_str));
                write_histogram(text, &key, histogram.bounds(), &snapshot, PerUnit(1e9));
            }
        }
    }

    fn write_sizes(&self, text: &mut String) {
        for histogram in SizeHistogram::ALL {
            let (entry, bounds) = (histogram.entry(), histogram.bounds());
            let mut total = Snapshot { counts: vec![0; bounds.len() + 1], sum: 0 };
            for shard in &self.shards {
                total.merge(&shard.numbers.sizes[*histogram as usize].snapshot());
            }
            write_head(text, entry, "histogram");
            write_histogram(text, &key(entry, &[]), bounds, &total, PerUnit(1.0));
        }
    }
}

/// How many of what a histogram counts in make one of what it shows.
#[derive(Clone, Copy)]
struct PerUnit(f64);

fn for_each_sum<S: LabelSet>(tables: &[&Table<S>], mut visit: impl FnMut(&[&str], u64)) {
    for index in 0..S::COUNT {
        visit(&S::texts(index), tables.iter().map(|table| table.value(index)).sum());
    }
}

fn key(entry: Entry, labels: &[&str]) -> Key {
    assert_eq!(entry.labels.len(), labels.len());
    let pairs =
        entry.labels.iter().zip(labels).map(|(name, text)| Pair::new(*name, text.to_string()));
    Key::from_parts(entry.name, pairs.collect::<Vec<_>>())
}

fn write_head(text: &mut String, entry: Entry, kind: &str) {
    write_help_line(text, entry.name, None, None, entry.help);
    write_type_line(text, entry.name, None, None, kind);
}

fn write_histogram(
    text: &mut String,
    key: &Key,
    bounds: &[u64],
    snapshot: &Snapshot,
    per: PerUnit,
) {
    let (name, pairs) = (key.name(), Pairs::from_key_and_global(key, &Default::default()));
    let shown = bounds.iter().map(|bound| (as_f64(*bound) / per.0).to_string());
    let mut below = 0;
    for (bound, count) in shown.chain(["+Inf".into()]).zip(&snapshot.counts) {
        below += count;
        write_metric_line(text, name, Some("bucket"), &pairs, Some(("le", bound)), below, None);
    }
    let sum = as_f64(snapshot.sum) / per.0;
    write_metric_line::<&str, f64>(text, name, Some("sum"), &pairs, None, sum, None);
    write_metric_line::<&str, u64>(text, name, Some("count"), &pairs, None, below, None);
    text.push('\n');
}

fn facade_unit(unit: Unit) -> ::metrics::Unit {
    match unit {
        Unit::Count => ::metrics::Unit::Count,
        Unit::Bytes => ::metrics::Unit::Bytes,
        Unit::Seconds => ::metrics::Unit::Seconds,
    }
}

/// Prometheus has nothing but 64-bit floats; above 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers for gauges")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::label::tests::Small;
    use crate::metrics::{CloseCodeLabel, ControlWriter, HttpStatusLabel, Reload, Writer};

    struct Words;

    impl Vocabulary for Words {
        type Protocol = Small<2>;
        type Cause = Small<4>;
        type RefusalReason = Small<2>;
        type PauseReason = Small<2>;
        type TlsVersion = Small<2>;
        type TlsResumption = Small<2>;
        type TlsFailure = Small<2>;
        type UnheardReason = Small<2>;

        fn initiator(cause: usize) -> &'static str {
            ["client", "transport", "transport", "server"][cause]
        }
    }

    type Running = (Vec<Writer<Words>>, ControlWriter<Small<2>>, Exporter<Words, Small<2>>);

    fn running(shards: usize) -> Running {
        let (writers, readers) = (0..shards).map(|_| crate::metrics::shard()).unzip();
        let (control, reader) = crate::metrics::control();
        let started = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        (
            writers,
            control,
            Exporter::new(
                readers,
                reader,
                crate::metrics::process().1,
                vec![crate::metrics::link("redis").1],
                "1.2.3",
                started,
            ),
        )
    }

    /// Every family gets at least one event.
    fn touch_everything(writers: &[Writer<Words>], control: &ControlWriter<Small<2>>) {
        let (first, second) = (&writers[0], &writers[1]);
        first.count(Counter::Deliveries, 40);
        second.count(Counter::Deliveries, 2);
        first.set(Gauge::BuffersFree, 64);
        second.set(Gauge::BuffersFree, 60);
        first.opened(Small(0));
        first.opened(Small(0));
        second.opened(Small(1));
        first.closed(CloseCodeLabel::of(4008), Small(3), Small(0));
        second.handshake_ended(Small(2));
        second.close_sent(CloseCodeLabel::of(4008));
        second.close_received(CloseCodeLabel::of(3999));
        first.handshake_refused(HttpStatusLabel::of(403), Small(1));
        second.handshake_refused(HttpStatusLabel::of(403), Small(1));
        first.messages_received(Small(1), 3);
        first.messages_sent(Small(1), 5);
        first.accept_paused(Small(0));
        first.tls_handshake(Small(1), Small(0));
        second.tls_handshake_failed(Small(1));
        second.observe_time(TimeHistogram::Turn, Duration::from_micros(10));
        second.observe_time(TimeHistogram::Turn, Duration::from_millis(300));
        second.observe_time(TimeHistogram::Turn, Duration::from_millis(1_700));
        first.observe_size(SizeHistogram::TurnCompletions, 2);
        second.observe_size(SizeHistogram::TurnCompletions, 5000);
        control.api_request(Small(1), HttpStatusLabel::of(200));
        control.tls_reload(Reload::Failure);
        let expiries = [("b.test", 9), ("a.test", 7), ("a.test", 5)];
        control.certificate_expiries(expiries.map(|(name, at)| (name.to_owned(), at)).into_iter());
    }

    fn assert_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "no line {line:?} in\n{text}");
        }
    }

    #[test]
    fn values_of_all_shards_add_up_exactly() {
        let (writers, control, exporter) = running(2);
        touch_everything(&writers, &control);
        assert_lines(
            &exporter.render(),
            &[
                "ringway_deliveries_total 42",
                "ringway_buffers_free 124",
                r#"ringway_connections{protocol="v0"} 1"#,
                r#"ringway_connections{protocol="v1"} 1"#,
                r#"ringway_opened_total{protocol="v0"} 2"#,
                r#"ringway_closed_total{code="4008",initiator="server",cause="v3",protocol="v0"} 1"#,
                r#"ringway_handshakes_ended_total{cause="v2"} 1"#,
                r#"ringway_close_sent_total{code="4008"} 1"#,
                r#"ringway_close_sent_total{code="1000"} 0"#,
                r#"ringway_close_received_total{code="3xxx_other"} 1"#,
                r#"ringway_handshake_refused_total{status="403",reason="v1"} 2"#,
                r#"ringway_messages_received_total{protocol="v1"} 3"#,
                r#"ringway_messages_sent_total{protocol="v1"} 5"#,
                r#"ringway_accept_paused_total{reason="v0"} 1"#,
                r#"ringway_api_requests_total{method="v1",status="200"} 1"#,
                r#"ringway_tls_handshakes_total{version="v1",resumed="v0"} 1"#,
                r#"ringway_tls_handshake_failed_total{reason="v1"} 1"#,
                r#"ringway_tls_reloads_total{result="failure"} 1"#,
                r#"ringway_tls_certificate_expiry_timestamp_seconds{name="a.test"} 5"#,
                r#"ringway_tls_certificate_expiry_timestamp_seconds{name="b.test"} 9"#,
                r#"ringway_build_info{version="1.2.3"} 1"#,
                "ringway_start_time_seconds 1700000000.5",
            ],
        );
    }

    #[test]
    fn histograms_show_cumulative_buckets_and_exact_sums() {
        let (writers, control, exporter) = running(2);
        touch_everything(&writers, &control);
        assert_lines(
            &exporter.render(),
            &[
                r#"ringway_turn_seconds_bucket{shard="0",le="+Inf"} 0"#,
                r#"ringway_turn_seconds_bucket{shard="1",le="0.00001"} 1"#,
                r#"ringway_turn_seconds_bucket{shard="1",le="0.25"} 1"#,
                r#"ringway_turn_seconds_bucket{shard="1",le="1"} 2"#,
                r#"ringway_turn_seconds_bucket{shard="1",le="+Inf"} 3"#,
                r#"ringway_turn_seconds_sum{shard="1"} 2.00001"#,
                r#"ringway_turn_seconds_count{shard="1"} 3"#,
                r#"ringway_turn_completions_bucket{le="1"} 0"#,
                r#"ringway_turn_completions_bucket{le="4096"} 1"#,
                r#"ringway_turn_completions_bucket{le="+Inf"} 2"#,
                "ringway_turn_completions_sum 5002",
                "ringway_turn_completions_count 2",
            ],
        );
    }

    #[test]
    fn the_catalogue_and_the_text_name_the_same_metrics() {
        let (writers, control, exporter) = running(2);
        touch_everything(&writers, &control);
        let text = exporter.render();
        for entry in ALL {
            let kind = match entry.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = format!("# HELP {} {}", entry.name, entry.help);
            assert_lines(&text, &[&help, &format!("# TYPE {} {kind}", entry.name)]);
        }
        for line in text.lines().filter(|l| !l.is_empty()) {
            let line = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            let shown = line.split(['{', ' ']).next().unwrap();
            let known = ALL.iter().any(|entry| match entry.kind {
                Kind::Histogram => shown
                    .strip_prefix(entry.name)
                    .is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix)),
                Kind::Counter | Kind::Gauge => shown == entry.name,
            });
            assert!(known, "{line:?} is not in the catalogue");
        }
    }

    #[test]
    fn metrics_without_labels_show_zero_before_anything_happened() {
        let (_writers, _control, exporter) = running(1);
        let text = exporter.render();
        let unlabelled = ALL.iter().filter(|e| e.labels.is_empty() && e.kind != Kind::Histogram);
        for entry in unlabelled.filter(|e| e.name != Fact::StartTime.entry().name) {
            assert_lines(&text, &[&format!("{} 0", entry.name)]);
        }
        assert!(!text.contains("ringway_closed_total"), "4 labels, nothing happened");
    }

    #[test]
    fn a_later_scrape_shows_later_numbers() {
        let (writers, _control, exporter) = running(1);
        writers[0].opened(Small(0));
        exporter.render();
        writers[0].closed(CloseCodeLabel::of(1001), Small(0), Small(0));
        writers[0].count(Counter::Turns, 9);
        let text = exporter.render();
        assert_lines(
            &text,
            &[
                "ringway_turns_total 9",
                r#"ringway_connections{protocol="v0"} 0"#,
                r#"ringway_opened_total{protocol="v0"} 1"#,
            ],
        );
    }
}
