//! Deliveries of the recent past, so that a job which comes back is not delivered again.
//!
//! A job comes back although its mail was delivered when the settlement was lost: Redis was away for longer than the
//! lease, or a failover forgot it. The memory is this process's and bounded; it narrows the window, it does not close
//! it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use staffetta_mail::QueueId;

/// A job: the message, and which of its jobs.
pub(crate) type JobName = (QueueId, u16);

/// Most jobs remembered.
const CAPACITY: usize = 65_536;

/// Which recipients of which jobs were delivered lately.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    delivered: HashMap<JobName, Vec<u32>>,
    order: VecDeque<JobName>,
}

impl Recent {
    /// Remembers recipients (indices into the envelope) as delivered.
    pub(crate) fn remember(&self, job: JobName, recipients: impl Iterator<Item = u32>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ring.delivered.len();
        ring.delivered.entry(job).or_default().extend(recipients);
        if ring.delivered.len() == known {
            return;
        }
        ring.order.push_back(job);
        if ring.order.len() > CAPACITY
            && let Some(oldest) = ring.order.pop_front()
        {
            ring.delivered.remove(&oldest);
        }
    }

    /// Takes the recipients out of `recipients` that this pod has delivered already; answers how many those were.
    pub(crate) fn strike(&self, job: JobName, recipients: &mut Vec<u32>) -> usize {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(delivered) = ring.delivered.get(&job) else { return 0 };
        let before = recipients.len();
        recipients.retain(|index| !delivered.contains(index));
        before - recipients.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(unique: u32) -> JobName {
        (QueueId::new(0, 1, unique), 0)
    }

    #[test]
    fn what_was_delivered_is_struck_and_the_rest_stays() {
        let recent = Recent::default();
        recent.remember(job(1), [0, 2].into_iter());
        recent.remember(job(1), [5].into_iter());
        let mut recipients = vec![0, 1, 2, 5];
        assert_eq!(recent.strike(job(1), &mut recipients), 3);
        assert_eq!(recipients, [1]);
        assert_eq!(recent.strike(job(2), &mut recipients), 0);
    }

    #[test]
    fn the_memory_is_bounded() {
        let recent = Recent::default();
        for i in 0..=CAPACITY as u32 {
            recent.remember(job(i), std::iter::once(0));
        }
        assert_eq!(recent.strike(job(0), &mut vec![0]), 0, "the oldest is forgotten");
        assert_eq!(recent.strike(job(1), &mut vec![0]), 1);
    }
}
