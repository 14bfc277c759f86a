//! A message on its way in: takes the octets as they come and makes them durable.
//!
//! Small bodies wait in memory and travel inside the record. Larger ones are cut into chunks of 256 KiB, each stored as
//! soon as it is full with a time to live of 15 minutes; the enqueue script makes them permanent. Whatever happens
//! before that, the chunks go away: with the garbage when the message is given up, by their time to live when the process
//! dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;
use tokio::sync::Semaphore;

use crate::error::Fault;
use crate::format::{BodyRef, SAYS_PREFIX};
use crate::node::may_enqueue;
use crate::record::{Content, Encoded};
use crate::shared::Shared;
use crate::value;
use crate::{Accept, EnqueueError};

/// Octets of a chunk; the last one of a body may be shorter.
pub(crate) const CHUNK: usize = 256 * 1024;
/// How long a chunk lives without its message, in seconds.
const CHUNK_TTL: u64 = 900;
/// A slow upload keeps its first chunks alive this often.
const REFRESH: Duration = Duration::from_secs(240);

/// A chunk on its way to Redis takes its octets three times: here, in the command, in what the socket is given. So only a
/// few are on their way at a time, over all messages; the others wait with one copy.
static TURNS: Semaphore = Semaphore::const_new(8);
/// Longest wait for a turn: then Redis is far too slow.
const TURN: Duration = Duration::from_secs(20);

/// A message that is being received. Memory: one chunk at most. Dropped without commit: nothing is queued.
pub struct Incoming {
    shared: Arc<Shared>,
    id: QueueId,
    buffer: Vec<u8>,
    chunks: u32,
    /// Those and one that may be on its way.
    sent: u32,
    size: u64,
    refreshed: Instant,
    /// Set once the enqueue may have made the chunks part of a message.
    handed_over: bool,
}

impl Incoming {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, EnqueueError> {
        may_enqueue(shared.health())?;
        let id = shared.new_id();
        Ok(Self {
            shared,
            id,
            buffer: Vec::new(),
            chunks: 0,
            sent: 0,
            size: 0,
            refreshed: Instant::now(),
            handed_over: false,
        })
    }

    /// The name that the message will have.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Octets so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends; sends a chunk to Redis whenever one is full.
    ///
    /// # Errors
    /// Redis is full or away. The message is lost; the client must be told and may try again.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), EnqueueError> {
        self.size += data.len() as u64;
        let length = self.buffer.len() + data.len();
        if length > self.buffer.capacity() && length > CHUNK / 2 {
            // Doubling would take two chunks for one.
            self.buffer.reserve_exact(CHUNK.max(length) - self.buffer.len());
        }
        self.buffer.extend_from_slice(data);
        while self.buffer.len() >= CHUNK && self.size > self.shared.settings.inline_limit {
            let rest = self.buffer.split_off(CHUNK);
            let chunk = std::mem::replace(&mut self.buffer, rest);
            self.store(&chunk).await?;
        }
        Ok(())
    }

    /// Makes it durable. `Ok` means: the `250` may be sent. `prefix`: header fields, whole lines, that are known only now;
    /// they stand in front of what was written and count as a part of it, and nothing is written again for them.
    ///
    /// Takes at most about 20 seconds: while the outcome of an attempt is unknown the same id is tried again, then the
    /// message is withdrawn.
    ///
    /// # Errors
    /// Nothing is queued.
    pub async fn commit(mut self, accept: Accept, prefix: &[u8]) -> Result<QueueId, EnqueueError> {
        self.shared.node(self.id.partition()).may_enqueue()?;
        if accept.envelope.recipients.is_empty() {
            return Err(EnqueueError::Unavailable("a message needs a recipient".into()));
        }
        if prefix.len() > CHUNK {
            return Err(EnqueueError::Unavailable("too many header fields in front".into()));
        }
        if self.size > self.shared.settings.inline_limit && !self.buffer.is_empty() {
            let chunk = std::mem::take(&mut self.buffer);
            self.store(&chunk).await?;
        }
        let node = self.shared.node(self.id.partition());
        let (version, now) = (node.formats.writes(), node.clock.now());
        let mut content = Content { prefix, ..Content::inline(&self.buffer) };
        if self.chunks > 0 {
            let mut size = self.size;
            if version < SAYS_PREFIX && !prefix.is_empty() {
                self.shared.put_in_front(self.id, prefix).await?;
                (content.prefix, size) = (b"", size + prefix.len() as u64);
            }
            content.body = BodyRef::Chunks { count: self.chunks, size };
        }
        let record = Encoded::new(version, self.id, &accept, now, content).map_err(Fault::from)?;
        drop(std::mem::take(&mut self.buffer));
        self.handed_over = true;
        self.shared.enqueue(&record).await?;
        Ok(self.id)
    }

    async fn store(&mut self, chunk: &[u8]) -> Result<(), EnqueueError> {
        self.sent = self.chunks + 1;
        self.shared.store_chunk(self.id, self.chunks, chunk).await?;
        self.chunks = self.sent;
        if self.refreshed.elapsed() > REFRESH {
            self.shared.refresh_chunks(self.id, self.chunks).await?;
            self.refreshed = Instant::now();
        }
        Ok(())
    }
}

impl Drop for Incoming {
    /// A message that was given up must not take room for a quarter of an hour.
    fn drop(&mut self) {
        if self.handed_over || self.sent == 0 {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, id, chunks) = (self.shared.clone(), self.id, self.sent);
        runtime.spawn(async move {
            // If it fails, the time to live remains.
            let _ = shared.discard(id, chunks).await;
        });
    }
}

impl Shared {
    /// Stores a piece of a body for 15 minutes; with the message, for as long as that lives.
    pub(crate) async fn store_chunk(&self, id: QueueId, index: u32, chunk: &[u8]) -> Result<(), Fault> {
        let late = |_| Fault::Unknown("no turn for a chunk in time".to_owned());
        let _turn = tokio::time::timeout(TURN, TURNS.acquire()).await.map_err(late)?;
        let key = self.partition(id.partition()).chunk(id, index);
        let bodies = &self.node(id.partition()).bodies;
        let mut tries = 0;
        loop {
            let mut command = redis::Cmd::with_capacity(5, chunk.len() + 128);
            command.arg("SET").arg(&key).arg(chunk).arg("EX").arg(CHUNK_TTL);
            match bodies.ask(command).await {
                Ok(_) => return Ok(()),
                // Setting it again does no harm.
                Err(Fault::Unknown(_)) if tries < 3 => {
                    tries += 1;
                    let _ = tokio::time::timeout(Duration::from_secs(2), bodies.wait()).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// For workers of a time before there was a prefix: the first piece of the body is written again.
    async fn put_in_front(&self, id: QueueId, prefix: &[u8]) -> Result<(), Fault> {
        let mut command = redis::Cmd::new();
        command.arg("GET").arg(self.partition(id.partition()).chunk(id, 0));
        let first = value::into_bytes(self.node(id.partition()).bodies.ask(command).await?);
        let first = first.ok_or_else(|| Fault::Refused("a part of the body has expired".to_owned()))?;
        self.store_chunk(id, 0, &[prefix, &first].concat()).await
    }

    async fn refresh_chunks(&self, id: QueueId, count: u32) -> Result<(), Fault> {
        let mut pipeline = redis::Pipeline::new();
        for index in 0..count {
            pipeline.cmd("EXPIRE").arg(self.partition(id.partition()).chunk(id, index)).arg(CHUNK_TTL);
        }
        self.node(id.partition()).bodies.send(&pipeline).await.map(drop)
    }
}
