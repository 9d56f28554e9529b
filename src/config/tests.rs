use super::keys::{Key, Kind, SECTIONS, Shape};
use super::*;
use crate::topic::namespace::{Mode, PublishRight};

const RINGWAY: &str = include_str!("../../config/ringway.toml");
const DEMO: &str = include_str!("../../config/demo.toml");
const BENCH: &str = include_str!("../../config/bench.toml");

fn parsed(text: &str) -> Config {
    parse(text, "test.toml", &[]).unwrap_or_else(|violations| panic!("{violations}"))
}

fn report(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    parse(text, "test.toml", &overrides).unwrap_err().to_string()
}

/// The default as it stands in `config/ringway.toml`.
fn written(key: &Key) -> String {
    match key.kind {
        Kind::Switch | Kind::Count { .. } | Kind::Texts | Kind::Choices(_) => {
            key.default.to_owned()
        }
        Kind::Bytes { .. } | Kind::Time { .. } | Kind::Text | Kind::Secret | Kind::Choice(_) => {
            format!("{:?}", key.default)
        }
    }
}

#[test]
fn the_shipped_configuration_is_every_key_at_its_default() {
    assert_eq!(parsed(RINGWAY), Config::default());
    let mut lines = RINGWAY.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    for section in SECTIONS {
        let head = match section.shape {
            Shape::Top => None,
            Shape::Single => Some(format!("[{}]", section.name)),
            Shape::Repeated(_) => Some(format!("[[{}]]", section.name)),
        };
        if let Some(head) = head {
            assert_eq!(lines.next(), Some(head.as_str()));
        }
        for key in section.keys {
            assert_eq!(lines.next(), Some(format!("{} = {}", key.name, written(key)).as_str()));
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn the_worked_configurations_are_good_and_do_what_they_say() {
    let small = parsed(include_str!("../../config/small-vm.toml"));
    let large = parsed(include_str!("../../config/large-host.toml"));
    let behind = parsed(include_str!("../../config/behind-load-balancer.toml"));
    for direct in [&small, &large] {
        assert!(direct.listeners.iter().all(|listener| listener.tls.is_some()));
        assert!(direct.operator.address.unwrap().ip().is_loopback());
        assert_eq!(direct.operator.api, ApiAccess::Refused);
    }
    assert_eq!(small.limits.address_connections_max, Some(50));
    assert_eq!(u32::from(small.ring.buffers) * small.ring.buffer_bytes, 1 << 20);
    assert_eq!(large.limits.connections_max, Some(1_000_000));
    assert!(behind.listeners[0].proxy_protocol && !behind.listeners[0].trusted_proxies.is_empty());
    assert!(matches!(behind.operator.api, ApiAccess::Key(_)));
}

#[test]
fn the_shipped_configuration_says_what_each_key_does() {
    let comments: String = RINGWAY.lines().filter_map(|l| l.strip_prefix('#')).collect();
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        assert!(comments.contains(key.help), "no comment says {:?}", key.help);
    }
}

#[test]
fn the_defaults_are_safe() {
    let config = Config::default();
    assert_eq!(config.operator.api, ApiAccess::Refused);
    assert!(config.operator.address.is_some_and(|a| a.ip().is_loopback()));
    assert!(config.listeners.iter().all(|l| l.address.ip().is_loopback() && !l.origins.any));
    assert!(config.namespaces.iter().all(|n| n.publish == PublishRight::Deny));
    assert!(!config.routes.echo && !config.routes.demo);
    assert!(config.outbox.bytes_max <= 1 << 20);
    assert_eq!(config.websocket.message_bytes_max, 65_536);
}

#[test]
fn the_demo_stays_on_loopback_and_lets_visitors_publish() {
    let config = parsed(DEMO);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8000");
    assert_eq!(config.operator.address.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:9000"));
    assert_eq!(config.operator.api, ApiAccess::Insecure);
    assert!(config.routes.demo && config.routes.raw && config.routes.centrifuge);
    assert!(config.namespaces.iter().all(|n| n.publish != PublishRight::Deny));
}

#[test]
fn the_bench_has_room_and_switches_nothing_off() {
    let config = parsed(BENCH);
    let default = Config::default();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:9001");
    assert_eq!(config.operator.address.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:9002"));
    assert_eq!(config.operator.api, ApiAccess::Insecure);
    assert_eq!(config.routes, Routes { echo: true, ..default.routes });
    assert_eq!(config.namespaces.len(), 1);
    assert_eq!(
        config.namespaces[0],
        Namespace { publish: PublishRight::Allow, ..default.namespaces[0].clone() }
    );
    assert_eq!(config.limits.connections_max, Some(19_500));
    assert_eq!(config.websocket.message_bytes_max, 17 << 20);
    assert_eq!(config.websocket.fragments_max, 70_000);
    assert_eq!(config.outbox.bytes_max, 64 << 20);
    assert!(config.limits.handshakes_max > default.limits.handshakes_max);
    assert!(config.websocket.control_frames.burst > default.websocket.control_frames.burst);
    assert_eq!(config.websocket.ping, default.websocket.ping);
    assert_eq!(config.ring, default.ring);
    assert_eq!(config.listeners[0].origins, default.listeners[0].origins);
}

#[test]
fn all_violations_are_reported_at_once_in_the_order_of_the_text() {
    let text = r#"
shards = "four"
pin_thread = true

[[listener]]
address = "localhost"
origins = ["https://example.com/"]

[operator]
api_key = "hunter2"

[websocket]
ping_interval = "5s"
message_bytes_max = "2 MiB"
close_timeout = 5

[[namespace]]
mode = "live"
recovery = true

[[namespace]]
history_bytes_max = "1 MiB"
"#;
    let expected = r#"test.toml:2:1: shards = "four": must be a whole number without a unit
test.toml:3:1: pin_thread: no such section or setting; did you mean pin_threads?
test.toml:6:1: listener.0.address = "localhost": must be an IP address and a port, like "0.0.0.0:8000" or "[::]:8000"
test.toml:7:1: listener.0.origins = ["https://example.com/"]: "https://example.com/" is not an origin; write https://host or http://host:port without a path, or ["*"] for all
test.toml:10:1: operator.api_key: must have at least 16 characters
test.toml:14:1: websocket.message_bytes_max = "2 MiB": must not be more than outbox.bytes_max (1 MiB): no subscriber could be sent it
test.toml:15:1: websocket.close_timeout = 5: must be a time with its unit, like "30s", "250ms" or "5m"
test.toml:19:1: namespace.0.recovery = true: needs a past, and mode live keeps none: use stream or latest
test.toml:22:1: namespace.1.history_bytes_max = "1 MiB": must not be more than half of outbox.bytes_max (512 KiB)
--set: operator.address = "127.0.0.1:8000": is a listener's already: choose another port
--set: ring.entries = 1000: must be a power of two, like 512 or 1024
test.toml: websocket.pong_timeout = "10s": must be less than ping_interval (5s)
test.toml: namespace.1.name = "": is another namespace's already
13 problems"#;
    let overrides = [
        "ring.entries=1000",
        "listener.1.address=127.0.0.1:8000",
        "operator.address=127.0.0.1:8000",
    ];
    assert_lines(&report(text, &overrides), expected);
}

/// Compares line by line, so that a failure shows the line.
fn assert_lines(actual: &str, expected: &str) {
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

#[test]
fn a_text_that_is_not_toml_is_told_with_its_place_only() {
    let report = report("shards = 1\n[websocket\nzzz = 1\n", &["zzz=1"]);
    assert!(report.starts_with("test.toml:2:"), "{report}");
    assert!(!report.contains("no such"), "{report}");
}

#[test]
fn conflicts_name_both_sides() {
    for (text, problem) in [
        (
            "[operator]\naddress = '0.0.0.0:9000'\napi_insecure = true",
            "operator.api_insecure = true: needs a loopback operator.address, not 0.0.0.0:9000; or set api_key",
        ),
        (
            "[operator]\napi_key = '0123456789abcdef'\napi_insecure = true",
            "operator.api_insecure = true: goes without a key, but api_key is set: remove one of them",
        ),
        (
            "[outbox]\nsoft_bytes_max = '2 MiB'",
            "outbox.soft_bytes_max = \"2 MiB\": must not be more than outbox.bytes_max (1 MiB)",
        ),
        (
            "[[listener]]\naddress = '[::1]:80'\n[[listener]]\naddress = '[::1]:80'",
            "listener.1.address = \"[::1]:80\": is another listener's already: choose another port",
        ),
        (
            "[[listener]]\naddress = '10.0.0.1:80'\n[[listener]]\naddress = '0.0.0.0:80'",
            "listener.1.address = \"0.0.0.0:80\": overlaps 10.0.0.1:80 of another listener: choose another port",
        ),
        (
            "[[listener]]\naddress = '0.0.0.0:9000'",
            "operator.address = \"127.0.0.1:9000\": overlaps 0.0.0.0:9000 of a listener: choose another port",
        ),
        (
            "[memory]\nbudget = '1 MiB'",
            "memory.budget = \"1 MiB\": is too little: nobody could connect; give at least 4 MiB, better hundreds of MiB, or 0 B for a share of what there is",
        ),
        (
            "[centrifuge]\npong_timeout = '25s'",
            "centrifuge.pong_timeout = \"25s\": must be less than ping_interval (25s)",
        ),
        (
            "[socket]\nnotsent_lowat = '1 MiB'",
            "socket.notsent_lowat = \"1 MiB\": must not be more than socket.send_buffer (256 KiB)",
        ),
        ("[drain]\ncode = 1005", "drain.code = 1005: must be 1012 or 1001"),
        ("[ring]\nbuffers = 100", "ring.buffers = 100: must be a power of two, like 64 or 128"),
        (
            "[raw]\nenabled = false\n[centrifuge]\nenabled = false",
            "raw.enabled = false: leaves nothing to serve: enable raw, centrifuge, echo or demo",
        ),
        (
            "[[namespace]]\nname = 'a:b'",
            "namespace.0.name = \"a:b\": must not contain colons or control characters",
        ),
    ] {
        let report = report(text, &[]);
        let (first, count) = report.split_once('\n').unwrap();
        assert!(first.ends_with(&format!(": {problem}")), "{first}");
        assert_eq!(count, "1 problem");
    }
}

#[test]
fn addresses_of_different_families_or_ports_go_together() {
    for (one, other) in
        [("0.0.0.0:80", "[::]:80"), ("0.0.0.0:80", "0.0.0.0:81"), ("0.0.0.0:0", "0.0.0.0:0")]
    {
        let text = format!("[[listener]]\naddress = '{one}'\n[[listener]]\naddress = '{other}'");
        assert_eq!(parsed(&text).listeners.len(), 2);
    }
}

#[test]
fn values_arrive_typed() {
    let config = parsed(
        r#"
        shards = 3
        [[listener]]
        address = "[::]:80"
        origins = ["https://a.example", "http://b.example:8080"]
        allow_missing_origin = false
        [operator]
        address = ""
        api_key = "0123456789abcdef"
        [websocket]
        idle_timeout = "90s"
        control_frames_rate = 4
        [ring]
        disable = ["msg_ring"]
        [[namespace]]
        name = "news"
        mode = "live"
        publish = "subscribers"
        [log]
        level = "debug"
        format = "json"
        "#,
    );
    assert_eq!(config.shards, Some(3));
    let rule = &config.listeners[0].origins;
    assert_eq!(rule.allowed, ["https://a.example", "http://b.example:8080"]);
    assert!(!rule.any && !rule.missing);
    assert_eq!(config.operator.address, None);
    let ApiAccess::Key(key) = &config.operator.api else { panic!("{:?}", config.operator.api) };
    assert_eq!(key.secret(), "0123456789abcdef");
    assert_eq!(config.websocket.idle_timeout, Some(Duration::from_secs(90)));
    assert_eq!(config.websocket.control_frames.interval, Duration::from_millis(250));
    assert_eq!(config.ring.disable, [Feature::MsgRing]);
    let namespace = &config.namespaces[0];
    assert_eq!((namespace.mode, namespace.recovery), (Mode::Live, false));
    assert_eq!(namespace.publish, PublishRight::Subscribers);
    assert_eq!((config.log.level, config.log.format), (tracing::Level::DEBUG, LogFormat::Json));
}

#[test]
fn overrides_win_and_secrets_stay_secret() {
    let overrides = ["limits.topics_max=5", "operator.api_key=0123456789abcdef"].map(String::from);
    let config = parse("[limits]\ntopics_max = 9", "test.toml", &overrides).unwrap();
    assert_eq!(config.limits.topics_max, 5);
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    assert!(!report("", &["operator.api_key=hunter2"]).contains("hunter2"));
    assert!(!report("[operator]\napi_key = 5551234", &[]).contains("5551234"));
}

#[test]
fn whatever_a_key_is_set_to_the_answer_is_a_configuration_or_a_report() {
    let odd = ["true", "-1", "0", "1", "18446744073709551616", "''", "'*'", "'1 GiB'", "'24h'"];
    let odder = ["[]", "['*', '']", "[[1]]", "{}", "{a = 1}", "1.5", "1979-05-27", "nan", "[", "'"];
    for section in SECTIONS {
        for key in section.keys {
            let limits = match key.kind {
                Kind::Count { min, max } | Kind::Bytes { min, max } => vec![min, max],
                _ => vec![],
            };
            let limits: Vec<String> = limits.iter().map(u64::to_string).collect();
            let odd = odd.iter().chain(&odder).map(|value| (*value).to_owned());
            for value in odd.chain(limits) {
                let path = match section.shape {
                    Shape::Top => key.name.to_owned(),
                    Shape::Single => format!("{}.{}", section.name, key.name),
                    Shape::Repeated(_) => format!("{}.0.{}", section.name, key.name),
                };
                let text = format!("{path}={value}");
                if let Err(violations) = parse("", "test.toml", &[text]) {
                    assert!(!violations.list.is_empty());
                }
            }
        }
    }
}

#[test]
fn tls_is_certificates_and_listeners_that_use_them() {
    let config = parsed(
        "[[listener]]\naddress = '127.0.0.1:1'\ntls = true\nclient_auth = 'required'\n\
         client_ca = 'ca.pem'\n[[listener]]\naddress = '127.0.0.1:2'\n\
         [[certificate]]\nchain = 'a.pem'\nkey = 'a.key'\nocsp = 'a.ocsp'\n\
         [tls]\nmin_version = 'tls1.3'\npost_quantum = false\nreload_interval = '0s'\n",
    );
    let auth = tls::ClientAuth::Required("ca.pem".into());
    assert_eq!(config.listeners[0].tls, Some(auth));
    assert_eq!((&config.listeners[1].tls, &config.operator.tls), (&None, &None));
    let files = &config.tls.certificates[0];
    assert_eq!(files.chain, std::path::Path::new("a.pem"));
    assert_eq!(files.ocsp.as_deref(), Some(std::path::Path::new("a.ocsp")));
    assert_eq!(config.tls.reload_interval, None);
    assert!(Config::default().tls.certificates.is_empty());
}

#[test]
fn tls_that_cannot_be_is_told() {
    for (text, problem) in [
        (
            "[[listener]]\ntls = true",
            "listener.0.tls = true: needs a certificate: add a section [[certificate]] with chain and key",
        ),
        (
            "[operator]\ntls = true",
            "operator.tls = true: needs a certificate: add a section [[certificate]] with chain and key",
        ),
        (
            "[[certificate]]\nchain = 'a.pem'",
            "certificate.0.key = \"\": is missing: a certificate needs both its chain and its key",
        ),
        (
            "[[listener]]\nclient_auth = 'optional'",
            "listener.0.client_auth = \"optional\": has no effect without tls = true",
        ),
        (
            "[[listener]]\ntls = true\nclient_auth = 'optional'\n\
             [[certificate]]\nchain = 'a.pem'\nkey = 'a.key'",
            "needs client_ca, the file of the authorities that sign the certificates",
        ),
        (
            "[[listener]]\ntls = true\nclient_ca = 'ca.pem'\n\
             [[certificate]]\nchain = 'a.pem'\nkey = 'a.key'",
            "has no effect: set client_auth to optional or required",
        ),
    ] {
        let told = report(text, &[]);
        assert!(told.contains(problem) && told.ends_with("1 problem"), "{text}: {told}");
    }
}

#[test]
fn a_redis_server_is_named_by_host_and_port() {
    let redis = parsed("[redis]\naddress = 'redis.internal:6380'\ntls = true").redis;
    assert_eq!((redis.host.as_str(), redis.port), ("redis.internal", 6380));
    assert_eq!(redis.tls.as_deref(), Some(std::path::Path::new("")));
    assert_eq!(parsed("[redis]\naddress = '[::1]:6379'").redis.host, "::1");
    assert_eq!(Config::default().redis.tls, None);
    for (text, problem) in [
        ("[redis]\naddress = 'redis'", "redis.address = \"redis\": must be a host and a port"),
        ("[redis]\nprefix = 'a{b}'", "redis.prefix = \"a{b}\": must have letters"),
        (
            "[redis]\nusername = 'ringway'",
            "redis.username = \"ringway\": is of no use without redis.password: set both",
        ),
        ("[redis]\ntls_ca = 'ca.pem'", "is of no use without TLS: set tls = true"),
        (
            "[[namespace]]\nbroker = 'redis'\nhistory_size = 10001",
            "namespace.0.history_size = 10001: must not be more than 10000 with broker redis",
        ),
    ] {
        let told = report(text, &[]);
        assert!(told.contains(problem) && told.ends_with("1 problem"), "{text}: {told}");
    }
    assert!(!report("[redis]\npassword = 5551234", &[]).contains("5551234"));
}
