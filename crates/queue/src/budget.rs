//! What messages that are on their way in may take, before anything of them is queued.
//!
//! Three things are short. The memory of this process: ten thousand clients that each send most of a chunk and then wait
//! must not bring it down. The room in Redis: pieces of large messages lie there before anybody has taken responsibility
//! for them, so a stranger who never ends his messages could fill it, and nobody could send any more. And that in the store
//! of the largest ones, for the same reason.
//!
//! Unfinished messages get half of the room that is left below `max_memory_ratio`. Every pod looks at what Redis uses in
//! all, so what one pod has taken is not there for the next one. Without a `maxmemory` the room is half of the memory of
//! Redis' machine. How much they get of the store is said by the configuration.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::{Charge, Ledger, Payer, Shares};

/// The share of what there is for all strangers, for those of one listener, for one of them.
const STRANGERS: (u64, u64) = (3, 4);
const LISTENER: (u64, u64) = (1, 2);
const CLIENT: (u64, u64) = (1, 8);
/// Redis rounds up what it allocates, by a quarter at most, and a key takes room of its own.
const OVERHEAD: u64 = 256;

/// The budgets of a process. Share it in an `Arc`.
#[derive(Debug)]
pub struct Budget {
    memory: Arc<Ledger>,
    memory_shares: Shares,
    unfinished: Arc<Ledger>,
    spooled: Arc<Ledger>,
    /// Octets of the largest message in Redis: one client may always have one under way, if there is room for it.
    largest: AtomicU64,
    seen: Mutex<Seen>,
}

/// What Redis used at the last look, and what we had taken by then.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    used: u64,
    taken: u64,
}

/// What one message has taken.
#[derive(Debug)]
pub(crate) struct Purse {
    budget: Arc<Budget>,
    memory: Charge,
    unfinished: Charge,
    spooled: Charge,
}

impl Budget {
    /// `memory`: octets of this process for all messages on their way in; `largest`: of the largest message;
    /// `listeners`: how many there are.
    pub fn new(memory: u64, largest: u64, listeners: usize) -> Arc<Self> {
        Arc::new(Self {
            memory: Ledger::new(listeners),
            memory_shares: shares(memory, 0),
            unfinished: Ledger::new(listeners),
            spooled: Ledger::new(listeners),
            largest: AtomicU64::new(in_redis(largest)),
            seen: Mutex::default(),
        })
    }

    /// The largest message has so many octets from now on.
    pub fn resize(&self, largest: u64) {
        self.largest.store(in_redis(largest), Ordering::Relaxed);
    }

    /// For the envelope of a message: it has taken nothing yet.
    pub fn envelope(&self, payer: Payer) -> Charge {
        self.memory.charge(payer)
    }

    /// So many more octets of memory; false: they are not to be had, and nothing is taken.
    pub fn grow(&self, charge: &mut Charge, octets: u64) -> bool {
        charge.add(octets, &self.memory_shares)
    }

    /// Octets of memory that all messages on their way in take now.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.taken()
    }

    /// Octets of unfinished messages in Redis.
    #[cfg(test)]
    pub(crate) fn unfinished(&self) -> u64 {
        self.unfinished.taken()
    }

    /// The same in the store.
    #[cfg(test)]
    pub(crate) fn spooled(&self) -> u64 {
        self.spooled.taken()
    }

    pub(crate) fn purse(self: &Arc<Self>, payer: Payer) -> Purse {
        Purse {
            memory: self.memory.charge(payer),
            unfinished: self.unfinished.charge(payer),
            spooled: self.spooled.charge(payer),
            budget: Arc::clone(self),
        }
    }

    /// `used` and `limit`: what Redis uses, and up to where it takes new mail.
    fn shares_of_redis(&self, used: u64, limit: u64) -> Shares {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.used != used {
            *seen = Seen { used, taken: self.unfinished.taken() };
        }
        let others = used.saturating_sub(seen.taken);
        shares(limit.saturating_sub(others) / 2, self.largest.load(Ordering::Relaxed))
    }
}

/// What a message of so many octets may take there.
fn in_redis(largest: u64) -> u64 {
    largest.saturating_add(largest / 2)
}

/// `largest` is what one client may have in any case, as far as its listener's share goes.
fn shares(all: u64, largest: u64) -> Shares {
    let part = |(numerator, denominator): (u64, u64)| all / denominator * numerator;
    let listener = part(LISTENER);
    Shares { all, strangers: part(STRANGERS), listener, client: part(CLIENT).max(largest).min(listener) }
}

impl Purse {
    /// The message's memory, in all.
    pub(crate) fn hold(&mut self, octets: usize) -> bool {
        self.memory.become_octets(octets as u64, &self.budget.memory_shares)
    }

    /// A piece more in Redis, which uses so much and takes new mail up to `limit`.
    pub(crate) fn store(&mut self, piece: usize, used: u64, limit: u64) -> bool {
        let octets = piece as u64;
        self.unfinished.add(octets + octets / 4 + OVERHEAD, &self.budget.shares_of_redis(used, limit))
    }

    /// A piece more in the store, where unfinished messages may have so many octets.
    pub(crate) fn spool(&mut self, piece: usize, limit: u64) -> bool {
        self.spooled.add(piece as u64, &shares(limit, self.budget.largest.load(Ordering::Relaxed)))
    }

    /// What it has in Redis is not there any more.
    pub(crate) fn take_back(&mut self) {
        self.unfinished.become_octets(0, &Shares::default());
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// For whoever clears up what it has in Redis, or in the store: the rest of what was taken is given back here.
    pub(crate) fn into_kept(self) -> (Charge, Charge) {
        (self.unfinished, self.spooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{assert_empty, stranger};

    const MIB: u64 = 1 << 20;
    const PIECE: usize = 256 * 1024;

    fn pieces(purse: &mut Purse, used: u64, limit: u64) -> u64 {
        (0..10_000).take_while(|_| purse.store(PIECE, used, limit)).count() as u64
    }

    #[test]
    fn one_client_has_an_eighth_but_room_for_a_message_if_there_is_any() {
        // Octets of room in Redis, of the largest message, and what a client gets of them.
        for (room, largest, expected) in [(1600, 10, 100), (1600, 100, 150), (160, 100, 40), (0, 100, 0)] {
            let budget = Budget::new(0, largest * MIB, 2);
            let mut purse = budget.purse(stranger(0, 1));
            pieces(&mut purse, 100 * MIB, (100 + room) * MIB);
            let got = purse.unfinished.octets();
            assert!(got <= expected * MIB && got + MIB / 2 >= expected * MIB.min(got + 1), "{room} {largest}: {got}");
            drop(purse);
            assert_empty(&budget.unfinished);
        }
    }

    #[test]
    fn all_together_never_bring_redis_to_its_limit_even_when_it_is_looked_at_late() {
        let (limit, budget) = (200 * MIB, Budget::new(0, 1, 2));
        let mut purses = Vec::new();
        let mut used = 20 * MIB;
        for number in 0..40 {
            for listener in [0, 1] {
                purses.push(budget.purse(stranger(listener, number)));
                // Redis says every now and then what it uses: what lies there, ours included.
                if let Some(purse) = purses.last_mut() {
                    pieces(purse, used, limit);
                }
            }
            used = 20 * MIB + budget.unfinished.taken();
        }
        let taken = budget.unfinished.taken();
        let half = 180 * MIB / 2;
        assert!((half / 4 * 3 - MIB..=half).contains(&taken), "{taken}");
        let mut trusted = budget.purse(Payer { listener: 0, client: None });
        assert!(pieces(&mut trusted, used, limit) > 0, "strangers leave something to trusted clients");
        drop((purses, trusted));
        assert_empty(&budget.unfinished);
    }

    #[test]
    fn memory_is_given_back_as_the_buffer_shrinks_and_with_the_message() {
        let budget = Budget::new(16 * MIB, 1, 1);
        let mut purse = budget.purse(stranger(0, 1));
        assert!(purse.hold(PIECE) && purse.hold(0));
        assert_eq!(budget.memory(), 0);
        assert!(purse.hold(2 << 20) && !purse.hold((2 << 20) + 1));
        let mut envelope = budget.envelope(stranger(0, 1));
        assert!(!budget.grow(&mut envelope, 1), "a client has one share for content and envelopes");
        let unfinished = purse.into_kept().0;
        assert_eq!((budget.memory(), unfinished.octets()), (0, 0));
        assert!(budget.grow(&mut envelope, 1));
        drop(envelope);
        assert_empty(&budget.memory);
    }
}
