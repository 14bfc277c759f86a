//! The vocabulary of mail: what every other crate means by an address, an envelope, a queue id, an outcome.
//!
//! Plain values and pure functions. Nothing here opens a socket, reads a clock or draws a random number; times and
//! random bits come in as arguments.
//!
//! - [`Address`], [`ReversePath`]: RFC 5321 section 4.1.2, kept byte for byte.
//! - [`Envelope`], [`Recipient`]: what MAIL and RCPT said, with the DSN parameters of RFC 3461.
//! - [`convert`]: a message for a server that takes neither 8 bit nor long lines (RFC 6152, RFC 2045).
//! - [`feedback`]: what others report of mail (RFC 3464), read while it streams by.
//! - [`mailbox`]: whom a From field names (RFC 5322 section 3.4).
//! - [`QueueId`]: names a message for its whole life.
//! - [`Status`], [`RemoteReply`]: what a server answered (RFC 3463, RFC 5321 section 4.2).
//! - [`report`]: delivery status notifications (RFC 3464, RFC 6533).
//! - [`tls_report`]: what other domains are told of the TLS of their mail (RFC 8460).
//! - [`trace`]: the Received field, and the scan of a header section while it streams by.
//! - [`unitext`]: addresses in UTF-8 where reports and ORCPT name them (RFC 6533 section 3).

mod address;
pub mod convert;
mod envelope;
pub mod feedback;
pub mod mailbox;
mod queue_id;
pub mod report;
mod span;
mod status;
pub mod tls_report;
pub mod trace;
pub mod unitext;

pub use address::{Address, AddressError, Domain, ReversePath, a_labels, address_literal};
pub use envelope::{BodyType, Envelope, Notify, Recipient, Return};
pub use queue_id::{QueueId, QueueIdError};
pub use span::{SpanContext, TraceId};
pub use status::{RemoteReply, Status, StatusError};
