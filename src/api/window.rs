//! Which publications were made under which idempotency key.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::failure::Failure;
use crate::topic::name::TopicName;
use crate::topic::publication::Position;

/// What became of a publication; `None` until that is known.
pub(super) type Outcome = Option<Result<Option<Position>, Failure>>;

/// A topic and the key that the publisher gave.
pub(super) type Key = (TopicName, Box<str>);

/// Outcomes of recent publications, bounded in number and age: when there are too many, the
/// oldest is forgotten, and its key publishes anew.
pub(super) struct Window {
    outcomes: HashMap<Key, (Instant, watch::Receiver<Outcome>)>,
    order: VecDeque<(Instant, Key)>,
    len_max: usize,
    age_max: Duration,
}

/// What is known of a key.
pub(super) enum Known {
    /// It was used before: this will say what came of it.
    Earlier(watch::Receiver<Outcome>),
    /// It was not: publish, and say here what comes of it.
    New(watch::Sender<Outcome>),
}

impl Window {
    /// Nothing is known yet.
    pub(super) fn new(len_max: usize, age_max: Duration) -> Self {
        Self { outcomes: HashMap::new(), order: VecDeque::new(), len_max, age_max }
    }

    /// What is known of `key`, which is used at `now`.
    pub(super) fn enter(&mut self, key: &Key, now: Instant) -> Known {
        self.expire(now);
        if let Some((_, outcome)) = self.outcomes.get(key) {
            return Known::Earlier(outcome.clone());
        }
        if self.order.len() >= self.len_max {
            self.drop_oldest();
        }
        let (sender, receiver) = watch::channel(None);
        self.outcomes.insert(key.clone(), (now, receiver));
        self.order.push_back((now, key.clone()));
        Known::New(sender)
    }

    /// Forgets `key`, which came to nothing: it may be tried again.
    pub(super) fn forget(&mut self, key: &Key) {
        self.outcomes.remove(key);
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(entered, _)| *entered + self.age_max <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((entered, key)) = self.order.pop_front() else { return };
        // A key that was forgotten and entered again has a younger entry of its own.
        if self.outcomes.get(&key).is_some_and(|(current, _)| *current == entered) {
            self.outcomes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        (TopicName::new("t").unwrap(), text.into())
    }

    fn is_new(window: &mut Window, text: &str, now: Instant) -> bool {
        matches!(window.enter(&key(text), now), Known::New(_))
    }

    #[test]
    fn a_key_is_known_until_it_is_too_old_or_one_of_too_many() {
        let start = Instant::now();
        let mut window = Window::new(2, Duration::from_secs(10));
        assert!(is_new(&mut window, "a", start));
        assert!(!is_new(&mut window, "a", start + Duration::from_secs(9)));
        assert!(is_new(&mut window, "a", start + Duration::from_secs(10)));
        let now = start + Duration::from_secs(11);
        assert!(is_new(&mut window, "b", now));
        assert!(is_new(&mut window, "c", now));
        assert!(!is_new(&mut window, "c", now));
        assert!(!is_new(&mut window, "b", now));
        assert!(is_new(&mut window, "a", now));
    }

    #[test]
    fn keys_of_different_topics_are_different() {
        let now = Instant::now();
        let mut window = Window::new(8, Duration::from_secs(10));
        assert!(is_new(&mut window, "a", now));
        let other = (TopicName::new("u").unwrap(), "a".into());
        assert!(matches!(window.enter(&other, now), Known::New(_)));
    }

    #[test]
    fn a_forgotten_key_that_comes_again_lives_its_own_life() {
        let start = Instant::now();
        let mut window = Window::new(8, Duration::from_secs(10));
        assert!(is_new(&mut window, "a", start));
        window.forget(&key("a"));
        assert!(is_new(&mut window, "a", start + Duration::from_secs(5)));
        assert!(!is_new(&mut window, "a", start + Duration::from_secs(12)));
        assert!(is_new(&mut window, "a", start + Duration::from_secs(15)));
    }
}
