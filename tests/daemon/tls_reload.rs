//! Certificates are replaced while connections stand and come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::gateway::PATIENCE;
use crate::gateway::authority::{ONLY_TLS13, replace};
use crate::gateway::clock::{ms, now, pause};
use crate::gateway::metrics::family;
use crate::tls::{NAME, Secure};

/// The certificate that a new connection is shown.
fn shown(secure: &Secure) -> Vec<u8> {
    let config = secure.authority.client(ONLY_TLS13, None);
    let client = secure.gateway.connect().begin_tls(config, NAME);
    let mut client = client.expect("the handshake succeeds");
    client.tls().peer_certificates().expect("servers show one")[0].to_vec()
}

#[test]
fn new_files_are_taken_and_bad_ones_refused() {
    let secure = Secure::start("", &["tls.reload_interval=\"100ms\""]);
    let mut old = secure.open("/echo");
    let first = shown(&secure);
    let files = secure.authority.sign("usual", &[NAME]);
    let reloads = |metrics: &crate::gateway::metrics::Metrics| metrics.family("tls_reloads_total");
    secure.gateway.await_metrics(|m| reloads(m) == family([("success", 1)]));
    let second = shown(&secure);
    assert_ne!(first, second);

    replace(&files.key, "nothing");
    secure.gateway.await_metrics(|m| reloads(m) == family([("failure", 1), ("success", 1)]));
    let log = secure.gateway.log();
    assert!(log.contains("the new certificates are refused, the old ones stay"), "{log}");
    assert!(log.contains("has no PRIVATE KEY section"), "{log}");
    assert_eq!(shown(&secure), second);
    // It is said once.
    pause(ms(600));
    assert_eq!(reloads(&secure.gateway.metrics()), family([("failure", 1), ("success", 1)]));

    secure.authority.sign("usual", &[NAME]);
    secure.gateway.await_metrics(|m| reloads(m) == family([("failure", 1), ("success", 2)]));
    assert_ne!(shown(&secure), second);
    old.send_text("still here");
    assert_eq!(old.read_text(), "still here");
    old.send_close(1000);
    old.expect_close(1000);
    secure.gateway.finish();
}

#[test]
fn sighup_reads_the_files_at_once() {
    let secure = Secure::start("", &["tls.reload_interval=\"0s\""]);
    let first = shown(&secure);
    secure.authority.sign("usual", &[NAME]);
    pause(ms(300));
    assert_eq!(shown(&secure), first);
    secure.gateway.signal(Signal::HUP);
    secure.gateway.await_metrics(|m| m.family("tls_reloads_total") == family([("success", 1)]));
    assert_ne!(shown(&secure), first);
    secure.gateway.finish();
}

#[test]
fn a_gateway_without_tls_survives_sighup() {
    let gateway = crate::gateway::Gateway::start(&[]);
    gateway.signal(Signal::HUP);
    let mut client = gateway.open("/echo");
    client.send_text("still here");
    assert_eq!(client.read_text(), "still here");
    client.send_close(1000);
    client.expect_close(1000);
    let deadline = now() + PATIENCE;
    while !gateway.log().contains("the configuration was read again") {
        assert!(now() < deadline, "{}", gateway.log());
        pause(ms(5));
    }
    gateway.finish();
}

/// In full with RINGWAY_FULL: 1,000 open connections and 500 new ones each second.
#[test]
fn a_swap_under_load_loses_and_refuses_nobody() {
    let is_full = std::env::var_os("RINGWAY_FULL").is_some();
    let (standing, per_second, seconds) = if is_full { (1000, 500, 6) } else { (200, 100, 3) };
    let secure = Secure::start("", &["tls.reload_interval=\"100ms\""]);
    let mut open: Vec<_> = (0..standing).map(|_| secure.open("/echo")).collect();
    let is_over = AtomicBool::new(false);
    let (come, most) = (AtomicU64::new(0), 4);
    let interval = Duration::from_secs(1) * most / per_second;
    std::thread::scope(|scope| {
        for _ in 0..most {
            scope.spawn(|| {
                let start = now();
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // No session of before: each handshake is shown a certificate.
                    let config = secure.authority.client(ONLY_TLS13, None);
                    let client = secure.gateway.connect().begin_tls(config, NAME);
                    let mut client = client.expect("nobody is refused");
                    client.upgrade("/echo");
                    client.send_text("hello");
                    assert_eq!(client.read_text(), "hello");
                    client.send_close(1000);
                    client.expect_close(1000);
                    come.fetch_add(1, Ordering::Relaxed);
                    pause((start + interval * number).saturating_duration_since(now()));
                }
            });
        }
        let mut certificates = vec![shown(&secure)];
        for _ in 0..seconds {
            pause(ms(1000));
            secure.authority.sign("usual", &[NAME]);
        }
        pause(ms(1000));
        certificates.push(shown(&secure));
        assert_ne!(certificates[0], certificates[1]);
        is_over.store(true, Ordering::Relaxed);
    });
    let metrics = secure.gateway.await_metrics(|m| m.sum("connections") == standing);
    assert!(metrics.sum("tls_reloads_total") >= 2, "{metrics:#?}");
    assert_eq!(metrics.sum("tls_handshake_failed_total"), 0);
    // All of them where it is measured; elsewhere the machine may have other work.
    let expected = u64::from(per_second * seconds) / if is_full { 1 } else { 2 };
    assert!(come.load(Ordering::Relaxed) >= expected, "{come:?} of {expected}");
    for (number, client) in open.iter_mut().enumerate() {
        client.send_text(&number.to_string());
        assert_eq!(client.read_text(), number.to_string());
        client.send_close(1000);
    }
    open.iter_mut().for_each(|client| client.expect_close(1000));
    drop(open);
    secure.gateway.finish();
}
