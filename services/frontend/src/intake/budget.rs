//! Memory for content that is on its way into the queue, bounded over all connections: ten thousand clients that each
//! send most of a chunk and then wait must not bring the pod down.
//!
//! A message is charged for what the queue may hold of it at a time, one chunk at most. When the budget is used up,
//! messages that would need more are refused as "full" at their end; small ones hardly notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the queue holds of one message at most.
const CHUNK: usize = 256 * 1024;
/// The share of the memory that content may take.
const SHARE: usize = 4;
/// When the system does not say how much memory there is.
const FALLBACK: usize = 256 << 20;

/// The budget of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
}

/// What one message has taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Budget,
    octets: usize,
}

impl Budget {
    pub(super) fn new(octets: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(octets)) }
    }

    /// A quarter of what the control group, else the machine, allows.
    pub(super) fn of_this_process() -> Self {
        Self::new(staffetta_transport::memory_limit().map_or(FALLBACK, |memory| memory / SHARE))
    }

    /// A message that has taken nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge { budget: self.clone(), octets: 0 }
    }
}

impl Charge {
    /// Takes `more` octets, up to a chunk in all; false if there are not so many left.
    pub(super) fn add(&mut self, more: usize) -> bool {
        let more = more.min(CHUNK - self.octets);
        let taken = self.budget.left.try_update(Relaxed, Relaxed, |left| left.checked_sub(more)).is_ok();
        if taken {
            self.octets += more;
        }
        taken
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.octets, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_pays_for_one_chunk_at_most_and_gets_it_back() {
        let budget = Budget::new(CHUNK + 10);
        let mut large = budget.charge();
        assert!(large.add(100) && large.add(CHUNK) && large.add(CHUNK));
        let mut other = budget.charge();
        assert!(other.add(10) && !other.add(1));
        drop(large);
        assert!(other.add(1));
        drop(other);
        assert_eq!(budget.left.load(Relaxed), CHUNK + 10);
    }
}
