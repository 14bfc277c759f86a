//! The operations, one file a verb: each builds the call of its script and reads the answer.

mod accompany;
mod act;
mod chunk;
mod claim;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod clock_tests;
mod counts;
mod delete;
mod depth;
mod enqueue;
mod flush;
mod hold;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod inside;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod late_tests;
mod list;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod node_tests;
mod offer;
mod park;
mod reap;
mod reclaim;
mod renew;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod repeat_tests;
mod scan;
mod settle;
mod split;
mod strays;
mod take;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod unfinished_tests;
mod unreadable;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod upgrade_tests;
mod verify;

pub(crate) use act::note;

/// How long a partition is waited for whose slot is moving to another server of a cluster.
pub(crate) const MOVE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a script answered, when it is none of the words it knows.
pub(crate) fn unexpected(script: &str, answer: &redis::Value) -> crate::error::Fault {
    crate::error::Fault::Unknown(format!("{script} answered {answer:?}"))
}
