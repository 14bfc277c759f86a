//! TLS towards other servers: what each level asks for, and what a failed handshake means.
//!
//! | level | STARTTLS not offered | handshake fails | certificate |
//! |---|---|---|---|
//! | `none` | – | – | – |
//! | `may` | plaintext | plaintext, on a new connection to the same host (RFC 7435) | not checked |
//! | `encrypt` | next host, then 4.7.4 | next host, then 4.7.5 | not checked |
//! | `verify` | next host, then 4.7.4 | next host, then 4.7.5 | must match the host |
//!
//! A login makes at least `encrypt` of every level: credentials never cross an unencrypted connection, and there is
//! no plaintext retry with them.

use staffetta_smtp::client::{self, Failure, Stage};

/// How much TLS a destination needs (`delivery.tls`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The level in force when there is a login.
    pub fn with_login(self, login: bool) -> Self {
        if login { self.max(Self::Encrypt) } else { self }
    }

    /// What the client session is told.
    pub const fn session(self) -> client::Tls {
        match self {
            Self::None => client::Tls::Off,
            Self::May => client::Tls::IfOffered,
            Self::Encrypt | Self::Verify => client::Tls::Required,
        }
    }

    /// Must the certificate be valid for the host?
    pub const fn checks_certificate(self) -> bool {
        matches!(self, Self::Verify)
    }
}

/// After this failure of a session: may the same host be tried again on a new connection with [`Level::None`]?
///
/// Only where TLS was an offer, never with a login, and only if the handshake was what failed. Injected plaintext is
/// an attack, not a broken server, and is not rewarded.
pub fn may_retry_in_plaintext(level: Level, login: bool, failure: &Failure) -> bool {
    let handshake_failed = match failure {
        Failure::TlsHandshake(_) => true,
        Failure::Lost { stage } | Failure::TimedOut { stage } => *stage == Stage::StartTls,
        _ => false,
    };
    handshake_failed && level.with_login(login) == Level::May
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_asks_the_session_for_its_tls() {
        for (level, session, checks) in [
            (Level::None, client::Tls::Off, false),
            (Level::May, client::Tls::IfOffered, false),
            (Level::Encrypt, client::Tls::Required, false),
            (Level::Verify, client::Tls::Required, true),
        ] {
            assert_eq!((level.session(), level.checks_certificate()), (session, checks));
        }
    }

    #[test]
    fn a_login_raises_the_level_and_never_lowers_it() {
        for (level, raised) in [
            (Level::None, Level::Encrypt),
            (Level::May, Level::Encrypt),
            (Level::Encrypt, Level::Encrypt),
            (Level::Verify, Level::Verify),
        ] {
            assert_eq!((level.with_login(true), level.with_login(false)), (raised, level));
        }
    }

    #[test]
    fn only_a_failed_handshake_at_may_without_login_is_retried_in_plaintext() {
        let handshake = Failure::TlsHandshake("no shared cipher".to_owned());
        for (level, login, failure, retry) in [
            (Level::May, false, &handshake, true),
            (Level::May, false, &Failure::Lost { stage: Stage::StartTls }, true),
            (Level::May, false, &Failure::TimedOut { stage: Stage::StartTls }, true),
            (Level::May, true, &handshake, false),
            (Level::Encrypt, false, &handshake, false),
            (Level::Verify, false, &handshake, false),
            (Level::None, false, &handshake, false),
            (Level::May, false, &Failure::TlsInjection, false),
            (Level::May, false, &Failure::Lost { stage: Stage::Helo }, false),
            (Level::May, false, &Failure::Lost { stage: Stage::Mail }, false),
        ] {
            assert_eq!(may_retry_in_plaintext(level, login, failure), retry, "{level:?} {login} {failure:?}");
        }
    }
}
