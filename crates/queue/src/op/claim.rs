//! CLAIM: leases due jobs of one destination and reads what a worker needs for them.
//!
//! The token makes the claim repeatable: when its answer is lost, the same jobs are asked for again. What a claim leased
//! that nobody heard of (it gave up, or an earlier try of it was carried out after a later one) is looked for once Redis
//! answers, and given back: see `op/strays.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Cmd;
use staffetta_mail::QueueId;

use super::settle::Back;
use crate::commit::Replicas;
use crate::error::Fault;
use crate::format::{ReadError, State};
use crate::job::Facts;
use crate::partition::{Partition, parse_job_name};
use crate::record::Record;
use crate::script;
use crate::shared::Shared;
use crate::value;
use crate::{Destination, Error, Job, Lease, UnixMillis};

/// How long a claim whose answer was lost is repeated.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long replicas may take to confirm a claim, in milliseconds.
const REPLICAS_TIMEOUT: u32 = 500;
/// After this the client of a message has had its answer: the patience of an enqueue and its pursuit have ended.
const UNDECIDED: Duration = Duration::from_secs(60);
/// Until then it is tried anew in this time: replicas that are back have all that went before what they confirm.
const AGAIN: Duration = Duration::from_secs(2);
/// What one claim may lease; bounded by Lua's stack and by the octets of one answer.
const MAX_CLAIM: usize = 500;

/// What the script answered, and since when it may be true.
pub(super) struct Claimed {
    pub(super) names: Vec<(QueueId, u16)>,
    /// TIME at the claim.
    pub(super) at: UnixMillis,
    /// When the leases end, by the local monotonic clock.
    pub(super) deadline: Instant,
    /// Enough replicas have it.
    pub(super) safe: bool,
}

impl Shared {
    pub(crate) async fn claim(
        self: &Arc<Self>,
        partition: u16,
        destination: &Destination,
        limit: usize,
    ) -> Result<Vec<Job>, Error> {
        let pulse = self.node(partition).pulse();
        if pulse.is_settling(Instant::now()) {
            return Ok(Vec::new());
        }
        let keys = self.partition(partition);
        let token = format!("{:016x}", rand::random::<u64>());
        let mut doubtful = false;
        let limit = limit.clamp(1, MAX_CLAIM);
        let call = |repeated| self.claim_call(keys, destination, &token, limit, repeated);
        let claimed = self.lease_by(partition, call, &mut doubtful).await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                if doubtful {
                    self.look_for_strays(partition, destination.clone(), token, Vec::new());
                }
                return Err(fault.into());
            }
        };
        let settling = pulse.answered(Instant::now());
        let jobs = match &claimed.names[..] {
            [] => Ok(Vec::new()),
            _ => self.read_jobs(keys, destination, &token, &claimed).await,
        };
        if doubtful || jobs.is_err() {
            let known = if jobs.is_ok() { claimed.names } else { Vec::new() };
            self.look_for_strays(partition, destination.clone(), token, known);
        }
        self.settled_claim(jobs, settling, claimed.safe).await
    }

    /// Those of the jobs that may be begun; the others go back.
    pub(super) async fn settled_claim(
        &self,
        jobs: Result<Vec<Job>, Error>,
        settling: Duration,
        safe: bool,
    ) -> Result<Vec<Job>, Error> {
        match jobs {
            Ok(jobs) if !settling.is_zero() => {
                self.give_back(jobs, |_| settling).await;
                Ok(Vec::new())
            }
            Ok(jobs) if !safe => Ok(self.keep_decided(jobs).await),
            jobs => jobs,
        }
    }

    /// Repeats while nobody knows what happened. The deadline counts from before the first attempt that may have worked.
    pub(super) async fn lease_by(
        &self,
        partition: u16,
        call: impl Fn(bool) -> Cmd,
        repeated: &mut bool,
    ) -> Result<Claimed, Fault> {
        let start = Instant::now();
        loop {
            match self.ask_to_claim(partition, call(*repeated)).await {
                Ok((answer, safe)) => {
                    let mut values = value::array(&answer).iter();
                    let at = values.next().map_or(0, value::count);
                    let names = values.filter_map(value::str).filter_map(parse_job_name).collect();
                    return Ok(Claimed { names, at, deadline: start + self.settings.lease, safe });
                }
                Err(fault) if start.elapsed() > PATIENCE => {
                    *repeated |= matches!(fault, Fault::Unknown(_));
                    return Err(fault);
                }
                Err(Fault::Unknown(_)) => *repeated = true,
                Err(fault) if !*repeated => return Err(fault),
                Err(_) => {}
            }
            let _ = tokio::time::timeout(PATIENCE, self.node(partition).claims.wait()).await;
        }
    }

    /// True: a failover would keep it.
    async fn ask_to_claim(&self, partition: u16, call: Cmd) -> Result<(redis::Value, bool), Fault> {
        let replicas = Replicas::needed(&self.settings);
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(call);
        replicas.ask(&mut pipeline, REPLICAS_TIMEOUT);
        let mut answers = self.node(partition).claims.send(&pipeline).await?;
        let safe = replicas.have(&mut answers).is_ok();
        let answer = answers.pop().unwrap_or_else(|| Err(Fault::Unknown("no answer".into())))?;
        Ok((answer, safe))
    }

    /// Replicas did not confirm what the jobs stand on: whoever enqueued the young ones may still be told no, so they wait.
    /// Older ones are decided, and a queue drains without replicas.
    async fn keep_decided(&self, jobs: Vec<Job>) -> Vec<Job> {
        let (young, decided): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.age < UNDECIDED);
        self.give_back(young, |job| UNDECIDED.saturating_sub(job.age).min(AGAIN)).await;
        decided
    }

    /// Jobs that nobody may begin with yet: others get them after so long.
    async fn give_back(&self, jobs: Vec<Job>, after: impl Fn(&Job) -> Duration) {
        for job in jobs {
            if let Err(error) = self.put_off(&job.lease, after(&job)).await {
                tracing::debug!(%error, "a job that is not confirmed waits for the end of its lease");
            }
        }
    }

    pub(crate) async fn put_off(&self, lease: &Lease, after: Duration) -> Result<(), Error> {
        self.defer(lease, Back::after(after), &[]).await.map(drop)
    }

    /// A call that repeats itself answers what the token holds already, and asks for more only if that is nothing.
    pub(super) fn claim_call(
        &self,
        keys: &Partition,
        destination: &Destination,
        token: &str,
        limit: usize,
        repeated: bool,
    ) -> Cmd {
        script::Claim {
            waiting: &keys.waiting(destination.as_str()),
            due: &keys.due,
            lease: &keys.lease,
            back_off: &keys.back_off,
            suspects: &keys.suspects,
            destination: destination.as_str().into(),
            token: token.into(),
            limit: (limit as u64).into(),
            term: self.settings.lease.into(),
            repeated: repeated.into(),
        }
        .call()
    }

    pub(super) async fn read_jobs(
        &self,
        keys: &Partition,
        destination: &Destination,
        token: &str,
        claimed: &Claimed,
    ) -> Result<Vec<Job>, Error> {
        let names = &claimed.names;
        let (records, states) = self.read_records(keys, names).await?;
        let mut jobs = Vec::with_capacity(names.len());
        for ((&(id, job), record), state) in names.iter().zip(records).zip(states) {
            let member: Arc<str> = format!("{id}.{job} {token} {destination}").into();
            let lease = Lease::new(id, job, destination.clone(), member);
            let Some(record) = record else {
                self.drop_ghost(lease).await;
                continue;
            };
            match record.and_then(|record| assemble(&lease, &record, state, claimed, self.reads)) {
                Ok(job) => jobs.push(job),
                Err(error) => self.leave_to_others(lease, &error).await,
            }
        }
        Ok(jobs)
    }

    /// The records of these jobs, `None` where there is none, and their states. Of a record that is at hand only its length
    /// is asked for.
    async fn read_records(
        &self,
        keys: &Partition,
        names: &[(QueueId, u16)],
    ) -> Result<(Vec<Option<Result<Arc<Record>, ReadError>>>, Vec<Option<Bytes>>), Error> {
        let now = Instant::now();
        let at_hand: Vec<Option<(Arc<Record>, usize)>> =
            names.iter().map(|(id, _)| self.shelf.find(*id, now)).collect();
        let mut command = Cmd::with_capacity(1 + 2 * names.len(), 100 * names.len());
        command.arg("MGET");
        for ((id, _), _) in names.iter().zip(&at_hand).filter(|(_, at_hand)| at_hand.is_none()) {
            command.arg(keys.record(*id));
        }
        for (id, job) in names {
            command.arg(keys.state(*id, *job));
        }
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(command);
        for ((id, _), _) in names.iter().zip(&at_hand).filter(|(_, at_hand)| at_hand.is_some()) {
            pipeline.cmd("STRLEN").arg(keys.record(*id));
        }
        let answers = self.node(keys.number).claims.send(&pipeline).await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let mut read = value::into_array(answers.next().unwrap_or(redis::Value::Nil));
        let states = read.split_off(read.len().saturating_sub(names.len()));
        let (mut read, mut records) = (read.into_iter(), Vec::with_capacity(names.len()));
        for (&(id, _), at_hand) in names.iter().zip(at_hand) {
            let Some((record, octets)) = at_hand else {
                let octets = read.next().and_then(value::into_bytes);
                records.push(octets.map(|octets| self.read_record(id, &octets, now)));
                continue;
            };
            let length = answers.next().as_ref().map_or(0, value::count);
            records.push(match length {
                0 => None,
                length if length == octets as u64 => Some(Ok(record)),
                _ => self.record_octets(id).await?.map(|octets| self.read_record(id, &octets, now)),
            });
        }
        Ok((records, states.into_iter().map(value::into_bytes).collect()))
    }

    fn read_record(&self, id: QueueId, octets: &Bytes, now: Instant) -> Result<Arc<Record>, ReadError> {
        let record = Arc::new(Record::decode(id, octets, self.reads)?);
        self.shelf.keep(id, &record, octets.len(), now);
        Ok(record)
    }

    /// A job without a message can only come from a damaged store; it must not come up for ever.
    async fn drop_ghost(&self, lease: Lease) {
        tracing::error!(qid = %lease.id, job = lease.job, "job without a message dropped");
        let facts = Facts { jobs: 1, ..Facts::default() };
        let lease = Lease { facts, ..lease };
        if let Err(error) = self.finish(&lease, &[]).await {
            tracing::warn!(%error, "job without a message not dropped");
        }
    }
}

pub(super) fn assemble(
    lease: &Lease,
    record: &Arc<Record>,
    state: Option<Bytes>,
    claimed: &Claimed,
    newest: u8,
) -> Result<Job, ReadError> {
    let state = state.unwrap_or_default();
    let silences = state.first().filter(|count| count.is_ascii_digit()).map_or(0, |count| count - b'0');
    let state = State::read(&state, newest)?;
    let (attempts, delay_noticed) = state.as_ref().map_or((0, false), |state| (state.attempts, state.delay_noticed));
    let facts = Facts {
        jobs: record.jobs(),
        chunks: record.chunks(),
        arrived: record.message.arrived,
        expires: record.message.expires,
        attempts,
        delay_noticed,
    };
    let kept = state.as_ref().filter(|state| !state.unknown.is_empty()).map(|state| state.unknown.as_slice().into());
    let recipients = state.map_or_else(|| record.recipients(lease.job), |state| state.remaining);
    let span = |from: UnixMillis, to: UnixMillis| Duration::from_millis(to.saturating_sub(from));
    Ok(Job {
        lease: Lease { facts, counted_for: record.counted_for.clone(), kept, ..lease.clone() },
        deadline: claimed.deadline,
        age: span(facts.arrived, claimed.at),
        left: span(claimed.at, facts.expires),
        message: record.message.clone(),
        recipients,
        attempts,
        delay_noticed,
        silences,
        prefix: record.prefix.clone(),
        body: record.body.clone(),
        record: (record.jobs() > 1).then(|| record.clone()),
    })
}
