//! The SMTP and LMTP client without I/O: greeting, EHLO, STARTTLS, AUTH, then many transactions over one connection.
//!
//! The shell owns the connection and two buffers, and drives the session by pulling:
//!
//! ```text
//! loop { match session.next(&mut input, &mut output) {
//!     Event::Read(stage)      => flush `output` in ONE write, then read into `input`, as long as `stage` allows;
//!                                end of stream: session.on_lost(), no answer in time: session.on_timeout();
//!                                before either, if writing failed: session.on_unwritten(octets left)
//!     Event::StartTls         => flush, TLS handshake, session.on_tls_started() or session.on_tls_failed(why)
//!     Event::Ready            => session.capabilities() is final; transactions begin by themselves
//!     Event::SendBody(id)     => append the body to `output` through session.framer() (releasing and flushing when it
//!                                gets long), then framer.finish(), session.on_body_sent(), and submit() the next message
//!     Event::Done(id, report) => every recipient of this transaction has its outcome
//!     Event::Idle             => nothing is under way: submit(), or quit()
//!     Event::Closed(failure)  => write `output` without waiting for more, close the connection
//! } }
//! ```
//!
//! With PIPELINING (RFC 2920) MAIL, RCPT and DATA of a message are one group, and the group of the next message
//! follows the final dot of the one before it: keep one transaction submitted ahead ([`Client::backlog`]) and a
//! message costs one round trip. Without it the session is strictly lock-step. At a server with CHUNKING (RFC 3030) content
//! goes by BDAT, with as many round trips.
//!
//! [`Client::ask`] puts a question instead of a message: the dialogue ends with the answers to RCPT.
//!
//! Failures are facts ([`Failure`]): what happened and at which [`Stage`]. What they mean is decided in
//! `staffetta_policy::classify`. Transactions that were submitted and for which no `Done` came before `Closed` were
//! not attempted: nothing of them was answered, and nothing of their content was sent.
//!
//! If the content cannot be read to its end, drop the connection without the final dot; nothing is delivered then.
//!
//! Content goes out as it is: an 8-bit message to a server without 8BITMIME is sent unconverted and undeclared.
//! Credentials are only ever sent over an encrypted connection; having some makes TLS mandatory.
//!
//! RFCs: 5321, 2033 (LMTP), 1870 (SIZE), 2034, 2920, 3030 (CHUNKING), 3207 (STARTTLS), 3461 (DSN), 4954 (AUTH), 6152,
//! 5802 and 7677 (SCRAM-SHA-256), 6531 (SMTPUTF8), 7628 (OAUTHBEARER), 8689 (REQUIRETLS), 9266 (tls-exporter), 9422 (LIMITS).

mod capabilities;
mod command;
mod failure;
mod framer;
mod pipeline;
mod reply;
mod sasl;
mod scram;
mod session;
mod stuffer;
#[cfg(test)]
mod tests;
mod transaction;

use std::fmt;
use std::sync::Arc;

use staffetta_mail::{BodyType, Envelope, Recipient, RemoteReply, Return, ReversePath};

pub use capabilities::{Capabilities, Keyword};
pub use failure::{Failure, Stage};
pub use framer::Framer;
pub use session::Client;

/// What the shell has to do next; see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Write `output`, then read more, within the timeout of this stage.
    Read(Stage),
    /// Write `output`, then start TLS on the connection.
    StartTls,
    /// The session is set up: [`Client::capabilities`] and [`Client::is_encrypted`] are final. Comes once.
    Ready,
    /// Write the content of this transaction.
    SendBody(TransactionId),
    /// A transaction has ended.
    Done(TransactionId, Report),
    /// Nothing is under way. Write `output` before waiting for work.
    Idle,
    /// The session has ended; `None` after QUIT. Write `output` and close the connection, waiting for neither.
    Closed(Option<Failure>),
}

/// How to talk to one server.
#[derive(Clone, Debug)]
pub struct ServerProfile {
    /// What the client calls itself in EHLO.
    pub helo_name: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// When to start TLS.
    pub tls: Tls,
    /// Log in with these, once encrypted. They make [`Tls::Required`] of a value that would do without TLS.
    pub credentials: Option<Arc<Credentials>>,
    /// A handshake that succeeds has proved who the server is.
    pub verified: bool,
    /// What it need not offer, for it is not used.
    pub ignored: Vec<Keyword>,
    /// Chance for SCRAM: printable characters, of each connection its own. Empty: it is not used.
    pub nonce: String,
    /// A server that calls itself so in its answer to EHLO is ourselves: [`Failure::Loop`].
    pub own_name: Option<String>,
}

/// The dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321: EHLO, one reply to the final dot.
    Smtp,
    /// RFC 2033: LHLO, one reply per accepted recipient to the final dot.
    Lmtp,
}

/// When the session asks for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// When the server offers STARTTLS; when it then refuses, the session goes on in plaintext.
    IfOffered,
    /// Always; without an offer the session ends with [`Failure::TlsNotOffered`].
    Required,
    /// From the first octet, before the greeting (RFC 8314 section 3.3).
    Implicit,
}

impl Tls {
    /// Never in the clear?
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Required | Self::Implicit)
    }
}

/// A login at the server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The authentication identity.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves an identity; never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// For SCRAM-SHA-256, PLAIN and LOGIN.
    Password(String),
    /// A bearer token (RFC 6750), for OAUTHBEARER and XOAUTH2.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Names a transaction within one session; the shell chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

/// One message for some recipients.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO, in this order; at least one.
    pub recipients: Vec<Recipient>,
    /// Octets of the content, before dot-stuffing.
    pub size: u64,
    /// What the submitter declared; passed on when the server offers 8BITMIME.
    pub body: BodyType,
    /// `RET=`, passed on when the server offers DSN.
    pub ret: Option<Return>,
    /// `ENVID=` in xtext, passed on when the server offers DSN.
    pub envid: Option<String>,
    /// `SMTPUTF8`: only for servers that offer it ([`Failure::NoSmtpUtf8`]).
    pub smtputf8: bool,
    /// `REQUIRETLS`: only for servers that offer it in TLS and have proved who they are ([`Failure::NoRequireTls`]).
    pub require_tls: bool,
}

impl Transfer {
    /// The transaction for some recipients of an envelope, named by their indices (others are skipped).
    pub fn new(envelope: &Envelope, recipients: &[u32], size: u64) -> Self {
        let pick = |&index: &u32| envelope.recipients.get(index as usize).cloned();
        let recipients: Vec<Recipient> = recipients.iter().filter_map(pick).collect();
        // An alias of ours may lead to an address with UTF-8, whatever the client can do: that concerns nobody else.
        let utf8 = recipients.iter().any(|recipient| !recipient.address.as_str().is_ascii());
        Self {
            sender: envelope.sender.clone(),
            recipients,
            size,
            body: envelope.body,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            smtputf8: envelope.smtputf8 || utf8,
            require_tls: envelope.require_tls,
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One outcome per recipient, in the order of [`Transfer::recipients`].
    pub outcomes: Vec<Outcome>,
    /// The server offers DSN and was given NOTIFY, so it reports success itself. When false, a recipient with
    /// NOTIFY=SUCCESS that was delivered is owed a "relayed" report from us (RFC 3461 section 5.2.2).
    pub dsn_passed_on: bool,
}

/// What happened to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server took responsibility for this recipient with this reply. To a question ([`Client::ask`]): it would.
    Delivered(RemoteReply),
    /// It did not.
    Failed(Failure),
}
