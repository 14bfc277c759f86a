//! Why a recipient is refused, and what the client is told.

use staffetta_smtp::reply::Reply;

use super::Request;

/// Why a recipient is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// An operator has blocked the sender's domain.
    SenderBlocked,
    /// An operator has blocked the recipient's domain.
    RecipientBlocked,
    /// An operator wants no mail to be sent to the recipient.
    Suppressed,
    /// Submission without a login. The session already says so at MAIL; this is the second lock on the door.
    NotLoggedIn,
    /// The login uses somebody else's sender address.
    SenderNotOwned,
    /// The sender address has an owner, and nobody logged in.
    SenderNotLoggedIn,
    /// The auth service could not say who owns the sender.
    SenderUnknown,
    /// A stranger wants to reach a domain that is not ours.
    RelayDenied,
    /// The auth service could not say whether domain or recipient are ours.
    RecipientUnknown,
    /// The recipient's domain has no dot.
    NotFullyQualified,
    /// There is no such recipient in a domain of ours.
    NoSuchRecipient,
    /// It is an alias, and where it leads cannot be found out.
    AliasUnusable,
    /// The server to which the recipient's mail goes refuses it.
    Undeliverable,
    /// That server is asked too much now.
    Unverified,
    /// The recipient's domain does not exist.
    DomainNotFound,
    /// The recipient's domain takes no mail.
    NullMx,
    /// The DNS could not say whether the domain exists.
    DnsUnavailable,
}

impl Objection {
    /// What the client is told about the recipient of `request`. `said`: why the recipient's own server refuses it, with
    /// [`Self::Undeliverable`].
    pub fn reply(self, request: &Request<'_>, said: &str) -> Reply {
        let (sender, recipient) = (request.sender.as_str(), request.recipient.as_str());
        match self {
            Self::SenderBlocked => Reply::sender_blocked(sender),
            Self::RecipientBlocked => Reply::recipient_blocked(recipient),
            Self::Suppressed => Reply::suppressed(recipient),
            Self::NotLoggedIn => Reply::authentication_required(),
            Self::SenderNotOwned => Reply::sender_not_owned(sender, request.login.unwrap_or_default()),
            Self::SenderNotLoggedIn => Reply::sender_not_logged_in(sender),
            Self::SenderUnknown => Reply::lookup_failed(sender),
            Self::RelayDenied => Reply::relay_denied(recipient),
            Self::RecipientUnknown => Reply::lookup_failed(recipient),
            Self::NotFullyQualified => Reply::recipient_not_qualified(recipient),
            Self::NoSuchRecipient => Reply::user_unknown(recipient),
            Self::AliasUnusable => Reply::alias_unusable(recipient),
            Self::Undeliverable => Reply::undeliverable(recipient, said),
            Self::Unverified => Reply::unverified(recipient),
            Self::DomainNotFound => Reply::domain_not_found(recipient),
            Self::NullMx => Reply::null_mx(recipient, request.recipient.domain_str().unwrap_or_default()),
            Self::DnsUnavailable => Reply::domain_lookup_failed(recipient),
        }
    }

    /// The code of [`Self::reply`], whatever the request.
    pub const fn code(self) -> u16 {
        match self {
            Self::NotLoggedIn => 530,
            Self::SenderNotOwned | Self::SenderNotLoggedIn => 553,
            Self::SenderUnknown | Self::RecipientUnknown | Self::AliasUnusable => 451,
            Self::RelayDenied | Self::SenderBlocked | Self::RecipientBlocked => 554,
            Self::NotFullyQualified => 504,
            Self::NoSuchRecipient | Self::Undeliverable | Self::DomainNotFound | Self::Suppressed => 550,
            Self::NullMx => 556,
            Self::Unverified | Self::DnsUnavailable => 450,
        }
    }

    /// A label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SenderBlocked => "sender_blocked",
            Self::RecipientBlocked => "recipient_blocked",
            Self::Suppressed => "recipient_suppressed",
            Self::NotLoggedIn => "not_logged_in",
            Self::SenderNotOwned => "sender_not_owned",
            Self::SenderNotLoggedIn => "sender_not_logged_in",
            Self::SenderUnknown | Self::RecipientUnknown => "lookup_failed",
            Self::RelayDenied => "relay_denied",
            Self::NotFullyQualified => "not_fully_qualified",
            Self::NoSuchRecipient => "no_such_recipient",
            Self::AliasUnusable => "alias_unusable",
            Self::Undeliverable => "undeliverable",
            Self::Unverified => "unverified",
            Self::DomainNotFound => "domain_not_found",
            Self::NullMx => "null_mx",
            Self::DnsUnavailable => "dns_unavailable",
        }
    }

    /// All of them, so that metrics can show zeros.
    pub const ALL: [Self; 17] = [
        Self::SenderBlocked,
        Self::RecipientBlocked,
        Self::Suppressed,
        Self::NotLoggedIn,
        Self::SenderNotOwned,
        Self::SenderNotLoggedIn,
        Self::SenderUnknown,
        Self::RelayDenied,
        Self::RecipientUnknown,
        Self::NotFullyQualified,
        Self::NoSuchRecipient,
        Self::AliasUnusable,
        Self::Undeliverable,
        Self::Unverified,
        Self::DomainNotFound,
        Self::NullMx,
        Self::DnsUnavailable,
    ];
}
