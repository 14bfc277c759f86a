//! Messages as text and as JSON. The JSON is stable, the text is not.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::json;
use staffetta_queue::{Entry, JobState, Place, Unreadable};

use super::Found;
use crate::command::suspended::Standing;

/// Why mail waits of which nothing was tried.
const RESTS: &str = "\n    (an attempt of other mail failed on its way there, or its rate is reached)";

/// `standing`: how destinations stand for which mail waits, by their names.
pub(in crate::command) fn found(found: &Found<'_>, standing: &HashMap<String, Standing>, json: bool) -> String {
    match (found, json) {
        (Found::Entry(entry), true) => as_json(entry, standing).to_string(),
        (Found::Entry(entry), false) => staffetta_telemetry::printable(&as_text(entry, standing)),
        (Found::Unreadable(message), true) => unreadable_as_json(message).to_string(),
        (Found::Unreadable(message), false) => format!(
            "{:<16} {:>9} {:<20} unreadable: {}",
            message.id,
            message.size,
            time(message.arrived),
            message.reason
        ),
    }
}

fn as_text(entry: &Entry, standing: &HashMap<String, Standing>) -> String {
    let message = &entry.message;
    let sender = if message.envelope.sender.is_null() { "MAILER-DAEMON" } else { message.envelope.sender.as_str() };
    let mut text = format!("{:<16} {:>9} {:<20} {sender}", message.id, message.size, time(message.arrived));
    for job in &entry.jobs {
        text.push_str(&format!("\n  {}: {}", job.destination.as_str(), place(job)));
        let standing = standing.get(job.destination.as_str());
        let is_told = standing.is_some_and(|standing| standing.suspended.is_some() || !standing.curbs.is_empty());
        if let Some(terms) = standing.and_then(|standing| standing.suspended.as_ref()) {
            text.push_str(&format!("\n    (suspended: {terms})"));
        }
        for curb in standing.iter().flat_map(|standing| &standing.curbs) {
            text.push_str(&format!("\n    ({})", curb.text));
        }
        match &job.reason {
            Some(reason) => text.push_str(&format!("\n    ({reason})")),
            None if job.rests && !is_told => text.push_str(RESTS),
            None => {}
        }
        for recipient in entry.addresses(job) {
            text.push_str(&format!("\n    {recipient}"));
        }
    }
    text
}

/// Where it came from, where it lies, and until when it is tried.
pub(super) fn origin(entry: &Entry) -> String {
    let (origin, until) = (&entry.message.origin, time(entry.message.expires));
    let client = origin.client.map(|ip| format!(", client {ip}"));
    let login = origin.login.as_ref().map(|login| format!(", login {login}"));
    let (client, login) = (client.unwrap_or_default(), login.unwrap_or_default());
    let place = if entry.is_in_store { "; its body lies in the store" } else { "" };
    let text = format!("  came in at {}{client}{login}{place}; tried until {until}", origin.listener);
    staffetta_telemetry::printable(&text)
}

fn place(job: &JobState) -> String {
    let attempts = match job.attempts {
        0 => String::new(),
        1 => ", 1 attempt so far".to_owned(),
        n => format!(", {n} attempts so far"),
    };
    match job.place {
        Place::Waiting(at) if job.rests => {
            format!("waiting until {}, when its destination is looked at again{attempts}", time(at))
        }
        Place::Waiting(at) => format!("waiting until {}{attempts}", time(at)),
        Place::Leased(until) => format!("being delivered, leased until {}{attempts}", time(until)),
        Place::Held if job.poison => format!("held: five workers in a row did not finish it{attempts}"),
        Place::Held => format!("held{attempts}"),
    }
}

/// One stable object a message; times are RFC 3339.
fn as_json(entry: &Entry, standing: &HashMap<String, Standing>) -> serde_json::Value {
    let message = &entry.message;
    let jobs: Vec<_> = entry
        .jobs
        .iter()
        .map(|job| {
            let standing = standing.get(job.destination.as_str()).cloned().unwrap_or_default();
            let mut value = BTreeMap::from([
                ("destination", json!(job.destination.as_str())),
                ("recipients", json!(entry.addresses(job).collect::<Vec<_>>())),
                ("attempts", json!(job.attempts)),
                ("reason", json!(job.reason)),
                ("poison", json!(job.poison)),
                ("destination_rests", json!(job.rests)),
                ("suspended", json!(standing.suspended)),
                ("curbs", standing.curbs.into_iter().map(|curb| curb.json).collect()),
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
        "body_in": if entry.is_in_store { "store" } else { "redis" },
        "jobs": jobs,
    })
}

fn unreadable_as_json(message: &Unreadable) -> serde_json::Value {
    json!({
        "queue_id": message.id.to_string(),
        "size": message.size,
        "arrived": time(message.arrived),
        "unreadable": message.reason,
    })
}

pub(super) fn time(unix_millis: u64) -> String {
    i64::try_from(unix_millis / 1000)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "?".to_owned(), |t| t.to_string())
}
