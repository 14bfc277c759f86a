//! What goes wrong, and whether it may have gone right all the same.
//!
//! [`Fault`] is the verdict on one command. The difference between "refused" and "unknown" decides what a client of the
//! relay hears: a refusal can be answered at once, an unknown outcome must be resolved by asking again with the same id.
//! [`Trouble`] is why there is no connection to send one over.

use std::fmt::Display;

use redis::{RedisError, ServerError};
use staffetta_mail::QueueId;

use crate::format::WriteError;

/// Why a message was not accepted. Nothing is queued in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// Redis is above its memory limit: `452 4.3.1`.
    #[error("the queue is full")]
    Full,
    /// Redis is away, refused, or could not say in time and the message was withdrawn: `451 4.3.0`.
    #[error("the queue is not writable: {0}")]
    Unavailable(String),
}

/// A failed operation of a worker or an operator; always safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is away or refused.
    #[error("the queue cannot be used: {0}")]
    Unavailable(String),
    /// A record that cannot be read here; a newer program may be able to.
    #[error("{0} cannot be read: {1}")]
    Unreadable(QueueId, String),
    /// The store of large bodies cannot be used, and the body is in it.
    #[error("the store of large bodies cannot be used: {0}")]
    StoreAway(String),
    /// A piece of a body is not there.
    #[error("the body of {0} is damaged: {1}")]
    Damaged(QueueId, String),
    /// The settings make no sense; happens where they are given only.
    #[error("{0}")]
    Settings(String),
}

/// The outcome of a command that did not answer as hoped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Not executed: memory is short.
    #[error("Redis is at its memory limit")]
    Full,
    /// Not executed.
    #[error("{0}")]
    Refused(String),
    /// Not executed: the slot is moving to another server of the cluster, or has moved. Soon it may be known where it is.
    #[error("{0}")]
    Elsewhere(String),
    /// Not executed: this login of Redis must not (ACL). Waiting does not help.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody knows.
    #[error("{0}")]
    Unknown(String),
}

/// Why a server cannot be used, for the operator. No login is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody answers, or not yet. It may pass by itself.
    #[error("{0}")]
    Away(String),
    /// Somebody answers, and something is wrong with it.
    #[error("{0}")]
    Wrong(String),
}

impl Trouble {
    /// With a place, or whatever else, in front of its text.
    pub(crate) fn behind(self, front: impl Display) -> Self {
        let longer = |text: String| format!("{front}: {text}");
        match self {
            Self::Away(text) => Self::Away(longer(text)),
            Self::Wrong(text) => Self::Wrong(longer(text)),
        }
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        let (Trouble::Away(text) | Trouble::Wrong(text)) = trouble;
        text
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<Fault> for EnqueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::Refused(text) | Fault::Elsewhere(text) | Fault::Forbidden(text) | Fault::Unknown(text) => {
                Self::Unavailable(text)
            }
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<&ServerError> for Fault {
    fn from(error: &ServerError) -> Self {
        classify(error.code(), error.to_string())
    }
}

impl From<RedisError> for Fault {
    /// Without a code the connection or the answer was lost on the way.
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some(code) => classify(code, error.to_string()),
            None if error.is_connection_refusal() => Self::Refused(error.to_string()),
            None => Self::Unknown(error.to_string()),
        }
    }
}

/// The table: which error codes of Redis promise that the command did nothing. With the shebang line in our scripts the
/// checks behind these codes come before a script's first line.
fn classify(code: &str, text: String) -> Fault {
    match code {
        "OOM" => Fault::Full,
        "NOPERM" => Fault::Forbidden(text),
        code if is_elsewhere(code) => Fault::Elsewhere(text),
        "READONLY" | "NOREPLICAS" | "MISCONF" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "CROSSSLOT" | "BUSY"
        | "NOSCRIPT" | "NOAUTH" | "WRONGPASS" | "DENIED" | "EXECABORT" => Fault::Refused(text),
        _ => Fault::Unknown(text),
    }
}

/// Error codes that say that a slot, or a part of it, is not here.
pub(crate) fn is_elsewhere(code: &str) -> bool {
    matches!(code, "MOVED" | "ASK" | "TRYAGAIN")
}

/// Error codes after which the connection is of no use: another server must be found, or this one waited for.
pub(crate) fn spoils_connection(code: &str) -> bool {
    matches!(
        code,
        "READONLY"
            | "LOADING"
            | "MASTERDOWN"
            | "CLUSTERDOWN"
            | "MOVED"
            | "NOAUTH"
            | "WRONGPASS"
            | "NOREPLICAS"
            | "MISCONF"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_promise_that_nothing_happened_are_refusals() {
        for code in ["READONLY", "NOREPLICAS", "MISCONF", "LOADING", "CLUSTERDOWN", "BUSY", "NOSCRIPT"] {
            assert_eq!(classify(code, String::new()), Fault::Refused(String::new()), "{code}");
        }
        for code in ["MOVED", "ASK", "TRYAGAIN"] {
            assert_eq!(classify(code, String::new()), Fault::Elsewhere(String::new()), "{code}");
        }
        assert_eq!(classify("OOM", String::new()), Fault::Full);
        for code in ["ERR", "UNBLOCKED", "WRONGTYPE", "SOMETHING"] {
            assert_eq!(classify(code, String::new()), Fault::Unknown(String::new()), "{code}");
        }
    }

    #[test]
    fn a_lost_connection_leaves_the_outcome_unknown() {
        let reset = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(Fault::from(reset), Fault::Unknown(_)));
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert!(matches!(Fault::from(refused), Fault::Refused(_)));
    }
}
