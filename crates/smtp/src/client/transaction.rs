//! One transaction on its way: how far its commands and its answers are.

use super::{Failure, Outcome, Report, Stage, TransactionId, Transfer};

/// A reply on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    /// To a chunk that is not the last.
    Chunk,
    /// SMTP: the one reply to the dot, or to the last chunk.
    Final,
    /// LMTP: the reply for this recipient.
    FinalOf(usize),
    /// To the empty message that takes a `354` back which no recipient justified.
    Empty,
}

impl Expected {
    pub(super) const fn stage(self) -> Stage {
        match self {
            Self::Reset | Self::Empty => Stage::Reset,
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            // Behind a chunk whose answer is missing the rest may have arrived.
            Self::Chunk | Self::Final | Self::FinalOf(_) => Stage::Final,
        }
    }
}

/// What goes out next for the open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Mail,
    Rcpt(usize),
    Data,
    /// All commands are out.
    Answers,
    /// The shell writes the content.
    Content,
}

/// A transaction that has begun, or waits to.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: TransactionId,
    pub(super) transaction: Transfer,
    pub(super) step: Due,
    pub(super) mail_accepted: bool,
    /// No more commands: MAIL was refused.
    pub(super) aborted: bool,
    /// The caller has taken the message back: its content never goes out.
    pub(super) withdrawn: bool,
    /// MAIL was refused perhaps only because of what went out before it: try once more, on its own.
    pub(super) again: bool,
    pub(super) accepted: Vec<usize>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) dsn: bool,
    /// Content follows the answers to RCPT, by BDAT.
    pub(super) chunking: bool,
    /// Only a question: it ends with the answers to RCPT, and DATA is never sent.
    pub(super) probe: bool,
}

impl Open {
    pub(super) fn new(id: TransactionId, transaction: Transfer) -> Self {
        let outcomes = vec![None; transaction.recipients.len()];
        let (accepted, step) = (Vec::new(), Due::Mail);
        let (mail_accepted, aborted, withdrawn, again, dsn) = (false, false, false, false, false);
        let (chunking, probe) = (false, false);
        Self {
            id,
            transaction,
            step,
            mail_accepted,
            aborted,
            withdrawn,
            again,
            accepted,
            outcomes,
            dsn,
            chunking,
            probe,
        }
    }

    /// The same from its beginning.
    pub(super) fn afresh(self) -> Self {
        Self { probe: self.probe, ..Self::new(self.id, self.transaction) }
    }

    /// What goes out when RCPT does not any more.
    pub(super) const fn after_recipients(&self) -> Due {
        if self.probe || self.chunking { Due::Answers } else { Due::Data }
    }

    /// Would content be next if all answers were there?
    pub(super) const fn awaits_chunks(&self) -> bool {
        let may = self.chunking && !self.probe && !self.aborted;
        may && matches!(self.step, Due::Answers) && !self.accepted.is_empty()
    }

    /// Can nothing come of it any more but its report?
    pub(super) const fn is_over(&self) -> bool {
        match self.step {
            _ if self.aborted => true,
            Due::Answers => self.probe || self.chunking && self.accepted.is_empty(),
            Due::Data => self.accepted.is_empty(),
            Due::Mail | Due::Rcpt(_) | Due::Content => false,
        }
    }

    pub(super) fn settle(&mut self, index: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            slot.get_or_insert(outcome);
        }
    }

    pub(super) fn settle_all(&mut self, outcome: &Outcome) {
        for slot in &mut self.outcomes {
            slot.get_or_insert_with(|| outcome.clone());
        }
    }

    pub(super) fn report(self) -> (TransactionId, Report) {
        // Every path settles all recipients first; a gap would be our own bug and is reported as "try again".
        let gap = || Outcome::Failed(Failure::Malformed { stage: Stage::Final, what: "no outcome" });
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(gap)).collect();
        (self.id, Report { outcomes, dsn_passed_on: self.dsn })
    }
}
