//! `staffetta suppress`: recipients that get no mail, told to all frontends and workers at once. And `staffetta
//! destination` and `source`: servers that get none for a while, and addresses of ours from which none is sent, told to all workers.

use std::process::ExitCode;

use staffetta_config::{Config, Service};
use staffetta_delivery::forget_replies;
use staffetta_queue::Target;

use super::block::{listed, note, open, queue, report};
use crate::arguments::{Destination, Named, Source, Suppress, Terms};
use crate::terminal::complain;

/// Names that are noted for the mail log at a time.
const GROUP: usize = 100;

/// How one of the two speaks of what it does.
struct Words {
    /// Done, and done in the mail log.
    done: &'static str,
    /// The same, where it might have been done in other ways.
    is_done: &'static str,
    /// Undone, as said here and in the mail log.
    undone: (&'static str, &'static str),
    /// Ends some of them.
    undo: &'static str,
    /// Where to look for the name of one that is not there.
    names: &'static str,
}

const SUPPRESSION: Words = Words {
    done: "suppressed",
    is_done: "suppressed",
    undone: ("suppressed no longer", "unsuppressed"),
    undo: "staffetta suppress remove",
    names: "`staffetta suppress list` has all of them",
};
const SUSPENSION: Words = Words {
    done: "suspended",
    is_done: "suspended, and gets no less than usual",
    undone: ("resumed", "resumed"),
    undo: "staffetta destination resume",
    names: "`staffetta destination list` has the names, and `staffetta resolve DOMAIN` those that hold for a domain",
};

pub(super) async fn run(suppress: Suppress) -> anyhow::Result<ExitCode> {
    match suppress {
        Suppress::Add(add) => begin(&add.recipients, &add.terms, &SUPPRESSION).await,
        Suppress::Remove(remove) => end(&remove.recipients, &remove.named, &SUPPRESSION).await,
        Suppress::List(list) => {
            listed(&list, |target| matches!(target, Target::Recipient(_)), "No recipient is suppressed.").await
        }
    }
}

pub(super) async fn destination(destination: Destination) -> anyhow::Result<ExitCode> {
    match destination {
        Destination::Suspend(suspend) => {
            warn_of_strangers(&suspend.names, &suspend.terms.named)?;
            begin(&suspend.names, &suspend.terms, &SUSPENSION).await
        }
        Destination::Resume(resume) => end(&resume.names, &resume.named, &SUSPENSION).await,
        Destination::List(list) => {
            let is_meant = |target: &Target| target.servers().is_some() || matches!(target, Target::Unpipelined(_));
            listed(&list, is_meant, "No destination is suspended, or gets less.").await
        }
    }
}

pub(super) async fn source(source: Source) -> anyhow::Result<ExitCode> {
    match source {
        Source::Suspend(suspend) => {
            warn_of_strangers(&suspend.addresses, &suspend.terms.named)?;
            begin(&suspend.addresses, &suspend.terms, &SUSPENSION).await
        }
        Source::Resume(resume) => end(&resume.addresses, &resume.named, &SUSPENSION).await,
        Source::List(list) => {
            listed(&list, |target| matches!(target, Target::Source(_)), "No address is suspended.").await
        }
    }
}

/// An address or a pool that is none of ours is most likely a slip: another one goes on sending.
fn warn_of_strangers(targets: &[Target], named: &Named) -> anyhow::Result<()> {
    let sources = named.file.load(Service::Delivery)?.delivery.source;
    for target in targets {
        let (is_ours, what) = match (target, target.pool()) {
            (Target::Source(address), _) => {
                (sources.iter().any(|source| source.address.to_canonical() == *address), target.name())
            }
            (_, Some((_, pool))) => {
                (sources.iter().any(|source| source.pool.eq_ignore_ascii_case(pool)), format!("the pool {pool}"))
            }
            _ => continue,
        };
        if !is_ours {
            complain(&format!("note: no [[delivery.source]] of this configuration has {what}"));
        }
    }
    Ok(())
}

async fn begin(targets: &[Target], terms: &Terms, words: &Words) -> anyhow::Result<ExitCode> {
    let (config, announcer) = open(&terms.named.file).await?;
    let mut done = Vec::new();
    for target in targets {
        if !announcer.block(target, terms.life, &terms.reason).await? {
            note(&config, &done, words.done, &terms.reason).await;
            anyhow::bail!("{target}: there are too many: end some with `{}`", words.undo);
        }
        done.push(target.clone());
        report(target, words.done, terms.named.json, "", None);
        // Whoever stops a long list half way has done what was reported.
        if done.len() >= GROUP {
            note(&config, &std::mem::take(&mut done), words.done, &terms.reason).await;
        }
    }
    note(&config, &done, words.done, &terms.reason).await;
    Ok(ExitCode::SUCCESS)
}

async fn end(targets: &[Target], named: &Named, words: &Words) -> anyhow::Result<ExitCode> {
    let (config, announcer) = open(&named.file).await?;
    let listed = match targets {
        [Target::Destination(_), ..] => announcer.blocks().await?.0.into_iter().map(|(target, _)| target).collect(),
        _ => Vec::new(),
    };
    let (mut done, mut servers, mut all) = (Vec::new(), Vec::new(), true);
    for target in targets {
        let before = done.len();
        for target in [target.clone()].into_iter().chain(pools_of(target, &listed)) {
            let mut was = announcer.unblock(&target).await?;
            for bounces in listed.iter().filter(|other| is_of_rule(other, &target)) {
                was |= announcer.unblock(bounces).await?;
                servers.extend(bounces.servers().map(str::to_owned));
            }
            if was {
                report(&target, words.undone.0, named.json, "", None);
                servers.extend(target.servers().map(str::to_owned));
                done.push(target);
            }
        }
        if done.len() == before {
            all = false;
            complain(&format!("{target} is not {}", words.is_done));
        }
    }
    if !all {
        complain(words.names);
    }
    note(&config, &done, words.undone.1, "").await;
    if let Err(error) = forget(&config, &servers).await {
        complain(&format!("what servers have said until now counts on: {error:#}"));
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of replies has ended: those of before do not count any more.
async fn forget(config: &Config, servers: &[String]) -> anyhow::Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let queue = queue(config).await?;
    for site in servers {
        forget_replies(&queue, &config.delivery, site).await?;
    }
    Ok(())
}

/// What holds for a destination as far as mail comes from one pool of our addresses.
fn pools_of(target: &Target, listed: &[Target]) -> Vec<Target> {
    let is_of = |other: &&Target| other.pool().is_some_and(|(servers, _)| servers == target.name());
    let names = listed.iter().filter(is_of).filter_map(Target::servers);
    let mut pools: Vec<_> = names.filter_map(|name| Target::destination(name).ok()).collect();
    pools.dedup();
    pools
}

/// Does it say that replies of these servers are final by a rule? They may be named with the rule, too.
fn is_of_rule(other: &Target, servers: &Target) -> bool {
    let (Target::Bounce { servers: name, .. }, Target::Destination(meant)) = (other, servers) else { return false };
    name == meant || other.name() == *meant
}
