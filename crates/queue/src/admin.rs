//! The queue as operators and metrics see it.

use std::sync::Arc;
use std::time::Duration;

use staffetta_mail::{Address, QueueId, Status};

use crate::{Destination, Message, Target, UnixMillis};

/// Numbers for the metrics, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting and due. Exact up to 256 due destinations in a partition, an estimate above.
    pub ready: u64,
    /// Waiting for a later time.
    pub scheduled: u64,
    /// Being delivered.
    pub leased: u64,
    /// Held by an operator, or as poison: until they are released or expire.
    pub held: u64,
    /// Messages.
    pub messages: u64,
    /// How long the oldest job is due and not claimed.
    pub oldest_ready: Duration,
    /// Since the oldest message arrived that is not held, while any job waits for a later time. Exact unless more than 64
    /// older ones are held in its partition; never too little.
    pub oldest_scheduled: Duration,
    /// Since the oldest message arrived that is being delivered, of the 64 leases in each partition that end first.
    pub oldest_leased: Duration,
    /// Since the oldest message arrived that is held, of the 64 in each partition whose life ends first.
    pub oldest_held: Duration,
    /// Octets used by Redis, and its limit (0: none).
    pub memory: (u64, u64),
}

/// A message as operators see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The message.
    pub message: Arc<Message>,
    /// Its open jobs.
    pub jobs: Vec<JobState>,
    /// Its body lies in the store of `spool.url`, not in Redis.
    pub is_in_store: bool,
}

impl Entry {
    /// The jobs that a selection means: by domain or recipient, it is never about the rest of a message.
    pub fn selected(&self, filter: &Filter) -> impl Iterator<Item = &JobState> {
        self.jobs.iter().filter(|job| {
            let to = |wanted: &str| self.addresses(job).any(|address| is_meant(address, wanted));
            filter.destination.as_ref().is_none_or(|wanted| *wanted == job.destination)
                && filter.recipient.as_deref().is_none_or(to)
        })
    }

    /// Those recipients of a job that a selection means.
    pub(crate) fn selected_of(&self, job: &JobState, filter: &Filter) -> impl Iterator<Item = u32> {
        let all = &self.message.envelope.recipients;
        job.recipients.iter().copied().filter(move |&index| {
            let address = all.get(index as usize).map(|recipient| recipient.address.as_str());
            filter.recipient.as_deref().is_none_or(|wanted| address.is_some_and(|address| is_meant(address, wanted)))
        })
    }

    /// Has this selected job recipients that the selection does not mean? [`crate::Queue::separate`] takes them apart,
    /// unless it is under way.
    pub fn has_others(&self, job: &JobState, filter: &Filter) -> bool {
        self.selected_of(job, filter).count() < job.recipients.len()
    }

    /// The recipients of a job without a final state.
    pub fn addresses(&self, job: &JobState) -> impl Iterator<Item = &str> {
        let all = &self.message.envelope.recipients;
        job.recipients.iter().filter_map(|&index| all.get(index as usize)).map(|recipient| recipient.address.as_str())
    }
}

/// Is it this address? The case of the domain does not count; of the local part only its server knows.
pub fn same_address(address: &str, wanted: &str) -> bool {
    match (address.rsplit_once('@'), wanted.rsplit_once('@')) {
        (Some((local, domain)), Some((other, at))) => local == other && same_domain(domain, at),
        _ => address.eq_ignore_ascii_case(wanted),
    }
}

/// Is it this address, or one of the domain that is meant (`@example.org`)?
pub(crate) fn is_meant(address: &str, wanted: &str) -> bool {
    match wanted.strip_prefix('@') {
        Some(domain) => address.rsplit_once('@').is_some_and(|(_, of)| same_domain(of, domain)),
        None => same_address(address, wanted),
    }
}

/// In whatever case, and in Unicode or A-labels.
fn same_domain(one: &str, other: &str) -> bool {
    let key = |domain: &str| Address::parse(&format!("postmaster@{domain}")).ok()?.domain_key();
    one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && key(one).is_some_and(|one| Some(one) == key(other)))
}

/// The state of one job.
#[derive(Clone, Debug)]
pub struct JobState {
    /// Which of the message's jobs.
    pub number: u16,
    /// The destination queue.
    pub destination: Destination,
    /// Where it is.
    pub place: Place,
    /// It waits because its destination rests: an attempt of this or another message said so, or a limit of rate.
    pub rests: bool,
    /// Recipients without a final state.
    pub recipients: Vec<u32>,
    /// Finished attempts.
    pub attempts: u32,
    /// The last reply or error.
    pub reason: Option<String>,
    /// The status of the last reply or error.
    pub status: Option<Status>,
    /// Held because five workers in a row did not finish it, not by an operator.
    pub poison: bool,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Waiting until this time, which its destination may have said.
    Waiting(UnixMillis),
    /// Leased until this time.
    Leased(UnixMillis),
    /// Held.
    Held,
}

/// A message of which only a newer program can say more, or nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub id: QueueId,
    /// Octets that are stored of it.
    pub size: u64,
    /// When it began to arrive.
    pub arrived: UnixMillis,
    /// Why it cannot be read.
    pub reason: String,
}

/// A part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Messages, oldest first.
    pub entries: Vec<Entry>,
    /// What lies among them and cannot be read. Only a selection by id or age finds it.
    pub unreadable: Vec<Unreadable>,
    /// What continues the list; `None`: it is complete.
    pub next: Option<String>,
}

/// Which messages an operator means. All conditions must hold; none: every message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this one.
    pub id: Option<QueueId>,
    /// Only with a job for this destination.
    pub destination: Option<Destination>,
    /// Only from this sender (the domain in any case, `""` is the null path), or from all of a domain: `@domain`.
    pub sender: Option<String>,
    /// Only with this recipient, who has no final state yet (the domain in any case), or one of a domain: `@domain`.
    pub recipient: Option<String>,
    /// Only from this login, in any spelling ([`crate::login_key`]).
    pub login: Option<String>,
    /// Only at least this old.
    pub older_than: Option<Duration>,
}

impl Filter {
    /// Must each message be looked at, because more than the destination counts?
    pub(crate) fn needs_records(&self) -> bool {
        self.id.is_some() || self.older_than.is_some() || self.says_who()
    }

    /// Does it ask for what only a record says?
    pub(crate) fn says_who(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some() || self.login.is_some()
    }
}

/// What an operator has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Deliveries that were moved.
    pub jobs: u64,
    /// Deliveries that were to be held, and were already.
    pub already: u64,
    /// Deliveries that are under way, which nobody stops.
    pub leased: u64,
    /// Messages that cannot be read, which stay where they are.
    pub unreadable: u64,
}

/// What became of a message that an operator wanted deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Removed,
    /// A worker is delivering it; it will not be tried again after this attempt.
    Leased,
    /// There is no such message.
    Missing,
}

/// What an operator has done, for the mail log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// To what.
    pub object: Object,
    /// What was done: `deleted` or `bounced`, or `lost` found; `held`, `released` or `flushed`; `blocked` or `unblocked`,
    /// `suppressed` or `unsuppressed`.
    pub verb: String,
    /// Who did it.
    pub by: String,
}

/// What an operator has done something to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Deliveries of a message.
    Mail {
        /// The message.
        id: QueueId,
        /// It has left the queue with that.
        ended: bool,
        /// To whom it would have been delivered.
        recipients: Vec<String>,
    },
    /// All deliveries that a selection has found.
    Selection {
        /// As the operator wrote it.
        selection: String,
        /// How many that were.
        deliveries: u64,
    },
    /// A login, the clients of a network, or a domain; or a recipient.
    Target {
        /// Whom.
        target: Target,
        /// Why, in the operator's words.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_the_same_in_any_spelling_and_a_local_part_is_not() {
        for (sender, wanted, expected) in [
            ("a@b\u{fc}cher.example", "@xn--bcher-kva.Example", true),
            ("a@xn--bcher-kva.example", "@B\u{fc}cher.example", true),
            ("a@xn--bcher-kva.example", "a@b\u{fc}cher.example", true),
            ("a@example.org", "@Example.ORG", true),
            ("a@sub.example.org", "@example.org", false),
            ("a@b\u{fc}cher.example", "@bucher.example", false),
            ("A@example.org", "a@example.org", false),
            ("", "@example.org", false),
        ] {
            assert_eq!(is_meant(sender, wanted), expected, "{sender} {wanted}");
        }
    }
}
