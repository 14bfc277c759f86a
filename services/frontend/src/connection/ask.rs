//! The session's questions, put to the intake, the auth service and the queue.

use std::time::Instant;

use staffetta_mail::{Address, Envelope, ReversePath};
use staffetta_queue::{Destination, Filter};
use staffetta_smtp::Reply;
use staffetta_smtp::server::{Answer, Question};

use super::Dialog;
use super::refused::{Refused, message_refused, recipient_refused};

impl Dialog<'_> {
    /// Whatever leaves this process is boxed, so that an idle session stays small.
    pub(super) async fn answer(&mut self, question: Question) -> Answer<Refused> {
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

    fn mail(&mut self) -> Answer<Refused> {
        self.began = Instant::now();
        match self.door.shared.intake.judge_sender() {
            Ok(()) => Answer::Proceed,
            Err(not_queued) => message_refused(not_queued),
        }
    }

    async fn recipient(&mut self, recipient: &Address) -> Answer<Refused> {
        let mut memory = std::mem::take(&mut self.memory);
        let null = ReversePath::Null;
        let sender = self.session.transaction().map_or(&null, |transaction| &transaction.envelope.sender);
        let who = self.principal();
        let answer = match self.door.shared.intake.judge_recipient(&mut memory, &who, sender, recipient).await {
            Ok(()) => Answer::Proceed,
            Err(cause) => recipient_refused(cause, &who.request(sender, recipient)),
        };
        self.memory = memory;
        answer
    }

    async fn etrn(&mut self, domain: &str) -> Answer<Refused> {
        let shared = &self.door.shared;
        if !shared.may_etrn(self.peer.address.ip()) {
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
        let (login, quota) = self.session.login().zip(self.door.shared.messages.as_ref())?;
        if Box::pin(quota.acquire(login)).await {
            return None;
        }
        quota.refused();
        Some(Answer::Refuse(Reply::too_much_mail(login), Refused::TooMuchMail))
    }

    async fn store(&mut self, envelope: Envelope) -> Answer<Refused> {
        // Without a place for the content the session's own answer is right: an internal error.
        let Some(opened) = self.opened.take() else { return Answer::Proceed };
        match self.door.shared.intake.commit(opened, &self.principal(), envelope).await {
            Ok(stored) => {
                self.messages += 1;
                Answer::Stored(stored.id)
            }
            Err(not_queued) => message_refused(not_queued),
        }
    }
}
