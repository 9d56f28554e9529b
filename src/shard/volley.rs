//! Publications of one topic that came one behind the other, delivered together: one walk over the
//! subscribers and one frame reference for each, instead of one for each publication.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::mail::frames::Frames;
use crate::mail::message::{Asker, Encoded};

/// What is delivered together.
#[derive(Debug, Default)]
pub(super) struct Volley {
    publications: Vec<Arc<Encoded>>,
    /// Whom to tell that their publications are delivered.
    pub(super) askers: Vec<Asker>,
    /// Bytes of the longest form of each, added up.
    bytes: usize,
}

impl Volley {
    /// Whether `next` may go with the others, which have no more than `bytes_max` then: it must be of
    /// the same topic.
    pub(super) fn takes(&self, next: &Encoded, bytes_max: usize) -> bool {
        self.publications.first().is_none_or(|first| {
            first.topic == next.topic && self.bytes + longest(next) <= bytes_max
        })
    }

    /// Adds one; [`Volley::takes`] must have said so.
    pub(super) fn add(&mut self, next: Arc<Encoded>, asker: Option<Asker>) {
        self.bytes += longest(&next);
        self.publications.push(next);
        self.askers.extend(asker);
    }

    /// Bytes of the longest form of each, added up.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is to be delivered, oldest first.
    pub(super) fn publications(&self) -> &[Arc<Encoded>] {
        &self.publications
    }

    /// Empties it; its memory stays.
    pub(super) fn clear(&mut self) {
        self.publications.clear();
        self.askers.clear();
        self.bytes = 0;
    }

    /// The frames of `form`, oldest first.
    pub(super) fn frames(&self, form: usize) -> impl Iterator<Item = &Bytes> {
        self.publications.iter().filter_map(move |encoded| encoded.forms[form].as_ref())
    }

    /// The frames of `form` as one piece of memory, entered into `ledger` where it is a new one;
    /// `None`: nobody wants that form.
    pub(super) fn joined(&self, form: usize, ledger: &Frames) -> Option<Bytes> {
        let mut frames = self.frames(form);
        let first = frames.next()?;
        if self.publications.len() == 1 {
            return Some(first.clone());
        }
        let mut joined = BytesMut::with_capacity(self.frames(form).map(Bytes::len).sum());
        self.frames(form).for_each(|frame| joined.extend_from_slice(frame));
        Some(ledger.enter_one(joined.freeze()))
    }
}

fn longest(encoded: &Encoded) -> usize {
    encoded.forms.iter().flatten().map(Bytes::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::interests::FORMS_MAX;
    use crate::topic::name::TopicName;
    use crate::topic::namespace::Mode;

    fn publication(topic: &str, frame: &'static [u8]) -> Arc<Encoded> {
        let mut forms: [Option<Bytes>; FORMS_MAX] = Default::default();
        forms[1] = Some(Bytes::from_static(frame));
        Arc::new(Encoded { topic: TopicName::new(topic).unwrap(), mode: Mode::Stream, forms })
    }

    #[test]
    fn only_publications_of_one_topic_go_together_and_only_so_many_bytes() {
        let mut volley = Volley::default();
        let (one, long) = (publication("a", b"one"), publication("a", b"longer"));
        assert!(volley.takes(&long, 1), "whatever it is, the first goes");
        volley.add(one, None);
        assert!(volley.takes(&long, 9) && !volley.takes(&long, 8));
        assert!(!volley.takes(&publication("b", b"two"), 100));
        volley.clear();
        assert!(volley.takes(&publication("b", b"two"), 100) && volley.bytes() == 0);
    }

    #[test]
    fn frames_are_joined_in_their_order_and_counted_while_they_live() {
        let (mut volley, ledger) = (Volley::default(), Frames::default());
        volley.add(publication("a", b"one"), None);
        let alone = volley.joined(1, &ledger).unwrap();
        assert_eq!((&alone[..], ledger.bytes()), (&b"one"[..], 0), "no copy of a single frame");
        volley.add(publication("a", b"two"), None);
        let joined = volley.joined(1, &ledger).unwrap();
        assert_eq!(&joined[..], b"onetwo");
        assert!(ledger.bytes() >= 6);
        assert_eq!(volley.joined(0, &ledger), None);
        drop(joined);
        assert_eq!(ledger.bytes(), 0);
    }
}
