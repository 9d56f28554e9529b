//! The link to a Redis server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult,
    TlsCertificates, Value,
};
use tokio::time::{Instant, sleep};

use super::canary::Canary;
use super::inbox::Inbox;
use super::keys::Keys;
use super::lanes::Lanes;
use crate::mail::message::{Refused, Reply, Request};
use crate::metrics::LinkWriter;
use crate::metrics::catalogue::{LinkCounter, LinkGauge};
use crate::topic::name::TopicName;
use crate::topic::namespace::Namespaces;
use crate::topic::splice::{Errand, News};

mod open;
mod script;
mod session;

use script::{Script, Server};
use session::Session;

/// First and longest pause between two attempts to connect; each is drawn from half of it to all.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Commands that wait to be written.
const PIPELINE_MAX: usize = 16_384;

/// Where the server is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// An ACL user; empty: the default one.
    pub username: String,
    /// The user's password; empty: none.
    pub password: String,
    /// The number of the database.
    pub database: i64,
    /// Authorities (PEM) that may have signed the server's certificate; `None`: there is no TLS, an
    /// empty text: those of the system.
    pub tls: Option<Vec<u8>>,
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// How long connecting, and each command, may take.
    pub timeout: Duration,
    /// Publications that wait for the server; more are refused.
    pub pending_max: usize,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}:{}/{}", self.host, self.port, self.database)
    }
}

/// The link, on its thread.
pub struct Link {
    settings: Settings,
    namespaces: Arc<Namespaces>,
    lanes: Lanes,
    numbers: LinkWriter,
    canary: Canary,
    /// The tickets under which homes want to hear of topics.
    topics: HashMap<TopicName, u32>,
    /// The topics of channels.
    channels: HashMap<Vec<u8>, TopicName>,
    is_up: bool,
}

/// Connections to a server: the one that publications come by must not hold up answers.
struct Connected {
    commands: MultiplexedConnection,
    subscriptions: MultiplexedConnection,
    server: Server,
    inbox: Arc<Inbox>,
}

impl Link {
    /// A link that is not connected yet.
    pub fn new(
        settings: Settings,
        namespaces: Arc<Namespaces>,
        lanes: Lanes,
        numbers: LinkWriter,
    ) -> Self {
        let canary = Canary::new(lanes.shards(), Instant::now());
        Self {
            settings,
            namespaces,
            lanes,
            numbers,
            canary,
            topics: HashMap::new(),
            channels: HashMap::new(),
            is_up: false,
        }
    }

    /// Connects, serves, and connects again, for as long as the process lives. To be run inside of a
    /// local set of tasks.
    pub async fn run<Never>(mut self) -> Never {
        let mut pause = PAUSES.0;
        loop {
            let connecting = connect(self.settings.clone());
            let ended = match self.meanwhile(connecting).await {
                Ok(connected) => {
                    pause = PAUSES.0;
                    self.numbers.count(LinkCounter::Connects);
                    tracing::info!(server = ?self.settings, "the broker can be reached");
                    let ended = Session::new(connected).serve(&mut self).await;
                    self.go_down();
                    ended
                }
                Err(error) => error,
            };
            tracing::warn!(server = ?self.settings, error = %ended, "the broker cannot be reached");
            let drawn = pause.mul_f32(0.5 + fastrand::f32() / 2.0);
            self.meanwhile(sleep(drawn)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Waits for `work`, and says no to everybody until it is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            while let Some(request) = self.lanes.take_request() {
                self.refuse(request);
            }
            while self.lanes.take_pong().is_some() {}
            self.lanes.flush();
            tokio::select! {
                result = &mut work => return result,
                () = self.lanes.rung() => {}
            }
        }
    }

    fn refuse(&mut self, request: Request) {
        let (asker, topic) = match request {
            Request::Errand { errand: Errand::Listen { topic, ticket }, .. } => {
                return self.remember(topic, ticket);
            }
            Request::Errand { errand: Errand::Ignore { topic }, .. } => return self.forget(&topic),
            Request::Publish { asker, draft } => (asker, draft.topic),
            Request::History { asker, topic, .. } => (Some(asker), topic),
            // Homes ask again when they hear that the engine is back.
            _ => return,
        };
        if let Some(asker) = asker {
            self.lanes.answer(asker, Reply::Refused { topic, why: Refused::BrokerDown });
        }
    }

    fn remember(&mut self, topic: TopicName, ticket: u32) {
        let keys = self.keys(&topic);
        self.channels.insert(keys.channel.into_bytes(), topic.clone());
        self.topics.insert(topic, ticket);
        self.show_topics();
    }

    fn forget(&mut self, topic: &TopicName) {
        self.topics.remove(topic);
        self.channels.remove(self.keys(topic).channel.as_bytes());
        self.show_topics();
    }

    fn show_topics(&self) {
        self.numbers.set(LinkGauge::Topics, u64::try_from(self.topics.len()).unwrap_or(u64::MAX));
    }

    fn keys(&self, topic: &TopicName) -> Keys {
        Keys::of(&self.settings.prefix, topic)
    }

    /// Tells everybody that the server can be reached.
    fn come_up(&mut self) {
        self.is_up = true;
        self.lanes.tell_all(&News::Up);
        self.numbers.set(LinkGauge::Up, 1);
    }

    /// Tells everybody that the server cannot be reached: when it falls silent, and when a connection
    /// ends, even if it was silent before. A home may have asked something in between, and would wait
    /// for the answer for ever.
    fn go_down(&mut self) {
        self.is_up = false;
        self.lanes.tell_all(&News::Down);
        self.numbers.set(LinkGauge::Up, 0);
    }
}

async fn connect(settings: Settings) -> RedisResult<Connected> {
    let client = client(&settings)?;
    let config = || {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout))
            .set_pipeline_buffer_size(PIPELINE_MAX)
    };
    let mut commands = client.get_multiplexed_async_connection_with_config(&config()).await?;
    let server = find_server(&mut commands).await?;
    let canary_channel = format!("{}.canary.{:016x}", settings.prefix, fastrand::u64(..));
    let inbox = Arc::new(Inbox::new(canary_channel));
    let taken = Arc::clone(&inbox);
    let push = move |info: PushInfo| {
        take_push(&taken, info);
        Ok::<(), std::convert::Infallible>(())
    };
    let config = config().set_push_sender(push);
    let subscriptions = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(Connected { commands, subscriptions, server, inbox })
}

fn client(settings: &Settings) -> RedisResult<Client> {
    let (host, port) = (settings.host.clone(), settings.port);
    let address = match settings.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        // Redis 7.0 knows no such command.
        .set_skip_set_lib_name()
        .set_db(settings.database);
    if !settings.username.is_empty() {
        redis = redis.set_username(&settings.username);
    }
    if !settings.password.is_empty() {
        redis = redis.set_password(&settings.password);
    }
    let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(redis);
    match &settings.tls {
        None => Client::open(info),
        Some(authorities) => {
            let root_cert = (!authorities.is_empty()).then(|| authorities.clone());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
    }
}

/// Loads the scripts, and finds out what server it is.
async fn find_server(commands: &mut MultiplexedConnection) -> RedisResult<Server> {
    let mut scripts = Vec::new();
    for script in Script::ALL {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.text());
        scripts.push(load.query_async::<String>(commands).await?);
    }
    let scripts = scripts.try_into().unwrap_or_default();
    let info: String = redis::cmd("INFO").arg("server").query_async(commands).await?;
    let run_id = member(&info, "run_id").unwrap_or_default().to_owned();
    let info: String = redis::cmd("INFO").arg("persistence").query_async(commands).await?;
    let is_durable = member(&info, "aof_enabled") == Some("1");
    Ok(Server { scripts, run_id, is_durable })
}

/// The value of a line of INFO.
fn member<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn take_push(inbox: &Inbox, info: PushInfo) {
    match info.kind {
        PushKind::Message => {
            let mut data = info.data.into_iter();
            if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                (data.next(), data.next())
            {
                inbox.push(channel, payload);
            }
        }
        PushKind::Disconnection => inbox.end(),
        _ => {}
    }
}

/// Whether nothing was done: the server has said no, and not fallen silent.
fn is_refusal(error: &RedisError) -> bool {
    !error.is_timeout() && !error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_tells_of_itself_is_found_by_name() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n";
        assert_eq!(member(info, "run_id"), Some("abc"));
        assert_eq!(member(info, "run"), None);
    }
}
