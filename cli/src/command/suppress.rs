//! `staffetta suppress`: recipients that get no mail, told to all frontends and workers at once.

use std::process::ExitCode;

use staffetta_queue::Target;

use super::block::{listed, note, open, report};
use crate::arguments::{Add, Remove, Suppress};
use crate::terminal::complain;

/// Recipients that are noted for the mail log at a time.
const GROUP: usize = 100;

pub(super) async fn run(suppress: Suppress) -> anyhow::Result<ExitCode> {
    match suppress {
        Suppress::Add(add) => self::add(&add).await,
        Suppress::Remove(remove) => self::remove(&remove).await,
        Suppress::List(list) => {
            listed(&list, |target| matches!(target, Target::Recipient(_)), "No recipient is suppressed.").await
        }
    }
}

async fn add(add: &Add) -> anyhow::Result<ExitCode> {
    let terms = &add.terms;
    let (config, announcer) = open(&terms.named.file).await?;
    let mut done = Vec::new();
    for recipient in &add.recipients {
        if !announcer.block(recipient, terms.life, &terms.reason).await? {
            note(&config, &done, "suppressed", &terms.reason).await;
            anyhow::bail!("{recipient}: there are too many: end some with `staffetta suppress remove`");
        }
        done.push(recipient.clone());
        report(recipient, "suppressed", terms.named.json, "", None);
        // Whoever stops a long list half way has done what was reported.
        if done.len() >= GROUP {
            note(&config, &std::mem::take(&mut done), "suppressed", &terms.reason).await;
        }
    }
    note(&config, &done, "suppressed", &terms.reason).await;
    Ok(ExitCode::SUCCESS)
}

async fn remove(remove: &Remove) -> anyhow::Result<ExitCode> {
    let (config, announcer) = open(&remove.named.file).await?;
    let mut done = Vec::new();
    for recipient in &remove.recipients {
        if announcer.unblock(recipient).await? {
            done.push(recipient.clone());
            report(recipient, "suppressed no longer", remove.named.json, "", None);
        } else {
            complain(&format!("{recipient} is not suppressed"));
        }
    }
    note(&config, &done, "unsuppressed", "").await;
    Ok(if done.len() == remove.recipients.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
