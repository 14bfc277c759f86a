//! What happened to one recipient.

use staffetta_mail::{RemoteReply, Status};
use staffetta_policy::classify::{Action, Failure, classify};
use staffetta_policy::diagnosis::Trouble;
use staffetta_smtp::client::Stage;

/// The result of an attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A server took responsibility.
    Delivered {
        /// With these words.
        reply: RemoteReply,
        /// It reports success itself, if success is to be reported.
        dsn_passed_on: bool,
    },
    /// None did.
    Failed(Failed),
}

/// A failed recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Trying again is no use.
    pub permanent: bool,
    /// Class 4 or 5, as `permanent` says.
    pub status: Status,
    /// For the log and the report.
    pub text: String,
    /// What the server said.
    pub reply: Option<RemoteReply>,
    /// Which server that was.
    pub host: Option<String>,
    /// What it was, before anybody reads the server's words.
    pub trouble: Trouble,
    /// The next hop as a whole is in trouble: leave it alone for a while.
    pub back_off: bool,
    /// The final dot was out and its answer is not known: the server may have the message, and the next attempt may be
    /// its second copy (RFC 1047).
    pub doubtful: bool,
    /// And the server may still be at work on it: a second copy now would be one too many.
    pub unfinished: bool,
}

impl Failed {
    /// What a failure means once there is no other host to try. `undecided`: one that was tried may take the mail another time,
    /// even if the last one never will.
    pub(crate) fn of(failure: &Failure, domain: &str, undecided: bool) -> Self {
        let verdict = classify(failure, domain);
        let may_be_taken = undecided && verdict.action == Action::NextHost;
        let (reply, host) = match failure {
            Failure::Session { peer, failure } => (failure.reply().cloned(), Some(peer.host.clone())),
            _ => (None, None),
        };
        Self {
            permanent: verdict.finally() == Action::Bounce && !may_be_taken,
            host: host.filter(|_| reply.is_some()),
            status: if may_be_taken { verdict.status.with_class_of(400) } else { verdict.status },
            text: verdict.text,
            reply,
            trouble: Trouble::of(failure),
            back_off: verdict.back_off,
            doubtful: matches!(failure, Failure::Session { failure, .. } if failure.is_ambiguous()),
            unfinished: matches!(failure, Failure::Session { failure, .. } if failure.is_unfinished()),
        }
    }

    /// The same, final by this rule whatever the server thinks.
    pub(crate) fn made_final(self, rule: &str) -> Self {
        let text = format!("{}; final by {rule}", self.text);
        Self { permanent: true, status: self.status.with_class_of(500), text, back_off: false, ..self }
    }

    /// Has the server refused the recipient for good, whatever the message?
    pub fn refuses_recipient(&self) -> bool {
        self.trouble == Trouble::Answered(Stage::Rcpt) && self.reply.as_ref().is_some_and(|reply| reply.code / 100 == 5)
    }
}

impl Fate {
    /// What a failure means once there is no other host to try.
    pub fn of(failure: &Failure, domain: &str) -> Self {
        Self::Failed(Failed::of(failure, domain, false))
    }

    /// The same at the end of a round; `undecided` as in [`Others`](crate::Others).
    pub fn of_last(failure: &Failure, domain: &str, undecided: bool) -> Self {
        Self::Failed(Failed::of(failure, domain, undecided))
    }
}
