//! Reports to the sender: from a plan to a message for the queue.
//!
//! A settlement carries one report. Its kind and its recipients come from `staffetta_dispatch`; the words and the format
//! from `staffetta_mail::report`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::RngExt;
use staffetta_dispatch::{Failed, Plan};
use staffetta_mail::report::{self, Fate, Original};
use staffetta_mail::{Envelope, Recipient, RemoteReply, ReversePath};
use staffetta_queue::{Accept, Body, Error, Notice, Origin, Queue};

use crate::leased::Leased;
use crate::metrics;

/// What all reports of this worker share.
pub(crate) struct Reporter {
    pub(crate) queue: Queue,
    pub(crate) hostname: String,
    /// How long a report itself is tried.
    pub(crate) lifetime: std::time::Duration,
}

impl Reporter {
    /// The report that a plan asks for, if any, and its kind. By LMTP, what was delivered is in the mailbox.
    ///
    /// # Errors
    /// The message's header section could not be read from the queue.
    pub(crate) async fn report(
        &self,
        job: &Leased,
        plan: &Plan,
        lmtp: bool,
    ) -> Result<Option<(Notice, metrics::Notice)>, Error> {
        let Some(sender) = job.message.envelope.sender.address() else { return Ok(None) };
        let (kind, fates) = fates(job, plan);
        if fates.is_empty() {
            return Ok(None);
        }
        let head = self.head(job).await?;
        let message = &job.message;
        let facts = report::Notice {
            hostname: &self.hostname,
            sender,
            id: message.id,
            arrived: message.arrived,
            now: today(),
            unique: rand::rng().random(),
            envid: message.envelope.envid.as_deref(),
            ret: message.envelope.ret,
            fates: &fates,
            original: Original { head: &head, size: message.size },
        };
        let report = match kind {
            metrics::Notice::Failure => report::failure(&facts),
            metrics::Notice::Delay => report::delay(&facts, message.expires),
            metrics::Notice::Success if lmtp => report::delivered(&facts),
            metrics::Notice::Success => report::relayed(&facts),
        };
        Ok(Some((self.notice(Recipient::new(sender.clone()), report), kind)))
    }

    /// The first octets of the message: all of it, or enough for its header section.
    async fn head(&self, job: &Leased) -> Result<Bytes, Error> {
        match &job.body {
            Body::Inline(body) => Ok(body.clone()),
            Body::Chunks { .. } => {
                let chunk = self.queue.chunk(job.message.id, 0).await?;
                Ok(if job.prefix.is_empty() { chunk } else { [&*job.prefix, &*chunk].concat().into() })
            }
        }
    }

    /// RFC 3464 section 2: from the null path, so that it never causes another.
    fn notice(&self, to: Recipient, report: report::Report) -> Notice {
        let envelope =
            Envelope { sender: ReversePath::Null, recipients: vec![to], body: report.body, ret: None, envid: None };
        let origin = Origin { listener: "bounce".to_owned(), client: None, helo: self.hostname.clone(), login: None };
        let accept = Accept { envelope, origin, lifetime: self.lifetime };
        Notice { accept, body: report.content.into() }
    }
}

/// For the Date line: milliseconds since the Unix epoch, by the clock of this machine. Decides nothing.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The one report that is due: success before failure before delay; `staffetta_dispatch::decide` leaves the others for
/// a later attempt.
fn fates<'a>(job: &'a Leased, plan: &'a Plan) -> (metrics::Notice, Vec<Fate<'a>>) {
    if !plan.relayed.is_empty() {
        let each = plan.relayed.iter().filter_map(|(index, reply)| relayed(job, *index, reply));
        return (metrics::Notice::Success, each.collect());
    }
    let (kind, list) = match plan.failed.is_empty() {
        false => (metrics::Notice::Failure, &plan.failed),
        true => (metrics::Notice::Delay, &plan.delayed),
    };
    (kind, list.iter().filter_map(|(index, failed)| fate(job, *index, failed)).collect())
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
