//! Settlement: tells the queue what became of a job, without keeping a connection waiting.
//!
//! One task holds all settlements under way, so that those which come in together leave in one pipeline. The queue
//! crate repeats a settlement while Redis is away, for at most the lease.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::Counter;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use staffetta_dispatch::{Failed, Plan};
use staffetta_mail::{QueueId, Status};
use staffetta_queue::{Notice, Queue, Revocations, Settled, Settlement};
use staffetta_smtp::client::Protocol;
use staffetta_telemetry::maillog;
use staffetta_telemetry::spans::Kind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bounce::Reporter;
use crate::leased::{Leased, Task};
use crate::metrics;
use crate::renew::Held;

/// Settlements taken over in one go.
const BURST: usize = 256;
/// How long a report that cannot be made now is tried, and the pause between.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(250);

/// RFC 3463: delivery time expired, for good.
const EXPIRED: Status = Status::new(5, 4, 7);

/// Where carriers leave their jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Settler {
    parcels: mpsc::UnboundedSender<Parcel>,
    closed: CancellationToken,
}

/// What [`run`] takes.
pub(crate) struct Parcels {
    arrivals: mpsc::UnboundedReceiver<Parcel>,
    closed: CancellationToken,
}

/// A job and what becomes of it. Bounded by the jobs that the worker may hold.
struct Parcel {
    job: Leased,
    fate: Parting,
}

enum Parting {
    /// By the results of an attempt.
    Plan(Box<Plan>, Protocol),
    /// Not attempted.
    Release,
    /// Delivered by this pod before; the settlement was lost.
    Before,
}

/// A report that is on its way into the queue.
struct Sent {
    kind: metrics::Notice,
    size: u64,
}

/// What the settling task works with.
pub(crate) struct Office {
    pub(crate) queue: Queue,
    pub(crate) reporter: Reporter,
    /// [`Settled::Stale`] after a delivery.
    pub(crate) duplicates: Counter,
    /// Reports queued, by kind.
    pub(crate) notices: Vec<Counter>,
    /// Whose mail is held.
    pub(crate) revocations: Revocations,
}

impl Settler {
    /// A settler, and the parcels for [`run`].
    pub(crate) fn new() -> (Self, Parcels) {
        let (parcels, arrivals) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        (Self { parcels, closed: closed.clone() }, Parcels { arrivals, closed })
    }

    /// No more will come: [`run`] ends once all is settled.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// By the results of an attempt.
    pub(crate) fn settle(&self, job: Leased, plan: Plan, protocol: Protocol) {
        self.send(job, Parting::Plan(Box::new(plan), protocol));
    }

    /// Back into the queue, not attempted.
    pub(crate) fn release(&self, job: Leased) {
        self.send(job, Parting::Release);
    }

    /// Finished by this pod before.
    pub(crate) fn finished_before(&self, task: Task) {
        self.send(task.job, Parting::Before);
    }

    fn send(&self, job: Leased, fate: Parting) {
        // Fails only after the task has ended, at the hard stop; the lease expires then.
        let _ = self.parcels.send(Parcel { job, fate });
    }
}

/// Settles until the settler is closed and all is settled. `forget` is told of each job that is ours no more. One that panics
/// takes no other with it: its lease ends, and it is tried again.
pub(crate) async fn run(office: &Office, parcels: Parcels, forget: impl Fn(&Arc<Held>)) {
    let Parcels { mut arrivals, closed } = parcels;
    let mut running = FuturesUnordered::new();
    let mut arrived = Vec::with_capacity(BURST);
    loop {
        tokio::select! {
            biased;
            _ = arrivals.recv_many(&mut arrived, BURST) => {
                running.extend(arrived.drain(..).map(|parcel| office.take(parcel)));
            }
            Some(held) = running.next(), if !running.is_empty() => forget(&held),
            () = closed.cancelled(), if running.is_empty() => return,
        }
    }
}

impl Office {
    async fn take(&self, parcel: Parcel) -> Arc<Held> {
        let (held, qid) = (parcel.job.held.clone(), parcel.job.message.id);
        if AssertUnwindSafe(self.settle(parcel)).catch_unwind().await.is_err() {
            tracing::error!(%qid, "a settlement panicked; the job is tried again when its lease has ended");
        }
        held
    }

    async fn settle(&self, parcel: Parcel) {
        let Parcel { mut job, fate } = parcel;
        if !matches!(fate, Parting::Plan(..)) {
            job.span.discard();
        }
        let delivered = match &fate {
            Parting::Plan(plan, _) => !plan.delivered.is_empty(),
            Parting::Release | Parting::Before => false,
        };
        let gives_up = matches!(&fate, Parting::Plan(plan, _) if gives_up(plan));
        let (mut settlement, kinds) = self.settlement(&job, fate).await;
        if job.is_stopped(&self.revocations) {
            settlement = settlement.held();
        }
        let step = job.span.part("queue.settle", Kind::Client);
        let settled = self.queue.settle(&job.held.lease, settlement).await;
        drop(step);
        match settled {
            Ok(Settled::Done { ended, notices }) => {
                if gives_up {
                    let (qid, from) = (job.message.id, (&job.message.envelope.sender).into());
                    maillog::given_up(&maillog::GivenUp { qid, from });
                }
                self.settled(&job, kinds.into_iter().zip(notices), ended);
            }
            Ok(Settled::Stale) if delivered => self.duplicate(&job, "the lease had passed to another worker"),
            Ok(Settled::Stale) => {}
            Err(error) if delivered => self.duplicate(&job, &error.to_string()),
            Err(error) => tracing::warn!(qid = %job.message.id, %error, "failed to settle a job"),
        }
    }

    /// What to tell the queue, and what its reports are. If they cannot be made, those that they are about are tried
    /// again later: nobody is dropped without a word.
    async fn settlement(&self, job: &Leased, fate: Parting) -> (Settlement, Vec<Sent>) {
        let (plan, protocol) = match fate {
            Parting::Plan(plan, protocol) => (plan, protocol),
            Parting::Release => return (Settlement::Released, Vec::new()),
            Parting::Before => return (Settlement::Finished { notices: Vec::new() }, Vec::new()),
        };
        if !plan.reports() {
            return (settlement(*plan, Vec::new(), false), Vec::new());
        }
        match self.reports(job, &plan, protocol == Protocol::Lmtp).await {
            Ok(reports) if self.queue.is_overdrawn() && !frees(job, &reports) => {
                let reason = "Redis is far beyond its maxmemory";
                tracing::warn!(qid = %job.message.id, reason, "a report must wait; the job is tried again");
                (postponed(*plan), Vec::new())
            }
            Ok(reports) => {
                let delay_noticed = reports.iter().any(|(_, kind)| *kind == metrics::Notice::Delay);
                let sent =
                    reports.iter().map(|(report, kind)| Sent { kind: *kind, size: report.body.len() as u64 }).collect();
                let notices = reports.into_iter().map(|(report, _)| report).collect();
                (settlement(*plan, notices, delay_noticed), sent)
            }
            Err(error) => {
                tracing::warn!(qid = %job.message.id, %error, "failed to make a report; the job is tried again");
                (postponed(*plan), Vec::new())
            }
        }
    }

    /// The reports of a plan; asked for again for a while when Redis is away, as the settlement is.
    async fn reports(
        &self,
        job: &Leased,
        plan: &Plan,
        lmtp: bool,
    ) -> Result<Vec<(Notice, metrics::Notice)>, staffetta_queue::Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.reporter.reports(job, plan, lmtp).await {
                Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    fn settled(&self, job: &Leased, reports: impl Iterator<Item = (Sent, QueueId)>, ended: bool) {
        let qid = job.message.id;
        for (Sent { kind, size }, report) in reports {
            self.notices[kind as usize].increment(1);
            maillog::reported(&maillog::Reported { qid, report, kind: kind.into(), size });
        }
        if ended {
            maillog::removed(&maillog::Removed { qid });
        }
    }

    fn duplicate(&self, job: &Leased, reason: &str) {
        self.duplicates.increment(1);
        tracing::warn!(qid = %job.message.id, reason, "possible duplicate: delivered, but not settled");
    }
}

/// Is a recipient given up for age?
fn gives_up(plan: &Plan) -> bool {
    plan.expired && plan.failed.iter().any(|(_, failed)| failed.status == EXPIRED)
}

/// Does the end of this job make more room than its reports take?
fn frees(job: &Leased, reports: &[(Notice, metrics::Notice)]) -> bool {
    let octets: usize = reports.iter().map(|(report, _)| report.body.len()).sum();
    job.message.envelope.recipients.len() == 1 && octets as u64 <= job.message.size
}

/// The queue's words for a plan.
fn settlement(plan: Plan, notices: Vec<Notice>, delay_noticed: bool) -> Settlement {
    let Some(reason) = plan.reason.filter(|_| !plan.remaining.is_empty()) else {
        return Settlement::Finished { notices };
    };
    Settlement::Deferred {
        remaining: plan.remaining,
        after: plan.after,
        reason: reason.text,
        status: reason.status,
        back_off: plan.back_off,
        notices,
        delay_noticed,
        held: false,
    }
}

/// Without its reports a plan settles only what needs none. Who was delivered is never tried again.
fn postponed(mut plan: Plan) -> Settlement {
    plan.remaining.extend(plan.failed.iter().map(|(index, _)| *index));
    plan.remaining.sort_unstable();
    plan.remaining.dedup();
    plan.reason = plan.failed.pop().map(|(_, failed)| failed).or(plan.reason).map(|failed| Failed {
        status: Status::new(4, 3, 0),
        text: "the report to the sender could not be made".to_owned(),
        ..failed
    });
    settlement(plan, Vec::new(), false)
}

#[cfg(test)]
mod tests {
    use staffetta_policy::diagnosis::{Class, Trouble};

    use super::*;

    fn failed(text: &str) -> Failed {
        Failed {
            permanent: true,
            status: Status::new(5, 1, 1),
            text: text.to_owned(),
            reply: None,
            host: None,
            back_off: false,
            doubtful: false,
            unfinished: false,
            trouble: Trouble::Met(Class::Other),
        }
    }

    /// Three recipients: delivered, failed for good, put off.
    fn mixed() -> Plan {
        let (failed, reason) = (vec![(1, failed("gone"))], Some(failed("later")));
        Plan { delivered: vec![0], failed, remaining: vec![2], reason, ..Plan::default() }
    }

    #[test]
    fn those_whose_report_cannot_be_made_are_tried_again_and_who_was_delivered_is_not() {
        let Settlement::Deferred { remaining, status, notices, .. } = postponed(mixed()) else { panic!("finished") };
        assert_eq!((remaining, status), (vec![1, 2], Status::new(4, 3, 0)));
        assert!(notices.is_empty());
        let only_failed = Plan { remaining: Vec::new(), reason: None, ..mixed() };
        let Settlement::Deferred { remaining, .. } = postponed(only_failed) else { panic!("finished") };
        assert_eq!(remaining, [1]);
    }

    #[test]
    fn with_their_reports_those_who_failed_are_done() {
        let Settlement::Deferred { remaining, .. } = settlement(mixed(), Vec::new(), false) else { panic!("finished") };
        assert_eq!(remaining, [2]);
        let all = Plan { remaining: Vec::new(), reason: None, ..mixed() };
        assert!(matches!(settlement(all, Vec::new(), false), Settlement::Finished { .. }));
    }
}
