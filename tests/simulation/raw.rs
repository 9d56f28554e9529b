//! A raw client's side: one topic, payloads as messages.

use std::collections::BTreeMap;

use crate::client::{Context, Position};
use crate::plan::TOPICS;
use crate::truth::id_of;

pub(crate) struct Raw {
    pub(crate) topic: usize,
    /// The position that it asked to start behind.
    since: Option<Position>,
    /// Epoch and offset of the next message, where they are counted.
    next: Option<(String, u64)>,
    /// What it has published.
    pub(crate) published: Vec<usize>,
    /// What it has heard.
    pub(crate) run: Vec<usize>,
}

impl Raw {
    /// A client and the target of its request.
    pub(crate) fn new(topic: usize, cx: &mut Context<'_>) -> (Self, String) {
        let known = cx.memory.iter().filter(|(of, ..)| *of == topic && is_counted(topic));
        let known: Vec<&Position> = known.collect();
        let since = (!known.is_empty() && cx.dice.u8(..3) > 0)
            .then(|| known[cx.dice.usize(..known.len())].clone());
        let name = TOPICS[topic];
        let target = match &since {
            Some((_, epoch, offset)) => format!("/topic/{name}?offset={offset}&epoch={epoch}"),
            None => format!("/topic/{name}"),
        };
        (Self { topic, since, next: None, published: Vec::new(), run: Vec::new() }, target)
    }

    /// Whether clients may not publish there.
    pub(crate) fn is_denied(&self) -> bool {
        TOPICS[self.topic].starts_with('d')
    }

    pub(crate) fn answered(
        &mut self,
        status: u16,
        headers: &BTreeMap<String, String>,
        cx: &Context<'_>,
    ) {
        if status != 101 {
            assert!([400, 404, 408, 429, 503].contains(&status), "refused with {status}");
            assert_eq!(status == 404, status == 404 && TOPICS[self.topic].starts_with('z'));
            return;
        }
        let epoch = headers.get("ringway-epoch");
        let offset = headers.get("ringway-offset").map(|text| text.parse().expect("an offset"));
        assert_eq!(epoch.is_some(), is_counted(self.topic), "positions where messages count");
        self.next = epoch.cloned().zip(offset.map(|offset: u64| offset + 1));
        let recovered = headers.get("ringway-recovered").map(String::as_str);
        assert_eq!(recovered.is_some(), self.since.is_some());
        match (&self.since, &self.next) {
            (Some((_, epoch, offset)), Some((now, next))) if recovered == Some("true") => {
                assert_eq!((now, *next), (epoch, offset + 1), "recovered from elsewhere");
            }
            (Some((_, epoch, offset)), Some((now, next))) => {
                let is_kept = cx.plan.ample_history && epoch == now && offset < next;
                assert!(!is_kept, "lost what is still in the history");
            }
            _ => {}
        }
    }

    pub(crate) fn hear(&mut self, payload: &[u8], cx: &mut Context<'_>) {
        let id = id_of(payload);
        assert!(!self.run.contains(&id), "publication {id} came twice");
        let place = self.next.as_ref().map(|(epoch, offset)| (epoch.as_str(), *offset));
        cx.truth.seen(self.topic, place, id);
        if let Some((_, next)) = &mut self.next {
            *next += 1;
        }
        self.run.push(id);
    }

    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        cx.truth.run(self.topic, std::mem::take(&mut self.run));
        if let Some((epoch, next)) = self.next.take() {
            cx.memory.push((self.topic, epoch, next - 1));
        }
    }
}

/// Whether raw clients can count the messages of a topic.
fn is_counted(topic: usize) -> bool {
    ["s", "o", "d"].iter().any(|namespace| TOPICS[topic].starts_with(namespace))
}
