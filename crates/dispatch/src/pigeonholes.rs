//! Jobs that were claimed before anybody could know over which next hop they go, sorted, until a carrier comes for them.
//!
//! A job waits in the queue of its destination. Where the way of mail depends on its sender, too, that queue has jobs of
//! several next hops, and one of them may be slow or down while the others are not. So jobs are claimed first, and each is
//! put into the hole of its next hop and its [`Work`]. A hole that is full refuses, and what it refuses goes back into the queue
//! for a while that is the longer the longer the hole has been full: so what is behind it in the queue comes up.
//!
//! Nothing stays here for long: what no carrier has taken in time is [overdue](Pigeonholes::overdue).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::ring::Work;

/// Jobs in one hole.
const MOST: usize = 32;
/// Jobs in all of them.
const ALL: usize = 2048;
/// Jobs that are looked at when a hole is full: there may be others behind those that it refuses.
const LOOK: usize = 16;
/// How long a job waits for a carrier.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what is refused is put off: at least, and at most.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// See the [module](self). `K` is a next hop, `D` a destination, `J` a job.
#[derive(Debug)]
pub struct Pigeonholes<K, D, J> {
    holes: HashMap<Work<D>, Vec<Hole<K, J>>>,
    len: usize,
    closed: bool,
}

#[derive(Debug)]
struct Hole<K, J> {
    hop: K,
    jobs: VecDeque<(Instant, J)>,
    /// It has refused jobs since, and was not empty.
    full: Option<Instant>,
}

/// What became of a job that was put here.
#[derive(Debug, PartialEq, Eq)]
pub enum Put<J> {
    /// It waits for a carrier.
    Taken,
    /// Back into the queue for so long.
    Later(J, Duration),
    /// Back into the queue: nobody comes any more.
    Closed(J),
}

impl<K, D, J> Default for Pigeonholes<K, D, J> {
    fn default() -> Self {
        Self { holes: HashMap::new(), len: 0, closed: false }
    }
}

impl<K: Clone + Eq + Hash, D: Clone + Eq + Hash, J> Pigeonholes<K, D, J> {
    /// How many jobs of this work to claim; 0: none now.
    pub fn wanted(&self, work: &Work<D>) -> usize {
        if self.closed || self.len + LOOK > ALL {
            return 0;
        }
        (MOST - self.fullest(work)).max(LOOK).min(ALL - self.len)
    }

    /// Is there room for some more of this work, whatever their next hop?
    pub fn has_room(&self, work: &Work<D>) -> bool {
        !self.closed && self.len + LOOK <= ALL && self.fullest(work) + LOOK <= MOST
    }

    fn fullest(&self, work: &Work<D>) -> usize {
        let holes = self.holes.get(work).into_iter().flatten();
        holes.map(|hole| hole.jobs.len()).max().unwrap_or_default().min(MOST)
    }

    /// A claimed job is to wait for a carrier of its next hop.
    pub fn put(&mut self, hop: &K, work: &Work<D>, job: J, now: Instant) -> Put<J> {
        if self.closed {
            return Put::Closed(job);
        }
        let holes = self.holes.entry(work.clone()).or_default();
        let at = holes.iter().position(|hole| hole.hop == *hop).unwrap_or_else(|| {
            holes.push(Hole { hop: hop.clone(), jobs: VecDeque::new(), full: None });
            holes.len() - 1
        });
        let hole = &mut holes[at];
        if hole.jobs.len() >= MOST || self.len >= ALL {
            let since = *hole.full.get_or_insert(now);
            let wait = now.saturating_duration_since(since).clamp(SHORTEST, LONGEST);
            return Put::Later(job, wait);
        }
        hole.jobs.push_back((now, job));
        self.len += 1;
        Put::Taken
    }

    /// How many of a next hop's jobs of this work are here.
    pub fn count(&self, hop: &K, work: &Work<D>) -> usize {
        let holes = self.holes.get(work).into_iter().flatten();
        holes.filter(|hole| hole.hop == *hop).map(|hole| hole.jobs.len()).sum()
    }

    /// The next hops for which jobs of this work are here, each with the first of them.
    pub fn waiting(&self, work: &Work<D>) -> impl Iterator<Item = (&K, &J)> {
        let holes = self.holes.get(work).into_iter().flatten();
        holes.filter_map(|hole| Some((&hole.hop, &hole.jobs.front()?.1)))
    }

    /// Up to so many jobs of this work for a carrier of this next hop, in the order in which they came.
    pub fn take(&mut self, hop: &K, work: &Work<D>, limit: usize) -> Vec<J> {
        let Some(hole) = self.holes.get_mut(work).and_then(|holes| holes.iter_mut().find(|hole| hole.hop == *hop))
        else {
            return Vec::new();
        };
        let taken: Vec<J> = hole.jobs.drain(..limit.min(hole.jobs.len())).map(|(_, job)| job).collect();
        self.forget(taken.len());
        taken
    }

    /// Jobs for which nobody came in time.
    pub fn overdue(&mut self, now: Instant) -> Vec<J> {
        let mut overdue = Vec::new();
        for hole in self.holes.values_mut().flatten() {
            let late = |(since, _): &(Instant, J)| now.saturating_duration_since(*since) >= PATIENCE;
            let count = hole.jobs.iter().take_while(|job| late(job)).count();
            overdue.extend(hole.jobs.drain(..count).map(|(_, job)| job));
        }
        self.forget(overdue.len());
        overdue
    }

    /// Everything that is left; nothing is taken from now on.
    pub fn close(&mut self) -> Vec<J> {
        self.closed = true;
        let jobs = self.holes.drain().flat_map(|(_, holes)| holes).flat_map(|hole| hole.jobs);
        jobs.map(|(_, job)| job).collect()
    }

    /// So many are gone, and holes that are empty with them.
    fn forget(&mut self, jobs: usize) {
        self.len -= jobs;
        if jobs > 0 {
            self.holes.retain(|_, holes| {
                holes.retain(|hole| !hole.jobs.is_empty());
                !holes.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Holes = Pigeonholes<&'static str, &'static str, usize>;

    fn work(partition: u16) -> Work<&'static str> {
        Work { partition, destination: "x.test" }
    }

    fn filled(holes: &mut Holes, hop: &'static str, work: &Work<&'static str>, jobs: usize, now: Instant) {
        (0..jobs).for_each(|job| assert_eq!(holes.put(&hop, work, job, now), Put::Taken));
    }

    #[test]
    fn each_next_hop_gets_its_own_jobs_in_their_order() {
        let (mut holes, now) = (Holes::default(), Instant::now());
        for (job, hop) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
            assert_eq!(holes.put(&hop, &work(0), job, now), Put::Taken);
        }
        assert_eq!(holes.put(&"a", &work(1), 7, now), Put::Taken);
        assert_eq!(holes.take(&"a", &work(0), 2), [0, 2]);
        assert_eq!((holes.count(&"a", &work(0)), holes.count(&"b", &work(0))), (1, 2));
        assert_eq!(holes.waiting(&work(0)).collect::<Vec<_>>(), [(&"a", &4), (&"b", &1)]);
        assert_eq!(holes.take(&"a", &work(0), 9), [4]);
        assert_eq!(holes.take(&"b", &work(0), 9), [1, 3]);
        assert_eq!(holes.take(&"b", &work(1), 9), Vec::<usize>::new());
        assert_eq!(holes.take(&"a", &work(1), 9), [7]);
        assert!(holes.holes.is_empty() && holes.len == 0);
    }

    #[test]
    fn a_full_hole_refuses_for_the_longer_the_longer_it_is_full_and_hides_no_other() {
        let (mut holes, start) = (Holes::default(), Instant::now());
        assert_eq!(holes.wanted(&work(0)), MOST);
        filled(&mut holes, "down", &work(0), MOST, start);
        assert_eq!(holes.wanted(&work(0)), LOOK, "there may be others behind it");
        let mut refused = |seconds| match holes.put(&"down", &work(0), 99, start + Duration::from_secs(seconds)) {
            Put::Later(99, wait) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!([refused(0), refused(1), refused(30), refused(600)].map(|wait| wait.as_secs()), [2, 2, 30, 60]);
        assert_eq!(holes.put(&"up", &work(0), 1, start), Put::Taken);
        assert_eq!(holes.put(&"down", &work(1), 1, start), Put::Taken);
        holes.take(&"down", &work(0), MOST / 4);
        assert!(!holes.has_room(&work(0)));
        holes.take(&"down", &work(0), MOST);
        assert!(holes.has_room(&work(0)) && holes.wanted(&work(0)) == MOST - 1);
        filled(&mut holes, "down", &work(0), MOST, start);
        let late = start + Duration::from_secs(700);
        assert_eq!(holes.put(&"down", &work(0), 5, late), Put::Later(5, SHORTEST), "it was empty");
    }

    #[test]
    fn what_nobody_comes_for_does_not_stay_and_the_end_leaves_nothing() {
        let (mut holes, start) = (Holes::default(), Instant::now());
        filled(&mut holes, "a", &work(0), 2, start);
        filled(&mut holes, "b", &work(0), 1, start + PATIENCE / 2);
        assert!(holes.overdue(start + PATIENCE / 2).is_empty());
        assert_eq!(holes.overdue(start + PATIENCE), [0, 1]);
        assert_eq!((holes.len, holes.count(&"b", &work(0))), (1, 1));
        assert_eq!(holes.close(), [0]);
        assert_eq!(holes.put(&"b", &work(0), 3, start), Put::Closed(3));
        assert_eq!(holes.wanted(&work(0)), 0);
    }

    #[test]
    fn all_of_them_together_are_bounded() {
        let (mut holes, now) = (Holes::default(), Instant::now());
        let mut partition = 0;
        while holes.wanted(&work(partition)) > 0 {
            let wanted = holes.wanted(&work(partition));
            filled(&mut holes, "a", &work(partition), wanted, now);
            partition += 1;
        }
        assert!(holes.len <= ALL && holes.len + LOOK > ALL, "{}", holes.len);
    }
}
