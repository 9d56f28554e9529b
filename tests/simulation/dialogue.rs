//! A Centrifugo client's side: commands, replies, pushes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::client::{Context, Position};
use crate::codec::base64;
use crate::plan::{TOPICS, is_latest};
use crate::truth::id_of;

/// What waits for its reply.
#[derive(Debug)]
enum Command {
    Connect,
    Subscribe {
        topic: usize,
        since: Option<Position>,
    },
    Unsubscribe {
        topic: usize,
    },
    /// Of publication `id`, while subscription `heard_by` stood.
    Publish {
        topic: usize,
        id: usize,
        heard_by: Option<u32>,
    },
    History {
        topic: usize,
    },
    Unavailable,
}

/// A subscription that stands.
#[derive(Debug)]
struct Channel {
    /// The command that made it.
    by: u32,
    epoch: String,
    /// The offset of the next publication, when known.
    next: Option<u64>,
    run: Vec<usize>,
}

#[derive(Default)]
pub(crate) struct Dialogue {
    frame_pings: bool,
    client: Option<String>,
    last_id: u32,
    commands: BTreeMap<u32, Command>,
    channels: BTreeMap<usize, Channel>,
    /// What has come of topics without positions.
    seen: BTreeSet<usize>,
    /// How far the others have come, by topic.
    reached: BTreeMap<usize, (String, u64)>,
}

impl Dialogue {
    /// A client and the target of its request.
    pub(crate) fn new(cx: &mut Context<'_>) -> (Self, String) {
        let frame_pings = cx.dice.u8(..4) == 0;
        let query = if frame_pings { "?cf_ws_frame_ping_pong=true" } else { "" };
        let target = format!("/connection/websocket{query}");
        (Self { frame_pings, ..Self::default() }, target)
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client.as_deref()
    }

    pub(crate) fn hears(&self, id: usize) -> Vec<(usize, bool)> {
        self.channels.iter().map(|(&topic, channel)| (topic, channel.run.contains(&id))).collect()
    }

    /// The last publication that has come of each topic.
    pub(crate) fn newest(&self) -> Vec<(usize, usize)> {
        let channels = self.channels.iter();
        channels.filter_map(|(&topic, channel)| Some((topic, *channel.run.last()?))).collect()
    }

    pub(crate) fn assert_settled(&self) {
        assert!(self.commands.is_empty(), "no reply to {:?}", self.commands);
    }

    /// The next message to send: a command or several.
    pub(crate) fn speak(&mut self, uid: usize, cx: &mut Context<'_>) -> Option<Vec<u8>> {
        if self.client.is_none() {
            return self.commands.is_empty().then(|| self.ask(Command::Connect, "connect", "{}"));
        }
        if self.commands.len() > 60 {
            return None;
        }
        let mut text = self.command(uid, cx);
        while cx.dice.u8(..4) == 0 && text.len() < 4000 {
            text.push(b'\n');
            text.extend(self.command(uid, cx));
        }
        Some(text)
    }

    fn command(&mut self, uid: usize, cx: &mut Context<'_>) -> Vec<u8> {
        let topic = cx.dice.usize(..TOPICS.len());
        let name = TOPICS[topic];
        match cx.dice.u8(..20) {
            0..=4 => self.subscribe(topic, cx),
            5..=6 => {
                let parameters = format!(r#"{{"channel":"{name}"}}"#);
                self.ask(Command::Unsubscribe { topic }, "unsubscribe", &parameters)
            }
            7 => {
                // Subscriptions that cross on their way.
                let mut text = self.subscribe(topic, cx);
                let parameters = format!(r#"{{"channel":"{name}"}}"#);
                text.push(b'\n');
                text.extend(self.ask(Command::Unsubscribe { topic }, "unsubscribe", &parameters));
                text.push(b'\n');
                text.extend(self.subscribe(topic, cx));
                text
            }
            8 => {
                let limit = cx.dice.i32(-1..20);
                let reverse = cx.dice.bool();
                let parameters =
                    format!(r#"{{"channel":"{name}","limit":{limit},"reverse":{reverse}}}"#);
                self.ask(Command::History { topic }, "history", &parameters)
            }
            9 => self.ask(Command::Unavailable, "presence", &format!(r#"{{"channel":"{name}"}}"#)),
            10 if is_latest(topic) => {
                // A value of the subscription that ends, and one of that which begins.
                let parameters = format!(r#"{{"channel":"{name}"}}"#);
                let steps = [
                    self.publish(topic, uid, cx),
                    self.ask(Command::Unsubscribe { topic }, "unsubscribe", &parameters),
                    self.subscribe(topic, cx),
                    self.publish(topic, uid, cx),
                ];
                steps.join(&b'\n')
            }
            _ => self.publish(topic, uid, cx),
        }
    }

    fn publish(&mut self, topic: usize, uid: usize, cx: &mut Context<'_>) -> Vec<u8> {
        let (id, payload) = cx.draft(topic, uid);
        let data = String::from_utf8(payload).expect("payloads are ASCII");
        let parameters = format!(r#"{{"channel":"{}","data":{data}}}"#, TOPICS[topic]);
        let heard_by = self.channels.get(&topic).map(|channel| channel.by);
        self.ask(Command::Publish { topic, id, heard_by }, "publish", &parameters)
    }

    fn subscribe(&mut self, topic: usize, cx: &mut Context<'_>) -> Vec<u8> {
        let name = TOPICS[topic];
        let known: Vec<&Position> = cx.memory.iter().filter(|(of, ..)| *of == topic).collect();
        let since = (!known.is_empty() && cx.dice.bool())
            .then(|| known[cx.dice.usize(..known.len())].clone());
        let parameters = match &since {
            Some((_, epoch, offset)) => format!(
                r#"{{"channel":"{name}","recover":true,"offset":{offset},"epoch":"{epoch}"}}"#
            ),
            None => format!(r#"{{"channel":"{name}"}}"#),
        };
        self.ask(Command::Subscribe { topic, since }, "subscribe", &parameters)
    }

    fn ask(&mut self, command: Command, method: &str, parameters: &str) -> Vec<u8> {
        self.last_id += 1;
        self.commands.insert(self.last_id, command);
        format!(r#"{{"id":{},"{method}":{parameters}}}"#, self.last_id).into_bytes()
    }

    /// Takes a message; returns the answer to a ping.
    pub(crate) fn hear(&mut self, message: &[u8], cx: &mut Context<'_>) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(message).expect("replies are UTF-8");
        if text == "{}" {
            assert!(!self.frame_pings, "pinged by a message");
            return Some(b"{}".to_vec());
        }
        for line in text.split('\n') {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            match line.get("push") {
                Some(push) => self.pushed(push, cx),
                None => self.replied(&line, cx),
            }
        }
        None
    }

    fn pushed(&mut self, push: &Value, cx: &mut Context<'_>) {
        let name = push["channel"].as_str().expect("a channel");
        let topic = TOPICS.iter().position(|topic| *topic == name).expect("a known channel");
        let channel = self.channels.get_mut(&topic);
        let channel = channel.unwrap_or_else(|| panic!("a push of {name}, not subscribed"));
        take(topic, channel, &push["pub"], &mut self.seen, cx);
    }

    fn replied(&mut self, reply: &Value, cx: &mut Context<'_>) {
        let id = u32::try_from(reply["id"].as_u64().expect("an id")).expect("a small id");
        let command = self.commands.remove(&id);
        let command = command.unwrap_or_else(|| panic!("{reply} answers nothing"));
        let error = reply.get("error").map(|error| error["code"].as_u64().expect("a code"));
        match (command, error) {
            (Command::Connect, None) => {
                self.client = reply["connect"]["client"].as_str().map(str::to_owned);
                assert!(self.client.is_some());
            }
            (Command::Subscribe { topic, since }, None) => {
                self.subscribed(topic, since.as_ref(), id, &reply["subscribe"], cx);
            }
            (Command::Subscribe { topic, .. }, Some(code)) => self.not_subscribed(topic, code),
            (Command::Unsubscribe { topic }, None) => {
                assert!(reply["unsubscribe"].is_object(), "{reply}");
                self.drop_channel(topic, cx);
            }
            (Command::Publish { topic, id, heard_by }, None) => {
                assert!(reply["publish"].is_object(), "{reply}");
                cx.truth.acked(id);
                let channel = self.channels.get(&topic).filter(|now| Some(now.by) == heard_by);
                let is_heard = channel.is_none_or(|channel| {
                    // A newer value may have come in its place.
                    let is_spared = is_latest(topic) && !channel.run.is_empty();
                    is_spared || channel.run.contains(&id)
                });
                assert!(is_heard, "{id} was acknowledged before it came");
            }
            (Command::Publish { topic, id, .. }, Some(code)) => {
                cx.truth.refused(id);
                let is_right = match &TOPICS[topic][..1] {
                    "z" => code == 102,
                    "d" => code == 103,
                    "o" => code == 103,
                    _ => code == 106 && !cx.plan.has_topics_for_all(),
                };
                assert!(is_right, "publishing to {} gave {code}", TOPICS[topic]);
            }
            (Command::History { topic }, None) => Self::past(topic, &reply["history"], cx),
            (Command::History { .. }, Some(code)) => assert!([102, 103, 106, 108].contains(&code)),
            (Command::Unavailable, Some(code)) => assert_eq!(code, 108),
            (command, _) => panic!("{reply} answers {command:?}"),
        }
    }

    fn not_subscribed(&self, topic: usize, code: u64) {
        let is_joining = self
            .commands
            .values()
            .any(|command| matches!(command, Command::Subscribe { topic: of, .. } if *of == topic));
        let is_right = match code {
            102 => TOPICS[topic].starts_with('z'),
            105 => self.channels.contains_key(&topic) || is_joining,
            // Unsubscribed while it was under way; or a limit of the seed.
            100 | 106 => true,
            _ => false,
        };
        assert!(is_right, "subscribing to {} gave {code}", TOPICS[topic]);
    }

    fn subscribed(
        &mut self,
        topic: usize,
        since: Option<&Position>,
        by: u32,
        result: &Value,
        cx: &mut Context<'_>,
    ) {
        assert!(result.is_object(), "{result}");
        let namespace = &TOPICS[topic][..1];
        let is_positioned = result["positioned"] == true;
        assert_eq!(is_positioned, namespace != "l", "positions where there is a history");
        let epoch = result["epoch"].as_str().unwrap_or_default().to_owned();
        let offset = result["offset"].as_u64().unwrap_or(0);
        let is_recovered = result["recovered"] == true;
        let mut next = is_positioned.then_some(offset + 1);
        if let Some((_, then, asked)) = since {
            assert_eq!(result["was_recovering"], true);
            cx.truth.lost += u64::from(!is_recovered);
            if is_recovered {
                assert_eq!(offset, *asked, "recovered from elsewhere");
                assert!(*then == epoch || namespace == "k", "recovered from another epoch");
            } else if cx.plan.ample_history && namespace == "s" {
                assert!(*then != epoch || *asked > offset, "lost what is still in the history");
            }
        }
        if let Some((then, reached)) = self.reached.get(&topic)
            && since.is_none()
        {
            assert!(*then != epoch || offset >= *reached, "the position went back");
        }
        if namespace == "k" && is_recovered {
            // The newest may be any number of offsets later.
            let newest = result["publications"].get(0);
            next = newest.and_then(|of| of["offset"].as_u64());
        }
        let missed = result["publications"].as_array().cloned().unwrap_or_default();
        assert!(missed.is_empty() || is_recovered, "{result}");
        cx.truth.recovered += missed.len() as u64;
        let mut channel = Channel { by, epoch, next, run: Vec::new() };
        for publication in &missed {
            take(topic, &mut channel, publication, &mut self.seen, cx);
        }
        if namespace == "k" {
            channel.run.clear();
        }
        let before = self.channels.insert(topic, channel);
        assert!(before.is_none(), "subscribed twice to {}", TOPICS[topic]);
    }

    fn past(topic: usize, result: &Value, cx: &mut Context<'_>) {
        let epoch = result["epoch"].as_str().expect("an epoch");
        let top = result["offset"].as_u64().unwrap_or(0);
        let mut before: Option<u64> = None;
        for publication in result["publications"].as_array().into_iter().flatten() {
            let offset = publication["offset"].as_u64().expect("an offset");
            assert!(offset <= top, "{result}");
            assert!(before.is_none_or(|before| before.abs_diff(offset) == 1), "{result}");
            before = Some(offset);
            cx.truth.seen(topic, Some((epoch, offset)), id_of(&data_of(publication)));
        }
    }

    fn drop_channel(&mut self, topic: usize, cx: &mut Context<'_>) {
        let Some(channel) = self.channels.remove(&topic) else { return };
        cx.truth.run(topic, channel.run);
        if let Some(next) = channel.next {
            self.reached.insert(topic, (channel.epoch.clone(), next - 1));
            cx.memory.push((topic, channel.epoch, next - 1));
        }
    }

    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        let topics: Vec<usize> = self.channels.keys().copied().collect();
        topics.into_iter().for_each(|topic| self.drop_channel(topic, cx));
    }
}

/// Takes one publication that comes on a subscription.
fn take(
    topic: usize,
    channel: &mut Channel,
    publication: &Value,
    seen: &mut BTreeSet<usize>,
    cx: &mut Context<'_>,
) {
    let id = id_of(&data_of(publication));
    let offset = publication["offset"].as_u64();
    assert_eq!(offset.is_some(), !channel.epoch.is_empty(), "{publication}");
    if let Some(offset) = offset {
        let is_next =
            channel.next.is_none_or(|next| next == offset || (is_latest(topic) && next < offset));
        assert!(is_next, "offset {offset} of {} instead of {:?}", TOPICS[topic], channel.next);
        channel.next = Some(offset + 1);
    } else {
        assert!(seen.insert(id), "publication {id} came twice");
    }
    cx.truth.seen(topic, offset.map(|offset| (channel.epoch.as_str(), offset)), id);
    channel.run.push(id);
}

/// The payload as it was published: JSON as it is, binary in Base64.
fn data_of(publication: &Value) -> Vec<u8> {
    match &publication["data"] {
        Value::String(text) => base64(text).expect("Base64"),
        json => json.to_string().into_bytes(),
    }
}
