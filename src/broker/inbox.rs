//! What a subscription has sent and nobody has taken yet; bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;
use tokio::sync::Notify;

/// Bytes of messages that may wait. Of what comes beyond that only the channel is remembered.
const BYTES_MAX: usize = 32 << 20;

/// What a message takes besides its bytes, roughly.
const OVERHEAD_BYTES: usize = 128;

/// Messages by channel, oldest first. A canary overtakes them: it shows that the engine answers, and
/// not how much there is to do.
#[derive(Debug)]
pub(super) struct Inbox {
    canary_channel: String,
    contents: Mutex<Contents>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    messages: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    /// Channels of messages for which there was no room.
    missed: HashSet<Vec<u8>>,
    /// The last canary that came.
    canary: Option<u32>,
    is_broken: bool,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A message.
    Message { channel: Vec<u8>, payload: Vec<u8> },
    /// Messages of this channel were missed.
    Missed { channel: Vec<u8> },
    /// The connection has ended.
    Broken,
}

impl Inbox {
    /// An empty one; canaries come by `canary_channel`.
    pub(super) fn new(canary_channel: String) -> Self {
        Self { canary_channel, contents: Mutex::default(), arrived: Notify::new() }
    }

    /// The channel that canaries come by.
    pub(super) fn canary_channel(&self) -> &str {
        &self.canary_channel
    }

    /// A message has come.
    pub(super) fn push(&self, channel: Vec<u8>, payload: Vec<u8>) {
        let mut contents = self.contents();
        let bytes = channel.len() + payload.len() + OVERHEAD_BYTES;
        if channel == self.canary_channel.as_bytes() {
            let number = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
            contents.canary = number.or(contents.canary);
        } else if contents.bytes + bytes > BYTES_MAX {
            contents.missed.insert(channel);
        } else {
            contents.bytes += bytes;
            contents.messages.push_back((channel, payload));
        }
        drop(contents);
        self.arrived.notify_one();
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.contents().is_broken = true;
        self.arrived.notify_one();
    }

    /// Takes the canary that has come, if one has.
    pub(super) fn take_canary(&self) -> Option<u32> {
        self.contents().canary.take()
    }

    /// The next item, if there is one.
    pub(super) fn take(&self) -> Option<Item> {
        let mut contents = self.contents();
        if let Some((channel, payload)) = contents.messages.pop_front() {
            contents.bytes -= channel.len() + payload.len() + OVERHEAD_BYTES;
            return Some(Item::Message { channel, payload });
        }
        // Behind what was not missed: then what is read next reaches further than that.
        if let Some(channel) = contents.missed.iter().next().cloned() {
            contents.missed.remove(&channel);
            return Some(Item::Missed { channel });
        }
        contents.is_broken.then_some(Item::Broken)
    }

    /// Waits for something to be there.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_told_as_missed_behind_the_rest() {
        let inbox = Inbox::new("canary".to_owned());
        let big = vec![0; BYTES_MAX - OVERHEAD_BYTES - 1];
        inbox.push(b"a".to_vec(), big.clone());
        inbox.push(b"b".to_vec(), b"1".to_vec());
        inbox.push(b"b".to_vec(), b"2".to_vec());
        inbox.end();
        assert_eq!(inbox.take(), Some(Item::Message { channel: b"a".to_vec(), payload: big }));
        assert_eq!(inbox.take(), Some(Item::Missed { channel: b"b".to_vec() }));
        inbox.push(b"c".to_vec(), b"3".to_vec());
        let message = Item::Message { channel: b"c".to_vec(), payload: b"3".to_vec() };
        assert_eq!(inbox.take(), Some(message), "there is room again");
        assert_eq!((inbox.take(), inbox.take()), (Some(Item::Broken), Some(Item::Broken)));
    }

    #[test]
    fn a_canary_waits_behind_nothing_and_always_finds_room() {
        let inbox = Inbox::new("canary".to_owned());
        let big = vec![0; BYTES_MAX - OVERHEAD_BYTES - 1];
        inbox.push(b"a".to_vec(), big.clone());
        inbox.push(b"canary".to_vec(), b"7".to_vec());
        inbox.push(b"canary".to_vec(), b"no number".to_vec());
        assert_eq!((inbox.take_canary(), inbox.take_canary()), (Some(7), None));
        assert_eq!(inbox.take(), Some(Item::Message { channel: b"a".to_vec(), payload: big }));
        assert_eq!(inbox.take(), None);
    }
}
