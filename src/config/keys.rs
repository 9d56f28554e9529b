//! Every setting: its type, limits, default and meaning. The reader, the documentation and the test
//! of `config/ringway.toml` follow this list.

use std::time::Duration;

use super::quantity::{show_bytes, show_time};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// Bytes: a whole number, or a text with `B`, `KiB`, `MiB` or `GiB`.
    Bytes {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// Time: a text with `ms`, `s`, `m` or `h`.
    Time {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A text.
    Text,
    /// A text that is nobody's business: never shown.
    Secret,
    /// A list of texts.
    Texts,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of some of these texts.
    Choices(&'static [&'static str]),
}

impl Kind {
    /// The values, in words.
    pub fn values(&self) -> String {
        let listed = |choices: &[&str]| choices.join(", ");
        match *self {
            Self::Switch => "true, false".to_owned(),
            Self::Count { min, max } => format!("{min} to {max}"),
            Self::Bytes { min, max } => format!("{} to {}", show_bytes(min), show_bytes(max)),
            Self::Time { min, max } => format!("{} to {}", show_time(min), show_time(max)),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::Choice(choices) => listed(choices),
            Self::Choices(choices) => format!("list of: {}", listed(choices)),
        }
    }
}

/// For whom a changed setting counts when the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// For all, at once.
    Live,
    /// For those who connect from then on.
    Newcomers,
    /// For nobody before the gateway is restarted.
    Restart,
}

impl Reload {
    /// As it is written in documents and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Newcomers => "new connections",
            Self::Restart => "restart",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Name in its section.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What counts when nobody says anything: a TOML value, texts without quotes.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What becomes of a change.
    pub reload: Reload,
}

impl Key {
    const fn live(self) -> Self {
        Self { reload: Reload::Live, ..self }
    }

    const fn newcomers(self) -> Self {
        Self { reload: Reload::Newcomers, ..self }
    }
}

/// How often a section may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its settings stand at the top, before all sections.
    Top,
    /// Once: `[name]`.
    Single,
    /// Any number of times: `[[name]]`. Without any there is one with all defaults.
    Repeated(Elements),
}

/// What becomes of the elements of a repeated section when the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Those of the file take the place of those before.
    Replaced,
    /// Each goes on under the value of this key. One that is new or gone counts as told.
    Known {
        /// The key, which tells them apart.
        by: &'static str,
        /// For whom one that is new counts.
        added: Reload,
        /// For whom one is gone that the file has no more.
        removed: Reload,
    },
}

/// Settings that belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Section {
    /// Empty for [`Shape::Top`].
    pub name: &'static str,
    /// How often it may come.
    pub shape: Shape,
    /// Its settings.
    pub keys: &'static [Key],
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A setting that counts after a restart, unless `live` or `newcomers` says otherwise.
const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, help, reload: Reload::Restart }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Time { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

const fn single(name: &'static str, keys: &'static [Key]) -> Section {
    Section { name, shape: Shape::Single, keys }
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Shards have their listeners from the start to the end.
const BY_ADDRESS: Shape = Shape::Repeated(Elements::Known {
    by: "address",
    added: Reload::Restart,
    removed: Reload::Restart,
});

/// A namespace that goes would take its subscribers' topics with it.
const BY_NAME: Shape =
    Shape::Repeated(Elements::Known { by: "name", added: Reload::Live, removed: Reload::Restart });

/// Values of `log.level`, from the fewest lines to the most.
pub const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// Features of io_uring that `ring.disable` may name.
pub const RING_FEATURES: &[&str] = &[
    "incremental_buffers",
    "msg_ring",
    "no_sqarray",
    "registered_ring",
    "multishot_accept",
    "restrictions",
];

/// Every section with every setting.
#[rustfmt::skip] // One setting, two lines.
pub const SECTIONS: &[Section] = &[
    Section { name: "", shape: Shape::Top, keys: &[
        key("shards", count(0, 256), "0",
            "Threads that serve clients; 0: one for each CPU that the process may use."),
        key("pin_threads", Kind::Switch, "true",
            "Bind each of these threads to a CPU of its own."),
    ] },
    Section { name: "listener", shape: BY_ADDRESS, keys: &[
        key("address", Kind::Text, "127.0.0.1:8000",
            "IP address and port where clients connect."),
        key("origins", Kind::Texts, "[]",
            "Web pages that may connect, like https://example.com. Empty: those of the same host and port; [\"*\"]: all.").newcomers(),
        key("allow_missing_origin", Kind::Switch, "true",
            "Let clients connect that send no Origin: those that are not browsers.").newcomers(),
        key("connections_max", count(0, 16_000_000), "0",
            "Most connections by this listener; 0: no limit of its own.").newcomers(),
        key("proxy_protocol", Kind::Choice(&["off", "required"]), "off",
            "required: every connection begins with a header of the PROXY protocol, version 1 or 2, from one of trusted_proxies.").newcomers(),
        key("trusted_proxies", Kind::Texts, "[]",
            "Networks of proxies, like 10.0.0.0/8, whose word counts for a client's address: the PROXY protocol, X-Forwarded-For and X-Forwarded-Proto.").newcomers(),
        key("tls", Kind::Switch, "false",
            "Serve wss and https only, with the certificates below."),
        key("client_auth", Kind::Choice(&["none", "optional", "required"]), "none",
            "Certificates of clients: not asked for, taken from those who have one, or wanted from all.").newcomers(),
        key("client_ca", Kind::Text, "",
            "File (PEM) of the authorities that sign the certificates of clients.").newcomers(),
    ] },
    Section { name: "certificate", shape: Shape::Repeated(Elements::Replaced), keys: &[
        key("chain", Kind::Text, "",
            "File (PEM) of the certificate and those between it and its authority; cred:NAME: a credential of the service manager, here and for the other files. Clients get the one for the name they ask for, else the first.").newcomers(),
        key("key", Kind::Text, "",
            "File (PEM) of its private key.").newcomers(),
        key("ocsp", Kind::Text, "",
            "File (DER) of an OCSP answer to send along; it may come later or not at all.").newcomers(),
    ] },
    single("tls", &[
        key("min_version", Kind::Choice(&["tls1.2", "tls1.3"]), "tls1.2",
            "Oldest version that is spoken.").newcomers(),
        key("post_quantum", Kind::Switch, "true",
            "Speak the key exchange that withstands quantum computers (X25519MLKEM768) with clients that want it.").newcomers(),
        key("handshake_timeout", millis(100, 5 * MINUTE), "5s",
            "Longest time from the connection to the end of its TLS handshake.").newcomers(),
        key("handshakes_max", count(1, 16_000_000), "4096",
            "Most TLS handshakes under way in all; more connections are reset unread.").newcomers(),
        key("handshakes_per_turn", count(1, 10_000), "8",
            "Most steps of TLS handshakes in one turn of a shard; the others wait in order.").live(),
        key("handshakes_rate", count(0, 1_000_000), "0",
            "TLS handshakes per second that each shard begins on average; more connections are reset unread; 0: any number.").newcomers(),
        key("handshakes_burst", count(1, 1_000_000), "1000",
            "TLS handshakes that each shard begins at once.").newcomers(),
        key("reload_interval", millis(0, 24 * HOUR), "5s",
            "Time between two looks at the files of certificates; 0s: they are read again on SIGHUP only.").live(),
    ]),
    single("operator", &[
        key("address", Kind::Text, "127.0.0.1:9000",
            "IP address and port of the server API, the metrics and the dashboard; empty: none."),
        key("api_key", Kind::Secret, "",
            "What callers of the server API must present, at least 16 characters; empty: the API is refused to all.").live(),
        key("api_insecure", Kind::Switch, "false",
            "Serve the API without a key; only on a loopback address.").live(),
        key("body_bytes_max", bytes(KIB, GIB), "1 MiB",
            "Most bytes in the body of one API request.").live(),
        key("body_timeout", millis(100, 5 * MINUTE), "10s",
            "Longest time that the body of one API request may take.").live(),
        key("tls", Kind::Switch, "false",
            "Serve https only, with the certificates above."),
        key("client_auth", Kind::Choice(&["none", "optional", "required"]), "none",
            "Certificates of clients: not asked for, taken from those who have one, or wanted from all.").newcomers(),
        key("client_ca", Kind::Text, "",
            "File (PEM) of the authorities that sign the certificates of clients.").newcomers(),
    ]),
    single("http", &[
        key("head_bytes_max", bytes(KIB, 64 * KIB), "16 KiB",
            "Most bytes in a request line and headers.").newcomers(),
        key("headers_max", count(8, 256), "64",
            "Most headers in one request.").newcomers(),
        key("head_timeout", millis(100, 5 * MINUTE), "5s",
            "Longest time from the connection to the end of its request head.").newcomers(),
    ]),
    single("websocket", &[
        key("message_bytes_max", bytes(125, GIB), "64 KiB",
            "Most payload bytes in one message of a client.").live(),
        key("fragments_max", count(1, 1_000_000), "128",
            "Most frames in one message of a client.").live(),
        key("message_timeout", millis(100, HOUR), "10s",
            "Longest time from the first frame of a message to its last.").live(),
        key("ping_interval", millis(100, HOUR), "25s",
            "Time between pings on raw and echo connections.").live(),
        key("pong_timeout", millis(50, HOUR), "10s",
            "Longest time to a pong; less than ping_interval.").live(),
        key("close_timeout", millis(100, 5 * MINUTE), "5s",
            "Longest time for the client's half of a close.").live(),
        key("idle_timeout", millis(0, 24 * HOUR), "0s",
            "Close connections that sent no message for this long; 0s: never.").live(),
        key("control_frames_rate", count(1, 1_000_000), "10",
            "Pings, pongs and closes per second that one client may send on average.").live(),
        key("control_frames_burst", count(1, 1_000_000), "20",
            "Pings, pongs and closes that one client may send at once.").live(),
    ]),
    single("deflate", &[
        key("enabled", Kind::Switch, "false",
            "Agree on permessage-deflate with clients that offer it. Read about secrets in SECURITY.md first."),
        key("level", count(1, 9), "3",
            "How hard to compress: 1 is fast, 9 is small."),
        key("bytes_min", bytes(0, GIB), "256 B",
            "Shorter messages are sent as they are."),
        key("client_takeover", Kind::Switch, "false",
            "Let clients refer to what they said in earlier messages: their messages become smaller, and each client costs up to 32 KiB."),
        key("client_window_bits", count(9, 15), "15",
            "Logarithm of the window that such clients may refer to: 15 is 32 KiB, 9 is 512 bytes. Others cannot be told."),
        key("contexts_max", count(0, 16_000_000), "1000",
            "Most clients in all that may do so; to later ones each message stands alone."),
    ]),
    single("outbox", &[
        key("bytes_max", bytes(4 * KIB, 4 * GIB), "1 MiB",
            "Bytes queued for one client at which it is closed as slow.").live(),
        key("soft_bytes_max", bytes(KIB, 4 * GIB), "256 KiB",
            "Bytes queued for one client that are too many after soft_timeout.").live(),
        key("soft_timeout", millis(100, HOUR), "10s",
            "How long more than soft_bytes_max may be queued.").live(),
        key("stall_timeout", millis(100, HOUR), "10s",
            "How long a client may take none of the bytes queued for it; the only limit where the newest values of its latest topics fit soft_bytes_max.").live(),
    ]),
    single("limits", &[
        key("connections_max", count(0, 16_000_000), "0",
            "Most connections in all; 0: what the limit of open files allows.").newcomers(),
        key("handshakes_max", count(1, 16_000_000), "10000",
            "Most connections in all that have not been upgraded yet.").newcomers(),
        key("address_connections_max", count(0, 65_535), "0",
            "Most connections of one client address (IPv6: of one /64); 0: any number. Many people may share an address.").newcomers(),
        key("address_rate", count(0, 1_000), "0",
            "Connections per second that one client address may open on average; 0: any number.").newcomers(),
        key("address_burst", count(1, 10_000), "20",
            "Connections that one client address may open at once.").newcomers(),
        key("address_exempt", Kind::Texts, "[\"127.0.0.0/8\", \"::1\"]",
            "Networks to which the limits for addresses do not apply. Nor do they to trusted_proxies.").newcomers(),
        key("subscriptions_max", count(1, 1_000_000), "128",
            "Most topics that one connection may be subscribed to.").live(),
        key("commands_rate", count(0, 1_000_000), "1000",
            "Commands per second that one client may send on average: publications of raw clients, commands of Centrifugo ones; 0: any number.").live(),
        key("commands_burst", count(1, 1_000_000), "1000",
            "Commands that one client may send at once.").live(),
        key("topics_max", count(1, 100_000_000), "100000",
            "Most topics in all.").live(),
    ]),
    single("memory", &[
        key("budget", bytes(0, 1024 * GIB), "0 B",
            "Memory that the process may use; above 80 % of it new connections are refused, above 90 % those that hold most are closed; 0 B: share of what there is.").live(),
        key("share", count(1, 100), "75",
            "Percent of the control group's limit, or else of the machine's memory, that are the budget when none is given.").live(),
    ]),
    single("raw", &[
        key("enabled", Kind::Switch, "true",
            "Serve /topic/{topic}: one topic for each connection, messages without an envelope.").newcomers(),
    ]),
    single("echo", &[
        key("enabled", Kind::Switch, "false",
            "Serve /echo: every message comes back.").newcomers(),
    ]),
    single("demo", &[
        key("enabled", Kind::Switch, "false",
            "Serve a demo page at / on the client listeners.").newcomers(),
    ]),
    single("centrifuge", &[
        key("enabled", Kind::Switch, "true",
            "Serve /connection/websocket: the Centrifugo protocol, version 2, JSON.").newcomers(),
        key("ping_interval", millis(100, HOUR), "25s",
            "Time between pings of the protocol."),
        key("pong_timeout", millis(50, HOUR), "8s",
            "Longest time to the answer; less than ping_interval."),
        key("connect_timeout", millis(100, 5 * MINUTE), "10s",
            "Longest time from the upgrade to the connect command.").newcomers(),
    ]),
    Section { name: "namespace", shape: BY_NAME, keys: &[
        key("name", Kind::Text, "",
            "The part of topic names before the first colon; empty: names without a colon."),
        key("mode", Kind::Choice(&["stream", "latest", "live"]), "stream",
            "stream: numbered, with a history; latest: only the newest counts, and slow clients are spared older ones; live: nothing is kept."),
        key("broker", Kind::Choice(&["embedded", "redis"]), "embedded",
            "What numbers and keeps publications: embedded, this process; redis, a Redis server that several gateways share."),
        key("history_size", count(1, 1_000_000), "100",
            "Publications kept for each topic.").live(),
        key("history_age", millis(1_000, 24 * HOUR), "5m",
            "How long publications are kept.").live(),
        key("history_bytes_max", bytes(KIB, GIB), "256 KiB",
            "Bytes of publications kept for each topic; at most half of outbox.bytes_max.").live(),
        key("recovery", Kind::Switch, "true",
            "Let clients ask for what they missed. Mode live has nothing to recover.").live(),
        key("publish", Kind::Choice(&["deny", "subscribers", "allow"]), "deny",
            "Which clients may publish: none, those subscribed to the topic, all. The server API always may.").live(),
        key("compress", Kind::Switch, "true",
            "Compress publications for clients that agreed on it. Not for topics that mix secrets with what others can write.").live(),
    ] },
    single("redis", &[
        key("address", Kind::Text, "127.0.0.1:6379",
            "Host and port of the Redis server of the namespaces with this broker; version 7 or later."),
        key("username", Kind::Text, "",
            "ACL user; empty: the default user."),
        key("password", Kind::Secret, "",
            "Password of the user; empty: none."),
        key("database", count(0, 65_535), "0",
            "Number of the database. Channels are the same in all of them: use another prefix to keep gateways apart."),
        key("tls", Kind::Switch, "false",
            "Speak TLS with the server."),
        key("tls_ca", Kind::Text, "",
            "File (PEM) of the authorities that sign the server's certificate; empty: those of the system."),
        key("prefix", Kind::Text, "ringway",
            "What the names of all keys and channels begin with. Gateways with the same prefix are one."),
        key("timeout", millis(50, MINUTE), "1s",
            "Longest time to connect, and to the answer to a command; then a publisher is told that the outcome is unknown."),
        key("pending_max", count(1, 1_000_000), "10000",
            "Publications and questions that may wait for the server; more are refused."),
    ]),
    single("ring", &[
        key("entries", count(64, 32_768), "4096",
            "Entries of each submission queue; a power of two."),
        key("buffers", count(8, 32_768), "64",
            "Receive buffers of each shard; a power of two."),
        key("buffer_bytes", bytes(4 * KIB, 4 * MIB), "64 KiB",
            "Size of one receive buffer."),
        key("disable", Kind::Choices(RING_FEATURES), "[]",
            "Kernel features not to be used although they are there: incremental_buffers, msg_ring, no_sqarray, registered_ring, multishot_accept, restrictions."),
    ]),
    single("socket", &[
        key("send_buffer", bytes(4 * KIB, GIB), "256 KiB",
            "Send buffer of each client's socket."),
        key("backlog", count(1, 65_535), "4096",
            "Connections that may wait to be accepted, for each listener and shard."),
        key("notsent_lowat", bytes(KIB, GIB), "64 KiB",
            "Unsent bytes in the kernel above which a socket counts as full; at most send_buffer."),
    ]),
    single("lanes", &[
        key("requests_max", count(16, 1_000_000), "1024",
            "Requests that may wait from one thread to another."),
        key("deliveries_max", count(16, 1_000_000), "4096",
            "Deliveries and answers that may wait from one thread to another."),
    ]),
    single("drain", &[
        key("grace", millis(0, 10 * MINUTE), "2s",
            "Time between the failing readiness check and the first close.").live(),
        key("window", millis(0, HOUR), "30s",
            "Time over which the closes are spread.").live(),
        key("code", count(1001, 1012), "1012",
            "Close code on raw connections: 1012 (service restart) or 1001 (going away).").live(),
    ]),
    single("closes", &[
        key("kept", count(0, 1_000_000), "1024",
            "Ends of connections that each shard remembers for /debug/closes: so many abnormal ones, orderly ones, and ones before the upgrade, of 400 to 900 bytes each; 0: none.").live(),
    ]),
    single("log", &[
        key("level", Kind::Choice(LOG_LEVELS), "info",
            "Least important kind of line that is logged.").live(),
        key("levels", Kind::Texts, "[]",
            "The same for single rooms of the code: access, api, daemon, ring or shard; like [\"api=debug\"].").live(),
        key("format", Kind::Choice(&["text", "json"]), "text",
            "Lines for people or for machines."),
        key("closes_rate", count(0, 100_000), "10",
            "Abnormal ends of connections that are logged in one second; of more only the number is. 0: none. Needs closes.kept.").live(),
        key("access", Kind::Switch, "false",
            "Log the end of every connection, up to 1000 of each kind per second and shard. Needs closes.kept.").live(),
    ]),
];
