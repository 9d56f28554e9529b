//! What may go wrong, how often, and the dice that decide.

/// How unkind the simulated kernel is. Everything here happens on real kernels too.
///
/// Chances are between 0 and 1, per opportunity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// A completion that is due waits for a later turn.
    pub delay: f64,
    /// A receive takes only some of the bytes that are there.
    pub short_receive: f64,
    /// A send takes only some of the bytes that there is room for.
    pub short_send: f64,
    /// A send of a turn is refused (EAGAIN) although there is room.
    pub refused_send: f64,
    /// A multishot receive ends without need.
    pub spent: f64,
    /// A receive finds no buffer (ENOBUFS) although there are some.
    pub no_buffers: f64,
    /// A multishot accept ends without need.
    pub accept_ended: f64,
    /// An accept finds no descriptor (EMFILE).
    pub no_descriptors: f64,
    /// A thread is woken by nobody.
    pub spurious_wake: f64,
    /// What each direction of a socket holds: from, to (both included, at least 1).
    pub socket_bytes: (usize, usize),
    /// Receive buffers of a ring.
    pub buffers: u16,
    /// The size of each.
    pub buffer_bytes: u32,
}

impl Faults {
    /// A kernel that does everything at once, with ample buffers.
    pub const fn none() -> Self {
        Self {
            delay: 0.0,
            short_receive: 0.0,
            short_send: 0.0,
            refused_send: 0.0,
            spent: 0.0,
            no_buffers: 0.0,
            accept_ended: 0.0,
            no_descriptors: 0.0,
            spurious_wake: 0.0,
            socket_bytes: (256 * 1024, 256 * 1024),
            buffers: 64,
            buffer_bytes: 64 * 1024,
        }
    }

    /// A kernel that does everything that it may, often.
    pub const fn harsh() -> Self {
        Self {
            delay: 0.3,
            short_receive: 0.3,
            short_send: 0.2,
            refused_send: 0.1,
            spent: 0.1,
            no_buffers: 0.1,
            accept_ended: 0.05,
            no_descriptors: 0.05,
            spurious_wake: 0.05,
            socket_bytes: (1, 4096),
            buffers: 4,
            buffer_bytes: 512,
        }
    }
}

/// The one source of chance of a world.
#[derive(Debug)]
pub(super) struct Dice {
    random: fastrand::Rng,
    pub(super) faults: Faults,
}

impl Dice {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), faults }
    }

    /// `true` with this chance.
    pub(super) fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.f64() < chance
    }

    /// Whether something that is due waits for a later turn.
    pub(super) fn delays(&mut self) -> bool {
        self.happens(self.faults.delay)
    }

    /// `most`, or with this chance less of it; at least 1.
    pub(super) fn some_of(&mut self, most: usize, chance: f64) -> usize {
        if self.happens(chance) { self.random.usize(1..=most) } else { most }
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound)
    }

    /// What one direction of a new socket holds.
    pub(super) fn socket_bytes(&mut self) -> usize {
        let (from, to) = self.faults.socket_bytes;
        self.random.usize(from..=to)
    }

    /// Merges the sequences: each keeps its own order.
    pub(super) fn interleave<T>(&mut self, sequences: Vec<Vec<T>>, out: &mut Vec<T>) {
        let mut sequences: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
        while !sequences.is_empty() {
            let index = if self.faults.delay > 0.0 { self.below(sequences.len()) } else { 0 };
            match sequences[index].next() {
                Some(item) => out.push(item),
                None => drop(sequences.remove(index)),
            }
        }
    }
}
