//! Names in Redis.
//!
//! A topic belongs to one of 128 partitions, by the hash slot that Redis Cluster would give its name.
//! Each partition has a tag, which stands in braces in the names of all that belongs to its topics: so
//! one script may touch them together, and a cluster spreads the partitions evenly. The names are
//! those on a single server, too, so that moving to a cluster renames nothing.

use std::sync::LazyLock;

use crate::topic::name::TopicName;

/// Partitions that topics are spread over.
pub const PARTITIONS: usize = 128;

/// Slots of Redis Cluster.
const SLOTS: usize = 16_384;

/// For each partition the least number whose decimal text has a slot in it.
static TAGS: LazyLock<[u16; PARTITIONS]> = LazyLock::new(|| {
    let mut tags = [None; PARTITIONS];
    let mut found = 0;
    for number in 0_u16..=u16::MAX {
        let tag = &mut tags[partition_of(number.to_string().as_bytes())];
        if tag.is_none() {
            *tag = Some(number);
            found += 1;
        }
        if found == PARTITIONS {
            break;
        }
    }
    tags.map(|tag| tag.expect("numbers below 65,536 reach every partition"))
});

/// What belongs to one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Where publications are sent to.
    pub channel: String,
    /// The stream of kept publications.
    pub stream: String,
    /// The hash of its life: epoch, newest offset.
    pub meta: String,
}

impl Keys {
    /// The names for `topic` below `prefix`.
    pub fn of(prefix: &str, topic: &TopicName) -> Self {
        let tag = TAGS[partition_of(topic.as_str().as_bytes())];
        let name = |what: &str| format!("{prefix}.{what}.{{{tag}}}.{}", topic.as_str());
        Self { channel: name("client"), stream: name("stream"), meta: name("meta") }
    }
}

fn partition_of(text: &[u8]) -> usize {
    usize::from(crc16(text)) % SLOTS / (SLOTS / PARTITIONS)
}

/// CRC-16/XMODEM, by which Redis Cluster finds slots.
fn crc16(text: &[u8]) -> u16 {
    text.iter().fold(0, |crc, &byte| {
        let crc = crc ^ (u16::from(byte) << 8);
        (0..8).fold(crc, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3); // Redis Cluster specification, appendix A.
        assert_eq!(usize::from(crc16(b"foo")) % SLOTS, 12_182); // CLUSTER KEYSLOT foo
    }

    #[test]
    fn every_partition_has_a_tag_of_its_own_and_names_are_stable() {
        let mut tags = *TAGS;
        tags.sort_unstable();
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]));
        for (partition, tag) in TAGS.iter().enumerate() {
            assert_eq!(partition_of(tag.to_string().as_bytes()), partition);
        }
        let keys = Keys::of("ringway", &TopicName::new("foo").unwrap());
        // 12,182 is in partition 95; "3" has slot 1,584, "foo" no number's text before its own.
        let tag = TAGS[95];
        assert_eq!(keys.channel, format!("ringway.client.{{{tag}}}.foo"));
        assert_eq!(keys.stream, format!("ringway.stream.{{{tag}}}.foo"));
        assert_eq!(keys.meta, format!("ringway.meta.{{{tag}}}.foo"));
    }
}
