//! The work of one next hop, shared among its destinations by deficit round robin.
//!
//! A destination that waits in many partitions, or has many jobs, gets one turn like any other; what a turn could not
//! use (memory was short) is added to the next one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A destination queue of one partition in which jobs are due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work<D> {
    /// Which partition.
    pub partition: u16,
    /// Whose jobs.
    pub destination: D,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Ring<D> {
    order: VecDeque<D>,
    shares: HashMap<D, Share>,
    len: usize,
}

#[derive(Debug, Default)]
struct Share {
    partitions: VecDeque<u16>,
    /// Jobs that it may have besides its next quantum.
    deficit: usize,
}

impl<D> Default for Ring<D> {
    fn default() -> Self {
        Self { order: VecDeque::new(), shares: HashMap::new(), len: 0 }
    }
}

impl<D: Clone + Eq + Hash> Ring<D> {
    /// False: it waits already.
    pub(crate) fn add(&mut self, work: &Work<D>) -> bool {
        let order = &mut self.order;
        let share = self.shares.entry(work.destination.clone()).or_insert_with(|| {
            order.push_back(work.destination.clone());
            Share::default()
        });
        if share.partitions.contains(&work.partition) {
            return false;
        }
        share.partitions.push_back(work.partition);
        self.len += 1;
        true
    }

    /// Whose turn it is, and for how many jobs.
    pub(crate) fn next(&mut self, quantum: usize) -> Option<(Work<D>, usize)> {
        let destination = self.order.pop_front()?;
        let share = self.shares.get_mut(&destination)?;
        let grant = quantum + std::mem::take(&mut share.deficit).min(quantum);
        let partition = share.partitions.pop_front();
        if share.partitions.is_empty() {
            self.shares.remove(&destination);
        } else {
            self.order.push_back(destination.clone());
        }
        self.len -= 1;
        partition.map(|partition| (Work { partition, destination }, grant))
    }

    /// A turn of this destination left so many jobs unused.
    pub(crate) fn refund(&mut self, destination: &D, jobs: usize) {
        if let Some(share) = self.shares.get_mut(destination) {
            share.deficit += jobs;
        }
    }

    /// Takes all of it.
    pub(crate) fn drain(&mut self) -> Vec<Work<D>> {
        let Self { shares, .. } = std::mem::take(self);
        let each = shares.into_iter().flat_map(|(destination, share)| {
            share.partitions.into_iter().map(move |partition| Work { partition, destination: destination.clone() })
        });
        each.collect()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(partition: u16, destination: &'static str) -> Work<&'static str> {
        Work { partition, destination }
    }

    #[test]
    fn a_destination_in_many_partitions_gets_no_more_turns_than_one_in_few() {
        let mut ring = Ring::default();
        for partition in 0..3 {
            assert!(ring.add(&work(partition, "large")));
        }
        assert!(!ring.add(&work(0, "large")), "it waits already");
        ring.add(&work(0, "small"));
        let turns: Vec<_> = std::iter::from_fn(|| ring.next(4)).map(|(work, _)| work.destination).collect();
        assert_eq!(turns, ["large", "small", "large", "large"]);
        assert!(ring.is_empty());
    }

    #[test]
    fn an_unused_turn_is_added_to_the_next_and_lost_with_the_last_work() {
        let mut ring = Ring::default();
        ring.add(&work(0, "a"));
        ring.add(&work(1, "a"));
        assert_eq!(ring.next(4), Some((work(0, "a"), 4)));
        ring.refund(&"a", 3);
        assert_eq!(ring.next(4), Some((work(1, "a"), 7)));
        ring.refund(&"a", 4);
        ring.add(&work(0, "a"));
        assert_eq!(ring.next(4), Some((work(0, "a"), 4)));
    }
}
