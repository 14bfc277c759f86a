//! Trace and header work: the Received field (RFC 5321 section 4.4) and the scan of a header section while it streams
//! by (RFC 5322 section 2.2).

mod header;
mod received;

pub use header::{HeaderScan, Part, Parts};
pub use received::{Client, Protocol, Received, date};
