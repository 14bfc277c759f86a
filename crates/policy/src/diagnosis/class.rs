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
    /// Whatever comes from this address of ours.
    Source,
    /// Whatever goes to this server.
    Host,
    /// This relay.
    Local,
    /// Nobody can tell.
    Unknown,
}

use Class as C;

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
        self.row().0
    }

    /// The category of PowerMTA that it is a part of: what tools for bounces know.
    pub const fn category(self) -> &'static str {
        self.row().1
    }

    /// Whom it is about.
    pub const fn scope(self) -> Scope {
        self.row().2
    }

    const fn row(self) -> (&'static str, &'static str, Scope) {
        use Scope as S;
        match self {
            C::BadMailbox => ("bad-mailbox", "bad-mailbox", S::Recipient),
            C::InactiveMailbox => ("inactive-mailbox", "inactive-mailbox", S::Recipient),
            C::QuotaIssues => ("quota-issues", "quota-issues", S::Recipient),
            C::BadDomain => ("bad-domain", "bad-domain", S::Domain),
            C::Greylisted => ("greylisted", "policy-related", S::Source),
            C::RateLimited => ("rate-limited", "policy-related", S::Source),
            C::BadReputation => ("bad-reputation", "spam-related", S::Source),
            C::NoReverseDns => ("no-reverse-dns", "policy-related", S::Source),
            C::Unauthenticated => ("unauthenticated", "policy-related", S::Sender),
            C::SpamRelated => ("spam-related", "spam-related", S::Message),
            C::VirusRelated => ("virus-related", "virus-related", S::Message),
            C::ContentRelated => ("content-related", "content-related", S::Message),
            C::TooLarge => ("too-large", "content-related", S::Message),
            C::PolicyRelated => ("policy-related", "policy-related", S::Unknown),
            C::InvalidSender => ("invalid-sender", "invalid-sender", S::Sender),
            C::RelayingIssues => ("relaying-issues", "relaying-issues", S::Domain),
            C::RoutingErrors => ("routing-errors", "routing-errors", S::Domain),
            C::ProtocolErrors => ("protocol-errors", "protocol-errors", S::Host),
            C::BadConfiguration => ("bad-configuration", "bad-configuration", S::Host),
            C::TlsRelated => ("tls-related", "bad-connection", S::Host),
            C::LoginRelated => ("login-related", "bad-configuration", S::Local),
            C::BadConnection => ("bad-connection", "bad-connection", S::Host),
            C::NoAnswerFromHost => ("no-answer-from-host", "no-answer-from-host", S::Host),
            C::Suppressed => ("suppressed", "other", S::Recipient),
            C::Local => ("local", "other", S::Local),
            C::Other => ("other", "other", S::Unknown),
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
            Self::Source => "source",
            Self::Host => "host",
            Self::Local => "local",
            Self::Unknown => "unknown",
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
            let is_category = CATEGORIES.contains(&class.as_str());
            assert!(!is_category || class.category() == class.as_str(), "{class:?}");
        }
    }
}
