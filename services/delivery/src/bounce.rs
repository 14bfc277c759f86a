//! Reports to the sender: from a plan to a message for the queue.
//!
//! A settlement carries at most two. Their kinds and recipients come from `staffetta_dispatch`; the words and the format
//! from `staffetta_mail::report`.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;
use staffetta_dispatch::{Failed, Plan};
use staffetta_mail::report::{self, Fate, Original};
use staffetta_mail::{Address, RemoteReply};
use staffetta_queue::{Error, Health, Notice, Queue, Verification, Verifications};

use crate::leased::Leased;
use crate::metrics;
use crate::strangers::Strangers;
use crate::terms::Current;

/// Most recipients of a job of whom frontends are told.
const LESSONS: usize = 100;

/// What a report returns of a message when Redis is full.
const BRIEF: usize = 1_024;

/// What all reports of this worker share.
pub(crate) struct Reporter {
    pub(crate) queue: Queue,
    pub(crate) hostname: String,
    /// Where mail goes, and how long a report itself is tried.
    pub(crate) terms: Current,
    pub(crate) strangers: Strangers,
    /// What frontends know of strangers' recipients.
    pub(crate) known: Verifications,
}

impl Reporter {
    /// The reports that a plan asks for, at most two, with their kinds. By LMTP, what was delivered is in the mailbox. Of a
    /// stranger's mail nothing but a failure is told: whoever he names as sender did not ask for the rest.
    ///
    /// # Errors
    /// The queue is away, so that the message's header section cannot be read now.
    pub(crate) async fn reports(
        &self,
        job: &Leased,
        plan: &Plan,
        lmtp: bool,
    ) -> Result<Vec<(Notice, metrics::Notice)>, Error> {
        let Some(sender) = job.message.envelope.sender.address() else { return Ok(Vec::new()) };
        let stranger = self.strangers.client(&job.message.origin);
        let mut due = due(job, plan);
        if stranger.is_some() {
            due.retain(|(kind, _)| *kind == metrics::Notice::Failure);
            self.teach(job, plan).await;
        }
        if due.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(client) = stranger
            && !self.strangers.may_report(client, sender).await
        {
            tracing::info!(qid = %job.message.id, "no report: the sender of a stranger's message had some already");
            return Ok(Vec::new());
        }
        let head = if stranger.is_some() {
            None
        } else {
            Some(self.queue.head(job.message.id, &job.prefix, &job.body).await?)
        };
        let lifetime = self.terms.load().lifetime;
        let each = due.into_iter().map(|(kind, fates)| {
            let report = match &head {
                Some(head) => self.write(job, sender, Some(head), (kind, &fates), lmtp),
                None => self.write_short(job, sender, (kind, &fates), lmtp),
            };
            let notice = Notice::report(report, sender.clone(), &self.hostname, lifetime);
            (notice.traced(job.span.context()), kind)
        });
        Ok(each.collect())
    }

    /// Whom his server refused is refused by the frontends now, too, instead of being reported again and again.
    async fn teach(&self, job: &Leased, plan: &Plan) {
        let hop = self.terms.load().router.hop(job.held.lease.destination.as_str(), Some(job.message.submitter()));
        for (index, failed) in plan.failed.iter().filter(|(_, failed)| failed.refuses_recipient()).take(LESSONS) {
            let Some(recipient) = job.message.envelope.recipients.get(*index as usize) else { continue };
            let said = Verification::Undeliverable(failed.text.clone());
            let kept = self.known.remember(&hop.inquiry(&recipient.address), &said, said.life()).await;
            if let Err(error) = kept {
                return tracing::debug!(%error, "what a server said of a recipient is not kept");
            }
        }
    }

    /// Nothing in it is the stranger's.
    fn write_short(
        &self,
        job: &Leased,
        sender: &Address,
        (kind, fates): (metrics::Notice, &[Fate<'_>]),
        lmtp: bool,
    ) -> report::Report {
        let named = report::bare(fates.iter().map(|fate| fate.recipient));
        let fates: Vec<Fate<'_>> =
            fates.iter().zip(&named).map(|(fate, recipient)| Fate { recipient, ..*fate }).collect();
        self.write(job, sender, None, (kind, &fates), lmtp)
    }

    /// How much of a message its report returns. A Redis without room gets no more than names a message.
    fn most(&self, job: &Leased) -> usize {
        let share = Original::share(job.message.envelope.recipients.len());
        if self.queue.health() == Health::Full { share.min(BRIEF) } else { share }
    }

    /// `head`: the first octets of the message; `None` if nothing of it shall be told.
    fn write(
        &self,
        job: &Leased,
        sender: &Address,
        head: Option<&[u8]>,
        (kind, fates): (metrics::Notice, &[Fate<'_>]),
        lmtp: bool,
    ) -> report::Report {
        let message = &job.message;
        let facts = report::Notice {
            hostname: &self.hostname,
            sender,
            id: message.id,
            arrived: message.arrived,
            now: today(),
            unique: rand::rng().random(),
            envid: message.envelope.envid.as_deref().filter(|_| head.is_some()),
            ret: message.envelope.returned(),
            smtputf8: message.envelope.smtputf8,
            fates,
            original: head.map_or_else(Original::withheld, |head| Original {
                head,
                size: message.size,
                most: self.most(job),
            }),
        };
        match kind {
            metrics::Notice::Failure => report::failure(&facts),
            metrics::Notice::Delay => report::delay(&facts, message.expires),
            metrics::Notice::Success if lmtp => report::delivered(&facts),
            metrics::Notice::Success => report::relayed(&facts),
        }
    }
}

/// For the Date line: milliseconds since the Unix epoch, by the clock of this machine. Decides nothing.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The reports that are due and what each says.
fn due<'a>(job: &'a Leased, plan: &'a Plan) -> Vec<(metrics::Notice, Vec<Fate<'a>>)> {
    let success = plan.relayed.iter().filter_map(|(index, reply)| relayed(job, *index, reply)).collect();
    let each =
        |list: &'a [(u32, Failed)]| list.iter().filter_map(|(index, failed)| fate(job, *index, failed)).collect();
    let reports: [(metrics::Notice, Vec<_>); 3] = [
        (metrics::Notice::Success, success),
        (metrics::Notice::Failure, each(&plan.failed)),
        (metrics::Notice::Delay, each(&plan.delayed)),
    ];
    reports.into_iter().filter(|(_, fates)| !fates.is_empty()).collect()
}

fn fate<'a>(job: &'a Leased, index: u32, failed: &'a Failed) -> Option<Fate<'a>> {
    Some(Fate {
        recipient: job.message.envelope.recipients.get(index as usize)?,
        status: failed.status,
        text: &failed.text,
        remote: failed.host.as_deref(),
        reply: failed.reply.as_ref(),
    })
}

fn relayed<'a>(job: &'a Leased, index: u32, reply: &'a RemoteReply) -> Option<Fate<'a>> {
    Some(Fate {
        recipient: job.message.envelope.recipients.get(index as usize)?,
        status: reply.effective_status(),
        text: &reply.text,
        remote: None,
        reply: Some(reply),
    })
}
