//! `staffetta queue`: what postqueue, postcat and postsuper do.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::json;
use staffetta_config::Service;
use staffetta_queue::{Deleted, Destination, Entry, Filter, JobState, Page, Place, Queue};
use tokio_util::sync::CancellationToken;

use crate::arguments::{self, ConfigFile, Selection};
use crate::terminal::{complain, say};

/// How long an operator waits for Redis.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages fetched at a time.
const PAGE: usize = 200;

pub(super) async fn run(command: arguments::Queue) -> anyhow::Result<ExitCode> {
    match command {
        arguments::Queue::List(list) => list_messages(&open(&list.file).await?, &list).await,
        arguments::Queue::Show(show) => show_message(&open(&show.file).await?, &show).await,
        arguments::Queue::Flush(flush) => flush_messages(&open(&flush.file).await?, &flush).await,
        arguments::Queue::Delete(delete) => delete_messages(&open(&delete.file).await?, &delete).await,
    }
}

async fn open(file: &ConfigFile) -> anyhow::Result<Queue> {
    let config = file.load(Service::Delivery)?;
    let queue = Queue::open((&config).into(), CancellationToken::new())?;
    queue.ready(PATIENCE).await?;
    Ok(queue)
}

/// Calls `visit` with every message that matches, a page at a time.
async fn for_each(queue: &Queue, filter: &Filter, mut visit: impl FnMut(&Entry)) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let Page { entries, next, .. } = queue.list(filter, cursor, PAGE).await?;
        entries.iter().for_each(&mut visit);
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

async fn list_messages(queue: &Queue, list: &arguments::List) -> anyhow::Result<ExitCode> {
    let (mut messages, mut octets) = (0u64, 0u64);
    if !list.json {
        say(&format!("{:<16} {:>9} {:<20} Sender/recipients", "Queue id", "Size", "Arrived"));
    }
    for_each(queue, &filter(&list.selection), |entry| {
        messages += 1;
        octets += entry.message.size;
        say(&if list.json { as_json(entry).to_string() } else { as_text(entry) });
    })
    .await?;
    match messages {
        _ if list.json => {}
        0 => say("The queue is empty."),
        n => say(&format!("-- {} KiB in {n} messages.", octets.div_ceil(1024))),
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_message(queue: &Queue, show: &arguments::Show) -> anyhow::Result<ExitCode> {
    let entry = queue.entry(show.id).await?.with_context(|| format!("{}: no such message", show.id))?;
    say(&if show.json { as_json(&entry).to_string() } else { as_text(&entry) });
    Ok(ExitCode::SUCCESS)
}

async fn flush_messages(queue: &Queue, flush: &arguments::Flush) -> anyhow::Result<ExitCode> {
    if let Some(id) = flush.id
        && queue.entry(id).await?.is_none()
    {
        bail!("{id}: no such message");
    }
    let filter = Filter { id: flush.id, destination: flush.domain.as_deref().map(destination), ..Filter::default() };
    let jobs = queue.flush(&filter).await?;
    say(&format!("{jobs} deliveries are due now"));
    Ok(ExitCode::SUCCESS)
}

async fn delete_messages(queue: &Queue, delete: &arguments::Delete) -> anyhow::Result<ExitCode> {
    let mut ids = delete.ids.clone();
    if ids.is_empty() {
        for_each(queue, &filter(&delete.selection), |entry| ids.push(entry.message.id)).await?;
    }
    let (mut removed, mut failed) = (0u64, false);
    for id in ids {
        match queue.delete(id).await? {
            Deleted::Removed => removed += 1,
            Deleted::Leased => {
                removed += 1;
                complain(&format!("{id}: is being delivered now; it will not be tried again"));
            }
            Deleted::Missing => {
                failed = true;
                complain(&format!("{id}: no such message"));
            }
        }
    }
    say(&format!("{removed} messages deleted"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn filter(selection: &Selection) -> Filter {
    Filter {
        id: None,
        destination: selection.domain.as_deref().map(destination),
        sender: selection.sender.as_ref().map(|s| if s == "<>" { String::new() } else { s.clone() }),
        older_than: selection.older_than,
        ..Filter::default()
    }
}

fn destination(domain: &str) -> Destination {
    Destination::new(domain.to_ascii_lowercase())
}

fn as_text(entry: &Entry) -> String {
    let message = &entry.message;
    let sender = if message.envelope.sender.is_null() { "MAILER-DAEMON" } else { message.envelope.sender.as_str() };
    let mut text = format!("{:<16} {:>9} {:<20} {sender}", message.id, message.size, time(message.arrived));
    for job in &entry.jobs {
        text.push_str(&format!("\n  {}: {}", job.destination.as_str(), place(job)));
        if let Some(reason) = &job.reason {
            text.push_str(&format!("\n    ({reason})"));
        }
        for recipient in addresses(entry, job) {
            text.push_str(&format!("\n    {recipient}"));
        }
    }
    text
}

fn place(job: &JobState) -> String {
    let attempts = match job.attempts {
        0 => String::new(),
        1 => ", 1 attempt so far".to_owned(),
        n => format!(", {n} attempts so far"),
    };
    match job.place {
        Place::Waiting(at) => format!("waiting until {}{attempts}", time(at)),
        Place::Leased(until) => format!("being delivered, leased until {}{attempts}", time(until)),
        Place::Held => format!("held{attempts}"),
    }
}

/// One stable object a message; times are RFC 3339.
fn as_json(entry: &Entry) -> serde_json::Value {
    let message = &entry.message;
    let jobs: Vec<_> = entry
        .jobs
        .iter()
        .map(|job| {
            let mut value = BTreeMap::from([
                ("destination", json!(job.destination.as_str())),
                ("recipients", json!(addresses(entry, job).collect::<Vec<_>>())),
                ("attempts", json!(job.attempts)),
                ("reason", json!(job.reason)),
            ]);
            let (state, at) = match job.place {
                Place::Waiting(at) => ("waiting", Some(at)),
                Place::Leased(at) => ("leased", Some(at)),
                Place::Held => ("held", None),
            };
            value.insert("state", json!(state));
            value.insert("until", json!(at.map(time)));
            value
        })
        .collect();
    json!({
        "queue_id": message.id.to_string(),
        "sender": message.envelope.sender.as_str(),
        "size": message.size,
        "arrived": time(message.arrived),
        "expires": time(message.expires),
        "listener": message.origin.listener,
        "client": message.origin.client.map(|ip| ip.to_string()),
        "login": message.origin.login,
        "jobs": jobs,
    })
}

fn addresses<'a>(entry: &'a Entry, job: &'a JobState) -> impl Iterator<Item = &'a str> {
    let recipients = &entry.message.envelope.recipients;
    job.recipients.iter().filter_map(|&index| recipients.get(index as usize)).map(|r| r.address.as_str())
}

fn time(unix_millis: u64) -> String {
    i64::try_from(unix_millis / 1000)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "?".to_owned(), |t| t.to_string())
}
