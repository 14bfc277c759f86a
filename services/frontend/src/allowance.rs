//! How much a login may send, counted over all pods: messages, at DATA, and recipients, at RCPT; and how many messages of it
//! may wait, at MAIL. What the auth service says of one account goes before what the configuration says of all.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use staffetta_config::Frontend;
use staffetta_proto::auth::v1::authenticate_response::{Allowance as Said, Limits as Told};
use staffetta_queue::{Queue, Rate};

use crate::advance::{Advance, Wish};
use crate::depth::Depth;
use crate::quota::Quota;

/// What is counted for logins.
pub(crate) struct Allowance {
    messages: Quota,
    recipients: Advance,
    /// What may be in the queue at a time.
    pub(crate) depth: Depth,
    standard: ArcSwap<Limits>,
}

/// The time of a number without one.
const HOUR: Duration = Duration::from_secs(3600);

/// What one login may send; absent: as much as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    messages: Option<Rate>,
    recipients: Option<Rate>,
    /// Octets of its largest message, if those of the listener are too many.
    pub(crate) size: Option<u64>,
}

impl Allowance {
    pub(crate) fn new(queue: &Queue, frontend: &Frontend) -> Self {
        Self {
            messages: Quota::new(queue, "message"),
            recipients: Advance::new(queue, "recipient"),
            depth: Depth::new(queue, frontend.queued_per_login),
            standard: ArcSwap::from_pointee(Limits::of_all(frontend)),
        }
    }

    /// What holds for all from now on.
    pub(crate) fn change(&self, frontend: &Frontend) {
        self.standard.store(Arc::new(Limits::of_all(frontend)));
        self.depth.change(frontend.queued_per_login);
    }

    /// What holds for an account of which this is told.
    pub(crate) fn limits(&self, told: Told) -> Limits {
        let standard = self.standard.load();
        Limits {
            messages: rate(told.messages, standard.messages),
            recipients: rate(told.recipients, standard.recipients),
            size: told.size.filter(|octets| *octets > 0),
        }
    }

    /// How many messages a login may send. `own`: what holds for it and not for all.
    pub(crate) fn messages(&self, own: Option<&Limits>) -> Option<Rate> {
        own.map_or_else(|| self.standard.load().messages, |own| own.messages)
    }

    /// May the login send one more message? It counts from now on.
    pub(crate) async fn message(&self, login: &str, rate: Rate) -> bool {
        let granted = self.messages.acquire(login, rate).await;
        if !granted {
            self.messages.refused();
        }
        granted
    }

    /// May it name one more recipient, as far as that is known here? Then he counts from now on; else ask.
    pub(crate) fn recipient_at_hand(&self, login: &str, own: Option<&Limits>) -> Result<(), Wish> {
        let rate = own.map_or_else(|| self.standard.load().recipients, |own| own.recipients);
        let Some(rate) = rate else { return Ok(()) };
        self.recipients.draw(login, rate)
    }

    /// May it name the recipient? `ahead`: how many it has named behind him.
    pub(crate) async fn recipient(&self, login: &str, wish: Wish, ahead: u32) -> bool {
        let granted = self.recipients.acquire(login, wish, ahead).await;
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

impl Limits {
    /// Those of whoever has none of its own.
    fn of_all(frontend: &Frontend) -> Self {
        Self { messages: frontend.messages_per_login, recipients: frontend.recipients_per_login, size: None }
    }
}

/// What is said of one account, or what holds for all.
fn rate(said: Option<Said>, standard: Option<Rate>) -> Option<Rate> {
    match said {
        None => standard,
        Some(Said { count: 0, .. }) => None,
        Some(Said { count, period: 0 }) => Some(Rate { count, per: standard.map_or(HOUR, |rate| rate.per) }),
        Some(Said { count, period }) => Some(Rate { count, per: Duration::from_millis(period) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_account_goes_before_what_holds_for_all() {
        let day = Duration::from_secs(24 * 3600);
        let standard = Some(Rate { count: 10, per: day });
        for (said, all, expected) in [
            (None, None, None),
            (None, standard, standard),
            (Some((0, 0)), standard, None),
            (Some((0, 5)), standard, None),
            (Some((7, 0)), standard, Some(Rate { count: 7, per: day })),
            (Some((7, 0)), None, Some(Rate { count: 7, per: HOUR })),
            (Some((7, 60_000)), standard, Some(Rate { count: 7, per: Duration::from_secs(60) })),
            (Some((7, 60_000)), None, Some(Rate { count: 7, per: Duration::from_secs(60) })),
        ] {
            let said = said.map(|(count, period)| Said { count, period });
            assert_eq!(rate(said, all), expected, "{said:?} {all:?}");
        }
    }
}
