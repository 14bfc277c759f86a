//! The states of a session; each owns what is known in it.
//!
//! ```text
//!                 220                  MAIL?                    RCPT?
//!  Greeting ───────────────▶ Ready ──────────────▶ Mail ◀──────────────┐
//!                            ▲ │ ▲                 │ │ └───────────────┘
//!             tls_started()  │ │ │  RSET EHLO HELO │ │ DATA?
//!  Handshake ────────────────┘ │ └─────────────────┘ ▼
//!      ▲         STARTTLS      │ ▲                  Data ──┐
//!      └───────────────────────┤ │                   │     │ content
//!                        AUTH? │ │ Store?            │ ◀───┘
//!  Sasl ◀──────────────────────┘ └───────────────────┘ CRLF . CRLF
//!   │ ▲      response?
//!   └─┴───▶ Ready      Mail ── BDAT? ─▶ Data ──▶ Chunks ── BDAT ─▶ Data … LAST: Store?, Ready
//!
//!                             Ready ── XCLIENT, Client? ──▶ Greeting
//!
//!                                Closed ◀── QUIT, 421, 521, 554 out of turn, 550 bare CR or LF in a command
//! ```
//!
//! A `?` passes through `Asking`: the shell finds the answer, and no input is looked at meanwhile.

use staffetta_mail::{Address, Recipient, ReversePath};

use super::action::Activity;
use super::receiving::Receiving;
use crate::Reply;
use crate::command::Verb;
use crate::command::bdat::Chunk;
use crate::command::mail::Mail;
use crate::command::xclient::ClientAttributes;
use crate::standing::Transaction;

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing was said yet.
    Greeting,
    /// Between transactions.
    Ready,
    /// Within one.
    Mail(Transaction),
    /// A challenge is out.
    Sasl,
    /// The message, or a chunk of it, comes in. Boxed: most connections are idle most of the time.
    Data(Box<Receiving>),
    /// Between the chunks of a message.
    Chunks(Box<Receiving>),
    /// A chunk comes in that belongs to no message.
    Skipping { left: u64, reply: Reply },
    /// A question is out.
    Asking(Pending),
    /// TLS is being set up.
    Handshake,
    /// The shell must close.
    Closed,
}

/// What becomes of the answer.
#[derive(Debug)]
pub(super) enum Pending {
    /// A step of authentication.
    Sasl,
    /// An authentication that ended by the client's own will, or not; the reply is known.
    SaslEnd { reply: Reply, cancelled: bool },
    /// A transaction may begin.
    Mail(Mail),
    /// A recipient may join.
    Recipient(Transaction, Recipient),
    /// The address, also as typed; perhaps within a transaction.
    Verify(Option<Transaction>, Address, String),
    /// A queue run.
    Etrn,
    /// Another client takes the place of this one.
    Client(Box<ClientAttributes>),
    /// A body may follow.
    Data(Transaction),
    /// A body may follow, and its first chunk does.
    Chunk(Transaction, Chunk),
    /// A message of this sender may be ours; with its octets, if it came in chunks.
    Store { sender: ReversePath, chunks: Option<u64> },
}

impl State {
    /// Is nothing under way that the client would have to begin again? Here a 421 may end the session.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self, Self::Greeting | Self::Ready | Self::Sasl)
    }

    /// Is the next thing that the client says a command, or a response within one?
    pub(super) fn awaits_command(&self) -> bool {
        matches!(self, Self::Ready | Self::Mail(_) | Self::Chunks(_) | Self::Sasl)
    }

    /// The transaction at hand, up to the final dot.
    pub(super) fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::Mail(transaction) => Some(transaction),
            Self::Data(receiving) | Self::Chunks(receiving) => Some(&receiving.transaction),
            Self::Asking(
                Pending::Recipient(transaction, _) | Pending::Data(transaction) | Pending::Chunk(transaction, _),
            ) => Some(transaction),
            Self::Asking(Pending::Verify(transaction, ..)) => transaction.as_ref(),
            Self::Greeting
            | Self::Ready
            | Self::Sasl
            | Self::Skipping { .. }
            | Self::Asking(_)
            | Self::Handshake
            | Self::Closed => None,
        }
    }
}

impl From<Option<Transaction>> for State {
    fn from(transaction: Option<Transaction>) -> Self {
        transaction.map_or(Self::Ready, Self::Mail)
    }
}

impl Pending {
    /// What a refusal of it is called.
    pub(super) fn activity(&self) -> Activity {
        match self {
            Self::Sasl | Self::SaslEnd { .. } => Activity::Command(Verb::Auth),
            Self::Mail(_) => Activity::Command(Verb::Mail),
            Self::Recipient(..) => Activity::Command(Verb::Rcpt),
            Self::Verify(..) => Activity::Command(Verb::Vrfy),
            Self::Etrn => Activity::Command(Verb::Etrn),
            Self::Client(_) => Activity::Command(Verb::Xclient),
            Self::Data(_) => Activity::Command(Verb::Data),
            Self::Chunk(..) => Activity::Command(Verb::Bdat),
            Self::Store { .. } => Activity::EndOfMessage,
        }
    }

    /// Where the session goes on after a refusal, with the sender and the recipient that were refused.
    pub(super) fn refused(self) -> (State, Option<ReversePath>, Option<Address>) {
        match self {
            Self::Sasl | Self::SaslEnd { .. } | Self::Etrn | Self::Client(_) => (State::Ready, None, None),
            Self::Store { sender, .. } => (State::Ready, Some(sender), None),
            Self::Mail(mail) => (State::Ready, Some(mail.sender), None),
            Self::Recipient(transaction, recipient) => (State::Mail(transaction), None, Some(recipient.address)),
            Self::Verify(transaction, address, _) => (State::from(transaction), None, Some(address)),
            Self::Data(transaction) | Self::Chunk(transaction, _) => (State::Mail(transaction), None, None),
        }
    }
}
