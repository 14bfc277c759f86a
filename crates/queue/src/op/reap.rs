//! REAP: deletes what is left of messages that are over.
//!
//! The script that ends a message with a body in chunks does not delete them: it enters them in the garbage set, in the
//! same step. So a script names a few keys however large the message is, a crash leaves nothing that nobody knows of,
//! and bodies that lie elsewhere can go the same way. One reaper at a time has an entry; when it dies, another has its turn.

use std::time::Duration;

use redis::{Pipeline, Value};
use staffetta_mail::QueueId;

use crate::Error;
use crate::error::Fault;
use crate::partition::Partition;
use crate::script;
use crate::shared::Shared;
use crate::value;

/// Entries in one round.
const GROUP: usize = 32;
/// Rounds in one look: what is left then waits for the next.
const ROUNDS: usize = 64;
/// Keys in one command: deleting them takes Redis well below a millisecond.
const KEYS: u32 = 256;
/// How long an entry belongs to one reaper.
const TERM: Duration = Duration::from_secs(60);

impl Shared {
    /// Deletes what is due in a partition.
    pub(crate) async fn reap(&self, keys: &Partition) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let call = script::Reap { garbage: &keys.garbage, limit: (GROUP as u64).into(), term: TERM.into() }.call();
            let names = value::into_array(self.node(keys.number).bodies.ask(call).await?);
            let due: Vec<(&str, QueueId, u32)> = names.iter().filter_map(value::str).filter_map(parse_entry).collect();
            self.delete_garbage(keys, &due).await?;
            if names.len() < GROUP {
                break;
            }
        }
        Ok(())
    }

    async fn delete_garbage(&self, keys: &Partition, due: &[(&str, QueueId, u32)]) -> Result<(), Error> {
        if due.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for (_, id, _) in due {
            // A record alone may be what a repeated enqueue has put there again.
            pipeline.cmd("ZSCORE").arg(&keys.ids).arg(id.to_string());
        }
        let alive = self.node(keys.number).bodies.send(&pipeline).await?;
        let mut pipeline = Pipeline::new();
        for ((name, id, chunks), alive) in due.iter().zip(alive) {
            if alive? != Value::Nil {
                // Whatever has made this entry: a body outlives it.
                tracing::error!(qid = %id, "the body of a message that is queued was among the garbage, and stays");
            } else {
                unlink(&mut pipeline, keys, *id, *chunks);
            }
            pipeline.cmd("ZREM").arg(&keys.garbage).arg(*name);
        }
        let answers = self.node(keys.number).bodies.send(&pipeline).await?;
        Ok(answers.into_iter().try_for_each(|answer| answer.map(drop))?)
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

/// Reads `id chunks`, and gives it back. What has another form is left to a newer program.
fn parse_entry(name: &str) -> Option<(&str, QueueId, u32)> {
    let (id, chunks) = name.split_once(' ')?;
    Some((name, id.parse().ok()?, chunks.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_of_a_message_are_understood() {
        let id = QueueId::new(3, 1_790_000_000_000, 77);
        let name = format!("{id} 12");
        assert_eq!(parse_entry(&name), Some((&*name, id, 12)));
        for other in ["", "x 1", "s3://bucket/key", &id.to_string(), &format!("{id} x"), &format!("{id} 1 2")] {
            assert_eq!(parse_entry(other), None, "{other}");
        }
    }
}
