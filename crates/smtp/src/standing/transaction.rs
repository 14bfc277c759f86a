//! A client's introduction, and what it said of a message so far.

use staffetta_mail::{BodyType, Envelope, Return, ReversePath};

/// How the client introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helo {
    /// The name, as typed; not verified.
    pub name: String,
    /// True for EHLO.
    pub extended: bool,
}

/// What is known between MAIL and the end of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Sender and accepted recipients.
    pub envelope: Envelope,
    /// `SIZE=`: octets, as the client estimates them.
    pub size: Option<u64>,
    /// Recipients beyond the limit.
    pub(crate) overshoot: usize,
}

/// What the parameters of MAIL said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`: octets, as the client estimates them (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyType,
    /// `RET=` (RFC 3461).
    pub ret: Option<Return>,
    /// `ENVID=`, still xtext (RFC 3461).
    pub envid: Option<String>,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `REQUIRETLS` (RFC 8689).
    pub require_tls: bool,
    /// `AUTH=`, still xtext (RFC 4954 section 5). What it claims is not verified by anybody.
    pub auth: Option<String>,
}

impl Transaction {
    /// Begins with the sender.
    pub fn new(sender: ReversePath, parameters: MailParameters) -> Self {
        let MailParameters { size, body, ret, envid, smtputf8, require_tls, auth: _ } = parameters;
        let envelope = Envelope { body, ret, envid, smtputf8, require_tls, ..Envelope::new(sender, Vec::new()) };
        Self { envelope, size, overshoot: 0 }
    }
}
