//! The queue as operators read it: oldest first over all partitions, page by page, without a scan of the key space.
//!
//! Each partition has an index of its ids, which sort by arrival. A cursor is the last id of a page: the next page takes
//! what sorts behind it by time in every partition. A destination with few jobs is read from its own queue instead.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use redis::{Cmd, Value};
use staffetta_mail::QueueId;

use super::reclaim::parse_member;
use crate::admin::is_meant;
use crate::format::{ReadError, State};
use crate::partition::{Partition, job_name, parse_job_name};
use crate::record::Record;
use crate::revocation::login_key;
use crate::shared::{Requests, Shared};
use crate::value::{self, count};
use crate::{Body, Entry, Error, Filter, Health, JobState, Kept, Page, Place, UnixMillis, Unreadable};

/// Messages looked at in one call; a page may stay short when few of them match.
const BUDGET: usize = 10_000;
/// Messages read at once.
const GROUP: usize = 200;
/// A destination with more jobs in a partition is found by walking through all messages: no single answer of Redis is longer.
const FEW: u64 = 5_000;
/// The head of a record that nearly always holds all but the body.
const HEAD: usize = 2_048;

/// What a list finds.
enum Listed {
    Entry(Entry),
    Unreadable(Unreadable),
}

impl Listed {
    fn id(&self) -> QueueId {
        match self {
            Self::Entry(entry) => entry.message.id,
            Self::Unreadable(message) => message.id,
        }
    }

    fn add_to(self, page: &mut Page) {
        match self {
            Self::Entry(entry) => page.entries.push(entry),
            Self::Unreadable(message) => page.unreadable.push(message),
        }
    }
}

/// How ids sort over all partitions: their text without the partition.
type Order = (String, u16);

impl Shared {
    pub(crate) async fn list(&self, filter: &Filter, cursor: Option<String>, limit: usize) -> Result<Page, Error> {
        let mut page = Page::default();
        if let Some(id) = filter.id {
            for listed in self.entries(&[id]).await?.into_iter().filter(|listed| self.matches(listed, filter)) {
                listed.add_to(&mut page);
            }
            return Ok(page);
        }
        let limit = limit.max(1);
        let mut after: Option<QueueId> = cursor.and_then(|text| text.parse().ok());
        let few = self.few_candidates(filter).await?;
        let (mut found, mut looked) = (0, 0);
        loop {
            let ids = match &few {
                Some(all) => page_of(all, after),
                None => self.ids_after(after, GROUP.min(limit.max(16))).await?,
            };
            let Some(&last) = ids.last() else { return Ok(page) };
            for listed in self.entries(&ids).await? {
                let id = listed.id();
                if self.too_young(id, filter) {
                    return Ok(page);
                }
                if self.matches(&listed, filter) {
                    listed.add_to(&mut page);
                    found += 1;
                    if found == limit {
                        return Ok(Page { next: Some(id.to_string()), ..page });
                    }
                }
            }
            after = Some(last);
            looked += ids.len();
            if looked >= BUDGET {
                return Ok(Page { next: Some(last.to_string()), ..page });
            }
        }
    }

    pub(crate) async fn entry(&self, id: QueueId) -> Result<Option<Entry>, Error> {
        match self.entries(&[id]).await?.pop() {
            None => Ok(None),
            Some(Listed::Entry(entry)) => Ok(Some(entry)),
            Some(Listed::Unreadable(message)) => Err(Error::Unreadable(id, message.reason)),
        }
    }

    /// Those of these messages that match.
    pub(crate) async fn matching(&self, ids: &[QueueId], filter: &Filter) -> Result<Vec<Entry>, Error> {
        let listed = self.entries(ids).await?.into_iter();
        let listed =
            listed.filter(|listed| filter.id.is_none_or(|id| id == listed.id()) && self.matches(listed, filter));
        Ok(listed
            .filter_map(|listed| match listed {
                Listed::Entry(entry) => Some(entry),
                Listed::Unreadable(_) => None,
            })
            .collect())
    }

    /// The record of a message, whole.
    pub(crate) async fn record(&self, id: QueueId) -> Result<Option<Result<Record, ReadError>>, Error> {
        Ok(self.record_octets(id).await?.map(|octets| Record::decode(id, &octets, self.reads)))
    }

    /// Its octets.
    pub(crate) async fn record_octets(&self, id: QueueId) -> Result<Option<Bytes>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.partition(id.partition()).record(id));
        Ok(value::into_bytes(self.node(id.partition()).admin.ask(command).await?).filter(|bytes| !bytes.is_empty()))
    }

    /// Ids are made when a message begins to arrive: in the order of time.
    fn too_young(&self, id: QueueId, filter: &Filter) -> bool {
        let age = self.node(id.partition()).clock.now().saturating_sub(id.unix_millis());
        filter.older_than.is_some_and(|least| u128::from(age) < least.as_millis())
    }

    fn matches(&self, listed: &Listed, filter: &Filter) -> bool {
        if self.too_young(listed.id(), filter) {
            return false;
        }
        match listed {
            Listed::Unreadable(_) => filter.destination.is_none() && !filter.says_who(),
            Listed::Entry(entry) => selected(entry, filter),
        }
    }

    /// The next ids in order of time, merged from all partitions.
    async fn ids_after(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<QueueId>, Error> {
        let mut requests = Requests::new(self);
        for keys in self.within_reach() {
            let number = keys.number;
            let bound = after.map_or_else(|| "-".to_owned(), |after| bound(after, number));
            requests.to(number).cmd("ZRANGEBYLEX").arg(&keys.ids).arg(bound).arg("+").arg("LIMIT").arg(0).arg(limit);
        }
        let answers = self.ask_all(&requests).await?;
        let ids = answers.iter().flat_map(value::array).filter_map(value::str);
        let mut ids: Vec<QueueId> = ids.filter_map(|id| id.parse().ok()).collect();
        ids.sort_by_cached_key(|id| order(*id));
        ids.truncate(limit);
        Ok(ids)
    }

    /// All messages with a job for one destination, if they are few, and so is what else has to be looked through.
    async fn few_candidates(&self, filter: &Filter) -> Result<Option<BTreeSet<(Order, QueueId)>>, Error> {
        let Some(destination) = &filter.destination else { return Ok(None) };
        let there = self.within_reach();
        let mut requests = Requests::new(self);
        for keys in &there {
            for key in [&keys.waiting(destination.as_str()), &keys.lease, &keys.held] {
                requests.to(keys.number).cmd("ZCARD").arg(key);
            }
        }
        if self.ask_all(&requests).await?.iter().map(count).max() > Some(FEW) {
            return Ok(None);
        }
        // At one moment, as in `jobs_of`.
        let mut requests = Requests::new(self);
        for keys in &there {
            let at_once = self.has_room(keys.number);
            if at_once {
                requests.to(keys.number).cmd("MULTI");
            }
            for key in [&keys.waiting(destination.as_str()), &keys.lease, &keys.held] {
                requests.to(keys.number).cmd("ZRANGE").arg(key).arg(0).arg(-1);
            }
            if at_once {
                requests.to(keys.number).cmd("EXEC");
            }
        }
        let answers = self.ask_all(&requests).await?;
        // The answer of EXEC is one of answers.
        let flat = |answer: &'_ Value| match answer {
            Value::Array(names) => names.clone(),
            name => vec![name.clone()],
        };
        let members: Vec<Value> = answers.iter().flat_map(value::array).flat_map(flat).collect();
        let names = members.iter().filter_map(value::str);
        let ids = names.filter_map(|name| match name.split_once(' ') {
            Some(_) => parse_member(name).filter(|lease| lease.destination == *destination).map(|lease| lease.id),
            None => parse_job_name(name).map(|(id, _)| id),
        });
        Ok(Some(ids.map(|id| (order(id), id)).collect()))
    }

    /// Reads messages with their jobs, in this order; those that end meanwhile are left out.
    async fn entries(&self, ids: &[QueueId]) -> Result<Vec<Listed>, Error> {
        let read = self.records(ids).await?;
        let mut entries = self.jobs_of(read.iter().filter_map(|read| read.as_ref().ok())).await?;
        let listed = read.iter().filter_map(|read| match read {
            Ok(record) => entries.remove(&record.message.id).map(Listed::Entry),
            Err(message) => Some(Listed::Unreadable(message.clone())),
        });
        Ok(listed.collect())
    }

    /// A Redis without memory refuses every command in a MULTI: there, what moves meanwhile may be missed.
    fn has_room(&self, partition: u16) -> bool {
        self.node(partition).health() != Health::Full
    }

    /// These messages with their jobs; without those that have none any more. All that belongs to one partition is read at
    /// one moment: a job that is claimed or put back between two looks would be nowhere, and its message would be missed.
    async fn jobs_of<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<HashMap<QueueId, Entry>, Error> {
        let mut partitions: BTreeMap<u16, Vec<&Record>> = BTreeMap::new();
        for record in records {
            partitions.entry(record.message.id.partition()).or_default().push(record);
        }
        let mut requests = Requests::new(self);
        let mut shapes = Vec::with_capacity(partitions.len());
        for (&number, records) in &partitions {
            let at_once = self.has_room(number);
            shapes.push((at_once, 1 + 4 * records.iter().map(|record| record.destinations.len()).sum::<usize>()));
            if at_once {
                requests.to(number).cmd("MULTI");
            }
            requests.to(number).cmd("ZRANGE").arg(&self.partition(number).lease).arg(0).arg(-1).arg("WITHSCORES");
            for record in records {
                self.ask_jobs(&mut requests, record);
            }
            if at_once {
                requests.to(number).cmd("EXEC");
            }
        }
        let mut all = self.ask_all(&requests).await?.into_iter();
        let mut entries = HashMap::new();
        for (records, (at_once, asked)) in partitions.into_values().zip(shapes) {
            let answers: Vec<Value> = match at_once {
                // MULTI and all that was asked have answers without content; the last is that of EXEC.
                true => all.by_ref().take(asked + 2).last().map(value::into_array).unwrap_or_default(),
                false => all.by_ref().take(asked).collect(),
            };
            let mut answers = answers.into_iter();
            let leases = leases(&answers.next().unwrap_or(Value::Nil));
            let read = records.into_iter().map(|record| read_entry(record, &leases, &mut answers, self.reads));
            entries.extend(read.filter(|entry| !entry.jobs.is_empty()).map(|entry| (entry.message.id, entry)));
        }
        Ok(entries)
    }

    /// The records that are there; their bodies may be cut off.
    pub(crate) async fn records(&self, ids: &[QueueId]) -> Result<Vec<Result<Record, Unreadable>>, Error> {
        let mut requests = Requests::new(self);
        for &id in ids {
            requests
                .to(id.partition())
                .cmd("GETRANGE")
                .arg(self.partition(id.partition()).record(id))
                .arg(0)
                .arg(HEAD - 1);
        }
        let heads = self.ask_all(&requests).await?;
        let mut records = Vec::with_capacity(ids.len());
        for (&id, head) in ids.iter().zip(heads) {
            let head = value::into_bytes(head).unwrap_or_default();
            let read = match Record::decode(id, &head, self.reads) {
                _ if head.is_empty() => continue,
                Err(ReadError::Damaged(_)) if head.len() == HEAD => match self.record(id).await? {
                    Some(read) => read,
                    None => continue,
                },
                read => read,
            };
            records.push(match read {
                Ok(record) => Ok(record),
                Err(error) => Err(self.unread(id, &error).await?),
            });
        }
        Ok(records)
    }

    fn ask_jobs(&self, requests: &mut Requests<'_>, record: &Record) {
        let id = record.message.id;
        let keys: &Partition = self.partition(id.partition());
        for (job, destination) in (0..).zip(&record.destinations) {
            requests.to(keys.number).cmd("ZSCORE").arg(keys.waiting(destination.as_str())).arg(job_name(id, job));
            requests.to(keys.number).cmd("ZSCORE").arg(&keys.held).arg(job_name(id, job));
            requests.to(keys.number).cmd("GET").arg(keys.state(id, job));
            requests.to(keys.number).cmd("HGET").arg(&keys.back_off).arg(destination.as_str());
        }
    }
}

/// What is leased in a partition, and until when.
fn leases(answer: &Value) -> HashMap<(QueueId, u16), UnixMillis> {
    let members = value::scored(answer).into_iter();
    members.filter_map(|(member, at)| parse_member(member).map(|lease| ((lease.id, lease.job), at))).collect()
}

/// Reads the answers to [`Shared::ask_jobs`]. A job that is nowhere is finished.
fn read_entry(
    record: &Record,
    leases: &HashMap<(QueueId, u16), UnixMillis>,
    answers: &mut impl Iterator<Item = Value>,
    newest: u8,
) -> Entry {
    let id = record.message.id;
    let mut jobs = Vec::new();
    for (number, destination) in (0..).zip(&record.destinations) {
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (waiting, held, state, rest) = (next(), next(), next(), next());
        let rest = value::score(&rest);
        let place = match (value::score(&waiting), value::score(&held), leases.get(&(id, number))) {
            (Some(at), _, _) => Place::Waiting(rest.map_or(at, |rest| rest.max(at))),
            (_, Some(_), _) => Place::Held,
            (_, _, Some(&until)) => Place::Leased(until),
            _ => continue,
        };
        let state = value::into_bytes(state).unwrap_or_default();
        let poison = place == Place::Held && state.first().is_some_and(|count| (b'5'..=b'9').contains(count));
        let state = State::read(&state, newest);
        let state = state.unwrap_or_else(|error| {
            let reason = format!("what the last attempt has left cannot be read: {error}");
            Some(State { remaining: record.recipients(number), reason, ..State::default() })
        });
        jobs.push(JobState {
            number,
            destination: destination.clone(),
            place,
            rests: rest.is_some_and(|rest| place == Place::Waiting(rest)),
            poison,
            attempts: state.as_ref().map_or(0, |state| state.attempts),
            status: state.as_ref().and_then(|state| state.status),
            reason: state.as_ref().map(|state| state.reason.clone()),
            recipients: state.map_or_else(|| record.recipients(number), |state| state.remaining),
        });
    }
    let is_in_store = matches!(record.body, Body::Chunks(chunks) if chunks.kept != Kept::InRedis);
    Entry { message: record.message.clone(), jobs, is_in_store }
}

/// Is it this login, in any spelling?
fn same(wanted: &str) -> impl Fn(&str) -> bool {
    move |login| login == wanted || login_key(login) == login_key(wanted)
}

/// Does a message that is old enough match the rest?
fn selected(entry: &Entry, filter: &Filter) -> bool {
    let message = &entry.message;
    filter.sender.as_deref().is_none_or(|wanted| is_meant(message.envelope.sender.as_str(), wanted))
        && filter.login.as_deref().is_none_or(|wanted| message.origin.login.as_deref().is_some_and(same(wanted)))
        && entry.selected(filter).next().is_some()
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
