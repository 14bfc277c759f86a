//! The pieces of a body: kept in Redis while it comes in, read there or in the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use staffetta_mail::QueueId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::MOVE;
use crate::error::Fault;
use crate::ledger::Charge;
use crate::shared::Shared;
use crate::spool::Place;
use crate::{Error, script, value};

/// Before Redis is asked again to delete chunks.
const PAUSE: Duration = Duration::from_millis(100);
/// Chunks that are refreshed in one go.
const GROUP: u32 = 512;

/// A chunk on its way to Redis takes its octets three times: here, in the command, in what the socket is given. So only a
/// few are on their way at a time, over all messages; the others wait with one copy.
static TURNS: Semaphore = Semaphore::const_new(8);
/// Longest wait for a turn: then Redis is far too slow.
const TURN: Duration = Duration::from_secs(20);

/// How long a chunk is asked for while Redis is away, if a lease is not shorter.
const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest pause between two questions.
const LOOK: Duration = Duration::from_millis(10);

impl Shared {
    /// Stores a piece of a body for two minutes; with the message, for as long as that lives.
    pub(crate) async fn store_chunk(&self, id: QueueId, index: u32, chunk: &[u8]) -> Result<(), Fault> {
        let key = self.partition(id.partition()).chunk(id, index);
        let set = || {
            let mut command = Cmd::with_capacity(5, chunk.len() + 128);
            command.arg("SET").arg(&key).arg(chunk).arg("PX").arg(self.life());
            command
        };
        self.store(id, set).await
    }

    /// The same for a report, which is small and takes something out of the queue: also where memory is short.
    pub(crate) async fn store_report(&self, id: QueueId, index: u32, chunk: &[u8]) -> Result<(), Fault> {
        let key = self.partition(id.partition()).chunk(id, index);
        self.store(id, || script::Store { chunk: &key, octets: chunk.into(), life: self.life().into() }.call()).await
    }

    /// Sends what may be sent again.
    pub(crate) async fn store(&self, id: QueueId, set: impl Fn() -> Cmd) -> Result<(), Fault> {
        let late = |_| Fault::Unknown("no turn for a chunk in time".to_owned());
        let _turn = tokio::time::timeout(TURN, TURNS.acquire()).await.map_err(late)?;
        let (mut tries, moving) = (0, Instant::now() + MOVE);
        loop {
            let bodies = &self.node(id.partition()).bodies;
            match bodies.ask(set()).await {
                Ok(_) => return Ok(()),
                // Setting it again does no harm.
                Err(Fault::Unknown(_)) if tries < 3 => {
                    tries += 1;
                    let _ = tokio::time::timeout(Duration::from_secs(2), bodies.wait()).await;
                }
                Err(Fault::Elsewhere(_)) if Instant::now() < moving => {
                    self.resting.begin(id.partition());
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// For workers of a time before there was a prefix: the first piece of the body is written again.
    pub(crate) async fn put_in_front(&self, id: QueueId, prefix: &[u8]) -> Result<(), Fault> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.partition(id.partition()).chunk(id, 0));
        let first = value::into_bytes(self.node(id.partition()).bodies.ask(command).await?);
        let first = first.ok_or_else(|| Fault::Refused("a part of the body has expired".to_owned()))?;
        self.store_chunk(id, 0, &[prefix, &first].concat()).await
    }

    /// `XX`: a chunk that belongs to a message by now has no time to live, and must not get one.
    pub(crate) async fn refresh_chunks(&self, id: QueueId, count: u32) -> Result<(), Fault> {
        for from in (0..count).step_by(GROUP as usize) {
            let mut pipeline = redis::Pipeline::new();
            for index in from..count.min(from + GROUP) {
                pipeline.cmd("PEXPIRE").arg(self.partition(id.partition()).chunk(id, index)).arg(self.life()).arg("XX");
            }
            self.node(id.partition()).bodies.send(&pipeline).await?;
        }
        Ok(())
    }

    /// Deletes the chunks of a message that was given up. What is charged for them is given back when they are gone: after
    /// their time to live at the latest, if Redis cannot be asked.
    pub(crate) async fn clear_up(self: Arc<Self>, id: QueueId, chunks: u32, _charge: Option<Charge>) {
        let end = Instant::now() + self.chunk_life;
        while self.discard(id, chunks).await.is_err() {
            let again = async {
                tokio::time::sleep(PAUSE).await;
                self.node(id.partition()).bodies.wait().await;
            };
            let shutdown = self.shutdown.run_until_cancelled(tokio::time::timeout_at(end, again)).await;
            if !matches!(shutdown, Some(Ok(()))) {
                return;
            }
        }
    }

    /// How long what is not queued yet lives, in milliseconds.
    pub(crate) fn life(&self) -> u64 {
        u64::try_from(self.chunk_life.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shared {
    /// One that is in Redis.
    pub(crate) async fn chunk(&self, id: QueueId, index: u32) -> Result<Bytes, Error> {
        let key = self.partition(id.partition()).chunk(id, index);
        let end = Instant::now() + PATIENCE.min(self.settings.lease / 2);
        let answer = loop {
            let mut command = Cmd::new();
            command.arg("GET").arg(&key);
            // It may be at another server the next time.
            let bodies = &self.node(id.partition()).bodies;
            match bodies.ask(command).await {
                Ok(answer) => break answer,
                Err(fault @ (Fault::Refused(_) | Fault::Elsewhere(_) | Fault::Unknown(_)))
                    if Instant::now() + LOOK < end =>
                {
                    tracing::debug!(qid = %id, index, %fault, "a chunk is asked for again");
                    tokio::time::sleep(LOOK).await;
                    let _ = tokio::time::timeout_at(end, bodies.wait()).await;
                }
                Err(fault) => return Err(fault.into()),
            }
        };
        value::into_bytes(answer).ok_or_else(|| Error::Damaged(id, format!("chunk {index} is missing")))
    }

    /// One that is in the store.
    pub(crate) async fn piece(&self, place: Place, index: u32) -> Result<Bytes, Error> {
        self.store_here()?.get(place, index).await.map_err(|fault| match fault {
            staffetta_store::Fault::Missing(_) => {
                Error::Damaged(place.id, format!("piece {index} is missing in the store"))
            }
            staffetta_store::Fault::Away(reason) => Error::StoreAway(reason),
        })
    }
}
