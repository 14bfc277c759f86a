//! What a failure means: the only place that decides between another host, another time and never.
//!
//! The rules are Postfix's (`smtp_trouble.c`, `smtp_connect.c`, `smtp_proto.c`), with its texts and status codes:
//!
//! - A temporary failure is offered to the next host; when none is left the recipients are deferred.
//! - A permanent one bounces at once, for it is the receiver's word.
//! - A `5xx` greeting is treated as temporary (`smtp_skip_5xx_greeting = yes`): it speaks of this host, not of the
//!   mail. So is a `5xx` to AUTH (`smtp_sasl_auth_soft_bounce = yes`): our password is not the sender's fault.
//! - What fails before the session is set up concerns every message for the destination and backs it off
//!   (`SMTP_THROTTLE`); replies within a transaction concern that transaction only.
//!
//! Two departures. A `5xx` to EHLO and HELO is offered to the next host before it bounces. When the answer to the final
//! dot is missing, the message is deferred and not offered to the next host at once: the server may have it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use staffetta_mail::tls_report::Flaw;
use staffetta_mail::{RemoteReply, Status};
use staffetta_smtp::client::{self, Stage};

/// Where a server takes connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(Arc<str>),
}

impl Endpoint {
    /// The address; a unix socket has none.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// The port; a unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

/// The server that an attempt spoke to. Prints as `host[ip]`, or `host[/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the MX or smart host; of this machine, where it is a unix socket.
    pub host: String,
    /// What was dialled.
    pub endpoint: Endpoint,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(address) => write!(f, "{}[{}]", self.host, address.ip().to_canonical()),
            Endpoint::Unix(path) => write!(f, "{}[{path}]", self.host),
        }
    }
}

/// What went wrong with an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// The domain does not exist, or has neither MX nor addresses.
    NotFound {
        /// What was looked up and what came back.
        detail: String,
    },
    /// The host that a route names does not exist, or has no address. The operator wrote it, and can mend it before the
    /// mail is given up: it is never the sender's fault.
    Route {
        /// What was looked up and what came back.
        detail: String,
    },
    /// The DNS gave no answer now.
    Dns {
        /// What was looked up and what came back.
        detail: String,
    },
    /// What the other side has published about TLS keeps this host from being used now: the look-up failed, or the host is
    /// not among those that the domain names.
    Unproven {
        /// What the domain is told of it.
        flaw: Flaw,
        /// For the log and for people.
        reason: String,
    },
    /// The best MX is this system.
    Loop,
    /// An operator wants no mail to be sent to the recipient.
    Suppressed,
    /// The servers get no mail for a while.
    Suspended {
        /// The operator's words, or what a server said.
        reason: String,
    },
    /// Every address is one that must not be dialled (`delivery.blocked_networks`).
    Blocked,
    /// There is nothing to log in with at the servers: whoever gives tokens gives none now.
    NoToken {
        /// For the log and for people.
        reason: String,
    },
    /// None of our addresses may be used for this host now.
    NoSource {
        /// Why.
        reason: String,
    },
    /// No connection.
    Connect {
        /// To whom.
        peer: Peer,
        /// As the operating system says it: "Connection refused".
        reason: String,
    },
    /// The session, or the transaction in it, failed.
    Session {
        /// With whom.
        peer: Peer,
        /// The fact.
        failure: client::Failure,
    },
    /// Our own trouble: the content cannot be read, a limit of this machine.
    Local {
        /// For the log; goes into the report as it is.
        reason: String,
    },
}

impl Failure {
    /// The same, met on the way to a host, or to the mail hosts of a domain, that the configuration names.
    #[must_use]
    pub fn of_a_route(self, name: &str) -> Self {
        let detail = match self {
            Self::NotFound { detail } => detail,
            Self::NullMx => format!("for name={name} type=MX: it does not accept mail (nullMX)"),
            Self::Loop => format!("for name={name} type=MX: its mail host is this system"),
            other => return other,
        };
        Self::Route { detail }
    }
}

/// RFC 5321 section 4.5.3.1.10: a `552` for a recipient, after another one of the transaction was accepted, means "too
/// many recipients" and is to be taken as `452`: the rest goes in another transaction.
#[must_use]
pub fn too_many_recipients(failure: client::Failure, another_accepted: bool) -> client::Failure {
    match failure {
        client::Failure::Reply { stage: stage @ Stage::Rcpt, mut reply } if another_accepted && reply.code == 552 => {
            reply.code = 452;
            reply.status = reply.status.map(|status| status.with_class_of(452));
            client::Failure::Reply { stage, reply }
        }
        other => other,
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try the next host; if none is left, do what [`Consequence::finally`] says.
    NextHost,
    /// Try again later, by the retry schedule.
    Defer,
    /// Never.
    Bounce,
}

/// The decision, with what goes into the log and the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What to do.
    pub action: Action,
    /// The status; class 4 for what may be tried again, class 5 otherwise.
    pub status: Status,
    /// One line for the log and for people.
    pub text: String,
    /// Leave the destination alone for a while, if no host is left.
    pub back_off: bool,
}

impl Consequence {
    /// What to do when there is no other host.
    pub const fn finally(&self) -> Action {
        match (self.action, self.status.is_permanent()) {
            (Action::NextHost, true) => Action::Bounce,
            (Action::NextHost, false) => Action::Defer,
            (action, _) => action,
        }
    }

    fn defer(status: Status, text: String) -> Self {
        Self { action: Action::Defer, status, text, back_off: false }
    }

    fn bounce(status: Status, text: String) -> Self {
        Self { action: Action::Bounce, status, text, back_off: false }
    }

    fn next_host(status: Status, text: String) -> Self {
        Self { action: Action::NextHost, status, text, back_off: false }
    }

    fn backing_off(self, back_off: bool) -> Self {
        Self { back_off, ..self }
    }
}

/// Decides about a failed attempt at mail for `domain`.
pub fn classify(failure: &Failure, domain: &str) -> Consequence {
    match failure {
        Failure::NullMx => {
            Consequence::bounce(Status::new(5, 1, 0), format!("Domain {domain} does not accept mail (nullMX)"))
        }
        Failure::NotFound { detail } => Consequence::bounce(Status::new(5, 4, 4), name_service(detail)),
        // Not of one message: all for this host wait until somebody has looked at the configuration.
        Failure::Route { detail } => Consequence::defer(Status::new(4, 3, 5), name_service(detail)).backing_off(true),
        Failure::Dns { detail } => Consequence::defer(Status::new(4, 4, 3), name_service(detail)),
        Failure::Unproven { reason, .. } => Consequence::next_host(Status::new(4, 7, 5), reason.clone()),
        Failure::Loop => looping(domain),
        Failure::Suppressed => {
            Consequence::bounce(Status::new(5, 7, 1), "550 5.7.1 mail to this address is suppressed".to_owned())
        }
        Failure::Suspended { reason } => Consequence::defer(
            Status::new(4, 3, 2),
            format!("delivery temporarily suspended: {}", if reason.is_empty() { "by the operator" } else { reason }),
        ),
        Failure::Blocked => Consequence::bounce(
            Status::new(5, 4, 4),
            format!("every mail host of {domain} has an address that must not be used"),
        ),
        // Our login, not the sender's fault, and the same for all that goes there.
        Failure::NoToken { reason } => {
            let text = format!("SASL authentication failed: no token to log in with: {reason}");
            Consequence::defer(Status::new(4, 7, 0), text).backing_off(true)
        }
        Failure::NoSource { reason } => Consequence::next_host(Status::new(4, 3, 0), reason.clone()).backing_off(true),
        Failure::Connect { peer, reason } => {
            let port = peer.endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
            Consequence::next_host(Status::new(4, 4, 1), format!("connect to {peer}{port}: {reason}")).backing_off(true)
        }
        Failure::Session { peer, failure } => session(peer, failure, domain),
        Failure::Local { reason } => Consequence::defer(Status::new(4, 3, 0), reason.clone()),
    }
}

fn name_service(detail: &str) -> String {
    format!("Host or domain name not found. Name service error {detail}")
}

fn looping(domain: &str) -> Consequence {
    Consequence::bounce(Status::new(5, 4, 6), format!("mail for {domain} loops back to myself"))
}

fn session(peer: &Peer, failure: &client::Failure, domain: &str) -> Consequence {
    use client::Failure as F;
    let temporary = |subject, detail, text| Consequence::next_host(Status::new(4, subject, detail), text);
    let doing = failure.stage().activity();
    let verdict = match failure {
        F::Reply { stage, reply } => return answered(peer, *stage, reply),
        F::Lost { .. } => temporary(4, 2, format!("lost connection with {peer} while {doing}")),
        F::TimedOut { .. } => temporary(4, 2, format!("conversation with {peer} timed out while {doing}")),
        F::Malformed { what, .. } => temporary(5, 0, format!("protocol error with {peer}: {what} while {doing}")),
        F::TlsNotOffered => temporary(7, 4, format!("TLS is required, but was not offered by host {peer}")),
        F::TlsHandshake(why) => temporary(7, 5, format!("Cannot start TLS: handshake failure with {peer}: {why}")),
        F::TlsInjection => {
            temporary(7, 5, format!("Cannot start TLS: {peer} sent plaintext after its answer to STARTTLS"))
        }
        F::NoMechanism => {
            let text =
                format!("SASL authentication failed: cannot authenticate to server {peer}: no mechanism available");
            temporary(7, 0, text)
        }
        F::TooLarge { size, limit } => {
            let text = format!("message size {size} exceeds size limit {limit} of server {peer}");
            Consequence::bounce(Status::new(5, 3, 4), text)
        }
        // Another host may do; if none does, none ever will.
        F::NoSmtpUtf8 { ignored } => {
            let text = match ignored {
                true => format!("SMTPUTF8 is required, but is ignored by configuration at host {peer}"),
                false => format!("SMTPUTF8 is required, but was not offered by host {peer}"),
            };
            Consequence::next_host(Status::new(5, 6, 7), text)
        }
        F::NoRequireTls => {
            let text = format!("REQUIRETLS is required, but was not offered over verified TLS by host {peer}");
            Consequence::next_host(Status::new(5, 7, 30), text)
        }
        // RFC 3463: conversion required but not supported.
        F::NoEightBitMime(why) => {
            let text = format!("8BITMIME is required, but was not offered by host {peer}: {why}");
            Consequence::next_host(Status::new(5, 6, 3), text)
        }
        F::NoBdat => temporary(5, 0, format!("protocol error with {peer}: {failure}")),
        F::Loop => looping(domain),
    };
    let action = if failure.is_ambiguous() { Action::Defer } else { verdict.action };
    Consequence { action, ..verdict }.backing_off(action == Action::NextHost && failure.stage().is_set_up())
}

/// A reply that refuses.
fn answered(peer: &Peer, stage: Stage, reply: &RemoteReply) -> Consequence {
    let status = match stage {
        // About this host or our login, not about the mail.
        Stage::Greeting | Stage::StartTls | Stage::Auth | Stage::Idle | Stage::Reset | Stage::Quit => {
            reply.effective_status().with_class_of(400)
        }
        Stage::Helo | Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Transfer | Stage::Final => {
            reply.effective_status()
        }
    };
    let text = said(peer, stage, reply);
    if status.is_permanent() && !stage.is_set_up() {
        return Consequence::bounce(status, text);
    }
    Consequence::next_host(status, text).backing_off(stage.is_set_up() && !status.is_permanent())
}

fn said(peer: &Peer, stage: Stage, reply: &RemoteReply) -> String {
    match (stage, stage.command()) {
        (Stage::Greeting | Stage::Helo, _) => format!("host {peer} refused to talk to me: {reply}"),
        (Stage::StartTls, _) => format!("TLS is required, but host {peer} refused to start TLS: {reply}"),
        (Stage::Auth, _) => format!("SASL authentication failed; server {peer} said: {reply}"),
        (_, Some(command)) => format!("host {peer} said: {reply} (in reply to {command})"),
        (_, None) => format!("host {peer} said: {reply}"),
    }
}

#[cfg(test)]
mod tests;
