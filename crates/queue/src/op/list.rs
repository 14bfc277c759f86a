//! The queue as operators read it: oldest first over all partitions, page by page, without a scan of the key space.
//!
//! Each partition has an index of its ids, which sort by arrival. A cursor is the last id of a page: the next page takes
//! what sorts behind it by time in every partition. A destination with few jobs is read from its own queue instead.

use std::collections::{BTreeSet, HashMap};

use redis::{Cmd, Pipeline, Value};
use staffetta_mail::QueueId;

use super::reclaim::parse_member;
use crate::partition::{Partition, job_name, parse_job_name};
use crate::record::{Record, State};
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Entry, Error, Filter, JobState, Place, UnixMillis};

/// Messages looked at in one call; a page may stay short when few of them match.
const BUDGET: usize = 10_000;
/// Messages read at once.
const GROUP: usize = 200;
/// A destination with more jobs is found by walking through all messages.
const FEW: u64 = 20_000;
/// The head of a record that nearly always holds all but the body.
const HEAD: usize = 2_048;

/// How ids sort over all partitions: their text without the partition.
type Order = (String, u16);

impl Shared {
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<String>), Error> {
        if let Some(id) = filter.id {
            let entry = self.entry(id).await?.filter(|entry| self.matches(entry, filter));
            return Ok((entry.into_iter().collect(), None));
        }
        let limit = limit.max(1);
        let mut after: Option<QueueId> = cursor.and_then(|text| text.parse().ok());
        let few = self.few_candidates(filter).await?;
        let (mut found, mut looked) = (Vec::new(), 0);
        loop {
            let ids = match &few {
                Some(all) => page_of(all, after),
                None => self.ids_after(after, GROUP.min(limit.max(16))).await?,
            };
            let Some(&last) = ids.last() else { return Ok((found, None)) };
            for entry in self.entries(&ids).await? {
                if self.too_young(entry.message.id, filter) {
                    return Ok((found, None));
                }
                if self.matches(&entry, filter) {
                    after = Some(entry.message.id);
                    found.push(entry);
                    if found.len() == limit {
                        return Ok((found, after.map(|id| id.to_string())));
                    }
                }
            }
            after = Some(last);
            looked += ids.len();
            if looked >= BUDGET {
                return Ok((found, Some(last.to_string())));
            }
        }
    }

    pub(crate) async fn entry(&self, id: QueueId) -> Result<Option<Entry>, Error> {
        Ok(self.entries(&[id]).await?.pop())
    }

    /// The record of a message; its body may be cut off.
    pub(crate) async fn record(&self, id: QueueId) -> Result<Option<Record>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.partition(id.partition()).record(id));
        match value::into_bytes(self.admin.ask(command).await?) {
            Some(bytes) if !bytes.is_empty() => Record::decode(id, &bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Ids are made when a message begins to arrive: in the order of time.
    fn too_young(&self, id: QueueId, filter: &Filter) -> bool {
        let age = self.clock.now().saturating_sub(id.unix_millis());
        filter.older_than.is_some_and(|least| u128::from(age) < least.as_millis())
    }

    fn matches(&self, entry: &Entry, filter: &Filter) -> bool {
        let sender = entry.message.envelope.sender.as_str();
        filter.sender.as_deref().is_none_or(|wanted| wanted == sender)
            && !self.too_young(entry.message.id, filter)
            && filter.destination.as_ref().is_none_or(|wanted| entry.jobs.iter().any(|job| job.destination == *wanted))
    }

    /// The next ids in order of time, merged from all partitions.
    async fn ids_after(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<QueueId>, Error> {
        let mut pipeline = Pipeline::new();
        for (number, keys) in (0..).zip(self.partitions()) {
            let bound = after.map_or_else(|| "-".to_owned(), |after| bound(after, number));
            pipeline.cmd("ZRANGEBYLEX").arg(&keys.ids).arg(bound).arg("+").arg("LIMIT").arg(0).arg(limit);
        }
        let answers = self.ask_all(&pipeline).await?;
        let ids = answers.iter().flat_map(value::array).filter_map(value::str);
        let mut ids: Vec<QueueId> = ids.filter_map(|id| id.parse().ok()).collect();
        ids.sort_by_cached_key(|id| order(*id));
        ids.truncate(limit);
        Ok(ids)
    }

    /// All messages with a job for one destination, if they are few.
    async fn few_candidates(&self, filter: &Filter) -> Result<Option<BTreeSet<(Order, QueueId)>>, Error> {
        let Some(destination) = &filter.destination else { return Ok(None) };
        let mut pipeline = Pipeline::new();
        for keys in self.partitions() {
            pipeline.cmd("ZCARD").arg(keys.waiting(destination.as_str()));
        }
        if self.ask_all(&pipeline).await?.iter().map(count).sum::<u64>() > FEW {
            return Ok(None);
        }
        let mut pipeline = Pipeline::new();
        for keys in self.partitions() {
            for key in [&keys.waiting(destination.as_str()), &keys.lease, &keys.held] {
                pipeline.cmd("ZRANGE").arg(key).arg(0).arg(-1);
            }
        }
        let answers = self.ask_all(&pipeline).await?;
        let names = answers.iter().flat_map(value::array).filter_map(value::str);
        let ids = names.filter_map(|name| match name.split_once(' ') {
            Some(_) => parse_member(name).filter(|lease| lease.destination == *destination).map(|lease| lease.id),
            None => parse_job_name(name).map(|(id, _)| id),
        });
        Ok(Some(ids.map(|id| (order(id), id)).collect()))
    }

    /// Reads messages with their jobs; those that end meanwhile are left out.
    async fn entries(&self, ids: &[QueueId]) -> Result<Vec<Entry>, Error> {
        let mut pipeline = Pipeline::new();
        for &id in ids {
            pipeline.cmd("GETRANGE").arg(self.partition(id.partition()).record(id)).arg(0).arg(HEAD - 1);
        }
        let heads = self.ask_all(&pipeline).await?;
        let mut records = Vec::with_capacity(ids.len());
        for (&id, head) in ids.iter().zip(heads) {
            let head = value::into_bytes(head).unwrap_or_default();
            match Record::decode(id, &head) {
                Ok(record) => records.push(record),
                Err(_) if head.len() == HEAD => records.extend(self.record(id).await?),
                Err(_) if head.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        let leases = self.leases(&records).await?;
        let mut pipeline = Pipeline::new();
        for record in &records {
            self.ask_jobs(&mut pipeline, record);
        }
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.ask_all(&pipeline).await?.into_iter();
        let entries = records.iter().map(|record| read_entry(record, &leases, &mut answers));
        Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|entry| !entry.jobs.is_empty()).collect())
    }

    /// What is leased in the partitions of these messages, and until when.
    async fn leases(&self, records: &[Record]) -> Result<HashMap<(QueueId, u16), UnixMillis>, Error> {
        let partitions: BTreeSet<u16> = records.iter().map(|record| record.message.id.partition()).collect();
        let mut pipeline = Pipeline::new();
        for number in partitions {
            pipeline.cmd("ZRANGE").arg(&self.partition(number).lease).arg(0).arg(-1).arg("WITHSCORES");
        }
        if pipeline.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = self.ask_all(&pipeline).await?;
        let members = answers.iter().flat_map(value::scored);
        Ok(members.filter_map(|(member, at)| parse_member(member).map(|lease| ((lease.id, lease.job), at))).collect())
    }

    fn ask_jobs(&self, pipeline: &mut Pipeline, record: &Record) {
        let id = record.message.id;
        let keys: &Partition = self.partition(id.partition());
        for (job, destination) in (0..).zip(&record.destinations) {
            pipeline.cmd("ZSCORE").arg(keys.waiting(destination.as_str())).arg(job_name(id, job));
            pipeline.cmd("ZSCORE").arg(&keys.held).arg(job_name(id, job));
            pipeline.cmd("GET").arg(keys.state(id, job));
        }
    }
}

/// Reads the answers to [`Shared::ask_jobs`]. A job that is nowhere is finished.
fn read_entry(
    record: &Record,
    leases: &HashMap<(QueueId, u16), UnixMillis>,
    answers: &mut impl Iterator<Item = Value>,
) -> Result<Entry, Error> {
    let id = record.message.id;
    let mut jobs = Vec::new();
    for (number, destination) in (0..).zip(&record.destinations) {
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (waiting, held, state) = (next(), next(), next());
        let place = match (value::score(&waiting), value::score(&held), leases.get(&(id, number))) {
            (Some(at), _, _) => Place::Waiting(at),
            (_, Some(_), _) => Place::Held,
            (_, _, Some(&until)) => Place::Leased(until),
            _ => continue,
        };
        let state = State::decode(id, &value::into_bytes(state).unwrap_or_default())?;
        jobs.push(JobState {
            number,
            destination: destination.clone(),
            place,
            attempts: state.as_ref().map_or(0, |state| state.attempts),
            status: state.as_ref().and_then(|state| state.status),
            reason: state.as_ref().map(|state| state.reason.clone()),
            recipients: state.map_or_else(|| record.recipients(number), |state| state.remaining),
        });
    }
    Ok(Entry { message: record.message.clone(), jobs })
}

fn page_of(all: &BTreeSet<(Order, QueueId)>, after: Option<QueueId>) -> Vec<QueueId> {
    let behind = all.iter().filter(|(place, _)| after.is_none_or(|after| *place > order(after)));
    behind.map(|(_, id)| *id).take(GROUP).collect()
}

/// The two characters of the partition stand in front; what follows is time, then chance.
fn order(id: QueueId) -> Order {
    (id.to_string().split_off(2), id.partition())
}

/// Where partition `number` goes on behind `after`: the same time counts as behind only in later partitions.
fn bound(after: QueueId, number: u16) -> String {
    let prefix = QueueId::new(number, 0, 0).to_string();
    let sign = if number <= after.partition() { '(' } else { '[' };
    format!("{sign}{}{}", &prefix[..2], &after.to_string()[2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_by_time_and_then_by_partition() {
        let (early, late) = (QueueId::new(9, 1_000, 5), QueueId::new(2, 2_000, 1));
        assert!(order(early) < order(late));
        let after = QueueId::new(4, 1_000, 5);
        let text = |number| QueueId::new(number, 1_000, 5).to_string();
        assert_eq!(bound(after, 4), format!("({}", text(4)));
        assert_eq!(bound(after, 3), format!("({}", text(3)));
        assert_eq!(bound(after, 5), format!("[{}", text(5)));
    }
}
