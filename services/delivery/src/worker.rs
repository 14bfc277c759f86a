//! What all tasks of the delivery worker share, and the operations that several of them need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use staffetta_config::Timeouts;
use staffetta_dispatch::{Advice, Fate, Handle, Rules, decide};
use staffetta_mail::Envelope;
use staffetta_policy::classify::Failure;
use staffetta_policy::source::Pool;
use staffetta_queue::{Conduct, Job, Lease, Queue, Revocations, Suppressor, Wakes};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::fallback::{BrokenTls, Fallback};
use staffetta_transport::hop::NextHop;
use staffetta_transport::itinerary::Planner;
use staffetta_transport::token::Tokens;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carrier;
use crate::form::Forms;
use crate::lanes::{Lane, Lanes, Work};
use crate::leased::{Leased, Task};
use crate::letters::{Letter, Letters};
use crate::metrics::Metrics;
use crate::origin::Spent;
use crate::recent::Recent;
use crate::record;
use crate::renew::Leases;
use crate::settle::Settler;
use crate::shaping::Shaping;
use crate::signing::Signing;
use crate::slots::Slots;
use crate::sorting::Sorting;
use crate::terms::Current;
use crate::tls_reports::TlsReports;
use crate::traced;

/// How long a job rests whose body is in a store that is away, half as long or half as long again.
const STORE_REST: Duration = Duration::from_secs(30);
/// Octets that one permit of [`Worker::room`] stands for.
pub(crate) const UNIT: u64 = 1024;
/// Memory for the bodies and records of jobs in this pod, in units.
pub(crate) const ROOM: usize = 64 * 1024;
/// Octets of a job besides its body.
pub(crate) const RECORD: u64 = 2048;
/// How long a job waits, about, if one that may be the end of this worker is under way.
const NEXT_ALONE: Duration = Duration::from_secs(5);
/// Octets of a recipient in a decoded envelope, about.
const RECIPIENT: u64 = 160;

/// The worker.
pub(crate) struct Worker {
    pub(crate) queue: Queue,
    /// Of the configuration in force.
    pub(crate) terms: Current,
    pub(crate) planner: Planner,
    pub(crate) tls: TlsClient,
    pub(crate) tokens: Tokens,
    /// Where connections come from whose next hop has no pool.
    pub(crate) sources: Pool,
    /// New addresses that have had their day.
    pub(crate) spent: Spent,
    /// Which servers have just said that it is too much.
    pub(crate) shaping: Shaping,
    /// Bodies up to this many octets come with their job.
    pub(crate) inline_limit: u64,
    pub(crate) metrics: Metrics,
    /// Suppresses recipients that are refused for good.
    pub(crate) suppressor: Suppressor,
    /// How logins behave.
    pub(crate) conduct: Arc<Conduct>,
    /// Whose mail is held.
    pub(crate) revocations: Revocations,
    pub(crate) leases: Leases,
    pub(crate) recent: Recent,
    pub(crate) fallback: BrokenTls,
    /// Who did not know BDAT lately, though CHUNKING was offered.
    pub(crate) unchunked: Fallback,
    /// Who offered SCRAM lately and let us in by another mechanism.
    pub(crate) unscrammed: Fallback,
    /// What other domains are told of the TLS of their mail, if they are.
    pub(crate) tls_reports: Option<TlsReports>,
    pub(crate) settler: Settler,
    /// Places beside other workers.
    pub(crate) slots: Slots,
    pub(crate) lanes: Lanes,
    pub(crate) sorting: Sorting,
    pub(crate) letters: Letters,
    pub(crate) signing: Signing,
    /// Memory for jobs.
    pub(crate) room: Arc<Semaphore>,
    /// For one job of those with which workers went silent in an attempt: if it is the reason, it takes no other with it.
    pub(crate) alone: Arc<Semaphore>,
    /// No new work from now on.
    pub(crate) stop: CancellationToken,
    /// Mail has come into a partition that had nothing due.
    pub(crate) wakes: Wakes,
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
    /// Says that the attempt of a suspect begins, on the side: it is in Redis long before the server has let us come to the
    /// content.
    pub(crate) fn begin(&self, job: &Leased) {
        let (queue, lease) = (self.queue.clone(), job.held.lease.clone());
        tokio::spawn(async move {
            if let Err(error) = queue.begin(&lease).await {
                tracing::debug!(qid = %lease.id, %error, "failed to say that an attempt begins");
            }
        });
    }

    /// Hands work to its lane, with a new carrier if one is needed and may be had.
    pub(crate) fn carry(self: &Arc<Self>, work: &Work) {
        if self.is_mixed(work) {
            return self.sort(work);
        }
        let domain = work.destination.as_str();
        let router = &self.terms.load().router;
        self.lanes.put(&router.key(domain, None), work, || router.hop(domain, None));
        self.admit();
    }

    /// Starts the carriers that may have a connection.
    pub(crate) fn admit(self: &Arc<Self>) {
        while !self.stop.is_cancelled()
            && let Some(lane) = self.lanes.admit()
        {
            self.carriers.spawn(carrier::run(self.clone(), lane));
        }
    }

    /// Claims up to `wanted` jobs of a lane's work; fewer if memory is short, none if the next hop rests.
    pub(crate) async fn claim(
        self: Arc<Self>,
        lane: Arc<Lane>,
        hop: Arc<NextHop>,
        work: Work,
        wanted: usize,
    ) -> Claimed {
        if self.is_mixed(&work) {
            return self.collect(&lane, &hop, &work, wanted).await;
        }
        if let Some(suspension) = self.suspension(&hop, work.destination.as_str()) {
            return self.sit_out(&lane, &work, suspension).await;
        }
        let advice = self.lanes.advise(&lane, &work);
        match advice {
            Advice::Claim | Advice::Probe => {}
            Advice::Park(rest) => {
                self.park(&work, rest).await;
                return Claimed::default();
            }
            Advice::Wait => return Claimed::default(),
        }
        let each = self.job_units();
        let Some((afforded, room)) = self.take_room(wanted, each).await else {
            return Claimed::default();
        };
        let allowed = self.allowed(&hop, &work, afforded).await;
        if allowed < wanted {
            self.lanes.refund(&lane, &work.destination, wanted - allowed);
        }
        if allowed == 0 {
            return Claimed::default();
        }
        let since = Instant::now();
        let jobs = match self.queue.claim(work.partition, &work.destination, allowed).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::debug!(destination = work.destination.as_str(), %error, "failed to claim jobs");
                Vec::new()
            }
        };
        if advice == Advice::Probe && !jobs.is_empty() {
            self.lanes.lift_back_off(&lane);
        }
        let full = jobs.len() >= allowed;
        self.not_sent(&hop, allowed - jobs.len().min(allowed)).await;
        let company = self.company(&lane, &hop, &jobs).await;
        let mut tasks = self.tasks(jobs, since, room, each).await;
        tasks.extend(company);
        Claimed { tasks: self.permitted(tasks, &lane), full }
    }

    /// Claims up to `wanted` jobs of whatever next hop; fewer if memory is short. With them whether there are probably more.
    pub(crate) async fn lease(&self, work: &Work, wanted: usize) -> Option<(Vec<Task>, bool)> {
        let (afforded, room) = self.take_room(wanted, self.job_units()).await?;
        let since = Instant::now();
        let jobs = self.queue.claim(work.partition, &work.destination, afforded).await;
        let jobs = jobs.inspect_err(
            |error| tracing::debug!(destination = work.destination.as_str(), %error, "failed to claim jobs"),
        );
        let jobs = jobs.ok()?;
        let full = jobs.len() >= afforded;
        Some((self.tasks(jobs, since, room, self.job_units()).await, full))
    }

    /// What was claimed at `since`, each with its share of memory. What this pod delivered before is settled at once.
    pub(crate) async fn tasks(
        &self,
        jobs: Vec<Job>,
        since: Instant,
        mut room: OwnedSemaphorePermit,
        each: u32,
    ) -> Vec<Task> {
        let mut tasks = Vec::with_capacity(jobs.len());
        let terms = self.terms.load_full();
        for mut job in jobs {
            if self.waits_for_store(&job).await {
                continue;
            }
            let Some(alone) = self.alone_with(&job).await else { continue };
            let held = self.leases.hold(job.lease.clone(), since);
            self.recent.strike(held.job(), &mut job.recipients);
            let letter = self.letter(&job, each);
            let mut share = room.split(each as usize);
            if letter.is_none() {
                share = merged(share, self.extra_room(envelope_units(&job.message.envelope), each));
            }
            let mut task = Leased::task(job, held, since, letter, share);
            task.job.alone = alone;
            task.job.verp = terms.verp(&task.job.message).cloned();
            if !task.attempt.has_waiting() {
                self.settler.finished_before(task);
            } else {
                tasks.push(task);
            }
        }
        tasks
    }

    /// Those of them that have a recipient to whom mail may be sent; the others are settled.
    pub(crate) fn permitted(&self, tasks: Vec<Task>, lane: &Lane) -> Vec<Task> {
        let mut permitted = Vec::with_capacity(tasks.len());
        for mut task in tasks {
            self.suppress(&mut task, lane);
            if task.attempt.has_waiting() {
                permitted.push(task);
            } else {
                self.finish(task, lane);
            }
        }
        permitted
    }

    /// Recipients to whom no mail is to be sent have their result: their sender is told.
    pub(crate) fn suppress(&self, task: &mut Task, lane: &Lane) {
        let recipients = &task.job.message.envelope.recipients;
        let is_meant = |index: u32| {
            recipients.get(index as usize).is_some_and(|recipient| self.revocations.is_suppressed(&recipient.address))
        };
        if !task.attempt.table().iter().any(|(index, _)| is_meant(*index)) {
            return;
        }
        let fate = Fate::of(&Failure::Suppressed, task.job.destination());
        task.attempt.judge(&self.rules(), Instant::now());
        for index in task.attempt.fail_those(&fate, is_meant) {
            record::outcome(self, lane, task, index, &fate, None);
        }
    }

    /// A job whose body cannot be read now goes back, unattempted: no server is bothered for it. At the end of its life it is
    /// given up all the same.
    async fn waits_for_store(&self, job: &Job) -> bool {
        let waits = !job.left.is_zero() && self.queue.cannot_read(&job.body).is_some();
        if waits {
            self.put_off_unread(&job.lease).await;
        }
        waits
    }

    /// Back into the queue, until the store may be there again.
    pub(crate) async fn put_off_unread(&self, lease: &Lease) {
        self.metrics.unread.increment(1);
        self.put_off_about(lease, STORE_REST).await;
    }

    /// Others get it after so long, about; or when its lease ends.
    async fn put_off_about(&self, lease: &Lease, rest: Duration) {
        let after = rest.mul_f64(rand::rng().random_range(0.5..1.5));
        if let Err(error) = self.queue.put_off(lease, after).await {
            tracing::debug!(qid = %lease.id, %error, "a job waits for the end of its lease");
        }
    }

    /// Leave to attempt a job: in the case of one with which workers went silent in an attempt, not beside another of that kind.
    /// `None`: it went back for now.
    async fn alone_with(&self, job: &Job) -> Option<Option<OwnedSemaphorePermit>> {
        if job.silences < 2 {
            return Some(None);
        }
        if let Ok(alone) = self.alone.clone().try_acquire_owned() {
            return Some(Some(alone));
        }
        self.put_off_about(&job.lease, NEXT_ALONE).await;
        None
    }

    /// What a job shares with the other jobs of its message, if there are any. Its envelope counts as memory once.
    fn letter(&self, job: &Job, each: u32) -> Option<Arc<Letter>> {
        if job.message.envelope.recipients.len() == job.recipients.len() {
            return None;
        }
        let letter = || Letter {
            message: job.message.clone(),
            body: job.body.clone(),
            seal: OnceCell::new(),
            forms: Forms::default(),
            _room: self.extra_room(envelope_units(&job.message.envelope), each),
        };
        Some(self.letters.share(job.message.id, letter))
    }

    /// What an envelope takes besides what every job is given. It is here already: if there is not room enough, it takes
    /// all that is left, and the next claim waits.
    fn extra_room(&self, units: u32, each: u32) -> Option<OwnedSemaphorePermit> {
        take_up_to(&self.room, units.saturating_sub(each))
    }

    /// The queue lets work rest.
    pub(crate) async fn park(&self, work: &Work, rest: Duration) {
        if let Err(error) = self.queue.park(work.partition, &work.destination, rest).await {
            tracing::debug!(destination = work.destination.as_str(), %error, "failed to park a destination");
        }
    }

    /// The next hop is there: what rests for its sake is due again. If it is gone again in the meantime, the release could
    /// overtake the new back-off on the way to the queue: what that owns is left, or put to rest again.
    pub(crate) fn release_hop(self: &Arc<Self>, lane: &Arc<Lane>) {
        let released = self.lanes.end_back_off(lane);
        if released.is_empty() {
            return;
        }
        let (worker, lane) = (self.clone(), lane.clone());
        self.carriers.spawn(async move {
            for work in released.into_iter().filter(|work| !worker.is_mixed(work)) {
                if worker.lanes.keep(&lane, &work).is_none() {
                    worker.park(&work, Duration::ZERO).await;
                    if let Some(rest) = worker.lanes.keep(&lane, &work) {
                        worker.park(&work, rest).await;
                    }
                }
            }
        });
    }

    /// What is left of a job meets this fate.
    pub(crate) fn fail(&self, mut task: Task, lane: &Lane, fate: &Fate) {
        task.attempt.judge(&self.rules(), Instant::now());
        for index in task.attempt.fail_rest(fate) {
            record::outcome(self, lane, &task, index, fate, None);
        }
        self.finish(task, lane);
    }

    /// Every recipient has its result: decides and settles.
    pub(crate) fn finish(&self, task: Task, lane: &Lane) {
        let Task { mut job, attempt } = task;
        let mut plan = match decide(attempt, job.envelope(), &self.rules(), Instant::now()) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(qid = %job.message.id, %error, "an attempt is not settled; the job is tried again");
                return self.settler.release(job);
            }
        };
        traced::outcome(&mut job, &plan);
        if let Some(rest) = plan.back_off {
            let Lease { id, destination, .. } = &job.held.lease;
            let work = Work { partition: id.partition(), destination: destination.clone() };
            if self.is_mixed(&work) {
                // Other next hops have mail in the same queue.
                plan.back_off = None;
            }
            self.lanes.back_off(lane, work, rest);
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
        self.settler.settle(job, plan, lane.hop.protocol);
    }

    /// When what failed is tried again.
    pub(crate) fn rules(&self) -> Rules {
        self.terms.load().rules
    }

    /// How long each step of an attempt may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.terms.load().timeouts
    }

    /// Memory for so many jobs, or for one once there is.
    async fn take_room(&self, wanted: usize, each: u32) -> Option<(usize, OwnedSemaphorePermit)> {
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

/// The memory that a decoded envelope takes, in units.
fn envelope_units(envelope: &Envelope) -> u32 {
    (envelope.recipients.len() as u64 * RECIPIENT).div_ceil(UNIT).min(ROOM as u64 / 4) as u32
}

/// So many units, or all that are left.
fn take_up_to(room: &Arc<Semaphore>, units: u32) -> Option<OwnedSemaphorePermit> {
    let mut units = units;
    while units > 0 {
        match room.clone().try_acquire_many_owned(units) {
            Ok(taken) => return Some(taken),
            Err(_) => units = units.saturating_sub(1).min(room.available_permits() as u32),
        }
    }
    None
}

fn merged(a: Option<OwnedSemaphorePermit>, b: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.merge(b);
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Address, Recipient, ReversePath};

    use super::*;

    #[test]
    fn an_envelope_costs_what_its_recipients_take_and_never_more_than_there_is() {
        let recipient = Recipient::new(Address::parse("a@b.test").unwrap());
        let envelope = |count| Envelope::new(ReversePath::Null, vec![recipient.clone(); count]);
        assert_eq!((envelope_units(&envelope(1)), envelope_units(&envelope(1000))), (1, 157));
        let room = Arc::new(Semaphore::new(200));
        let first = take_up_to(&room, 157).unwrap();
        let rest = take_up_to(&room, 157).unwrap();
        assert_eq!((rest.num_permits(), room.available_permits()), (43, 0), "the next claim waits");
        assert!(take_up_to(&room, 157).is_none());
        let all = merged(Some(first), Some(rest)).unwrap();
        assert_eq!(all.num_permits(), 200);
        drop(all);
        assert_eq!(room.available_permits(), 200);
    }
}
