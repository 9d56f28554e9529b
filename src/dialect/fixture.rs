//! What sessions work with, for tests.

use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::keepalive::{self, Keepalive};
use super::scratch::Scratch;
use super::{Action, Context, Settings, centrifuge};
use crate::topic::namespace::{Broker, Mode, Namespace, Namespaces, PublishRight};

/// The two ends of every call.
pub(super) struct Fixture {
    pub(super) now: Instant,
    pub(super) frames: Vec<u8>,
    pub(super) actions: Vec<Action>,
    pub(super) keepalive: Keepalive,
    allowance: Allowance,
    pub(super) settings: Settings,
    namespaces: Namespaces,
    scratch: Scratch,
    pub(super) written: u64,
}

impl Fixture {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let ping = keepalive::Settings {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(8),
        };
        let centrifuge = centrifuge::Settings { ping, connect_timeout: Duration::from_secs(10) };
        Self {
            now,
            frames: Vec::new(),
            actions: Vec::new(),
            keepalive: Keepalive::new(now, ping, 1.0),
            allowance: Allowance::default(),
            settings: Settings { ping, commands: None, centrifuge },
            namespaces: namespaces(),
            scratch: Scratch::default(),
            written: 0,
        }
    }

    pub(super) fn cx(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            frames: &mut self.frames,
            actions: &mut self.actions,
            namespaces: &self.namespaces,
            keepalive: &mut self.keepalive,
            allowance: &mut self.allowance,
            settings: &self.settings,
            scratch: &mut self.scratch,
            written: &mut self.written,
            outbound: None,
        }
    }

    /// Lets a ping fall due.
    pub(super) fn ping_due(&mut self) {
        self.now = self.keepalive.deadline();
        let due = self.keepalive.handle_timeout(self.now, self.settings.ping);
        assert_eq!(due, keepalive::Due::Ping);
    }

    /// The texts of the short text frames written since the last call.
    pub(super) fn texts(&mut self) -> Vec<String> {
        let frames = std::mem::take(&mut self.frames);
        let mut rest = &frames[..];
        let mut texts = Vec::new();
        while let [0x81, len, behind @ ..] = rest {
            let (len, behind) = match len {
                126 => (usize::from(behind[0]) << 8 | usize::from(behind[1]), &behind[2..]),
                _ => (usize::from(*len), behind),
            };
            texts.push(String::from_utf8(behind[..len].to_vec()).unwrap());
            rest = &behind[len..];
        }
        assert!(rest.is_empty(), "not a text frame: {rest:?}");
        texts
    }

    /// The actions asked for since the last call.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

/// `stream:`, `latest:` and `live:` keep what they are called after and let subscribers publish;
/// `open:` lets all publish, `quiet:` none.
pub(super) fn namespaces() -> Namespaces {
    let namespace = |name: &str, mode, recovery, publish| Namespace {
        name: name.to_owned(),
        mode,
        broker: Broker::Embedded,
        history_size: 100,
        history_age: Duration::from_secs(60),
        history_bytes_max: 1 << 18,
        recovery,
        publish,
        compress: true,
    };
    Namespaces::new([
        namespace("stream", Mode::Stream, true, PublishRight::Subscribers),
        namespace("latest", Mode::Latest, true, PublishRight::Subscribers),
        namespace("live", Mode::Live, false, PublishRight::Subscribers),
        namespace("open", Mode::Live, false, PublishRight::Allow),
        namespace("quiet", Mode::Stream, false, PublishRight::Deny),
    ])
}
