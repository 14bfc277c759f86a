//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): it proves that it knows the password without a word of it, and has
//! the server prove that it does. With SCRAM-SHA-256-PLUS both also prove that they are the two ends of one TLS connection
//! (RFC 9266).
//!
//! The server's proof comes as one more challenge, which is answered with nothing (RFC 4954 section 4). Whoever is content with
//! our proof and gives none is not believed.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Octets of SHA-256.
const LENGTH: usize = 32;
/// What RFC 7677 section 4 asks for at least. For less, whoever listens would guess the password from our proof.
const LEAST_ITERATIONS: u32 = 4_096;
/// The work is ours, and the others on this thread wait for it: some thirty milliseconds.
const MOST_ITERATIONS: u32 = 200_000;

type Key = [u8; LENGTH];

/// How the exchange is tied to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Not at all: there is nothing on our side that it could be tied to.
    Unable,
    /// Not at all, as the server does not offer it. One that does knows from this that somebody has hidden its offer.
    NotOffered,
    /// By what both ends derive from the keys of the connection.
    Exporter(Vec<u8>),
}

impl Binding {
    /// RFC 5802 section 7: `gs2-header`, without an identity to act for.
    fn header(&self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::Exporter(_) => "p=tls-exporter,,",
        }
    }

    /// What `c=` says: the header, and what the connection is known by.
    fn input(&self) -> String {
        let data = if let Self::Exporter(data) = self { &data[..] } else { &[] };
        BASE64_STANDARD.encode([self.header().as_bytes(), data].concat())
    }
}

/// One exchange. Never printed: the password is in it.
pub(super) struct Scram {
    binding: Binding,
    password: Zeroizing<String>,
    nonce: String,
    /// What we have said first, without the header.
    bare: String,
    turn: Turn,
}

/// What the server says next.
#[derive(Debug)]
enum Turn {
    /// Salt and iterations.
    First,
    /// That it knows the password, which is said so.
    Last(Key),
    /// Yes: it has proved that it knows the password.
    Proven,
    /// No, after what it said before.
    Over,
}

/// What is answered to a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This.
    Response(String),
    /// Nothing: it is not one of this exchange, or asks for too little or too much.
    Unfit,
    /// Nothing: the server does not know the password.
    Impostor,
    /// Nothing: it was told already that this exchange is over.
    Ended,
}

impl Scram {
    /// `nonce`: printable characters that nobody can guess, and never used twice.
    pub(super) fn new(username: &str, password: &str, nonce: &str, binding: Binding) -> Self {
        let bare = format!("n={},r={nonce}", super::sasl::saslname(&prepared(username)));
        let password = Zeroizing::new(prepared(password));
        Self { binding, password, nonce: nonce.to_owned(), bare, turn: Turn::First }
    }

    /// Our first message.
    pub(super) fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// What is answered to a challenge.
    pub(super) fn respond(&mut self, challenge: &str) -> Answer {
        let (turn, answer) = match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::First => match self.prove(challenge) {
                Some((proof, signature)) => (Turn::Last(signature), Answer::Response(proof)),
                None => (Turn::Over, Answer::Unfit),
            },
            Turn::Last(signature) if challenge == format!("v={}", BASE64_STANDARD.encode(signature)) => {
                (Turn::Proven, Answer::Response(String::new()))
            }
            Turn::Last(_) => (Turn::Over, Answer::Impostor),
            Turn::Proven => (Turn::Over, Answer::Unfit),
            Turn::Over => (Turn::Over, Answer::Ended),
        };
        self.turn = turn;
        answer
    }

    /// Has the server proved that it knows the password?
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.turn, Turn::Proven)
    }

    /// Our proof, and what the server has to say to it (RFC 5802 section 3).
    fn prove(&self, challenge: &str) -> Option<(String, Key)> {
        let (nonce, salt, iterations) = parse(challenge)?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return None;
        }
        let salted =
            Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, LENGTH>(self.password.as_bytes(), &salt, iterations));
        let unproven = format!("c={},r={nonce}", self.binding.input());
        let said = format!("{},{challenge},{unproven}", self.bare);
        let mut proof = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(proof).into(), said.as_bytes());
        proof.iter_mut().zip(signature).for_each(|(octet, other)| *octet ^= other);
        let awaited = mac(&mac(&salted, b"Server Key"), said.as_bytes());
        Some((format!("{unproven},p={}", BASE64_STANDARD.encode(proof)), awaited))
    }
}

/// `server-first-message` (RFC 5802 section 7): nonce, salt and iterations. What comes behind them may be overlooked, and
/// what stands in front of them must not be.
fn parse(challenge: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut fields = challenge.split(',');
    let nonce = fields.next()?.strip_prefix("r=")?;
    let salt = BASE64_STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
    (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations).then_some((nonce, salt, iterations))
}

/// RFC 4013; as it is, where it cannot be prepared.
fn prepared(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), Into::into)
}

/// HMAC-SHA-256.
fn mac(key: &Key, message: &[u8]) -> Key {
    // RFC 2104: a key shorter than a block is followed by zeros.
    let mut block = Zeroizing::new([0; 2 * LENGTH]);
    block[..LENGTH].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").field("is_proven", &self.is_proven()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    const LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn pencil(binding: Binding) -> Scram {
        Scram::new("user", "pencil", NONCE, binding)
    }

    fn response(answer: Answer) -> Option<String> {
        if let Answer::Response(text) = answer { Some(text) } else { None }
    }

    #[test]
    fn rfc7677_3_the_example() {
        let mut scram = pencil(Binding::Unable);
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            response(scram.respond(FIRST)).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_proven());
        assert_eq!(response(scram.respond(LAST)).as_deref(), Some(""));
        assert!(scram.is_proven());
        assert_eq!(scram.respond(FIRST), Answer::Unfit, "it is over");
        assert_eq!(scram.respond(FIRST), Answer::Ended);
    }

    #[test]
    fn a_server_that_does_not_know_the_password_proves_nothing() {
        for last in ["v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "e=other-error", "", FIRST] {
            let mut scram = pencil(Binding::Unable);
            response(scram.respond(FIRST)).unwrap();
            assert_eq!(scram.respond(last), Answer::Impostor, "{last}");
            assert_eq!(scram.respond(LAST), Answer::Ended, "there is no second try");
            assert!(!scram.is_proven());
        }
    }

    #[test]
    fn a_challenge_of_another_exchange_or_of_too_little_or_much_work_is_not_answered() {
        for challenge in [
            "",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=another%hvYDpWUa2RaTCAfuxFIlj,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "m=must,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=200001",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
        ] {
            let mut scram = pencil(Binding::Unable);
            assert_eq!(scram.respond(challenge), Answer::Unfit, "{challenge}");
            assert_eq!(scram.respond(FIRST), Answer::Ended, "{challenge}: it is over");
        }
        let more = format!("{FIRST},x=to-be-overlooked");
        assert!(response(pencil(Binding::Unable).respond(&more)).is_some());
    }

    #[test]
    fn what_binds_the_connection_is_said_and_signed() {
        let decoded = |response: &str| {
            let bound = response.strip_prefix("c=").and_then(|rest| rest.split(',').next()).unwrap();
            BASE64_STANDARD.decode(bound).unwrap()
        };
        let mut proofs = Vec::new();
        for (binding, header) in [
            (Binding::Unable, "n,,"),
            (Binding::NotOffered, "y,,"),
            (Binding::Exporter(b"here".to_vec()), "p=tls-exporter,,"),
            (Binding::Exporter(b"there".to_vec()), "p=tls-exporter,,"),
        ] {
            let mut scram = pencil(binding.clone());
            assert!(scram.first().starts_with(&format!("{header}n=user,r=")));
            let response = response(scram.respond(FIRST)).unwrap();
            let data = if let Binding::Exporter(data) = &binding { &data[..] } else { b"" };
            assert_eq!(decoded(&response), [header.as_bytes(), data].concat());
            proofs.push(response.rsplit_once(",p=").unwrap().1.to_owned());
        }
        proofs.sort();
        proofs.dedup();
        assert_eq!(proofs.len(), 4, "each has its own proof");
    }

    #[test]
    fn rfc5802_5_1_names_are_prepared_and_escaped() {
        let first = |name: &str| Scram::new(name, "x", "abc", Binding::Unable).first();
        assert_eq!(first("a,b=c"), "n,,n=a=2Cb=3Dc,r=abc");
        assert_eq!(first("I\u{ad}X"), "n,,n=IX,r=abc", "RFC 4013: a soft hyphen is nothing");
    }
}
