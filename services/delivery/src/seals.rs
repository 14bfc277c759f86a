//! The last signatures of messages to many destinations: each of these is claimed by itself, and would sign again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use staffetta_dkim::Keyring;
use staffetta_mail::QueueId;

use crate::signing::Seal;

/// Messages that are remembered.
const MOST: usize = 64;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Seals(Mutex<VecDeque<Kept>>);

struct Kept {
    id: QueueId,
    /// The keys that it was made with. After they have changed it counts no more.
    ring: Arc<Keyring>,
    seal: Arc<Seal>,
}

impl Seals {
    /// What these keys have made for the message lately.
    pub(crate) fn recall(&self, id: QueueId, ring: &Arc<Keyring>) -> Option<Arc<Seal>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().rev().find(|kept| kept.id == id && Arc::ptr_eq(&kept.ring, ring));
        found.map(|kept| kept.seal.clone())
    }

    /// Forgets the oldest for it.
    pub(crate) fn remember(&self, id: QueueId, ring: Arc<Keyring>, seal: Arc<Seal>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(Kept { id, ring, seal });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seals_are_known_as_long_as_the_keys_are_the_same() {
        let (seals, ring) = (Seals::default(), Arc::new(Keyring::default()));
        let seal = |by: &str| Arc::new(Seal { fields: "x".into(), by: by.to_owned() });
        let id = |n: u32| QueueId::new(0, 1, n);
        seals.remember(id(1), ring.clone(), seal("one"));
        assert_eq!(seals.recall(id(1), &ring).map(|seal| seal.by.clone()).as_deref(), Some("one"));
        assert!(seals.recall(id(2), &ring).is_none());
        let renewed = Arc::new(Keyring::default());
        assert!(seals.recall(id(1), &renewed).is_none());
        seals.remember(id(1), renewed.clone(), seal("two"));
        assert_eq!(seals.recall(id(1), &renewed).map(|seal| seal.by.clone()).as_deref(), Some("two"));
        for n in 2..2 + MOST as u32 {
            seals.remember(id(n), renewed.clone(), seal("other"));
        }
        assert!(seals.recall(id(1), &renewed).is_none());
        assert_eq!(seals.0.lock().map_or(0, |kept| kept.len()), MOST);
    }
}
