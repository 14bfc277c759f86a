//! RECLAIM: takes back what workers have let expire.

use std::sync::Arc;

use redis::Cmd;

use crate::error::Fault;
use crate::job::Facts;
use crate::partition::{Partition, parse_job_name};
use crate::record::Record;
use crate::script::{self, Arg};
use crate::shared::{Requests, Shared};
use crate::value;
use crate::{Destination, Error, Lease};

/// Leases in one round.
const GROUP: usize = 200;

impl Shared {
    pub(crate) async fn reclaim(self: &Arc<Self>, partition: u16) -> Result<u64, Error> {
        self.shelf.tidy(std::time::Instant::now());
        let keys = self.partition(partition);
        let mut total = 0;
        loop {
            let (seen, moved) = self.reclaim_group(keys).await?;
            total += moved;
            if seen < GROUP || moved == 0 {
                total += self.release_over(keys).await?;
                if let Err(error) = self.reap(keys).await {
                    tracing::debug!(partition, %error, "garbage stays until the next look");
                }
                return Ok(total);
            }
        }
    }

    /// Leases that look expired, and jobs that were taken back.
    async fn reclaim_group(&self, keys: &Partition) -> Result<(usize, u64), Error> {
        // Leases are renewed long before half of them is over.
        if self.node(keys.number).clock.has_leapt_within(self.settings.lease / 2) {
            return Ok((0, 0));
        }
        let expired = self.expired(keys).await?;
        if expired.is_empty() {
            return Ok((0, 0));
        }
        let states: Vec<String> = expired.iter().map(|lease| keys.state(lease.id, lease.job)).collect();
        let waiting: Vec<String> = expired.iter().map(|lease| keys.waiting(lease.destination.as_str())).collect();
        let members: Vec<Arg<'_>> = expired.iter().map(|lease| (&*lease.member).into()).collect();
        let jobs: Vec<Arg<'_>> = expired.iter().map(|lease| Arg::Job(lease.id, lease.job)).collect();
        let destinations: Vec<Arg<'_>> = expired.iter().map(|lease| lease.destination.as_str().into()).collect();
        let call = script::Reclaim {
            lease: &keys.lease,
            due: &keys.due,
            held: &keys.held,
            suspects: &keys.suspects,
            term: self.settings.lease.into(),
            states: &states,
            waiting: &waiting,
            members: &members,
            jobs: &jobs,
            destinations: &destinations,
        }
        .call();
        let answer = self.node(keys.number).settles.call(call, 200 * expired.len()).await?;
        let mut moved = 0;
        for (lease, verdict) in expired.iter().zip(value::array(&answer)) {
            match value::integer(verdict) {
                Some(1) => moved += 1,
                Some(2) => {
                    moved += 1;
                    tracing::error!(qid = %lease.id, job = lease.job, destination = %lease.destination,
                        "five workers in a row did not finish this job: held");
                }
                Some(3) => moved += u64::from(self.finish_deleted(keys, lease).await?),
                _ => {}
            }
        }
        Ok((expired.len(), moved))
    }

    /// See [`crate::Queue::begin`].
    pub(crate) async fn begin(&self, lease: &Lease) -> Result<bool, Error> {
        let keys = self.partition(lease.id.partition());
        let member = (&*lease.member).into();
        let call = script::Suspect { lease: &keys.lease, suspects: &keys.suspects, member }.call();
        let answer = self.node(keys.number).settles.call(call, 128).await?;
        Ok(value::integer(&answer) == Some(1))
    }

    /// See [`crate::Queue::excuse`].
    pub(crate) async fn excuse(&self, leases: &[Lease]) -> Result<(), Error> {
        let mut requests = Requests::new(self);
        for lease in leases {
            let number = lease.id.partition();
            requests.to(number).cmd("ZREM").arg(&self.partition(number).suspects).arg(&*lease.member);
        }
        self.ask_all(&requests).await.map(drop)
    }

    /// A first look by our own clock; the script looks again by TIME.
    async fn expired(&self, keys: &Partition) -> Result<Vec<Lease>, Fault> {
        let mut command = Cmd::new();
        command.arg("ZRANGEBYSCORE").arg(&keys.lease).arg("-inf").arg(self.node(keys.number).clock.now());
        command.arg("LIMIT").arg(0).arg(GROUP);
        let answer = self.node(keys.number).settles.call(command, 128).await?;
        Ok(value::array(&answer).iter().filter_map(value::str).filter_map(parse_member).collect())
    }

    /// The worker of a job that an operator has deleted is gone: end the job in its place.
    async fn finish_deleted(&self, keys: &Partition, lease: &Lease) -> Result<bool, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(keys.record(lease.id));
        let Some(bytes) = value::into_bytes(self.node(keys.number).settles.call(command, 128).await?) else {
            return Ok(false);
        };
        let Ok(record) = Record::decode(lease.id, &bytes, self.reads) else {
            return self.finish_unread(lease).await.map(|()| true);
        };
        let facts =
            Facts { jobs: record.jobs(), chunks: record.chunks(), arrived: record.message.arrived, ..Facts::default() };
        let counted_for = record.counted_for;
        self.finish(&Lease { facts, counted_for, ..lease.clone() }, &[]).await?;
        Ok(true)
    }
}

/// Reads `job token destination`.
pub(crate) fn parse_member(member: &str) -> Option<Lease> {
    let mut parts = member.splitn(3, ' ');
    let (id, job) = parse_job_name(parts.next()?)?;
    let destination = Destination::new(parts.nth(1)?);
    Some(Lease::new(id, job, destination, member.into()))
}
