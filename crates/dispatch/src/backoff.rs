//! Next hops that could not be reached lately.
//!
//! The jobs behind a next hop are spread over destinations and partitions, and a back-off in the queue is one
//! destination's in one partition. The first failure counts for all of them: the others are parked for the rest of it
//! instead of being tried once each, and the first connection that succeeds releases them all. The queue keeps the last
//! word: what it gives out although it was parked was flushed by an operator, and then the back-off is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::ring::Work;

/// Most next hops remembered, and most pieces of work of one; beyond it only the queue's own back-offs count.
const CAPACITY: usize = 10_000;
/// How long it may take until a back-off is in the queue.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// The memory of one pod.
#[derive(Debug)]
pub struct Backoffs<K, D> {
    hops: HashMap<K, Backoff<D>>,
}

#[derive(Debug)]
struct Backoff<D> {
    began: Instant,
    until: Instant,
    /// What the queue was told to let rest, and since when; before `began`, for an earlier back-off.
    parked: HashMap<Work<D>, Instant>,
}

/// What to do with work that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Claim its jobs.
    Claim,
    /// Claim its jobs; if there are any although the queue knows of the back-off, it has been flushed.
    Probe,
    /// Let it rest for this long.
    Park(Duration),
    /// Leave it: it is being parked.
    Wait,
}

impl<K, D> Default for Backoffs<K, D> {
    fn default() -> Self {
        Self { hops: HashMap::new() }
    }
}

impl<K: Eq + Hash, D: Clone + Eq + Hash> Backoffs<K, D> {
    /// None of its hosts could be reached; the queue is told so for this work. A back-off that holds already is not
    /// prolonged.
    pub fn begin(&mut self, hop: K, work: Work<D>, rest: Duration, now: Instant) {
        if self.hops.len() >= CAPACITY {
            self.hops.retain(|_, backoff| backoff.until > now);
        }
        if self.hops.len() >= CAPACITY && !self.hops.contains_key(&hop) {
            return;
        }
        let new = || Backoff { began: now, until: now + rest, parked: HashMap::new() };
        let backoff = self.hops.entry(hop).or_insert_with(new);
        if backoff.until <= now {
            // What was parked for the last one may still rest: it is released with the rest.
            (backoff.began, backoff.until) = (now, now + rest);
        }
        if backoff.parked.len() < CAPACITY {
            backoff.parked.insert(work, now);
        }
    }

    /// What to do with work that is offered. [`Advice::Park`] comes once for each piece.
    pub fn advise(&mut self, hop: &K, work: &Work<D>, now: Instant) -> Advice {
        let Some(backoff) = self.hops.get_mut(hop) else { return Advice::Claim };
        if backoff.until <= now {
            return Advice::Claim;
        }
        match backoff.parked.get(work).filter(|since| **since >= backoff.began) {
            None => {
                if backoff.parked.len() < CAPACITY || backoff.parked.contains_key(work) {
                    backoff.parked.insert(work.clone(), now);
                }
                Advice::Park(backoff.until - now)
            }
            Some(since) if now.saturating_duration_since(*since) < ON_ITS_WAY => Advice::Wait,
            Some(_) => Advice::Probe,
        }
    }

    /// An operator has flushed some of its work: the next hop is to be tried again. What rests in the queue goes on resting
    /// until that succeeds, for to release it now could undo the back-off that begins if it fails.
    pub fn lift(&mut self, hop: &K, now: Instant) {
        if let Some(backoff) = self.hops.get_mut(hop) {
            backoff.until = backoff.until.min(now);
        }
    }

    /// Must its jobs wait, also those that are claimed already?
    pub fn holds(&self, hop: &K, now: Instant) -> bool {
        self.hops.get(hop).is_some_and(|backoff| backoff.until > now)
    }

    /// How much longer they must.
    pub fn rest_of(&self, hop: &K, now: Instant) -> Option<Duration> {
        let left = self.hops.get(hop)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// The next hop was reached. What the queue lets rest for its sake, to be released.
    pub fn end(&mut self, hop: &K) -> Vec<Work<D>> {
        self.hops.remove(hop).map_or_else(Vec::new, |backoff| backoff.parked.into_keys().collect())
    }

    /// Work that [`Backoffs::end`] answered is to be released. `Some`: another back-off has begun since; the work belongs to
    /// it now and must rest this long.
    pub fn keep(&mut self, hop: &K, work: &Work<D>, now: Instant) -> Option<Duration> {
        let backoff = self.hops.get_mut(hop).filter(|backoff| backoff.until > now)?;
        if backoff.parked.len() < CAPACITY {
            backoff.parked.insert(work.clone(), now);
        }
        Some(backoff.until - now)
    }

    /// Is none remembered?
    pub fn is_empty(&self) -> bool {
        self.hops.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(300);

    fn work(partition: u16, destination: &'static str) -> Work<&'static str> {
        Work { partition, destination }
    }

    #[test]
    fn one_failure_parks_every_destination_and_partition_of_the_hop_once_for_the_same_time() {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(backoffs.advise(&1, &work(0, "x"), start), Advice::Claim);
        backoffs.begin(1, work(0, "x"), REST, start);
        assert_eq!(backoffs.advise(&1, &work(0, "x"), start), Advice::Wait, "its settlement is under way");
        assert_eq!(backoffs.advise(&1, &work(1, "x"), at(100)), Advice::Park(Duration::from_secs(200)));
        assert_eq!(backoffs.advise(&1, &work(0, "y"), at(100)), Advice::Park(Duration::from_secs(200)));
        assert_eq!(backoffs.advise(&1, &work(1, "x"), at(100)), Advice::Wait);
        assert_eq!(backoffs.advise(&1, &work(1, "x"), at(102)), Advice::Probe, "the queue knows");
        assert_eq!(backoffs.advise(&2, &work(0, "z"), at(100)), Advice::Claim, "another hop");
        backoffs.begin(1, work(2, "x"), REST, at(200));
        assert!(backoffs.holds(&1, at(299)));
        assert!(!backoffs.holds(&1, at(300)), "the first failure counts");
        assert_eq!(
            (backoffs.rest_of(&1, at(299)), backoffs.rest_of(&1, at(300))),
            (Some(Duration::from_secs(1)), None)
        );
        assert_eq!(backoffs.advise(&1, &work(3, "x"), at(300)), Advice::Claim);
    }

    #[test]
    fn the_first_success_releases_all_that_was_parked_also_by_the_back_off_before() {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        backoffs.begin(1, work(0, "x"), REST, start);
        backoffs.advise(&1, &work(7, "y"), start);
        backoffs.begin(1, work(1, "x"), REST, start + REST);
        let mut released = backoffs.end(&1);
        released.sort_by_key(|work| work.partition);
        assert_eq!(released, [work(0, "x"), work(1, "x"), work(7, "y")]);
        assert!(backoffs.is_empty() && backoffs.end(&1).is_empty());
    }

    #[test]
    fn a_back_off_that_begins_while_the_last_one_is_released_keeps_what_rests() {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        backoffs.begin(1, work(0, "x"), REST, start);
        backoffs.advise(&1, &work(1, "y"), start);
        assert_eq!(backoffs.end(&1).len(), 2);
        assert_eq!(backoffs.keep(&1, &work(1, "y"), start), None, "released");
        backoffs.begin(1, work(0, "x"), REST, start);
        let later = start + Duration::from_secs(10);
        assert_eq!(backoffs.keep(&1, &work(1, "y"), later), Some(REST - Duration::from_secs(10)));
        assert_eq!(backoffs.advise(&1, &work(1, "y"), later), Advice::Wait, "it is not taken for flushed");
        assert_eq!(backoffs.end(&1).len(), 2, "the next success releases it");
    }

    #[test]
    fn a_flush_means_one_more_attempt_and_its_failure_parks_the_others_anew() {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        let later = start + Duration::from_secs(10);
        backoffs.begin(1, work(0, "x"), REST, start);
        backoffs.advise(&1, &work(1, "x"), start);
        assert_eq!(backoffs.advise(&1, &work(0, "x"), later), Advice::Probe);
        backoffs.lift(&1, later);
        assert!(!backoffs.holds(&1, later));
        backoffs.begin(1, work(0, "x"), REST, later);
        assert_eq!(
            backoffs.advise(&1, &work(1, "x"), later),
            Advice::Park(REST),
            "flushed too, and not tried by itself"
        );
        assert_eq!(backoffs.end(&1).len(), 2, "released when it is reached");
    }

    #[test]
    fn a_back_off_that_follows_another_parks_what_rested_for_the_first() {
        let (mut backoffs, start) = (Backoffs::default(), Instant::now());
        backoffs.begin(1, work(0, "x"), REST, start);
        backoffs.advise(&1, &work(1, "x"), start);
        backoffs.begin(1, work(0, "x"), REST, start + REST);
        assert_eq!(backoffs.advise(&1, &work(1, "x"), start + REST), Advice::Park(REST));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        for hop in 0..=CAPACITY {
            backoffs.begin(hop, work(0, "x"), REST, now);
        }
        assert_eq!(backoffs.hops.len(), CAPACITY);
        backoffs.begin(CAPACITY + 1, work(0, "x"), REST, now + REST);
        assert_eq!(backoffs.hops.len(), 1, "what is over makes room");
    }
}
