//! `staffetta queue verify`: is every message, and every delivery, in its place?

use std::process::ExitCode;

use serde_json::json;
use staffetta_queue::{Finding, Queue, Verified};

use crate::arguments::Verify;
use crate::terminal::{counted, say};

/// Fails if something stays out of place, or if mail was lost.
pub(super) async fn print(queue: &Queue, wanted: &Verify) -> anyhow::Result<ExitCode> {
    let mut lost = false;
    let verified = queue
        .verify(wanted.repair, &mut |finding| {
            lost |= finding.problem.is_loss();
            say(&if wanted.json { as_json(finding) } else { finding.to_string() });
        })
        .await?;
    if wanted.json {
        let Verified { messages, jobs, unreadable, findings, mended } = verified;
        let numbers = json!({
            "messages": messages, "deliveries": jobs, "unreadable": unreadable, "findings": findings, "mended": mended,
        });
        say(&numbers.to_string());
    } else {
        say(&in_words(&verified, wanted.repair));
    }
    let sound = verified.findings == verified.mended && !lost;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(finding: &Finding) -> String {
    json!({
        "finding": finding.problem.name(),
        "id": finding.id.map(|id| id.to_string()),
        "partition": finding.partition,
        "about": finding.about,
        "text": finding.to_string(),
        "mended": finding.mended,
    })
    .to_string()
}

fn in_words(verified: &Verified, repair: bool) -> String {
    let messages = counted(verified.messages, "message", "messages");
    let deliveries = counted(verified.jobs, "open delivery", "open deliveries");
    let looked = format!("-- {messages}, {deliveries}.");
    let unreadable = match verified.unreadable {
        0 => String::new(),
        n => format!(
            " {}",
            counted(
                n,
                "message cannot be read (`queue list` says why).",
                "messages cannot be read (`queue list` says why)."
            )
        ),
    };
    let left = verified.findings - verified.mended;
    let outcome = match (verified.findings, left) {
        (0, _) => "Everything is in its place.".to_owned(),
        (_, 0) => format!("{} put right.", verified.mended),
        _ if repair => format!("{} put right, {left} cannot be.", verified.mended),
        _ => format!("{left} out of place; --repair puts right what can be."),
    };
    format!("{looked}{unreadable} {outcome}")
}
