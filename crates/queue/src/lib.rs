//! The durable queue in Redis: where accepted mail lives until every recipient has a final state.
//!
//! A message is in exactly one partition (a Redis hash tag, so one slot). It has one *job* for each destination among
//! its recipients; a job is waiting, leased, held or finished. See [`Queue`] for the operations, `script/*.lua` for
//! what happens inside Redis, ARCHITECTURE.md for the promises.

pub mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use staffetta_mail::{Envelope, QueueId, Status};
use tokio_util::sync::CancellationToken;

/// Milliseconds since the Unix epoch, by the clock of Redis.
pub type UnixMillis = u64;

/// How to reach Redis, and what an accepted message means there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://`, `rediss://`, `unix:/path`.
    pub url: String,
    /// 1 to 1024; never change it downwards while mail is queued.
    pub partitions: u16,
    /// What must be true before an enqueue counts.
    pub durability: Durability,
    /// With [`Durability::Replicated`]: how many replicas must have the message.
    pub replicas: u32,
    /// Share of `maxmemory` above which nothing is accepted.
    pub max_memory_ratio: f64,
    /// Bodies up to this many octets live in the record.
    pub inline_limit: u64,
    /// How long a claimed job belongs to its worker without renewal.
    pub lease: Duration,
}

/// What a `250` means; DESIGN of the levels in docs/configuration.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the memory of Redis; for development.
    None,
    /// On the primary's disk.
    Fsync,
    /// On the primary's disk and in `replicas` replicas.
    Replicated,
    /// Whatever the managed service promises.
    Managed,
}

/// May the queue be used now?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Ready,
    /// Mail that is queued drains; nothing new is accepted: `452 4.3.1`.
    Full,
    /// Redis is away or fails the durability gate; the text says why: `451 4.3.0`.
    Down(Arc<str>),
}

/// The scheduling unit: the domain of the recipients in lower case, or an address literal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Destination(Arc<str>);

/// Where a message came from; for the log, the report and the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The listener's name; `bounce` for reports made here.
    pub listener: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// What it called itself.
    pub helo: String,
    /// The authenticated login.
    pub login: Option<String>,
}

/// The immutable part of a queued message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: QueueId,
    /// Sender and recipients.
    pub envelope: Envelope,
    /// Where it came from.
    pub origin: Origin,
    /// Octets of the body as stored, trace fields included.
    pub size: u64,
    /// When it was accepted.
    pub arrived: UnixMillis,
    /// When delivery is given up.
    pub expires: UnixMillis,
}

/// One message as it is handed to [`Incoming::commit`].
#[derive(Clone, Debug)]
pub struct Accept {
    /// Sender and recipients; at least one recipient.
    pub envelope: Envelope,
    /// Where it came from.
    pub origin: Origin,
    /// How long delivery is tried.
    pub lifetime: Duration,
}

/// A report that is settled together with the job that caused it, in one script.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Sender `<>`, one recipient.
    pub accept: Accept,
    /// The whole message.
    pub body: Bytes,
}

/// Why a message was not accepted. Nothing is queued in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// Redis is above its memory limit: `452 4.3.1`.
    #[error("the queue is full")]
    Full,
    /// Redis is away, refused, or could not say in time and the message was withdrawn: `451 4.3.0`.
    #[error("the queue is not writable: {0}")]
    Unavailable(String),
}

/// A failed operation of a worker or an operator; always safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is away or refused.
    #[error("the queue is not reachable: {0}")]
    Unavailable(String),
    /// A record that cannot be read.
    #[error("record of {0} is damaged: {1}")]
    Damaged(QueueId, String),
    /// The settings make no sense; happens at [`Queue::open`] only.
    #[error("{0}")]
    Settings(String),
}

/// Destinations with work, from one partition.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Due now, least recently served first. Offered again only after a short visit time.
    pub destinations: Vec<Destination>,
    /// How long until the next one becomes due, if any waits.
    pub next: Option<Duration>,
}

/// A job that this worker owns until `deadline`.
#[derive(Clone, Debug)]
pub struct Job {
    /// What proves the ownership.
    pub lease: Lease,
    /// The message.
    pub message: Arc<Message>,
    /// The recipients that have no final state yet, as indices into the envelope.
    pub recipients: Vec<u32>,
    /// Finished attempts so far.
    pub attempts: u32,
    /// True once a delay notice was sent.
    pub delay_noticed: bool,
    /// The body.
    pub body: Body,
}

/// The proof of ownership of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The message.
    pub id: QueueId,
    /// Which of its jobs.
    pub job: u16,
    /// The destination queue it came from.
    pub destination: Destination,
    token: Arc<str>,
}

/// Where the octets of a message are.
#[derive(Clone, Debug)]
pub enum Body {
    /// Came with the record.
    Inline(Bytes),
    /// In Redis, to be fetched with [`Queue::chunk`].
    Chunks {
        /// How many.
        count: u32,
        /// Octets of all together.
        size: u64,
    },
}

/// What becomes of a job after an attempt.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// Every recipient has a final state. With the last job the message ends and its body is freed.
    Finished {
        /// A failure report to queue in the same script.
        notice: Option<Notice>,
    },
    /// Some recipients must be tried again.
    Deferred {
        /// Indices into the envelope.
        remaining: Vec<u32>,
        /// Wait at least this long; cut so that the job comes up when the message expires.
        after: Duration,
        /// The last reply or error; shown to operators.
        reason: String,
        /// Its status.
        status: Status,
        /// Set: no other job of this destination is offered for this long (connect failures).
        back_off: Option<Duration>,
        /// A report on the recipients that failed for good in this attempt, or a delay notice.
        notice: Option<Notice>,
        /// The notice is (also) a delay notice; it is sent once a message.
        delay_noticed: bool,
    },
    /// Not attempted: back into the queue without counting.
    Released,
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// As asked.
    Done,
    /// The lease had passed to somebody else; nothing changed. After a delivery: a possible duplicate, to be counted.
    Stale,
}

/// Numbers for the metrics, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting and due.
    pub ready: u64,
    /// Waiting for a later time.
    pub scheduled: u64,
    /// Being delivered.
    pub leased: u64,
    /// Held by an operator or as poison.
    pub held: u64,
    /// Messages.
    pub messages: u64,
    /// Age of the oldest job that is due and not claimed.
    pub oldest_ready: Duration,
    /// Octets used by Redis, and its limit (0: none).
    pub memory: (u64, u64),
}

/// A job as operators see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The message.
    pub message: Arc<Message>,
    /// Its jobs.
    pub jobs: Vec<JobState>,
}

/// The state of one job.
#[derive(Clone, Debug)]
pub struct JobState {
    /// The destination queue.
    pub destination: Destination,
    /// Where it is.
    pub place: Place,
    /// Recipients without a final state.
    pub recipients: Vec<u32>,
    /// Finished attempts.
    pub attempts: u32,
    /// The last reply or error.
    pub reason: Option<String>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Waiting until this time.
    Waiting(UnixMillis),
    /// Leased until this time.
    Leased(UnixMillis),
    /// Held.
    Held,
}

/// Which messages an operator means.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<QueueId>,
    /// Only with a job for this destination.
    pub destination: Option<Destination>,
    /// Only from this sender (exact, `""` is the null path).
    pub sender: Option<String>,
    /// Only at least this old.
    pub older_than: Option<Duration>,
}

/// What became of a message that an operator wanted deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Removed,
    /// A worker is delivering it; it will not be tried again after this attempt.
    Leased,
    /// There is no such message.
    Missing,
}

/// The queue. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Queue {
    settings: Arc<Settings>,
}

/// A message that is being received. Memory: one chunk at most. Dropped without commit: nothing is queued.
pub struct Incoming {
    id: QueueId,
}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Queue {
    /// Starts the connections, which go on in the background until `shutdown`; never waits for Redis.
    pub fn open(settings: Settings, shutdown: CancellationToken) -> Result<Self, Error> {
        todo!()
    }
    /// May it be used now? Never blocks.
    pub fn health(&self) -> Health {
        todo!()
    }
    /// Waits until [`Health::Ready`] or the time is over; the error is the reason.
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        todo!()
    }
    pub fn partitions(&self) -> u16 {
        self.settings.partitions
    }
    /// Makes an id (so the trace field can name it) and a place for the body.
    pub fn receive(&self) -> Result<Incoming, EnqueueError> {
        todo!()
    }
    pub async fn offer(&self, partition: u16, limit: usize) -> Result<Offer, Error> {
        todo!()
    }
    /// Up to `limit` due jobs of a destination, with records and inline bodies. Empty: nothing due.
    pub async fn claim(&self, partition: u16, destination: &Destination, limit: usize) -> Result<Vec<Job>, Error> {
        todo!()
    }
    /// One chunk of a body, `0..count`.
    pub async fn chunk(&self, id: QueueId, index: u32) -> Result<Bytes, Error> {
        todo!()
    }
    /// Extends leases; answers which are still ours, in order.
    pub async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Error> {
        todo!()
    }
    /// Ends an attempt. Retries by itself while Redis is away, for at most the lease.
    pub async fn settle(&self, lease: &Lease, settlement: Settlement) -> Result<Settled, Error> {
        todo!()
    }
    /// Takes expired leases back; poison (too many reclaims) goes to held. Returns how many.
    pub async fn reclaim(&self, partition: u16) -> Result<u64, Error> {
        todo!()
    }
    pub async fn counts(&self) -> Result<Counts, Error> {
        todo!()
    }
    /// At most `limit` messages after `cursor` (opaque, `None` starts); the second value continues.
    pub async fn list(
        &self,
        filter: &Filter,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<String>), Error> {
        todo!()
    }
    pub async fn entry(&self, id: QueueId) -> Result<Option<Entry>, Error> {
        todo!()
    }
    /// Makes waiting jobs due now and lifts back-offs; returns how many jobs. By id, by destination, or all.
    pub async fn flush(&self, filter: &Filter) -> Result<u64, Error> {
        todo!()
    }
    pub async fn delete(&self, id: QueueId) -> Result<Deleted, Error> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Incoming {
    pub fn id(&self) -> QueueId {
        self.id
    }
    /// Octets so far.
    pub fn size(&self) -> u64 {
        todo!()
    }
    /// Appends; sends a chunk to Redis whenever one is full.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), EnqueueError> {
        todo!()
    }
    /// Makes it durable. `Ok` means: the `250` may be sent.
    pub async fn commit(self, accept: Accept) -> Result<QueueId, EnqueueError> {
        todo!()
    }
}

impl Destination {
    /// From the text of a destination queue.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
