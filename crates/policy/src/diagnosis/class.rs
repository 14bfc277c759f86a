//! The classes of failures, in the words of those who read bounces for a living.

/// What a failure is of. The set is closed: it is a label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// There is no such mailbox.
    BadMailbox,
    /// There was one, and it is out of use.
    InactiveMailbox,
    /// It is full, or gets more than it may.
    QuotaIssues,
    /// The domain does not exist, or takes no mail.
    BadDomain,
    /// Not now, because it is the first time.
    Greylisted,
    /// Too much, too fast, or over too many connections.
    RateLimited,
    /// Our address is on a block list, or has a bad name.
    BadReputation,
    /// Our address has no name, or not the one of EHLO.
    NoReverseDns,
    /// Neither SPF nor DKIM speaks for the sender, or DMARC asks for more.
    Unauthenticated,
    /// The message looks like spam.
    SpamRelated,
    /// It carries something dangerous.
    VirusRelated,
    /// Its form or a part of it is not taken.
    ContentRelated,
    /// It is too large.
    TooLarge,
    /// A rule of the other side, without more being said.
    PolicyRelated,
    /// The sender does not exist, or is not taken.
    InvalidSender,
    /// The server takes no mail for the domain, or not from us.
    RelayingIssues,
    /// No way leads to the domain now.
    RoutingErrors,
    /// One of the two does not speak as the other expects.
    ProtocolErrors,
    /// The server is busy, full or broken.
    BadConfiguration,
    /// There is no TLS such as is demanded.
    TlsRelated,
    /// We cannot log in.
    LoginRelated,
    /// The connection broke off.
    BadConnection,
    /// Nobody answers.
    NoAnswerFromHost,
    /// An operator, or a hard bounce before, wants no mail to be sent there.
    Suppressed,
    /// Our own trouble.
    Local,
    /// Nobody can tell.
    Other,
}

/// What a failure says something about: who meets the same one with his next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This recipient, whoever writes.
    Recipient,
    /// All of the recipient's domain.
    Domain,
    /// This sender, to whomever he writes there.
    Sender,
    /// This message.
    Message,
    /// Whatever this login sends, or this client without one, to whomever.
    Login,
    /// Whatever comes from this address of ours.
    Source,
    /// Whatever goes to this server.
    Host,
    /// This relay.
    Local,
    /// Nobody can tell.
    Unknown,
}

/// What whoever runs the relay, or the list that the recipient is on, should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: it passes. What has come back may be sent again later.
    Wait,
    /// Send less to it, or over fewer connections.
    SlowDown,
    /// Take the address off the list, and correct it if it is a slip.
    RemoveRecipient,
    /// Set right the sender's address, or SPF, DKIM and DMARC of its domain.
    FixSender,
    /// Set right the message.
    FixContent,
    /// Look who sends from this login or client: it may be a thief's.
    CheckLogin,
    /// Set right this relay: its addresses and their names, its routes, its passwords, its TLS.
    FixRelay,
    /// Ask whoever runs the server, or the DNS of the domain.
    AskHost,
    /// Read what is said: it tells more than the class.
    ReadReply,
}

use Class as C;

/// What is known of a class.
struct Row {
    name: &'static str,
    category: &'static str,
    scope: Scope,
    remedy: Remedy,
    suppress: bool,
}

impl Row {
    const fn of(name: &'static str, category: &'static str, scope: Scope, remedy: Remedy) -> Self {
        Self { name, category, scope, remedy, suppress: false }
    }

    /// A permanent failure of this class says that nobody will ever read at the address.
    const fn suppresses(self) -> Self {
        Self { suppress: true, ..self }
    }
}

impl Class {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        C::BadMailbox,
        C::InactiveMailbox,
        C::QuotaIssues,
        C::BadDomain,
        C::Greylisted,
        C::RateLimited,
        C::BadReputation,
        C::NoReverseDns,
        C::Unauthenticated,
        C::SpamRelated,
        C::VirusRelated,
        C::ContentRelated,
        C::TooLarge,
        C::PolicyRelated,
        C::InvalidSender,
        C::RelayingIssues,
        C::RoutingErrors,
        C::ProtocolErrors,
        C::BadConfiguration,
        C::TlsRelated,
        C::LoginRelated,
        C::BadConnection,
        C::NoAnswerFromHost,
        C::Suppressed,
        C::Local,
        C::Other,
    ];

    /// Its name, in the log and as a label.
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The category of PowerMTA that it is a part of: what tools for bounces know.
    pub const fn category(self) -> &'static str {
        self.row().category
    }

    /// Whom it is about.
    pub const fn scope(self) -> Scope {
        self.row().scope
    }

    /// What to do next.
    pub const fn remedy(self) -> Remedy {
        self.row().remedy
    }

    /// Does a permanent failure of this class say that nobody will ever read at the address?
    pub const fn suppresses(self) -> bool {
        self.row().suppress
    }

    const fn row(self) -> Row {
        use Remedy as R;
        use Scope as S;
        match self {
            C::BadMailbox => Row::of("bad-mailbox", "bad-mailbox", S::Recipient, R::RemoveRecipient).suppresses(),
            C::InactiveMailbox => {
                Row::of("inactive-mailbox", "inactive-mailbox", S::Recipient, R::RemoveRecipient).suppresses()
            }
            C::QuotaIssues => Row::of("quota-issues", "quota-issues", S::Recipient, R::Wait),
            // Not suppressed: a slip in the DNS is mended, and says nothing of an address.
            C::BadDomain => Row::of("bad-domain", "bad-domain", S::Domain, R::RemoveRecipient),
            C::Greylisted => Row::of("greylisted", "policy-related", S::Source, R::Wait),
            C::RateLimited => Row::of("rate-limited", "policy-related", S::Source, R::SlowDown),
            C::BadReputation => Row::of("bad-reputation", "spam-related", S::Source, R::FixRelay),
            C::NoReverseDns => Row::of("no-reverse-dns", "policy-related", S::Source, R::FixRelay),
            C::Unauthenticated => Row::of("unauthenticated", "policy-related", S::Sender, R::FixSender),
            // Not the message alone: an account that is stolen, or a machine that is infected, goes on with the next one.
            C::SpamRelated => Row::of("spam-related", "spam-related", S::Login, R::CheckLogin),
            C::VirusRelated => Row::of("virus-related", "virus-related", S::Login, R::CheckLogin),
            C::ContentRelated => Row::of("content-related", "content-related", S::Message, R::FixContent),
            C::TooLarge => Row::of("too-large", "content-related", S::Message, R::FixContent),
            C::PolicyRelated => Row::of("policy-related", "policy-related", S::Unknown, R::ReadReply),
            C::InvalidSender => Row::of("invalid-sender", "invalid-sender", S::Sender, R::FixSender),
            C::RelayingIssues => Row::of("relaying-issues", "relaying-issues", S::Domain, R::AskHost),
            C::RoutingErrors => Row::of("routing-errors", "routing-errors", S::Domain, R::AskHost),
            C::ProtocolErrors => Row::of("protocol-errors", "protocol-errors", S::Host, R::AskHost),
            C::BadConfiguration => Row::of("bad-configuration", "bad-configuration", S::Host, R::Wait),
            C::TlsRelated => Row::of("tls-related", "bad-connection", S::Host, R::AskHost),
            C::LoginRelated => Row::of("login-related", "bad-configuration", S::Local, R::FixRelay),
            C::BadConnection => Row::of("bad-connection", "bad-connection", S::Host, R::Wait),
            C::NoAnswerFromHost => Row::of("no-answer-from-host", "no-answer-from-host", S::Host, R::Wait),
            C::Suppressed => Row::of("suppressed", "other", S::Recipient, R::RemoveRecipient),
            C::Local => Row::of("local", "other", S::Local, R::FixRelay),
            C::Other => Row::of("other", "other", S::Unknown, R::ReadReply),
        }
    }
}

impl Scope {
    /// Its name, in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Domain => "domain",
            Self::Sender => "sender",
            Self::Message => "message",
            Self::Login => "login",
            Self::Source => "source",
            Self::Host => "host",
            Self::Local => "local",
            Self::Unknown => "unknown",
        }
    }
}

impl Remedy {
    /// Its name, in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::SlowDown => "slow-down",
            Self::RemoveRecipient => "remove-recipient",
            Self::FixSender => "fix-sender",
            Self::FixContent => "fix-content",
            Self::CheckLogin => "check-login",
            Self::FixRelay => "fix-relay",
            Self::AskHost => "ask-host",
            Self::ReadReply => "read-reply",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What the tooling of PowerMTA's users expects, but for `message-expired`, which is an outcome here.
    const CATEGORIES: [&str; 16] = [
        "bad-configuration",
        "bad-connection",
        "bad-domain",
        "bad-mailbox",
        "content-related",
        "inactive-mailbox",
        "invalid-sender",
        "no-answer-from-host",
        "other",
        "policy-related",
        "protocol-errors",
        "quota-issues",
        "relaying-issues",
        "routing-errors",
        "spam-related",
        "virus-related",
    ];

    #[test]
    fn every_category_has_a_class_of_its_name_and_every_class_its_number() {
        let names: HashSet<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), Class::ALL.len());
        assert!(CATEGORIES.iter().all(|category| names.contains(category)));
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number, "{class:?}");
            assert!(CATEGORIES.contains(&class.category()), "{class:?}");
            assert!(!class.suppresses() || class.remedy() == Remedy::RemoveRecipient, "{class:?}");
            let is_category = CATEGORIES.contains(&class.as_str());
            assert!(!is_category || class.category() == class.as_str(), "{class:?}");
        }
    }
}
