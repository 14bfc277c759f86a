//! `staffetta queue bounce`: ends deliveries, and tells the senders that they have failed.
//!
//! Each is leased like a worker does it, so nobody delivers it meanwhile, and ends in one step with its report.

use std::process::ExitCode;

use bytes::Bytes;
use staffetta_config::Config;
use staffetta_mail::report::{self, Fate, Original};
use staffetta_mail::{QueueId, Recipient, Status};
use staffetta_policy::client;
use staffetta_queue::{Destination, Error, Filter, Job, Notice, Origin, Queue, Settled, Settlement};

use super::act::{self, Outcome, UNSURE, confirmed};
use super::{Found, for_each};
use crate::arguments::Delete;
use crate::terminal::{complain, counted, say};

/// What the report says.
const TEXT: &str = "the administrator of this system has ended its delivery";
/// Other or undefined mail system status.
const STATUS: Status = Status::new(5, 3, 0);

/// A delivery to be ended.
struct Doomed {
    id: QueueId,
    job: u16,
    destination: Destination,
    /// It has recipients that are not meant.
    shared: bool,
}

pub(super) async fn bounce(config: &Config, queue: &Queue, bounce: &Delete) -> anyhow::Result<ExitCode> {
    let wanted = &bounce.act;
    let (mut outcome, mut filters) = (Outcome::default(), Vec::new());
    for filter in act::filters(&wanted.ids, &wanted.selection) {
        if act::is_there(queue, &filter, &mut outcome).await? {
            filters.push(filter);
        }
    }
    let (mut doomed, unreadable) = select(queue, &filters).await?;
    for id in unreadable {
        outcome.fail(&format!("{id}: cannot be read by this program and stays where it is"));
    }
    if wanted.dry_run {
        if !wanted.json {
            doomed.iter().for_each(|it| say(&format!("would bounce {} to {}", it.id, it.destination)));
        }
        outcome.done = doomed.len() as u64;
        return Ok(outcome.report(wanted.json, "bounced", "delivery would be bounced", "deliveries would be bounced"));
    }
    let meant = counted(doomed.len() as u64, "delivery", "deliveries");
    if wanted.ids.is_empty() && !doomed.is_empty() && !bounce.yes && !confirmed("Bounce", &meant)? {
        complain("nothing is bounced; say --yes, or --dry-run to see what it would be");
        return Ok(ExitCode::from(UNSURE));
    }
    if doomed.iter().any(|it| it.shared) {
        for filter in &filters {
            queue.separate(filter).await?;
        }
        doomed = select(queue, &filters).await?.0;
    }
    for Doomed { id, job, destination, shared } in doomed {
        let taken = if shared { None } else { queue.take(id, job, &destination).await? };
        match taken {
            Some(job) => end(config, queue, &job, &mut outcome).await?,
            None => {
                outcome.leased += 1;
                outcome.fail(&format!("{id}: is being delivered to {destination} now and is not bounced"));
            }
        }
    }
    Ok(outcome.report(wanted.json, "bounced", "delivery bounced", "deliveries bounced"))
}

/// The deliveries that are meant, and messages that cannot be read.
async fn select(queue: &Queue, filters: &[Filter]) -> anyhow::Result<(Vec<Doomed>, Vec<QueueId>)> {
    let (mut doomed, mut unreadable) = (Vec::new(), Vec::new());
    for filter in filters {
        for_each(queue, filter, async |found| match found {
            Found::Unreadable(message) => unreadable.push(message.id),
            Found::Entry(entry) => doomed.extend(entry.selected(filter).map(|job| Doomed {
                id: entry.message.id,
                job: job.number,
                destination: job.destination.clone(),
                shared: entry.has_others(job, filter),
            })),
        })
        .await?;
    }
    Ok((doomed, unreadable))
}

async fn end(config: &Config, queue: &Queue, job: &Job, outcome: &mut Outcome) -> anyhow::Result<()> {
    let id = job.message.id;
    let notices = match notice(config, queue, job).await {
        Ok(notice) => notice.into_iter().collect(),
        Err(error) => {
            queue.settle(&job.lease, Settlement::Released).await?;
            outcome.fail(&format!("{id}: its report cannot be made: {error}"));
            return Ok(());
        }
    };
    match queue.settle(&job.lease, Settlement::Finished { notices }).await? {
        Settled::Done { ended, .. } => {
            let recipients: Vec<&str> = recipients(job).map(|recipient| recipient.address.as_str()).collect();
            queue.note_bounced(id, ended, &recipients).await?;
            outcome.done += 1;
        }
        Settled::Stale => outcome.fail(&format!("{id}: somebody else has it now")),
    }
    Ok(())
}

/// The recipients without a final state.
fn recipients(job: &Job) -> impl Iterator<Item = &Recipient> {
    let all = &job.message.envelope.recipients;
    job.recipients.iter().filter_map(|&index| all.get(index as usize))
}

/// Nothing for the null sender, nor for recipients of whom the sender does not want to hear (NOTIFY=NEVER).
async fn notice(config: &Config, queue: &Queue, job: &Job) -> Result<Option<Notice>, Error> {
    let message = &job.message;
    // Whoever a stranger named as sender hears nothing of what the stranger wrote.
    let Origin { client, login, .. } = &message.origin;
    let stranger = client::stranger(*client, login.as_deref(), &config.frontend.trusted_networks).is_some();
    let wanted = || recipients(job).filter(|recipient| recipient.wants_failure());
    let bare = if stranger { report::bare(wanted()) } else { Vec::new() };
    let wanted: Vec<&Recipient> = if stranger { bare.iter().collect() } else { wanted().collect() };
    let fate = |recipient| Fate { recipient, status: STATUS, text: TEXT, remote: None, reply: None };
    let fates: Vec<Fate<'_>> = wanted.into_iter().map(fate).collect();
    let Some(sender) = message.envelope.sender.address().filter(|_| !fates.is_empty()) else { return Ok(None) };
    let most = Original::share(message.envelope.recipients.len());
    let head = if stranger { Bytes::new() } else { queue.head(message.id, &job.prefix, &job.body).await? };
    let report = report::failure(&report::Notice {
        hostname: &config.hostname,
        sender,
        id: message.id,
        arrived: message.arrived,
        now: queue.now(),
        unique: rand::random(),
        envid: message.envelope.envid.as_deref().filter(|_| !stranger),
        ret: message.envelope.returned(),
        smtputf8: message.envelope.smtputf8,
        fates: &fates,
        original: if stranger { Original::withheld() } else { Original { head: &head, size: message.size, most } },
    });
    Ok(Some(Notice::report(report, sender.clone(), &config.hostname, config.delivery.lifetime)))
}
