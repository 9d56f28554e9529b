//! What was published, in which order clients have seen it, and whether that can be true.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::is_latest;

/// A place in a topic: topic, epoch, offset.
type Place = (usize, String, u64);

/// One thing that somebody wanted to publish; its number is in its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) topic: usize,
    /// The connection, or `None` for the server API.
    pub(crate) publisher: Option<usize>,
}

/// The order of one topic as the control thread has heard it, from its subscription on.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) order: Vec<usize>,
}

/// Everything that is known about publications.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    drafts: Vec<Draft>,
    at: BTreeMap<Place, usize>,
    place_of: BTreeMap<usize, Place>,
    acked: BTreeSet<usize>,
    refused: BTreeSet<usize>,
    /// What was sent before its publisher ended in good order.
    sent_whole: BTreeSet<usize>,
    pub(crate) witnesses: BTreeMap<usize, Witness>,
    runs: Vec<(usize, Vec<usize>)>,
    pub(crate) delivered: u64,
    /// Publications that came by recovery.
    pub(crate) recovered: u64,
    /// Wishes to recover that came too late.
    pub(crate) lost: u64,
}

impl Truth {
    /// A new draft's number.
    pub(crate) fn draft(&mut self, topic: usize, publisher: Option<usize>) -> usize {
        self.drafts.push(Draft { topic, publisher });
        self.drafts.len() - 1
    }

    /// A client was sent publication `id` as one of `topic`, at this place if it has one.
    pub(crate) fn seen(&mut self, topic: usize, place: Option<(&str, u64)>, id: usize) {
        self.delivered += 1;
        let draft = self.drafts.get(id).unwrap_or_else(|| panic!("{id} was never published"));
        assert_eq!(draft.topic, topic, "publication {id} came to another topic");
        assert!(!self.refused.contains(&id), "{id} was refused, and yet delivered");
        let Some((epoch, offset)) = place else { return };
        let place = (topic, epoch.to_owned(), offset);
        let there = *self.at.entry(place.clone()).or_insert(id);
        assert_eq!(there, id, "two publications at {place:?}");
        let known = self.place_of.entry(id).or_insert_with(|| place.clone());
        assert_eq!(*known, place, "publication {id} has two places");
    }

    /// The publisher was told that `id` was published.
    pub(crate) fn acked(&mut self, id: usize) {
        assert!(self.acked.insert(id), "{id} was acknowledged twice");
        assert!(!self.refused.contains(&id), "{id} was refused and acknowledged");
    }

    /// The publisher was told that `id` was not published.
    pub(crate) fn refused(&mut self, id: usize) {
        assert!(!self.place_of.contains_key(&id), "{id} was delivered, and yet refused");
        assert!(self.refused.insert(id), "{id} was refused twice");
    }

    /// Whoever sent this has ended in good order: all of it must have been published.
    pub(crate) fn sent_whole(&mut self, ids: impl IntoIterator<Item = usize>) {
        self.sent_whole.extend(ids);
    }

    /// What one subscription was sent, in order, of a topic: without a gap, unless only the newest
    /// value of the topic counts.
    pub(crate) fn run(&mut self, topic: usize, ids: Vec<usize>) {
        if self.witnesses.contains_key(&topic) && !ids.is_empty() {
            self.runs.push((topic, ids));
        }
    }

    /// The control thread has heard `id`.
    pub(crate) fn witnessed(&mut self, topic: usize, id: usize) {
        self.seen(topic, None, id);
        self.witnesses.entry(topic).or_default().order.push(id);
    }

    /// Compares every subscription with what the control thread has heard.
    pub(crate) fn compare(&self) {
        for (&topic, witness) in &self.witnesses {
            let unique: BTreeSet<usize> = witness.order.iter().copied().collect();
            assert_eq!(unique.len(), witness.order.len(), "topic {topic} has repetitions");
            let acked = self.acked.iter().filter(|&&id| self.drafts[id].topic == topic);
            for id in acked {
                assert!(unique.contains(id), "{id} was acknowledged and never delivered");
            }
            let whole = self.sent_whole.iter().filter(|&&id| self.drafts[id].topic == topic);
            for id in whole {
                assert!(unique.contains(id), "{id} was sent before the end and never published");
            }
            self.compare_publishers(topic, &witness.order);
        }
        for (topic, ids) in &self.runs {
            let order = &self.witnesses[topic].order;
            let start = order.iter().position(|id| *id == ids[0]);
            let start = start.unwrap_or_else(|| panic!("the home never delivered {}", ids[0]));
            if is_latest(*topic) {
                let mut later = order[start..].iter();
                let is_in_order = ids.iter().all(|id| later.any(|of| of == id));
                assert!(is_in_order, "another order in topic {topic}: {ids:?} of {order:?}");
                continue;
            }
            let end = order.len().min(start + ids.len());
            assert_eq!(&order[start..end], ids, "another order, or a gap, in topic {topic}");
        }
    }

    /// What one publisher sends to a topic keeps its order: numbers are drawn in the order of sending.
    fn compare_publishers(&self, topic: usize, order: &[usize]) {
        let mut last = BTreeMap::new();
        for &id in order {
            let before = last.insert(self.drafts[id].publisher, id);
            let in_order = before.is_none_or(|before| before < id);
            assert!(in_order, "{id} of topic {topic} was overtaken by {before:?}");
        }
    }
}

/// The number in a payload; see [`payload`].
pub(crate) fn id_of(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).unwrap_or_else(|_| panic!("a payload was changed"));
    let number = text.strip_prefix("{\"p\":").and_then(|rest| rest.split_once(','));
    let (number, rest) = number.unwrap_or_else(|| panic!("a payload was changed: {text}"));
    let id = number.parse().unwrap_or_else(|_| panic!("a payload was changed: {text}"));
    let padding = rest.len() - "\"x\":\"\"}".len();
    assert_eq!(text.as_bytes(), payload_of(id, padding), "a payload was changed");
    id
}

/// The payload of draft `id`, filled up by `padding` bytes.
pub(crate) fn payload_of(id: usize, padding: usize) -> Vec<u8> {
    let letters: String = ('a'..='z').cycle().skip(id % 26).take(padding).collect();
    format!("{{\"p\":{id},\"x\":\"{letters}\"}}").into_bytes()
}
