//! Why a message, or one recipient of it, was not taken.

use staffetta_policy::relay::Objection;

/// See the module. Reply, log and metrics follow from it by matches without `_`; nothing is guessed from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The relay policy says no, or could not find out.
    Policy(Objection),
    /// Its From field does not fit the login.
    Author(AuthorFault),
    /// There is no place for it.
    Queue(NotQueued),
}

/// Why there is no place for a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// Neither the queue nor this process' share of memory has room.
    Full,
    /// The queue cannot be written.
    Unavailable,
}

/// Why a login may not send a message with this From field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorFault {
    /// Somebody in it is not the login's to be.
    NotOwned,
    /// It cannot be understood.
    Unreadable,
    /// Nobody could say.
    Unknown,
}

impl Cause {
    /// A label for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Policy(objection) => objection.label(),
            Self::Author(AuthorFault::NotOwned) => "author_not_owned",
            Self::Author(AuthorFault::Unreadable) => "author_unreadable",
            Self::Author(AuthorFault::Unknown) => "author_unknown",
            Self::Queue(NotQueued::Full) => "queue_full",
            Self::Queue(NotQueued::Unavailable) => "queue_unavailable",
        }
    }
}
