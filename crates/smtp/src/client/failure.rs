//! Facts about what went wrong, and where in the dialogue.

use staffetta_mail::RemoteReply;

/// Where in the dialogue the session is: what it waits for, and so which timeout applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The `220` of the server.
    Greeting,
    /// The answer to EHLO, HELO or LHLO.
    Helo,
    /// The answer to STARTTLS, and the handshake.
    StartTls,
    /// The answers to AUTH.
    Auth,
    /// The answer to MAIL FROM.
    Mail,
    /// The answer to RCPT TO.
    Rcpt,
    /// The `354`.
    Data,
    /// The content is being written.
    Transfer,
    /// The answer to the final dot. A loss here is ambiguous: the server may have the message.
    Final,
    /// The answer to RSET.
    Reset,
    /// Nothing: no transaction is under way.
    Idle,
    /// The answer to QUIT.
    Quit,
}

impl Stage {
    /// Completes "lost connection with … while" (texts as Postfix has them).
    pub const fn activity(self) -> &'static str {
        match self {
            Self::Greeting => "receiving the initial server greeting",
            Self::Helo => "performing the EHLO handshake",
            Self::StartTls => "performing the TLS handshake",
            Self::Auth => "performing SASL authentication",
            Self::Mail => "sending MAIL FROM",
            Self::Rcpt => "sending RCPT TO",
            Self::Data => "sending DATA command",
            Self::Transfer => "sending message body",
            Self::Final => "sending end of data -- message may be sent more than once",
            Self::Reset => "sending RSET",
            Self::Idle => "waiting for the next message",
            Self::Quit => "sending QUIT command",
        }
    }

    /// Completes "(in reply to …)"; `None` where the server spoke first.
    pub const fn command(self) -> Option<&'static str> {
        Some(match self {
            Self::Greeting | Self::Idle => return None,
            Self::Helo => "EHLO command",
            Self::StartTls => "STARTTLS command",
            Self::Auth => "AUTH command",
            Self::Mail => "MAIL FROM command",
            Self::Rcpt => "RCPT TO command",
            Self::Data => "DATA command",
            Self::Transfer => "message body",
            Self::Final => "end of DATA command",
            Self::Reset => "RSET command",
            Self::Quit => "QUIT command",
        })
    }

    /// True before the session is ready for transactions: a failure here concerns the host, not a message.
    pub const fn is_set_up(self) -> bool {
        matches!(self, Self::Greeting | Self::Helo | Self::StartTls | Self::Auth)
    }
}

/// Why a recipient was not delivered, or why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server answered with a code that does not let the dialogue go on.
    #[error("server said: {reply}")]
    Reply {
        /// To what.
        stage: Stage,
        /// The answer.
        reply: RemoteReply,
    },
    /// The connection ended: closed, reset, or unwritable.
    #[error("lost connection while {}", stage.activity())]
    Lost {
        /// What was under way.
        stage: Stage,
    },
    /// No answer in time.
    #[error("conversation timed out while {}", stage.activity())]
    TimedOut {
        /// What was under way.
        stage: Stage,
    },
    /// The server broke the protocol; the text says how.
    #[error("{what} while {}", stage.activity())]
    Malformed {
        /// What was under way.
        stage: Stage,
        /// A fragment, such as "reply line without a code".
        what: &'static str,
    },
    /// TLS is mandatory and the server does not offer STARTTLS.
    #[error("TLS is required, but was not offered")]
    TlsNotOffered,
    /// The TLS handshake failed; the text is the TLS library's.
    #[error("TLS handshake failed: {0}")]
    TlsHandshake(String),
    /// Octets followed the answer to STARTTLS in the clear: somebody tries to inject replies (CVE-2011-0411).
    #[error("plaintext after the answer to STARTTLS")]
    TlsInjection,
    /// There are credentials, and no mechanism in common.
    #[error("no usable SASL mechanism")]
    NoMechanism,
    /// The server's limit (RFC 1870) is below the size of the message; nothing was sent.
    #[error("message size {size} exceeds size limit {limit}")]
    TooLarge {
        /// Of the message.
        size: u64,
        /// Of the server.
        limit: u64,
    },
    /// The message needs SMTPUTF8 (RFC 6531 section 3.6) and the server does not offer it; nothing was sent.
    #[error("SMTPUTF8 is required, but {}", if *.ignored { "is not used" } else { "was not offered" })]
    NoSmtpUtf8 {
        /// It does offer it, and must not be taken at its word.
        ignored: bool,
    },
    /// The message demands REQUIRETLS (RFC 8689 section 4.2.1): TLS with a server that has proved who it is and offers the
    /// extension. Nothing was sent.
    #[error("REQUIRETLS is required, but was not offered over verified TLS")]
    NoRequireTls,
    /// The server does not offer 8BITMIME, and the message cannot be without octets above 127 (RFC 6152 section 3): why.
    #[error("8BITMIME is required, but was not offered: {0}")]
    NoEightBitMime(String),
    /// The server offers CHUNKING (RFC 3030) and does not know BDAT: what followed was taken for commands, and no message.
    #[error("BDAT is not known though CHUNKING was offered")]
    NoBdat,
    /// The server answers with our own name.
    #[error("the server is this host")]
    Loop,
}

impl Failure {
    /// Where it happened.
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Reply { stage, .. }
            | Self::Lost { stage }
            | Self::TimedOut { stage }
            | Self::Malformed { stage, .. } => *stage,
            Self::TlsNotOffered | Self::Loop => Stage::Helo,
            Self::TlsHandshake(_) | Self::TlsInjection => Stage::StartTls,
            Self::NoMechanism => Stage::Auth,
            Self::NoBdat => Stage::Transfer,
            Self::TooLarge { .. } | Self::NoSmtpUtf8 { .. } | Self::NoRequireTls | Self::NoEightBitMime(_) => {
                Stage::Mail
            }
        }
    }

    /// The answer, if the server gave one.
    pub const fn reply(&self) -> Option<&RemoteReply> {
        match self {
            Self::Reply { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// True if this is the server's answer to a command of the message, or came after such an answer.
    pub const fn is_answered(&self) -> bool {
        match self {
            Self::Reply { stage, .. } => !stage.is_set_up(),
            Self::Lost { stage } | Self::TimedOut { stage } | Self::Malformed { stage, .. } => {
                matches!(stage, Stage::Rcpt | Stage::Data | Stage::Transfer | Stage::Final)
            }
            _ => false,
        }
    }

    /// True if the server may have taken the message all the same: the final dot was out and no answer came.
    pub const fn is_ambiguous(&self) -> bool {
        matches!(
            self,
            Self::Lost { stage: Stage::Final }
                | Self::TimedOut { stage: Stage::Final }
                | Self::Malformed { stage: Stage::Final, .. }
        )
    }

    /// True if the server may still be at work on the message: the answer to the final dot did not come in time (RFC
    /// 1047). Whoever closed the connection instead has made up its mind, and waiting would not change it.
    pub const fn is_unfinished(&self) -> bool {
        matches!(self, Self::TimedOut { stage: Stage::Final })
    }

    /// True if the server ends the session with this (RFC 5321 section 3.8: 421 at any time).
    pub const fn is_shutdown(&self) -> bool {
        matches!(self, Self::Reply { reply: RemoteReply { code: 421, .. }, .. })
    }
}
