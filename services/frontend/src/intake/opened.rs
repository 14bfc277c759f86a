//! The content of one message on its way into the queue: the trace field in front, fields that are missing at the end
//! of the header section, everything else as it came. Nothing is collected here; the queue holds one chunk at most.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use staffetta_mail::feedback::{Feedback, Reader};
use staffetta_mail::trace::{HeaderScan, Part, Received, date};
use staffetta_mail::{Address, QueueId, mailbox};
use staffetta_policy::canonical::Canonical;
use staffetta_queue::{Accept, Charge, EnqueueError, Incoming};

/// A message whose content comes in.
pub(crate) struct Opened {
    /// An error once the queue failed; the rest of the content is thrown away then.
    incoming: Result<Incoming, EnqueueError>,
    id: QueueId,
    header: HeaderScan,
    arrived: Timestamp,
    began: Instant,
    /// If it is one of ours: fields that are missing are to be added (RFC 6409 section 8).
    completion: Option<Completion>,
    /// Who becomes whom in it.
    canonical: Arc<Canonical>,
    /// Whoever sends it must own the addresses in From.
    authors: bool,
    /// Octets that other senders have added.
    grown: usize,
    /// Reads it, if it may be a report, in memory that is paid for. Boxed: most are none.
    reader: Option<Box<(Reader, Charge)>>,
    /// The Message-ID that was added.
    added: Option<String>,
}

/// Fields that do not leave with a message of ours (Postfix: `message_drop_headers`): who else got it, and what only a
/// final delivery or a mailbox file may say.
const DROPPED: &[&str] = &["Bcc", "Resent-Bcc", "Return-Path", "Content-Length"];

/// Fields whose addresses become others as the sender does.
const OF_SENDERS: &[&str] = &["From", "Sender", "Reply-To", "Resent-From", "Resent-Sender", "Resent-Reply-To"];

/// Octets of a line without its end (RFC 5322 section 2.1.1): a field that had a longer one would be folded somewhere, within an
/// address.
const LINE: usize = 998;
/// A message grows by no more than this, however many fields and addresses it has.
const MAX_GROWTH: usize = 64 * 1024;

/// What is looked at, and changed, in a message.
pub(super) struct Manner {
    /// Who becomes whom in a message of ours.
    pub(super) canonical: Arc<Canonical>,
    /// Whoever sends it must own the addresses in From: [`Opened::authors`] will be asked.
    pub(super) authors: bool,
    /// It may be a report: [`Opened::feedback`] will be asked. Where the memory for that comes from; `None` also where there is
    /// none to be had.
    pub(super) reports: Option<Charge>,
}

/// With what a message of ours is completed.
pub(super) struct Completion {
    /// Our name.
    pub(super) hostname: String,
    /// The sender of the envelope; `None` if it is null.
    pub(super) author: Option<Address>,
}

/// A message that is durable now.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: QueueId,
    /// Octets as queued.
    pub(crate) size: u64,
    /// Without brackets; the message's own or the one that was added.
    pub(crate) message_id: Option<String>,
    /// It waits for an operator.
    pub(crate) held: bool,
}

impl Opened {
    /// Starts with the trace field (RFC 5321 section 4.4).
    pub(super) async fn start(
        mut incoming: Incoming,
        received: &Received<'_>,
        completion: Option<Completion>,
        manner: Manner,
    ) -> Result<Self, EnqueueError> {
        let id = incoming.id();
        let header = match &completion {
            None => HeaderScan::new(),
            Some(_) if manner.canonical.is_empty() => HeaderScan::dropping(DROPPED),
            Some(_) => HeaderScan::dropping(DROPPED).collecting(OF_SENDERS),
        };
        incoming.write(received.field().as_bytes()).await?;
        Ok(Self {
            incoming: Ok(incoming),
            id,
            header: if manner.authors { header.keeping_authors() } else { header },
            arrived: received.when,
            began: Instant::now(),
            completion,
            reader: manner.reports.map(|charge| Box::new((Reader::new(), charge))),
            canonical: manner.canonical,
            authors: manner.authors,
            grown: 0,
            added: None,
        })
    }

    /// When the client was told to go on.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Must what it says in From be judged?
    pub(crate) fn judges_authors(&self) -> bool {
        self.authors
    }

    /// Whom its From fields name; see [`HeaderScan::authors`].
    pub(super) fn authors(&self) -> Option<Vec<Address>> {
        self.header.authors()
    }

    /// Its name in the queue.
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// What it says of another message, if it is a report; to be asked once.
    pub(super) fn feedback(&mut self) -> Option<Feedback> {
        self.reader.take().and_then(|reader| reader.0.finish())
    }

    /// Takes more content. A failure shows when the message is committed.
    pub(crate) async fn write(&mut self, content: &[u8]) {
        if let Some(reader) = &mut self.reader {
            reader.0.feed(content);
        }
        if self.header.is_over() {
            let _ = self.put(content).await;
            return;
        }
        for part in self.header.feed(content) {
            let put = match part {
                Part::Held(held) => self.put(&held).await,
                Part::Chunk(range) => self.put(&content[range]).await,
                Part::Field(field) => self.put_of_sender(field).await,
                Part::End { blank_follows } => self.complete(blank_follows).await,
            };
            if put.is_break() {
                return;
            }
        }
    }

    /// Makes the message durable; `Ok` means that the client may be told so. `hold`: nothing is delivered of it before an
    /// operator says so. `one_by_one`: each recipient has a delivery of his own, since each has a sender of his own.
    pub(super) async fn commit(
        mut self,
        mut accept: Accept,
        hold: bool,
        one_by_one: bool,
    ) -> Result<Stored, EnqueueError> {
        for part in self.header.finish() {
            let _ = match part {
                Part::Held(held) => self.put(&held).await,
                Part::Chunk(_) => ControlFlow::Continue(()),
                Part::Field(field) => self.put_of_sender(field).await,
                Part::End { blank_follows } => self.complete(blank_follows).await,
            };
        }
        let mut incoming = self.incoming?;
        if hold {
            incoming.hold();
        }
        if one_by_one {
            incoming.deliver_one_by_one();
        }
        accept.envelope.tls_optional = self.header.says_tls_is_optional();
        let size = incoming.size();
        let id = incoming.commit(accept, b"").await?;
        let own = || self.header.message_id().map(|text| text.trim_matches(['<', '>', ' ']).to_owned());
        Ok(Stored { id, size, message_id: self.added.or_else(own), held: hold })
    }

    /// Whom a sender of the message becomes; `None` if it stays, as all do in messages of others.
    pub(super) fn becomes(&self, sender: &Address) -> Option<Address> {
        self.completion.as_ref().and_then(|_| self.canonical.of(sender))
    }

    async fn put_of_sender(&mut self, field: Vec<u8>) -> ControlFlow<()> {
        let field = self.of_sender(field);
        self.put(&field).await
    }

    /// A field that names senders, as it goes on: one that cannot be understood, or would be too long, as it is.
    fn of_sender(&mut self, field: Vec<u8>) -> Vec<u8> {
        let changed =
            std::str::from_utf8(&field).ok().and_then(|field| field.split_once(':')).and_then(|(name, value)| {
                let value = mailbox::replace(value, |address| self.becomes(address))?;
                Some(format!("{name}:{value}").into_bytes())
            });
        let fits = |changed: &Vec<u8>| {
            let grown = self.grown + changed.len().saturating_sub(field.len());
            let long = |line: &[u8]| line.trim_ascii_end().len() > LINE;
            (grown <= MAX_GROWTH && !changed.split(|octet| *octet == b'\n').any(long)).then_some(grown)
        };
        match changed.as_ref().and_then(fits) {
            Some(grown) => {
                self.grown = grown;
                changed.unwrap_or(field)
            }
            None => field,
        }
    }

    async fn put(&mut self, octets: &[u8]) -> ControlFlow<()> {
        let Ok(incoming) = &mut self.incoming else { return ControlFlow::Break(()) };
        match incoming.write(octets).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                // Whatever the queue holds of the message goes with the place that is dropped here.
                self.incoming = Err(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Adds what RFC 5322 section 3.6 requires or wants and the client left out.
    async fn complete(&mut self, blank_follows: bool) -> ControlFlow<()> {
        let Some(Completion { hostname, author }) = &self.completion else { return ControlFlow::Continue(()) };
        let mut fields = String::new();
        if !self.header.has_from() {
            fields = match author {
                Some(author) => format!("From: {}\r\n", self.becomes(author).as_ref().unwrap_or(author)),
                None => format!("From: MAILER-DAEMON@{hostname} (Mail Delivery System)\r\n"),
            };
        }
        if !self.header.has_date() {
            fields.push_str(&format!("Date: {}\r\n", date(self.arrived)));
        }
        if !self.header.has_message_id() {
            let message_id = format!("{}@{hostname}", self.id);
            fields.push_str(&format!("Message-ID: <{message_id}>\r\n"));
            self.added = Some(message_id);
        }
        if !fields.is_empty() && !blank_follows {
            fields.push_str("\r\n");
        }
        if fields.is_empty() { ControlFlow::Continue(()) } else { self.put(fields.as_bytes()).await }
    }
}
