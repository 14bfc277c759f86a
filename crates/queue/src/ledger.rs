//! Something of which there is only so much, and who has taken how much of it.
//!
//! One client must not take what many need, nor the clients of one listener what the others need, nor all strangers what
//! trusted clients need. So whoever takes octets is counted four times over; what was taken is given back when its
//! [`Charge`] is dropped, however that comes about.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many octets may be taken at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    /// By everybody.
    pub(crate) all: u64,
    /// By all strangers.
    pub(crate) strangers: u64,
    /// By the strangers of one listener.
    pub(crate) listener: u64,
    /// By one stranger.
    pub(crate) client: u64,
}

/// On whose account octets are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// The place of the listener in the configuration.
    pub listener: usize,
    /// Who counts as one client; `None` stands for many users, such as a webmail, and is only bound by what there is.
    pub client: Option<IpAddr>,
}

/// The account book. Share it in an `Arc`.
#[derive(Debug)]
pub(crate) struct Ledger {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    strangers: u64,
    listeners: Vec<u64>,
    clients: HashMap<IpAddr, u64>,
}

/// Octets that somebody has taken; dropped, they are given back.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    payer: Payer,
    octets: u64,
}

impl Ledger {
    /// For so many listeners.
    pub(crate) fn new(listeners: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::new(Taken { listeners: vec![0; listeners], ..Taken::default() }) })
    }

    /// Nothing yet.
    pub(crate) fn charge(self: &Arc<Self>, payer: Payer) -> Charge {
        Charge { ledger: Arc::clone(self), payer, octets: 0 }
    }

    /// By everybody.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn take(&mut self, payer: Payer, octets: u64, shares: &Shares) -> bool {
        let exceeds = |taken: u64, share: u64| taken.saturating_add(octets) > share;
        if exceeds(self.all, shares.all) {
            return false;
        }
        if let Some(client) = payer.client {
            let of_listener = self.listeners.get(payer.listener).copied().unwrap_or(0);
            let of_client = self.clients.get(&client).copied().unwrap_or(0);
            if exceeds(self.strangers, shares.strangers)
                || exceeds(of_listener, shares.listener)
                || exceeds(of_client, shares.client)
            {
                return false;
            }
            self.strangers += octets;
            if let Some(listener) = self.listeners.get_mut(payer.listener) {
                *listener += octets;
            }
            *self.clients.entry(client).or_insert(0) += octets;
        }
        self.all += octets;
        true
    }

    fn give_back(&mut self, payer: Payer, octets: u64) {
        self.all -= octets;
        let Some(client) = payer.client else { return };
        self.strangers -= octets;
        if let Some(listener) = self.listeners.get_mut(payer.listener) {
            *listener -= octets;
        }
        if let Entry::Occupied(mut taken) = self.clients.entry(client) {
            *taken.get_mut() -= octets;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

impl Charge {
    /// Takes so many more, or nothing if they are not to be had.
    pub(crate) fn add(&mut self, octets: u64, shares: &Shares) -> bool {
        let taken = octets == 0 || self.ledger.lock().take(self.payer, octets, shares);
        if taken {
            self.octets += octets;
        }
        taken
    }

    /// Takes or gives back what is missing to so many in all.
    pub(crate) fn become_octets(&mut self, octets: u64, shares: &Shares) -> bool {
        if octets >= self.octets {
            return self.add(octets - self.octets, shares);
        }
        self.ledger.lock().give_back(self.payer, self.octets - octets);
        self.octets = octets;
        true
    }

    /// What is taken.
    pub fn octets(&self) -> u64 {
        self.octets
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.octets > 0 {
            self.ledger.lock().give_back(self.payer, self.octets);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SHARES: Shares = Shares { all: 100, strangers: 80, listener: 50, client: 20 };

    pub(crate) fn stranger(listener: usize, number: u8) -> Payer {
        Payer { listener, client: Some(IpAddr::from([192, 0, 2, number])) }
    }

    const TRUSTED: Payer = Payer { listener: 0, client: None };

    fn taken(ledger: &Arc<Ledger>, payer: Payer, octets: u64) -> Option<Charge> {
        let mut charge = ledger.charge(payer);
        charge.add(octets, &SHARES).then_some(charge)
    }

    pub(crate) fn assert_empty(ledger: &Ledger) {
        let taken = ledger.lock();
        assert_eq!((taken.all, taken.strangers, taken.clients.len()), (0, 0, 0));
        assert!(taken.listeners.iter().all(|listener| *listener == 0));
    }

    #[test]
    fn one_client_one_listener_and_all_strangers_leave_something_to_the_others() {
        let ledger = Ledger::new(2);
        let mut charges = vec![taken(&ledger, stranger(0, 1), 20)];
        assert!(taken(&ledger, stranger(1, 1), 1).is_none(), "a client has its share whatever door it takes");
        charges.extend([taken(&ledger, stranger(0, 2), 20), taken(&ledger, stranger(0, 3), 10)]);
        assert!(taken(&ledger, stranger(0, 4), 1).is_none(), "the listener's share is used up");
        charges.extend([taken(&ledger, stranger(1, 5), 20), taken(&ledger, stranger(1, 6), 10)]);
        assert!(taken(&ledger, stranger(1, 7), 1).is_none(), "that of all strangers is used up");
        charges.push(taken(&ledger, TRUSTED, 20));
        assert!(taken(&ledger, TRUSTED, 1).is_none(), "everything is used up");
        assert!(charges.iter().all(Option::is_some));
        drop(charges);
        assert_empty(&ledger);
    }

    #[test]
    fn what_is_refused_takes_nothing_and_what_shrinks_gives_back() {
        let ledger = Ledger::new(1);
        let mut charge = ledger.charge(stranger(0, 1));
        assert!(charge.add(15, &SHARES) && !charge.add(6, &SHARES));
        assert_eq!((charge.octets(), ledger.taken()), (15, 15));
        assert!(charge.become_octets(5, &SHARES) && charge.become_octets(20, &SHARES));
        assert!(!charge.become_octets(21, &SHARES));
        assert_eq!((charge.octets(), ledger.taken()), (20, 20));
        drop(charge);
        assert_empty(&ledger);
    }

    #[test]
    fn a_panic_gives_back_what_was_taken() {
        let ledger = Ledger::new(1);
        let book = Arc::clone(&ledger);
        let panicked = std::thread::spawn(move || {
            let mut charge = book.charge(stranger(0, 1));
            assert!(charge.add(20, &SHARES));
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_empty(&ledger);
    }
}
