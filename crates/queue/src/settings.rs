//! What the queue is told at start, and what it says about itself.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use staffetta_config::{Compression, Config, Durability};
use staffetta_mail::QueueId;

use crate::Error;
use crate::tls::TlsFiles;

/// How to reach Redis, and what an accepted message means there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://`, `rediss://`, `unix:/path`, `redis-sentinel://host,host/name`, `rediss-sentinel://host,host/name`; with
    /// user, password and database number.
    pub url: String,
    /// For the forms with TLS.
    pub tls: TlsFiles,
    /// How many partitions new mail is spread over, 1 to 1024. The queue may have more.
    pub partitions: u16,
    /// Whose queue it is.
    pub name: String,
    /// Is it made where there is none?
    pub create: bool,
    /// What must be true before an enqueue counts.
    pub durability: Durability,
    /// With [`Durability::Replicated`]: how many replicas must have the message.
    pub replicas: u32,
    /// Share of `maxmemory` above which nothing is accepted.
    pub max_memory_ratio: f64,
    /// Bodies up to this many octets live in the record.
    pub inline_limit: u64,
    /// How larger ones are written.
    pub compression: Compression,
    /// Where bodies above `redis_limit` go; `None`: all stay in Redis.
    pub spool: Option<String>,
    /// Bodies above so many octets go to the store, if there is one.
    pub redis_limit: u64,
    /// So long a body waits in Redis before it is moved to the store; `None`: for ever.
    pub offload_after: Option<Duration>,
    /// Octets of messages on their way in that may lie in the store.
    pub incoming_limit: u64,
    /// May a store that no service has used yet become the one of the queue?
    pub founds_store: bool,
    /// How long a claimed job belongs to its worker without renewal.
    pub lease: Duration,
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

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let redis = &config.redis;
        Self {
            url: redis.url.expose_secret().to_owned(),
            tls: TlsFiles::from(redis),
            partitions: redis.partitions,
            name: redis.name.clone(),
            create: redis.create,
            durability: redis.durability,
            replicas: redis.replicas,
            max_memory_ratio: redis.max_memory_ratio,
            inline_limit: config.spool.inline_limit.0,
            compression: config.spool.compression,
            spool: config.spool.url.clone(),
            redis_limit: config.spool.redis_limit.0,
            offload_after: config.spool.offload_after,
            incoming_limit: config.spool.incoming_limit.0,
            founds_store: true,
            lease: config.delivery.lease,
        }
    }
}

impl Settings {
    /// The queue in this Redis, and all else as without a configuration.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::from(&Config::default()) }
    }

    /// For whoever comes to look at a queue or at mail in it: none is made where there is none, none gets partitions, and none
    /// a store.
    #[must_use]
    pub fn only_looking(self) -> Self {
        Self { create: false, partitions: 1, founds_store: false, ..self }
    }

    /// Refuses what cannot work, in words for the operator.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let problem = if self.partitions == 0 || self.partitions > QueueId::MAX_PARTITIONS {
            format!("partitions is {}: set 1 to {}", self.partitions, QueueId::MAX_PARTITIONS)
        } else if !(self.max_memory_ratio > 0.0 && self.max_memory_ratio <= 1.0) {
            format!("max_memory_ratio is {}: set more than 0, at most 1", self.max_memory_ratio)
        } else if self.durability == Durability::Replicated && self.replicas == 0 {
            "durability is replicated, but replicas is 0: set how many replicas must have a message".to_owned()
        } else if self.lease < Duration::from_millis(100) {
            "lease is shorter than 100 ms".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Settings(problem))
    }

    /// How many replicas must confirm each enqueue.
    pub(crate) fn wait_for(&self) -> Option<u32> {
        (self.durability == Durability::Replicated).then_some(self.replicas)
    }
}
