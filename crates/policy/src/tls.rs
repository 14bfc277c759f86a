//! TLS towards other servers: what is asked of one host, decided from all that has a say in it.
//!
//! [`decide`] is asked for each candidate host. The strongest word counts: DANE (RFC 7672) over MTA-STS (RFC 8461) over
//! the configured level; a login and a message that demands TLS (RFC 8689) raise what is left.
//!
//! | level | STARTTLS not offered | handshake fails | certificate |
//! |---|---|---|---|
//! | `none` | – | – | – |
//! | `may` | plaintext | plaintext, on a new connection to the same host (RFC 7435) | not checked |
//! | `encrypt` | next host, then 4.7.4 | next host, then 4.7.5 | not checked |
//! | `verify` | next host, then 4.7.4 | next host, then 4.7.5 | must match the host |
//!
//! `none` is the operator's word against a server whose TLS is broken: DANE and MTA-STS do not raise it, a login and a
//! message's demand do. A message may also ask for less than DANE and MTA-STS do (`TLS-Required: No`, section 5), never for
//! less than the operator. Plaintext after a failed handshake, now or remembered, is for `may` alone.
//!
//! A connection keeps its [`Security`], and a message is offered to it only if that [satisfies](Security::satisfies)
//! the message's [`Need`]: what was good enough for the message that opened it may not be for the next one.

mod tlsa;

use std::fmt;
use std::sync::Arc;

use staffetta_mail::Envelope;
use staffetta_smtp::client::{Failure, Stage, Tls};

pub use tlsa::{AUTHORITY, END_ENTITY, Pins, Tlsa, Way, base_domains, judge};

/// How much TLS a destination needs (`delivery.tls`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No TLS.
    None,
    /// TLS if possible.
    May,
    /// TLS with whomever.
    Encrypt,
    /// TLS with a certificate that names the host.
    Verify,
}

impl Level {
    /// The level in force when there is a login: credentials never cross an unencrypted connection.
    pub fn with_login(self, login: bool) -> Self {
        if login { self.max(Self::Encrypt) } else { self }
    }
}

/// What a message demands of every connection that carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Less than nothing: what the other side has published is not asked for (RFC 8689 section 5).
    Waived,
    /// Nothing.
    #[default]
    Nothing,
    /// REQUIRETLS (RFC 8689): TLS with a server that has proved who it is.
    AuthenticatedTls,
}

impl Need {
    /// What a message's sender asked for.
    pub fn of(envelope: &Envelope) -> Self {
        match (envelope.require_tls, envelope.tls_optional) {
            (true, _) => Self::AuthenticatedTls,
            (false, true) => Self::Waived,
            (false, false) => Self::Nothing,
        }
    }

    /// What a failed set-up means to a message with this need: without a server that can prove itself there is nothing to
    /// wait for (RFC 8689 section 4.2.1).
    #[must_use]
    pub fn unmet(self, failure: Failure) -> Failure {
        match (self, failure) {
            (Self::AuthenticatedTls, Failure::TlsNotOffered | Failure::TlsHandshake(_)) => Failure::NoRequireTls,
            (_, failure) => failure,
        }
    }

    /// Is this failure due to the need? Then it says nothing about mail that needs less.
    pub fn is_why(self, failure: &Failure) -> bool {
        match self {
            Self::Waived => false,
            Self::Nothing => *failure == Failure::TlsNotOffered || failure.stage() == Stage::StartTls,
            Self::AuthenticatedTls => *failure == Failure::NoRequireTls || failure.stage() == Stage::StartTls,
        }
    }
}

/// What DNS says of a host's certificate (RFC 7672 section 2.1). An answer that is bogus or does not come is not here:
/// such a host is not used at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dane {
    /// No TLSA records, or none that DNSSEC vouches for.
    #[default]
    Absent,
    /// Secure records, of which none can be used: TLS with whomever (section 2.2).
    Unusable,
    /// Secure records; the certificate must match one.
    Records(Arc<Pins>),
}

/// What the policy of the recipient's domain says of a host (RFC 8461).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sts {
    /// No policy.
    #[default]
    Off,
    /// `testing`: it is not obeyed, but the domain wants to hear what comes of it (RFC 8460).
    Testing {
        /// Is the host one of those it names?
        listed: bool,
    },
    /// `enforce`, and the host is one of those it names.
    Enforce,
    /// `enforce`, and the host is none of those: not used at all, unless DANE vouches for it.
    Unlisted,
}

/// What the other side has published about one of its hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// In the DNS.
    pub dane: Dane,
    /// On its web server.
    pub sts: Sts,
}

/// A host that must not be used: the policy of the domain does not name it (RFC 8461 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotListed;

/// All that has a say.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The host's name, as MX or the configuration gives it.
    pub host: &'a Arc<str>,
    /// Of the route, the destination, or in general.
    pub level: Level,
    /// A user name and a password will be sent.
    pub login: bool,
    /// It speaks TLS from the first octet, so nothing else will do.
    pub implicit: bool,
    /// What the other side says.
    pub published: &'a Published,
    /// The most that a message at hand demands.
    pub need: Need,
    /// TLS failed with this host lately.
    pub failed_lately: bool,
}

/// What the certificate of the host must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: encryption against those who only listen.
    Any,
    /// Nothing either, but it is told whether there is a chain to a trusted root, for this name.
    Judged {
        /// Of the host.
        name: Arc<str>,
    },
    /// A chain to a trusted root, for this name.
    WebPki {
        /// Of the host.
        name: Arc<str>,
    },
    /// A match with one of these (RFC 7672 section 3).
    Dane(Arc<Pins>),
}

impl Trust {
    /// Does a handshake prove who is there?
    pub const fn proves(&self) -> bool {
        matches!(self, Self::WebPki { .. } | Self::Dane(_))
    }

    /// Postfix' word for a certificate that was taken for this reason.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Any | Self::Judged { .. } => "Untrusted",
            Self::WebPki { .. } | Self::Dane(_) => "Verified",
        }
    }
}

/// Whose word counted, for metrics and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// [`Level::None`]
    None,
    /// [`Level::May`]
    Opportunistic,
    /// [`Level::Encrypt`], or a login.
    Encrypt,
    /// [`Level::Verify`], or a message's demand.
    Verify,
    /// DANE.
    Dane,
    /// MTA-STS.
    MtaSts,
}

impl Label {
    /// All, in order.
    pub const ALL: [Self; 6] = [Self::None, Self::Opportunistic, Self::Encrypt, Self::Verify, Self::Dane, Self::MtaSts];

    /// The word in metrics and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Opportunistic => "opportunistic",
            Self::Encrypt => "encrypt",
            Self::Verify => "verify",
            Self::Dane => "dane",
            Self::MtaSts => "mta-sts",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one host is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// What the client session is told.
    pub starttls: Tls,
    /// What the handshake checks.
    pub trust: Trust,
    /// May the host be tried again in plaintext after a failed handshake?
    pub fallback: bool,
    /// Whose word this is.
    pub label: Label,
    /// The other side may have asked for more, and was not heard.
    pub waived: bool,
}

/// How to speak to a host.
///
/// # Errors
/// Not at all.
pub fn decide(facts: &Facts<'_>) -> Result<Security, NotListed> {
    let level = lowest(facts.level, facts.login || facts.implicit, facts.need);
    let mut security = match (&facts.published.dane, facts.published.sts) {
        _ if level == Level::None => by_level(facts, level),
        _ if facts.need == Need::Waived => Security { waived: true, ..by_level(facts, level) },
        (Dane::Records(pins), _) => required(Trust::Dane(pins.clone()), Label::Dane),
        (_, Sts::Unlisted) => return Err(NotListed),
        (_, Sts::Enforce) => required(web(facts), Label::MtaSts),
        (Dane::Unusable, _) if level < Level::Verify => required(Trust::Any, Label::Dane),
        _ => by_level(facts, level),
    };
    let is_tested = matches!(facts.published.sts, Sts::Testing { .. }) && security.starttls != Tls::Off;
    if is_tested && security.trust == Trust::Any {
        security.trust = Trust::Judged { name: facts.host.clone() };
    }
    if facts.implicit {
        security.starttls = Tls::Implicit;
    }
    Ok(security)
}

/// Does it matter what the other side has published? `encrypted`: a login or implicit TLS leave no other way.
pub fn asks_what_is_published(level: Level, encrypted: bool, need: Need) -> bool {
    need > Need::Waived && lowest(level, encrypted, need) > Level::None
}

/// The level below which nothing brings a host.
fn lowest(level: Level, encrypted: bool, need: Need) -> Level {
    let demand = if need == Need::AuthenticatedTls { Level::Verify } else { Level::None };
    level.with_login(encrypted).max(demand)
}

fn by_level(facts: &Facts<'_>, level: Level) -> Security {
    let plain = |label| Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label, waived: false };
    match level {
        Level::None => plain(Label::None),
        Level::May if facts.failed_lately => plain(Label::Opportunistic),
        Level::May => Security { starttls: Tls::IfOffered, fallback: true, ..plain(Label::Opportunistic) },
        Level::Encrypt => required(Trust::Any, Label::Encrypt),
        Level::Verify => required(web(facts), Label::Verify),
    }
}

const fn required(trust: Trust, label: Label) -> Security {
    Security { starttls: Tls::Required, trust, fallback: false, label, waived: false }
}

fn web(facts: &Facts<'_>) -> Trust {
    Trust::WebPki { name: facts.host.clone() }
}

impl Security {
    /// May a message with this need travel over a connection like that? To be asked before every MAIL.
    pub fn satisfies(&self, need: Need) -> bool {
        match need {
            Need::Waived => true,
            Need::Nothing => !self.waived,
            Need::AuthenticatedTls => !self.waived && self.starttls.is_required() && self.trust.proves(),
        }
    }

    /// Was TLS left out because it failed lately?
    pub fn is_fallback(&self) -> bool {
        self.label == Label::Opportunistic && self.starttls == Tls::Off
    }

    /// After this failure: may the same host be tried again at once, in plaintext, on a new connection?
    ///
    /// Only if the handshake was what failed. Injected plaintext is an attack, not a broken server, and is not rewarded.
    pub fn falls_back_after(&self, failure: &Failure) -> bool {
        let handshake_failed = match failure {
            Failure::TlsHandshake(_) => true,
            Failure::Lost { stage } | Failure::TimedOut { stage } => *stage == Stage::StartTls,
            _ => false,
        };
        self.fallback && handshake_failed
    }
}

#[cfg(test)]
mod tests;
