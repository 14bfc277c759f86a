//! Partitions: where the keys of a message live.
//!
//! A partition is one hash tag `{kq:<p>.<i>}`, so all keys of a message share a slot and one script can touch them. The
//! tags are chosen so that the first 2, 4, 8, 16 … partitions are spread evenly over the 16384 slots: partition `p` lies
//! in the range of slots that the bits of `p` in reverse order name. A tag does not depend on how many partitions there
//! are, so partitions can be added. A message's partition is part of its [`QueueId`] and never changes.

use std::sync::LazyLock;

use staffetta_mail::QueueId;

use crate::script::Arg;
use crate::slot::{self, SLOTS};

/// Ranges that tags are chosen from: a power of two; more would make the tags longer.
const RANGES: u16 = 256;
/// Lifetime classes of tombstones: one set for each minute of arrival.
const TOMBSTONE_SPAN: u64 = 60_000;

/// Which record of the registry says how many partitions there are.
pub(crate) const REGISTRY: &str = "{kq:cfg}";
/// Where it is.
pub(crate) static REGISTRY_SLOT: LazyLock<u16> = LazyLock::new(|| slot::of_key(REGISTRY.as_bytes()));
/// Workers by the time of their last sign of life, `name newest-format what-else-they-read…` (ZSET).
pub(crate) const READERS: &str = "{kq:cfg}readers";

/// The names of all keys of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) number: u16,
    /// Where all its keys are.
    pub(crate) slot: u16,
    /// `{kq:<p>.<i>}`
    tag: String,
    /// Destination queues by the time at which a visit is worth while (ZSET).
    pub(crate) due: String,
    /// Leased jobs, `job token destination`, by the end of the lease (ZSET).
    pub(crate) lease: String,
    /// Held and poisoned jobs by the time at which they are looked at again: the end of their life (ZSET).
    pub(crate) held: String,
    /// Jobs that went silent in an attempt, and leases of suspects whose attempt has begun, by when (ZSET).
    pub(crate) suspects: String,
    /// All messages, in the order of arrival (ZSET, every score 0).
    pub(crate) ids: String,
    /// Destination queue to the end of its back-off (HASH).
    pub(crate) back_off: String,
    /// Open jobs beyond the first of each message (STRING).
    pub(crate) extra: String,
    /// How many messages are in the queue for each login that has an end of them (HASH).
    pub(crate) logins: String,
    /// What remains of messages that are over, by the time at which it may be deleted (ZSET).
    pub(crate) garbage: String,
    /// Up to which message bodies were moved to the store (STRING).
    pub(crate) offloaded: String,
    /// What operators have done and no worker has written into the mail log yet (LIST).
    pub(crate) acts: String,
    /// Identity, written once (STRING).
    pub(crate) identity: String,
    /// Where workers hear of mail (a channel).
    pub(crate) wake: String,
}

impl Partition {
    pub(crate) fn new(number: u16) -> Self {
        let tag = tag(number);
        let key = |name: &str| format!("{tag}{name}");
        Self {
            number,
            slot: slot::of_key(tag.as_bytes()),
            due: key("due"),
            lease: key("lease"),
            held: key("held"),
            suspects: key("sus"),
            ids: key("ids"),
            back_off: key("qf"),
            extra: key("n"),
            logins: key("who"),
            garbage: key("gc"),
            offloaded: key("off"),
            acts: key("op"),
            identity: key("id"),
            wake: key("wake"),
            tag,
        }
    }

    /// Written to see whether replicas follow (STRING).
    pub(crate) fn heartbeat(&self) -> String {
        format!("{}hb", self.tag)
    }

    /// A key that there never is.
    pub(crate) fn never(&self) -> String {
        format!("{}never", self.tag)
    }

    fn named(&self, kind: &str, id: QueueId) -> String {
        let mut key = String::with_capacity(self.tag.len() + 32);
        key.push_str(&self.tag);
        key.push_str(kind);
        id.push_to(&mut key);
        key
    }

    /// The record (STRING).
    pub(crate) fn record(&self, id: QueueId) -> String {
        self.named("m:", id)
    }

    /// What attempts have left behind for a job (STRING), only after a deferral or a reclaim.
    pub(crate) fn state(&self, id: QueueId, job: u16) -> String {
        let mut key = self.named("s:", id);
        push_job(&mut key, job);
        key
    }

    /// The open jobs of a message with several destinations (SET).
    pub(crate) fn open_jobs(&self, id: QueueId) -> String {
        self.named("o:", id)
    }

    /// A piece of the body (STRING), with a TTL until the message is queued.
    pub(crate) fn chunk(&self, id: QueueId, index: u32) -> String {
        format!("{}b:{id}:{index}", self.tag)
    }

    /// What a script must know of a message that counts for this login.
    pub(crate) fn counted<'a>(&self, login: Option<&'a str>) -> (Option<String>, Option<Arg<'a>>) {
        (login.map(|_| self.logins.clone()), login.map(Arg::from))
    }

    /// What follows the hash tag in the name of a key of this partition.
    pub(crate) fn tail<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.tag)
    }

    /// Some pieces of the body.
    pub(crate) fn chunks(&self, id: QueueId, indices: std::ops::Range<u32>) -> Vec<String> {
        indices.map(|index| self.chunk(id, index)).collect()
    }

    /// Jobs that wait for a destination, by the time they are due (ZSET).
    pub(crate) fn waiting(&self, destination: &str) -> String {
        [&self.tag, "w:", destination].concat()
    }

    /// Messages finished or withdrawn that arrived in the same minute (SET): a late enqueue of them is refused.
    pub(crate) fn tombstones(&self, arrived: u64) -> String {
        format!("{}x:{}", self.tag, arrived / TOMBSTONE_SPAN)
    }
}

/// The member that stands for a job in `w:*` and `held`.
pub(crate) fn job_name(id: QueueId, job: u16) -> String {
    let mut name = String::with_capacity(24);
    id.push_to(&mut name);
    push_job(&mut name, job);
    name
}

fn push_job(name: &mut String, job: u16) {
    name.push('.');
    name.push_str(&job.to_string());
}

/// The reverse of [`job_name`].
pub(crate) fn parse_job_name(text: &str) -> Option<(QueueId, u16)> {
    let (id, job) = text.split_once('.')?;
    Some((id.parse().ok()?, job.parse().ok()?))
}

/// The first `kq:<p>.<i>` whose slot lies in the range of partition `p`.
fn tag(number: u16) -> String {
    let range = range(number);
    let name = |i: u32| format!("kq:{number}.{i}");
    let i = (0..).find(|&i| range.contains(&slot::of_tag(name(i).as_bytes()))).unwrap_or(0);
    format!("{{{}}}", name(i))
}

/// The slots for a partition.
fn range(number: u16) -> std::ops::Range<u16> {
    let reversed = (number % RANGES).reverse_bits() >> (u16::BITS - RANGES.ilog2());
    let width = SLOTS / RANGES;
    reversed * width..(reversed + 1) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_lies_in_its_own_range_of_slots() {
        for number in 0..300 {
            let Partition { tag, slot, .. } = Partition::new(number);
            assert!(range(number).contains(&slot), "{tag}: {slot}");
        }
    }

    #[test]
    fn any_power_of_two_of_partitions_is_spread_evenly() {
        for of in [1_u16, 2, 4, 16, 64, 256] {
            let mut starts: Vec<u16> = (0..of).map(|number| range(number).start).collect();
            starts.sort_unstable();
            let expected: Vec<u16> = (0..of).map(|index| index * (SLOTS / of)).collect();
            assert_eq!(starts, expected);
        }
    }

    #[test]
    fn job_names_round_trip() {
        let id = QueueId::new(3, 1_790_000_000_000, 77);
        assert_eq!(parse_job_name(&job_name(id, 12)), Some((id, 12)));
        assert_eq!(parse_job_name("x.1"), None);
        assert_eq!(Partition::new(0).record(id).len(), Partition::new(0).tag.len() + 2 + 16);
        assert!("".parse::<QueueId>().is_err());
        assert_eq!(parse_job_name(&id.to_string()).map(|(_, job)| job).unwrap_or(9), 9);
    }
}
