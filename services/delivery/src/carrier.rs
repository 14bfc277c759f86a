//! A carrier: one task that claims jobs of a lane, opens a connection to its next hop and sends them.
//!
//! ```text
//! stock (claim jobs) ─▶ connect (look up, dial, greet, TLS) ─▶ converse (many messages) ─┐
//!   ▲                      │ no host left: every job fails                               │
//!   └──────────────────────┴─────────────────────────────────────────────────────────────┘
//! ```
//!
//! It claims the next batch while it sends the current one. It ends when its lane has no work and the connection has
//! been idle for a short while, or when the worker stops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_policy::tls::Need;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::attempt::Attempt;
use crate::connection::{Connection, Opener};
use crate::itinerary::Candidate;
use crate::metrics;
use crate::outcome::Fate;
use crate::pool::{Lane, Work};
use crate::record;
use crate::worker::{Claimed, Worker};

/// Most jobs of one claim.
const MAX_BATCH: usize = 32;
/// Jobs of the first claim.
const FIRST_BATCH: usize = 4;
/// A batch that is sent faster than this is doubled.
const QUICK: Duration = Duration::from_millis(300);
/// A batch that takes longer than this is halved.
const SLOW: Duration = Duration::from_secs(2);

/// Runs a carrier to its end. The permit stands for its connection.
pub(crate) async fn run(worker: Arc<Worker>, lane: Arc<Lane>, permit: OwnedSemaphorePermit) {
    let mut carrier = Carrier {
        worker,
        lane,
        jobs: VecDeque::new(),
        claim: None,
        elsewhere: Vec::new(),
        candidates: VecDeque::new(),
        batch: FIRST_BATCH,
        batch_began: Instant::now(),
    };
    while carrier.stock().await {
        if let Some(connection) = carrier.connect().await {
            carrier.converse(connection).await;
        }
    }
    drop(permit);
}

/// See the [module](self).
pub(crate) struct Carrier {
    pub(crate) worker: Arc<Worker>,
    pub(crate) lane: Arc<Lane>,
    /// Claimed and not begun.
    pub(crate) jobs: VecDeque<Attempt>,
    /// A claim under way.
    pub(crate) claim: Option<Claim>,
    /// Jobs that this connection's host put off, for the next one.
    pub(crate) elsewhere: Vec<Attempt>,
    /// Hosts that this round has not tried yet; empty: look up again.
    candidates: VecDeque<Candidate>,
    batch: usize,
    batch_began: Instant,
}

/// A claim that runs while the carrier does other things.
pub(crate) struct Claim {
    work: Work,
    running: JoinHandle<Claimed>,
}

impl Carrier {
    /// Sees to it that there are jobs. False: there are none, and the carrier has left its lane.
    async fn stock(&mut self) -> bool {
        while self.jobs.is_empty() {
            self.prefetch();
            if self.claim.is_some() {
                self.claimed().await;
            } else if self.worker.stop.is_cancelled() {
                self.lane.resign();
                return false;
            } else if self.worker.pool.leave(&self.lane) {
                return false;
            }
        }
        if self.worker.stop.is_cancelled() {
            // A claim under way has leased jobs too.
            if self.claim.is_some() {
                self.claimed().await;
            }
            self.release_all();
            self.lane.resign();
            return false;
        }
        true
    }

    /// Starts the next claim when stock runs low and the lane has work.
    pub(crate) fn prefetch(&mut self) {
        let stocked = self.jobs.len() > self.batch / 2 || !self.elsewhere.is_empty();
        if self.claim.is_some() || stocked || self.worker.stop.is_cancelled() {
            return;
        }
        let Some(work) = self.lane.take() else { return };
        let running = self.worker.carriers.spawn(self.worker.clone().claim(work.clone(), self.batch));
        self.claim = Some(Claim { work, running });
    }

    /// Waits for the claim under way and takes its jobs. Never returns without one. Cancel safe.
    pub(crate) async fn claimed(&mut self) {
        let Some(claim) = &mut self.claim else { return std::future::pending().await };
        let claimed = (&mut claim.running).await.unwrap_or_default();
        let Some(Claim { work, .. }) = self.claim.take() else { return };
        if claimed.full {
            self.worker.carry(&work);
            self.adapt();
        }
        self.jobs.extend(claimed.attempts);
    }

    /// Small batches for slow servers, so that other connections get their share; large ones for fast servers.
    fn adapt(&mut self) {
        let took = self.batch_began.elapsed();
        self.batch_began = Instant::now();
        if took < QUICK {
            self.batch = (self.batch * 2).min(MAX_BATCH);
        } else if took > SLOW {
            self.batch = (self.batch / 2).max(1);
        }
    }

    /// Opens a connection to the first host that takes one. `None`: the jobs are dealt with.
    async fn connect(&mut self) -> Option<Connection> {
        self.release_suspended();
        if self.jobs.is_empty() {
            return None;
        }
        let stop = self.worker.stop.clone();
        let result = stop.run_until_cancelled(self.try_hosts()).await;
        match result {
            Some(Ok(connection)) => {
                self.lane.succeeded();
                let destinations = self.jobs.iter().map(|job| &job.held.lease.destination);
                destinations.for_each(|destination| self.worker.suspended.end(destination));
                Some(connection)
            }
            Some(Err(failure)) => {
                self.lane.failed();
                self.fail_all(&failure);
                None
            }
            None => {
                self.release_all();
                None
            }
        }
    }

    /// Host by host, address by address; the last failure counts.
    async fn try_hosts(&mut self) -> Result<Connection, Failure> {
        let started = Instant::now();
        if self.candidates.is_empty() {
            let planned = self.worker.planner.plan(&self.lane.hop.key.target).await;
            let planned = planned.inspect_err(|_| self.worker.metrics.attempt_failed(metrics::DNS))?;
            self.candidates = planned.into();
        }
        let mut last = Failure::Local { reason: "no address to try".to_owned() };
        while let Some(candidate) = self.candidates.pop_front() {
            match self.open(&candidate, started).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => last = failure,
            }
            if classify(&last, &self.lane.hop.name()).action != Action::NextHost {
                self.candidates.clear();
            }
        }
        Err(last)
    }

    /// One address.
    async fn open(&self, candidate: &Candidate, started: Instant) -> Result<Connection, Failure> {
        let worker = &self.worker;
        let opener = Opener {
            hop: &self.lane.hop,
            tls: &worker.tls,
            timeouts: &worker.timeouts,
            source: worker.source_for(candidate.address.ip()),
            metrics: &worker.metrics,
            fallback: &worker.fallback,
            need: Need::Nothing,
        };
        let result = opener.open(candidate, started).await;
        result.inspect_err(|failure| match failure {
            Failure::Session { failure, .. } => worker.metrics.attempt_failed_at(failure.stage()),
            _ => worker.metrics.attempt_failed(metrics::CONNECT),
        })
    }

    /// Is there a host left that this round has not tried?
    pub(crate) fn has_other_host(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// The next connection begins with a fresh look-up.
    pub(crate) fn start_over(&mut self) {
        self.candidates.clear();
    }

    /// Every job in stock meets this failure.
    pub(crate) fn fail_all(&mut self, failure: &Failure) {
        for mut attempt in std::mem::take(&mut self.jobs) {
            self.worker.judge(&mut attempt);
            self.fail(attempt, failure);
        }
    }

    /// What is left of one job meets this failure.
    pub(crate) fn fail(&self, mut attempt: Attempt, failure: &Failure) {
        let fate = Fate::of(failure, attempt.held.lease.destination.as_str());
        attempt.open = 0;
        for index in attempt.take_rest() {
            record::outcome(&self.worker, &self.lane.hop, &attempt, index, &fate, None);
            attempt.results.push((index, fate.clone()));
        }
        self.worker.finish(attempt, self.lane.hop.protocol);
    }

    /// Gives every job in stock back as if it had not been claimed; what has results is settled with them.
    pub(crate) fn release_all(&mut self) {
        for attempt in std::mem::take(&mut self.jobs) {
            self.release(attempt);
        }
    }

    /// Another carrier found out in the meantime that nobody can be reached.
    fn release_suspended(&mut self) {
        let (worker, now) = (self.worker.clone(), Instant::now());
        let suspended = |job: &Attempt| job.is_untouched() && worker.suspended.holds(&job.held.lease.destination, now);
        let (held, jobs) = std::mem::take(&mut self.jobs).into_iter().partition(suspended);
        self.jobs = jobs;
        VecDeque::into_iter(held).for_each(|job| self.release(job));
    }

    /// One job back into the queue.
    pub(crate) fn release(&self, mut attempt: Attempt) {
        if attempt.is_untouched() {
            return self.worker.settler.release(attempt);
        }
        // Some transactions of a large job are done; the others go on later.
        self.worker.judge(&mut attempt);
        attempt.expired = false;
        let reason = Failure::Local { reason: "delivery was interrupted by a restart".to_owned() };
        self.fail(attempt, &reason);
    }
}
