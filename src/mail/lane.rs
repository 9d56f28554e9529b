//! One thread's ends of the lanes of one kind, to each thread and from it.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// The ends that one thread holds, by the thread at the other end.
#[derive(Debug)]
pub(super) struct Lanes<T>(Vec<Ends<T>>);

#[derive(Debug)]
enum Ends<T> {
    /// To another thread and from it.
    Shared { outgoing: Producer<T>, incoming: Consumer<T> },
    /// To itself. A ring would be written from one end to the other, and so take its full memory
    /// after the first round; this takes what has waited at one time.
    Own { queue: VecDeque<T>, max: usize },
}

/// Connects `nodes` threads by lanes with room for `max`; returns what each of them holds.
pub(super) fn connect<T>(nodes: usize, max: usize) -> Vec<Lanes<T>> {
    let mut ends: Vec<Vec<Ends<T>>> = (0..nodes).map(|_| Vec::with_capacity(nodes)).collect();
    for node in 0..nodes {
        for other in 0..node {
            let (there, here) = RingBuffer::new(max);
            let (back, home) = RingBuffer::new(max);
            ends[node].push(Ends::Shared { outgoing: back, incoming: here });
            ends[other].push(Ends::Shared { outgoing: there, incoming: home });
        }
        ends[node].push(Ends::Own { queue: VecDeque::new(), max });
    }
    ends.into_iter().map(Lanes).collect()
}

impl<T> Lanes<T> {
    /// Puts `item` behind what waits for thread `to`.
    ///
    /// Errors: the item, when the lane is full.
    pub(super) fn push(&mut self, to: usize, item: T) -> Result<(), T> {
        match &mut self.0[to] {
            Ends::Shared { outgoing, .. } => {
                outgoing.push(item).map_err(|PushError::Full(item)| item)
            }
            Ends::Own { queue, max } if queue.len() >= *max => Err(item),
            Ends::Own { queue, .. } => {
                queue.push_back(item);
                Ok(())
            }
        }
    }

    /// The oldest item from thread `from`, left in the lane.
    pub(super) fn peek(&self, from: usize) -> Option<&T> {
        match &self.0[from] {
            Ends::Shared { incoming, .. } => incoming.peek().ok(),
            Ends::Own { queue, .. } => queue.front(),
        }
    }

    /// Takes the oldest item from thread `from`.
    pub(super) fn pop(&mut self, from: usize) -> Option<T> {
        match &mut self.0[from] {
            Ends::Shared { incoming, .. } => incoming.pop().ok(),
            Ends::Own { queue, .. } => queue.pop_front(),
        }
    }

    /// Whether something waits for this thread.
    pub(super) fn has_any(&self) -> bool {
        self.0.iter().any(|ends| match ends {
            Ends::Shared { incoming, .. } => !incoming.is_empty(),
            Ends::Own { queue, .. } => !queue.is_empty(),
        })
    }

    /// Whether the lane to thread `to` has no room.
    pub(super) fn is_full(&self, to: usize) -> bool {
        match &self.0[to] {
            Ends::Shared { outgoing, .. } => outgoing.is_full(),
            Ends::Own { queue, max } => queue.len() >= *max,
        }
    }

    /// Whether thread `to` has ended.
    pub(super) fn is_abandoned(&self, to: usize) -> bool {
        match &self.0[to] {
            Ends::Shared { outgoing, .. } => outgoing.is_abandoned(),
            Ends::Own { .. } => false,
        }
    }

    /// Whether the lane from thread `from` may have been full before `taken` were taken from it.
    pub(super) fn was_full(&self, from: usize, taken: usize) -> bool {
        match &self.0[from] {
            Ends::Shared { incoming, .. } => {
                taken > 0 && incoming.slots() + taken >= incoming.buffer().capacity()
            }
            // It is awake, and looks for room itself.
            Ends::Own { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_to_oneself_is_bounded_like_the_others_and_keeps_order() {
        let mut lanes: Vec<Lanes<u8>> = connect(2, 2);
        let mine = &mut lanes[0];
        for to in [0, 1] {
            assert_eq!((mine.push(to, 1), mine.push(to, 2)), (Ok(()), Ok(())));
            assert!(mine.is_full(to));
            assert_eq!(mine.push(to, 3), Err(3));
        }
        assert_eq!(mine.peek(0), Some(&1));
        assert_eq!((mine.pop(0), mine.pop(0), mine.pop(0)), (Some(1), Some(2), None));
        assert!(!mine.has_any() && !mine.is_full(0) && mine.is_full(1));
        assert_eq!((lanes[1].pop(0), lanes[1].pop(0), lanes[1].pop(1)), (Some(1), Some(2), None));
        assert!(lanes[1].was_full(0, 2) && !lanes[1].was_full(0, 1));
    }

    #[test]
    fn a_lane_to_oneself_takes_no_more_memory_than_what_has_waited() {
        let mut lanes: Vec<Lanes<u64>> = connect(1, 4096);
        for n in 0..10_000 {
            assert_eq!(lanes[0].push(0, n), Ok(()));
            assert_eq!(lanes[0].pop(0), Some(n));
        }
        let Ends::Own { queue, .. } = &lanes[0].0[0] else { panic!("its own") };
        assert!(queue.capacity() <= 8, "{}", queue.capacity());
    }

    #[test]
    fn every_pair_of_threads_meets() {
        let mut lanes: Vec<Lanes<(usize, usize)>> = connect(4, 1);
        for (from, lanes) in lanes.iter_mut().enumerate() {
            for to in 0..4 {
                assert_eq!(lanes.push(to, (from, to)), Ok(()));
            }
        }
        for (to, lanes) in lanes.iter_mut().enumerate() {
            for from in 0..4 {
                assert_eq!(lanes.pop(from), Some((from, to)));
            }
        }
        drop(lanes.pop());
        assert!(lanes[0].is_abandoned(3) && !lanes[0].is_abandoned(2) && !lanes[0].is_abandoned(0));
    }
}
