//! What an operator does to messages: flush, hold, release, delete; each to ids or to what a selection finds.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::json;
use staffetta_config::Config;
use staffetta_mail::QueueId;
use staffetta_queue::{Deleted, Destination, Filter, JobState, Moved, Place, Queue};

use super::{Found, filter, for_each, is_unreadable};
use crate::arguments::{Act, Delete, Flush, Selection};
use crate::command::suspended::Suspended;
use crate::terminal::{complain, counted, say};

/// The command line was not enough to do it.
pub(super) const UNSURE: u8 = 2;

/// What is done to how many, and what went wrong.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) done: u64,
    pub(super) leased: u64,
    failed: bool,
}

impl Outcome {
    pub(super) fn fail(&mut self, complaint: &str) {
        self.failed = true;
        complain(complaint);
    }

    /// Says it, and how the program ends.
    pub(super) fn report(&self, json: bool, name: &str, one: &str, many: &str) -> ExitCode {
        if json {
            say(&json!({ name: self.done, "leased": self.leased, "failed": self.failed }).to_string());
        } else {
            say(&counted(self.done, one, many));
        }
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// One filter for each id, or the one of the selection.
pub(super) fn filters(ids: &[QueueId], selection: &Selection) -> Vec<Filter> {
    match ids {
        [] => vec![filter(selection)],
        ids => ids.iter().map(|&id| Filter { id: Some(id), ..Filter::default() }).collect(),
    }
}

pub(super) async fn flush(config: &Config, queue: &Queue, flush: Flush) -> anyhow::Result<ExitCode> {
    let mut outcome = Outcome::default();
    for filter in filters(&flush.ids, &flush.selection) {
        if !is_there(queue, &filter, &mut outcome).await? {
            continue;
        }
        let stays = tell_of_held(queue, &filter).await;
        let flushed = if flush.dry_run {
            let due = |job: &JobState| matches!(job.place, Place::Waiting(at) if at > queue.now()) || job.poison;
            preview(queue, &filter, "flush", flush.json, due).await?
        } else {
            queue.flush(&filter).await?
        };
        outcome.done += flushed;
        outcome.failed |= stays && flushed == 0;
    }
    if !flush.dry_run {
        note(queue, "flushed", &flush.ids, &flush.selection, outcome.done).await;
    }
    // Their mail is due, and waits all the same.
    if let Some(line) = Suspended::look_if_possible(config).await.and_then(|all| all.summary()) {
        complain(&line);
    }
    let (one, many) = match flush.dry_run {
        true => ("delivery would be due now", "deliveries would be due now"),
        false => ("delivery is due now", "deliveries are due now"),
    };
    Ok(outcome.report(flush.json, "flushed", one, many))
}

/// What an operator holds no flush moves, and who names a message means it. Says so, and whether there is such a delivery.
async fn tell_of_held(queue: &Queue, filter: &Filter) -> bool {
    let Some(id) = filter.id else { return false };
    // One that cannot be read tells nothing of its deliveries.
    let Some(entry) = queue.entry(id).await.ok().flatten() else { return false };
    let held = entry.jobs.iter().filter(|job| job.place == Place::Held && !job.poison).count() as u64;
    if held > 0 {
        let what = counted(held, "delivery is held and stays so", "deliveries are held and stay so");
        complain(&format!("{id}: {what}: use `staffetta queue release {id}`"));
    }
    held > 0
}

pub(super) async fn hold(queue: &Queue, act: &Act) -> anyhow::Result<ExitCode> {
    let waiting = |job: &JobState| matches!(job.place, Place::Waiting(_));
    let (mut outcome, mut already) = (Outcome::default(), 0);
    for filter in filters(&act.ids, &act.selection) {
        if !is_there(queue, &filter, &mut outcome).await? {
        } else if act.dry_run {
            outcome.done += preview(queue, &filter, "hold", act.json, waiting).await?;
        } else {
            let moved = queue.hold(&filter).await?;
            already += moved.already;
            count(&mut outcome, moved, &filter);
            if moved.leased > 0 {
                let (one, many) =
                    ("delivery is under way and is not held", "deliveries are under way and are not held");
                outcome.fail(&counted(moved.leased, one, many));
            }
        }
    }
    if !act.dry_run {
        note(queue, "held", &act.ids, &act.selection, outcome.done).await;
    }
    if already > 0 {
        complain(&counted(already, "delivery was held already", "deliveries were held already"));
    }
    let (one, many) = match act.dry_run {
        true => ("delivery would be held", "deliveries would be held"),
        false => ("delivery is held", "deliveries are held"),
    };
    Ok(outcome.report(act.json, "held", one, many))
}

pub(super) async fn release(queue: &Queue, act: &Act) -> anyhow::Result<ExitCode> {
    let mut outcome = Outcome::default();
    for filter in filters(&act.ids, &act.selection) {
        if !is_there(queue, &filter, &mut outcome).await? {
        } else if act.dry_run {
            outcome.done += preview(queue, &filter, "release", act.json, |job| job.place == Place::Held).await?;
        } else {
            count(&mut outcome, queue.release(&filter).await?, &filter);
        }
    }
    if !act.dry_run {
        note(queue, "released", &act.ids, &act.selection, outcome.done).await;
    }
    let (one, many) = match act.dry_run {
        true => ("held delivery would be due now", "held deliveries would be due now"),
        false => ("held delivery is due now", "held deliveries are due now"),
    };
    Ok(outcome.report(act.json, "released", one, many))
}

/// For the mail log, which a worker writes. What is done is done, also if it cannot be noted.
async fn note(queue: &Queue, verb: &str, ids: &[QueueId], selection: &Selection, deliveries: u64) {
    if deliveries == 0 {
        return;
    }
    let words = match ids {
        [] => selection.words(),
        ids => ids.iter().map(QueueId::to_string).collect::<Vec<_>>().join(" "),
    };
    let words = if words.is_empty() { "--all".to_owned() } else { words };
    if let Err(error) = queue.note_selection(verb, &words, deliveries).await {
        complain(&format!("the mail log will not say by whom: {error}"));
    }
}

fn count(outcome: &mut Outcome, moved: Moved, filter: &Filter) {
    outcome.done += moved.jobs;
    outcome.leased += moved.leased;
    match (moved.unreadable, filter.id) {
        (0, _) => {}
        (_, Some(id)) => outcome.fail(&format!("{id}: cannot be read by this program and stays where it is")),
        (n, None) => {
            let one = "message cannot be read by this program and stays where it is";
            outcome.fail(&counted(n, one, "messages cannot be read by this program and stay where they are"));
        }
    }
}

/// Complains of an id that names nothing.
pub(super) async fn is_there(queue: &Queue, filter: &Filter, outcome: &mut Outcome) -> anyhow::Result<bool> {
    let Some(id) = filter.id else { return Ok(true) };
    match queue.entry(id).await {
        Ok(Some(_)) => Ok(true),
        Err(error) if is_unreadable(&error) => Ok(true),
        Ok(None) => {
            outcome.fail(&format!("{id}: no such message"));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what would be done, one line a delivery; how many.
async fn preview(
    queue: &Queue,
    filter: &Filter,
    verb: &str,
    quiet: bool,
    wanted: impl Fn(&JobState) -> bool,
) -> anyhow::Result<u64> {
    let mut deliveries = 0;
    for_each(queue, filter, async |found| {
        let Found::Entry(entry) = found else { return };
        for job in entry.selected(filter).filter(|job| wanted(job)) {
            deliveries += 1;
            if !quiet {
                say(&format!("would {verb} {} to {}", entry.message.id, job.destination));
            }
        }
    })
    .await?;
    Ok(deliveries)
}

/// Where a selection means some recipients, and not the rest of their messages.
const PARTS_WOULD_BE: (&str, &str) =
    ("message would lose the recipients that are meant", "messages would lose the recipients that are meant");
const PARTS_ARE: (&str, &str) =
    ("message: the recipients that are meant are deleted", "messages: the recipients that are meant are deleted");

/// A message to be deleted: the whole, or some of its deliveries.
struct Chosen {
    id: QueueId,
    jobs: Option<Vec<u16>>,
}

pub(super) async fn delete(queue: &Queue, delete: &Delete) -> anyhow::Result<ExitCode> {
    let act = &delete.act;
    let mut outcome = Outcome::default();
    let doomed = match act.ids.as_slice() {
        [] if !is_there(queue, &filter(&act.selection), &mut outcome).await? => Vec::new(),
        [] => select(queue, &filter(&act.selection)).await?.0,
        ids => ids.iter().map(|&id| Chosen { id, jobs: None }).collect(),
    };
    let is_part = doomed.iter().any(|doomed| doomed.jobs.is_some());
    if act.dry_run {
        if !act.json {
            doomed.iter().for_each(|doomed| say(&format!("would delete {}", doomed.id)));
        }
        outcome.done = doomed.len() as u64;
        let (one, many) =
            if is_part { PARTS_WOULD_BE } else { ("message would be deleted", "messages would be deleted") };
        return Ok(outcome.report(act.json, "deleted", one, many));
    }
    if act.ids.is_empty()
        && !doomed.is_empty()
        && !delete.yes
        && !confirmed("Delete", &counted(doomed.len() as u64, "message", "messages"))?
    {
        complain("nothing is deleted; say --yes, or --dry-run to see what it would be");
        return Ok(ExitCode::from(UNSURE));
    }
    for Chosen { id, jobs } in separated(queue, act, doomed, &mut outcome).await? {
        let deleted = match &jobs {
            None => queue.delete(id).await?,
            Some(jobs) => queue.delete_jobs(id, jobs).await?,
        };
        match deleted {
            Deleted::Removed => outcome.done += 1,
            Deleted::Leased => {
                (outcome.done, outcome.leased) = (outcome.done + 1, outcome.leased + 1);
                complain(&format!("{id}: is being delivered now; it will not be tried again"));
            }
            // It may have been delivered since the selection.
            Deleted::Missing if act.ids.is_empty() => {}
            Deleted::Missing => outcome.fail(&format!("{id}: no such message")),
        }
    }
    let (one, many) = if is_part { PARTS_ARE } else { ("message deleted", "messages deleted") };
    Ok(outcome.report(act.json, "deleted", one, many))
}

/// The same choice, without other recipients of the same deliveries.
async fn separated(
    queue: &Queue,
    act: &Act,
    chosen: Vec<Chosen>,
    outcome: &mut Outcome,
) -> anyhow::Result<Vec<Chosen>> {
    if !act.ids.is_empty() || act.selection.recipient.is_none() {
        return Ok(chosen);
    }
    let filter = filter(&act.selection);
    queue.separate(&filter).await?;
    let (mut chosen, shared) = select(queue, &filter).await?;
    chosen.retain(|chosen| chosen.jobs.as_ref().is_none_or(|jobs| !jobs.is_empty()));
    for (id, destination) in shared {
        outcome.fail(&under_way(id, &destination));
    }
    Ok(chosen)
}

/// What is chosen, and the deliveries that have other recipients as well. A selection by domain or recipient never means
/// the rest of a message.
async fn select(queue: &Queue, filter: &Filter) -> anyhow::Result<(Vec<Chosen>, Vec<(QueueId, Destination)>)> {
    let narrow = filter.destination.is_some() || filter.recipient.is_some();
    let (mut chosen, mut shared) = (Vec::new(), Vec::new());
    for_each(queue, filter, async |found| match found {
        Found::Unreadable(message) => chosen.push(Chosen { id: message.id, jobs: None }),
        Found::Entry(entry) if narrow => {
            let id = entry.message.id;
            let mut jobs = Vec::new();
            for job in entry.selected(filter) {
                if entry.has_others(job, filter) {
                    shared.push((id, job.destination.clone()));
                } else {
                    jobs.push(job.number);
                }
            }
            chosen.push(Chosen { id, jobs: Some(jobs) });
        }
        Found::Entry(entry) => chosen.push(Chosen { id: entry.message.id, jobs: None }),
    })
    .await?;
    Ok((chosen, shared))
}

/// A delivery that nobody can take apart.
pub(super) fn under_way(id: QueueId, destination: &Destination) -> String {
    format!("{id}: is being delivered to {destination} now, with other recipients, and stays")
}

/// Asks on a terminal; elsewhere nobody is there to answer.
pub(super) fn confirmed(verb: &str, what: &str) -> io::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    write!(io::stderr().lock(), "{verb} {what}? [y/N] ")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
