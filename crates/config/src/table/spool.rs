//! `[spool]`: bodies.

use crate::ByteSize;
use crate::kind::{Size, SpoolUrl};
use crate::settings::settings;

/// The default, which no warning is worth.
pub(crate) const DEFAULT_URL: &str = "file:///var/lib/staffetta/spool";
/// The same of `redis_limit`.
pub(crate) const DEFAULT_REDIS_LIMIT: ByteSize = ByteSize(256 * 1024);

settings! {
    /// Where the bodies of messages are kept.
    pub struct Spool {
        /// The store for bodies above `redis_limit`. This version does not use it yet: bodies of every size stay in
        /// Redis, another directory earns a warning, and a store that is not a directory is refused.
        value url: String as SpoolUrl = DEFAULT_URL,
        /// Bodies up to this size are kept in the record of the message itself; larger ones in pieces beside it.
        value inline_limit: ByteSize as Size<0, 16777216> = "16KiB",
        /// Bodies above this size are meant for the store at `url`; in this version they stay in Redis as well.
        value redis_limit: ByteSize as Size<0, 1073741824> = "256KiB",
    }
}
