//! `[redis]`: the queue.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::kind::{Any, Choice, FilePath, Flag, Number, Ratio, RedisUrl, Unset};
use crate::settings::{choices, settings};

settings! {
    /// The queue. Every frontend and every delivery worker of a cluster must use the same values here.
    pub struct Redis {
        /// Where Redis (or Valkey) is, with user, password and database number if it needs them:
        /// `redis://user:password@host:6379/0`. In user and password write `/` as `%2F`, `@` as `%40`, `:` as `%3A`, `?` as `%3F`,
        /// `#` as `%23`, `%` as `%25`. `rediss://` is TLS: the certificate must be for the host, and signed by one of the
        /// web's roots or by `ca`.
        /// `redis-sentinel://host:26379,host:26379/name` asks Sentinels which server is the primary of that name; user,
        /// password and a database behind the name are those of the servers, and Sentinels that want a login get the same.
        /// Together with it set `durability = "replicated"`: what only the primary has is lost when another takes its
        /// place. `rediss-sentinel://` speaks to them and to the servers by TLS.
        /// `redis-cluster://host:6379,host:6379` is a Redis Cluster, `rediss-cluster://` one by TLS: some of its servers, which
        /// tell of the others; the same login is used at all, and there is no database number.
        secret url or url_file: SecretString as RedisUrl = "redis://127.0.0.1:6379",
        /// Who signs the certificates of Redis (and of the Sentinels), PEM, instead of the web's roots. This file and the next
        /// two are read for each connection that is opened: one that was renewed needs no restart.
        value ca: Option<PathBuf> as Unset<FilePath> = "",
        /// Our own certificate with its chain, PEM, for a Redis that asks its clients for one; together with `key`.
        value certificate: Option<PathBuf> as Unset<FilePath> = "",
        /// Its private key, PEM, not encrypted.
        value key: Option<PathBuf> as Unset<FilePath> = "",
        /// Into how many parts of the queue new mail goes. A worker looks at one part at a time; more parts than workers
        /// keep them out of each other's way. It may be changed at any time: workers serve every part there has ever
        /// been, whatever their own configuration says.
        value partitions: u16 as Number<u16, 1, 1024> = "16",
        /// Whose queue it is. The name is written into the queue when it is made, and services whose configuration has another
        /// one do not touch it: give each cluster its own, so that no two share a Redis by mistake.
        value name: String as Any = "staffetta",
        /// Whether a service makes the queue in a Redis that is empty. With `false` only `staffetta queue init` does: a Redis
        /// that has lost its data is not taken for a new one then, and no mail is accepted until somebody has looked.
        value create: bool as Flag = "true",
        /// What a `250` to the end of a message promises. Redis is checked for it at start and after each
        /// reconnection; a server that does not keep the promise gets no mail, and the sender a temporary failure.
        value durability: Durability as Choice<Durability> = "fsync",
        /// How many replicas must have a message before the `250`; only with `durability = "replicated"`.
        value replicas: u32 as Number<u32, 0, 16> = "0",
        /// New mail is refused with `452 4.3.1` while Redis uses more than this part of its `maxmemory`. What is
        /// queued still drains. Without a `maxmemory` in Redis nothing is refused; `staffetta up` gives the Redis that it
        /// starts a quarter of the machine's memory, and 256 MiB at least. Messages that are still coming in may take half
        /// of what is left below this mark, one client, one listener and all strangers a part of that.
        value max_memory_ratio: f64 as Ratio = "0.85",
    }
}

choices! {
    /// What a `250` promises.
    pub enum Durability {
        /// The message is in the memory of Redis. For development: a restart of Redis loses mail.
        None = "none",
        /// The message is on the primary's disk. Redis needs `appendonly yes`, `appendfsync always`,
        /// `no-appendfsync-on-rewrite no` and `maxmemory-policy noeviction`.
        Fsync = "fsync",
        /// As `fsync`, and `replicas` replicas have it too.
        Replicated = "replicated",
        /// What the provider of the service promises; nothing is checked.
        Managed = "managed",
    }
}
