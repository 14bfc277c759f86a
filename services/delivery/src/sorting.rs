//! Mail whose way depends on its sender: jobs of one destination for several next hops.
//!
//! ```text
//! offer ─▶ sorter: claim ─▶ hole of the job's next hop ─▶ lane ─▶ carrier
//!              ▲                 │ full, or it rests, or nobody comes
//!              └──── queue ◀─────┘ for a while
//! ```
//!
//! The queue knows a destination, not a next hop, so nothing here lets a whole destination rest: jobs do, one by one, and the
//! others go on. What is decided is in `staffetta_dispatch::Pigeonholes`; where no route names a sender nothing of this runs but a look a second.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::RngExt;
use staffetta_dispatch::{Pigeonholes, Put};
use staffetta_queue::Destination;
use staffetta_transport::hop::{HopKey, NextHop};

use crate::lanes::{Lane, Work};
use crate::leased::Task;
use crate::worker::{Claimed, Worker};

/// Claims at a time.
const SORTERS: usize = 8;
/// Pieces of work that wait for one; the queue offers again what finds no place.
const PENDING: usize = 1000;
/// Pieces of work, and next hops, of which something is remembered. Forgotten, they are looked at once more.
const REMEMBERED: usize = 10_000;
/// Over how long what comes back at one time is spread, at most.
const SPREAD: Duration = Duration::from_secs(30);
/// Between looks for jobs that nobody came for.
const LOOK: Duration = Duration::from_secs(1);
/// Before the next look at work of which something was put off: there may be more that must be.
const BREATH: Duration = Duration::from_millis(25);
/// For how long jobs wait for the tokens of a rate where they are; if it takes longer, they go back into the queue, for
/// [`DRY`] at most.
const SOON: Duration = Duration::from_secs(3);
const DRY: Duration = Duration::from_secs(60);

/// Jobs under way from the queue to their lanes.
#[derive(Default)]
pub(crate) struct Sorting(Mutex<Desk>);

#[derive(Default)]
struct Desk {
    holes: Pigeonholes<HopKey, Destination, Task>,
    /// What is to be sorted, and the same for a look whether it is in there.
    pending: VecDeque<Work>,
    known: HashSet<Work>,
    sorters: usize,
    /// Work of which there is probably more in the queue than was claimed.
    more: HashSet<Work>,
    /// Next hops that have had their rate for long, until when.
    dry: HashMap<HopKey, Instant>,
}

/// What became of a job that was to be sorted.
enum Placed {
    There,
    /// Nobody may begin with it for so long.
    Rests(Task, Duration),
    /// Its hole is full.
    Crowded(Task, Duration),
}

impl Sorting {
    fn with<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Desk {
    /// True: one more sorter may begin.
    fn request(&mut self, work: &Work) -> bool {
        if self.pending.len() < PENDING && self.known.insert(work.clone()) {
            self.pending.push_back(work.clone());
        }
        let begins = self.sorters < SORTERS && !self.pending.is_empty();
        self.sorters += usize::from(begins);
        begins
    }

    /// The next piece for a sorter; `None`: it ends.
    fn next(&mut self) -> Option<Work> {
        let next = self.pending.pop_front();
        match &next {
            Some(work) => drop(self.known.remove(work)),
            None => self.sorters -= 1,
        }
        next
    }

    fn dries_up(&mut self, hop: &HopKey, until: Instant) {
        if self.dry.len() >= REMEMBERED {
            let now = Instant::now();
            self.dry.retain(|_, until| *until > now);
        }
        self.dry.insert(hop.clone(), until);
    }

    /// How long there are no tokens for a next hop.
    fn is_dry(&mut self, hop: &HopKey, now: Instant) -> Option<Duration> {
        let left = self.dry.get(hop)?.checked_duration_since(now);
        if left.is_none() {
            self.dry.remove(hop);
        }
        left
    }
}

impl Worker {
    /// Does this work have jobs for several next hops?
    pub(crate) fn is_mixed(&self, work: &Work) -> bool {
        self.terms.load().router.depends_on_submitter(work.destination.as_str())
    }

    /// Has its jobs claimed and sorted.
    pub(crate) fn sort(self: &Arc<Self>, work: &Work) {
        if !self.stop.is_cancelled() && self.sorting.with(|desk| desk.request(work)) {
            self.carriers.spawn(sorter(self.clone()));
        }
    }

    /// There is more of this work than a carrier of this lane has got.
    pub(crate) fn go_on(self: &Arc<Self>, lane: &Arc<Lane>, work: &Work) {
        if !self.is_mixed(work) {
            return self.carry(work);
        }
        if self.sorting.with(|desk| desk.holes.count(&lane.hop.key, work)) > 0 {
            self.lanes.put(&lane.hop.key, work, || lane.hop.clone());
            self.admit();
        }
    }

    /// Up to `wanted` jobs of a lane that were sorted for it; none while its next hop rests, or has had its rate.
    pub(crate) async fn collect(
        self: Arc<Self>,
        lane: &Arc<Lane>,
        hop: &NextHop,
        work: &Work,
        wanted: usize,
    ) -> Claimed {
        let key = &lane.hop.key;
        let there = self.sorting.with(|desk| desk.holes.count(key, work)).min(wanted);
        if there == 0 {
            return Claimed::default();
        }
        if let Some(suspension) = self.suspension(hop, work.destination.as_str()) {
            let tasks = self.sorting.with(|desk| desk.holes.take(key, work, usize::MAX));
            self.put_off(self.sat_out(tasks, lane, &suspension)).await;
            return Claimed::default();
        }
        let allowed = match self.lanes.rest_of(key) {
            Some(rest) => Err(rest),
            None => self.tokens(lane, hop, work, there).await,
        };
        let allowed = match allowed {
            Ok(0) => return Claimed::default(),
            Ok(allowed) => allowed,
            Err(rest) => {
                let tasks = self.sorting.with(|desk| desk.holes.take(key, work, usize::MAX));
                self.put_off(tasks.into_iter().map(|task| (task, rest))).await;
                return Claimed::default();
            }
        };
        let tasks = self.sorting.with(|desk| desk.holes.take(key, work, allowed));
        self.not_sent(hop, allowed - tasks.len().min(allowed)).await;
        if self.sorting.with(|desk| desk.more.remove(work)) {
            self.sort(work);
        }
        let full = tasks.len() == wanted || allowed < there;
        Claimed { tasks: self.permitted(tasks, lane), full }
    }

    /// For how many of so many jobs an attempt may begin now. 0: the lane comes up again when it may. An error: that is not
    /// soon, and they go back for so long.
    async fn tokens(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        hop: &NextHop,
        work: &Work,
        wanted: usize,
    ) -> Result<usize, Duration> {
        let wait = match self.granted(hop, work, wanted).await {
            Some((0, empty_for)) => empty_for,
            Some((tokens, _)) => return Ok(tokens),
            None => LOOK,
        };
        if wait > SOON {
            let wait = wait.min(DRY);
            self.sorting.with(|desk| desk.dries_up(&lane.hop.key, Instant::now() + wait));
            return Err(wait);
        }
        let (lane, work) = (lane.clone(), work.clone());
        self.after(wait.max(BREATH), move |worker| worker.go_on(&lane, &work));
        Ok(0)
    }

    /// Does something a little later, unless the worker stops.
    fn after(self: &Arc<Self>, wait: Duration, act: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let worker = self.clone();
        self.carriers.spawn(async move {
            if worker.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                act(&worker);
            }
        });
    }

    /// Claims some jobs of a piece of work, and puts each where it belongs. Whether it goes on with that is for whoever empties
    /// a hole that is full, or for the next offer.
    async fn sort_some(self: &Arc<Self>, work: &Work) {
        self.remind(work);
        let wanted = self.sorting.with(|desk| desk.holes.wanted(work));
        if wanted == 0 {
            return;
        }
        let Some((tasks, full)) = self.lease(work, wanted).await else { return };
        let (mut back, mut crowded) = (Vec::new(), false);
        for task in tasks {
            match self.place(work, task) {
                Placed::There => {}
                Placed::Rests(task, rest) => back.push((task, rest)),
                Placed::Crowded(task, wait) => {
                    crowded = true;
                    back.push((task, wait));
                }
            }
        }
        self.admit();
        let put_off = !back.is_empty();
        self.put_off(back).await;
        let goes_on = self.sorting.with(|desk| {
            let goes_on = full && !crowded && desk.holes.has_room(work);
            if full && !goes_on {
                if desk.more.len() >= REMEMBERED {
                    desk.more.clear();
                }
                desk.more.insert(work.clone());
            } else {
                desk.more.remove(work);
            }
            goes_on
        });
        if goes_on && put_off {
            let work = work.clone();
            self.after(BREATH, move |worker| worker.sort(&work));
        } else if goes_on {
            self.sort(work);
        }
    }

    /// A lane that had no connection may have forgotten what waits for it.
    fn remind(&self, work: &Work) {
        let waiting: Vec<_> = self.sorting.with(|desk| {
            let waiting = desk.holes.waiting(work);
            waiting.map(|(hop, task)| (hop.clone(), task.job.message.clone())).collect()
        });
        for (hop, message) in waiting {
            let by = Some(message.submitter());
            self.lanes.put(&hop, work, || self.terms.load().router.hop(work.destination.as_str(), by));
        }
    }

    /// Into the hole of its next hop, whose lane hears of it.
    fn place(&self, work: &Work, task: Task) -> Placed {
        let (domain, message) = (work.destination.as_str(), task.job.message.clone());
        let by = Some(message.submitter());
        let router = &self.terms.load().router;
        let (hop, now) = (router.key(domain, by), Instant::now());
        let rest = self.lanes.rest_of(&hop).or_else(|| self.sorting.with(|desk| desk.is_dry(&hop, now)));
        if let Some(rest) = rest {
            return Placed::Rests(task, rest);
        }
        match self.sorting.with(|desk| desk.holes.put(&hop, work, task, now)) {
            Put::Taken => self.lanes.put(&hop, work, || router.hop(domain, by)),
            Put::Later(task, wait) => return Placed::Crowded(task, wait),
            Put::Closed(task) => self.settler.release(task.job),
        }
        Placed::There
    }

    /// Back into the queue, as if they had not been claimed; a little longer, so that they do not all come together.
    async fn put_off(&self, tasks: impl IntoIterator<Item = (Task, Duration)>) {
        let each = tasks.into_iter().map(async |(task, wait)| {
            let after = wait + (wait / 2).min(SPREAD).mul_f64(rand::rng().random_range(0.0..1.0));
            let held = &task.job.held;
            if let Err(error) = self.queue.put_off(&held.lease, after).await {
                tracing::debug!(qid = %held.lease.id, %error, "a job waits for the end of its lease");
            }
            self.leases.forget(held);
        });
        join_all(each).await;
    }

    /// Looks for jobs that no carrier has come for, until the worker stops; then all go back.
    pub(crate) async fn clear_up(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let overdue = self.sorting.with(|desk| desk.holes.overdue(Instant::now()));
            self.put_off(overdue.into_iter().map(|task| (task, LOOK))).await;
        }
        let left = self.sorting.with(|desk| desk.holes.close());
        left.into_iter().for_each(|task| self.settler.release(task.job));
    }
}

async fn sorter(worker: Arc<Worker>) {
    let mut shift = Shift { worker: worker.clone(), is_over: false };
    while let Some(work) = worker.sorting.with(Desk::next) {
        if !worker.stop.is_cancelled() {
            worker.sort_some(&work).await;
        }
    }
    shift.is_over = true;
}

/// A sorter that fails leaves its place to another one.
struct Shift {
    worker: Arc<Worker>,
    is_over: bool,
}

impl Drop for Shift {
    fn drop(&mut self) {
        if !self.is_over {
            self.worker.sorting.with(|desk| desk.sorters -= 1);
        }
    }
}
