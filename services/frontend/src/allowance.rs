//! How much a login may send, counted over all pods: messages, at DATA, and recipients, at RCPT.

use staffetta_config::Frontend;
use staffetta_queue::{Queue, Rate};

use crate::advance::Advance;
use crate::quota::Quota;

/// What is counted for logins.
pub(crate) struct Allowance {
    messages: Quota,
    recipients: Advance,
    standard: Limits,
}

/// What one login may send; absent: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) messages: Option<Rate>,
    pub(crate) recipients: Option<Rate>,
}

impl Allowance {
    pub(crate) fn new(queue: &Queue, frontend: &Frontend) -> Self {
        Self {
            messages: Quota::new(queue, "message"),
            recipients: Advance::new(queue, "recipient"),
            standard: Limits { messages: frontend.messages_per_login, recipients: frontend.recipients_per_login },
        }
    }

    /// May the login send one more message? It counts from now on.
    pub(crate) async fn message(&self, login: &str) -> bool {
        let Some(rate) = self.standard.messages else { return true };
        let granted = self.messages.acquire(login, rate).await;
        if !granted {
            self.messages.refused();
        }
        granted
    }

    /// May it name one more recipient? He counts from now on. `ahead`: how many it has named behind him.
    pub(crate) async fn recipient(&self, login: &str, ahead: impl FnOnce() -> u32) -> bool {
        let Some(rate) = self.standard.recipients else { return true };
        let granted = self.recipients.acquire(login, rate, ahead).await;
        if !granted {
            self.recipients.refused();
        }
        granted
    }

    /// Gives back what was taken in advance and is not needed; never ends.
    pub(crate) async fn settle(&self) {
        self.recipients.settle().await;
    }

    /// Gives back what is left, when no session is.
    pub(crate) async fn end(&self) {
        self.recipients.end().await;
    }
}
