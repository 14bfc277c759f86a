//! What the mail log and the metrics hear of a connection.

use std::io;
use std::time::Instant;

use staffetta_mail::{ReversePath, Status};
use staffetta_smtp::Reply;
use staffetta_smtp::command::Verb;
use staffetta_smtp::server::{Refusal, Stage};
use staffetta_telemetry::maillog::{self, Client, Sasl};

use super::{Attempt, Dialog};
use crate::metrics;
use crate::receive::Stored;

/// The status of a 421 for silence, and of one for the end of this pod.
const TIMEOUT: Status = Status::new(4, 4, 2);
const DRAINING: Status = Status::new(4, 3, 2);

impl Dialog<'_> {
    /// A command or a message was refused.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let reason = self.reason.take();
        let reply = &refusal.reply;
        let attempt = self.attempt.take_if(|_| refusal.stage == Stage::Command(Verb::Auth));
        match (reply.code(), reply.status()) {
            (421, Some(TIMEOUT)) => return self.log_timeout(refusal.stage),
            (421, Some(DRAINING)) => return,
            _ => {}
        }
        metrics::rejection(refusal.stage.name(), reply.code(), reason.unwrap_or("protocol")).increment(1);
        match attempt {
            Some(attempt) => self.login_failed(&attempt, reply),
            None => self.log_refusal(refusal),
        }
    }

    /// How the commands since the last call were answered.
    pub(super) fn count_commands(&mut self) {
        let commands = &self.door.shared.metrics.commands;
        self.session.drain_tally(|stage, class, n| commands.count(stage, class, n));
    }

    /// A message is in the queue.
    pub(super) fn accepted(&self, stored: &Stored, from: &ReversePath, nrcpt: usize, complete: Instant) {
        let metrics = &self.door.shared.metrics;
        self.door.metrics.messages.increment(1);
        metrics.recipients.increment(nrcpt as u64);
        metrics.bytes.increment(stored.size);
        metrics.size.record(stored.size as f64);
        metrics.content.record(complete - self.content_began);
        metrics.commit.record(complete.elapsed());
        let proto = self.protocol().to_string();
        maillog::accepted(&maillog::Accepted {
            qid: stored.id,
            listener: self.door.name(),
            client: self.client(),
            helo: self.session.helo().map_or("", |helo| &helo.name).into(),
            proto: &proto,
            tls: self.tls.as_ref().map(|tls| tls.text.as_str()),
            sasl: self.login(),
            from: from.as_str().into(),
            size: stored.size,
            nrcpt,
            message_id: stored.message_id.as_deref().map(Into::into),
        });
    }

    pub(super) fn logged_in(&mut self, login: &str) {
        let Some(attempt) = self.attempt.take() else { return };
        metrics::auth(&attempt.mechanism, "success").increment(1);
        let sasl = Sasl { method: &attempt.mechanism, username: login.into() };
        maillog::login(&maillog::Login { listener: self.door.name(), client: self.client(), sasl });
        self.mechanism = Some(attempt.mechanism);
    }

    pub(super) fn log_end(&self) {
        let (listener, client, messages) = (self.door.name(), self.client(), self.messages);
        maillog::disconnected(&maillog::Disconnected { listener, client, messages });
    }

    pub(super) fn log_lost(&self, error: &io::Error) {
        tracing::debug!(peer = %self.peer.address, %error, "connection lost");
        maillog::lost(&maillog::Lost {
            listener: self.door.name(),
            client: self.client(),
            timeout: error.kind() == io::ErrorKind::TimedOut,
            stage: self.session.stage().name(),
        });
    }

    fn log_timeout(&self, stage: Stage) {
        let (listener, client) = (self.door.name(), self.client());
        maillog::lost(&maillog::Lost { listener, client, timeout: true, stage: stage.name() });
    }

    fn login_failed(&self, attempt: &Attempt, reply: &Reply) {
        let result = match reply.code() {
            421 => "limited",
            454 => "unavailable",
            535 => "failed",
            _ if *reply == Reply::authentication_aborted() => "aborted",
            _ => "malformed",
        };
        metrics::auth(&attempt.mechanism, result).increment(1);
        let text = reply.to_string();
        maillog::login_failed(&maillog::LoginFailed {
            listener: self.door.name(),
            client: self.client(),
            method: &attempt.mechanism,
            username: attempt.login.as_deref().map(Into::into),
            reply: text.as_str().into(),
        });
    }

    fn log_refusal(&self, refusal: &Refusal) {
        let text = refusal.reply.to_string();
        maillog::rejected(&maillog::Rejected {
            listener: self.door.name(),
            client: self.client(),
            stage: refusal.stage.name(),
            reply: text.as_str().into(),
            from: refusal.sender.as_ref().map(|sender| sender.as_str().into()),
            to: refusal.recipient.as_ref().map(|recipient| recipient.as_str().into()),
            proto: self.session.protocol(),
            helo: self.session.helo().map(|helo| helo.name.as_str().into()),
            sasl: self.login(),
        });
    }

    fn client(&self) -> Client<'static> {
        Client { address: self.peer.address, name: None }
    }

    fn login(&self) -> Option<Sasl<'_>> {
        let username = self.session.login()?.into();
        Some(Sasl { method: self.mechanism.as_deref().unwrap_or_default(), username })
    }
}
