//! How a message gets into the queue, whatever protocol brings it.
//!
//! ```text
//! Principal ─▶ judge_sender ─▶ judge_recipient … ─▶ open ─▶ write … ─▶ commit ─▶ Stored: the 250 may be sent
//!                   │                  │              │       (judge_authors) │
//!                   └──────────────────┴──────────────┴───────────────────┴────▶ Denied, Misattributed, NotQueued: why not
//! ```
//!
//! A driver (the SMTP connection; one day HTTP, or a milter's answer) says who brings the message and hands octets on.
//! It turns that into words of its protocol; whatever else is told of a message, in the trace field, the mail
//! log and the metrics, is told here. Nothing of SMTP is known here.

mod aliases;
mod bill;
mod cause;
mod judge;
mod opened;
mod principal;
mod refusals;
mod returns;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use staffetta_config::ClientShown;
use staffetta_mail::feedback::{Feedback, Reader};
use staffetta_mail::trace::{self, Received};
use staffetta_mail::{Address, Envelope, Recipient, ReversePath, SpanContext};
use staffetta_policy::canonical::Canonical;
use staffetta_policy::client::neighbourhood;
use staffetta_policy::relay::{Finding, Listener, Rules};
use staffetta_policy::verp::{Returned, Verp};
use staffetta_queue::{Accept, Budget, Charge, Conduct, Health, Origin, Queue, Sending};
use staffetta_telemetry::maillog;
use staffetta_telemetry::spans::{self, Kind};

use crate::TRACER;
use crate::metrics::IntakeMetrics;
use crate::verify::Verifier;
use opened::{Completion, Manner};
use refusals::Refusals;
use returns::{Report, Returns};

pub(crate) use aliases::Aliases;
pub(crate) use bill::Bill;
pub(crate) use cause::{AuthorFault, Cause, NotQueued};
pub(crate) use judge::{Denied, Directory, Memory};
pub(crate) use opened::{Opened, Stored};
pub(crate) use principal::{Login, Principal, Source, Tls};
pub(crate) use returns::Wishes;

/// The part of this process' memory that messages may take on their way in: one in so many.
const SHARE: u64 = 4;
/// When the system does not say how much memory there is.
const FALLBACK: u64 = 256 << 20;

/// All that the messages of this process have in common on their way in.
pub(crate) struct Intake {
    hostname: String,
    queue: Queue,
    directory: Directory,
    /// Of the configuration in force.
    terms: ArcSwap<Terms>,
    /// How logins behave.
    conduct: Arc<Conduct>,
    budget: Arc<Budget>,
    metrics: IntakeMetrics,
    returns: Returns,
    refusals: Refusals,
}

/// What holds for all messages, as the configuration has it.
pub(crate) struct Terms {
    /// Who may send what to whom.
    pub(crate) rules: Rules,
    /// Asks recipients' servers; `None` if nobody's need be asked.
    pub(crate) verifier: Option<Verifier>,
    /// Octets of the largest message.
    pub(crate) largest: u64,
    /// How long delivery of an accepted message is tried.
    pub(crate) lifetime: Duration,
    /// What trace fields say of who logged in.
    pub(crate) shown: ClientShown,
    /// A login must own the addresses in From.
    pub(crate) match_authors: bool,
    /// What is in the queue of a login is counted.
    pub(crate) counts_queued: bool,
    /// Whose addresses become others.
    pub(crate) canonical: Arc<Canonical>,
    /// Who writes to each recipient as somebody else, and gets what comes back.
    pub(crate) verp: Verp,
    /// What is done about reports.
    pub(crate) wishes: Wishes,
}

/// A message whose From field does not fit the login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misattributed {
    pub(crate) fault: AuthorFault,
    /// The address it is about, if one could be read.
    pub(crate) author: String,
}

impl Intake {
    /// Counts for the metrics from here on. `hostname` is our name in trace fields and in what is added to messages,
    /// `listeners` how many there are.
    pub(crate) fn new(
        queue: Queue,
        directory: Directory,
        hostname: String,
        listeners: usize,
        terms: Terms,
        conduct: Arc<Conduct>,
    ) -> Self {
        let memory = staffetta_transport::memory_limit().map_or(FALLBACK, |memory| memory as u64 / SHARE);
        Self {
            hostname,
            returns: Returns::new(queue.clone()),
            queue,
            directory,
            conduct,
            budget: Budget::new(memory, terms.largest, listeners),
            terms: ArcSwap::from_pointee(terms),
            metrics: IntakeMetrics::new(),
            refusals: Refusals::default(),
        }
    }

    /// Other terms from now on; a message whose content comes in is judged by those under which it began.
    pub(crate) fn change(&self, terms: Terms) {
        self.budget.resize(terms.largest);
        self.terms.store(Arc::new(terms));
    }

    /// May a message of this sender begin? Mail that could not be queued is refused before it is transferred. Whether
    /// the sender belongs to the login is judged with each recipient, as Postfix does (`smtpd_delay_reject`). `size`: what was
    /// declared.
    pub(crate) fn judge_sender(&self, size: Option<u64>) -> Result<(), NotQueued> {
        match self.queue.health() {
            Health::Ready if self.queue.cannot_keep(size.unwrap_or(0)).is_some() => Err(NotQueued::Unavailable),
            Health::Ready => Ok(()),
            Health::Full => Err(NotQueued::Full),
            Health::Down(_) => Err(NotQueued::Unavailable),
        }
    }

    /// May `who` send to this recipient? `memory` belongs to the driver's session. Where mail for an alias goes; `None`: to the
    /// recipient as it is named.
    pub(crate) async fn judge_recipient(
        &self,
        memory: &Memory,
        who: &Principal<'_>,
        sender: &ReversePath,
        recipient: &Address,
    ) -> Result<Option<Arc<[Address]>>, Denied> {
        let terms = self.terms.load_full();
        let returned = terms.verp.read(recipient);
        let recipient = returned.as_ref().map_or(recipient, |returned| &returned.sender);
        let request = who.request(sender, recipient);
        judge::judge(&self.directory, &terms, memory, &request, who).await
    }

    /// Is there memory for one more recipient of a message?
    pub(crate) fn charge(&self, bill: &mut Bill, who: &Principal<'_>, recipient: &Recipient) -> Result<(), NotQueued> {
        let taken = bill.add(recipient, &self.budget, who.payer(), self.terms.load().largest);
        if taken { Ok(()) } else { Err(NotQueued::Full) }
    }

    /// Notes that a recipient is an alias that leads to `destinations`; the message has `named` recipients before it, and may
    /// have `limit`. False: those are too many for one message.
    pub(crate) fn add_alias(
        &self,
        (aliases, bill): (&mut Aliases, &mut Bill),
        who: &Principal<'_>,
        recipient: &Recipient,
        destinations: &[Address],
        (named, limit): (usize, usize),
    ) -> Result<bool, NotQueued> {
        let alias = self.settled(recipient).map_or_else(|| recipient.address.clone(), |settled| settled.address);
        if aliases.has(&alias) {
            return Ok(true);
        }
        if !aliases.has_room(destinations.len(), named, limit) {
            return Ok(false);
        }
        let members = aliases::members(recipient, destinations);
        members.iter().try_for_each(|member| self.charge(bill, who, member))?;
        aliases.add(alias, members);
        Ok(true)
    }

    /// Opens a place in the queue and puts the trace field in front (RFC 5321 section 4.4).
    pub(crate) async fn open(
        &self,
        who: &Principal<'_>,
        sender: &ReversePath,
        recipients: &[Recipient],
    ) -> Result<Opened, NotQueued> {
        let mut incoming =
            self.queue.receive_for(&self.budget, who.payer()).map_err(|error| self.refusals.refused(&error))?;
        if self.terms.load().counts_queued {
            incoming.count_for_login();
        }
        let received = Received {
            client: self.shown(who),
            by: &self.hostname,
            protocol: who.protocol,
            tls: who.tls.map(|tls| (tls.version, tls.cipher)),
            id: incoming.id(),
            recipient: match recipients {
                [only] => Some(&only.address),
                _ => None,
            },
            when: Timestamp::now(),
        };
        let completion =
            who.is_own().then(|| Completion { hostname: self.hostname.clone(), author: sender.address().cloned() });
        let manner = self.manner(who, sender, recipients);
        Opened::start(incoming, &received, completion, manner).await.map_err(|error| self.refusals.refused(&error))
    }

    /// What is looked at, and changed, in a message.
    fn manner(&self, who: &Principal<'_>, sender: &ReversePath, recipients: &[Recipient]) -> Manner {
        let terms = self.terms.load();
        let is_for =
            |to: &Recipient| terms.wishes.hears_complaints(&to.address) || terms.verp.read(&to.address).is_some();
        let may_report = who.source.kind == Listener::Relay && (sender.is_null() || recipients.iter().any(is_for));
        Manner {
            canonical: Arc::clone(&terms.canonical),
            authors: terms.match_authors && who.login.is_some(),
            reports: if may_report { self.room_to_read(who) } else { None },
        }
    }

    /// Memory to read a report in. Where there is none the report goes on unread.
    fn room_to_read(&self, who: &Principal<'_>) -> Option<Charge> {
        let mut charge = self.budget.envelope(who.payer());
        self.budget.grow(&mut charge, Reader::MOST).then_some(charge)
    }

    /// What the trace field says of the client. Whoever did not log in is always named: who is to blame for a message
    /// must be seen in it.
    fn shown<'a>(&self, who: &Principal<'a>) -> trace::Client<'a> {
        let ip = who.client.ip();
        match self.terms.load().shown {
            ClientShown::Network if who.login.is_some() => trace::Client::Network(neighbourhood(ip)),
            ClientShown::None if who.login.is_some() => trace::Client::Hidden,
            _ => trace::Client::Full { helo: who.helo, name: who.name, ip },
        }
    }

    /// May the login send the message that came in, by what its From field says? To be asked before it is committed, if
    /// [`Opened::judges_authors`].
    pub(crate) async fn judge_authors(
        &self,
        memory: &Memory,
        login: &str,
        opened: &Opened,
    ) -> Result<(), Misattributed> {
        let misattributed = |fault, author: &str| Misattributed { fault, author: author.to_owned() };
        let authors = opened.authors().ok_or_else(|| misattributed(AuthorFault::Unreadable, ""))?;
        for author in authors {
            match judge::owns(&self.directory, memory, login, author.as_str()).await {
                Finding::Yes => {}
                Finding::No => return Err(misattributed(AuthorFault::NotOwned, author.as_str())),
                Finding::Unknown => return Err(misattributed(AuthorFault::Unknown, author.as_str())),
            }
        }
        Ok(())
    }

    /// Makes the message durable, counts and logs it. The only place from which a 250 for a message comes.
    pub(crate) async fn commit(
        &self,
        mut opened: Opened,
        who: &Principal<'_>,
        mut envelope: Envelope,
        aliases: Aliases,
    ) -> Result<Stored, NotQueued> {
        let login = || who.login.map(|login| login.name);
        let report = self.report(&mut opened, &envelope);
        self.settle_recipients(&mut envelope);
        // By what the login has named: that others have put many behind one name is not its doing.
        let sending = login().map(|_| Sending::of(&envelope));
        if !aliases.is_empty() {
            aliases.expand(&mut envelope);
            merge(&mut envelope);
        }
        if let Some(sender) = envelope.sender.address().and_then(|sender| opened.becomes(sender)) {
            envelope.sender = ReversePath::Address(sender);
        }
        let (from, nrcpt) = (envelope.sender.clone(), envelope.recipients.len());
        let (began, complete) = (opened.began(), Instant::now());
        let hold = login().is_some_and(|login| self.conduct.stance(login).hold);
        let mut span = TRACER.part_of(spans::current(), "queue.enqueue", Kind::Producer);
        let origin = Origin { span: span.context(), ..who.origin() };
        let accept = Accept { envelope, origin, lifetime: self.terms.load().lifetime };
        let one_by_one = who.is_own() && self.terms.load().verp.signer(&from).is_some();
        let stored = opened.commit(accept, hold, one_by_one).await.map_err(|error| self.refusals.refused(&error));
        let stored = stored.inspect_err(|why| span.fail(Cause::Queue(*why).label()))?;
        self.refusals.queued();
        if let Some((login, sending)) = login().zip(sending) {
            self.conduct.sent(login, &sending);
        }
        self.count(who, &stored, nrcpt, complete - began, complete.elapsed());
        log(who, &stored, &from, nrcpt);
        if let Some(report) = report {
            self.returns.came(&self.terms.load().wishes, &report);
        }
        Ok(stored)
    }

    /// What it says of another message, if it is a report, and about whom.
    fn report(&self, opened: &mut Opened, envelope: &Envelope) -> Option<Report> {
        let feedback = opened.feedback()?;
        let (recipients, terms) = (&envelope.recipients, self.terms.load());
        let returned: Vec<Returned> = match &feedback {
            Feedback::Failures(_) => recipients.iter().filter_map(|to| terms.verp.read(&to.address)).collect(),
            Feedback::Complaint(_) if !recipients.iter().any(|to| terms.wishes.hears_complaints(&to.address)) => {
                return None;
            }
            Feedback::Complaint(it) => {
                it.senders.iter().find_map(|sender| terms.verp.read(sender)).into_iter().collect()
            }
        };
        // In whatever case somebody writes it, an address of ours is the same one.
        let mut known = HashSet::new();
        let mut is_new = |about: &Returned| known.insert(about.recipient.as_str().to_ascii_lowercase());
        let returned = returned.into_iter().filter(|about| is_new(about)).collect();
        Some(Report { qid: opened.id(), to: recipients.first()?.address.clone(), returned, feedback })
    }

    /// Waits for what is told of reports; nothing comes in any more.
    pub(crate) async fn end(&self) {
        self.returns.end().await;
    }

    fn count(&self, who: &Principal<'_>, stored: &Stored, nrcpt: usize, content: Duration, commit: Duration) {
        who.source.accepted.increment(1);
        self.metrics.accepted(stored.size, nrcpt, content, commit);
        if stored.held {
            self.metrics.held();
        }
    }

    /// Puts those in who are meant, and makes one of those who are named twice.
    fn settle_recipients(&self, envelope: &mut Envelope) {
        for recipient in &mut envelope.recipients {
            if let Some(settled) = self.settled(recipient) {
                *recipient = settled;
            }
        }
        merge(envelope);
    }

    /// Who is meant by a name that is not his own: the postmaster's (RFC 5321 section 4.5.1), or what a sender is called for one
    /// recipient.
    fn settled(&self, named: &Recipient) -> Option<Recipient> {
        if let Some(address) = self.postmaster(&named.address) {
            return Some(Recipient { address, ..named.clone() });
        }
        let sender = self.terms.load().verp.read(&named.address)?.sender;
        Some(aliases::member(named, self.postmaster(&sender).as_ref().unwrap_or(&sender)))
    }

    /// Where the mail of this host's postmaster goes; `None` for anybody else.
    fn postmaster(&self, recipient: &Address) -> Option<Address> {
        let terms = self.terms.load();
        let postmaster = &terms.rules.postmaster;
        match &postmaster.destination {
            Some(destination) if postmaster.is(recipient) => Some(destination.clone()),
            None if recipient.domain_str().is_none() => Address::parse(&format!("{recipient}@{}", self.hostname)).ok(),
            _ => None,
        }
    }
}

/// Makes one of those who are there twice: the first.
fn merge(envelope: &mut Envelope) {
    if envelope.recipients.len() > 1 {
        let mut known = HashSet::with_capacity(envelope.recipients.len());
        envelope.recipients.retain(|recipient| known.insert(key(&recipient.address)));
    }
}

/// What two mentions of one mailbox have in common: the local part as it is, the domain in lower case.
fn key(address: &Address) -> (String, Option<String>) {
    (address.local().to_owned(), address.domain_key())
}

fn log(who: &Principal<'_>, stored: &Stored, from: &ReversePath, nrcpt: usize) {
    maillog::accepted(&maillog::Accepted {
        qid: stored.id,
        listener: &who.source.name,
        client: who.for_log(),
        helo: who.helo.unwrap_or_default().into(),
        proto: who.protocol.keyword(),
        tls: who.tls.map(|tls| tls.text.as_str()),
        sasl: who.sasl(),
        from: from.as_str().into(),
        size: stored.size,
        nrcpt,
        message_id: stored.message_id.as_deref().map(Into::into),
        held: stored.held,
        trace: spans::current().map(SpanContext::trace),
    });
}
