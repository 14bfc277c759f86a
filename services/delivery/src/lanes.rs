//! The lanes of this pod, shared by its tasks. What they decide is `staffetta_dispatch::Pool` and `Backoffs`; here are
//! the locks, and flags for those who only want to know that there is nothing to know.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use staffetta_dispatch::{Advice, Backoffs, Pool, Refused};
use staffetta_queue::Destination;
use staffetta_transport::hop::{HopKey, NextHop};
use tokio::sync::Notify;

use crate::metrics::Provider;
use crate::worker::Worker;

/// Between looks at whether somebody else needs the connection that is being set up.
const LOOK: Duration = Duration::from_secs(1);

/// When work is offered again for which others have the places. The one who has them may be waiting for it.
const SOON: Duration = Duration::from_millis(40);

/// A destination queue of one partition in which jobs are due.
pub(crate) type Work = staffetta_dispatch::Work<Destination>;

/// One next hop, as its carriers hold it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) hop: NextHop,
    /// Whose deliveries it makes, as far as its servers are known.
    pub(crate) provider: ArcSwap<Provider>,
    /// An idle carrier is wanted.
    pub(crate) wake: Notify,
}

/// What the carriers of lanes that share the places at some servers see of the lanes that have none. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Company(Arc<Awaited>);

#[derive(Debug, Default)]
struct Awaited {
    lanes: AtomicUsize,
    pressure: Notify,
}

impl staffetta_dispatch::Company for Company {
    fn awaited(&self, lanes: usize) {
        self.0.lanes.store(lanes, Ordering::Relaxed);
        if lanes > 0 {
            self.0.pressure.notify_one();
        }
    }
}

impl Company {
    /// Does a lane wait for a place?
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.lanes.load(Ordering::Relaxed) > 0
    }

    /// Ends when one does: somebody who has nothing to do makes room.
    pub(crate) async fn pressed(&self) {
        self.0.pressure.notified().await;
    }
}

type Shared = Pool<HopKey, Destination, Arc<Lane>, Company>;

/// All of them.
pub(crate) struct Lanes {
    pool: Mutex<Shared>,
    backoffs: Mutex<Backoffs<HopKey, Destination>>,
    /// A lane without a connection waits for one of another's.
    starving: AtomicBool,
    full: AtomicBool,
    /// Some next hop rests.
    resting: AtomicBool,
    /// Somebody needs a connection and the pod has none left.
    pub(crate) pressure: Notify,
}

impl Lanes {
    /// With at most so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            pool: Mutex::new(Pool::new(connections)),
            backoffs: Mutex::default(),
            starving: AtomicBool::new(false),
            full: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            pressure: Notify::new(),
        }
    }

    /// Gives work to its lane and wakes a carrier that is idle there.
    pub(crate) fn put(&self, key: &HopKey, work: &Work, hop: impl FnOnce() -> NextHop) {
        let woken = self.with(|pool| {
            pool.put(key, work, || {
                let hop = hop();
                let limit = hop.concurrency;
                let provider = ArcSwap::from_pointee(Provider::new(hop.provider()));
                (Arc::new(Lane { hop, provider, wake: Notify::new() }), limit)
            })
        });
        if let Some(lane) = woken {
            lane.wake.notify_one();
        }
    }

    /// The lane of the next connection, if anybody may have one.
    pub(crate) fn admit(&self) -> Option<Arc<Lane>> {
        let lane = self.with(Pool::admit);
        if lane.is_none() && self.are_starving() {
            self.pressure.notify_one();
        }
        lane
    }

    /// The next work of a lane, of whose messages so many were taken in the meantime.
    pub(crate) fn take(&self, lane: &Lane, quantum: usize, served: u32) -> Option<(Work, usize)> {
        self.with(|pool| {
            pool.served(&lane.hop.key, served);
            pool.take(&lane.hop.key, quantum)
        })
    }

    pub(crate) fn refund(&self, lane: &Lane, destination: &Destination, jobs: usize) {
        self.with(|pool| pool.refund(&lane.hop.key, destination, jobs));
    }

    pub(crate) fn idle(&self, lane: &Lane, begins: bool) {
        self.with(|pool| pool.idle(&lane.hop.key, begins));
    }

    /// Ends when a set-up for this lane, which begins now, has taken too long for those who have no connection.
    pub(crate) async fn out_of_patience(&self, lane: &Lane) {
        let began = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            if self.with(|pool| pool.must_yield(&lane.hop.key, began.elapsed())) {
                return;
            }
        }
    }

    /// Does a lane without a connection wait for one that somebody else has?
    pub(crate) fn are_starving(&self) -> bool {
        self.starving.load(Ordering::Relaxed)
    }

    /// Is there more work at hand than carriers can begin soon?
    pub(crate) fn are_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// The next hop of this work could not be reached.
    pub(crate) fn back_off(&self, lane: &Lane, work: Work, rest: Duration) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs.begin(lane.hop.key.clone(), work, rest, Instant::now());
        self.resting.store(true, Ordering::Relaxed);
    }

    /// What to do with work that is offered.
    pub(crate) fn advise(&self, lane: &Lane, work: &Work) -> Advice {
        if !self.resting.load(Ordering::Relaxed) {
            return Advice::Claim;
        }
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs.advise(&lane.hop.key, work, Instant::now())
    }

    /// Must its jobs wait, also those that are claimed already?
    pub(crate) fn rests(&self, lane: &Lane) -> bool {
        self.resting.load(Ordering::Relaxed) && {
            let backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
            backoffs.holds(&lane.hop.key, Instant::now())
        }
    }

    /// How long its jobs must wait, if they must.
    pub(crate) fn rest_of(&self, hop: &HopKey) -> Option<Duration> {
        if !self.resting.load(Ordering::Relaxed) {
            return None;
        }
        let backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs.rest_of(hop, Instant::now())
    }

    /// The next hop is to be tried again although it rests.
    pub(crate) fn lift_back_off(&self, lane: &Lane) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs.lift(&lane.hop.key, Instant::now());
    }

    /// Work that is being released belongs to a newer back-off, and must rest this long.
    pub(crate) fn keep(&self, lane: &Lane, work: &Work) -> Option<Duration> {
        if !self.resting.load(Ordering::Relaxed) {
            return None;
        }
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        backoffs.keep(&lane.hop.key, work, Instant::now())
    }

    /// The next hop was reached: what the queue lets rest for its sake.
    pub(crate) fn end_back_off(&self, lane: &Lane) -> Vec<Work> {
        if !self.resting.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        let released = backoffs.end(&lane.hop.key);
        self.resting.store(!backoffs.is_empty(), Ordering::Relaxed);
        released
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut pool);
        self.starving.store(pool.is_starving(), Ordering::Relaxed);
        self.full.store(pool.is_full(), Ordering::Relaxed);
        result
    }
}

/// A carrier's place in its lane. Given up when dropped, so that a carrier that fails leaves none behind.
pub(crate) struct Berth {
    worker: Arc<Worker>,
    lane: Arc<Lane>,
    /// Its connection has greeted.
    live: bool,
    left: bool,
    /// Whose places it has one of.
    group: Option<Arc<str>>,
}

impl Berth {
    /// For a lane that was admitted.
    pub(crate) fn new(worker: Arc<Worker>, lane: Arc<Lane>) -> Self {
        Self { worker, lane, live: false, left: false, group: None }
    }

    /// Takes one of so many places at the servers of this next hop. `None`: others of this pod have all of them; the lane waits.
    pub(crate) fn join(&mut self, hop: &NextHop, places: u32) -> Option<Company> {
        let group: Arc<str> = hop.places().into();
        let company = self.worker.lanes.with(|pool| pool.join(&self.lane.hop.key, &group, places))?;
        self.group = Some(group);
        Some(company)
    }

    /// The connection could be set up.
    pub(crate) fn greeted(&mut self) {
        self.live = true;
        self.worker.lanes.with(|pool| pool.greeted(&self.lane.hop.key));
        self.worker.admit();
    }

    /// Other workers have all places of the next hop: what was offered here they shall find soon.
    pub(crate) async fn crowded(&self) {
        let Some(group) = &self.group else { return };
        let work = self.worker.lanes.with(|pool| pool.crowded(&self.lane.hop.key, group));
        let work: Vec<_> = work.into_iter().map(|work| (work.partition, work.destination)).collect();
        if let Err(error) = self.worker.queue.offer_again(&work, SOON).await {
            tracing::debug!(%error, "failed to give offers back");
        }
    }

    /// No host let us in.
    pub(crate) fn refused(&self) -> Refused {
        self.worker.lanes.with(|pool| pool.refused(&self.lane.hop.key))
    }

    /// The set-up is slow and others wait; this work was claimed for it.
    pub(crate) fn give_up(&self, work: impl IntoIterator<Item = Work>) {
        self.worker.lanes.with(|pool| pool.give_up(&self.lane.hop.key, work));
    }

    /// The connection has ended.
    pub(crate) fn hung_up(&mut self) {
        if std::mem::take(&mut self.live) {
            self.worker.lanes.with(|pool| pool.hung_up(&self.lane.hop.key));
        }
    }

    /// There is nothing to do. True: the carrier must end.
    pub(crate) fn leave(&mut self) -> bool {
        self.left = self.worker.lanes.with(|pool| pool.leave(&self.lane.hop.key));
        self.left
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.hung_up();
        self.worker.lanes.with(|pool| {
            // First: who waits for the place comes before this lane, if that has more to do.
            if let Some(group) = &self.group {
                pool.part(group);
            }
            if !self.left {
                pool.resign(&self.lane.hop.key);
            }
        });
        self.worker.admit();
    }
}
