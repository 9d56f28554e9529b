//! Topic names, validated once.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// Longest topic name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a text is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It has no bytes.
    Empty,
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// It contains a control character.
    ControlCharacter,
}

/// A valid topic name: 1 to 255 bytes of UTF-8 without control characters.
///
/// Cheap to clone and to hash: the bytes are shared and their hash is kept.
#[derive(Clone)]
pub struct TopicName(Arc<Name>);

struct Name {
    hash: u64,
    text: Box<str>,
}

impl TopicName {
    /// Checks `text` and takes a copy of it.
    ///
    /// Errors: [`NameError`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        // A fixed seed: every thread must find the same home. What strangers could gain by
        // colliding names is bounded by `topics_max`, and the tables rehash with their own seed.
        let hash = foldhash::quality::FixedState::with_seed(0x52_69_6e_67).hash_one(text);
        Ok(Self(Arc::new(Name { hash, text: text.into() })))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The part before the first `:`, empty when there is none.
    pub fn namespace(&self) -> &str {
        self.0.text.split_once(':').map_or("", |(namespace, _)| namespace)
    }

    /// Whether both are clones of one name, not only equal.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The shard, of `shards`, that gives this topic its offsets.
    pub fn home(&self, shards: usize) -> usize {
        debug_assert!(shards > 0);
        // The high half: tables use the low bits.
        let shards = u64::try_from(shards).unwrap_or(1);
        usize::try_from((self.0.hash >> 32) % shards).unwrap_or(0)
    }
}

impl PartialEq for TopicName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for TopicName {}

impl Hash for TopicName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_to_255_bytes_without_control_characters() {
        assert_eq!(TopicName::new("").unwrap_err(), NameError::Empty);
        assert_eq!(TopicName::new(&"x".repeat(256)).unwrap_err(), NameError::TooLong);
        assert_eq!(TopicName::new("a\nb").unwrap_err(), NameError::ControlCharacter);
        assert_eq!(TopicName::new("a\u{85}b").unwrap_err(), NameError::ControlCharacter);
        assert_eq!(TopicName::new(&"x".repeat(255)).unwrap().as_str().len(), 255);
        assert_eq!(TopicName::new("news/Zürich").unwrap().as_str(), "news/Zürich");
    }

    #[test]
    fn the_namespace_ends_at_the_first_colon() {
        assert_eq!(TopicName::new("chat:a:b").unwrap().namespace(), "chat");
        assert_eq!(TopicName::new("chat").unwrap().namespace(), "");
        assert_eq!(TopicName::new(":x").unwrap().namespace(), "");
    }

    #[test]
    fn equal_names_share_a_home_and_homes_spread() {
        let mut hits = [0; 4];
        for i in 0..1000 {
            let name = TopicName::new(&format!("t{i}")).unwrap();
            assert_eq!(name.home(4), TopicName::new(&format!("t{i}")).unwrap().home(4));
            hits[name.home(4)] += 1;
        }
        assert!(hits.iter().all(|&n| n > 150), "{hits:?}");
    }
}
