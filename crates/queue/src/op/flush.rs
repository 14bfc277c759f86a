//! FLUSH: waiting jobs become due now, back-offs end.

use redis::Cmd;
use staffetta_mail::QueueId;

use crate::partition::{Partition, job_name};
use crate::script::Script;
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Destination, Error, Filter, Place};

/// Jobs in one call.
const GROUP: u64 = 500;
/// Messages in one page when they must be looked at one by one.
const PAGE: usize = 500;

impl Shared {
    pub(crate) async fn flush(&self, filter: &Filter) -> Result<u64, Error> {
        match filter {
            Filter { id: None, sender: None, older_than: None, destination: Some(destination) } => {
                let mut total = 0;
                for keys in self.partitions() {
                    total += self.flush_destination(keys, destination).await?;
                }
                Ok(total)
            }
            Filter { id: None, sender: None, older_than: None, destination: None } => {
                let mut total = 0;
                for keys in self.partitions() {
                    for destination in self.destinations(keys).await? {
                        total += self.flush_destination(keys, &destination).await?;
                    }
                }
                Ok(total)
            }
            filter => self.flush_listed(filter).await,
        }
    }

    /// Every destination with waiting jobs is in `due`.
    async fn destinations(&self, keys: &Partition) -> Result<Vec<Destination>, Error> {
        let mut command = Cmd::new();
        command.arg("ZRANGE").arg(&keys.due).arg(0).arg(-1);
        let answer = self.admin.ask(command).await?;
        Ok(value::array(&answer).iter().filter_map(value::str).map(Destination::new).collect())
    }

    async fn flush_destination(&self, keys: &Partition, destination: &Destination) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let moved = self.flush_call(keys, destination, &[]).await?;
            total += moved;
            if moved < GROUP {
                return Ok(total);
            }
        }
    }

    async fn flush_call(&self, keys: &Partition, destination: &Destination, jobs: &[String]) -> Result<u64, Error> {
        let waiting = keys.waiting(destination.as_str());
        let mut call = Script::Flush.call(&[&waiting, &keys.due, &keys.back_off], 64 + 32 * jobs.len());
        call.arg(destination.as_str()).arg(GROUP).arg(jobs);
        Ok(count(&self.admin.ask(call).await?))
    }

    /// What needs a look at each message.
    async fn flush_listed(&self, filter: &Filter) -> Result<u64, Error> {
        let (mut total, mut cursor) = (0, None);
        loop {
            let (entries, next) = self.list(filter, cursor, PAGE).await?;
            for entry in entries {
                let id: QueueId = entry.message.id;
                let jobs = entry.jobs.iter().filter(|job| matches!(job.place, Place::Waiting(_)));
                let jobs =
                    jobs.filter(|job| filter.destination.as_ref().is_none_or(|wanted| *wanted == job.destination));
                for job in jobs {
                    let name = job_name(id, job.number);
                    total += self.flush_call(self.partition(id.partition()), &job.destination, &[name]).await?;
                }
            }
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(total),
            }
        }
    }
}
