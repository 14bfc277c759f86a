//! ACCOMPANY: leases other due jobs of a message of which one is leased already, so that they can travel together.
//!
//! One script and one question for all of them, whatever their number. They come from destinations that nobody has looked at, so
//! what keeps a destination from being claimed keeps its job here, too. Whatever cannot be had stays for an ordinary claim.

use std::sync::Arc;
use std::time::Instant;

use staffetta_mail::QueueId;

use super::claim::{Claimed, assemble};
use crate::partition::Partition;
use crate::record::Record;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{Destination, Error, Job, Lease};

/// How many times as many recipients are looked at as may come along: some jobs are under way already, or wait for later.
const LOOKED_AT: usize = 4;

/// A job that may be there.
struct Other {
    job: u16,
    destination: Destination,
    recipients: usize,
}

impl Shared {
    pub(crate) async fn accompany(
        self: &Arc<Self>,
        job: &Job,
        most: usize,
        wanted: impl Fn(&Destination) -> bool,
    ) -> Result<Vec<Job>, Error> {
        let Some(record) = &job.record else { return Ok(Vec::new()) };
        let partition = job.lease.id.partition();
        let pulse = self.node(partition).pulse();
        let others = others(record, job.lease.job, most.saturating_mul(LOOKED_AT), wanted);
        if others.is_empty() || pulse.is_settling(Instant::now()) {
            return Ok(Vec::new());
        }
        let keys = self.partition(partition);
        let token = format!("{:016x}", rand::random::<u64>());
        let mut doubtful = false;
        let call = |repeated| self.accompany_call(keys, (job.lease.id, &others), most, &token, repeated);
        let claimed = self.lease_by(partition, call, &mut doubtful).await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                if doubtful {
                    self.look_for_all(partition, &others, &token, &[]);
                }
                return Err(fault.into());
            }
        };
        let settling = pulse.answered(Instant::now());
        let jobs = match &claimed.names[..] {
            [] => Ok(Vec::new()),
            _ => self.read_company(keys, record, &token, &claimed).await,
        };
        if doubtful || jobs.is_err() {
            self.look_for_all(partition, &others, &token, if jobs.is_ok() { &claimed.names } else { &[] });
        }
        self.settled_claim(jobs, settling, claimed.safe).await
    }

    fn accompany_call(
        &self,
        keys: &Partition,
        (id, others): (QueueId, &[Other]),
        most: usize,
        token: &str,
        repeated: bool,
    ) -> redis::Cmd {
        let waiting: Vec<String> = others.iter().map(|other| keys.waiting(other.destination.as_str())).collect();
        let jobs: Vec<Arg<'_>> = others.iter().map(|other| Arg::Job(id, other.job)).collect();
        let counts: Vec<Arg<'_>> = others.iter().map(|other| (other.recipients as u64).into()).collect();
        let destinations: Vec<Arg<'_>> = others.iter().map(|other| other.destination.as_str().into()).collect();
        script::Accompany {
            due: &keys.due,
            lease: &keys.lease,
            back_off: &keys.back_off,
            suspects: &keys.suspects,
            waiting: &waiting,
            token: token.into(),
            term: self.settings.lease.into(),
            most: (most as u64).into(),
            repeated: repeated.into(),
            jobs: &jobs,
            counts: &counts,
            destinations: &destinations,
        }
        .call()
    }

    fn look_for_all(self: &Arc<Self>, partition: u16, others: &[Other], token: &str, known: &[(QueueId, u16)]) {
        for other in others {
            self.look_for_strays(partition, other.destination.clone(), token.to_owned(), known.to_vec());
        }
    }

    /// A record that an operator has changed since it was read says something else of its jobs: they go back.
    async fn read_company(
        &self,
        keys: &Partition,
        record: &Arc<Record>,
        token: &str,
        claimed: &Claimed,
    ) -> Result<Vec<Job>, Error> {
        let mut pipeline = redis::Pipeline::new();
        pipeline.cmd("STRLEN").arg(keys.record(record.message.id)).cmd("MGET");
        for (id, job) in &claimed.names {
            pipeline.arg(keys.state(*id, *job));
        }
        let answers = self.node(keys.number).claims.send(&pipeline).await?;
        let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let is_same = answers.next().as_ref().map_or(0, value::count) == record.octets as u64;
        let states = value::into_array(answers.next().unwrap_or(redis::Value::Nil));
        let mut jobs = Vec::with_capacity(claimed.names.len());
        for (&(id, job), state) in claimed.names.iter().zip(states) {
            let Some(destination) = record.destinations.get(usize::from(job)) else { continue };
            let member: Arc<str> = format!("{id}.{job} {token} {destination}").into();
            let lease = Lease::new(id, job, destination.clone(), member);
            match assemble(&lease, record, value::into_bytes(state), claimed, self.reads) {
                Ok(job) if is_same => jobs.push(job),
                Ok(job) => self.put_off(&job.lease, std::time::Duration::ZERO).await?,
                Err(error) => self.leave_to_others(lease, &error).await,
            }
        }
        Ok(jobs)
    }
}

/// Other jobs of the message to destinations that are wanted, from the next one on and around, while they have no more than
/// `most` recipients: those before it were looked at when theirs were claimed.
fn others(record: &Record, but: u16, most: usize, wanted: impl Fn(&Destination) -> bool) -> Vec<Other> {
    let jobs = record.jobs();
    let mut left = most;
    let mut others = Vec::new();
    for job in (but + 1..jobs).chain(0..but.min(jobs)) {
        let Some(destination) = record.destinations.get(usize::from(job)).filter(|it| wanted(it)) else { continue };
        let recipients = record.recipients(job).len();
        if recipients > left {
            break;
        }
        left -= recipients;
        others.push(Other { job, destination: destination.clone(), recipients });
    }
    others
}
