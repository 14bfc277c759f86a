//! Reading the pieces of a body.

use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use staffetta_mail::QueueId;
use tokio::time::Instant;

use crate::error::Fault;
use crate::shared::Shared;
use crate::{Error, value};

/// How long a chunk is asked for while Redis is away, if a lease is not shorter.
const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest pause between two questions.
const LOOK: Duration = Duration::from_millis(10);

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
    pub(crate) async fn piece(&self, id: QueueId, index: u32) -> Result<Bytes, Error> {
        let spool = self.spool.as_ref().ok_or_else(|| Error::StoreAway("spool.url is not set here".to_owned()))?;
        spool.get(id, index).await.map_err(|fault| match fault {
            staffetta_store::Fault::Missing(_) => Error::Damaged(id, format!("piece {index} is missing in the store")),
            staffetta_store::Fault::Away(reason) => Error::StoreAway(reason),
        })
    }
}
