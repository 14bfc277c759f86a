//! What a look at the whole queue finds out of place. See [`crate::Queue::verify`].

use std::fmt;

use staffetta_mail::QueueId;

/// Something that no sequence of operations leaves behind: a fault of this program, of Redis, or of a hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which partition.
    pub partition: u16,
    /// Of which message, if it is one's.
    pub id: Option<QueueId>,
    /// What.
    pub problem: Problem,
    /// Of what: the destination of a delivery, the key of Redis, the login and by how much; empty for a whole message.
    pub about: String,
    /// It was put right.
    pub mended: bool,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A message is listed and has no record any more. Nothing brings it back.
    Lost,
    /// Pieces of a body are missing. Nothing brings them back.
    Torn,
    /// Octets of a message would expire.
    Fading,
    /// A message has a record and is not listed.
    Unlisted,
    /// Which deliveries of a message are open is not known any more.
    Uncounted,
    /// An open delivery neither waits, nor is it leased or held: nobody would look at it again.
    Nowhere,
    /// An open delivery is in more than one place.
    Twice,
    /// A delivery that is over is still somewhere.
    Over,
    /// Deliveries wait for a destination that nobody would look at.
    Asleep,
    /// A destination is looked at for which nothing waits.
    Idle,
    /// A delivery of a message that does not exist.
    Ghost,
    /// A key of a message that does not exist.
    Leftover,
    /// The number of deliveries beyond the first of each message is wrong: metrics are.
    Miscounted,
    /// How many messages a login has in the queue is counted wrongly: it is refused too early, or too late.
    Misjudged,
}

impl Problem {
    /// The word for it, in JSON.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Does something of a message not come back?
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Lost | Self::Torn)
    }

    /// Is there something that puts it right? What is lost stays lost: a repair takes it off the list, so that it is
    /// found once.
    pub fn is_curable(self) -> bool {
        !matches!(self, Self::Torn)
    }

    /// Name, what is the matter, what a repair does.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Lost => ("lost", "the message is listed, and its content is gone", "it is listed no longer"),
            Self::Torn => ("torn", "pieces of its body are gone: it can only be deleted or bounced", ""),
            Self::Fading => ("fading", "its content would expire", "it stays"),
            Self::Unlisted => ("unlisted", "the message is there, and is not listed", "it is listed"),
            Self::Uncounted => {
                ("uncounted", "nothing says which of its deliveries are open", "those that are somewhere")
            }
            Self::Nowhere => ("nowhere", "a delivery is in no queue", "it waits, and is due"),
            Self::Twice => ("twice", "a delivery is in two places", "it is in one"),
            Self::Over => ("over", "a delivery is over and still in a queue", "it is not"),
            Self::Asleep => ("asleep", "mail waits for a destination that no worker looks at", "workers look at it"),
            Self::Idle => ("idle", "workers look at a destination without mail", "they do not"),
            Self::Ghost => ("ghost", "a delivery of a message that does not exist", "it is gone"),
            Self::Leftover => ("leftover", "something of a message that does not exist", "it is gone"),
            Self::Miscounted => ("miscounted", "the number of deliveries in metrics is wrong", "it is right"),
            Self::Misjudged => ("misjudged", "the number of messages of a login is wrong", "it is right"),
        }
    }
}

/// A line for an operator.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, matter, cure) = self.problem.words();
        match self.id {
            Some(id) => write!(f, "{id}: {matter}")?,
            None => write!(f, "partition {}: {matter}", self.partition)?,
        }
        if !self.about.is_empty() {
            write!(f, ": {}", self.about)?;
        }
        if self.mended { write!(f, " (now {cure})") } else { Ok(()) }
    }
}

/// What there was to look at, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Messages that are listed.
    pub messages: u64,
    /// Open deliveries.
    pub jobs: u64,
    /// Messages that only a newer program can read; their deliveries were not looked at.
    pub unreadable: u64,
    /// Things out of place.
    pub findings: u64,
    /// Of these, put right.
    pub mended: u64,
}
