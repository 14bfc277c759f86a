//! What all tasks of the delivery worker share, and the operations that several of them need.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::RngExt;
use staffetta_config::Timeouts;
use staffetta_dispatch::{Handle, Rules, decide};
use staffetta_policy::mx;
use staffetta_queue::{Lease, Queue};
use staffetta_smtp::client::Protocol;
use staffetta_transport::connect::TlsClient;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carrier;
use crate::fallback::Fallback;
use crate::hop::Router;
use crate::itinerary::Planner;
use crate::leased::{Leased, Task};
use crate::metrics::Metrics;
use crate::pool::{Pool, Work};
use crate::recent::Recent;
use crate::renew::Leases;
use crate::settle::Settler;
use crate::suspended::{Advice, Suspended};

/// Octets that one permit of [`Worker::room`] stands for.
const UNIT: u64 = 1024;
/// Memory for the bodies and records of jobs in this pod, in units.
pub(crate) const ROOM: usize = 64 * 1024;
/// Octets of a job besides its body.
const RECORD: u64 = 2048;

/// The worker.
pub(crate) struct Worker {
    pub(crate) queue: Queue,
    pub(crate) router: Router,
    pub(crate) planner: Planner,
    pub(crate) tls: TlsClient,
    pub(crate) timeouts: Timeouts,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) rules: Rules,
    /// Bodies up to this many octets come with their job.
    pub(crate) inline_limit: u64,
    pub(crate) metrics: Metrics,
    pub(crate) leases: Leases,
    pub(crate) recent: Recent,
    pub(crate) fallback: Fallback,
    pub(crate) suspended: Suspended,
    pub(crate) settler: Settler,
    pub(crate) pool: Pool,
    /// Connections that may be opened.
    pub(crate) connections: Arc<Semaphore>,
    /// Memory for jobs.
    pub(crate) room: Arc<Semaphore>,
    /// No new work from now on.
    pub(crate) stop: CancellationToken,
    /// The carriers.
    pub(crate) carriers: TaskTracker,
}

/// What a claim came to.
#[derive(Default)]
pub(crate) struct Claimed {
    pub(crate) tasks: Vec<Task>,
    /// There is probably more.
    pub(crate) full: bool,
}

impl Worker {
    /// Hands work to its lane, with a new carrier if one is needed and may be had.
    pub(crate) fn carry(self: &Arc<Self>, work: &Work) {
        let Some(lane) = self.pool.put(&self.router, work) else { return };
        match self.connections.clone().try_acquire_owned() {
            Ok(permit) => {
                self.carriers.spawn(carrier::run(self.clone(), lane, permit));
            }
            Err(_) => {
                lane.resign();
                self.pool.pressure.notify_one();
            }
        }
    }

    /// Claims up to `wanted` jobs; fewer if memory is short, none if the destination is suspended. What this pod
    /// delivered before is settled at once.
    pub(crate) async fn claim(self: Arc<Self>, work: Work, wanted: usize) -> Claimed {
        let advice = self.suspended.advise(&work, Instant::now());
        match advice {
            Advice::Claim | Advice::Probe => {}
            Advice::Park(rest) => {
                if let Err(error) = self.queue.park(work.partition, &work.destination, rest).await {
                    tracing::debug!(destination = work.destination.as_str(), %error, "failed to park a destination");
                }
                return Claimed::default();
            }
            Advice::Wait => return Claimed::default(),
        }
        let each = self.job_units();
        let Some((wanted, mut room)) = self.take_room(wanted, each).await else {
            return Claimed::default();
        };
        let since = Instant::now();
        let jobs = match self.queue.claim(work.partition, &work.destination, wanted).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::debug!(destination = work.destination.as_str(), %error, "failed to claim jobs");
                Vec::new()
            }
        };
        if advice == Advice::Probe && !jobs.is_empty() {
            self.suspended.end(&work.destination);
        }
        let full = jobs.len() >= wanted;
        let mut tasks = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let held = self.leases.hold(job.lease.clone(), since);
            let struck = self.recent.strike(held.job(), &mut job.recipients);
            let task = Leased::task(job, held, since, room.split(each as usize));
            if struck > 0 && !task.attempt.has_waiting() {
                self.settler.finished_before(task);
            } else {
                tasks.push(task);
            }
        }
        Claimed { tasks, full }
    }

    /// Every recipient has its result: decides and settles.
    pub(crate) fn finish(&self, task: Task, protocol: Protocol) {
        let Task { job, attempt } = task;
        let plan = match decide(attempt, job.envelope(), &self.rules, Instant::now()) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(qid = %job.message.id, %error, "an attempt is not settled; the job is tried again");
                return self.settler.release(job);
            }
        };
        if let Some(rest) = plan.back_off {
            let Lease { id, destination, .. } = &job.held.lease;
            let work = Work { partition: id.partition(), destination: destination.clone() };
            self.suspended.begin(work, rest, Instant::now());
        }
        if !plan.delivered.is_empty() {
            self.recent.remember(job.held.job(), plan.delivered.iter().copied());
        }
        if plan.doubtful > 0 {
            self.metrics.duplicates.increment(u64::from(plan.doubtful));
            tracing::warn!(
                qid = %job.message.id, recipients = plan.doubtful,
                "possible duplicate: the answer to the final dot was lost; the message may be sent more than once"
            );
        }
        self.settler.settle(job, plan, protocol);
    }

    /// One of the configured source addresses of the right family.
    pub(crate) fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        mx::source(&self.sources, peer, rand::rng().random())
    }

    /// Memory for so many jobs, or for one once there is.
    async fn take_room(&self, wanted: usize, each: u32) -> Option<(usize, tokio::sync::OwnedSemaphorePermit)> {
        let mut jobs = wanted.max(1);
        while jobs > 1 {
            if let Ok(room) = self.room.clone().try_acquire_many_owned(each * jobs as u32) {
                return Some((jobs, room));
            }
            jobs /= 2;
        }
        // The semaphore is never closed.
        let room = self.room.clone().acquire_many_owned(each).await.ok()?;
        Some((1, room))
    }

    fn job_units(&self) -> u32 {
        ((self.inline_limit + RECORD).div_ceil(UNIT) as u32).min(ROOM as u32)
    }
}

/// Now, in milliseconds since the Unix epoch, by the clock of this machine.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
