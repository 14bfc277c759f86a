//! Lanes: for each next hop the work that is due, and the carriers (connections) that do it.
//!
//! A lane starts with a few carriers and gains one with every connection that could be set up, up to its limit;
//! failures shrink it, as Postfix' destination concurrency does. A carrier without work keeps its connection for a
//! short while, so the pool of idle connections is the set of idle carriers, keyed by next hop, TLS level and
//! credentials at once. When the pod's limit on connections is reached, idle carriers make room.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use staffetta_queue::Destination;
use tokio::sync::Notify;

use crate::hop::{HopKey, NextHop, Router};

/// Carriers of a lane before anything is known about its server (Postfix `initial_destination_concurrency`).
const INITIAL: u32 = 5;

/// Pieces of work at which the pool is full.
const ENOUGH: usize = 1000;

/// A destination queue of one partition in which jobs are due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) partition: u16,
    pub(crate) destination: Destination,
}

/// All lanes of this pod.
#[derive(Default)]
pub(crate) struct Pool {
    lanes: Mutex<HashMap<HopKey, Arc<Lane>>>,
    /// Pieces of work that wait in all lanes.
    waiting: Arc<AtomicUsize>,
    /// Somebody needs a connection and the pod has none left.
    pub(crate) pressure: Notify,
}

/// One next hop.
pub(crate) struct Lane {
    pub(crate) hop: NextHop,
    state: Mutex<State>,
    /// Of the pool.
    waiting: Arc<AtomicUsize>,
    /// An idle carrier is wanted.
    pub(crate) wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Work>,
    /// What is in `ready`.
    known: HashSet<Work>,
    carriers: u32,
    /// Carriers that wait for work with an open connection.
    idle: u32,
    /// Most carriers now.
    window: u32,
    /// The last carrier has left; a new lane takes its place.
    closed: bool,
}

/// What new work means for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// Somebody will see to it.
    Waits,
    /// A carrier is needed; it is counted already.
    Spawn,
    /// Too late.
    Closed,
}

impl Pool {
    /// Gives work to its lane. `Some`: start a carrier for this lane.
    pub(crate) fn put(&self, router: &Router, work: &Work) -> Option<Arc<Lane>> {
        loop {
            let lane = self.lane(router, &work.destination);
            match lane.put(work) {
                Put::Waits => return None,
                Put::Spawn => return Some(lane),
                Put::Closed => self.remove(&lane),
            }
        }
    }

    /// Is there more work at hand than carriers can begin soon? Then nobody should look for more.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= ENOUGH
    }

    /// A carrier has no work. True: it has left the lane and must end.
    pub(crate) fn leave(&self, lane: &Arc<Lane>) -> bool {
        let left = lane.leave();
        if left && lane.lock().closed {
            self.remove(lane);
        }
        left
    }

    fn lane(&self, router: &Router, destination: &Destination) -> Arc<Lane> {
        let new = || Arc::new(Lane::new(router.hop(destination), self.waiting.clone()));
        self.lock().entry(router.key(destination)).or_insert_with(new).clone()
    }

    fn remove(&self, lane: &Arc<Lane>) {
        if let Entry::Occupied(entry) = self.lock().entry(lane.hop.key.clone())
            && Arc::ptr_eq(entry.get(), lane)
        {
            entry.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HopKey, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(hop: NextHop, waiting: Arc<AtomicUsize>) -> Self {
        let state = State { window: INITIAL.min(hop.concurrency), ..State::default() };
        Self { hop, state: Mutex::new(state), waiting, wake: Notify::new() }
    }

    /// The next piece of work, if any.
    pub(crate) fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        let work = state.ready.pop_front()?;
        state.known.remove(&work);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(work)
    }

    /// A connection could be set up.
    pub(crate) fn succeeded(&self) {
        let mut state = self.lock();
        state.window = (state.window + 1).min(self.hop.concurrency);
    }

    /// No address of the next hop could be used.
    pub(crate) fn failed(&self) {
        let mut state = self.lock();
        state.window = (state.window / 2).max(1);
    }

    /// A carrier begins (`true`) or ends to wait for work.
    pub(crate) fn idle(&self, begins: bool) {
        let mut state = self.lock();
        state.idle = if begins { state.idle + 1 } else { state.idle.saturating_sub(1) };
    }

    fn put(&self, work: &Work) -> Put {
        let mut state = self.lock();
        if state.closed {
            return Put::Closed;
        }
        if state.known.insert(work.clone()) {
            state.ready.push_back(work.clone());
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        if state.idle > 0 {
            drop(state);
            self.wake.notify_one();
            return Put::Waits;
        }
        if state.carriers >= state.window {
            return Put::Waits;
        }
        state.carriers += 1;
        Put::Spawn
    }

    /// False: there is work again, stay.
    fn leave(&self) -> bool {
        let mut state = self.lock();
        if !state.ready.is_empty() && state.carriers <= state.window {
            return false;
        }
        state.carriers = state.carriers.saturating_sub(1);
        state.closed = state.carriers == 0 && state.ready.is_empty();
        true
    }

    /// A carrier could not be started or ends without asking; its work stays and is offered again.
    pub(crate) fn resign(&self) {
        let mut state = self.lock();
        state.carriers = state.carriers.saturating_sub(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn work(partition: u16) -> Work {
        Work { partition, destination: Destination::new("example.net") }
    }

    fn router() -> Router {
        Router::new(&staffetta_config::Config::default())
    }

    #[test]
    fn a_lane_grows_with_success_and_shrinks_with_failure() {
        let (pool, router) = (Pool::default(), router());
        let mut lane = None;
        for partition in 0..INITIAL as u16 {
            lane = pool.put(&router, &work(partition));
            assert!(lane.is_some(), "carrier {partition}");
        }
        let lane = lane.unwrap();
        assert!(pool.put(&router, &work(90)).is_none(), "the window is full");
        lane.succeeded();
        assert!(pool.put(&router, &work(91)).is_some());
        lane.failed();
        assert!(pool.leave(&lane), "too many carriers now");
    }

    #[test]
    fn an_idle_carrier_is_woken_instead_of_a_new_one() {
        let (pool, router) = (Pool::default(), router());
        let lane = pool.put(&router, &work(1)).unwrap();
        assert_eq!(lane.take(), Some(work(1)));
        lane.idle(true);
        assert!(pool.put(&router, &work(2)).is_none());
        lane.idle(false);
        assert_eq!(lane.take(), Some(work(2)));
        assert!(pool.leave(&lane));
        assert!(pool.put(&router, &work(3)).is_some_and(|new| !Arc::ptr_eq(&new, &lane)), "the old lane is gone");
    }

    #[test]
    fn the_same_work_waits_once_and_is_not_forgotten_without_a_carrier() {
        let (pool, router) = (Pool::default(), router());
        let lane = pool.put(&router, &work(1)).unwrap();
        lane.resign();
        let again = pool.put(&router, &work(1)).unwrap();
        assert!(Arc::ptr_eq(&lane, &again));
        assert_eq!((lane.take(), lane.take()), (Some(work(1)), None));
    }

    #[test]
    fn the_pool_is_full_when_work_piles_up() {
        let (pool, router) = (Pool::default(), router());
        let lane = pool.put(&router, &work(0)).unwrap();
        for partition in 1..ENOUGH as u16 {
            assert!(!pool.is_full());
            pool.put(&router, &work(partition));
        }
        assert!(pool.is_full());
        lane.take();
        assert!(!pool.is_full());
    }
}
