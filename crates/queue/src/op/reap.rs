//! REAP: deletes what is left of messages that are over.
//!
//! The script that ends a message with a body in chunks does not delete them: it enters them in the garbage set, in the
//! same step. So a script names a few keys however large the message is, a crash leaves nothing that nobody knows of,
//! and bodies in the store go the same way. One reaper at a time has an entry; when it dies, another has its turn.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use staffetta_mail::QueueId;

use crate::Error;
use crate::error::Fault;
use crate::partition::Partition;
use crate::script;
use crate::shared::Shared;
use crate::spool::{IN_STORE, Place};
use crate::value;

/// Entries in one round.
const GROUP: usize = 32;
/// Rounds in one look: what is left then waits for the next.
const ROUNDS: usize = 64;
/// Keys in one command: deleting them takes Redis well below a millisecond.
const KEYS: u32 = 256;
/// How long an entry belongs to one reaper.
const TERM: Duration = Duration::from_secs(60);

/// What the set says of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry<'a> {
    /// So many keys, as the entry `name` says.
    Keys { name: &'a str, id: QueueId, count: u32 },
    /// It is in the store.
    InStore { name: &'a str, place: Place },
}

impl Shared {
    /// Deletes what is due in a partition. What is in the store goes in the background.
    pub(crate) async fn reap(self: &Arc<Self>, keys: &Partition) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let call = script::Reap { garbage: &keys.garbage, limit: (GROUP as u64).into(), term: TERM.into() }.call();
            let names = value::into_array(self.node(keys.number).bodies.ask(call).await?);
            let due: Vec<Entry<'_>> = names.iter().filter_map(value::str).filter_map(Entry::parse).collect();
            self.delete_garbage(keys, &due).await?;
            if names.len() < GROUP {
                break;
            }
        }
        Ok(())
    }

    async fn delete_garbage(self: &Arc<Self>, keys: &Partition, due: &[Entry<'_>]) -> Result<(), Error> {
        if due.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for entry in due {
            // A record alone may be what a repeated enqueue has put there again.
            pipeline.cmd("ZSCORE").arg(&keys.ids).arg(entry.id().to_string());
        }
        let alive = self.node(keys.number).bodies.send(&pipeline).await?;
        let mut pipeline = Pipeline::new();
        let mut in_store = Vec::new();
        for (entry, alive) in due.iter().zip(alive) {
            let is_needed = alive? != Value::Nil && self.is_body(entry).await?;
            match *entry {
                _ if is_needed => {
                    // Whatever has made this entry: a body outlives it.
                    let id = entry.id();
                    tracing::error!(qid = %id, "the body of a message that is queued was among the garbage, and stays");
                }
                Entry::Keys { id, count, .. } => unlink(&mut pipeline, keys, id, count),
                Entry::InStore { place, .. } => {
                    in_store.push(place);
                    continue;
                }
            }
            pipeline.cmd("ZREM").arg(&keys.garbage).arg(entry.name());
        }
        self.remove_from_store(keys, in_store);
        if pipeline.is_empty() {
            return Ok(());
        }
        let answers = self.node(keys.number).bodies.send(&pipeline).await?;
        Ok(answers.into_iter().try_for_each(|answer| answer.map(drop))?)
    }

    /// Is it the body of its message, which is queued? What an attempt to move a body has left behind is not.
    async fn is_body(&self, entry: &Entry<'_>) -> Result<bool, Error> {
        let Entry::InStore { place: place @ Place { offload: Some(_), .. }, .. } = *entry else { return Ok(true) };
        Ok(match self.record(place.id).await? {
            Some(Ok(record)) => record.chunks().place(place.id) == Some(place),
            Some(Err(_)) => true,
            None => false,
        })
    }

    /// Deletes chunks that no message will have, at once. Whatever was sent before on the same connection is done before.
    pub(crate) async fn discard(&self, id: QueueId, chunks: u32) -> Result<(), Fault> {
        let mut pipeline = Pipeline::new();
        unlink(&mut pipeline, self.partition(id.partition()), id, chunks);
        let answers = self.node(id.partition()).bodies.send(&pipeline).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}

fn unlink(pipeline: &mut Pipeline, keys: &Partition, id: QueueId, chunks: u32) {
    for from in (0..chunks).step_by(KEYS as usize) {
        pipeline.cmd("UNLINK").arg(keys.chunks(id, from..chunks.min(from + KEYS)));
    }
}

impl<'a> Entry<'a> {
    /// Reads `id chunks`. What has another form is left to a newer program.
    fn parse(name: &'a str) -> Option<Self> {
        let (id, chunks) = name.split_once(' ')?;
        let id = id.parse().ok()?;
        if let Some(place) = Place::parse_entry(id, chunks, IN_STORE) {
            return Some(Self::InStore { name, place });
        }
        Some(Self::Keys { name, id, count: chunks.parse().ok()? })
    }

    fn id(&self) -> QueueId {
        match *self {
            Self::Keys { id, .. } | Self::InStore { place: Place { id, .. }, .. } => id,
        }
    }

    fn name(&self) -> &'a str {
        match *self {
            Self::Keys { name, .. } | Self::InStore { name, .. } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_body_of_a_message_is_understood() {
        let id = QueueId::new(3, 1_790_000_000_000, 77);
        let [keys, store, moved] = ["12", "o", "o-0000004d"].map(|what| format!("{id} {what}"));
        assert_eq!(Entry::parse(&keys), Some(Entry::Keys { name: &keys, id, count: 12 }));
        assert_eq!(Entry::parse(&store), Some(Entry::InStore { name: &store, place: Place::of(id) }));
        let place = Place { id, offload: Some(77) };
        assert_eq!(Entry::parse(&moved), Some(Entry::InStore { name: &moved, place }));
        for other in [
            "",
            "x 1",
            "s3://bucket/key",
            &id.to_string(),
            &format!("{id} x"),
            &format!("{id} a"),
            &format!("{id} 1 2"),
        ] {
            assert_eq!(Entry::parse(other), None, "{other}");
        }
    }
}
