//! What an attempt means for its job: a pure function from results to a plan.
//!
//! [`decide`] looks at what happened to each recipient, at what was judged of the message and at the rules, and says
//! what is settled, what the sender must be told and when the rest is tried again.

use std::time::Duration;

use staffetta_mail::{Envelope, Recipient, RemoteReply, ReversePath, Status};

use crate::attempt::{Attempt, Judgement, Rules, State};
use crate::fate::{Failed, Fate};

/// RFC 3463: delivery time expired, for good.
const EXPIRED: Status = Status::new(5, 4, 7);

/// What becomes of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be tried again, as indices into the envelope.
    pub remaining: Vec<u32>,
    /// Not before this.
    pub after: Duration,
    /// Of the last failure among the remaining.
    pub reason: Option<Failed>,
    /// The next hop rests this long.
    pub back_off: Option<Duration>,
    /// Failed for good just now; the sender has not asked to be spared.
    pub failed: Vec<(u32, Failed)>,
    /// The sender must be told that these are late.
    pub delayed: Vec<(u32, Failed)>,
    /// Delivered to a server that will not report the success that the sender asked for.
    pub relayed: Vec<(u32, RemoteReply)>,
    /// Delivered.
    pub delivered: Vec<u32>,
    /// The answer to the final dot is not known for so many.
    pub doubtful: u32,
    /// Given up because of the message's age (a part of what failed).
    pub expired: bool,
}

impl Plan {
    /// Must a report be queued?
    pub fn reports(&self) -> bool {
        !(self.failed.is_empty() && self.delayed.is_empty() && self.relayed.is_empty())
    }
}

/// A recipient of the attempt has no result: nothing may be settled, or it would be lost without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("recipient {0} of the attempt has no result")]
pub struct Incomplete(pub u32);

/// Sorts the results of an attempt. Every recipient ends in exactly one of: delivered, remaining, failed for good.
///
/// # Errors
/// Not all have a result.
pub fn decide(
    attempt: Attempt,
    envelope: &Envelope,
    rules: &Rules,
    now: std::time::Instant,
) -> Result<Plan, Incomplete> {
    let mut attempt = attempt;
    let judged = attempt.judge(rules, now);
    let mut plan = Plan { after: judged.retry, expired: judged.expired, ..Plan::default() };
    for (index, state) in attempt.into_table() {
        let State::Done(fate) = state else { return Err(Incomplete(index)) };
        match fate {
            Fate::Delivered { reply, dsn_passed_on } => delivered(&mut plan, envelope, index, reply, dsn_passed_on),
            Fate::Failed(failed) => {
                plan.doubtful += u32::from(failed.doubtful);
                if failed.permanent {
                    report_failure(&mut plan, envelope, index, failed);
                } else if judged.expired {
                    report_failure(&mut plan, envelope, index, give_up(failed));
                } else {
                    defer(&mut plan, envelope, index, failed, judged, rules);
                }
            }
        }
    }
    two_reports(&mut plan);
    Ok(plan)
}

/// If everybody who waits were deferred now, would the sender be told of it?
pub fn owes_delay_notice(attempt: &mut Attempt, envelope: &Envelope, rules: &Rules, now: std::time::Instant) -> bool {
    attempt.judge(rules, now).late && attempt.waiting().any(|index| wants(envelope, index, Recipient::wants_delay))
}

/// A settlement carries two reports: a delay notice waits for the next attempt if success and failure are reported.
fn two_reports(plan: &mut Plan) {
    if !plan.relayed.is_empty() && !plan.failed.is_empty() {
        plan.delayed.clear();
    }
}

fn delivered(plan: &mut Plan, envelope: &Envelope, index: u32, reply: RemoteReply, dsn_passed_on: bool) {
    plan.delivered.push(index);
    if !dsn_passed_on && wants(envelope, index, Recipient::wants_success) {
        plan.relayed.push((index, reply));
    }
}

fn report_failure(plan: &mut Plan, envelope: &Envelope, index: u32, failed: Failed) {
    if wants(envelope, index, Recipient::wants_failure) {
        plan.failed.push((index, failed));
    }
}

fn defer(plan: &mut Plan, envelope: &Envelope, index: u32, failed: Failed, judged: Judgement, rules: &Rules) {
    plan.remaining.push(index);
    if failed.back_off {
        plan.back_off = Some(rules.back_off);
    }
    if failed.unfinished {
        plan.after = plan.after.max(rules.doubt);
    }
    if judged.late && wants(envelope, index, Recipient::wants_delay) {
        plan.delayed.push((index, failed.clone()));
    }
    plan.reason = Some(failed);
}

/// A temporary failure that has become final.
fn give_up(failed: Failed) -> Failed {
    Failed { permanent: true, status: EXPIRED, ..failed }
}

/// Reports go to a sender who is there (RFC 5321 section 6.1: never about a report) and wants them (RFC 3461).
fn wants(envelope: &Envelope, index: u32, asked: impl Fn(&Recipient) -> bool) -> bool {
    !matches!(envelope.sender, ReversePath::Null) && envelope.recipients.get(index as usize).is_some_and(asked)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "plan_tests.rs"]
mod tests;
