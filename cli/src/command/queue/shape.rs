//! `staffetta queue shape` and `summary`: the whole queue at a glance.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use staffetta_config::Config;
use staffetta_queue::{Filter, Queue};

use super::render::time;
use super::{Found, filter, for_each};
use crate::arguments::{List, Summary};
use crate::command::suspended::Suspended;
use crate::terminal::{say, span};

/// Ages in minutes up to which a column counts; one more column takes the rest.
const COLUMNS: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];

/// Recipients in all, and by age.
#[derive(Clone, Copy, Default)]
struct Row {
    total: u64,
    ages: [u64; COLUMNS.len() + 1],
}

impl Row {
    fn add(&mut self, age_minutes: u64, recipients: u64) {
        self.total += recipients;
        self.ages[COLUMNS.iter().position(|limit| age_minutes < *limit).unwrap_or(COLUMNS.len())] += recipients;
    }
}

pub(super) async fn print(queue: &Queue, shape: &List) -> anyhow::Result<ExitCode> {
    let filter = filter(&shape.selection);
    let mut rows: HashMap<String, Row> = HashMap::new();
    let mut total = Row::default();
    for_each(queue, &filter, async |found| {
        let Found::Entry(entry) = found else { return };
        let minutes = queue.now().saturating_sub(entry.message.arrived) / 60_000;
        for job in entry.selected(&filter) {
            let recipients = job.recipients.len() as u64;
            total.add(minutes, recipients);
            rows.entry(job.destination.to_string()).or_default().add(minutes, recipients);
        }
    })
    .await?;
    let mut rows: Vec<(String, Row)> = rows.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| y.total.cmp(&x.total).then_with(|| a.cmp(b)));
    if shape.json {
        let rows: Vec<_> = rows.iter().map(|(name, row)| as_json(name, row)).collect();
        say(&json!({ "minutes": COLUMNS, "total": as_json("", &total), "destinations": rows }).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let heads = COLUMNS.iter().map(|limit| format!("{limit:>6}")).collect::<String>();
    say(&format!("{:<32} {:>7}{heads} {:>5}+", "", "T", COLUMNS[COLUMNS.len() - 1]));
    say(&as_text("TOTAL", &total));
    rows.iter().for_each(|(name, row)| say(&as_text(name, row)));
    Ok(ExitCode::SUCCESS)
}

fn as_text(name: &str, row: &Row) -> String {
    let ages = row.ages.iter().map(|count| format!("{count:>6}")).collect::<String>();
    format!("{name:<32} {:>7}{ages}", row.total)
}

fn as_json(name: &str, row: &Row) -> serde_json::Value {
    json!({ "destination": name, "total": row.total, "ages": row.ages })
}

pub(super) async fn summary(config: &Config, queue: &Queue, summary: &Summary) -> anyhow::Result<ExitCode> {
    let counts = queue.counts_of_parts().await?;
    let away: Vec<u16> = queue.away().into_iter().map(|(number, _)| number).collect();
    let page = queue.list(&Filter::default(), None, 1).await?;
    let first = page.entries.iter().map(|entry| entry.message.arrived).chain(page.unreadable.iter().map(|m| m.arrived));
    let oldest = first.min().map(|arrived| (arrived, Duration::from_millis(queue.now().saturating_sub(arrived))));
    // The server that knows it may be among those that are away.
    let created = if away.is_empty() { queue.created().await? } else { queue.created().await.ok().flatten() };
    let created = created.map(time);
    let suspended = Suspended::look_if_possible(config).await;
    let (used, limit) = counts.memory;
    if summary.json {
        let value = json!({
            "messages": counts.messages,
            "ready": counts.ready,
            "scheduled": counts.scheduled,
            "leased": counts.leased,
            "held": counts.held,
            "oldest": oldest.map(|(arrived, _)| time(arrived)),
            "oldest_ready_seconds": counts.oldest_ready.as_secs(),
            "oldest_scheduled_seconds": counts.oldest_scheduled.as_secs(),
            "oldest_leased_seconds": counts.oldest_leased.as_secs(),
            "oldest_held_seconds": counts.oldest_held.as_secs(),
            "memory": used,
            "memory_limit": if limit == 0 { None } else { Some(limit) },
            "partitions": queue.partitions(),
            "partitions_away": away,
            "created": created,
            "suspended_destinations": suspended.as_ref().map(Suspended::count),
            "curbed_destinations": suspended.as_ref().map(Suspended::count_curbed),
            "bouncing_destinations": suspended.as_ref().map(Suspended::count_bouncing),
        });
        say(&value.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let line = |name: &str, value: String| say(&format!("{name:<22} {value}"));
    line("Messages", counts.messages.to_string());
    let due = match counts.ready {
        0 => "0".to_owned(),
        ready => format!("{ready} (the oldest for {})", span(counts.oldest_ready)),
    };
    line("Deliveries due now", due);
    let aged = |count: u64, oldest: Duration| match count {
        0 => count.to_string(),
        _ => format!("{count} (the oldest arrived {} ago)", span(oldest)),
    };
    line("Deliveries for later", aged(counts.scheduled, counts.oldest_scheduled));
    line("Being delivered", aged(counts.leased, counts.oldest_leased));
    line("Held", aged(counts.held, counts.oldest_held));
    let told =
        |count: fn(&Suspended) -> usize| suspended.as_ref().map_or("unknown".to_owned(), |all| count(all).to_string());
    line("Suspended destinations", told(Suspended::count));
    line("Slowed destinations", told(Suspended::count_curbed));
    line("Bouncing destinations", told(Suspended::count_bouncing));
    let oldest = oldest.map(|(arrived, age)| format!("arrived {}, {} ago", time(arrived), span(age)));
    line("Oldest message", oldest.unwrap_or_else(|| "none".to_owned()));
    let limit = if limit == 0 { "no limit".to_owned() } else { format!("of {} MiB", limit >> 20) };
    line("Memory of Redis", format!("{} MiB, {limit}", used >> 20));
    let missing = if away.is_empty() { String::new() } else { format!(", {} of them cannot be reached", away.len()) };
    line("Partitions", format!("{}{missing}", queue.partitions()));
    line("The queue exists since", created.unwrap_or_else(|| "unknown".to_owned()));
    Ok(ExitCode::SUCCESS)
}
