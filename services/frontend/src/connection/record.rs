//! What the mail log and the metrics hear of a connection.

use std::io;
use std::time::Instant;

use staffetta_smtp::command::Verb;
use staffetta_smtp::server::{Activity, Grounds, Refusal};
use staffetta_telemetry::maillog::{self, Sasl};

use super::Dialog;
use super::refused::Refused;
use crate::evidence::Evidence;
use crate::metrics;
use crate::stream::Broken;

/// A login attempt that ended without success.
struct FailedLogin<'a> {
    mechanism: &'a str,
    login: Option<&'a str>,
    /// Label of the metric, and the reason in the log.
    result: &'static str,
}

impl Dialog<'_> {
    /// A command or a message was refused.
    pub(super) fn refused(&mut self, refusal: &Refusal<Refused>) {
        // Whatever ends AUTH ends the attempt.
        let attempt = self.attempt.take_if(|_| refusal.activity == Activity::Command(Verb::Auth));
        let (reason, result, login) = match &refusal.grounds {
            Grounds::Timeout => return self.log_timeout(refusal.activity),
            Grounds::Shutdown => return,
            Grounds::Protocol => ("protocol", "malformed", None),
            Grounds::Cancelled => ("protocol", "aborted", None),
            Grounds::Shell(refused @ Refused::Login { why, login }) => {
                (refused.label(), why.result(), login.as_deref())
            }
            Grounds::Shell(refused) => (refused.label(), "", None),
        };
        metrics::rejection(refusal.activity.name(), refusal.reply.code(), reason).increment(1);
        self.traced.span.note("staffetta.rejected", || reason);
        self.traced.span.fail(reason);
        match attempt {
            Some(mechanism) => self.log_failed_login(&FailedLogin { mechanism: &mechanism, login, result }, refusal),
            None => self.log_refusal(refusal),
        }
    }

    /// How the commands since the last call were answered.
    pub(super) fn count_commands(&mut self) {
        let commands = &self.door.shared.metrics.commands;
        self.session.drain_tally(|activity, class, n| commands.count(activity, class, n));
    }

    pub(super) fn logged_in(&mut self, login: &str) {
        let Some(mechanism) = self.attempt.take() else { return };
        metrics::auth(&mechanism, "success").increment(1);
        let sasl = Sasl { method: &mechanism, username: login.into() };
        let client = self.principal().for_log();
        maillog::login(&maillog::Login { listener: self.door.name(), client, sasl });
        self.mechanism = Some(mechanism.into());
    }

    pub(super) fn log_end(&self) {
        let (listener, client, messages) = (self.door.name(), self.principal().for_log(), self.messages);
        maillog::disconnected(&maillog::Disconnected { listener, client, messages });
    }

    /// TLS was agreed upon. `Trusted`: the certificate that the client has shown is worth something here.
    pub(super) fn log_tls(&self, shown: bool, evidence: &Evidence) {
        let Some(tls) = &self.tls else { return };
        let known = evidence.trusted || !evidence.names.is_empty();
        let trust = match (known, shown) {
            (true, _) => "Trusted",
            (false, true) => "Untrusted",
            (false, false) => "Anonymous",
        };
        let (listener, client) = (self.door.name(), self.principal().for_log());
        maillog::secured(&maillog::Secured { listener, client, tls: &tls.text, trust });
    }

    /// The log has the reason, because "lost connection after STARTTLS" tells nobody what to mend; but not of each, because
    /// strangers can make as many as they like.
    pub(super) fn failed_handshake(&self, reason: Broken, error: &io::Error) {
        metrics::failed_handshake(reason.label()).increment(1);
        let Some(left_out) = self.door.handshakes.line(Instant::now()) else { return };
        let (listener, client_ip, reason) = (self.door.name(), self.peer.address.ip(), reason.label());
        if left_out > 0 {
            tracing::info!(listener, left_out, "more TLS handshakes have failed");
        }
        tracing::info!(listener, %client_ip, reason, %error, "TLS handshake failed");
    }

    pub(super) fn log_lost(&self, error: &io::Error) {
        if self.session.activity() == Activity::Connect && error.kind() != io::ErrorKind::TimedOut {
            // Nothing was said: a probe of the port, most of the time. A failed handshake has its own line.
            tracing::debug!(client_ip = %self.peer.address.ip(), %error, "connection closed before the first command");
            return self.log_end();
        }
        tracing::debug!(client_ip = %self.peer.address.ip(), %error, "connection lost");
        maillog::lost(&maillog::Lost {
            listener: self.door.name(),
            client: self.principal().for_log(),
            timeout: error.kind() == io::ErrorKind::TimedOut,
            stage: self.session.activity().name(),
        });
    }

    fn log_timeout(&self, activity: Activity) {
        let (listener, client) = (self.door.name(), self.principal().for_log());
        maillog::lost(&maillog::Lost { listener, client, timeout: true, stage: activity.name() });
    }

    fn log_failed_login(&self, failed: &FailedLogin<'_>, refusal: &Refusal<Refused>) {
        metrics::auth(failed.mechanism, failed.result).increment(1);
        let text = refusal.reply.to_string();
        maillog::login_failed(&maillog::LoginFailed {
            listener: self.door.name(),
            client: self.principal().for_log(),
            method: failed.mechanism,
            username: failed.login.map(Into::into),
            reason: failed.result,
            reply: text.as_str().into(),
        });
    }

    fn log_refusal(&self, refusal: &Refusal<Refused>) {
        let who = self.principal();
        let text = refusal.reply.to_string();
        maillog::rejected(&maillog::Rejected {
            listener: self.door.name(),
            client: who.for_log(),
            stage: refusal.activity.name(),
            reply: text.as_str().into(),
            from: refusal.sender.as_ref().map(|sender| sender.as_str().into()),
            to: refusal.recipient.as_ref().map(|recipient| recipient.as_str().into()),
            proto: self.session.protocol(),
            helo: who.helo.map(Into::into),
            sasl: who.sasl(),
            trace: self.traced.span.trace(),
        });
    }
}
