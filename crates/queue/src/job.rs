//! The jobs of a worker: offered, leased, settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use staffetta_mail::{QueueId, Status};

use crate::record::Record;
use crate::{Body, Chunks, Destination, Message, Notice, UnixMillis};

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
    /// When it ends unless renewed, by the local monotonic clock; never later than Redis thinks.
    pub deadline: Instant,
    /// How old the message was at the claim, by the clock of Redis. Nobody may take it from `message.arrived` and a
    /// clock of his own.
    pub age: Duration,
    /// What was left of its life then, by the same clock; zero: delivery is given up.
    pub left: Duration,
    /// The message.
    pub message: Arc<Message>,
    /// The recipients that have no final state yet, as indices into the envelope.
    pub recipients: Vec<u32>,
    /// Finished attempts so far.
    pub attempts: u32,
    /// True once a delay notice was sent for this job.
    pub delay_noticed: bool,
    /// How many workers have let it go before without an end, counted as `reclaim.lua` does. With one, whoever attempts it
    /// says so first ([`crate::Queue::begin`]); with more, it is the only one of its kind that a worker attempts.
    pub silences: u8,
    /// Header octets that go in front of a body in chunks; empty with an inline body, which has them already.
    pub prefix: Bytes,
    /// The body.
    pub body: Body,
    /// What says which other jobs the message has, if it has some.
    pub(crate) record: Option<Arc<Record>>,
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
    /// The member of the `lease` ZSET: job, token, destination. Whoever knows it owns the job.
    pub(crate) member: Arc<str>,
    pub(crate) facts: Facts,
    /// The login for which the message counts.
    pub(crate) counted_for: Option<Arc<str>>,
    /// What a newer program has left in the state of the job; the next state keeps it.
    pub(crate) kept: Option<Arc<[u8]>>,
}

impl Lease {
    /// Of whose message nothing is known yet.
    pub(crate) fn new(id: QueueId, job: u16, destination: Destination, member: Arc<str>) -> Self {
        Self { id, job, destination, member, facts: Facts::default(), counted_for: None, kept: None }
    }
}

/// What a settlement must know of the message without reading it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    /// Jobs of the message at its arrival.
    pub(crate) jobs: u16,
    pub(crate) chunks: Chunks,
    pub(crate) arrived: UnixMillis,
    pub(crate) expires: UnixMillis,
    pub(crate) attempts: u32,
    pub(crate) delay_noticed: bool,
}

/// What becomes of a job after an attempt.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// Every recipient has a final state. With the last job the message ends and its body is freed.
    Finished {
        /// Reports to queue in the same script, at most two: one on what failed, one on what was delivered.
        notices: Vec<Notice>,
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
        /// Reports on the recipients that have a final state since this attempt, or a delay notice; at most two.
        notices: Vec<Notice>,
        /// One of them is (also) a delay notice; it is sent once a job.
        delay_noticed: bool,
        /// It does not wait for another attempt but is held, until an operator releases it or its life is over.
        held: bool,
    },
    /// Not attempted: back into the queue without counting.
    Released,
    /// Not attempted, and held as above.
    Held,
}

impl Settlement {
    /// The same, but what would wait again is held.
    #[must_use]
    pub fn held(mut self) -> Self {
        match &mut self {
            Self::Deferred { held, .. } => *held = true,
            Self::Released => return Self::Held,
            Self::Finished { .. } | Self::Held => {}
        }
        self
    }
}

/// What a settlement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// As asked. (Or an operator has deleted the message meanwhile, and it ended instead of being deferred.)
    Done {
        /// The message ended with this job: its record and its body are gone. Not known, and false, for a message of
        /// several jobs whose settlement got through without its answer.
        ended: bool,
        /// The ids of the notices that were queued, in their order.
        notices: Vec<QueueId>,
    },
    /// The lease had passed to somebody else; nothing changed. After a delivery: a possible duplicate, to be counted.
    Stale,
}

impl Settled {
    /// Was it done as asked?
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}
