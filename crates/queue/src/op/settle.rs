//! ACK, DEFER and RELEASE: what becomes of a job after an attempt, with a notice in the same script.
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
use crate::partition::job_name;
use crate::record::Encoded;
use crate::script::Script;
use crate::shared::Shared;
use crate::value;
use crate::{Error, Lease, Notice, Settled, Settlement};

const PAUSE: Duration = Duration::from_millis(50);
/// The age up to which a finished message needs a tombstone: the script refuses a record more than a minute old.
const BURY_BELOW: u64 = 180_000;

/// What a settling script said.
#[derive(PartialEq, Eq)]
enum Answer {
    Done,
    /// Done, and the message has no job left.
    Last,
    Stale,
    /// An operator wants the message deleted.
    Abort,
    /// The chunks of the notice have expired.
    NoBody,
}

impl Shared {
    pub(crate) async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<Settled, Error> {
        match settlement {
            Settlement::Finished { notice } => self.finish(lease, notice.as_ref()).await,
            Settlement::Deferred { remaining, after, reason, status, back_off, notice, delay_noticed } => {
                let state = State {
                    attempts: lease.facts.attempts + 1,
                    delay_noticed: lease.facts.delay_noticed || delay_noticed,
                    remaining,
                    reason: cut(reason),
                    status: Some(status),
                    unknown: lease.kept.as_deref().unwrap_or_default().to_vec(),
                };
                self.defer(
                    lease,
                    &state.encode(self.formats.writes()),
                    after,
                    back_off.unwrap_or_default(),
                    notice.as_ref(),
                )
                .await
            }
            Settlement::Released => self.defer(lease, b"", Duration::ZERO, Duration::ZERO, None).await,
        }
    }

    /// Ends the job.
    pub(crate) async fn finish(&self, lease: &Lease, notice: Option<&Notice>) -> Result<Settled, Error> {
        match self.until_known(notice, lease, |notice| self.finish_call(lease, notice)).await? {
            (Answer::Stale, _) => Ok(Settled::Stale),
            (answer, notice) => Ok(Settled::Done { ended: answer == Answer::Last || lease.facts.jobs == 1, notice }),
        }
    }

    pub(crate) async fn defer(
        &self,
        lease: &Lease,
        state: &[u8],
        after: Duration,
        back_off: Duration,
        notice: Option<&Notice>,
    ) -> Result<Settled, Error> {
        let answer =
            self.until_known(notice, lease, |notice| self.defer_call(lease, state, after, back_off, notice)).await?;
        match answer {
            (Answer::Stale, _) => Ok(Settled::Stale),
            (Answer::Abort, _) => self.finish(lease, notice).await,
            (_, notice) => Ok(Settled::Done { ended: false, notice }),
        }
    }

    /// Repeats a settlement until it is known to be done, for at most a lease. The answer, and the id of the notice.
    async fn until_known(
        &self,
        notice: Option<&Notice>,
        lease: &Lease,
        call: impl Fn(Option<&Encoded>) -> Cmd,
    ) -> Result<(Answer, Option<QueueId>), Error> {
        let end = Instant::now() + self.settings.lease;
        let mut unknown = false;
        let mut encoded: Option<Encoded> = None;
        loop {
            let outcome = async {
                if encoded.is_none()
                    && let Some(notice) = notice
                {
                    encoded = Some(self.encode_notice(lease.id.partition(), notice).await?);
                }
                self.try_settle(call(encoded.as_ref())).await
            };
            let outcome = outcome.await;
            let id = encoded.as_ref().map(|notice| notice.id);
            match outcome {
                Ok(Answer::Stale) if unknown => return Ok((Answer::Done, id)),
                // Store them again, under a new id.
                Ok(Answer::NoBody) if Instant::now() < end => encoded = None,
                Ok(Answer::NoBody) => return Err(Error::Unavailable("the body of a notice does not stay".into())),
                Ok(answer) => return Ok((answer, id)),
                Err(fault) if Instant::now() >= end => return Err(fault.into()),
                Err(fault) => unknown |= matches!(fault, Fault::Unknown(_)),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.cancelled() => return Err(Error::Unavailable("shutting down".into())),
            }
        }
    }

    async fn try_settle(&self, call: Cmd) -> Result<Answer, Fault> {
        let answer = self.settles.call(call, 512).await?;
        match value::str(&answer) {
            Some("OK") => Ok(Answer::Done),
            Some("LAST") => Ok(Answer::Last),
            Some("STALE") => Ok(Answer::Stale),
            Some("ABORT") => Ok(Answer::Abort),
            Some("NOBODY") => Ok(Answer::NoBody),
            _ => Err(unexpected("settle", &answer)),
        }
    }

    /// Stores the body of a notice if it is large, and writes its record.
    async fn encode_notice(&self, partition: u16, notice: &Notice) -> Result<Encoded, Fault> {
        let id = self.new_id_in(partition);
        let size = notice.body.len() as u64;
        let (mut chunks, mut inline) = (0, notice.body.as_ref());
        if size > self.settings.inline_limit {
            for chunk in notice.body.chunks(CHUNK) {
                self.store_chunk(id, chunks, chunk).await?;
                chunks += 1;
            }
            inline = &[];
        }
        let version = self.formats.writes();
        Ok(Encoded::new(version, id, &notice.accept, self.clock.now(), size, chunks, inline))
    }

    fn finish_call(&self, lease: &Lease, notice: Option<&Encoded>) -> Cmd {
        let (id, facts) = (lease.id, lease.facts);
        let partition = self.partition(id.partition());
        let several = facts.jobs > 1;
        let mut keys = vec![
            partition.lease.clone(),
            partition.ids.clone(),
            partition.tombstones(facts.arrived),
            partition.record(id),
            partition.state(id, lease.job),
        ];
        if several {
            keys.extend([partition.open_jobs(id), partition.extra.clone()]);
        }
        keys.extend((0..facts.chunks).map(|index| partition.chunk(id, index)));
        if let Some(notice) = notice {
            keys.extend([partition.record(notice.id), partition.due.clone()]);
            keys.extend(self.notice_keys(notice));
        }
        let bury = self.clock.now().saturating_sub(facts.arrived) < BURY_BELOW;
        let mut call = script_call(Script::Finish, &keys, notice);
        call.arg(&*lease.member).arg(id.to_string()).arg(lease.job);
        call.arg(u8::from(several)).arg(facts.chunks).arg(u8::from(bury));
        add_notice(&mut call, notice);
        call
    }

    fn defer_call(
        &self,
        lease: &Lease,
        state: &[u8],
        after: Duration,
        back_off: Duration,
        notice: Option<&Encoded>,
    ) -> Cmd {
        let partition = self.partition(lease.id.partition());
        let mut keys = vec![
            partition.lease.clone(),
            partition.state(lease.id, lease.job),
            partition.waiting(lease.destination.as_str()),
            partition.due.clone(),
            partition.back_off.clone(),
        ];
        if let Some(notice) = notice {
            keys.extend([partition.record(notice.id), partition.ids.clone()]);
            keys.extend(self.notice_keys(notice));
        }
        let mut call = script_call(Script::Defer, &keys, notice);
        call.arg(&*lease.member).arg(job_name(lease.id, lease.job)).arg(lease.destination.as_str());
        call.arg(after.as_millis() as u64).arg(lease.facts.expires).arg(state).arg(back_off.as_millis() as u64);
        add_notice(&mut call, notice);
        call
    }

    fn notice_keys(&self, notice: &Encoded) -> Vec<String> {
        let partition = self.partition(notice.id.partition());
        let mut keys = vec![partition.waiting(notice.destinations[0].as_str())];
        keys.extend((0..notice.chunks).map(|index| partition.chunk(notice.id, index)));
        keys
    }
}

fn script_call(script: Script, keys: &[String], notice: Option<&Encoded>) -> Cmd {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    script.call(&keys, 256 + 48 * keys.len() + notice.map_or(0, |notice| notice.bytes.len()))
}

fn add_notice(call: &mut Cmd, notice: Option<&Encoded>) {
    if let Some(notice) = notice {
        call.arg(notice.id.to_string()).arg(&notice.bytes).arg(notice.destinations[0].as_str()).arg(notice.chunks);
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
