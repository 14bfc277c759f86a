//! The session's questions, put to the intake, the auth service and the queue.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::future::join_all;
use futures_util::poll;
use staffetta_mail::{Address, Envelope, Recipient, ReversePath};
use staffetta_queue::{Destination, Filter};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Answer, Question};
use staffetta_telemetry::spans;

use tokio::time::{sleep, timeout};

use super::refused::{Refused, author_refused, message_refused, recipient_refused};
use super::{Dialog, flush};
use crate::advance::Wish;
use crate::asked::NOTICEABLE;
use crate::intake::{Aliases, Bill, NotQueued, Opened, Principal};
use crate::stream::Stream;

/// How many recipients are looked up ahead, while the client waits for one before them.
const AHEAD: usize = 50;
/// How long MAIL waits of a login that is to be slow (`frontend.abuse.slow`).
const SLOW: Duration = Duration::from_secs(2);

/// Waits for an answer. If that takes a while, the client gets the replies that are ready first.
pub(super) async fn wait_for(
    mut answer: Pin<&mut impl Future<Output = Answer<Refused>>>,
    stream: &mut Stream,
    output: &mut BytesMut,
    patience: Duration,
) -> io::Result<Answer<Refused>> {
    if let Poll::Ready(answer) = poll!(&mut answer) {
        return Ok(answer);
    }
    let waiting = async {
        if let Ok(answer) = timeout(NOTICEABLE, &mut answer).await {
            return Ok(answer);
        }
        let (answer, flushed) = tokio::join!(answer, flush(stream, output, patience));
        flushed.map(|()| answer)
    };
    Box::pin(waiting).await
}

impl Dialog<'_> {
    /// Whatever leaves this process is boxed, so that an idle session stays small.
    pub(super) async fn answer(&mut self, question: Question, input: &[u8]) -> Answer<Refused> {
        if let Some(refusal) = self.reconsider() {
            // What came in of a message goes with its place.
            self.opened = None;
            return refusal;
        }
        self.trace(&question);
        match self.traced.span.context() {
            None => self.answer_to(question, input).await,
            context => Box::pin(spans::within(context, self.answer_to(question, input))).await,
        }
    }

    async fn answer_to(&mut self, question: Question, input: &[u8]) -> Answer<Refused> {
        match question {
            Question::Sasl(step) => Box::pin(self.sasl(step)).await,
            Question::Mail(mail) => self.mail(mail.parameters.size).await,
            Question::Recipient(recipient) => self.named(recipient, input).await,
            Question::Verify(address) => self.recipient(&address, &[]).await.map_or_else(|no| no, |_| Answer::Proceed),
            Question::Etrn(domain) => Box::pin(self.etrn(&domain)).await,
            Question::Client(told) => Box::pin(self.client(*told)).await,
            Question::Data => self.data().await,
            Question::Store(envelope) => self.store(envelope).await,
        }
    }

    async fn mail(&mut self, size: Option<u64>) -> Answer<Refused> {
        if !self.knows_all().await {
            return message_refused(NotQueued::Unavailable);
        }
        if self.is_slow() {
            self.door.shared.metrics.slowed.increment(1);
            Box::pin(sleep(SLOW)).await;
        }
        self.began = Instant::now();
        (self.bill, self.aliases) = (Bill::default(), Aliases::default());
        if let Some(refusal) = self.over_depth().await {
            return refusal;
        }
        match self.door.shared.intake.judge_sender(size) {
            Ok(()) => Answer::Proceed,
            Err(not_queued) => message_refused(not_queued),
        }
    }

    /// One more recipient of the message.
    async fn named(&mut self, recipient: Recipient, input: &[u8]) -> Answer<Refused> {
        let answer = match self.recipient(&recipient.address, input).await {
            Ok(alias) => self.charge(&recipient, alias.as_deref()),
            Err(refusal) => refusal,
        };
        match self.uncounted(&answer) {
            Some(wish) => Box::pin(self.count(wish, input)).await,
            None => answer,
        }
    }

    /// Has its login come to a step at which it is answered late?
    fn is_slow(&self) -> bool {
        self.session.login().is_some_and(|login| self.door.shared.conduct.stance(login).slow)
    }

    /// While one answer is waited for, those who come behind it in the same group are looked up, so that all of them
    /// cost one wait. Where mail for an alias goes, and `None` for any other.
    async fn recipient(&self, recipient: &Address, input: &[u8]) -> Result<Option<Arc<[Address]>>, Answer<Refused>> {
        let null = ReversePath::Null;
        let sender = self.session.transaction().map_or(&null, |transaction| &transaction.envelope.sender);
        let who = self.principal();
        let intake = &self.door.shared.intake;
        let mut judged = pin!(intake.judge_recipient(&self.memory, &who, sender, recipient));
        let judged = match poll!(&mut judged) {
            Poll::Ready(judged) => judged,
            Poll::Pending => {
                Box::pin(async {
                    if let Ok(judged) = timeout(NOTICEABLE, &mut judged).await {
                        return judged;
                    }
                    tokio::select! {
                        biased;
                        judged = judged => judged,
                        never = self.look_ahead(&who, sender, input) => match never {},
                    }
                })
                .await
            }
        };
        judged.map_err(|denied| recipient_refused(&denied, &who.request(sender, recipient)))
    }

    /// Never ends; what comes of it is what the intake remembers. Strangers cannot multiply look-ups with it.
    async fn look_ahead(&self, who: &Principal<'_>, sender: &ReversePath, input: &[u8]) -> Infallible {
        if who.is_own() {
            let next: Vec<_> = self.session.recipients_ahead(input).take(AHEAD).collect();
            let intake = &self.door.shared.intake;
            let judging = next.iter().map(|next| intake.judge_recipient(&self.memory, who, sender, &next.address));
            join_all(judging).await;
        }
        std::future::pending().await
    }

    /// There may be many recipients, and much may be said of each: one that is good needs memory as well.
    fn charge(&mut self, recipient: &Recipient, alias: Option<&[Address]>) -> Answer<Refused> {
        let (mut bill, mut aliases) = (std::mem::take(&mut self.bill), std::mem::take(&mut self.aliases));
        let (intake, who) = (&self.door.shared.intake, self.principal());
        let charged = match alias {
            None => intake.charge(&mut bill, &who, recipient).map(|()| true),
            Some(to) => intake.add_alias((&mut aliases, &mut bill), &who, recipient, to, self.numbers()),
        };
        (self.bill, self.aliases) = (bill, aliases);
        match charged {
            Ok(true) => Answer::Proceed,
            Ok(false) => Answer::Refuse(Reply::too_many_recipients(), Refused::TooManyMembers),
            Err(not_queued) => message_refused(not_queued),
        }
    }

    /// How many recipients the message has, and how many it may have.
    fn numbers(&self) -> (usize, usize) {
        let named = self.session.transaction().map_or(0, |transaction| transaction.envelope.recipients.len());
        (named, self.session.settings().recipient_limit)
    }

    /// A recipient who is good counts for the login. Usually that is done here and now.
    fn uncounted(&self, answer: &Answer<Refused>) -> Option<Wish> {
        let login = self.session.login().filter(|_| matches!(answer, Answer::Proceed))?;
        self.door.shared.allowance.recipient_at_hand(login, self.limits.as_deref()).err()
    }

    /// One who is beyond the login's limit does not keep the message from the others.
    async fn count(&self, wish: Wish, input: &[u8]) -> Answer<Refused> {
        let login = self.session.login().unwrap_or_default();
        let ahead = u32::try_from(self.session.recipients_ahead(input).take(AHEAD).count()).unwrap_or_default();
        if self.door.shared.allowance.recipient(login, wish, ahead).await {
            return Answer::Proceed;
        }
        Answer::Refuse(Reply::too_many_recipients_of(login), Refused::TooManyRecipients)
    }

    async fn etrn(&mut self, domain: &str) -> Answer<Refused> {
        let shared = &self.door.shared;
        if !shared.ground().may_etrn(self.peer.address.ip()) {
            return Answer::Refuse(Reply::etrn_unavailable(domain), Refused::EtrnForbidden);
        }
        let destination = Some(Destination::new(domain.to_ascii_lowercase()));
        match shared.queue.flush(&Filter { destination, ..Filter::default() }).await {
            Ok(_) => Answer::Proceed,
            Err(error) => {
                tracing::warn!(domain, %error, "ETRN failed");
                Answer::Refuse(Reply::etrn_failed(), Refused::EtrnFailed)
            }
        }
    }

    async fn data(&mut self) -> Answer<Refused> {
        if let Some(refusal) = self.over_quota().await {
            return refusal;
        }
        let shared = &self.door.shared;
        let began = Instant::now();
        let transaction = self.session.transaction().map(|t| &t.envelope);
        let recipients = transaction.map_or(&[][..], |envelope| &envelope.recipients);
        let sender = transaction.map_or(&ReversePath::Null, |envelope| &envelope.sender);
        match shared.intake.open(&self.principal(), sender, recipients).await {
            Ok(opened) => {
                shared.metrics.envelope.record(began - self.began);
                self.opened = Some(opened);
                Answer::Proceed
            }
            Err(not_queued) => message_refused(not_queued),
        }
    }

    /// Has the login sent as much as it may?
    async fn over_quota(&self) -> Option<Answer<Refused>> {
        let allowance = &self.door.shared.allowance;
        let (login, rate) = self.session.login().zip(allowance.messages(self.limits.as_deref()))?;
        let granted = Box::pin(allowance.message(login, rate)).await;
        (!granted).then(|| Answer::Refuse(Reply::too_much_mail(login), Refused::TooMuchMail))
    }

    /// Has the login as much in the queue as it may?
    async fn over_depth(&self) -> Option<Answer<Refused>> {
        let depth = &self.door.shared.allowance.depth;
        let (login, limit) = self.session.login().zip(depth.limit())?;
        let has_room = Box::pin(depth.has_room(login, limit)).await;
        (!has_room).then(|| Answer::Refuse(Reply::too_much_waits(login), Refused::TooMuchWaits))
    }

    /// Does the message name an author who is not the login?
    async fn misattributed(&self) -> Option<Answer<Refused>> {
        let (opened, login) = self.opened.as_ref().zip(self.session.login())?;
        let judged = self.door.shared.intake.judge_authors(&self.memory, login, opened).await;
        judged.err().map(|misattributed| author_refused(&misattributed, login))
    }

    async fn store(&mut self, envelope: Envelope) -> Answer<Refused> {
        if self.opened.as_ref().is_some_and(Opened::judges_authors)
            && let Some(refusal) = Box::pin(self.misattributed()).await
        {
            self.opened = None;
            return refusal;
        }
        // Without a place for the content the session's own answer is right: an internal error.
        let Some(opened) = self.opened.take() else { return Answer::Proceed };
        if !self.knows_all().await {
            return message_refused(NotQueued::Unavailable);
        }
        if let Some(refusal) = self.reconsider() {
            return refusal;
        }
        // Rare beside the time that a connection waits.
        let aliases = std::mem::take(&mut self.aliases);
        match Box::pin(self.door.shared.intake.commit(opened, &self.principal(), envelope, aliases)).await {
            Ok(stored) => {
                self.messages += 1;
                self.end_trace(&stored);
                if let Some(login) = self.session.login() {
                    self.door.shared.allowance.depth.queued(login);
                }
                Answer::Stored(stored.id)
            }
            Err(not_queued) => message_refused(not_queued),
        }
    }
}
