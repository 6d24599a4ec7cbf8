//! Places that clients share: so many in all, so many for each.
//!
//! When every place is taken, a client that holds fewer than another is let in all the same: the
//! one that holds most gives up the place it needs least. So no set of clients, however many
//! places they may hold by themselves, can lock another one out (max-min fairness).

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use var_dd_protocol::{ErrorBody, ErrorCode};

/// Who sits in a place.
pub(super) trait Holder: Send + Sync {
    /// How little the place is needed: whether something is going on in it, and since when.
    /// Smaller goes first.
    fn need(&self) -> (bool, Instant);

    /// Loses the place; must not wait.
    fn evict(&self);
}

/// Places that clients share.
pub(super) struct Shares {
    what: &'static str,
    most: u32,
    most_per_client: u32,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, Place>,
    by_client: HashMap<IpAddr, u32>,
}

struct Place {
    client: IpAddr,
    holder: Arc<dyn Holder>,
}

/// A place, until dropped.
pub(super) struct Permit {
    shares: Arc<Shares>,
    number: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shares.lock().leave(self.number);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "place {} of {}", self.number, self.shares.what)
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.count(), self.most, self.what)
    }
}

impl Places {
    /// Frees a place; one that was taken away is free already.
    fn leave(&mut self, number: u64) -> Option<Place> {
        let place = self.taken.remove(&number)?;
        if let Some(count) = self.by_client.get_mut(&place.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&place.client);
            }
        }
        Some(place)
    }

    fn held_by(&self, client: IpAddr) -> u32 {
        self.by_client.get(&client).copied().unwrap_or(0)
    }

    /// The place that goes when a client with `own` places wants another: the least needed one of
    /// the client that holds most, if that one still holds as many afterwards.
    fn to_give_up(&self, own: u32) -> Option<u64> {
        let (richest, held) = self.by_client.iter().max_by_key(|(_, held)| **held)?;
        if *held <= own + 1 {
            return None;
        }
        let theirs = self.taken.iter().filter(|(_, place)| place.client == *richest);
        theirs.min_by_key(|(_, place)| place.holder.need()).map(|(number, _)| *number)
    }
}

impl Shares {
    /// Places for `what`, all free.
    pub(super) fn new(what: &'static str, most: u32, most_per_client: u32) -> Arc<Self> {
        Arc::new(Self { what, most, most_per_client, places: Mutex::default() })
    }

    /// Counts are whole after every step, so a panic elsewhere cannot spoil them.
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a client a place.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyConnections`] when the client holds as many as it may, or when all are
    /// taken and no other client holds more than a place above this one's.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        holder: Arc<dyn Holder>,
    ) -> Result<Permit, ErrorBody> {
        let mut places = self.lock();
        let refused =
            |message| Err(ErrorBody::new(ErrorCode::TooManyConnections, message).retry_after(10));
        let own = places.held_by(client);
        if own >= self.most_per_client {
            return refused(format!(
                "{own} of {} {} from one address are open; close one",
                self.most_per_client, self.what
            ));
        }
        let all = places.taken.len();
        let mut evicted = None;
        if all >= self.most as usize {
            evicted = places.to_give_up(own).and_then(|number| places.leave(number));
            if evicted.is_none() {
                return refused(format!(
                    "{all} of {} {} are open; try again in 10 s",
                    self.most, self.what
                ));
            }
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Place { client, holder });
        *places.by_client.entry(client).or_default() += 1;
        drop(places);
        if let Some(place) = evicted {
            place.holder.evict();
        }
        Ok(Permit { shares: Arc::clone(self), number })
    }

    /// Places taken.
    pub(super) fn count(&self) -> u32 {
        self.lock().taken.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    #[derive(Debug)]
    struct Guest {
        busy: bool,
        since: Instant,
        evicted: AtomicBool,
    }

    impl Holder for Guest {
        fn need(&self) -> (bool, Instant) {
            (self.busy, self.since)
        }

        fn evict(&self) {
            self.evicted.store(true, Ordering::Relaxed);
        }
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn guest(busy: bool, age_s: u64) -> Arc<Guest> {
        let since = Instant::now() - Duration::from_secs(age_s);
        Arc::new(Guest { busy, since, evicted: AtomicBool::new(false) })
    }

    fn was_evicted(guest: &Guest) -> bool {
        guest.evicted.load(Ordering::Relaxed)
    }

    #[test]
    fn places_are_counted_per_client_and_in_all_until_they_are_free() {
        let shares = Shares::new("places", 3, 2);
        let first = shares.admit(client(1), guest(false, 0)).unwrap();
        let _second = shares.admit(client(1), guest(false, 0)).unwrap();
        let error = shares.admit(client(1), guest(false, 0)).unwrap_err();
        assert!(error.message.contains("2 of 2"), "{}", error.message);
        assert_eq!(shares.count(), 2);
        drop(first);
        assert!(shares.admit(client(1), guest(false, 0)).is_ok());
    }

    #[test]
    fn the_client_with_most_gives_up_the_place_it_needs_least() {
        let shares = Shares::new("places", 4, 4);
        let guests = [guest(true, 90), guest(false, 10), guest(false, 50), guest(true, 5)];
        let _held: Vec<_> =
            guests.iter().map(|guest| shares.admit(client(1), guest.clone()).unwrap()).collect();
        let newcomer = guest(false, 0);
        let _place = shares.admit(client(2), newcomer.clone()).unwrap();
        assert_eq!(guests.each_ref().map(|guest| was_evicted(guest)), [false, false, true, false]);
        assert_eq!(shares.count(), 4);
        // Three and one: one more each, then it is even and nobody must go.
        let _other = shares.admit(client(2), guest(false, 0)).unwrap();
        assert!(was_evicted(&guests[1]));
        assert!(shares.admit(client(2), guest(false, 0)).is_err());
        assert!(!was_evicted(&newcomer));
        assert!(shares.admit(client(3), guest(false, 0)).is_ok());
    }

    #[test]
    fn a_place_that_was_taken_away_is_not_freed_twice() {
        let shares = Shares::new("places", 2, 2);
        let held: Vec<_> =
            (0..2).map(|_| shares.admit(client(1), guest(false, 0)).unwrap()).collect();
        let _newcomer = shares.admit(client(2), guest(false, 0)).unwrap();
        drop(held);
        assert_eq!(shares.count(), 1);
    }

    #[test]
    fn many_clients_together_lock_nobody_out() {
        let shares = Shares::new("places", 20, 4);
        let mut held = Vec::new();
        for number in 0..6 {
            for _ in 0..4 {
                held.extend(shares.admit(client(number), guest(false, 0)).ok());
            }
        }
        for number in 100..110 {
            assert!(shares.admit(client(number), guest(false, 0)).is_ok(), "client {number}");
        }
    }
}
