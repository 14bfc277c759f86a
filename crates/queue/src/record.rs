//! The formats of what is stored: the record of a message and the state of a job.
//!
//! A record is a version octet, an 8-octet stamp, the postcard form of `Stored`, then the body if it is small. The stamp
//! is random for each attempt to accept a message: a repetition of the same enqueue carries the same one, a collision of
//! ids does not. A record is written once and never changed; its key holds the id. A state is written by deferrals.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use staffetta_mail::{Envelope, QueueId, Status};

use crate::{Accept, Body, Destination, Error, Message, Origin, UnixMillis};

const VERSION: u8 = 1;
const HEADER: usize = 9;

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    envelope: Cow<'a, Envelope>,
    origin: Cow<'a, Origin>,
    size: u64,
    arrived: UnixMillis,
    /// After `arrived`.
    lifetime: u64,
    /// The destination of each job.
    destinations: Cow<'a, [Destination]>,
    /// The job of each recipient; empty when there is one job only.
    assignment: Cow<'a, [u16]>,
    /// Chunks of the body outside the record; 0: it follows.
    chunks: u32,
}

/// A record, read.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) message: Arc<Message>,
    pub(crate) destinations: Vec<Destination>,
    assignment: Vec<u16>,
    pub(crate) body: Body,
}

/// A record, written, with what the enqueue script must know of it.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) id: QueueId,
    pub(crate) arrived: UnixMillis,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) chunks: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Encoded {
    /// Writes the record of a message that arrives now; `inline` is empty when the body is in `chunks`.
    pub(crate) fn new(
        id: QueueId,
        accept: &Accept,
        arrived: UnixMillis,
        size: u64,
        chunks: u32,
        inline: &[u8],
    ) -> Self {
        let (destinations, assignment) = jobs(&accept.envelope);
        let stored = Stored {
            envelope: Cow::Borrowed(&accept.envelope),
            origin: Cow::Borrowed(&accept.origin),
            size,
            arrived,
            lifetime: u64::try_from(accept.lifetime.as_millis()).unwrap_or(u64::MAX),
            destinations: Cow::Borrowed(&destinations),
            assignment: Cow::Borrowed(&assignment),
            chunks,
        };
        let mut bytes = Vec::with_capacity(inline.len() + 256 + 64 * accept.envelope.recipients.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&rand::random::<[u8; HEADER - 1]>());
        // Writing into a Vec cannot fail, and no type here refuses to be serialised.
        let mut bytes = postcard::to_extend(&stored, bytes).unwrap_or_default();
        bytes.extend_from_slice(inline);
        Self { id, arrived, destinations, chunks, bytes }
    }
}

impl Record {
    /// Reads a record; the body is a slice of `bytes`.
    pub(crate) fn decode(id: QueueId, bytes: &Bytes) -> Result<Self, Error> {
        let damaged = |text: &str| Error::Damaged(id, text.to_owned());
        match bytes.first() {
            Some(&VERSION) if bytes.len() >= HEADER => {}
            Some(version) => return Err(damaged(&format!("unknown version {version}"))),
            None => return Err(damaged("it is empty")),
        }
        let (stored, body): (Stored<'_>, _) =
            postcard::take_from_bytes(&bytes[HEADER..]).map_err(|error| damaged(&error.to_string()))?;
        let inline = bytes.slice(bytes.len() - body.len()..);
        let record = Self {
            destinations: stored.destinations.into_owned(),
            assignment: stored.assignment.into_owned(),
            body: match stored.chunks {
                0 => Body::Inline(inline),
                count => Body::Chunks { count, size: stored.size },
            },
            message: Arc::new(Message {
                id,
                envelope: stored.envelope.into_owned(),
                origin: stored.origin.into_owned(),
                size: stored.size,
                arrived: stored.arrived,
                expires: stored.arrived.saturating_add(stored.lifetime),
            }),
        };
        if record.destinations.is_empty() { Err(damaged("it has no destination")) } else { Ok(record) }
    }

    /// The recipients of a job.
    pub(crate) fn recipients(&self, job: u16) -> Vec<u32> {
        let all = 0..u32::try_from(self.message.envelope.recipients.len()).unwrap_or(u32::MAX);
        if self.assignment.is_empty() {
            return all.collect();
        }
        all.zip(&self.assignment).filter(|(_, of)| **of == job).map(|(index, _)| index).collect()
    }

    /// Chunks of the body outside the record.
    pub(crate) fn chunks(&self) -> u32 {
        match self.body {
            Body::Inline(_) => 0,
            Body::Chunks { count, .. } => count,
        }
    }

    /// How many jobs the message had at its arrival.
    pub(crate) fn jobs(&self) -> u16 {
        u16::try_from(self.destinations.len()).unwrap_or(u16::MAX)
    }
}

/// Distributes the recipients over jobs: one for each destination, in order of first appearance.
fn jobs(envelope: &Envelope) -> (Vec<Destination>, Vec<u16>) {
    let mut destinations: Vec<Destination> = Vec::with_capacity(1);
    let mut known = std::collections::HashMap::new();
    let mut assignment = Vec::with_capacity(envelope.recipients.len());
    for recipient in &envelope.recipients {
        let destination = Destination::of(&recipient.address);
        if destinations.last() != Some(&destination) && !known.contains_key(&destination) {
            let job = u16::try_from(destinations.len()).unwrap_or(u16::MAX);
            known.insert(destination.clone(), job);
            destinations.push(destination.clone());
        }
        assignment.push(known.get(&destination).copied().unwrap_or(0));
    }
    if destinations.len() == 1 {
        assignment.clear();
    }
    (destinations, assignment)
}

/// What attempts have left behind for a job. Stored behind one octet that scripts own: how often the job was reclaimed
/// since its last attempt, or `A` once an operator wants it deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) attempts: u32,
    pub(crate) delay_noticed: bool,
    pub(crate) remaining: Vec<u32>,
    pub(crate) reason: String,
    pub(crate) status: Option<Status>,
}

impl State {
    /// Without the scripts' octet.
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// `None`: there was no attempt yet.
    pub(crate) fn decode(id: QueueId, bytes: &[u8]) -> Result<Option<Self>, Error> {
        match bytes.get(1..) {
            None | Some([]) => Ok(None),
            Some(state) => {
                postcard::from_bytes(state).map(Some).map_err(|error| Error::Damaged(id, format!("state: {error}")))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use staffetta_mail::{BodyType, Recipient, ReversePath};

    use super::*;

    fn accept(recipients: &[&str]) -> Accept {
        let recipients = recipients.iter().map(|text| Recipient::new(text.parse().unwrap())).collect();
        Accept {
            envelope: Envelope {
                sender: ReversePath::Address("a@b.example".parse().unwrap()),
                recipients,
                body: BodyType::EightBitMime,
                ret: None,
                envid: Some("x+3D".into()),
            },
            origin: Origin { listener: "smtp".into(), client: None, helo: "h".into(), login: Some("l".into()) },
            lifetime: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_record_round_trips_with_its_body_and_jobs() {
        let id = QueueId::new(1, 2, 3);
        let accept = accept(&["x@a.example", "y@B.example", "z@A.example", "postmaster"]);
        let encoded = Encoded::new(id, &accept, 1_000, 4, 0, b"body");
        let record = Record::decode(id, &encoded.bytes.into()).unwrap();
        assert_eq!(record.message.envelope, accept.envelope);
        assert_eq!(record.message.origin, accept.origin);
        assert_eq!((record.message.arrived, record.message.expires), (1_000, 61_000));
        assert_eq!(record.body, Body::Inline(Bytes::from_static(b"body")));
        let names: Vec<&str> = record.destinations.iter().map(Destination::as_str).collect();
        assert_eq!(names, ["a.example", "b.example", "localhost"]);
        assert_eq!([0, 1, 2].map(|job| record.recipients(job)), [vec![0, 2], vec![1], vec![3]]);
    }

    #[test]
    fn the_usual_message_needs_few_octets() {
        let encoded = Encoded::new(QueueId::new(1, 2, 3), &accept(&["john@example.org"]), 1_790_000_000_000, 0, 0, b"");
        assert!(encoded.bytes.len() <= 100, "{}", encoded.bytes.len());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let id = QueueId::new(1, 2, 3);
        let encoded = Encoded::new(id, &accept(&["x@a.example", "y@b.example"]), 1_000, 9, 2, b"");
        for end in 0..encoded.bytes.len() {
            assert!(Record::decode(id, &Bytes::copy_from_slice(&encoded.bytes[..end])).is_err(), "{end}");
        }
        assert!(Record::decode(id, &Bytes::from_static(b"\x02123456789")).is_err());
    }

    #[test]
    fn a_state_round_trips_behind_the_octet_of_the_scripts() {
        let id = QueueId::new(1, 2, 3);
        let state = State { attempts: 3, remaining: vec![0, 7], reason: "no".into(), ..State::default() };
        let stored = [b"0".as_slice(), &state.encode()].concat();
        assert_eq!(State::decode(id, &stored).unwrap(), Some(state));
        assert_eq!(State::decode(id, b"3").unwrap(), None);
        assert_eq!(State::decode(id, b"").unwrap(), None);
    }
}
