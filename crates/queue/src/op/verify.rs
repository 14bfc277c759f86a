//! VERIFY: is every message, and every delivery, in its place? On the queue as it is, while mail comes and goes.
//!
//! Three walks, all by pages: over the keys of each server, for what no list names; over what is leased and held; over the
//! messages. A page only says where to look: whatever is out of place is looked at again by a script, at one moment and only if
//! its record is still the one that was read, which is the only one to judge, and puts right what is to be put right in the
//! same step. So mail that moves meanwhile is never taken for a fault.

mod counts;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};
use staffetta_mail::QueueId;

use super::act::note;
use super::reclaim::parse_member;
use super::scan::PAGE;
use crate::finding::{Finding, Problem, Verified};
use crate::node::Node;
use crate::partition::{Partition, parse_job_name};
use crate::record::Record;
use crate::script;
use crate::shared::Shared;
use crate::spool::Place;
use crate::value::{self, count};
use crate::{Destination, Error};

/// Messages that Redis looks at without a pause.
const GROUP: usize = 100;
/// Looks at a message that is being changed.
const TRIES: usize = 5;

/// A look at the queue.
pub(crate) struct Look<'a> {
    shared: &'a Shared,
    repair: bool,
    tell: &'a mut (dyn FnMut(&Finding) + Send),
    verified: Verified,
    /// A message was lost and is listed no longer.
    delisted: bool,
    /// Messages of the partition under way that count for a login.
    counted_for: BTreeMap<QueueId, Arc<str>>,
    /// Messages of the partition under way whose bodies are in the store, and of how many pieces.
    in_store: BTreeMap<QueueId, (Place, u32)>,
}

/// The leases of a partition, a moment ago: most messages need no look at all of them.
#[derive(Default)]
struct Leases {
    members: HashMap<QueueId, Vec<String>>,
    /// Pages that they serve still.
    good_for: usize,
}

/// What a walk over the messages of a partition has seen.
#[derive(Default)]
struct Walk {
    /// What was counted before it began.
    counted: (i64, u64),
    messages: u64,
    jobs: u64,
    /// Open deliveries beyond the first of each message.
    beyond: i64,
    /// Messages that count for a login.
    logins: BTreeMap<String, i64>,
    unreadable: u64,
}

impl Shared {
    pub(crate) async fn verify(
        &self,
        repair: bool,
        tell: &mut (dyn FnMut(&Finding) + Send),
    ) -> Result<Verified, Error> {
        let mut look = Look {
            shared: self,
            repair,
            tell,
            verified: Verified::default(),
            delisted: false,
            counted_for: BTreeMap::new(),
            in_store: BTreeMap::new(),
        };
        look.all_keys().await?;
        for keys in self.partitions() {
            look.members(keys, &keys.held, |member| Some(parse_job_name(member)?.0)).await?;
            look.messages(keys).await?;
        }
        // What belonged to messages that were taken off the list belongs to nobody now.
        if look.delisted {
            look.all_keys().await?;
        }
        for keys in self.partitions() {
            look.destinations(keys).await?;
        }
        look.store().await?;
        Ok(look.verified)
    }
}

impl Look<'_> {
    fn found(&mut self, partition: u16, id: Option<QueueId>, problem: Problem, about: String) {
        let mended = self.repair && problem.is_curable();
        self.verified.findings += 1;
        self.verified.mended += u64::from(mended);
        self.delisted |= mended && problem == Problem::Lost;
        (self.tell)(&Finding { partition, id, problem, about, mended });
    }

    async fn all_keys(&mut self) -> Result<(), Error> {
        for node in self.shared.nodes() {
            let mut cursor = Some("0".to_owned());
            while let Some(from) = cursor {
                let (next, keys) = node.keys(&from).await?;
                self.look_at_keys(node, &keys).await?;
                cursor = next;
            }
        }
        Ok(())
    }

    async fn look_at_keys(&mut self, node: &Node, names: &[String]) -> Result<(), Error> {
        let keys: Vec<Key<'_>> = names.iter().filter_map(|name| self.shared.parse_key(name)).collect();
        let of_messages: Vec<&Key<'_>> = keys.iter().filter(|key| key.id.is_some()).collect();
        let mut pipeline = Pipeline::new();
        for key in &of_messages {
            pipeline.cmd("ZSCORE").arg(&key.partition.ids).arg(key.id.map(|id| id.to_string()));
        }
        let listed = node.ask_all(&pipeline).await?;
        let unlisted =
            of_messages.into_iter().zip(listed).filter(|(_, score)| *score == Value::Nil).map(|(key, _)| key);
        for key in unlisted {
            match key.id {
                Some(id) if key.is_record => drop(self.examine(key.partition, &[id], &Leases::default()).await?),
                Some(id) => self.sweep(key.partition, id, key.name, "").await?,
                None => {}
            }
        }
        for key in keys.iter().filter(|key| key.destination.is_some()) {
            let named = key.destination.unwrap_or_default();
            self.members(key.partition, key.name, |member| Some(parse_job_name(member)?.0)).await?;
            self.destination(key.partition, named).await?;
        }
        Ok(())
    }

    /// What is in a set must belong to a message that exists. Returns what does, of leases.
    async fn members(
        &mut self,
        keys: &Partition,
        set: &str,
        id_of: impl Fn(&str) -> Option<QueueId>,
    ) -> Result<HashMap<QueueId, Vec<String>>, Error> {
        let (mut cursor, mut there) = (Some("0".to_owned()), HashMap::<QueueId, Vec<String>>::new());
        let node = self.shared.node(keys.number);
        while let Some(from) = cursor {
            let (next, members) = node.members(set, &from).await?;
            let members: Vec<(&String, QueueId)> =
                members.iter().filter_map(|member| Some((member, id_of(member)?))).collect();
            let mut pipeline = Pipeline::new();
            for (_, id) in &members {
                pipeline.cmd("ZSCORE").arg(&keys.ids).arg(id.to_string());
            }
            for ((member, id), listed) in members.into_iter().zip(node.ask_all(&pipeline).await?) {
                if listed == Value::Nil {
                    self.sweep(keys, id, set, member).await?;
                } else if set == keys.lease {
                    there.entry(id).or_default().push(member.clone());
                }
            }
            cursor = next;
        }
        Ok(there)
    }

    /// The leases of a partition, for as many pages as it is worth to look at them.
    async fn leases(&mut self, keys: &Partition, leases: &mut Leases) -> Result<(), Error> {
        if leases.good_for == 0 {
            leases.members = self.members(keys, &keys.lease, |member| Some(parse_member(member)?.id)).await?;
            leases.good_for = 1 + leases.members.len() / PAGE;
        }
        leases.good_for -= 1;
        Ok(())
    }

    /// Every message of a partition, and whether their deliveries are counted as they are.
    async fn messages(&mut self, keys: &Partition) -> Result<(), Error> {
        let mended = self.verified.mended;
        let mut walk = self.walk(keys).await?;
        if self.verified.mended != mended {
            walk = self.walk(keys).await?;
        }
        self.pieces(keys).await?;
        self.verified.messages += walk.messages;
        self.verified.jobs += walk.jobs;
        self.verified.unreadable += walk.unreadable;
        self.recount(keys, walk).await
    }

    async fn walk(&mut self, keys: &Partition) -> Result<Walk, Error> {
        let (mut from, mut leases) = ("-".to_owned(), Leases::default());
        let mut walk = Walk { counted: self.counted(keys).await?, ..Walk::default() };
        self.counted_for.clear();
        loop {
            let mut command = Cmd::new();
            command.arg("ZRANGEBYLEX").arg(&keys.ids).arg(&from).arg("+").arg("LIMIT").arg(0).arg(PAGE);
            let answer = self.shared.node(keys.number).admin.ask(command).await?;
            let names: Vec<&str> = value::array(&answer).iter().filter_map(value::str).collect();
            let Some(last) = names.last() else {
                for login in std::mem::take(&mut self.counted_for).into_values() {
                    *walk.logins.entry(login.to_string()).or_default() += 1;
                }
                return Ok(walk);
            };
            from = format!("({last}");
            let ids: Vec<QueueId> = names.iter().filter_map(|id| id.parse().ok()).collect();
            self.leases(keys, &mut leases).await?;
            for open in self.examine(keys, &ids, &leases).await? {
                walk.messages += 1;
                match open {
                    Some(open) => {
                        walk.jobs += open;
                        walk.beyond += i64::try_from(open).unwrap_or(i64::MAX).saturating_sub(1).max(0);
                    }
                    None => walk.unreadable += 1,
                }
            }
        }
    }

    /// Looks at these messages, each at one moment; whatever seems to be out of place is looked at once more, and all leases
    /// with it. How many deliveries are open; `None` of one that cannot be read.
    async fn examine(&mut self, keys: &Partition, ids: &[QueueId], leases: &Leases) -> Result<Vec<Option<u64>>, Error> {
        let mut open = Vec::with_capacity(ids.len());
        let mut doubtful = Vec::new();
        for ids in ids.chunks(GROUP) {
            for (id, answer) in self.ask(keys, ids, leases, false).await? {
                match answer.as_deref() {
                    None => open.push(None),
                    Some([only]) => open.push(Some(count(only))),
                    Some(_) => doubtful.push(id),
                }
            }
        }
        for id in doubtful {
            open.push(self.examine_closely(keys, id).await?);
        }
        Ok(open)
    }

    /// Judges, and puts right.
    async fn examine_closely(&mut self, keys: &Partition, id: QueueId) -> Result<Option<u64>, Error> {
        for _ in 0..TRIES {
            let Some((_, Some(answer))) = self.ask(keys, &[id], &Leases::default(), true).await?.pop() else {
                return Ok(None);
            };
            let words: Vec<&str> = answer.iter().skip(1).filter_map(value::str).collect();
            if words.contains(&"changed") {
                continue;
            }
            words.into_iter().for_each(|word| self.told(keys, id, word));
            return Ok(answer.first().map(count));
        }
        Ok(None)
    }

    /// The answers of [`script::Mend`]; `None` of a message that cannot be read. Only a close look puts right.
    async fn ask(
        &mut self,
        keys: &Partition,
        ids: &[QueueId],
        leases: &Leases,
        closely: bool,
    ) -> Result<Vec<(QueueId, Option<Vec<Value>>)>, Error> {
        let node = self.shared.node(keys.number);
        // Before they are read: one that changes meanwhile is longer than what is said here.
        let mut pipeline = Pipeline::new();
        for id in ids {
            pipeline.cmd("STRLEN").arg(keys.record(*id));
        }
        let octets = node.ask_all(&pipeline).await?;
        let mut read: HashMap<QueueId, Result<Record, ()>> = HashMap::new();
        for record in self.shared.records(ids).await? {
            match record {
                Ok(record) => {
                    if let Some(login) = &record.counted_for {
                        self.counted_for.insert(record.message.id, login.clone());
                    }
                    if let Some(place) = record.chunks().place(record.message.id) {
                        self.in_store.insert(record.message.id, (place, record.chunks().count));
                    }
                    read.insert(record.message.id, Ok(record));
                }
                Err(message) => drop(read.insert(message.id, Err(()))),
            }
        }
        let mut pipeline = Pipeline::new();
        for (id, octets) in ids.iter().zip(&octets) {
            let record = match read.get(id) {
                Some(Err(())) => continue,
                Some(Ok(record)) => Some(record),
                None => None,
            };
            let members = leases.members.get(id).map(Vec::as_slice).unwrap_or_default();
            pipeline.add_command(mend(keys, *id, record, count(octets), members, closely, self.repair && closely));
        }
        let mut answers = node.ask_all(&pipeline).await?.into_iter();
        let each = ids.iter().map(|id| match read.get(id) {
            Some(Err(())) => (*id, None),
            _ => (*id, answers.next().map(value::into_array)),
        });
        Ok(each.collect())
    }

    /// A word of [`script::Mend`].
    fn told(&mut self, keys: &Partition, id: QueueId, text: &str) {
        let (word, destination) = text.split_once(' ').unwrap_or((text, ""));
        let problem = match word {
            "lost" => Problem::Lost,
            "torn" => Problem::Torn,
            "fading" => Problem::Fading,
            "unlisted" => Problem::Unlisted,
            "uncounted" => Problem::Uncounted,
            "nowhere" => Problem::Nowhere,
            "twice" => Problem::Twice,
            _ => Problem::Over,
        };
        self.found(keys.number, Some(id), problem, destination.to_owned());
    }

    /// Destinations that are looked at.
    async fn destinations(&mut self, keys: &Partition) -> Result<(), Error> {
        let mut cursor = Some("0".to_owned());
        while let Some(from) = cursor {
            let node = self.shared.node(keys.number);
            let (next, names) = node.members(&keys.due, &from).await?;
            let mut pipeline = Pipeline::new();
            for name in &names {
                pipeline.cmd("EXISTS").arg(keys.waiting(name));
            }
            let there = node.ask_all(&pipeline).await?;
            for (name, _) in names.iter().zip(there).filter(|(_, there)| count(there) == 0) {
                self.destination(keys, name).await?;
            }
            cursor = next;
        }
        Ok(())
    }

    async fn destination(&mut self, keys: &Partition, name: &str) -> Result<(), Error> {
        let call = script::MendDestination {
            waiting: &keys.waiting(name),
            due: &keys.due,
            destination: name.into(),
            repair: self.repair.into(),
        }
        .call();
        match count(&self.shared.node(keys.number).admin.ask(call).await?) {
            1 => self.found(keys.number, None, Problem::Asleep, name.to_owned()),
            2 => self.found(keys.number, None, Problem::Idle, name.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Something whose message is not listed: a member of a set, or a key.
    async fn sweep(&mut self, keys: &Partition, id: QueueId, place: &str, member: &str) -> Result<(), Error> {
        let call = script::Sweep {
            place,
            ids: &keys.ids,
            record: &keys.record(id),
            garbage: &keys.garbage,
            id: id.into(),
            member: member.into(),
            repair: self.repair.into(),
        }
        .call();
        if count(&self.shared.node(keys.number).admin.ask(call).await?) == 1 {
            let problem = if member.is_empty() { Problem::Leftover } else { Problem::Ghost };
            self.found(keys.number, Some(id), problem, place.to_owned());
        }
        Ok(())
    }
}

/// A key that is of interest.
struct Key<'a> {
    name: &'a str,
    partition: &'a Partition,
    /// The message it belongs to.
    id: Option<QueueId>,
    is_record: bool,
    /// The destination whose jobs wait in it.
    destination: Option<&'a str>,
}

impl Shared {
    fn parse_key<'a>(&'a self, name: &'a str) -> Option<Key<'a>> {
        let number = name.strip_prefix("{kq:")?.split('.').next()?.parse().ok()?;
        let partition = self.partition(number);
        let (kind, rest) = partition.tail(name)?.split_once(':')?;
        let (id, destination) = match kind {
            "m" | "s" | "o" | "b" => (Some(rest.split(['.', ':']).next()?.parse().ok()?), None),
            "w" => (None, Some(rest)),
            _ => return None,
        };
        Some(Key { name, partition, id, is_record: kind == "m", destination })
    }
}

fn mend(
    keys: &Partition,
    id: QueueId,
    record: Option<&Record>,
    octets: u64,
    members: &[String],
    deep: bool,
    repair: bool,
) -> Cmd {
    let destinations: &[Destination] = record.map_or(&[], |record| &record.destinations);
    let waiting: Vec<String> = destinations.iter().map(|name| keys.waiting(name.as_str())).collect();
    let names: Vec<script::Arg<'_>> = destinations.iter().map(|name| name.as_str().into()).collect();
    let members: Vec<script::Arg<'_>> = members.iter().map(|member| member.as_str().into()).collect();
    script::Mend {
        record: &keys.record(id),
        ids: &keys.ids,
        lease: &keys.lease,
        held: &keys.held,
        due: &keys.due,
        acts: &keys.acts,
        open: &keys.open_jobs(id),
        waiting: &waiting,
        chunks: &keys.chunks(id, 0..record.map_or(0, |record| record.chunks().keys())),
        id: id.into(),
        octets: octets.into(),
        repair: repair.into(),
        deep: deep.into(),
        act: (&*note(id, "lost", std::iter::empty())).into(),
        destinations: &names,
        members: &members,
    }
    .call()
}
