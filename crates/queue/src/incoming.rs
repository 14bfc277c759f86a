//! A message on its way in: takes the octets as they come and makes them durable.
//!
//! Small bodies wait in memory and travel inside the record. Larger ones are cut into chunks, each packed if that pays
//! ([`packing`]) and stored as soon as it is full, with a time to live of two minutes; the enqueue script makes them
//! permanent. Until then they are refreshed while the message is still coming, however slowly. Whatever happens before that,
//! the chunks go away: deleted when the message is given up, by their time to live when the process dies.
//!
//! With a store ([`crate::spool`]), what grows beyond `spool.redis_limit` moves there while it comes in, and the same holds for
//! its pieces.
//!
//! What a message takes of the memory and of Redis before it is queued is on its sender's account, see [`crate::Budget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use staffetta_mail::convert::LineLengths;
use staffetta_mail::{BodyType, QueueId};
use tokio::task::AbortHandle;

use crate::budget::Purse;
use crate::error::Fault;
use crate::format::{SAYS_COUNTED, SAYS_PREFIX, SAYS_STORE};
use crate::metrics;
use crate::node::may_enqueue;
use crate::packing;
use crate::readers::Word;
use crate::record::{Content, Encoded};
use crate::revocation::login_key;
use crate::shared::Shared;
use crate::spool::{PIECE, Place, SMALL_PIECE, Spool, not_taken};
use crate::{Accept, Chunks, Codec, EnqueueError, Kept, Origin};

/// Octets of a chunk; the last one of a body may be shorter.
pub(crate) const CHUNK: usize = 256 * 1024;
/// The same while many messages come in at once: then each shall wait with less.
const SMALL_CHUNK: usize = 64 * 1024;
/// "Many": their memory in all, in octets.
const MANY: u64 = 8 << 20;
/// The first buffer.
const LITTLE: usize = 1024;
/// So often in its life a chunk is refreshed.
const REFRESHES: u32 = 4;

/// A message that is being received. Memory: one chunk at most. Dropped without commit: nothing is queued.
pub struct Incoming {
    shared: Arc<Shared>,
    id: QueueId,
    buffer: Vec<u8>,
    /// Where its chunks go.
    kept: Kept,
    /// Beyond so many octets to the store.
    redis_limit: u64,
    /// What they are; `None`: the first one will say.
    codec: Option<Codec>,
    chunks: u32,
    /// Those and one that may be on its way.
    sent: u32,
    size: u64,
    /// There were octets above 127.
    eight_bit: bool,
    lines: LineLengths,
    /// What it has taken of the budgets; `None`: it is one of ours.
    purse: Option<Box<Purse>>,
    keeper: Option<Keeper>,
    /// Nothing of it is delivered before an operator says so.
    held: bool,
    /// It counts for its login, as long as it is in the queue.
    counts: bool,
    /// Each recipient has a delivery of his own.
    apart: bool,
    /// Set once the enqueue may have made the chunks part of a message.
    handed_over: bool,
}

/// Refreshes the chunks of a message until it is dropped.
struct Keeper {
    /// How many there are in Redis.
    chunks: Arc<AtomicU32>,
    task: AbortHandle,
}

impl Incoming {
    pub(crate) fn new(shared: Arc<Shared>, purse: Option<Purse>) -> Result<Self, EnqueueError> {
        may_enqueue(shared.health())?;
        let id = shared.new_id();
        let redis_limit = shared.redis_limit(id.partition());
        Ok(Self {
            shared,
            id,
            buffer: Vec::new(),
            kept: Kept::InRedis,
            redis_limit,
            codec: None,
            chunks: 0,
            sent: 0,
            size: 0,
            eight_bit: false,
            lines: LineLengths::default(),
            purse: purse.map(Box::new),
            keeper: None,
            held: false,
            counts: false,
            apart: false,
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

    /// Once it is committed its deliveries are held until they are released, or until the end of its life: from the first
    /// moment on, so that no worker gets one of them.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Once it is committed it counts for its login, until nothing is left of it ([`crate::Queue::depth`]).
    pub fn count_for_login(&mut self) {
        self.counts = true;
    }

    /// Once it is committed each recipient has a delivery of his own, also where several are in one domain.
    pub fn deliver_one_by_one(&mut self) {
        self.apart = true;
    }

    /// Appends; sends a chunk to Redis whenever one is full.
    ///
    /// # Errors
    /// Redis is full or away, or the store is, or the sender has used up what he may take. The message is lost; the client must be told
    /// and may try again.
    pub async fn write(&mut self, mut data: &[u8]) -> Result<(), EnqueueError> {
        self.size += data.len() as u64;
        self.eight_bit = self.eight_bit || !data.is_ascii();
        self.lines.update(data);
        if self.outgrows_redis() {
            Box::pin(self.move_to_store()).await?;
        }
        loop {
            let stores = self.size > self.shared.settings.inline_limit;
            let chunk = self.chunk_size();
            while stores && self.buffer.len() >= chunk {
                // Rare and large beside the connection that carries it.
                Box::pin(self.store_front()).await?;
            }
            if data.is_empty() {
                return Ok(());
            }
            let fits = if stores { data.len().min(chunk - self.buffer.len()) } else { data.len() };
            self.make_room(fits)?;
            self.buffer.extend_from_slice(&data[..fits]);
            data = &data[fits..];
        }
    }

    /// Makes it durable. `Ok` means: the `250` may be sent. `prefix`: header fields, whole lines, that are known only now;
    /// they stand in front of what was written and count as a part of it, and nothing is written again for them.
    ///
    /// Takes at most about 20 seconds: while the outcome of an attempt is unknown the same id is tried again, then the
    /// message is withdrawn.
    ///
    /// # Errors
    /// Nothing is queued.
    pub async fn commit(mut self, mut accept: Accept, prefix: &[u8]) -> Result<QueueId, EnqueueError> {
        self.shared.node(self.id.partition()).may_enqueue()?;
        if accept.envelope.recipients.is_empty() {
            return Err(EnqueueError::Unavailable("a message needs a recipient".into()));
        }
        if prefix.len() > CHUNK {
            return Err(EnqueueError::Unavailable("too many header fields in front".into()));
        }
        if self.size > self.shared.settings.inline_limit && !self.buffer.is_empty() {
            let chunk = std::mem::take(&mut self.buffer);
            self.store(chunk).await?;
        }
        if let (Kept::InStore, Some(spool)) = (self.kept, &self.shared.spool) {
            spool.seal(Place::of(self.id), self.chunks).await.map_err(|fault| not_taken(&fault))?;
        }
        // It may wait for the first look at what is written.
        let counted_for = self.counted_for(&accept.origin).await;
        let node = self.shared.node(self.id.partition());
        let (version, now) = (self.shared.formats().writes(), node.clock.now());
        // What was declared is the client's word; whoever sends it on has to know what is there (RFC 6152 section 3).
        if self.eight_bit || !prefix.is_ascii() {
            accept.envelope.body = BodyType::EightBitMime;
        }
        let long_lines = self.lines.is_long();
        let counted_for = counted_for.as_deref().filter(|_| version >= SAYS_COUNTED);
        let mut content =
            Content { prefix, long_lines, counted_for, apart: self.apart, ..Content::inline(&self.buffer) };
        if self.chunks > 0 {
            let codec = self.codec.unwrap_or_default();
            let mut chunks = Chunks { count: self.chunks, size: self.size, kept: self.kept, codec };
            let plain = self.kept == Kept::InRedis && codec == Codec::Plain;
            if version < SAYS_PREFIX && plain && !prefix.is_empty() {
                self.shared.put_in_front(self.id, prefix).await?;
                content.prefix = b"";
                chunks.size += prefix.len() as u64;
            }
            content.body = Some(chunks);
        }
        let mut record = Encoded::new(version, self.id, &accept, now, content).map_err(Fault::from)?;
        record.held_until = self.held.then(|| record.expires(accept.lifetime));
        drop(std::mem::take(&mut self.buffer));
        self.handed_over = true;
        let queued = self.shared.enqueue(&record).await;
        // Redis has done nothing: what lies there is ours still.
        self.handed_over = !matches!(queued, Err(EnqueueError::Full));
        queued.map(|()| self.id)
    }

    /// The login for which it counts; none while a worker is there that would not give it back.
    async fn counted_for(&self, origin: &Origin) -> Option<String> {
        let login = origin.login.as_deref().filter(|_| self.counts)?;
        self.shared.formats().all_say(Word::Depth).await.then(|| login_key(login))
    }

    /// Room for so many octets more. A buffer is as large as is paid for, so it grows in steps that are known.
    fn make_room(&mut self, more: usize) -> Result<(), EnqueueError> {
        let needed = self.buffer.len() + more;
        if needed <= self.buffer.capacity() {
            return Ok(());
        }
        let capacity = if needed > PIECE { needed } else { needed.next_power_of_two().max(LITTLE) };
        if self.purse.as_mut().is_some_and(|purse| !purse.hold(capacity)) {
            return Err(EnqueueError::Full);
        }
        self.buffer.reserve_exact(capacity - self.buffer.len());
        Ok(())
    }

    /// Octets that the buffer takes.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// At which length the buffer is stored.
    fn chunk_size(&self) -> usize {
        let many = self.purse.as_ref().is_some_and(|purse| purse.budget().memory() > MANY);
        match (self.kept.is_in_store(), many) {
            (false, true) => SMALL_CHUNK,
            (false, false) => CHUNK,
            (true, true) => SMALL_PIECE,
            (true, false) => PIECE,
        }
    }

    /// At most so many octets go in one.
    fn largest_chunk(&self) -> usize {
        if self.kept.is_in_store() { PIECE } else { CHUNK }
    }

    /// Is it too large for Redis, with a store to go to?
    fn outgrows_redis(&self) -> bool {
        self.kept == Kept::InRedis && self.size > self.redis_limit
    }

    /// From now on its chunks go to the store; those that there are go there, too.
    async fn move_to_store(&mut self) -> Result<(), EnqueueError> {
        let Some(spool) = self.shared.spool.clone() else { return Ok(()) };
        self.shared.formats().looked().await;
        if self.shared.formats().writes() < SAYS_STORE {
            // There are workers that would not find it.
            return Ok(());
        }
        match spool.begin().await {
            Ok(()) => {}
            // It would spare Redis, and there is room for it.
            Err(_) if self.size <= spool.limit => {
                self.redis_limit = spool.limit;
                return Ok(());
            }
            Err(fault) => return Err(not_taken(&fault)),
        }
        self.shared.enter_unfinished(Place::of(self.id)).await?;
        let (chunks, sent) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.sent));
        self.kept = Kept::InStore;
        self.keeper = Some(Keeper::of_store(self.shared.clone(), self.id));
        let copied = self.copy_to_store(&spool, chunks).await;
        // Also if the message is given up. They expire by themselves, if not now.
        if sent > 0 {
            let _ = self.shared.discard(self.id, sent).await;
        }
        copied?;
        if let Some(purse) = &mut self.purse {
            purse.take_back();
        }
        Ok(())
    }

    /// Those that are in Redis.
    async fn copy_to_store(&mut self, spool: &Spool, chunks: u32) -> Result<(), EnqueueError> {
        for index in 0..chunks {
            let chunk = self.shared.chunk(self.id, index).await;
            let chunk = chunk.map_err(|error| EnqueueError::Unavailable(error.to_string()))?;
            self.pay_for_store(spool, chunk.len())?;
            self.sent = index + 1;
            spool.put(Place::of(self.id), index, chunk).await.map_err(|fault| not_taken(&fault))?;
            self.chunks = self.sent;
        }
        Ok(())
    }

    fn pay_for_store(&mut self, spool: &Spool, octets: usize) -> Result<(), EnqueueError> {
        let has_paid = self.purse.as_mut().is_none_or(|purse| purse.spool(octets, spool.incoming_limit));
        if has_paid {
            return Ok(());
        }
        metrics::store_refused().increment(1);
        Err(EnqueueError::Full)
    }

    /// Stores a chunk from the front of the buffer.
    async fn store_front(&mut self) -> Result<(), EnqueueError> {
        let mut chunk = std::mem::take(&mut self.buffer);
        let rest = chunk.split_off(chunk.len().min(self.largest_chunk()));
        let chunk = self.store(chunk).await?;
        if self.keeper.is_none() {
            self.keeper = Some(Keeper::start(self.shared.clone(), self.id));
        }
        if let Some(keeper) = &self.keeper {
            keeper.chunks.store(self.chunks, Relaxed);
        }
        self.buffer = self.emptied(chunk, rest);
        if let Some(purse) = &mut self.purse {
            purse.hold(self.buffer.capacity());
        }
        Ok(())
    }

    /// The buffer for what comes after a chunk. The chunk's own serves again while few messages come in, or each would
    /// be allocated anew, in steps; while many do, those that pause now shall hold next to nothing.
    fn emptied(&self, mut chunk: Vec<u8>, rest: Vec<u8>) -> Vec<u8> {
        if rest.is_empty() && self.chunk_size() == self.largest_chunk() {
            chunk.clear();
            return chunk;
        }
        rest
    }

    /// Gives the buffer back, if it is still there.
    async fn store(&mut self, mut chunk: Vec<u8>) -> Result<Vec<u8>, EnqueueError> {
        self.pack(&mut chunk).await?;
        if let (Kept::InStore, Some(spool)) = (self.kept, self.shared.spool.clone()) {
            self.pay_for_store(&spool, chunk.len())?;
            self.sent = self.chunks + 1;
            spool.put(Place::of(self.id), self.chunks, chunk.into()).await.map_err(|fault| not_taken(&fault))?;
            self.chunks = self.sent;
            return Ok(Vec::new());
        }
        if let Some(purse) = &mut self.purse {
            let (used, mark) = self.shared.marks();
            if !purse.store(chunk.len(), used, mark) {
                return Err(EnqueueError::Full);
            }
        }
        self.sent = self.chunks + 1;
        self.shared.store_chunk(self.id, self.chunks, &chunk).await?;
        self.chunks = self.sent;
        Ok(chunk)
    }

    /// The first chunk decides for all of them: what does not pay for it is not tried again. A chunk keeps this thread for less than a
    /// millisecond.
    async fn pack(&mut self, chunk: &mut Vec<u8>) -> Result<(), EnqueueError> {
        match self.codec {
            None => {
                let packed = self.shared.packs().await && packing::pack_if_it_pays(chunk);
                self.codec = Some(if packed { Codec::Zstd } else { Codec::Plain });
                Ok(())
            }
            Some(Codec::Plain) => Ok(()),
            Some(Codec::Zstd) => packing::pack(chunk).map_err(|error| EnqueueError::Unavailable(error.to_string())),
        }
    }
}

impl Drop for Incoming {
    /// A message that was given up takes no room from then on.
    fn drop(&mut self) {
        if self.handed_over || self.sent == 0 && self.kept == Kept::InRedis {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, id) = (self.shared.clone(), self.id);
        let (in_redis, in_store) = self.purse.take().map(|purse| purse.into_kept()).unzip();
        if self.kept.is_in_store() {
            runtime.spawn(shared.give_up_unfinished(id, in_store));
        } else {
            runtime.spawn(shared.clear_up(id, self.sent, in_redis));
        }
    }
}

impl Keeper {
    fn start(shared: Arc<Shared>, id: QueueId) -> Self {
        let chunks = Arc::new(AtomicU32::new(0));
        let count = chunks.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(shared.chunk_life / REFRESHES).await;
                // The next time may be better; without its chunks the message is refused.
                if let Err(fault) = shared.refresh_chunks(id, count.load(Relaxed)).await {
                    tracing::debug!(qid = %id, %fault, "the chunks of a message that comes in could not be refreshed");
                }
            }
        });
        Self { chunks, task: task.abort_handle() }
    }

    /// The same for one whose chunks are in the store.
    fn of_store(shared: Arc<Shared>, id: QueueId) -> Self {
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(shared.chunk_life / REFRESHES).await;
                if let Err(fault) = shared.refresh_unfinished(Place::of(id)).await {
                    tracing::debug!(qid = %id, %fault, "the entry of a message that comes in could not be refreshed");
                }
            }
        });
        Self { chunks: Arc::default(), task: task.abort_handle() }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
