//! Handshakes: what clients of others agree on with the gateway, and when they are refused.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::HandshakeKind;

use crate::gateway::authority::{Authority, ONLY_TLS12, ONLY_TLS13};
use crate::gateway::client::{Client, request};
use crate::gateway::clock::{ms, pause};
use crate::gateway::metrics::family;
use crate::gateway::{PATIENCE, ringway, wait_for_end};
use crate::tls::{NAME, Secure};

/// Lets `openssl s_client` upgrade a connection; returns all that it says. It must be installed.
fn openssl(secure: &Secure, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .arg("s_client")
        .args(["-connect", &secure.gateway.clients().to_string()])
        .arg("-CAfile")
        .arg(secure.authority.file())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may have been refused by now.
    let _ = stdin.write_all(request("/echo", "").as_bytes());
    pause(ms(400));
    drop(stdin);
    wait_for_end(&mut child, PATIENCE).expect("it ends with its input");
    let output = child.wait_with_output().expect("it has ended");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
}

#[test]
fn openssl_agrees_on_versions_protocols_and_sessions() {
    let secure = Secure::start("", &[]);
    let folder = secure.authority.path("session");
    let file = folder.to_str().expect("paths of tests are UTF-8");
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let common = [version, "-servername", NAME, "-alpn", "http/1.1"];
        let first = openssl(&secure, &[&common[..], &["-sess_out", file]].concat());
        let verified = ["ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "HTTP/1.1 101"];
        assert_says(&first, &[&verified[..], &[&format!("New, {shown}")]].concat());
        let again = openssl(&secure, &[&common[..], &["-sess_in", file]].concat());
        assert_says(&again, &[&format!("Reused, {shown}"), "HTTP/1.1 101"]);
    }
    let refused = openssl(&secure, &["-alpn", "h2"]);
    assert_says(&refused, &["alert no application protocol"]);
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshake_failed_total") == 1);
    assert_eq!(metrics.family("tls_handshake_failed_total"), family([("alpn", 1)]));
    let all = [("1.2 false", 1), ("1.2 true", 1), ("1.3 false", 1), ("1.3 true", 1)];
    assert_eq!(metrics.family("tls_handshakes_total"), family(all));
    secure.gateway.finish();
}

#[test]
fn names_choose_certificates_and_ocsp_answers_are_stapled() {
    let authority = Authority::new();
    let one = authority.sign("one", &["one.test"]);
    let wild = authority.sign("wild", &["*.wild.test"]);
    let ocsp = authority.path("wild.ocsp");
    let sections = format!("{}{}ocsp = {ocsp:?}\n", one.section(), wild.section());
    let secure = Secure::start_with(authority, &sections, "", &["tls.reload_interval=\"100ms\""]);
    for (name, subject) in [("one.test", "one"), ("a.wild.test", "wild"), ("no.test", "one")] {
        let said = openssl(&secure, &["-servername", name, "-status"]);
        assert_says(&said, &[&format!("subject=CN = {subject}"), "OCSP response: no response"]);
    }
    // It comes later.
    let made = Command::new("openssl")
        .args(["ocsp", "-noverify", "-no_nonce", "-respout"])
        .arg(&ocsp)
        .args(["-reqout", "/dev/null", "-issuer"])
        .arg(secure.authority.file())
        .arg("-cert")
        .arg(&wild.chain)
        .args(["-index", "/dev/null", "-rsigner"])
        .arg(&wild.chain)
        .arg("-rkey")
        .arg(&wild.key)
        .arg("-CA")
        .arg(secure.authority.file())
        .output()
        .expect("openssl is installed");
    assert!(ocsp.exists(), "{}", String::from_utf8_lossy(&made.stderr));
    secure.gateway.await_metrics(|metrics| metrics.sum("tls_reloads_total") == 1);
    let said = openssl(&secure, &["-servername", "a.wild.test", "-status"]);
    assert_says(&said, &["OCSP Response Status: successful"]);
    secure.gateway.finish();
}

#[test]
fn clients_are_asked_for_certificates() {
    for (demand, without, with_foreign) in [("optional", true, false), ("required", false, false)] {
        let authority = Authority::new();
        let files = authority.sign("usual", &[NAME]);
        let own = authority.sign("client", &["client.test"]);
        let foreign = Authority::new().sign_into(&authority, "foreign");
        let more = format!("client_auth = \"{demand}\"\nclient_ca = {:?}", authority.file());
        let secure = Secure::start_with(authority, &files.section(), &more, &[]);
        for (own, is_welcome) in
            [(None, without), (Some(&own), true), (Some(&foreign), with_foreign)]
        {
            for versions in [ONLY_TLS12, ONLY_TLS13] {
                let config = secure.authority.client(versions, own);
                let begun = secure.gateway.connect().begin_tls(config, NAME);
                // In TLS 1.3 a client hears of it only later.
                let upgraded = begun.and_then(|mut client| {
                    client.try_send(request("/echo", "").as_bytes())?;
                    client.try_read()?;
                    Ok(client)
                });
                assert_eq!(upgraded.is_ok(), is_welcome, "{demand} {own:?} {upgraded:?}");
            }
        }
        let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshaking") == 0);
        let failed = metrics.family("tls_handshake_failed_total");
        let count = if without { 2 } else { 4 };
        assert_eq!(failed, family([("client_certificate", count)]), "{demand}");
        secure.gateway.finish();
    }
}

#[test]
fn a_session_is_resumed_by_whichever_shard_it_meets() {
    let secure = Secure::start("", &["shards=2"]);
    let mut kinds = Vec::new();
    for _ in 0..12 {
        let mut client = secure.open("/echo");
        client.send_text("x");
        assert_eq!(client.read_text(), "x");
        kinds.push(client.tls().handshake_kind().expect("it is complete"));
        client.send_close(1000);
        client.expect_close(1000);
    }
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    secure.gateway.finish();
}

#[test]
fn bad_files_are_told_by_check() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("one", &["one.test"]), authority.sign("two", &["two.test"]));
    let old = authority.sign_until("old", &["old.test"], (2020, 2, 2));
    let check = |settings: &[String]| {
        let mut command = ringway();
        command.arg("check").args(["--set", "listener.0.tls=true"]);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        let output = command.output().expect("the daemon was built");
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let set = |name: &str, path: &std::path::Path| format!("certificate.0.{name}={path:?}");
    let nowhere = authority.path("nowhere.pem");
    let cases = [
        (&one.chain, &one.key, 0, "the configuration is good"),
        (&one.chain, &other.key, 78, "is not the key of this certificate"),
        (&one.key, &one.key, 78, "has no CERTIFICATE section"),
        (&one.chain, &one.chain, 78, "has no PRIVATE KEY section"),
        (&nowhere, &one.key, 78, "check the path"),
        (&old.chain, &old.key, 0, "warning: the certificate for old.test has expired"),
    ];
    for (chain, key, code, told) in cases {
        let (status, text) = check(&[set("chain", chain), set("key", key)]);
        assert_eq!(status, Some(code), "{text}");
        assert_says(&text, &[told]);
    }
    let ca = format!("listener.0.client_ca={:?}", one.key);
    let required = "listener.0.client_auth=\"required\"".to_owned();
    let (status, text) = check(&[set("chain", &one.chain), set("key", &one.key), ca, required]);
    assert_eq!(status, Some(78), "{text}");
    assert_says(&text, &["listener.0.client_ca", "has no CERTIFICATE section"]);
}

#[test]
fn tls_and_plain_are_not_mistaken_for_each_other() {
    let secure = Secure::start("", &[]);
    let mut plain = secure.gateway.connect();
    plain.send(request("/echo", "").as_bytes());
    let answer = plain.read_all();
    assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "a fatal alert: {answer:?}");
    drop(plain);
    let metrics = secure.gateway.await_metrics(|m| m.sum("tls_handshake_failed_total") == 1);
    assert_eq!(metrics.family("tls_handshake_failed_total"), family([("malformed", 1)]));
    let config = Arc::clone(&secure.client);
    let other = crate::gateway::Gateway::start(&[]);
    let begun = Client::connect(other.clients()).begin_tls(config, NAME);
    assert!(begun.is_err());
    other.finish();
    secure.gateway.finish();
}
