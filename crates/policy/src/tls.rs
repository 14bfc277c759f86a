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
//! message's demand do. Plaintext after a failed handshake, now or remembered, is for `may` alone.
//!
//! A connection keeps its [`Security`], and a message is offered to it only if that [satisfies](Security::satisfies)
//! the message's [`Need`]: what was good enough for the message that opened it may not be for the next one.

use std::fmt;
use std::sync::Arc;

use staffetta_smtp::client::{Failure, Stage, Tls};

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
    /// Nothing.
    #[default]
    Nothing,
    /// REQUIRETLS (RFC 8689): TLS with a server that has proved who it is.
    AuthenticatedTls,
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
    Records(Arc<[Tlsa]>),
}

/// One TLSA record (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: a CA of the chain; 3: the server's own certificate.
    pub usage: u8,
    /// 0: the certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: SHA-256; 2: SHA-512.
    pub matching: u8,
    /// What it must be.
    pub data: Vec<u8>,
}

/// What the policy of the recipient's domain says of a host (RFC 8461). A host that an enforced policy does not name is
/// not used at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sts {
    /// No policy, or one that is only tested.
    #[default]
    Off,
    /// `enforce`
    Enforce,
}

/// All that has a say.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The host's name, as MX or the configuration gives it.
    pub host: &'a Arc<str>,
    /// Of the route, the destination, or in general.
    pub level: Level,
    /// A user name and a password will be sent.
    pub login: bool,
    /// What DNS says.
    pub dane: Dane,
    /// What the domain says.
    pub sts: Sts,
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
    /// A chain to a trusted root, for this name.
    WebPki {
        /// Of the host.
        name: Arc<str>,
    },
    /// A match with one of these (RFC 7672 section 3).
    Dane(Arc<[Tlsa]>),
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
}

/// How to speak to a host.
pub fn decide(facts: &Facts<'_>) -> Security {
    let demand = if facts.need == Need::AuthenticatedTls { Level::Verify } else { Level::None };
    let level = facts.level.with_login(facts.login).max(demand);
    match (&facts.dane, facts.sts) {
        _ if level == Level::None => by_level(facts, level),
        (Dane::Records(records), _) => required(Trust::Dane(records.clone()), Label::Dane),
        (_, Sts::Enforce) => required(web(facts), Label::MtaSts),
        (Dane::Unusable, _) if level < Level::Verify => required(Trust::Any, Label::Dane),
        _ => by_level(facts, level),
    }
}

fn by_level(facts: &Facts<'_>, level: Level) -> Security {
    let plain = |label| Security { starttls: Tls::Off, trust: Trust::Any, fallback: false, label };
    match level {
        Level::None => plain(Label::None),
        Level::May if facts.failed_lately => plain(Label::Opportunistic),
        Level::May => Security { starttls: Tls::IfOffered, fallback: true, ..plain(Label::Opportunistic) },
        Level::Encrypt => required(Trust::Any, Label::Encrypt),
        Level::Verify => required(web(facts), Label::Verify),
    }
}

const fn required(trust: Trust, label: Label) -> Security {
    Security { starttls: Tls::Required, trust, fallback: false, label }
}

fn web(facts: &Facts<'_>) -> Trust {
    Trust::WebPki { name: facts.host.clone() }
}

impl Security {
    /// May a message with this need travel over a connection like that? To be asked before every MAIL.
    pub fn satisfies(&self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::AuthenticatedTls => self.starttls == Tls::Required && self.trust != Trust::Any,
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
mod tests {
    use super::*;

    const LEVELS: [Level; 4] = [Level::None, Level::May, Level::Encrypt, Level::Verify];

    fn facts(host: &Arc<str>, level: Level) -> Facts<'_> {
        Facts {
            host,
            level,
            login: false,
            dane: Dane::Absent,
            sts: Sts::Off,
            need: Need::Nothing,
            failed_lately: false,
        }
    }

    fn host() -> Arc<str> {
        "mx.example.net".into()
    }

    fn records() -> Dane {
        Dane::Records([Tlsa { usage: 3, selector: 1, matching: 1, data: vec![1; 32] }].into())
    }

    /// `label: starttls trust`, and ` fallback`.
    fn shown(facts: &Facts<'_>) -> String {
        let Security { starttls, trust, fallback, label } = decide(facts);
        let trust = match trust {
            Trust::Any => "any".to_owned(),
            Trust::WebPki { name } => format!("web {name}"),
            Trust::Dane(_) => "dane".to_owned(),
        };
        format!("{label}: {starttls:?} {trust}{}", if fallback { " fallback" } else { "" })
    }

    #[test]
    fn the_strongest_word_counts() {
        let host = host();
        let none = "none: Off any";
        let may = "opportunistic: IfOffered any fallback";
        let encrypt = "encrypt: Required any";
        let verify = "verify: Required web mx.example.net";
        let dane = "dane: Required dane";
        let sts = "mta-sts: Required web mx.example.net";
        // What else is known, and what becomes of none, may, encrypt and verify.
        for (login, dane_found, sts_found, need, expected) in [
            (false, Dane::Absent, Sts::Off, Need::Nothing, [none, may, encrypt, verify]),
            (true, Dane::Absent, Sts::Off, Need::Nothing, [encrypt, encrypt, encrypt, verify]),
            (false, Dane::Absent, Sts::Off, Need::AuthenticatedTls, [verify; 4]),
            (false, Dane::Absent, Sts::Enforce, Need::Nothing, [none, sts, sts, sts]),
            (true, Dane::Absent, Sts::Enforce, Need::Nothing, [sts; 4]),
            (false, records(), Sts::Off, Need::Nothing, [none, dane, dane, dane]),
            (false, records(), Sts::Enforce, Need::AuthenticatedTls, [dane; 4]),
            (
                false,
                Dane::Unusable,
                Sts::Off,
                Need::Nothing,
                [none, "dane: Required any", "dane: Required any", verify],
            ),
            (false, Dane::Unusable, Sts::Enforce, Need::Nothing, [none, sts, sts, sts]),
            (false, Dane::Unusable, Sts::Off, Need::AuthenticatedTls, [verify; 4]),
        ] {
            for (level, expected) in LEVELS.into_iter().zip(expected) {
                let facts = Facts { login, dane: dane_found.clone(), sts: sts_found, need, ..facts(&host, level) };
                assert_eq!(shown(&facts), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn a_remembered_failure_counts_at_may_and_nowhere_else() {
        let host = host();
        let failed = |level| Facts { failed_lately: true, ..facts(&host, level) };
        assert_eq!(shown(&failed(Level::May)), "opportunistic: Off any");
        assert!(decide(&failed(Level::May)).is_fallback());
        for level in [Level::None, Level::Encrypt, Level::Verify] {
            assert_eq!(shown(&failed(level)), shown(&facts(&host, level)));
            assert!(!decide(&failed(level)).is_fallback());
        }
        let raised: [Facts<'_>; 4] = [
            Facts { login: true, ..failed(Level::May) },
            Facts { dane: records(), ..failed(Level::May) },
            Facts { sts: Sts::Enforce, ..failed(Level::May) },
            Facts { need: Need::AuthenticatedTls, ..failed(Level::May) },
        ];
        for facts in raised {
            let security = decide(&facts);
            assert_eq!((security.starttls, security.is_fallback()), (Tls::Required, false), "{facts:?}");
        }
    }

    #[test]
    fn only_a_failed_handshake_at_may_is_retried_in_plaintext() {
        let host = host();
        let handshake = Failure::TlsHandshake("no shared cipher".to_owned());
        let may = facts(&host, Level::May);
        for (facts, failure, retry) in [
            (may.clone(), &handshake, true),
            (may.clone(), &Failure::Lost { stage: Stage::StartTls }, true),
            (may.clone(), &Failure::TimedOut { stage: Stage::StartTls }, true),
            (may.clone(), &Failure::TlsInjection, false),
            (may.clone(), &Failure::Lost { stage: Stage::Helo }, false),
            (may.clone(), &Failure::Lost { stage: Stage::Mail }, false),
            (Facts { failed_lately: true, ..may.clone() }, &handshake, false),
            (Facts { login: true, ..may.clone() }, &handshake, false),
            (Facts { need: Need::AuthenticatedTls, ..may.clone() }, &handshake, false),
            (Facts { dane: Dane::Unusable, ..may.clone() }, &handshake, false),
            (Facts { sts: Sts::Enforce, ..may }, &handshake, false),
            (facts(&host, Level::None), &handshake, false),
            (facts(&host, Level::Encrypt), &handshake, false),
            (facts(&host, Level::Verify), &handshake, false),
        ] {
            assert_eq!(decide(&facts).falls_back_after(failure), retry, "{facts:?} {failure:?}");
        }
    }

    #[test]
    fn rfc8689_a_message_that_demands_tls_goes_only_to_who_has_proved_its_name() {
        let host = host();
        for level in LEVELS {
            let security = decide(&facts(&host, level));
            assert!(security.satisfies(Need::Nothing));
            assert_eq!(security.satisfies(Need::AuthenticatedTls), level == Level::Verify, "{level:?}");
            // What is decided for such a message is good enough for it.
            let demanded = decide(&Facts { need: Need::AuthenticatedTls, ..facts(&host, level) });
            assert!(demanded.satisfies(Need::AuthenticatedTls));
        }
        assert!(decide(&Facts { dane: records(), ..facts(&host, Level::May) }).satisfies(Need::AuthenticatedTls));
        assert!(!decide(&Facts { dane: Dane::Unusable, ..facts(&host, Level::May) }).satisfies(Need::AuthenticatedTls));
    }
}
