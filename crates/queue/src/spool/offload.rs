//! OFFLOAD: bodies of mail that waits leave the memory of Redis for the store.
//!
//! Mail that is deferred may wait for days, and its body for nothing but the next attempt. So one worker at a time goes through
//! the messages of a partition in the order of their arrival and copies what has waited for `spool.offload_after` piece by piece, as
//! it is in Redis; then one script writes into the record where the body is and deletes the chunks. It does so only while
//! no worker has a job of the message, so whoever has leased a job reads where its record says, to the end.
//!
//! The copy is entered in the garbage set before its first piece is written, as a body that comes in is, and each attempt has a
//! [`Place`] of its own: what a dead worker, a refused script or a lost answer leaves is deleted by that entry, and never is
//! a body that a later attempt has moved.
//!
//! How far a walk has come is kept in Redis, for whoever walks next. It is forgotten after an hour: then the next one sees what was
//! left, because it was leased just then.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline};
use staffetta_mail::QueueId;
use staffetta_store::Fault;
use tokio::time::Instant;

use super::{Place, Spool, UNFINISHED};
use crate::format::{ReadError, with_offloaded_body};
use crate::op::unexpected;
use crate::partition::Partition;
use crate::readers::Word;
use crate::record::Record;
use crate::script;
use crate::shared::Shared;
use crate::{Error, Kept, value};

/// How long one worker may walk through a partition, and how long the next one waits after it has begun.
const WALK: Duration = Duration::from_secs(10);
/// How long it is known how far a walk has come.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// While memory is short: what is younger may still be in somebody's hands.
const YOUNG: Duration = Duration::from_secs(120);
/// Messages that are looked at in one go.
const PAGE: usize = 500;
/// A script names so many keys, at most: larger ones stay where they are.
const MOST: usize = 1_000;

/// A body that is in the store, and not yet where its record says.
pub(crate) struct Copied {
    place: Place,
    /// As it was read, and as it shall be.
    record: Record,
    was: Bytes,
    octets: Vec<u8>,
}

impl Shared {
    /// Moves what has waited long enough in a partition, if it is this worker's turn: how many messages.
    pub(crate) async fn offload(&self, partition: u16) -> Result<u64, Error> {
        let Some(spool) = &self.spool else { return Ok(0) };
        let is_tight = self.node(partition).memory().is_tight(self.settings.max_memory_ratio);
        let age = match self.settings.offload_after {
            Some(after) if is_tight => after.min(YOUNG),
            Some(after) => after,
            None => return Ok(0),
        };
        if spool.cannot_write().is_some() || !self.formats().all_say(Word::Offload).await {
            return Ok(0);
        }
        if !self.has_turn("offload", &partition.to_string(), WALK).await? {
            return Ok(0);
        }
        self.walk(spool, self.partition(partition), age).await
    }

    async fn walk(&self, spool: &Spool, keys: &Partition, age: Duration) -> Result<u64, Error> {
        let node = self.node(keys.number);
        let (end, mut moved) = (Instant::now() + WALK, 0);
        let mut cursor = self.offloaded_to(keys).await?;
        while Instant::now() < end {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let last = QueueId::new(keys.number, node.clock.now().saturating_sub(age), 0);
            let first = cursor.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
            let mut page = Cmd::new();
            page.arg("ZRANGE")
                .arg(&keys.ids)
                .arg(first)
                .arg(format!("({last}"))
                .arg("BYLEX")
                .arg("LIMIT")
                .arg(0)
                .arg(PAGE);
            let ids = value::into_array(node.admin.ask(page).await?);
            let ids: Vec<QueueId> = ids.iter().filter_map(value::str).filter_map(|id| id.parse().ok()).collect();
            for id in self.with_chunks(keys, &ids).await? {
                if let Some(copied) = self.copy_to_store(spool, id).await? {
                    moved += u64::from(self.replace_chunks(&copied).await?);
                }
                if Instant::now() >= end {
                    self.note_offloaded_to(keys, id, cursor.is_none()).await;
                    return Ok(moved);
                }
            }
            let Some(&id) = ids.last() else { break };
            self.note_offloaded_to(keys, id, cursor.is_none()).await;
            cursor = Some(id);
        }
        Ok(moved)
    }

    async fn offloaded_to(&self, keys: &Partition) -> Result<Option<QueueId>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(&keys.offloaded);
        let cursor = self.node(keys.number).admin.ask(command).await?;
        Ok(value::str(&cursor).and_then(|id| id.parse().ok()))
    }

    /// The end of its life is that of the first note. Where Redis has no room for it the next walk begins anew.
    async fn note_offloaded_to(&self, keys: &Partition, id: QueueId, is_first: bool) {
        let mut command = Cmd::new();
        command.arg("SET").arg(&keys.offloaded).arg(id.to_string());
        if is_first {
            command.arg("EX").arg(REMEMBERED.as_secs());
        } else {
            command.arg("XX").arg("KEEPTTL");
        }
        if let Err(fault) = self.node(keys.number).admin.ask(command).await {
            tracing::debug!(%fault, "how far bodies were moved is not noted");
        }
    }

    /// Those of these whose bodies are in chunks, in Redis.
    async fn with_chunks(&self, keys: &Partition, ids: &[QueueId]) -> Result<Vec<QueueId>, Error> {
        let mut pipeline = Pipeline::new();
        for id in ids {
            pipeline.cmd("EXISTS").arg(keys.chunk(*id, 0));
        }
        let answers = self.node(keys.number).ask_all(&pipeline).await?;
        let each = ids.iter().zip(&answers);
        Ok(each.filter(|(_, exists)| value::count(exists) > 0).map(|(id, _)| *id).collect())
    }

    /// The copy of a body that is to be moved; `None`: it stays, or goes meanwhile.
    ///
    /// # Errors
    /// The store or Redis is away: the walk ends, and begins again here.
    pub(crate) async fn copy_to_store(&self, spool: &Spool, id: QueueId) -> Result<Option<Copied>, Error> {
        let Some(was) = self.record_octets(id).await? else { return Ok(None) };
        let place = Place::fresh(id);
        let Ok(Some((record, octets))) = self.rewritten(id, &was, place) else { return Ok(None) };
        self.enter_unfinished(place).await?;
        match self.copy_pieces(spool, place, record.chunks().count).await {
            Ok(true) => Ok(Some(Copied { place, record, was, octets })),
            outcome => {
                // The entry would do it in a while; a store that is full shall have its room back now.
                let _ = spool.remove(place).await;
                outcome.map(|_| None)
            }
        }
    }

    /// False: the message is delivered meanwhile.
    async fn copy_pieces(&self, spool: &Spool, place: Place, count: u32) -> Result<bool, Error> {
        let (id, mut entered) = (place.id, Instant::now());
        for index in 0..count {
            let chunk = match self.chunk(id, index).await {
                Ok(chunk) => chunk,
                Err(Error::Damaged(..)) => return Ok(false),
                Err(error) => return Err(error),
            };
            spool.put(place, index, chunk).await.map_err(away)?;
            if entered.elapsed() > self.chunk_life / 4 {
                self.refresh_unfinished(place).await?;
                entered = Instant::now();
            }
        }
        spool.seal(place, count).await.map_err(away)?;
        Ok(true)
    }

    /// From now on it is the body: false if its message was not as it was read, or not left alone, or if it took too long.
    ///
    /// # Errors
    /// Redis is away: it may be the body.
    pub(crate) async fn replace_chunks(&self, copied: &Copied) -> Result<bool, Error> {
        let Copied { place, record, was, octets } = copied;
        let id = place.id;
        let keys = self.partition(id.partition());
        let waiting: Vec<String> = record.destinations.iter().map(|name| keys.waiting(name.as_str())).collect();
        let call = script::Offload {
            record: &keys.record(id),
            ids: &keys.ids,
            held: &keys.held,
            open: &keys.open_jobs(id),
            garbage: &keys.garbage,
            waiting: &waiting,
            chunks: &keys.chunks(id, 0..record.chunks().count),
            id: id.into(),
            entry: (&*place.entry(UNFINISHED)).into(),
            was: (&**was).into(),
            octets: octets.as_slice().into(),
        }
        .call();
        let answer = self.node(keys.number).settles.call(call, was.len() + octets.len()).await?;
        match value::str(&answer) {
            Some("OK") => Ok(true),
            Some("CHANGED" | "LEASED" | "GIVENUP") => Ok(false),
            _ => Err(unexpected("offload", &answer).into()),
        }
    }

    /// The record as it is, and its octets when the body lies there; `None`: it stays.
    fn rewritten(&self, id: QueueId, was: &Bytes, place: Place) -> Result<Option<(Record, Vec<u8>)>, ReadError> {
        let record = Record::decode(id, was, self.reads)?;
        let chunks = record.chunks();
        let fits = (1..=MOST).contains(&(chunks.count as usize)) && record.destinations.len() <= MOST;
        let (Some(number), Kept::InRedis, true) = (place.offload, chunks.kept, fits) else { return Ok(None) };
        Ok(with_offloaded_body(was, self.reads, number)?.map(|octets| (record, octets)))
    }
}

fn away(fault: Fault) -> Error {
    let (Fault::Away(reason) | Fault::Missing(reason)) = fault;
    Error::StoreAway(reason)
}
