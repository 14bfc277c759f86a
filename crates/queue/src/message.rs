//! The messages: what goes in, what is stored, what a worker gets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use staffetta_mail::report::Report;
use staffetta_mail::{Address, Envelope, QueueId, Recipient, ReversePath, SpanContext};
use staffetta_policy::routing::Submitter;

use crate::spool::{IN_STORE, Place};

/// Milliseconds since the Unix epoch, by the clock of Redis.
pub type UnixMillis = u64;

/// The scheduling unit: the domain of the recipients in lower case, or an address literal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination(Arc<str>);

impl Destination {
    /// From the text of a destination queue.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Where mail for this address queues. The bare `postmaster`, which should have been completed before, counts as
    /// `localhost`.
    pub fn of(address: &Address) -> Self {
        Self(address.domain_key().map_or_else(|| "localhost".into(), Into::into))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a message came from; for the log, the report and the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The listener's name; `bounce` for reports made here.
    pub listener: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// What it called itself.
    pub helo: String,
    /// The authenticated login.
    pub login: Option<String>,
    /// What its deliveries follow from, if it is traced.
    pub span: Option<SpanContext>,
}

impl Message {
    /// Whom routes may go by.
    pub fn submitter(&self) -> Submitter<'_> {
        Submitter { sender: &self.envelope.sender, login: self.origin.login.as_deref() }
    }
}

/// The immutable part of a queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: QueueId,
    /// Sender and recipients.
    pub envelope: Envelope,
    /// Where it came from.
    pub origin: Origin,
    /// Octets of the body as stored, trace fields included.
    pub size: u64,
    /// It has lines of more than 998 octets, as far as is known.
    pub long_lines: bool,
    /// When it was accepted.
    pub arrived: UnixMillis,
    /// When delivery is given up.
    pub expires: UnixMillis,
}

/// One message as it is handed to [`crate::Incoming::commit`].
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

impl Notice {
    /// A report to the sender of a message; it is tried for `lifetime`. RFC 3464 section 2: from the null path, so that it
    /// never causes another. About a message that demanded TLS it quotes no content, and so demands none: the way back may
    /// be without, and then nobody would hear of the end.
    pub fn report(report: Report, to: Address, hostname: &str, lifetime: Duration) -> Self {
        let envelope = Envelope {
            body: report.body,
            smtputf8: !to.as_str().is_ascii(),
            ..Envelope::new(ReversePath::Null, vec![Recipient::new(to)])
        };
        let origin =
            Origin { listener: "bounce".to_owned(), client: None, helo: hostname.to_owned(), login: None, span: None };
        Self { accept: Accept { envelope, origin, lifetime }, body: report.content.into() }
    }

    /// In the trace of what caused it, if that has one.
    #[must_use]
    pub fn traced(mut self, span: Option<SpanContext>) -> Self {
        self.accept.origin.span = span;
        self
    }
}

/// Where the octets of a message are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Came with the record.
    Inline(Bytes),
    /// In pieces, to be fetched with [`crate::Queue::chunk`].
    Chunks(Chunks),
}

/// The pieces of a larger body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chunks {
    /// How many.
    pub count: u32,
    /// Octets of all together, unpacked.
    pub size: u64,
    /// Where they lie.
    pub kept: Kept,
    /// What they are made of.
    pub codec: Codec,
}

/// Where the pieces of a body lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kept {
    /// In Redis, beside the record.
    #[default]
    InRedis,
    /// In the store of `spool.url`.
    InStore,
    /// In the store, where they were moved to while the message waited; each move has a number of its own.
    Offloaded(u32),
}

/// What a piece of a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The octets.
    #[default]
    Plain,
    /// A frame of zstd that holds them.
    Zstd,
}

impl Kept {
    /// Does reading them need the store?
    pub fn is_in_store(self) -> bool {
        self != Self::InRedis
    }
}

impl Chunks {
    /// So many in Redis, as they are.
    pub fn in_redis(count: u32, size: u64) -> Self {
        Self { count, size, kept: Kept::InRedis, codec: Codec::Plain }
    }

    /// How many keys of Redis they are.
    pub(crate) fn keys(self) -> u32 {
        if self.kept.is_in_store() { 0 } else { self.count }
    }

    /// Where those of this message are in the store, if they are there.
    pub(crate) fn place(self, id: QueueId) -> Option<Place> {
        match self.kept {
            Kept::InRedis => None,
            Kept::InStore => Some(Place::of(id)),
            Kept::Offloaded(number) => Some(Place { id, offload: Some(number) }),
        }
    }

    /// What the garbage set says of those that are left: how many keys, or that they are in the store.
    pub(crate) fn garbage(self, id: QueueId) -> String {
        self.place(id).map_or_else(|| self.count.to_string(), |place| place.what(IN_STORE))
    }
}
