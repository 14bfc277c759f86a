//! AUTH (RFC 4954): `AUTH mechanism [initial-response]`, then challenges and responses in base64.
//!
//! The exchange is opaque here: the mechanism lives in the authentication service. What the client says is kept in
//! [`Secret`], which nothing can print and which is wiped when it goes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

use super::{Command, Place, Row};
use crate::Reply;
use crate::standing::Standing;

/// Its row in the table of verbs.
pub(super) const ROW: Row = Row {
    name: "AUTH",
    parse: |standing, arguments| Auth::check(standing, arguments).map(Command::Auth),
    place: Place::Last,
    secret: true,
    goes_on: true,
    usage: "AUTH mechanism [initial-response]",
    ..Row::PLAIN
};

/// Longest response to a challenge, in base64 (RFC 4954 section 4).
pub const MAX_RESPONSE: usize = 12_288;

/// Longest AUTH line: a response behind the command and the name of a mechanism.
pub const MAX_AUTH_LINE: usize = MAX_RESPONSE + 64;

/// What a client said in an authentication exchange, decoded.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the octets over.
    pub fn new(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    /// The octets; keep them out of logs.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Decodes base64 as RFC 4648 section 4 has it, padding required; `None` if it is none.
    pub fn from_base64(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok().map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// An AUTH command that the protocol has nothing against.
#[derive(Debug, PartialEq, Eq)]
pub struct Auth {
    /// In capitals, one of those on offer.
    pub mechanism: String,
    /// The initial response; `=` is one of no octets.
    pub initial: Option<Secret>,
}

impl Auth {
    /// The ladder of AUTH.
    pub fn check(standing: &Standing<'_>, arguments: &str) -> Result<Self, Reply> {
        standing.check_introduced()?;
        if standing.mechanisms().next().is_none() {
            return Err(Reply::authentication_not_enabled());
        }
        // RFC 4954 section 4: not within a transaction, not twice.
        if standing.transaction.is_some() {
            return Err(Reply::transaction_in_progress());
        }
        if !standing.encrypted {
            return Err(Reply::encryption_required());
        }
        if standing.login.is_some() {
            return Err(Reply::already_authenticated());
        }
        let mut words = arguments.split_ascii_whitespace();
        let (Some(word), initial, None) = (words.next(), words.next(), words.next()) else {
            return Err(Reply::auth_syntax());
        };
        let mechanism = standing.mechanisms().find(|name| name.eq_ignore_ascii_case(word));
        let mechanism = mechanism.ok_or_else(Reply::unknown_mechanism)?.to_ascii_uppercase();
        Ok(Self { mechanism, initial: initial.map(initial_response).transpose()? })
    }
}

/// RFC 4954 section 4: `=` stands for an initial response of no octets.
fn initial_response(text: &str) -> Result<Secret, Reply> {
    if text == "=" {
        return Ok(Secret::default());
    }
    Secret::from_base64(text).ok_or_else(Reply::malformed_initial_response)
}

/// What a client answers to a challenge.
#[derive(Debug, PartialEq, Eq)]
pub enum Response {
    /// `*`: it gives up.
    Cancel,
    /// Its answer.
    Octets(Secret),
}

impl Response {
    /// Parses the line; refuses what is no base64.
    pub fn parse(line: &str) -> Result<Self, Reply> {
        match line {
            "*" => Ok(Self::Cancel),
            _ => Secret::from_base64(line).map(Self::Octets).ok_or_else(Reply::malformed_response),
        }
    }
}

/// `334 <base64>`; a challenge of no octets leaves the blank standing (RFC 4954 section 4).
pub fn challenge(octets: &[u8]) -> Reply {
    Reply::challenge(STANDARD.encode(octets))
}

#[cfg(test)]
mod tests {
    use staffetta_mail::ReversePath;

    use super::*;
    use crate::standing::MailParameters;
    use crate::standing::tests::standing;
    use crate::standing::{Helo, Settings, Transaction};

    const CHAPTER: &str = "am9obkBleGFtcGxlLm9yZwBqb2huQGV4YW1wbGUub3JnAHN1bW1lcnN1bg==";

    fn settings() -> Settings {
        Settings { mechanisms: vec!["PLAIN".into(), "LOGIN".into()], ..Settings::default() }
    }

    #[test]
    fn the_chapters_string_is_john_john_summersun() {
        let (settings, helo) = (settings(), Helo { name: "x".into(), extended: true });
        let ready = Standing { helo: Some(&helo), encrypted: true, ..standing(&settings) };
        let auth = Auth::check(&ready, &format!("plain {CHAPTER}"));
        let secret = Secret::new(b"john@example.org\0john@example.org\0summersun".to_vec());
        assert_eq!(auth, Ok(Auth { mechanism: "PLAIN".into(), initial: Some(secret) }));
        let auth = Auth::check(&ready, "LOGIN");
        assert_eq!(auth, Ok(Auth { mechanism: "LOGIN".into(), initial: None }));
        let auth = Auth::check(&ready, "PLAIN =");
        assert_eq!(auth, Ok(Auth { mechanism: "PLAIN".into(), initial: Some(Secret::default()) }));
    }

    #[test]
    fn rfc4954_the_ladder() {
        let (with, without) = (settings(), Settings::default());
        let helo = Helo { name: "x".into(), extended: true };
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let clear = Standing { helo: Some(&helo), ..standing(&with) };
        let ready = Standing { encrypted: true, ..clear };
        for (standing, arguments, reply) in [
            (standing(&with), "PLAIN", Reply::helo_first()),
            (Standing { settings: &without, ..ready }, "PLAIN", Reply::authentication_not_enabled()),
            (Standing { transaction: Some(&transaction), ..ready }, "PLAIN", Reply::transaction_in_progress()),
            (clear, "PLAIN", Reply::encryption_required()),
            (Standing { login: Some("john"), ..ready }, "PLAIN", Reply::already_authenticated()),
            (ready, "", Reply::auth_syntax()),
            (ready, "PLAIN a b", Reply::auth_syntax()),
            (ready, "FOO", Reply::unknown_mechanism()),
            (ready, "FOO !!!!", Reply::unknown_mechanism()),
            (ready, "PLAIN !!!!", Reply::malformed_initial_response()),
            (ready, "PLAIN YQ", Reply::malformed_initial_response()),
        ] {
            assert_eq!(Auth::check(&standing, arguments), Err(reply), "{arguments}");
        }
    }

    #[test]
    fn responses() {
        assert_eq!(Response::parse("*"), Ok(Response::Cancel));
        assert_eq!(Response::parse(""), Ok(Response::Octets(Secret::default())));
        assert_eq!(Response::parse("YQ=="), Ok(Response::Octets(Secret::new(b"a".to_vec()))));
        assert_eq!(Response::parse("Y Q=="), Err(Reply::malformed_response()));
        assert_eq!(challenge(b"Username:").to_string(), "334 VXNlcm5hbWU6");
        assert_eq!(challenge(b"").to_string(), "334 ");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new(b"summersun".to_vec())), "Secret(…)");
    }
}
