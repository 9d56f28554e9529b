//! Who comes in: counted before anything else is spent on a connection.
//!
//! The order is that of what a refusal costs: the address, the limits on connections, handshakes
//! under way; then `conn` reads the request, and looks at it only where there is room.

use std::net::{IpAddr, Ipv4Addr};

use crate::conn::connection::Connection;
use crate::conn::guest::{Guest, Lack, Room, Unheard};
use crate::conn::outbox::Outbox;
use crate::dialect::cause::Cause;
use crate::mail::message::Shortage;
use crate::ring::{Ring, Socket};
use crate::topic::subscribers::Memberships;

use super::Shard;
use super::drain::Life;
use super::extras::Extras;
use super::slots::{Flags, Reading, Slot};

/// Connections that one turn lets in; the rest waits for the next one.
const NEWCOMERS_MAX: usize = 256;

impl<R: Ring> Shard<R> {
    /// Lets in those who were accepted, as many as a turn allows.
    pub(super) fn admit_newcomers(&mut self) {
        for _ in 0..NEWCOMERS_MAX {
            let Some((listener, socket)) = self.newcomers.pop_front() else {
                self.newcomers.shrink_to(NEWCOMERS_MAX);
                return;
            };
            self.admit(listener, socket);
        }
    }

    fn admit(&mut self, listener: usize, socket: Socket) {
        let (guest, mut room) = self.look_at(listener, socket);
        if room.is_ok() && self.shortage >= Shortage::Tight {
            room = Err(Unheard::Lack(Lack::Memory));
        }
        if room.is_ok() {
            room = self.take_seat(listener).map_err(Unheard::Lack);
        }
        // Nobody's handshake is finished beyond the limits on these for the sake of saying no.
        let is_crowded = self.turned_away >= self.settings.turned_away_max
            || match room {
                Ok(()) => false,
                Err(Unheard::Lack(Lack::TlsHandshakes | Lack::TlsHandshakesRate)) => true,
                Err(_) => self.take_tls_handshake(listener).is_err(),
            };
        let (room, unheard) = match room {
            Ok(()) => (Room::Free, None),
            Err(Unheard::Lack(lack)) => {
                (Room::Full(lack), is_crowded.then_some(Unheard::Lack(lack)))
            }
            Err(unheard) => (Room::Full(Lack::Connections), Some(unheard)),
        };
        let turned_away = room != Room::Free;
        let settings = &self.desk.settings;
        let index = u16::try_from(listener).unwrap_or(u16::MAX);
        let mut conn = Connection::new(index, room, self.now, settings);
        let tls = if unheard.is_none() { self.begin_tls(listener, &mut conn) } else { None };
        let token = self.slots.insert(Slot {
            conn,
            outbox: Outbox::default(),
            memberships: Memberships::default(),
            extras: Extras::new(guest, tls),
            socket,
            story: self.closes.story(self.now),
            scheduled: 0,
            reading: if unheard.is_some() { Reading::Ended } else { Reading::Armed },
            flags: Flags { turned_away, ..Flags::default() },
        });
        self.handshaking += 1;
        self.turned_away += usize::from(turned_away);
        if let Some(unheard) = unheard {
            self.numbers.connection_refused(unheard);
            self.call(token.slot, |conn, _| conn.abandon(unheard.cause()));
            return;
        }
        self.weigh(token.slot);
        self.ring.receive(socket, token);
        match self.life {
            Life::Running => self.schedule(token.slot),
            Life::Draining(_) | Life::Stopping => {
                self.call(token.slot, |conn, cx| conn.end(Cause::Drain, cx));
            }
        }
    }

    /// Finds out who somebody is, where that matters, and whether their address may come in.
    fn look_at(&self, listener: usize, socket: Socket) -> (Option<Guest>, Result<(), Unheard>) {
        let settings = &self.desk.settings;
        let Some(door) = settings.doors.get(listener) else { return (None, Ok(())) };
        if !door.asks(&settings.addresses) {
            return (None, Ok(()));
        }
        // Whoever is gone already is nobody's proxy, and will be noticed soon.
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let peer = self.ring.peer(socket).map_or(unknown, |peer| peer.ip());
        let mut guest = match Guest::new(peer, door) {
            Ok(guest) => guest,
            Err(unheard) => return (None, Err(unheard)),
        };
        if guest.is_awaited() || peer == unknown {
            return (Some(guest), Ok(()));
        }
        let settled = guest.settle(door, &settings.addresses, self.now).map_err(Unheard::Lack);
        (Some(guest), settled)
    }

    /// Takes a seat in all and at the listener.
    fn take_seat(&mut self, listener: usize) -> Result<(), Lack> {
        if self.settings.listener_seats.get(listener).is_some_and(|seats| !seats.take()) {
            return Err(Lack::ListenerConnections);
        }
        let lack = if !self.settings.seats.take() {
            Lack::Connections
        } else if self.handshaking - self.turned_away >= self.settings.handshakes_max {
            self.settings.seats.give_back();
            Lack::Handshakes
        } else if let Err(lack) = self.take_tls_handshake(listener) {
            self.settings.seats.give_back();
            lack
        } else {
            return Ok(());
        };
        if let Some(own) = self.settings.listener_seats.get(listener) {
            own.give_back();
        }
        Err(lack)
    }

    /// Gives back what a connection took when it came in: before anybody sees that it is gone.
    pub(super) fn leave_seat(&mut self, slot: &mut Slot) {
        slot.extras.drop_guest();
        if slot.flags.turned_away {
            self.turned_away -= 1;
            return;
        }
        self.give_back(slot.conn.listener());
    }

    fn give_back(&self, listener: u16) {
        self.settings.seats.give_back();
        if let Some(own) = self.settings.listener_seats.get(usize::from(listener)) {
            own.give_back();
        }
    }

    /// Behind a load balancer the address is known only after the first bytes: if it may not have one
    /// more connection, its seat is free again.
    pub(super) fn notice_lack(&mut self, index: u32) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        let Some(lack) = slot.conn.lack().filter(|_| !slot.flags.turned_away) else { return };
        slot.flags.turned_away = true;
        let listener = slot.conn.listener();
        self.turned_away += 1;
        if self.turned_away > self.settings.turned_away_max {
            let unheard = Unheard::Lack(lack);
            self.numbers.connection_refused(unheard);
            slot.conn.abandon(unheard.cause());
        }
        self.give_back(listener);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::auth::crowd::{Crowd, Entrance, Place};

    #[test]
    fn threads_together_never_pass_the_limit_and_lose_no_place() {
        // One row for few addresses: the threads are after the same entries all the time.
        let crowd = Arc::new(Crowd::new(5, 1));
        let inside: Arc<[AtomicUsize; 4]> = Arc::default();
        let threads = (0..4_u64).map(|seed| {
            let (crowd, inside) = (Arc::clone(&crowd), Arc::clone(&inside));
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut held: Vec<(usize, Place)> = Vec::new();
                for _ in 0..20_000 {
                    let n = random.u32(..4);
                    if held.len() < 4 && random.bool() {
                        if let Entrance::Granted(place) =
                            crowd.enter(std::net::Ipv4Addr::from_bits(n).into())
                        {
                            let before = inside[n as usize].fetch_add(1, Ordering::SeqCst);
                            assert!(before < 5, "{before} were inside");
                            held.push((n as usize, place));
                        }
                    } else if !held.is_empty() {
                        let (n, place) = held.swap_remove(random.usize(..held.len()));
                        inside[n].fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                }
                held.iter().for_each(|(n, _)| _ = inside[*n].fetch_sub(1, Ordering::SeqCst));
            })
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(crowd.taken(), 0);
    }
}
