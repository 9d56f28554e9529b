//! Every metric of the catalogue is written somewhere outside the room of metrics, and connections
//! end for every cause.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use ringway::dialect::cause::Cause;
use ringway::metrics::catalogue::{
    ControlFamily, ControlGauge, Counter, CounterFamily, Gauge, LinkCounter, LinkGauge,
    ProcessGauge, ReloadGauge, SizeHistogram, TimeHistogram,
};

/// Where metrics and causes are listed; everything else uses them.
const LISTS: [&str; 3] = ["src/metrics", "src/dialect/cause.rs", "src/ws/error.rs"];

/// The text of all sources but those of the lists, without their tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
        if is_test || LISTS.iter().any(|list| path.ends_with(list)) {
            continue;
        }
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(path).unwrap();
            text.push_str(source.split("#[cfg(test)]\nmod tests").next().unwrap());
        }
    }
}

#[test]
fn every_metric_is_written_by_the_code_that_knows_it() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let mut signs: Vec<String> = Vec::new();
    signs.extend(Counter::ALL.iter().map(|metric| format!("Counter::{metric:?}")));
    signs.extend(Gauge::ALL.iter().map(|metric| format!("Gauge::{metric:?}")));
    signs.extend(TimeHistogram::ALL.iter().map(|metric| format!("TimeHistogram::{metric:?}")));
    signs.extend(SizeHistogram::ALL.iter().map(|metric| format!("SizeHistogram::{metric:?}")));
    signs.extend(LinkCounter::ALL.iter().map(|metric| format!("LinkCounter::{metric:?}")));
    signs.extend(LinkGauge::ALL.iter().map(|metric| format!("LinkGauge::{metric:?}")));
    signs.extend(ProcessGauge::ALL.iter().map(|metric| format!("ProcessGauge::{metric:?}")));
    signs.extend(["numbers.memory(".to_owned()]);
    // Families have a method each; `connections` is the difference of the first two.
    signs.extend(CounterFamily::ALL.iter().map(|family| {
        let method = match family {
            CounterFamily::Opened => "opened",
            CounterFamily::Closed => "closed",
            CounterFamily::CloseSent => "close_sent",
            CounterFamily::CloseReceived => "close_received",
            CounterFamily::HandshakesEnded => "handshake_ended",
            CounterFamily::HandshakeRefused => "handshake_refused",
            CounterFamily::ConnectionsRefused => "connection_refused",
            CounterFamily::MessagesReceived => "messages_received",
            CounterFamily::MessagesSent => "messages_sent",
            CounterFamily::AcceptPaused => "accept_paused",
            CounterFamily::TlsHandshakes => "tls_handshake",
            CounterFamily::TlsHandshakeFailed => "tls_handshake_failed",
        };
        format!("numbers.{method}(")
    }));
    signs.extend(ControlFamily::ALL.iter().map(|family| match family {
        ControlFamily::ApiRequests => ".api_request(".into(),
        ControlFamily::TlsReloads => ".tls_reload(".into(),
        ControlFamily::ConfigReloads => ".config_reload(".into(),
    }));
    signs.extend(ReloadGauge::ALL.iter().map(|gauge| format!("ReloadGauge::{gauge:?}")));
    signs.extend(ControlGauge::ALL.iter().map(|gauge| match gauge {
        ControlGauge::CertificateExpiry => ".certificate_expiries(".into(),
    }));
    let unwritten: Vec<_> = signs.into_iter().filter(|sign| !text.contains(&**sign)).collect();
    assert_eq!(unwritten, [""; 0]);
}

/// Whether `name` stands in `text`, and not as the beginning of a longer name.
fn names(text: &str, name: &str) -> bool {
    text.split(name).skip(1).any(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[test]
fn connections_end_for_every_cause_but_those_that_are_not_reached_yet() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    for cause in Cause::ALL {
        let sign = match cause {
            Cause::Broken(error) => format!("ProtocolError::{error:?}"),
            cause => format!("Cause::{cause:?}"),
        };
        let is_reached = !Cause::UNREACHED.contains(cause);
        assert_eq!(names(&text, &sign), is_reached, "{cause:?}: change Cause::UNREACHED");
    }
}

#[test]
fn a_name_is_found_only_whole() {
    assert!(names("x Cause::Rate)", "Cause::Rate"));
    assert!(!names("Cause::RateOfChange", "Cause::Rate"));
}
