//! `staffetta trace`: what has become of a message, in order of time, with what servers said word by word; and where it is now.
//!
//! What is over is only in the mail log, of all pods: files are read as often as it takes, standard input is kept in a file for
//! that.

mod log;
mod render;

use std::collections::BTreeSet;
use std::process::ExitCode;

use staffetta_config::Service;
use staffetta_queue::{Filter, Queue};
use staffetta_transport::launch;

use super::queue::{Why, for_each, found, open_with};
use crate::arguments;
use crate::terminal::{complain, say};

/// Messages that are shown; a recipient may have had any number.
const MOST: usize = 1_000;

pub(super) async fn run(trace: &arguments::Trace) -> anyhow::Result<ExitCode> {
    // In the log he may be hidden.
    if let Ok(config) = trace.file.load(Service::Delivery) {
        launch::hide_addresses(&config);
    }
    let wanted = log::Wanted::new(&trace.what);
    let journeys = log::read(&trace.log, &wanted, MOST)?;
    if journeys.is_cut {
        complain(&format!("there are more than {MOST} messages; the first ones are shown"));
    }
    let mut queue = match open_with(&trace.file).await {
        Ok((config, queue)) => Some((Why::look(&config).await, queue)),
        Err(error) if trace.log.is_empty() => return Err(error),
        Err(error) => {
            complain(&format!("where mail is now is not known: {error:#}"));
            None
        }
    };
    let mut ids: BTreeSet<String> = journeys.events.keys().cloned().collect();
    if let Some((_, queue)) = &queue {
        ids.extend(queued(queue, &wanted).await?);
    }
    for id in &ids {
        let events = journeys.events.get(id).map(Vec::as_slice).unwrap_or_default();
        let now = match &mut queue {
            Some((why, queue)) => now(queue, why, id, trace.json).await?,
            None => None,
        };
        say(&if trace.json { render::as_json(events, now) } else { render::as_text(id, events, now, queue.is_some()) });
    }
    if ids.is_empty() {
        let hint = match (trace.log.is_empty(), journeys.has_records) {
            (true, _) => "; what has left it is in the mail log: --log FILE",
            (false, false) => {
                ", and the log has no record of any message: it is read as log.format = \"json\" writes it"
            }
            (false, true) => "",
        };
        complain(&format!("{}: nothing of it is in the queue{hint}", trace.what));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Messages in the queue that are meant, as far as the queue can tell.
async fn queued(queue: &Queue, wanted: &log::Wanted) -> anyhow::Result<Vec<String>> {
    let filter = match (wanted.id(), wanted.recipient()) {
        (Some(id), _) => Filter { id: Some(id), ..Filter::default() },
        (None, Some(recipient)) => Filter { recipient: Some(recipient.to_owned()), ..Filter::default() },
        (None, None) => return Ok(Vec::new()),
    };
    let mut ids = Vec::new();
    for_each(queue, &filter, async |found| ids.push(found.id().to_string())).await?;
    ids.truncate(MOST);
    Ok(ids)
}

/// A message as it is in the queue.
async fn now(queue: &Queue, why: &mut Why, id: &str, json: bool) -> anyhow::Result<Option<String>> {
    let Ok(id) = id.parse() else { return Ok(None) };
    let mut shown = None;
    let by_id = Filter { id: Some(id), ..Filter::default() };
    for_each(queue, &by_id, async |one| shown = Some(found(&one, &why.of(&one).await, json))).await?;
    Ok(shown)
}
