//! SMTP without I/O: commands, extensions, replies, the server session and the client session.

pub mod client;
