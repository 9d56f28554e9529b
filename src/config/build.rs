//! From checked settings to the types that the rooms want.

use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::network::Networks;
use crate::auth::origin::OriginRule;
use crate::auth::rate::Rate;
use crate::conn::outbox::Settings as OutboxSettings;
use crate::dialect::keepalive::Settings as PingSettings;
use crate::mail::post::Settings as LaneSettings;
use crate::ring::probe::Feature;
use crate::topic::namespace::{Broker, Mode, Namespace, PublishRight};
use crate::ws::deflate::Settings as DeflateSettings;

use super::keys::LOG_LEVELS;
use super::reader::{Sections, Settings};
use super::violation::Violation;
use super::{
    ApiAccess, ApiKey, Centrifuge, Config, Deflate, Drain, Http, Limits, Listener, Log, Memory,
};
use super::{LogFormat, Operator, Ring, Routes, Socket, Websocket, redis, tls};

/// Rooms of the code that log.
const LOG_ROOMS: [&str; 5] = ["access", "api", "daemon", "ring", "shard"];

/// Shorter keys can be guessed.
const API_KEY_CHARS_MIN: usize = 16;

/// Takes every setting. What cannot be used goes to `violations` and has a stand-in, so that the
/// rest can still be checked.
pub(super) fn build(sections: &Sections, violations: &mut Vec<Violation>) -> Config {
    let top = sections.one("");
    Config {
        shards: Some(top.number("shards")).filter(|n| *n > 0),
        pin_threads: top.switch("pin_threads"),
        listeners: sections.all("listener").iter().map(|s| listener(s, violations)).collect(),
        tls: tls::build(sections, violations),
        operator: operator(sections.one("operator"), violations),
        http: http(sections.one("http")),
        websocket: websocket(sections.one("websocket")),
        deflate: deflate(sections.one("deflate")),
        outbox: outbox(sections.one("outbox")),
        limits: limits(sections.one("limits"), violations),
        memory: memory(sections.one("memory")),
        routes: Routes {
            raw: sections.one("raw").switch("enabled"),
            echo: sections.one("echo").switch("enabled"),
            demo: sections.one("demo").switch("enabled"),
            centrifuge: sections.one("centrifuge").switch("enabled"),
        },
        centrifuge: centrifuge(sections.one("centrifuge")),
        namespaces: sections.all("namespace").iter().map(|s| namespace(s, violations)).collect(),
        redis: redis::build(sections.one("redis"), violations),
        ring: ring(sections.one("ring")),
        socket: socket(sections.one("socket")),
        lanes: lanes(sections.one("lanes")),
        drain: drain(sections.one("drain"), violations),
        closes_kept: sections.one("closes").number("kept"),
        log: log(sections.one("log"), violations),
    }
}

fn listener(settings: &Settings, violations: &mut Vec<Violation>) -> Listener {
    let unusable = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = address(settings, &settings.text("address"), violations).unwrap_or(unusable);
    let allowed = settings.texts("origins");
    let any = allowed == ["*"];
    if let Some(origin) = allowed.iter().find(|origin| !any && !is_origin(origin)) {
        let problem = format!(
            "{origin:?} is not an origin; write https://host or http://host:port without a path, or [\"*\"] for all"
        );
        violations.push(settings.wrong("origins", problem));
    }
    let allowed = if any { Vec::new() } else { allowed };
    let missing = settings.switch("allow_missing_origin");
    Listener {
        address,
        origins: OriginRule { allowed, any, missing },
        tls: tls::client_auth(settings, violations),
        connections_max: Some(settings.number("connections_max")).filter(|max| *max > 0),
        proxy_protocol: settings.text("proxy_protocol") == "required",
        trusted_proxies: networks(settings, "trusted_proxies", violations),
    }
}

fn networks(settings: &Settings, name: &str, violations: &mut Vec<Violation>) -> Networks {
    let texts = settings.texts(name);
    Networks::parse(&texts).unwrap_or_else(|text| {
        let problem =
            format!("{text:?} is no network; write 10.0.0.0/8, 2001:db8::/32 or an address");
        violations.push(settings.wrong(name, problem));
        Networks::default()
    })
}

fn address(settings: &Settings, text: &str, violations: &mut Vec<Violation>) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let problem = "must be an IP address and a port, like \"0.0.0.0:8000\" or \"[::]:8000\"";
        violations.push(settings.wrong("address", problem));
    }
    address
}

fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(|authority| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        !authority.is_empty() && authority.bytes().all(allowed)
    })
}

fn operator(settings: &Settings, violations: &mut Vec<Violation>) -> Operator {
    let text = settings.text("address");
    let address = if text.is_empty() { None } else { address(settings, &text, violations) };
    let key = settings.text("api_key");
    if !key.is_empty() && key.chars().count() < API_KEY_CHARS_MIN {
        let problem = format!("must have at least {API_KEY_CHARS_MIN} characters");
        violations.push(settings.wrong("api_key", problem));
    }
    let api = match (settings.switch("api_insecure"), key.is_empty()) {
        (true, true) => ApiAccess::Insecure,
        (false, true) => ApiAccess::Refused,
        (false, false) => ApiAccess::Key(ApiKey(key)),
        (true, false) => {
            let problem = "goes without a key, but api_key is set: remove one of them";
            violations.push(settings.wrong("api_insecure", problem));
            ApiAccess::Key(ApiKey(key))
        }
    };
    let tls = tls::client_auth(settings, violations);
    Operator {
        address,
        api,
        tls,
        body_bytes_max: settings.number("body_bytes_max"),
        body_timeout: settings.time("body_timeout"),
    }
}

fn http(settings: &Settings) -> Http {
    Http {
        head_bytes_max: settings.number("head_bytes_max"),
        headers_max: settings.number("headers_max"),
        head_timeout: settings.time("head_timeout"),
    }
}

fn websocket(settings: &Settings) -> Websocket {
    let rate = settings.number("control_frames_rate");
    Websocket {
        message_bytes_max: settings.number("message_bytes_max"),
        fragments_max: settings.number("fragments_max"),
        message_timeout: settings.time("message_timeout"),
        ping: ping(settings),
        close_timeout: settings.time("close_timeout"),
        idle_timeout: Some(settings.time("idle_timeout")).filter(|time| *time > Duration::ZERO),
        control_frames: Rate::new(rate, settings.number("control_frames_burst")),
    }
}

fn ping(settings: &Settings) -> PingSettings {
    PingSettings {
        interval: settings.time("ping_interval"),
        timeout: settings.time("pong_timeout"),
    }
}

fn deflate(settings: &Settings) -> Deflate {
    let window_bits = settings.number("client_window_bits");
    let takeover = settings.switch("client_takeover");
    let messages = DeflateSettings {
        level: settings.number("level"),
        bytes_min: settings.number("bytes_min"),
        client_window_bits: takeover.then_some(window_bits),
    };
    Deflate {
        messages: settings.switch("enabled").then_some(messages),
        contexts_max: settings.number("contexts_max"),
    }
}

fn outbox(settings: &Settings) -> OutboxSettings {
    OutboxSettings {
        bytes_max: settings.number("bytes_max"),
        soft_bytes_max: settings.number("soft_bytes_max"),
        soft_timeout: settings.time("soft_timeout"),
        stall_timeout: settings.time("stall_timeout"),
    }
}

fn limits(settings: &Settings, violations: &mut Vec<Violation>) -> Limits {
    Limits {
        connections_max: Some(settings.number("connections_max")).filter(|n| *n > 0),
        handshakes_max: settings.number("handshakes_max"),
        address_connections_max: Some(settings.number("address_connections_max"))
            .filter(|max| *max > 0),
        address_rate: settings.rate("address_rate", "address_burst"),
        address_exempt: networks(settings, "address_exempt", violations),
        subscriptions_max: settings.number("subscriptions_max"),
        commands: settings.rate("commands_rate", "commands_burst"),
        topics_max: settings.number("topics_max"),
    }
}

fn memory(settings: &Settings) -> Memory {
    let budget = Some(settings.number("budget")).filter(|bytes| *bytes > 0);
    Memory { budget, share: settings.number("share") }
}

fn centrifuge(settings: &Settings) -> Centrifuge {
    Centrifuge { ping: ping(settings), connect_timeout: settings.time("connect_timeout") }
}

fn namespace(settings: &Settings, violations: &mut Vec<Violation>) -> Namespace {
    let name = settings.text("name");
    if name.contains(|c: char| c == ':' || c.is_control()) {
        violations.push(settings.wrong("name", "must not contain colons or control characters"));
    }
    let mode = match settings.text("mode").as_str() {
        "latest" => Mode::Latest,
        "live" => Mode::Live,
        _ => Mode::Stream,
    };
    let mut recovery = settings.switch("recovery");
    if mode == Mode::Live && recovery {
        if settings.is_written("recovery") {
            let problem = "needs a past, and mode live keeps none: use stream or latest";
            violations.push(settings.wrong("recovery", problem));
        }
        recovery = false;
    }
    let broker = match settings.text("broker").as_str() {
        "redis" => Broker::Redis,
        _ => Broker::Embedded,
    };
    Namespace {
        name,
        mode,
        broker,
        history_size: settings.number("history_size"),
        history_age: settings.time("history_age"),
        history_bytes_max: settings.number("history_bytes_max"),
        recovery,
        publish: match settings.text("publish").as_str() {
            "allow" => PublishRight::Allow,
            "subscribers" => PublishRight::Subscribers,
            _ => PublishRight::Deny,
        },
        compress: settings.switch("compress"),
    }
}

fn ring(settings: &Settings) -> Ring {
    let disable = settings.texts("disable");
    Ring {
        entries: settings.number("entries"),
        buffers: settings.number("buffers"),
        buffer_bytes: settings.number("buffer_bytes"),
        disable: disable.iter().filter_map(|name| Feature::from_name(name)).collect(),
    }
}

fn socket(settings: &Settings) -> Socket {
    Socket {
        send_buffer: settings.number("send_buffer"),
        backlog: settings.number("backlog"),
        notsent_lowat: settings.number("notsent_lowat"),
    }
}

fn lanes(settings: &Settings) -> LaneSettings {
    LaneSettings {
        requests_max: settings.number("requests_max"),
        deliveries_max: settings.number("deliveries_max"),
    }
}

fn drain(settings: &Settings, violations: &mut Vec<Violation>) -> Drain {
    let code = settings.number("code");
    if code != 1012 && code != 1001 {
        violations.push(settings.wrong("code", "must be 1012 or 1001"));
    }
    Drain { grace: settings.time("grace"), window: settings.time("window"), code }
}

fn room_named(name: &str) -> Option<String> {
    LOG_ROOMS.contains(&name.trim()).then(|| name.trim().to_owned())
}

fn level_named(name: &str) -> Option<tracing::Level> {
    LOG_LEVELS.contains(&name.trim()).then(|| name.trim().parse().ok()).flatten()
}

fn log(settings: &Settings, violations: &mut Vec<Violation>) -> Log {
    let mut levels = Vec::new();
    for text in settings.texts("levels") {
        match text
            .split_once('=')
            .and_then(|(room, level)| Some((room_named(room)?, level_named(level)?)))
        {
            Some(level) => levels.push(level),
            None => {
                let rooms = LOG_ROOMS.join(", ");
                let choices = LOG_LEVELS.join(", ");
                let problem = format!(
                    "{text:?} is no room with its level; write shard=debug; rooms are {rooms}, levels {choices}"
                );
                violations.push(settings.wrong("levels", problem));
            }
        }
    }
    Log {
        level: level_named(&settings.text("level")).unwrap_or(tracing::Level::INFO),
        levels,
        closes_rate: settings.number("closes_rate"),
        access: settings.switch("access"),
        format: match settings.text("format").as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
    }
}
