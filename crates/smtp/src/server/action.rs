//! What a session tells and asks its shell.

use std::fmt;

use bytes::Bytes;
use staffetta_mail::{Address, Envelope, QueueId, Recipient, ReversePath};

use super::session::Link;
use crate::Reply;
use crate::command::Verb;
use crate::command::auth::Secret;
use crate::command::mail::Mail;
use crate::command::xclient::ClientAttributes;

/// What the shell must do next. `C` is the shell's own type of causes; see [`Grounds`].
#[derive(Debug, PartialEq, Eq)]
pub enum Action<C = ()> {
    /// Write all output, then read more input; on [`super::Session::deadline`] call `on_timeout`.
    Read,
    /// Find the answer and give it to [`super::Session::answer`] before the next call of `next`.
    Ask(Question),
    /// Content of the message, for the body that [`Question::Data`] opened.
    Body(Bytes),
    /// The message will be refused at its end: drop what was stored. No more [`Action::Body`] comes for it.
    Abandon,
    /// A command was refused; the reply is in the output already.
    Refused(Refusal<C>),
    /// Write all output, do the TLS handshake, call [`super::Session::tls_started`]; close if it fails.
    StartTls,
    /// Write all output and close. A body that is still open is dropped.
    Close,
}

/// What the core cannot decide.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// A step of authentication: [`Answer::Challenge`], [`Answer::Success`] or [`Answer::Refuse`].
    Sasl(SaslStep),
    /// May this sender begin a transaction? [`Answer::Proceed`] or [`Answer::Refuse`].
    Mail(Mail),
    /// May this recipient join it? [`Answer::Proceed`] or [`Answer::Refuse`].
    Recipient(Recipient),
    /// Would this recipient be accepted? [`Answer::Proceed`] (252 with the address) or [`Answer::Refuse`].
    Verify(Address),
    /// Send what waits for this domain: [`Answer::Proceed`] (250) or [`Answer::Refuse`].
    Etrn(String),
    /// The client speaks for this one from now on: [`Answer::Client`] or [`Answer::Refuse`].
    Client(Box<ClientAttributes>),
    /// Open a place for the body: [`Answer::Proceed`] (354) or [`Answer::Refuse`]; the transaction stands then.
    Data,
    /// The message is complete and good; make it durable: [`Answer::Stored`] or [`Answer::Refuse`].
    Store(Envelope),
}

/// A step of an authentication exchange (RFC 4954 section 4).
#[derive(Debug, PartialEq, Eq)]
pub enum SaslStep {
    /// It begins.
    Start {
        /// In capitals, one of [`super::Settings::mechanisms`].
        mechanism: String,
        /// What came with the command; `Some` of no octets for `=`.
        initial: Option<Secret>,
    },
    /// The client answers the challenge.
    Response(Secret),
    /// The exchange is over without a result; any answer will do, the core knows its reply.
    Cancel,
}

/// What the shell answers. One that does not fit the question counts as an internal error (451).
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<C = ()> {
    /// Yes.
    Proceed,
    /// No, with this reply; 421 and 521 also close the connection. The cause comes back with [`Action::Refused`].
    Refuse(Reply, C),
    /// The next challenge, decoded.
    Challenge(Vec<u8>),
    /// Authenticated.
    Success {
        /// The name under which the client acts from now on.
        login: String,
    },
    /// This is the connection of the client that was named. Whether it is encrypted does not change.
    Client(Link),
    /// The message is durable.
    Stored(QueueId),
}

/// A refused command, for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<C = ()> {
    /// What was refused.
    pub activity: Activity,
    /// What the client was told.
    pub reply: Reply,
    /// Who refused it, and why.
    pub grounds: Grounds<C>,
    /// The sender of the transaction at hand, or the one refused.
    pub sender: Option<ReversePath>,
    /// The recipient refused, at RCPT and VRFY, if it was an address.
    pub recipient: Option<Address>,
}

/// On what grounds something was refused. All that a log or a metric says of it follows from here, never from the code
/// or the text of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grounds<C = ()> {
    /// The protocol: syntax, order, limits, content.
    Protocol,
    /// The client took back its own command: `*` in an authentication exchange.
    Cancelled,
    /// Nothing came in time.
    Timeout,
    /// The server goes down.
    Shutdown,
    /// The shell's answer was no, for this cause.
    Shell(C),
}

/// What a session was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Before the first command.
    Connect,
    /// This command.
    Command(Verb),
    /// The message, up to the reply to its final dot.
    EndOfMessage,
    /// A line that is no command.
    Unknown,
}

impl Activity {
    /// All of them.
    pub const ALL: [Self; 3 + Verb::ALL.len()] = {
        let mut all = [Self::Connect; 3 + Verb::ALL.len()];
        all[1] = Self::EndOfMessage;
        all[2] = Self::Unknown;
        let mut i = 0;
        while i < Verb::ALL.len() {
            all[3 + i] = Self::Command(Verb::ALL[i]);
            i += 1;
        }
        all
    };

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Connect => 0,
            Self::EndOfMessage => 1,
            Self::Unknown => 2,
            Self::Command(verb) => 3 + verb as usize,
        }
    }

    /// The word that Postfix logs: `CONNECT`, `RCPT`, `END-OF-MESSAGE`, `UNKNOWN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Command(verb) => verb.name(),
            Self::EndOfMessage => "END-OF-MESSAGE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
