//! ACK, DEFER and RELEASE: what becomes of a job after an attempt, with notices in the same script.
//!
//! The lease's member is the fence: a superseded one changes nothing and answers STALE. While Redis is away the
//! settlement is repeated for as long as a lease lasts. A STALE that follows a lost answer is our own success.

use std::time::{Duration, Instant};

use redis::Cmd;
use staffetta_mail::QueueId;

use super::unexpected;
use crate::error::Fault;
use crate::format::State;
use crate::incoming::CHUNK;
use crate::partition::Partition;
use crate::record::{Content, Encoded};
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{Chunks, Error, Kept, Lease, Notice, Settled, Settlement};

const PAUSE: Duration = Duration::from_millis(50);
/// The age up to which a finished message needs a tombstone: the script refuses a record more than a minute old.
const BURY_BELOW: u64 = 180_000;
/// Chunks that a settlement deletes itself. Redis needs their room at once for what is arriving: left to the reaper,
/// bodies of a few chunks double what a busy queue holds. More of them would make the script long.
const FEW: u32 = 4;

/// How a job goes back. As it was and at once, if nothing else is said.
#[derive(Clone, Copy, Default)]
pub(crate) struct Back<'a> {
    /// Its new state; empty: the old one.
    state: &'a [u8],
    after: Duration,
    /// How long no other job of its destination is offered.
    rest: Duration,
    held: bool,
}

impl Back<'_> {
    /// Not before so long.
    pub(crate) fn after(after: Duration) -> Self {
        Self { after, ..Self::default() }
    }
}

/// What a settling script said.
#[derive(PartialEq, Eq)]
enum SettleAnswer {
    Done,
    /// Done, and the message has no job left.
    Last,
    Stale,
    /// An operator wants the message deleted.
    Abort,
    /// Chunks of the notices have expired.
    NoBody,
}

impl Shared {
    pub(crate) async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<Settled, Error> {
        match settlement {
            Settlement::Finished { notices } => self.finish(lease, &notices).await,
            Settlement::Deferred { remaining, after, reason, status, back_off, notices, delay_noticed, held } => {
                let state = State {
                    attempts: lease.facts.attempts + 1,
                    delay_noticed: lease.facts.delay_noticed || delay_noticed,
                    remaining,
                    reason: cut(reason),
                    status: Some(status),
                    unknown: lease.kept.as_deref().unwrap_or_default().to_vec(),
                };
                let state = state.encode(self.formats().writes());
                let back = Back { state: &state, after, rest: back_off.unwrap_or_default(), held };
                self.defer(lease, back, &notices).await
            }
            Settlement::Released => self.defer(lease, Back::default(), &[]).await,
            Settlement::Held => self.defer(lease, Back { held: true, ..Back::default() }, &[]).await,
        }
    }

    /// Ends the job.
    pub(crate) async fn finish(&self, lease: &Lease, notices: &[Notice]) -> Result<Settled, Error> {
        match self.until_known(notices, lease, |notices| self.finish_call(lease, notices)).await? {
            (SettleAnswer::Stale, _) => Ok(Settled::Stale),
            (answer, notices) => {
                Ok(Settled::Done { ended: answer == SettleAnswer::Last || lease.facts.jobs == 1, notices })
            }
        }
    }

    pub(crate) async fn defer(&self, lease: &Lease, back: Back<'_>, notices: &[Notice]) -> Result<Settled, Error> {
        match self.until_known(notices, lease, |notices| self.defer_call(lease, back, notices)).await? {
            (SettleAnswer::Stale, _) => Ok(Settled::Stale),
            (SettleAnswer::Abort, _) => self.finish(lease, notices).await,
            (_, notices) => Ok(Settled::Done { ended: false, notices }),
        }
    }

    /// Repeats a settlement until it is known to be done, for at most a lease. The answer, and the ids of the notices.
    async fn until_known(
        &self,
        notices: &[Notice],
        lease: &Lease,
        call: impl Fn(&[Encoded]) -> Cmd,
    ) -> Result<(SettleAnswer, Vec<QueueId>), Error> {
        let end = Instant::now() + self.settings.lease;
        let mut unknown = false;
        let mut encoded: Vec<Encoded> = Vec::new();
        loop {
            let outcome = async {
                for notice in &notices[encoded.len()..] {
                    encoded.push(self.encode_notice(lease.id.partition(), notice).await?);
                }
                self.try_settle(lease.id.partition(), call(&encoded)).await
            };
            let outcome = outcome.await;
            let ids = || encoded.iter().map(|notice| notice.id).collect();
            match outcome {
                Ok(SettleAnswer::Stale) if unknown => return Ok((SettleAnswer::Done, ids())),
                // Store them again, under a new id.
                Ok(SettleAnswer::NoBody) if Instant::now() < end => encoded.clear(),
                Ok(SettleAnswer::NoBody) => {
                    return Err(Error::Unavailable("the body of a notice does not stay".into()));
                }
                Ok(answer) => return Ok((answer, ids())),
                Err(fault) if Instant::now() >= end => return Err(fault.into()),
                Err(fault) => unknown |= matches!(fault, Fault::Unknown(_)),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.cancelled() => return Err(Error::Unavailable("shutting down".into())),
            }
        }
    }

    async fn try_settle(&self, partition: u16, call: Cmd) -> Result<SettleAnswer, Fault> {
        let answer = self.node(partition).settles.call(call, 512).await?;
        match value::str(&answer) {
            Some("OK") => Ok(SettleAnswer::Done),
            Some("LAST") => Ok(SettleAnswer::Last),
            Some("STALE") => Ok(SettleAnswer::Stale),
            Some("ABORT") => Ok(SettleAnswer::Abort),
            Some("NOBODY") => Ok(SettleAnswer::NoBody),
            _ => Err(unexpected("settle", &answer)),
        }
    }

    /// Stores the body of a notice if it is large, and writes its record.
    async fn encode_notice(&self, partition: u16, notice: &Notice) -> Result<Encoded, Fault> {
        let id = self.new_id_in(partition);
        let size = notice.body.len() as u64;
        let mut content = Content::inline(&notice.body);
        if size > self.settings.inline_limit {
            let mut count = 0;
            for chunk in notice.body.chunks(CHUNK) {
                self.store_report(id, count, chunk).await?;
                count += 1;
            }
            content = Content { body: Some(Chunks::in_redis(count, size)), ..Content::default() };
        }
        let node = self.node(partition);
        let version = self.formats().writes();
        Ok(Encoded::new(version, id, &notice.accept, node.clock.now(), content)?)
    }

    fn finish_call(&self, lease: &Lease, notices: &[Encoded]) -> Cmd {
        let (id, facts) = (lease.id, lease.facts);
        let partition = self.partition(id.partition());
        let open = (facts.jobs > 1).then(|| partition.open_jobs(id));
        let few = facts.chunks.kept == Kept::InRedis && facts.chunks.count <= FEW;
        let (few, more) = if few { (facts.chunks.count, "0".to_owned()) } else { (0, facts.chunks.garbage(id)) };
        let body = partition.chunks(id, 0..few);
        let keys = NoticeKeys::new(partition, notices);
        let args = NoticeArgs::new(notices);
        let (counted, login) = partition.counted(lease.counted_for.as_deref());
        script::Finish {
            lease: &partition.lease,
            ids: &partition.ids,
            tombstones: &partition.tombstones(facts.arrived),
            record: &partition.record(id),
            state: &partition.state(id, lease.job),
            due: &partition.due,
            extra: &partition.extra,
            garbage: &partition.garbage,
            open: open.as_slice(),
            body: &body,
            notice_records: &keys.records,
            notice_waiting: &keys.waiting,
            notice_chunks: &keys.chunks,
            counted: counted.as_slice(),
            member: (&*lease.member).into(),
            id: Arg::Id(id),
            job: u64::from(lease.job).into(),
            chunks: (&*more).into(),
            remember: (self.node(id.partition()).clock.now().saturating_sub(facts.arrived) < BURY_BELOW).into(),
            notice_ids: &args.ids,
            notice_octets: &args.octets,
            notice_destinations: &args.destinations,
            login: login.as_slice(),
        }
        .call()
    }

    fn defer_call(&self, lease: &Lease, back: Back<'_>, notices: &[Encoded]) -> Cmd {
        let partition = self.partition(lease.id.partition());
        let held = back.held.then(|| partition.held.clone());
        let keys = NoticeKeys::new(partition, notices);
        let args = NoticeArgs::new(notices);
        script::Defer {
            lease: &partition.lease,
            state: &partition.state(lease.id, lease.job),
            waiting: &partition.waiting(lease.destination.as_str()),
            due: &partition.due,
            back_off: &partition.back_off,
            ids: &partition.ids,
            held: held.as_slice(),
            notice_records: &keys.records,
            notice_waiting: &keys.waiting,
            notice_chunks: &keys.chunks,
            member: (&*lease.member).into(),
            job: Arg::Job(lease.id, lease.job),
            destination: lease.destination.as_str().into(),
            delay: back.after.into(),
            expires: lease.facts.expires.into(),
            left: back.state.into(),
            rest: back.rest.into(),
            notice_ids: &args.ids,
            notice_octets: &args.octets,
            notice_destinations: &args.destinations,
        }
        .call()
    }
}

/// The keys that notices need.
struct NoticeKeys {
    records: Vec<String>,
    waiting: Vec<String>,
    chunks: Vec<String>,
}

impl NoticeKeys {
    fn new(partition: &Partition, notices: &[Encoded]) -> Self {
        Self {
            records: notices.iter().map(|notice| partition.record(notice.id)).collect(),
            waiting: notices.iter().map(|notice| partition.waiting(notice.destinations[0].as_str())).collect(),
            chunks: notices.iter().flat_map(|notice| partition.chunks(notice.id, 0..notice.chunks.keys())).collect(),
        }
    }
}

/// What a script must know of notices.
struct NoticeArgs<'a> {
    ids: Vec<Arg<'a>>,
    octets: Vec<Arg<'a>>,
    destinations: Vec<Arg<'a>>,
}

impl<'a> NoticeArgs<'a> {
    fn new(notices: &'a [Encoded]) -> Self {
        Self {
            ids: notices.iter().map(|notice| Arg::Id(notice.id)).collect(),
            octets: notices.iter().map(|notice| notice.bytes.as_slice().into()).collect(),
            destinations: notices.iter().map(|notice| notice.destinations[0].as_str().into()).collect(),
        }
    }
}

/// A reason is kept in Redis for every deferred job: a line, not a letter.
fn cut(mut reason: String) -> String {
    const LIMIT: usize = 200;
    if reason.len() > LIMIT {
        let end = (0..=LIMIT).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        assert_eq!(cut("\u{e9}".repeat(300)).len(), 200);
        assert_eq!(cut(format!("x{}", "\u{e9}".repeat(300))).len(), 199);
    }
}
