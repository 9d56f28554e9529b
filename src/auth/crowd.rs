//! How many connections there are, in all and for each address, counted over all threads.
//!
//! Connections of one address are accepted by any thread, and a limit of ten is to mean ten. So
//! these counts are the threads' common ground. Shares of the limit for each thread would be uneven as
//! chance has it, and a thread that owns the counts would have to be asked before every answer. They
//! are touched when a connection comes and when it goes, never in between.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::network::household;

/// Addresses that share a row of the table, and its lock.
const ROW: usize = 16;

/// A limit on how many there may be at once.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    max: AtomicUsize,
}

impl Seats {
    /// `max` free seats.
    pub fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    /// From now on there are `max` seats; who has one keeps it.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes a seat; `false`: there is none.
    pub fn take(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken >= max {
            self.give_back();
        }
        taken < max
    }

    /// Gives a seat back that was taken.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Seats that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// How many connections each address has; a table of fixed size.
///
/// Each row has a lock, held for the time of sixteen comparisons. When a row is full (with half as
/// many addresses as there are places, one row in 250) further addresses of it are not counted: whoever
/// commands that many is stopped by the limit on connections in all, and refusing others for it would be
/// his success. The hash has a seed, so nobody can aim at a row.
#[derive(Debug)]
pub struct Crowd {
    max: AtomicU16,
    hasher: RandomState,
    rows: Box<[Mutex<Row>]>,
}

type Row = [Entry; ROW];

/// An address, by its hash, and how many connections it has; free when there are none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    mark: u32,
    count: u16,
}

/// One connection's place in a [`Crowd`]; given up when dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    hash: u64,
}

/// What [`Crowd::enter`] says.
#[derive(Debug)]
pub enum Entrance {
    /// The connection is counted.
    Granted(Place),
    /// The table has no place for the address: the connection may come in, uncounted.
    Uncounted,
    /// The address has as many connections as it may.
    Refused,
}

impl Crowd {
    /// A table with room for about `addresses`, each of which may have `max` connections.
    pub fn new(max: u16, addresses: usize) -> Self {
        let rows = addresses.div_ceil(ROW).next_power_of_two();
        Self {
            max: AtomicU16::new(max),
            hasher: RandomState::default(),
            rows: (0..rows).map(|_| Mutex::default()).collect(),
        }
    }

    /// From now on an address may have `max`; what is there stays.
    pub fn set_max(&self, max: u16) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Counts one more connection of `address`, if it may have one.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Entrance {
        let hash = self.hasher.hash_one(household(address));
        let (mark, mut row) = (mark(hash), self.row(hash));
        let known = row.iter().position(|entry| entry.count > 0 && entry.mark == mark);
        let free = || row.iter().position(|entry| entry.count == 0);
        let Some(at) = known.or_else(free) else { return Entrance::Uncounted };
        let count = row[at].count;
        if count >= self.max.load(Ordering::Relaxed) {
            return Entrance::Refused;
        }
        row[at] = Entry { mark, count: count + 1 };
        drop(row);
        Entrance::Granted(Place { crowd: Arc::clone(self), hash })
    }

    /// Places that are taken, over all addresses.
    pub fn taken(&self) -> usize {
        let rows = self.rows.iter().map(|row| *row.lock().unwrap_or_else(PoisonError::into_inner));
        rows.flatten().map(|entry| usize::from(entry.count)).sum()
    }

    fn row(&self, hash: u64) -> std::sync::MutexGuard<'_, Row> {
        let index = usize::try_from(hash >> 32).unwrap_or(0) & (self.rows.len() - 1);
        // Nothing panics while it holds the lock.
        self.rows[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mark, mut row) = (mark(self.hash), self.crowd.row(self.hash));
        if let Some(entry) = row.iter_mut().find(|entry| entry.count > 0 && entry.mark == mark) {
            entry.count -= 1;
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is meant; the upper finds the row"
)]
fn mark(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn granted(crowd: &Arc<Crowd>, n: u32) -> Option<Place> {
        match crowd.enter(address(n)) {
            Entrance::Granted(place) => Some(place),
            Entrance::Uncounted => panic!("the table is large enough"),
            Entrance::Refused => None,
        }
    }

    #[test]
    fn seats_are_as_many_as_there_are() {
        let seats = Seats::new(2);
        assert!(seats.take() && seats.take() && !seats.take());
        seats.give_back();
        assert!(seats.take() && !seats.take());
        assert_eq!(seats.taken(), 2);
        seats.set_max(1);
        seats.give_back();
        assert!(!seats.take());
        seats.set_max(3);
        assert!(seats.take() && seats.take() && !seats.take());
    }

    #[test]
    fn each_address_has_its_own_limit_and_gets_back_what_it_gives_up() {
        let crowd = Arc::new(Crowd::new(3, 65_536));
        let mut places: Vec<Place> = (0..300)
            .flat_map(|n| (0..3).map(move |_| n))
            .map(|n| granted(&crowd, n).unwrap())
            .collect();
        assert!((0..300).all(|n| granted(&crowd, n).is_none()));
        assert_eq!(crowd.taken(), 900);
        places.pop();
        assert!(granted(&crowd, 298).is_none());
        let back = granted(&crowd, 299);
        assert!(back.is_some() && granted(&crowd, 299).is_none());
        drop((places, back));
        assert_eq!(crowd.taken(), 0);
    }

    #[test]
    fn the_addresses_of_a_household_are_one() {
        let crowd = Arc::new(Crowd::new(1, 1024));
        let enter = |text: &str| crowd.enter(text.parse().unwrap());
        let first = enter("2001:db8::1");
        assert!(matches!(first, Entrance::Granted(_)));
        assert!(matches!(enter("2001:db8::ffff:2"), Entrance::Refused));
        assert!(matches!(enter("2001:db8:0:1::1"), Entrance::Granted(_)));
    }

    #[test]
    fn an_address_without_a_place_comes_in_uncounted() {
        let crowd = Arc::new(Crowd::new(1, 1));
        let entrances: Vec<Entrance> = (0..20).map(|n| crowd.enter(address(n))).collect();
        assert!(entrances[..ROW].iter().all(|e| matches!(e, Entrance::Granted(_))));
        assert!(entrances[ROW..].iter().all(|e| matches!(e, Entrance::Uncounted)));
        assert!(matches!(crowd.enter(address(3)), Entrance::Refused));
        drop(entrances);
        assert_eq!(crowd.taken(), 0);
    }
}
