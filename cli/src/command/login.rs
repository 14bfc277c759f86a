//! `staffetta login`: what logins do, by the hour, as all pods have counted it together.

use std::fmt::Display;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use staffetta_config::{Config, Service};
use staffetta_policy::conduct::{Counts, Ladder, Signal, Step};
use staffetta_queue::{Hour, Record, Target};
use staffetta_telemetry::printable;

use super::block::{announcer, left, queue, time};
use crate::arguments::{self, By, Login, ShowLogin, Top};
use crate::terminal::say;

pub(super) async fn run(login: Login) -> anyhow::Result<ExitCode> {
    match login {
        Login::Top(top) => list(&top).await?,
        Login::Show(show) => print(&show).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(top: &Top) -> anyhow::Result<()> {
    let hour = match top.hour {
        arguments::Hour::Now => Hour::Now,
        arguments::Hour::Last => Hour::Last,
    };
    let records = queue(&top.file.load(Service::Delivery)?).await?.records();
    let records = records.top(hour, signal(top.by), top.limit.into()).await?;
    if top.json {
        records.iter().for_each(|record| say(&row_as_json(record).to_string()));
    } else if records.is_empty() {
        say("Nobody has done anything of that.");
    } else {
        say(&format!("{:<40}{} Steps", "Login", columns(heading)));
        records.iter().for_each(|record| say(&printable(&row(record))));
    }
    Ok(())
}

async fn print(show: &ShowLogin) -> anyhow::Result<()> {
    let config = show.file.load(Service::Delivery)?;
    let queue = queue(&config).await?;
    let records = queue.records();
    let (now, last) = (records.login(Hour::Now, &show.login).await?, records.login(Hour::Last, &show.login).await?);
    let block = block(&config, &show.login).await?;
    let ladder = config.frontend.abuse.ladder();
    // Without a limit nothing is counted.
    let waiting = match config.frontend.queued_per_login {
        Some(limit) => Some((queue.depth(&show.login).await?, limit)),
        None => None,
    };
    if show.json {
        let object = json!({
            "login": show.login,
            "now": as_json(&now),
            "last": as_json(&last),
            "thresholds": counts(&ladder.thresholds),
            "blocked": block.as_ref().map(|(_, reason)| reason),
            "queued": waiting.map(|(count, _)| count),
            "queued_limit": waiting.map(|(_, limit)| limit),
        });
        say(&object.to_string());
        return Ok(());
    }
    say(&printable(&show.login));
    say(&format!("{:<20} {:>10} {:>10} {:>10}  Steps", "", "This hour", "Last hour", "Threshold"));
    Signal::ALL.into_iter().for_each(|signal| say(&line(signal, &now, &last, &ladder)));
    if let Some((count, limit)) = waiting {
        say(&format!("{count} of {limit} messages in the queue"));
    }
    let until = block.map_or_else(|| "not blocked".to_owned(), |(until, reason)| format!("blocked {until}: {reason}"));
    say(&printable(&until));
    Ok(())
}

/// For how long it is blocked, and why.
async fn block(config: &Config, login: &str) -> anyhow::Result<Option<(String, String)>> {
    let (all, now) = announcer(config).await?.blocks().await?;
    let block = all.into_iter().find(|(target, _)| matches!(target, Target::Login(name) if name == login));
    Ok(block.map(|(_, block)| {
        let until = block.until.map_or_else(|| "until it is unblocked".to_owned(), |until| left(until, now));
        (format!("since {}, {until}", time(block.since)), block.reason)
    }))
}

fn signal(by: By) -> Signal {
    match by {
        By::Messages => Signal::Messages,
        By::Recipients => Signal::Recipients,
        By::Domains => Signal::Domains,
        By::Bounces => Signal::Bounces,
        By::Unknown => Signal::UnknownRecipients,
        By::Networks => Signal::NewNetworks,
    }
}

fn heading(signal: Signal) -> &'static str {
    match signal {
        Signal::Messages => "Messages",
        Signal::Recipients => "Recipients",
        Signal::Domains => "Domains",
        Signal::Bounces => "Bounces",
        Signal::UnknownRecipients => "Unknown",
        Signal::NewNetworks => "Networks",
    }
}

/// A cell for each signal.
fn columns<T: Display>(cell: impl Fn(Signal) -> T) -> String {
    Signal::ALL.map(|signal| format!(" {:>10}", cell(signal))).concat()
}

fn row(record: &Record) -> String {
    let steps = record.taken.iter().map(|(signal, step)| format!(" {}:{}", signal.name(), step.name()));
    format!("{:<40}{}{}", record.login, columns(|signal| record.counts[signal]), steps.collect::<String>())
}

/// A signal of one login.
fn line(signal: Signal, now: &Record, last: &Record, ladder: &Ladder) -> String {
    let threshold = match ladder.thresholds[signal] {
        0 => "-".to_owned(),
        threshold => threshold.to_string(),
    };
    let steps: Vec<&str> = steps_of(now, signal).map(Step::name).collect();
    let (now, last) = (now.counts[signal], last.counts[signal]);
    format!("{:<20} {now:>10} {last:>10} {threshold:>10}  {}", heading(signal), steps.join(" "))
}

fn steps_of(record: &Record, signal: Signal) -> impl Iterator<Item = Step> {
    record.taken.iter().filter(move |(of, _)| *of == signal).map(|(_, step)| *step)
}

fn counts(counts: &Counts) -> Map<String, Value> {
    counts.each().map(|(signal, count)| (signal.name().to_owned(), count.into())).collect()
}

/// Counts, and the steps that were taken by each signal.
fn as_json(record: &Record) -> Map<String, Value> {
    let mut object = counts(&record.counts);
    let steps = record.taken.iter().map(|(signal, step)| json!({ "signal": signal.name(), "step": step.name() }));
    object.insert("steps".to_owned(), steps.collect());
    object
}

fn row_as_json(record: &Record) -> Value {
    let mut object = as_json(record);
    object.insert("login".to_owned(), record.login.as_str().into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            login: "john@example.org".to_owned(),
            counts: Counts::new([7, 12, 3, 2, 1, 0]),
            taken: vec![
                (Signal::Messages, Step::Notify),
                (Signal::Messages, Step::Slow),
                (Signal::Bounces, Step::Hold),
            ],
        }
    }

    #[test]
    fn a_login_is_a_row_and_an_object() {
        let row = row(&record());
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words[..7], ["john@example.org", "7", "12", "3", "2", "1", "0"]);
        assert_eq!(words[7..], ["messages:notify", "messages:slow", "bounces:hold"]);
        let object = row_as_json(&record());
        assert_eq!((&object["login"], &object["unknown_recipients"]), (&"john@example.org".into(), &1.into()));
        assert_eq!(object["steps"][2], json!({ "signal": "bounces", "step": "hold" }));
    }

    #[test]
    fn a_signal_that_is_not_watched_has_no_threshold() {
        let ladder = Ladder { thresholds: Counts::new([5, 0, 0, 0, 0, 0]), multiples: [1, 0, 0, 0] };
        let words = |signal| line(signal, &record(), &record(), &ladder);
        assert_eq!(
            words(Signal::Messages).split_whitespace().collect::<Vec<_>>(),
            ["Messages", "7", "7", "5", "notify", "slow"]
        );
        assert_eq!(words(Signal::Domains).split_whitespace().collect::<Vec<_>>(), ["Domains", "3", "3", "-"]);
    }
}
