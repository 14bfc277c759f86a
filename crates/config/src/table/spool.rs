//! `[spool]`: bodies.

use std::time::Duration;

use crate::ByteSize;
use crate::kind::{Choice, Maybe, Size, SpoolUrl, Time};
use crate::settings::{choices, settings};

/// The default of `redis_limit`, which no warning is worth.
pub(crate) const DEFAULT_REDIS_LIMIT: ByteSize = ByteSize(256 * 1024);

settings! {
    /// Where the bodies of messages are kept.
    pub struct Spool {
        /// The store for bodies above `redis_limit`: a directory (`file:///var/lib/staffetta/spool`), S3 or what speaks it
        /// (`s3://bucket/prefix`), Google Cloud Storage (`gs://bucket/prefix`) or Azure (`az://container/prefix`). Empty: bodies of
        /// every size stay in Redis. All frontends and delivery workers need the same one. A directory must therefore be one
        /// that they share; whoever finds another one there, or none, says so and does not use it. The way to an object
        /// store, and its keys, come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`), never from here. To change it,
        /// see [operations](operations.md#large-bodies).
        value url: Option<String> as Maybe<SpoolUrl> = "",
        /// Bodies up to this size are kept in the record of the message itself; larger ones in pieces beside it.
        value inline_limit: ByteSize as Size<0, 16777216> = "16KiB",
        /// How bodies above `inline_limit` are written, in Redis and in the store: see the choices.
        value compression: Compression as Choice<Compression> = "zstd",
        /// Bodies above this size go to the store at `url` while they come in. Without a store they stay in Redis.
        value redis_limit: ByteSize as Size<0, 1073741824> = "256KiB",
        /// How long a body above `inline_limit` stays in Redis while its message waits, before a worker moves it to the store at
        /// `url`; `""`: for as long as the message is there. Where four fifths of what new mail may take of Redis' memory
        /// (`redis.max_memory_ratio`) are in use it is two minutes at most, and new bodies above `inline_limit` go to the store at once.
        value offload_after: Option<Duration> as Maybe<Time<0, 7776000000>> = "15m",
        /// How much of the store messages may take that are still on their way in, through one frontend: what a client has sent
        /// lies there before the message is accepted, and is deleted when it is not. All strangers together get three quarters of
        /// this, one of them an eighth, or room for a message of `frontend.size_limit`; above: `452 4.3.1`.
        value incoming_limit: ByteSize as Size<1048576, 1125899906842624> = "16GiB",
    }
}

choices! {
    /// What pieces of bodies are made of.
    pub enum Compression {
        /// Frames of zstd, at its fastest level, where the first piece shrinks by a tenth at least. While a worker is there that cannot
        /// read them, and says so by not saying that it can, nothing is compressed.
        Zstd = "zstd",
        /// The octets as they are: more of Redis and of its disk, and less work for frontends and workers.
        None = "none",
    }
}
