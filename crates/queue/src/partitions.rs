//! All partitions of a queue, and how many of them there are.
//!
//! New mail goes to as many as this process is configured for. The queue may have more: another process has been, or is
//! still, configured for them, and what is queued there must be delivered. How many there are stands in the registry and
//! never shrinks; every process learns it from the checks of each second.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use staffetta_mail::QueueId;

use crate::partition::Partition;

/// The names of the keys of every partition that an id can name, made when they are needed.
pub(crate) struct Partitions(Box<[OnceLock<Box<Partition>>]>);

impl Partitions {
    pub(crate) fn new() -> Self {
        Self((0..QueueId::MAX_PARTITIONS).map(|_| OnceLock::new()).collect())
    }

    /// `number`: below [`QueueId::MAX_PARTITIONS`], as in every id.
    pub(crate) fn get(&self, number: u16) -> &Partition {
        let number = number.min(QueueId::MAX_PARTITIONS - 1);
        self.0[usize::from(number)].get_or_init(|| Box::new(Partition::new(number)))
    }
}

/// Those that one server has.
#[derive(Clone)]
pub(crate) struct Share {
    all: Arc<Partitions>,
    first: u16,
    configured: u16,
    known: Arc<AtomicU16>,
}

impl Share {
    /// So many from the first one on.
    pub(crate) fn new(all: Arc<Partitions>, first: u16, configured: u16) -> Self {
        Self { all, first, configured, known: Arc::new(AtomicU16::new(configured)) }
    }

    /// How many there are, as far as is known.
    pub(crate) fn len(&self) -> u16 {
        self.known.load(Ordering::Relaxed)
    }

    /// Somebody has registered so many. How many there are now.
    pub(crate) fn learn(&self, registered: u16) -> u16 {
        let count = registered.clamp(self.configured, QueueId::MAX_PARTITIONS);
        self.known.store(count, Ordering::Relaxed);
        count
    }

    pub(crate) fn at(&self, index: u16) -> &Partition {
        self.all.get(self.first + index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Partition> {
        (0..self.len()).map(|index| self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_as_others_say_and_is_never_less_than_what_is_configured() {
        let share = Share::new(Arc::new(Partitions::new()), 0, 2);
        let numbers = |share: &Share| share.iter().map(|partition| partition.number).collect::<Vec<_>>();
        assert_eq!(numbers(&share), [0, 1]);
        assert_eq!(share.learn(4), 4);
        assert_eq!(numbers(&share), [0, 1, 2, 3]);
        assert_eq!(share.learn(1), 2);
        assert_eq!(share.learn(u16::MAX), QueueId::MAX_PARTITIONS);
        let second = Share::new(Arc::new(Partitions::new()), 2, 2);
        assert_eq!(numbers(&second), [2, 3]);
    }
}
