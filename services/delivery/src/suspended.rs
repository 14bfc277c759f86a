//! Destinations whose hosts could not be reached lately.
//!
//! The jobs of a destination are spread over all partitions, and a back-off in the queue is one partition's. The first
//! failure counts for all of them: this pod parks the others for the rest of it instead of trying once for each. Redis
//! keeps the last word: what it gives out in a parked partition all the same was flushed by an operator, and then the
//! suspension is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_queue::Destination;

use crate::pool::Work;

/// Most destinations remembered; beyond it only the queue's own back-offs count.
const CAPACITY: usize = 10_000;
/// How long it may take until a back-off is in Redis.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// The memory of one pod.
#[derive(Default)]
pub(crate) struct Suspended {
    destinations: Mutex<HashMap<Destination, Suspension>>,
    /// How many there are, for those who only want to know that there are none.
    count: AtomicUsize,
}

struct Suspension {
    until: Instant,
    /// The partitions that know, and since when.
    parked: HashMap<u16, Instant>,
}

/// What to do with work that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Claim its jobs.
    Claim,
    /// Claim its jobs; if there are any although the queue knows of the suspension, it has been flushed.
    Probe,
    /// Let it rest for this long.
    Park(Duration),
    /// Leave it: it is being parked.
    Wait,
}

impl Suspended {
    /// No host of the destination could be reached; the queue is told so for this partition. A suspension that holds
    /// already is not prolonged.
    pub(crate) fn begin(&self, work: Work, rest: Duration, now: Instant) {
        let mut destinations = self.lock();
        if destinations.len() >= CAPACITY {
            destinations.retain(|_, suspension| suspension.until > now);
        }
        if destinations.len() < CAPACITY || destinations.contains_key(&work.destination) {
            let new = || Suspension { until: now + rest, parked: HashMap::new() };
            let suspension = destinations.entry(work.destination).or_insert_with(new);
            if suspension.until <= now {
                *suspension = new();
            }
            suspension.parked.insert(work.partition, now);
        }
        self.count.store(destinations.len(), Ordering::Relaxed);
    }

    /// What to do with work that is offered. The answer [`Advice::Park`] comes once for each partition.
    pub(crate) fn advise(&self, work: &Work, now: Instant) -> Advice {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Advice::Claim;
        }
        let mut destinations = self.lock();
        let Some(suspension) = destinations.get_mut(&work.destination) else { return Advice::Claim };
        if suspension.until <= now {
            destinations.remove(&work.destination);
            self.count.store(destinations.len(), Ordering::Relaxed);
            return Advice::Claim;
        }
        match suspension.parked.get(&work.partition) {
            None => {
                suspension.parked.insert(work.partition, now);
                Advice::Park(suspension.until - now)
            }
            Some(since) if now.saturating_duration_since(*since) < ON_ITS_WAY => Advice::Wait,
            Some(_) => Advice::Probe,
        }
    }

    /// Must its jobs wait, also those that are claimed already?
    pub(crate) fn holds(&self, destination: &Destination, now: Instant) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().get(destination).is_some_and(|s| s.until > now)
    }

    /// The destination is to be tried again, or was reached.
    pub(crate) fn end(&self, destination: &Destination) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut destinations = self.lock();
            destinations.remove(destination);
            self.count.store(destinations.len(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Destination, Suspension>> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(300);

    fn work(partition: u16, destination: &str) -> Work {
        Work { partition, destination: Destination::new(destination) }
    }

    #[test]
    fn one_failure_parks_every_partition_once_for_the_same_time() {
        let (suspended, start) = (Suspended::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(suspended.advise(&work(0, "x.test"), start), Advice::Claim);
        suspended.begin(work(0, "x.test"), REST, start);
        assert_eq!(suspended.advise(&work(0, "x.test"), start), Advice::Wait, "its settlement is under way");
        assert_eq!(suspended.advise(&work(1, "x.test"), at(100)), Advice::Park(Duration::from_secs(200)));
        assert_eq!(suspended.advise(&work(1, "x.test"), at(100)), Advice::Wait);
        assert_eq!(suspended.advise(&work(1, "x.test"), at(102)), Advice::Probe, "the queue knows");
        assert_eq!(suspended.advise(&work(2, "y.test"), at(100)), Advice::Claim);
        suspended.begin(work(2, "x.test"), REST, at(200));
        assert!(suspended.holds(&Destination::new("x.test"), at(299)));
        assert!(!suspended.holds(&Destination::new("x.test"), at(300)), "the first failure counts");
        assert_eq!(suspended.advise(&work(3, "x.test"), at(300)), Advice::Claim);
    }

    #[test]
    fn a_suspension_ends_when_the_destination_is_reached() {
        let (suspended, now) = (Suspended::default(), Instant::now());
        suspended.begin(work(0, "x.test"), REST, now);
        suspended.end(&Destination::new("x.test"));
        assert_eq!(suspended.advise(&work(1, "x.test"), now), Advice::Claim);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (suspended, now) = (Suspended::default(), Instant::now());
        for i in 0..=CAPACITY {
            suspended.begin(work(0, &format!("d{i}.test")), REST, now);
        }
        assert_eq!(suspended.lock().len(), CAPACITY);
        suspended.begin(work(0, "new.test"), REST, now + REST);
        assert_eq!(suspended.lock().len(), 1, "what is over makes room");
    }
}
