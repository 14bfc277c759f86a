//! The formats of what is stored, apart from the types of the program: what lies in Redis outlives the program that wrote it.
//!
//! One file a version, with wire structs of its own and its golden octets; the newest two are read. A record begins with
//! its version and an 8-octet stamp. The stamp is random for each attempt to accept a message: a repetition of the same
//! enqueue carries the same one, a collision of ids does not. What follows is the version's; then the body, if it is small.
//! A record is written once, and changed only where an operator splits a job or its body is moved; its key holds the id. A
//! state is written by deferrals.
//!
//! A new optional field is a new number in the newest version, never a change of what a number means. What a reader
//! must not overlook gets a needed number: a program that does not know it leaves the record to a newer one. Only what
//! can be said in neither way is a new version: a file here, and the file of the oldest goes. docs/stored-formats.md lists
//! the octets, `readers` decides which version is written.

mod fields;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use staffetta_mail::{Envelope, Status};

use crate::{Chunks, Destination, Origin, UnixMillis};

/// The newest version: what this program writes when everybody can read it.
pub(crate) const NEWEST: u8 = 2;
/// The oldest version that is still read.
pub(crate) const OLDEST: u8 = 1;
/// The first version that has room for a prefix in front of a body that is elsewhere.
pub(crate) const SAYS_PREFIX: u8 = 2;
/// The first version that has room for a body in the store.
pub(crate) const SAYS_STORE: u8 = 2;
/// The first version that has room for the login for which a message counts.
pub(crate) const SAYS_COUNTED: u8 = 2;
/// The first version that has room for demands on the next hop.
const SAYS_DEMANDS: u8 = 2;
/// Octets of version and stamp.
pub(crate) const HEADER: usize = 9;

/// What a record says, in the terms of no version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) origin: &'a Origin,
    /// Octets of the message: prefix and body.
    pub(crate) size: u64,
    /// It has lines of more than 998 octets.
    pub(crate) long_lines: bool,
    pub(crate) arrived: UnixMillis,
    /// After `arrived`.
    pub(crate) lifetime: u64,
    /// The login for which it counts, as the scripts know it.
    pub(crate) counted_for: Option<&'a str>,
    /// The destination of each job.
    pub(crate) destinations: &'a [Destination],
    /// The job of each recipient; empty when there is one job only.
    pub(crate) assignment: &'a [u16],
    /// Where the body is; `None`: behind the head.
    pub(crate) body: Option<Chunks>,
    /// Header octets in front of a body that was stored before they were known.
    pub(crate) prefix: &'a [u8],
    /// The body itself, when it is inline.
    pub(crate) inline: &'a [u8],
}

/// A record, read: the owned twin of [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) envelope: Envelope,
    pub(crate) origin: Origin,
    pub(crate) size: u64,
    pub(crate) long_lines: bool,
    pub(crate) arrived: UnixMillis,
    pub(crate) lifetime: u64,
    pub(crate) counted_for: Option<String>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) assignment: Vec<u16>,
    pub(crate) body: Option<Chunks>,
    /// Octets of the prefix; it and then the inline body end the record.
    pub(crate) prefix: usize,
    /// Where the prefix begins.
    pub(crate) rest: usize,
}

/// What attempts have left behind for a job. Stored behind one octet that scripts own: how often the job was reclaimed
/// since its last attempt, or `A` once an operator wants it deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) attempts: u32,
    pub(crate) delay_noticed: bool,
    /// The recipients without a final state.
    pub(crate) remaining: Vec<u32>,
    pub(crate) reason: String,
    pub(crate) status: Option<Status>,
    /// Fields of a newer program, as they are stored: the next writer keeps them.
    pub(crate) unknown: Vec<u8>,
}

/// Why something stored cannot be read. A newer program may be able to, so it must stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// Written in a format of another time.
    #[error("format {0} is not known here")]
    Version(u8),
    /// Something that must not be overlooked.
    #[error("a newer program has written field {0}")]
    Field(u64),
    /// No program can read it.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The version that every worker reads has no words for it. What is accepted must be read, so it is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("format {0}, the newest that every worker reads, cannot say it")]
pub(crate) struct WriteError(u8);

impl Draft<'_> {
    /// Writes the record in this version: the one that every worker reads, so never in a newer one. Except where that is
    /// what is wanted: demands on the next hop are kept from workers that do not know them.
    pub(crate) fn encode(&self, version: u8, stamp: [u8; 8]) -> Result<Vec<u8>, WriteError> {
        let demanding = self.envelope.smtputf8 || self.envelope.require_tls;
        let version = if demanding { version.max(SAYS_DEMANDS) } else { version };
        if version < SAYS_PREFIX && !v1::can_say(self) {
            return Err(WriteError(version));
        }
        let mut out =
            Vec::with_capacity(self.inline.len() + self.prefix.len() + 256 + 64 * self.envelope.recipients.len());
        out.push(version);
        out.extend_from_slice(&stamp);
        Ok(match version {
            1 => v1::write_record(self, out),
            _ => v2::write_record(self, out),
        })
    }
}

impl Parsed {
    /// Reads a record up to this version.
    pub(crate) fn read(bytes: &[u8], newest: u8) -> Result<Self, ReadError> {
        let Some(&version) = bytes.first() else { return Err(ReadError::Damaged("it is empty")) };
        let parsed = match version {
            1 => v1::read_record(bytes),
            2 if newest >= 2 => v2::read_record(bytes),
            version => Err(ReadError::Version(version)),
        }?;
        if parsed.destinations.is_empty() { Err(ReadError::Damaged("it has no destination")) } else { Ok(parsed) }
    }
}

/// The same record with other jobs: `destinations` of all, and the job of each recipient. What else it says stays as it
/// is, what only a newer program understands too.
pub(crate) fn with_jobs(
    bytes: &[u8],
    newest: u8,
    destinations: &[Destination],
    assignment: &[u16],
) -> Result<Vec<u8>, ReadError> {
    match bytes.first() {
        Some(1) => v1::with_jobs(bytes, destinations, assignment),
        Some(2) if newest >= 2 => v2::with_jobs(bytes, destinations, assignment),
        Some(&version) => Err(ReadError::Version(version)),
        None => Err(ReadError::Damaged("it is empty")),
    }
}

/// The same record when the pieces of its body are in the store, where this move has brought them. `None`: its version has no
/// words for it.
pub(crate) fn with_offloaded_body(bytes: &[u8], newest: u8, number: u32) -> Result<Option<Vec<u8>>, ReadError> {
    match bytes.first() {
        Some(2) if newest >= 2 => v2::with_offloaded_body(bytes, number).map(Some),
        _ => Ok(None),
    }
}

/// The version in which a state is stored, with the scripts' octet in front.
pub(crate) fn version_of_state(bytes: &[u8]) -> u8 {
    if bytes.get(1) == Some(&0) { bytes.get(2).copied().unwrap_or(OLDEST) } else { 1 }
}

impl State {
    /// Without the scripts' octet.
    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        match version {
            1 if self.unknown.is_empty() => v1::write_state(self),
            _ => v2::write_state(self),
        }
    }

    /// With the scripts' octet in front. `None`: there was no attempt yet.
    pub(crate) fn read(bytes: &[u8], newest: u8) -> Result<Option<Self>, ReadError> {
        match bytes.get(1..) {
            None | Some([]) => Ok(None),
            // A state of version 1 begins with the number of attempts, which is never 0.
            Some([0, 2, rest @ ..]) if newest >= 2 => v2::read_state(rest).map(Some),
            Some([0, version, ..]) => Err(ReadError::Version(*version)),
            Some(rest) => v1::read_state(rest).map(Some),
        }
    }
}
