//! The envelope: what MAIL FROM and RCPT TO said (RFC 5321 section 2.3.1), with the parameters that must survive the
//! queue: BODY (RFC 6152), RET, ENVID, NOTIFY, ORCPT (RFC 3461), SMTPUTF8 (RFC 6531) and REQUIRETLS (RFC 8689); and what the
//! header says that matters to the way.

use crate::{Address, ReversePath};

/// One message's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where reports go.
    pub sender: ReversePath,
    /// In the order in which they were accepted; never empty once the message is queued.
    pub recipients: Vec<Recipient>,
    /// The declared body type.
    pub body: BodyType,
    /// `RET=`: how much of the message a failure report returns; `None` if the client did not say.
    pub ret: Option<Return>,
    /// `ENVID=`, still xtext-encoded as the client sent it.
    pub envid: Option<String>,
    /// `SMTPUTF8`: addresses or header fields may hold UTF-8, so the next hop must know of it (RFC 6531 section 3.6).
    pub smtputf8: bool,
    /// `REQUIRETLS`: the next hop must be reached under verified TLS and must know of it too, or the message fails
    /// (RFC 8689 section 4.2).
    pub require_tls: bool,
    /// `TLS-Required: No` in the header: the message goes where the other side's TLS is broken, too (RFC 8689 section 5). Means
    /// nothing with `REQUIRETLS`.
    pub tls_optional: bool,
}

impl Envelope {
    /// An envelope of which nothing more was said.
    pub fn new(sender: ReversePath, recipients: Vec<Recipient>) -> Self {
        let body = BodyType::default();
        Self {
            sender,
            recipients,
            body,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            tls_optional: false,
        }
    }

    /// How much of the message a report returns. Of one that demanded TLS no content travels back, perhaps in the clear
    /// (RFC 8689 section 5).
    pub fn returned(&self) -> Option<Return> {
        if self.require_tls { Some(Return::Headers) } else { self.ret }
    }
}

/// One accepted recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub address: Address,
    /// `NOTIFY=`; `None` if the client did not say, which means "failure, and delay if the operator wants it".
    pub notify: Option<Notify>,
    /// `ORCPT=`, as `type;xtext`, still encoded as the client sent it.
    pub orcpt: Option<String>,
    /// What the client named, if that was an alias that led to `address`.
    pub alias: Option<Address>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    pub fn new(address: Address) -> Self {
        Self { address, notify: None, orcpt: None, alias: None }
    }

    /// Does the sender want to hear that this recipient failed for good?
    pub fn wants_failure(&self) -> bool {
        self.notify.is_none_or(|n| n.failure)
    }

    /// Does the sender want to hear that the message is late?
    pub fn wants_delay(&self) -> bool {
        self.notify.is_none_or(|n| n.delay)
    }

    /// Does the sender want to hear of success?
    pub fn wants_success(&self) -> bool {
        self.notify.is_some_and(|n| n.success)
    }
}

/// `NOTIFY=`. All false is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `SUCCESS`
    pub success: bool,
    /// `FAILURE`
    pub failure: bool,
    /// `DELAY`
    pub delay: bool,
}

/// `RET=` (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// The whole message.
    Full,
    /// Only its header section.
    Headers,
}

/// `BODY=` (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// `7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
}
