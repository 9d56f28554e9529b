//! The history of a topic holds what a plain list would, whatever its bounds.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ringway::topic::history::{History, HistoryQuery, Order};
use ringway::topic::name::TopicName;
use ringway::topic::namespace::{Broker, Mode, Namespace, PublishRight};
use ringway::topic::publication::{Epoch, Payload, Position, Publication};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What is kept, by the rules: number, bytes, and when it was published.
#[derive(Default)]
struct Model {
    top: u64,
    kept: Vec<(u64, usize, Instant)>,
}

impl Model {
    fn trim(&mut self, namespace: &Namespace, now: Instant) {
        let size = if namespace.mode == Mode::Latest { 1 } else { namespace.history_size };
        let bytes = |kept: &[(u64, usize, Instant)]| kept.iter().map(|one| one.1).sum::<usize>();
        while self.kept.len() > size
            || bytes(&self.kept) > namespace.history_bytes_max
            || self.kept.first().is_some_and(|one| now - one.2 >= namespace.history_age)
        {
            self.kept.remove(0);
        }
    }
}

/// First three bytes: the bounds. Then steps of two bytes.
pub(crate) fn check(data: &[u8]) {
    let [mode, size, bytes_max, steps @ ..] = data else { return };
    let namespace = Namespace {
        name: String::new(),
        mode: if mode & 1 == 1 { Mode::Latest } else { Mode::Stream },
        broker: Broker::Embedded,
        history_size: usize::from(*size % 16) + 1,
        history_age: Duration::from_secs(10),
        history_bytes_max: usize::from(*bytes_max),
        recovery: true,
        publish: PublishRight::Allow,
        compress: false,
    };
    let (mut history, mut model, mut now) = (History::default(), Model::default(), *START);
    let topic = TopicName::new("t").expect("a good name");
    for step in steps.chunks_exact(2).take(500) {
        let (step, more) = (step[0], step[1]);
        match step % 4 {
            0 | 1 => {
                model.top += 1;
                let payload = Payload::Binary(vec![more; usize::from(more % 64)].into());
                let publication = Publication {
                    topic: topic.clone(),
                    offset: Some(model.top),
                    payload,
                    publisher: None,
                    tags: None,
                };
                history.push(Arc::new(publication), &namespace, now);
                model.kept.push((model.top, usize::from(more % 64), now));
                model.trim(&namespace, now);
            }
            2 => {
                now += Duration::from_secs(u64::from(more % 12));
                history.expire(&namespace, now);
                model.trim(&namespace, now);
            }
            _ => read(&history, &model, step, more),
        }
        let bytes: usize = model.kept.iter().map(|one| one.1).sum();
        assert_eq!((history.len(), history.bytes()), (model.kept.len(), bytes));
        assert_eq!(history.is_empty(), model.kept.is_empty());
        let newest = history.newest().and_then(|publication| publication.offset);
        assert_eq!(newest, model.kept.last().map(|one| one.0));
    }
}

fn read(history: &History, model: &Model, step: u8, more: u8) {
    let offset = (model.top + 2).saturating_sub(u64::from(more % 32));
    let offsets = |publications: Vec<Arc<Publication>>| -> Vec<u64> {
        publications.iter().filter_map(|publication| publication.offset).collect()
    };
    let missed: Vec<u64> = (offset + 1..=model.top).collect();
    let has_all = missed.iter().all(|number| model.kept.iter().any(|one| one.0 == *number));
    let expected = (offset <= model.top && has_all).then_some(missed);
    assert_eq!(history.after(offset, model.top).map(offsets), expected);

    let limit = usize::from(more % 5);
    let since = (step & 64 == 0).then(|| Position { offset, epoch: Epoch::new("e") });
    let mut numbers: Vec<u64> = model.kept.iter().map(|one| one.0).collect();
    let order = if step & 128 == 0 { Order::Forward } else { Order::Reverse };
    if order == Order::Reverse {
        numbers.reverse();
    }
    numbers.retain(|number| match (&since, order) {
        (None, _) => true,
        (Some(since), Order::Forward) => *number > since.offset,
        (Some(since), Order::Reverse) => *number < since.offset,
    });
    numbers.truncate(limit);
    assert_eq!(offsets(history.read(&HistoryQuery { limit, since, order })), numbers);
}
