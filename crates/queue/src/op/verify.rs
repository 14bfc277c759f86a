//! VERIFY: is every message, and every delivery, in its place? On the queue as it is, while mail comes and goes.
//!
//! Three walks, all by pages: over the keys of each server, for what no list names; over what is leased and held; over the
//! messages. A page only says where to look: whatever is out of place is looked at again by a script, at one moment, which
//! is the only one to judge, and puts right what is to be put right in the same step. So mail that moves meanwhile is
//! never taken for a fault.

use std::collections::HashSet;

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
use crate::value::{self, count};
use crate::{Destination, Error};

/// A count may be wrong only because mail moves: it must be wrong by the same number so many times in a row.
const RECOUNTS: usize = 3;

/// A look at the queue.
pub(crate) struct Look<'a> {
    shared: &'a Shared,
    repair: bool,
    tell: &'a mut (dyn FnMut(&Finding) + Send),
    verified: Verified,
    /// What was found of messages that are leased: the walk over all messages comes to them once more.
    told: HashSet<(QueueId, String)>,
    /// A message was lost and is listed no longer.
    delisted: bool,
}

/// What a walk over the messages of a partition has seen.
#[derive(Default)]
struct Walk {
    messages: u64,
    jobs: u64,
    /// Open deliveries beyond the first of each message.
    beyond: i64,
    unreadable: u64,
}

impl Shared {
    pub(crate) async fn verify(
        &self,
        repair: bool,
        tell: &mut (dyn FnMut(&Finding) + Send),
    ) -> Result<Verified, Error> {
        let mut look =
            Look { shared: self, repair, tell, verified: Verified::default(), told: HashSet::new(), delisted: false };
        look.all_keys().await?;
        for keys in self.partitions() {
            look.leased_and_held(keys).await?;
            look.messages(keys).await?;
        }
        // What belonged to messages that were taken off the list belongs to nobody now.
        if look.delisted {
            look.all_keys().await?;
        }
        for keys in self.partitions() {
            look.destinations(keys).await?;
        }
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
                Some(id) if key.is_record => drop(self.examine(key.partition, &[id], false).await?),
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

    /// What is in a set must belong to a message that exists. Returns the messages.
    async fn members(
        &mut self,
        keys: &Partition,
        set: &str,
        id_of: impl Fn(&str) -> Option<QueueId>,
    ) -> Result<HashSet<QueueId>, Error> {
        let (mut cursor, mut there) = (Some("0".to_owned()), HashSet::new());
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
                    there.insert(id);
                }
            }
            cursor = next;
        }
        Ok(there)
    }

    /// What is leased may also wait or be held.
    async fn leased_and_held(&mut self, keys: &Partition) -> Result<(), Error> {
        self.members(keys, &keys.held, |member| Some(parse_job_name(member)?.0)).await?;
        let leased = self.members(keys, &keys.lease, |member| Some(parse_member(member)?.id)).await?;
        let leased: Vec<QueueId> = leased.into_iter().collect();
        for ids in leased.chunks(PAGE) {
            self.examine(keys, ids, true).await?;
        }
        Ok(())
    }

    /// Every message of a partition, and whether their deliveries are counted as they are.
    async fn messages(&mut self, keys: &Partition) -> Result<(), Error> {
        let walk = self.walk(keys).await?;
        self.verified.messages += walk.messages;
        self.verified.jobs += walk.jobs;
        self.verified.unreadable += walk.unreadable;
        self.told.clear();
        let mut wrong = self.miscount(keys, &walk).await?;
        for _ in 1..RECOUNTS {
            if wrong == 0 {
                return Ok(());
            }
            let walk = self.walk(keys).await?;
            let again = self.miscount(keys, &walk).await?;
            wrong = if again == wrong { wrong } else { 0 };
        }
        if wrong != 0 {
            if self.repair {
                let mut command = Cmd::new();
                command.arg("DECRBY").arg(&keys.extra).arg(wrong);
                self.shared.node(keys.number).admin.ask(command).await?;
            }
            self.found(keys.number, None, Problem::Miscounted, format!("{wrong:+}"));
        }
        Ok(())
    }

    async fn walk(&mut self, keys: &Partition) -> Result<Walk, Error> {
        let (mut walk, mut from) = (Walk::default(), "-".to_owned());
        loop {
            let mut command = Cmd::new();
            command.arg("ZRANGEBYLEX").arg(&keys.ids).arg(&from).arg("+").arg("LIMIT").arg(0).arg(PAGE);
            let answer = self.shared.node(keys.number).admin.ask(command).await?;
            let ids: Vec<QueueId> =
                value::array(&answer).iter().filter_map(value::str).filter_map(|id| id.parse().ok()).collect();
            let Some(last) = ids.last() else { return Ok(walk) };
            from = format!("({last}");
            for open in self.examine(keys, &ids, false).await? {
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

    /// By how much more the counter says than there was; 0 where that is not known.
    async fn miscount(&self, keys: &Partition, walk: &Walk) -> Result<i64, Error> {
        if walk.unreadable > 0 {
            return Ok(0);
        }
        let mut command = Cmd::new();
        command.arg("GET").arg(&keys.extra);
        let said = value::integer(&self.shared.node(keys.number).admin.ask(command).await?).unwrap_or(0);
        Ok(said - walk.beyond)
    }

    /// Looks at these messages, each at one moment. How many deliveries are open; `None` of one that cannot be read.
    async fn examine(&mut self, keys: &Partition, ids: &[QueueId], deep: bool) -> Result<Vec<Option<u64>>, Error> {
        let read = self.shared.records(ids).await?;
        let unreadable: HashSet<QueueId> = read.iter().filter_map(|read| Some(read.as_ref().err()?.id)).collect();
        let records: Vec<Record> = read.into_iter().filter_map(Result::ok).collect();
        let known: HashSet<QueueId> = records.iter().map(|record| record.message.id).collect();
        let missing = ids.iter().filter(|id| !known.contains(id) && !unreadable.contains(id));
        let all: Vec<(QueueId, Option<&Record>)> = records
            .iter()
            .map(|record| (record.message.id, Some(record)))
            .chain(missing.map(|id| (*id, None)))
            .collect();
        let mut pipeline = Pipeline::new();
        for (id, record) in &all {
            pipeline.add_command(mend(keys, *id, *record, self.repair, deep));
        }
        let answers = self.shared.node(keys.number).ask_all(&pipeline).await?;
        let mut open = Vec::with_capacity(ids.len());
        for ((id, record), answer) in all.into_iter().zip(&answers) {
            let answer = value::array(answer);
            open.push(answer.first().map(count));
            for text in answer.iter().skip(1).filter_map(value::str) {
                self.told(keys, id, record, text, deep);
            }
        }
        open.extend(unreadable.iter().map(|_| None));
        Ok(open)
    }

    /// A word of [`script::Mend`], perhaps for the second time.
    fn told(&mut self, keys: &Partition, id: QueueId, record: Option<&Record>, text: &str, deep: bool) {
        let key = (id, text.to_owned());
        if self.told.contains(&key) {
            return;
        }
        if deep {
            self.told.insert(key);
        }
        let (word, number) = text.split_once(' ').unwrap_or((text, ""));
        let job = number.parse::<usize>().ok();
        let destination = job.and_then(|job| record?.destinations.get(job));
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
        self.found(keys.number, Some(id), problem, destination.map(Destination::to_string).unwrap_or_default());
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

fn mend(keys: &Partition, id: QueueId, record: Option<&Record>, repair: bool, deep: bool) -> Cmd {
    let destinations: &[Destination] = record.map_or(&[], |record| &record.destinations);
    let waiting: Vec<String> = destinations.iter().map(|name| keys.waiting(name.as_str())).collect();
    let open: Vec<String> = (destinations.len() > 1).then(|| keys.open_jobs(id)).into_iter().collect();
    let names: Vec<script::Arg<'_>> = destinations.iter().map(|name| name.as_str().into()).collect();
    script::Mend {
        record: &keys.record(id),
        ids: &keys.ids,
        lease: &keys.lease,
        held: &keys.held,
        due: &keys.due,
        acts: &keys.acts,
        waiting: &waiting,
        open: &open,
        chunks: &keys.chunks(id, 0..record.map_or(0, Record::chunks)),
        id: id.into(),
        repair: repair.into(),
        deep: deep.into(),
        act: (&*note(id, "lost", std::iter::empty())).into(),
        destinations: &names,
    }
    .call()
}
