//! A record as the program uses it: what [`crate::format`] has read, with the body as a slice of the same octets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use staffetta_mail::{Envelope, QueueId};

use crate::format::{Draft, HEADER, Parsed, ReadError, WriteError, with_jobs};
use crate::{Accept, Body, Chunks, Destination, Message, UnixMillis};

/// A record, read.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) message: Arc<Message>,
    pub(crate) destinations: Vec<Destination>,
    assignment: Vec<u16>,
    /// Header octets in front of a body that is elsewhere.
    pub(crate) prefix: Bytes,
    pub(crate) body: Body,
    /// The login for which it counts.
    pub(crate) counted_for: Option<Arc<str>>,
    /// How long it was, as it lay in Redis.
    pub(crate) octets: usize,
}

/// A record, written, with what the enqueue script must know of it.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) id: QueueId,
    pub(crate) arrived: UnixMillis,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) chunks: Chunks,
    pub(crate) counted_for: Option<String>,
    pub(crate) bytes: Vec<u8>,
    /// The end of its life, if its jobs are to be held.
    pub(crate) held_until: Option<UnixMillis>,
}

/// What a message consists of, and where that is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content<'a> {
    /// Header octets in front of the body.
    pub(crate) prefix: &'a [u8],
    /// Where the body is, when it is not inline.
    pub(crate) body: Option<Chunks>,
    /// The body, when it is inline.
    pub(crate) inline: &'a [u8],
    /// It has lines of more than 998 octets.
    pub(crate) long_lines: bool,
    /// The login for which it counts.
    pub(crate) counted_for: Option<&'a str>,
    /// Each recipient has a job of his own.
    pub(crate) apart: bool,
}

impl<'a> Content<'a> {
    pub(crate) fn inline(inline: &'a [u8]) -> Self {
        Self { inline, ..Self::default() }
    }

    /// Octets of prefix and body.
    fn size(&self) -> u64 {
        self.prefix.len() as u64 + self.body.map_or(self.inline.len() as u64, |chunks| chunks.size)
    }
}

impl Encoded {
    /// Writes the record of a message that arrives now, in this version.
    pub(crate) fn new(
        version: u8,
        id: QueueId,
        accept: &Accept,
        arrived: UnixMillis,
        content: Content<'_>,
    ) -> Result<Self, WriteError> {
        let (destinations, assignment) = if content.apart { apart(&accept.envelope) } else { jobs(&accept.envelope) };
        let draft = Draft {
            envelope: &accept.envelope,
            origin: &accept.origin,
            size: content.size(),
            long_lines: content.long_lines,
            arrived,
            lifetime: u64::try_from(accept.lifetime.as_millis()).unwrap_or(u64::MAX),
            counted_for: content.counted_for,
            destinations: &destinations,
            assignment: &assignment,
            body: content.body,
            prefix: content.prefix,
            inline: content.inline,
        };
        let chunks = draft.body.unwrap_or_default();
        let bytes = draft.encode(version, rand::random())?;
        let counted_for = content.counted_for.map(str::to_owned);
        Ok(Self { id, arrived, destinations, chunks, counted_for, bytes, held_until: None })
    }

    /// When a message that lives so long ends.
    pub(crate) fn expires(&self, lifetime: Duration) -> UnixMillis {
        self.arrived.saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
    }

    /// How the record begins: version and stamp, which no other has.
    pub(crate) fn stamp(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(HEADER)]
    }
}

impl Record {
    /// Reads a record up to this version; the body is a slice of `bytes`.
    pub(crate) fn decode(id: QueueId, bytes: &Bytes, newest: u8) -> Result<Self, ReadError> {
        let parsed = Parsed::read(bytes, newest)?;
        let body = parsed.rest.checked_add(parsed.prefix).filter(|body| *body <= bytes.len());
        let body = body.ok_or(ReadError::Damaged("its prefix is cut short"))?;
        let (prefix, body) = match parsed.body {
            // What stands in front of the body is in front of it already.
            None => (Bytes::new(), Body::Inline(bytes.slice(parsed.rest..))),
            Some(chunks) => (bytes.slice(parsed.rest..body), Body::Chunks(chunks)),
        };
        Ok(Self {
            destinations: parsed.destinations,
            assignment: parsed.assignment,
            prefix,
            body,
            counted_for: parsed.counted_for.map(Into::into),
            octets: bytes.len(),
            message: Arc::new(Message {
                id,
                envelope: parsed.envelope,
                origin: parsed.origin,
                size: parsed.size,
                long_lines: parsed.long_lines,
                arrived: parsed.arrived,
                expires: parsed.arrived.saturating_add(parsed.lifetime),
            }),
        })
    }

    /// The recipients of a job.
    pub(crate) fn recipients(&self, job: u16) -> Vec<u32> {
        let all = 0..u32::try_from(self.message.envelope.recipients.len()).unwrap_or(u32::MAX);
        if self.assignment.is_empty() {
            return all.collect();
        }
        all.zip(&self.assignment).filter(|(_, of)| **of == job).map(|(index, _)| index).collect()
    }

    /// The octets of this record when these recipients of a job are a job of their own, which is the last one. `bytes`: of
    /// the record as it is. `None`: it has as many jobs as there can be.
    pub(crate) fn split(
        &self,
        bytes: &[u8],
        newest: u8,
        job: u16,
        apart: &[u32],
    ) -> Result<Option<(u16, Vec<u8>)>, ReadError> {
        let (Some(destination), Ok(number)) =
            (self.destinations.get(usize::from(job)), u16::try_from(self.destinations.len()))
        else {
            return Ok(None);
        };
        let mut assignment = self.assignment.clone();
        assignment.resize(self.message.envelope.recipients.len(), 0);
        for &recipient in apart {
            if let Some(of) = assignment.get_mut(recipient as usize) {
                *of = number;
            }
        }
        let destinations: Vec<Destination> = self.destinations.iter().chain([destination]).cloned().collect();
        with_jobs(bytes, newest, &destinations, &assignment).map(|bytes| Some((number, bytes)))
    }

    /// The pieces of the body outside the record.
    pub(crate) fn chunks(&self) -> Chunks {
        match self.body {
            Body::Inline(_) => Chunks::default(),
            Body::Chunks(chunks) => chunks,
        }
    }

    /// How many jobs the message has or had.
    pub(crate) fn jobs(&self) -> u16 {
        u16::try_from(self.destinations.len()).unwrap_or(u16::MAX)
    }
}

/// Distributes the recipients over jobs: one for each destination, in order of first appearance.
fn jobs(envelope: &Envelope) -> (Vec<Destination>, Vec<u16>) {
    if let [only] = &*envelope.recipients {
        return (vec![Destination::of(&only.address)], Vec::new());
    }
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

/// The same, and each recipient has his own.
fn apart(envelope: &Envelope) -> (Vec<Destination>, Vec<u16>) {
    let destinations: Vec<_> =
        envelope.recipients.iter().map(|recipient| Destination::of(&recipient.address)).collect();
    match u16::try_from(destinations.len()) {
        Ok(count) if count > 1 => (destinations, (0..count).collect()),
        _ => jobs(envelope),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use staffetta_mail::{BodyType, Recipient, ReversePath};

    use crate::Origin;

    use super::*;

    fn accept(recipients: &[&str]) -> Accept {
        let recipients = recipients.iter().map(|text| Recipient::new(text.parse().unwrap())).collect();
        Accept {
            envelope: Envelope {
                body: BodyType::EightBitMime,
                envid: Some("x+3D".into()),
                ..Envelope::new(ReversePath::Address("a@b.example".parse().unwrap()), recipients)
            },
            origin: Origin {
                listener: "smtp".into(),
                client: None,
                helo: "h".into(),
                login: Some("l".into()),
                span: None,
            },
            lifetime: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_record_round_trips_with_its_body_and_jobs() {
        let id = QueueId::new(1, 2, 3);
        let accept = accept(&["x@a.example", "y@B.example", "z@A.example", "postmaster"]);
        let encoded = Encoded::new(2, id, &accept, 1_000, Content::inline(b"body")).unwrap();
        let record = Record::decode(id, &encoded.bytes.into(), 2).unwrap();
        assert_eq!(record.message.envelope, accept.envelope);
        assert_eq!(record.message.origin, accept.origin);
        assert_eq!((record.message.arrived, record.message.expires), (1_000, 61_000));
        assert_eq!(record.body, Body::Inline(Bytes::from_static(b"body")));
        let names: Vec<&str> = record.destinations.iter().map(Destination::as_str).collect();
        assert_eq!(names, ["a.example", "b.example", "localhost"]);
        assert_eq!([0, 1, 2].map(|job| record.recipients(job)), [vec![0, 2], vec![1], vec![3]]);
    }

    #[test]
    fn each_recipient_has_a_job_of_his_own_where_that_is_asked_for() {
        let id = QueueId::new(1, 2, 3);
        for (recipients, jobs) in [(&["x@a.example", "y@b.example", "z@a.example"][..], 3), (&["x@a.example"], 1)] {
            let content = Content { apart: true, ..Content::inline(b"body") };
            let encoded = Encoded::new(2, id, &accept(recipients), 1_000, content).unwrap();
            let record = Record::decode(id, &encoded.bytes.into(), 2).unwrap();
            assert_eq!(record.destinations.len(), jobs);
            for (number, recipient) in (0..).zip(recipients) {
                assert_eq!(record.recipients(number), [u32::from(number)]);
                assert!(recipient.ends_with(record.destinations[usize::from(number)].as_str()));
            }
        }
    }

    #[test]
    fn a_recipient_of_any_length_round_trips() {
        let id = QueueId::new(1, 2, 3);
        for octets in (100..140).chain([255]) {
            let accept = accept(&[&format!("{}@a.example", "x".repeat(octets)), "y@b.example"]);
            let encoded = Encoded::new(2, id, &accept, 1_000, Content::inline(b"body")).unwrap();
            let record = Record::decode(id, &encoded.bytes.into(), 2).unwrap();
            assert_eq!(record.message.envelope, accept.envelope, "{octets}");
            assert_eq!(record.body, Body::Inline(Bytes::from_static(b"body")), "{octets}");
        }
    }

    #[test]
    fn a_prefix_stands_in_front_of_chunks_and_is_a_part_of_an_inline_body() {
        let (id, accept) = (QueueId::new(1, 2, 3), accept(&["x@a.example"]));
        let (destinations, assignment) = jobs(&accept.envelope);
        let draft = Draft {
            envelope: &accept.envelope,
            origin: &accept.origin,
            size: 13,
            long_lines: false,
            arrived: 1,
            lifetime: 1,
            counted_for: None,
            destinations: &destinations,
            assignment: &assignment,
            body: None,
            prefix: b"X: y\r\n",
            inline: b"\r\nbody",
        };
        let read = |draft: Draft<'_>| Record::decode(id, &draft.encode(2, [0; 8]).unwrap().into(), 2).unwrap();
        let inline = read(draft.clone());
        assert_eq!((inline.prefix, inline.body), (Bytes::new(), Body::Inline(Bytes::from_static(b"X: y\r\n\r\nbody"))));
        let body = Some(Chunks::in_redis(1, 7));
        let chunks = read(Draft { body, inline: b"", ..draft });
        assert_eq!((&*chunks.prefix, chunks.body), (&b"X: y\r\n"[..], Body::Chunks(Chunks::in_redis(1, 7))));
    }

    #[test]
    fn the_usual_message_needs_few_octets() {
        let encoded = Encoded::new(
            2,
            QueueId::new(1, 2, 3),
            &accept(&["john@example.org"]),
            1_790_000_000_000,
            Content::default(),
        )
        .unwrap();
        assert!(encoded.bytes.len() <= 100, "{}", encoded.bytes.len());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let id = QueueId::new(1, 2, 3);
        let content = Content { body: Some(Chunks::in_redis(2, 9)), ..Content::default() };
        let encoded = Encoded::new(2, id, &accept(&["x@a.example", "y@b.example"]), 1_000, content).unwrap();
        for end in 0..encoded.bytes.len() {
            assert!(Record::decode(id, &Bytes::copy_from_slice(&encoded.bytes[..end]), 2).is_err(), "{end}");
        }
        assert_eq!(Record::decode(id, &encoded.bytes.into(), 1).unwrap_err(), ReadError::Version(2));
    }
}
