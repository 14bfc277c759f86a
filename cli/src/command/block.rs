//! `staffetta block`, `unblock`, `blocks`: who is stopped on all frontends at once.

use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use staffetta_config::{Config, Service};
use staffetta_queue::{Announcer, Block as Held, Curb, Filter, Queue, Settings, Target, UnixMillis};
use staffetta_telemetry::printable;
use tokio_util::sync::CancellationToken;

use crate::arguments::{Block, Blocks, ConfigFile, Named, Unblock};
use crate::terminal::{complain, counted, say, span};

/// How long an operator waits for the queue.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long deliveries that are under way are waited for.
const HOLD: Duration = Duration::from_secs(10);

/// A connection through which all services can be told.
pub(super) async fn announcer(config: &Config) -> anyhow::Result<Announcer> {
    Ok(Announcer::connect(&config.into()).await?)
}

pub(super) async fn open(file: &ConfigFile) -> anyhow::Result<(Config, Announcer)> {
    let config = file.load(Service::Delivery)?;
    let announcer = announcer(&config).await?;
    Ok((config, announcer))
}

pub(super) async fn block(block: Block) -> anyhow::Result<ExitCode> {
    let (target, terms, holds) = match block {
        Block::Login(one) => (one.login, one.terms, !one.keep_queue),
        Block::Client(one) => (one.network, one.terms, false),
        Block::Domain(one) => (one.domain, one.terms, false),
    };
    let (config, announcer) = open(&terms.named.file).await?;
    if !announcer.block(&target, terms.life, &terms.reason).await? {
        anyhow::bail!("there are too many blocks: end some with `staffetta unblock`");
    }
    note(&config, slice::from_ref(&target), "blocked", &terms.reason).await;
    let held = match &target {
        Target::Login(login) if holds => {
            let held = hold(&config, login).await;
            Some(held.with_context(|| format!("{target} is blocked, but its mail that waits is not held"))?)
        }
        _ => None,
    };
    report(&target, "blocked", terms.named.json, "held", held);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn unblock(unblock: Unblock) -> anyhow::Result<ExitCode> {
    let (target, Named { json, file }, releases) = match unblock {
        Unblock::Login(one) => (one.login, one.named, one.release),
        Unblock::Client(one) => (one.network, one.named, false),
        Unblock::Domain(one) => (one.domain, one.named, false),
    };
    let (config, announcer) = open(&file).await?;
    let was = announcer.unblock(&target).await?;
    if was {
        note(&config, slice::from_ref(&target), "unblocked", "").await;
    }
    let released = match &target {
        Target::Login(login) if releases => Some(queue(&config).await?.release(&of(login)).await?.jobs),
        _ => None,
    };
    if !was {
        complain(&format!("{target} is not blocked"));
    }
    if was || json || released.is_some() {
        report(&target, "unblocked", json, "released", released);
    }
    if let (Target::Login(login), true, None, false) = (&target, was, released, json)
        && queue(&config).await?.counts().await?.held > 0
    {
        say(&printable(&format!(
            "What is held of its mail stays held, until `staffetta queue release --login {login}`"
        )));
    }
    Ok(if was { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn list(blocks: &Blocks) -> anyhow::Result<ExitCode> {
    let is_block = |target: &Target| matches!(target, Target::Login(_) | Target::Client(_) | Target::Domain(_));
    listed(blocks, is_block, "Nothing is blocked.").await
}

/// Those that are meant.
pub(super) async fn listed(blocks: &Blocks, meant: impl Fn(&Target) -> bool, none: &str) -> anyhow::Result<ExitCode> {
    let (mut all, now) = open(&blocks.file).await?.1.blocks().await?;
    all.retain(|(target, _)| meant(target));
    for (target, block) in &all {
        if blocks.json {
            say(&object(target, block).to_string());
        } else {
            say(&printable(&format!("{target}  {}", terms(block, now))));
        }
    }
    if all.is_empty() && !blocks.json {
        say(none);
    }
    Ok(ExitCode::SUCCESS)
}

/// One of them, in JSON.
pub(super) fn object(target: &Target, block: &Held) -> Value {
    let (rate, connections) = match block.curb {
        Some(Curb::Rate(rate)) => (Some(rate.to_string()), None),
        Some(Curb::Connections(count)) => (None, Some(count)),
        None => (None, None),
    };
    json!({
        "kind": target.kind(),
        "name": target.name(),
        "reason": block.reason,
        "by": if block.by_program { "program" } else { "operator" },
        "since": time(block.since),
        "until": block.until.map(time),
        "rate": rate,
        "connections": connections,
    })
}

pub(super) async fn queue(config: &Config) -> anyhow::Result<Queue> {
    let queue = Queue::open(Settings::from(config).only_looking(), CancellationToken::new())?;
    let unusable = || format!("cannot use the queue at redis.url = {}", config.shown_redis());
    queue.ready(PATIENCE).await.with_context(unusable)?;
    Ok(queue)
}

/// For the mail log, which a worker writes. What is done is done, also where there is no queue to note it in.
pub(super) async fn note(config: &Config, targets: &[Target], verb: &str, reason: &str) {
    let Some(first) = targets.first() else { return };
    let noted = async {
        let queue = queue(config).await?;
        for target in targets {
            queue.note_target(target, verb, reason).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = noted.await {
        complain(&format!("{first} is {verb}, but the mail log will not say by whom: {error:#}"));
    }
}

/// How a login is blocked now, if it is.
pub(super) async fn of_login(config: &Config, login: &str) -> anyhow::Result<Option<String>> {
    let target = Target::login(login)?;
    let (all, now) = announcer(config).await?.blocks().await?;
    let found = all.into_iter().find(|(other, _)| *other == target);
    Ok(found.map(|(_, block)| terms(&block, now)))
}

/// Until when, what is left, and why.
pub(super) fn terms(block: &Held, now: UnixMillis) -> String {
    let curb = match block.curb {
        Some(Curb::Rate(rate)) => format!("{rate}, "),
        Some(Curb::Connections(count)) => format!("{}, ", counted(count.into(), "connection", "connections")),
        None => String::new(),
    };
    let until = block.until.map_or_else(|| "until it is taken back".to_owned(), |until| left(until, now));
    let reason = if block.reason.is_empty() { "-" } else { &block.reason };
    format!("since {}, {until}: {curb}{reason}", time(block.since))
}

fn of(login: &str) -> Filter {
    Filter { login: Some(login.to_owned()), ..Filter::default() }
}

/// Holds what waits; says how much.
async fn hold(config: &Config, login: &str) -> anyhow::Result<u64> {
    let moved = queue(config).await?.hold_blocked(login, HOLD).await?;
    if moved.leased > 0 {
        let one = "delivery is under way still; it is held if this attempt fails";
        let many = "deliveries are under way still; they are held if this attempt fails";
        complain(&counted(moved.leased, one, many));
    }
    Ok(moved.jobs + moved.already)
}

pub(super) fn report(target: &Target, done: &str, json: bool, name: &str, count: Option<u64>) {
    if json {
        let mut object = json!({ "kind": target.kind(), "name": target.name(), "done": done });
        if let Some(count) = count {
            object[name] = count.into();
        }
        return say(&object.to_string());
    }
    let deliveries = count.map(|count| format!("; {} {name}", counted(count, "delivery is", "deliveries are")));
    let deliveries = deliveries.unwrap_or_default();
    say(&printable(&format!("{target} is {done}{deliveries}")));
}

pub(super) fn time(at: UnixMillis) -> String {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

pub(super) fn left(until: UnixMillis, now: UnixMillis) -> String {
    format!("for {} more", span(Duration::from_millis(until.saturating_sub(now))))
}
