//! All partitions of a queue, and how many of them there are.
//!
//! New mail goes to as many as this process is configured for. The queue may have more: another process has been, or is
//! still, configured for them, and what is queued there must be delivered. How many there are stands in the registry and
//! never shrinks; every process learns it from the checks of each second.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use staffetta_mail::QueueId;

use crate::partition::Partition;
use crate::resting::Resting;
use crate::slot::Table;

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

/// How many there are, as far as is known; for all nodes of a process.
pub(crate) struct Count {
    configured: u16,
    known: AtomicU16,
}

impl Count {
    pub(crate) fn new(configured: u16) -> Self {
        Self { configured, known: AtomicU16::new(configured) }
    }

    pub(crate) fn known(&self) -> u16 {
        self.known.load(Ordering::Relaxed)
    }

    /// Somebody has registered so many. How many there are now.
    pub(crate) fn learn(&self, registered: u16) -> u16 {
        let count = registered.clamp(self.configured, QueueId::MAX_PARTITIONS);
        self.known.store(count, Ordering::Relaxed);
        count
    }
}

/// Which partitions one node has: those whose slots it has.
#[derive(Clone)]
pub(crate) struct Share {
    all: Arc<Partitions>,
    pub(crate) count: Arc<Count>,
    table: Arc<Table>,
    node: u16,
    /// Those that are being moved.
    pub(crate) resting: Arc<Resting>,
}

impl Share {
    /// That of the node with this number.
    pub(crate) fn new(all: Arc<Partitions>, count: Arc<Count>, table: Arc<Table>, node: u16) -> Self {
        Self { all, count, table, node, resting: Arc::default() }
    }

    /// Signs of a move are noted here.
    pub(crate) fn noting(self, resting: Arc<Resting>) -> Self {
        Self { resting, ..self }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Partition> {
        (0..self.count.known()).map(|number| self.all.get(number)).filter(|partition| self.has(partition.slot))
    }

    /// Does it have this slot?
    pub(crate) fn has(&self, slot: u16) -> bool {
        self.table.node(slot) == self.node
    }

    /// The number of its node.
    pub(crate) fn node(&self) -> u16 {
        self.node
    }

    /// The number of the node that has this slot.
    pub(crate) fn node_of(&self, slot: u16) -> u16 {
        self.table.node(slot)
    }

    /// Whoever has it.
    pub(crate) fn any(&self, number: u16) -> &Partition {
        self.all.get(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(share: &Share) -> Vec<u16> {
        share.iter().map(|partition| partition.number).collect()
    }

    #[test]
    fn the_count_grows_as_others_say_and_is_never_less_than_what_is_configured() {
        let count = Arc::new(Count::new(2));
        let share = Share::new(Arc::new(Partitions::new()), count.clone(), Arc::new(Table::of_one()), 0);
        assert_eq!(numbers(&share), [0, 1]);
        assert_eq!(count.learn(4), 4);
        assert_eq!(numbers(&share), [0, 1, 2, 3]);
        assert_eq!(count.learn(1), 2);
        assert_eq!(count.learn(u16::MAX), QueueId::MAX_PARTITIONS);
    }

    #[test]
    fn a_node_has_the_partitions_whose_slots_it_has() {
        let (all, count, table) = (Arc::new(Partitions::new()), Arc::new(Count::new(4)), Arc::new(Table::of_many()));
        let [first, second] = [0, 1].map(|node| Share::new(all.clone(), count.clone(), table.clone(), node));
        assert_eq!((numbers(&first), numbers(&second)), (vec![0, 1, 2, 3], vec![]));
        table.put(all.get(2).slot, 1);
        assert_eq!((numbers(&first), numbers(&second)), (vec![0, 1, 3], vec![2]));
    }
}
