//! FLUSH: waiting jobs become due now, back-offs end.

use std::collections::BTreeSet;

use staffetta_mail::QueueId;

use crate::partition::{Partition, job_name};
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value::count;
use crate::{Destination, Error, Filter, Page, Place};

/// Jobs in one call.
const GROUP: u64 = 500;
/// Messages in one page when they must be looked at one by one.
const PAGE: usize = 500;

impl Shared {
    pub(crate) async fn flush(&self, filter: &Filter) -> Result<u64, Error> {
        self.separate(filter).await?;
        let mut total = self.release_poison(filter).await?;
        if filter.needs_records() {
            return Ok(total + self.flush_listed(filter).await?);
        }
        for keys in self.partitions() {
            let destinations = match &filter.destination {
                Some(destination) => vec![destination.clone()],
                None => self.destinations(keys).await?,
            };
            for destination in destinations {
                total += self.flush_destination(keys, &destination).await?;
            }
        }
        Ok(total)
    }

    /// Every destination with waiting jobs is in `due`.
    pub(crate) async fn destinations(&self, keys: &Partition) -> Result<Vec<Destination>, Error> {
        let (mut all, mut cursor) = (BTreeSet::new(), Some("0".to_owned()));
        while let Some(from) = cursor {
            let (next, names) = self.node(keys.number).members(&keys.due, &from).await?;
            all.extend(names);
            cursor = next;
        }
        Ok(all.into_iter().map(Destination::new).collect())
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
        let jobs: Vec<Arg<'_>> = jobs.iter().map(|job| job.as_str().into()).collect();
        let call = script::Flush {
            waiting: &waiting,
            due: &keys.due,
            back_off: &keys.back_off,
            destination: destination.as_str().into(),
            limit: GROUP.into(),
            jobs: &jobs,
        }
        .call();
        Ok(count(&self.node(keys.number).admin.ask(call).await?))
    }

    async fn flush_unread(&self, id: QueueId) -> Result<u64, Error> {
        let jobs = self.traces(id).await?.jobs;
        let mut total = 0;
        for (job, destination) in self.places(id, &jobs).await? {
            total += self.flush_call(self.partition(id.partition()), &destination, &[job_name(id, job)]).await?;
        }
        Ok(total)
    }

    /// What needs a look at each message.
    async fn flush_listed(&self, filter: &Filter) -> Result<u64, Error> {
        let (mut total, mut cursor) = (0, None);
        loop {
            let Page { entries, unreadable, next } = self.list(filter, cursor, PAGE).await?;
            for message in unreadable.iter().filter(|_| filter.destination.is_none()) {
                total += self.flush_unread(message.id).await?;
            }
            for entry in entries {
                let id: QueueId = entry.message.id;
                for job in entry.selected(filter).filter(|job| matches!(job.place, Place::Waiting(_))) {
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
