//! The session's questions, answered by policy, auth service and queue.

use std::time::Instant;

use jiff::Timestamp;
use staffetta_mail::trace::{Protocol, Received};
use staffetta_mail::{Address, Envelope, ReversePath};
use staffetta_policy::relay::{Request, Verdict};
use staffetta_queue::{Accept, Destination, EnqueueError, Filter, Health, Origin};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Answer, Question};

use super::Dialog;
use crate::answer::judge;
use crate::receive::Receiving;

/// Labels for metrics.
const QUEUE_FULL: &str = "queue_full";
const QUEUE_DOWN: &str = "queue_unavailable";
const ETRN_REFUSED: &str = "etrn_refused";

impl Dialog<'_> {
    /// Whatever leaves this process is boxed, so that an idle session stays small.
    pub(super) async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Sasl(step) => Box::pin(self.sasl(step)).await,
            Question::Mail(_) => self.mail(),
            Question::Recipient(recipient) => self.recipient(&recipient.address).await,
            Question::Verify(address) => self.recipient(&address).await,
            Question::Etrn(domain) => Box::pin(self.etrn(&domain)).await,
            Question::Data => self.data().await,
            Question::Store(envelope) => self.store(envelope).await,
        }
    }

    /// Mail that could not be queued is refused before it is transferred.
    fn mail(&mut self) -> Answer {
        self.began = Instant::now();
        match self.door.shared.queue.health() {
            Health::Ready => Answer::Proceed,
            Health::Full => self.refuse(QUEUE_FULL, Reply::insufficient_storage()),
            Health::Down(_) => self.refuse(QUEUE_DOWN, Reply::queue_write_error()),
        }
    }

    async fn recipient(&mut self, recipient: &Address) -> Answer {
        let null = ReversePath::Null;
        let request = Request {
            listener: self.door.kind,
            trusted: self.peer.trusted,
            login: self.session.login(),
            sender: self.session.transaction().map_or(&null, |transaction| &transaction.envelope.sender),
            recipient,
        };
        match judge(&self.door.shared, &mut self.memory, &request).await {
            Verdict::Accept => Answer::Proceed,
            Verdict::Refuse(refusal) => {
                let reply = refusal.reply(&request);
                self.refuse(refusal.label(), reply)
            }
        }
    }

    async fn etrn(&mut self, domain: &str) -> Answer {
        let shared = &self.door.shared;
        if !shared.may_etrn(self.peer.address.ip()) {
            return self.refuse(ETRN_REFUSED, Reply::etrn_unavailable(domain));
        }
        let destination = Some(Destination::new(domain.to_ascii_lowercase()));
        match shared.queue.flush(&Filter { destination, ..Filter::default() }).await {
            Ok(_) => Answer::Proceed,
            Err(error) => {
                tracing::warn!(domain, %error, "ETRN failed");
                self.refuse(QUEUE_DOWN, Reply::etrn_failed())
            }
        }
    }

    /// Opens a place in the queue and puts the trace field in front.
    async fn data(&mut self) -> Answer {
        let incoming = match self.door.shared.queue.receive() {
            Ok(incoming) => incoming,
            Err(error) => return self.not_queued(&error),
        };
        let now = Instant::now();
        self.door.shared.metrics.envelope.record(now - self.began);
        self.content_began = now;
        let recipients = self.session.transaction().map_or(&[][..], |t| &t.envelope.recipients);
        let received = Received {
            helo: self.session.helo().map(|helo| helo.name.as_str()),
            client_name: None,
            client_ip: self.peer.address.ip(),
            by: &self.door.shared.hostname,
            protocol: self.protocol(),
            tls: self.tls.as_ref().map(|tls| (tls.version, tls.cipher.as_str())),
            id: incoming.id(),
            recipient: match recipients {
                [only] => Some(&only.address),
                _ => None,
            },
            when: Timestamp::now(),
        };
        let own = self.session.login().is_some() || self.peer.trusted;
        let completes_as = own.then(|| self.door.shared.hostname.clone());
        match Receiving::start(incoming, &self.door.shared.budget, &received, completes_as).await {
            Ok(receiving) => {
                self.receiving = Some(receiving);
                Answer::Proceed
            }
            Err(error) => self.not_queued(&error),
        }
    }

    /// The only place from which a 250 for a message comes.
    async fn store(&mut self, mut envelope: Envelope) -> Answer {
        let Some(receiving) = self.receiving.take() else { return Answer::Refuse(Reply::internal_error()) };
        self.qualify_postmaster(&mut envelope);
        let (from, nrcpt) = (envelope.sender.clone(), envelope.recipients.len());
        let accept = Accept { envelope, origin: self.origin(), lifetime: self.door.shared.lifetime };
        let complete = Instant::now();
        match receiving.commit(accept).await {
            Ok(stored) => {
                self.messages += 1;
                self.accepted(&stored, &from, nrcpt, complete);
                Answer::Stored(stored.id)
            }
            Err(error) => self.not_queued(&error),
        }
    }

    fn not_queued(&mut self, error: &EnqueueError) -> Answer {
        match error {
            EnqueueError::Full => self.refuse(QUEUE_FULL, Reply::insufficient_storage()),
            EnqueueError::Unavailable(reason) => {
                tracing::warn!(reason, "a message could not be queued");
                self.refuse(QUEUE_DOWN, Reply::queue_write_error())
            }
        }
    }

    pub(super) fn refuse(&mut self, reason: &'static str, reply: Reply) -> Answer {
        self.reason = Some(reason);
        Answer::Refuse(reply)
    }

    /// RFC 5321 section 4.5.1: the bare postmaster is this host's.
    fn qualify_postmaster(&self, envelope: &mut Envelope) {
        for recipient in envelope.recipients.iter_mut().filter(|r| r.address.domain_str().is_none()) {
            let qualified = format!("{}@{}", recipient.address, self.door.shared.hostname);
            if let Ok(address) = Address::parse(&qualified) {
                recipient.address = address;
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            listener: self.door.name().to_owned(),
            client: Some(self.peer.address.ip()),
            helo: self.session.helo().map(|helo| helo.name.clone()).unwrap_or_default(),
            login: self.session.login().map(str::to_owned),
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        Protocol {
            extended: self.session.helo().is_some_and(|helo| helo.extended),
            encrypted: self.session.is_encrypted(),
            authenticated: self.session.login().is_some(),
        }
    }
}
