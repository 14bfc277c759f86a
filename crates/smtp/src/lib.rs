//! SMTP without I/O: commands, extensions, replies, the server session and the client session.
//!
//! Bytes and times come in as arguments, events and replies come out; sockets, TLS and clocks belong to the shells
//! around it. To see what a verb does, open `command/<verb>.rs`; what an extension adds, `extension/<name>.rs`.
//!
//! - [`reply`]: what a server says, with the one table of texts.
//! - [`command`]: one file and one row a verb: grammar, and its ladder of replies.
//! - [`extension`]: one file an ESMTP extension: keyword and parameters.
//! - [`standing`]: what a command is judged by: settings, introduction, login, transaction.
//! - [`framing`]: where command lines and content end.
//! - [`server`]: the session that receives mail.
//! - [`xtext`]: the encoding of DSN parameters.
//! - [`client`]: the session that sends mail, over SMTP or LMTP.

pub mod client;
pub mod command;
pub mod extension;
pub mod framing;
pub mod reply;
pub mod server;
pub mod standing;
pub mod xtext;

pub use reply::Reply;
