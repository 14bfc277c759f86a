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
use std::net::IpAddr;

use staffetta_mail::{RemoteReply, Status};
use staffetta_smtp::client::{self, Stage};

/// The server that an attempt spoke to. Prints as `host[ip]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the MX or smart host.
    pub host: String,
    /// The address that was dialled.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.host, self.address)
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
    /// The best MX is this system.
    Loop,
    /// Every address is one that must not be dialled (`delivery.blocked_networks`).
    Blocked,
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
    /// The same, met on the way to a host that the configuration names.
    #[must_use]
    pub fn of_a_route(self) -> Self {
        match self {
            Self::NotFound { detail } => Self::Route { detail },
            other => other,
        }
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
    /// Try the next host; if none is left, do what [`Verdict::finally`] says.
    NextHost,
    /// Try again later, by the retry schedule.
    Defer,
    /// Never.
    Bounce,
}

/// The decision, with what goes into the log and the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// The status; class 4 for what may be tried again, class 5 otherwise.
    pub status: Status,
    /// One line for the log and for people.
    pub text: String,
    /// Leave the destination alone for a while, if no host is left.
    pub back_off: bool,
}

impl Verdict {
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
pub fn classify(failure: &Failure, domain: &str) -> Verdict {
    match failure {
        Failure::NullMx => {
            Verdict::bounce(Status::new(5, 1, 0), format!("Domain {domain} does not accept mail (nullMX)"))
        }
        Failure::NotFound { detail } => Verdict::bounce(Status::new(5, 4, 4), name_service(detail)),
        // Not of one message: all for this host wait until somebody has looked at the configuration.
        Failure::Route { detail } => Verdict::defer(Status::new(4, 3, 5), name_service(detail)).backing_off(true),
        Failure::Dns { detail } => Verdict::defer(Status::new(4, 4, 3), name_service(detail)),
        Failure::Loop => looping(domain),
        Failure::Blocked => Verdict::bounce(
            Status::new(5, 4, 4),
            format!("every mail host of {domain} has an address that must not be used"),
        ),
        Failure::Connect { peer, reason } => {
            Verdict::next_host(Status::new(4, 4, 1), format!("connect to {peer}:{}: {reason}", peer.port))
                .backing_off(true)
        }
        Failure::Session { peer, failure } => session(peer, failure, domain),
        Failure::Local { reason } => Verdict::defer(Status::new(4, 3, 0), reason.clone()),
    }
}

fn name_service(detail: &str) -> String {
    format!("Host or domain name not found. Name service error {detail}")
}

fn looping(domain: &str) -> Verdict {
    Verdict::bounce(Status::new(5, 4, 6), format!("mail for {domain} loops back to myself"))
}

fn session(peer: &Peer, failure: &client::Failure, domain: &str) -> Verdict {
    use client::Failure as F;
    let temporary = |subject, detail, text| Verdict::next_host(Status::new(4, subject, detail), text);
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
            Verdict::bounce(Status::new(5, 3, 4), text)
        }
        F::Loop => looping(domain),
    };
    let action = if failure.is_ambiguous() { Action::Defer } else { verdict.action };
    Verdict { action, ..verdict }.backing_off(action == Action::NextHost && failure.stage().is_set_up())
}

/// A reply that refuses.
fn answered(peer: &Peer, stage: Stage, reply: &RemoteReply) -> Verdict {
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
        return Verdict::bounce(status, text);
    }
    Verdict::next_host(status, text).backing_off(stage.is_set_up() && !status.is_permanent())
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
mod tests {
    use std::net::Ipv4Addr;

    use client::Failure as F;

    use super::*;

    const DOMAIN: &str = "example.net";

    fn peer() -> Peer {
        Peer { host: "mx.example.net".to_owned(), address: Ipv4Addr::new(192, 0, 2, 1).into(), port: 25 }
    }

    fn with(failure: F) -> Failure {
        Failure::Session { peer: peer(), failure }
    }

    fn said(stage: Stage, code: u16, status: Option<Status>) -> Failure {
        with(F::Reply { stage, reply: RemoteReply { code, status, text: "no".to_owned() } })
    }

    /// Each row: the failure; action, action without another host, status, back off; the text, `{mx}` being the peer.
    fn check(rows: impl IntoIterator<Item = (Failure, &'static str, &'static str)>) {
        for (failure, decision, text) in rows {
            let verdict = classify(&failure, DOMAIN);
            let back_off = if verdict.back_off { " back off" } else { "" };
            let found = format!("{:?}/{:?} {}{back_off}", verdict.action, verdict.finally(), verdict.status);
            assert_eq!(verdict.text, text.replace("{mx}", &peer().to_string()));
            assert_eq!(found, decision, "{text}");
        }
    }

    #[test]
    fn without_a_session() {
        let detail = "for name=example.net type=MX: Host not found".to_owned();
        let not_found =
            "Host or domain name not found. Name service error for name=example.net type=MX: Host not found";
        check([
            (Failure::NullMx, "Bounce/Bounce 5.1.0", "Domain example.net does not accept mail (nullMX)"),
            (Failure::NotFound { detail: detail.clone() }, "Bounce/Bounce 5.4.4", not_found),
            (Failure::Route { detail: detail.clone() }, "Defer/Defer 4.3.5 back off", not_found),
            (Failure::Dns { detail }, "Defer/Defer 4.4.3", not_found),
            (Failure::Loop, "Bounce/Bounce 5.4.6", "mail for example.net loops back to myself"),
            (
                Failure::Blocked,
                "Bounce/Bounce 5.4.4",
                "every mail host of example.net has an address that must not be used",
            ),
            (
                Failure::Connect { peer: peer(), reason: "Connection refused".to_owned() },
                "NextHost/Defer 4.4.1 back off",
                "connect to {mx}:25: Connection refused",
            ),
            (Failure::Local { reason: "x".to_owned() }, "Defer/Defer 4.3.0", "x"),
        ]);
    }

    #[test]
    fn a_host_that_the_operator_named_is_never_the_senders_fault() {
        let not_found = Failure::NotFound { detail: "x".to_owned() };
        for (failure, expected) in [
            (not_found, Failure::Route { detail: "x".to_owned() }),
            (Failure::Dns { detail: "x".to_owned() }, Failure::Dns { detail: "x".to_owned() }),
        ] {
            let failure = failure.of_a_route();
            assert_eq!(failure, expected);
            assert_eq!(classify(&failure, DOMAIN).finally(), Action::Defer);
        }
    }

    #[test]
    fn rfc5321_4_5_3_1_10_552_after_an_accepted_recipient_is_452() {
        let reply =
            |stage, code, status| F::Reply { stage, reply: RemoteReply { code, status, text: "no".to_owned() } };
        let full = Some(Status::new(5, 5, 3));
        for (failure, accepted, expected) in [
            (reply(Stage::Rcpt, 552, full), true, reply(Stage::Rcpt, 452, Some(Status::new(4, 5, 3)))),
            (reply(Stage::Rcpt, 552, None), true, reply(Stage::Rcpt, 452, None)),
            (reply(Stage::Rcpt, 552, full), false, reply(Stage::Rcpt, 552, full)),
            (reply(Stage::Rcpt, 550, full), true, reply(Stage::Rcpt, 550, full)),
            (reply(Stage::Final, 552, full), true, reply(Stage::Final, 552, full)),
            (reply(Stage::Mail, 552, full), true, reply(Stage::Mail, 552, full)),
        ] {
            assert_eq!(too_many_recipients(failure, accepted), expected);
        }
        let verdict = classify(&with(too_many_recipients(reply(Stage::Rcpt, 552, full), true)), DOMAIN);
        assert_eq!((verdict.action, verdict.status), (Action::NextHost, Status::new(4, 5, 3)));
    }

    #[test]
    fn a_421_after_a_set_up_that_worked_is_offered_to_the_next_host() {
        check([
            (said(Stage::Idle, 421, None), "NextHost/Defer 4.0.0", "host {mx} said: 421 no"),
            (said(Stage::Helo, 421, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 421 no"),
            (
                with(F::Lost { stage: Stage::Idle }),
                "NextHost/Defer 4.4.2",
                "lost connection with {mx} while waiting for the next message",
            ),
        ]);
    }

    #[test]
    fn while_the_session_is_set_up() {
        check([
            (
                said(Stage::Greeting, 421, None),
                "NextHost/Defer 4.0.0 back off",
                "host {mx} refused to talk to me: 421 no",
            ),
            (
                said(Stage::Greeting, 554, None),
                "NextHost/Defer 4.0.0 back off",
                "host {mx} refused to talk to me: 554 no",
            ),
            (said(Stage::Helo, 450, None), "NextHost/Defer 4.0.0 back off", "host {mx} refused to talk to me: 450 no"),
            (said(Stage::Helo, 550, None), "NextHost/Bounce 5.0.0", "host {mx} refused to talk to me: 550 no"),
            (
                said(Stage::Auth, 535, Some(Status::new(5, 7, 8))),
                "NextHost/Defer 4.7.8 back off",
                "SASL authentication failed; server {mx} said: 535 5.7.8 no",
            ),
            (
                said(Stage::StartTls, 502, None),
                "NextHost/Defer 4.0.0 back off",
                "TLS is required, but host {mx} refused to start TLS: 502 no",
            ),
            (
                with(F::TlsNotOffered),
                "NextHost/Defer 4.7.4 back off",
                "TLS is required, but was not offered by host {mx}",
            ),
            (
                with(F::TlsHandshake("bad".to_owned())),
                "NextHost/Defer 4.7.5 back off",
                "Cannot start TLS: handshake failure with {mx}: bad",
            ),
            (
                with(F::TlsInjection),
                "NextHost/Defer 4.7.5 back off",
                "Cannot start TLS: {mx} sent plaintext after its answer to STARTTLS",
            ),
            (
                with(F::NoMechanism),
                "NextHost/Defer 4.7.0 back off",
                "SASL authentication failed: cannot authenticate to server {mx}: no mechanism available",
            ),
            (
                with(F::Lost { stage: Stage::Greeting }),
                "NextHost/Defer 4.4.2 back off",
                "lost connection with {mx} while receiving the initial server greeting",
            ),
            (
                with(F::TimedOut { stage: Stage::Helo }),
                "NextHost/Defer 4.4.2 back off",
                "conversation with {mx} timed out while performing the EHLO handshake",
            ),
            (with(F::Loop), "Bounce/Bounce 5.4.6", "mail for example.net loops back to myself"),
        ]);
    }

    #[test]
    fn within_a_transaction() {
        let gone = Some(Status::new(5, 1, 1));
        check([
            (
                said(Stage::Rcpt, 550, gone),
                "Bounce/Bounce 5.1.1",
                "host {mx} said: 550 5.1.1 no (in reply to RCPT TO command)",
            ),
            (
                said(Stage::Rcpt, 450, None),
                "NextHost/Defer 4.0.0",
                "host {mx} said: 450 no (in reply to RCPT TO command)",
            ),
            (
                said(Stage::Mail, 421, None),
                "NextHost/Defer 4.0.0",
                "host {mx} said: 421 no (in reply to MAIL FROM command)",
            ),
            (
                said(Stage::Final, 554, None),
                "Bounce/Bounce 5.0.0",
                "host {mx} said: 554 no (in reply to end of DATA command)",
            ),
            (
                said(Stage::Reset, 502, None),
                "NextHost/Defer 4.0.0",
                "host {mx} said: 502 no (in reply to RSET command)",
            ),
            (
                with(F::TooLarge { size: 9, limit: 8 }),
                "Bounce/Bounce 5.3.4",
                "message size 9 exceeds size limit 8 of server {mx}",
            ),
            (
                with(F::Lost { stage: Stage::Transfer }),
                "NextHost/Defer 4.4.2",
                "lost connection with {mx} while sending message body",
            ),
            (
                with(F::Lost { stage: Stage::Final }),
                "Defer/Defer 4.4.2",
                "lost connection with {mx} while sending end of data -- message may be sent more than once",
            ),
            (
                with(F::Malformed { stage: Stage::Rcpt, what: "malformed reply" }),
                "NextHost/Defer 4.5.0",
                "protocol error with {mx}: malformed reply while sending RCPT TO",
            ),
        ]);
    }
}
