//! Guesses at passwords: what limits the client and what limits the login, asked in one go.
//!
//! The limit of a login must not be a way to lock its owner out. So it does not hold for networks from which the login was
//! used lately: a sorted set of at most [`ROOM`] for each login, forgotten after [`LIFE`]. Only logins that have
//! succeeded have one. Login and network are kept as digests: people type passwords where the name belongs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::inquiry::{ask, next};
use crate::limit::{self, Limiter};
use crate::op::unexpected;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;

/// Of what is kept of logins.
pub(crate) const SCOPE: &str = "login";
/// What ACQUAINT answers of a network that was not known.
const NEW: i64 = 2;
/// How long a network is known.
const LIFE: Duration = Duration::from_secs(30 * 86_400);
/// What was noted within this time is not noted again: a client that logs in for each message costs no writes.
const FRESH: Duration = Duration::from_secs(86_400);
/// Networks that are known of a login.
const ROOM: u64 = 32;
/// Octets of a digest that stand for a login, and for a network.
const LOGIN: usize = 12;
const NETWORK: usize = 8;

/// The limits of one kind of server. What to do while Redis is away is the caller's decision.
pub struct Guesses {
    shared: Arc<Shared>,
    per_client: Option<Limiter>,
    per_login: Option<Limiter>,
}

/// A login as somebody in some network uses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Usage {
    login: Box<str>,
    network: Option<[u8; NETWORK]>,
}

/// What became of the wish to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The client has guesses left, and one less now; or is not limited.
    pub client: bool,
    /// And of the login.
    pub login: Permit,
}

/// May somebody guess at a login?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Without end: there is no limit, or the login was used from there lately.
    Free,
    /// There was a token, which is taken.
    Token,
    /// No.
    No,
}

impl Usage {
    /// Upper case and space around a name are the same login to many databases. Without a network it is always a stranger's.
    pub fn new(login: &str, network: Option<IpAddr>) -> Self {
        let digest = Sha256::digest(login.trim().to_lowercase());
        let mut hex = String::with_capacity(2 * LOGIN);
        for octet in &digest[..LOGIN] {
            let _ = write!(hex, "{octet:02x}");
        }
        Self { login: hex.into(), network: network.map(stand_in) }
    }

    /// Stands for the login.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Without a network nothing can be known of it.
    pub fn has_network(&self) -> bool {
        self.network.is_some()
    }
}

/// Stands for a network.
fn stand_in(ip: IpAddr) -> [u8; NETWORK] {
    let mut octets = [0; NETWORK];
    octets.copy_from_slice(&Sha256::digest(ip.to_string())[..NETWORK]);
    octets
}

impl Guesses {
    pub(crate) fn new(shared: Arc<Shared>, per_client: Option<Limiter>, per_login: Option<Limiter>) -> Self {
        Self { shared, per_client, per_login }
    }

    /// Takes a token of the client and one of the login. `None` is not limited.
    ///
    /// # Errors
    /// Redis is away or does not answer within a second; tokens may be taken.
    pub async fn take(&self, client: Option<&str>, usage: Option<&Usage>) -> Result<Taken, Error> {
        let client = self.per_client.as_ref().zip(client).map(|(limiter, who)| limiter.command(who, 1.0));
        let login = self.per_login.as_ref().zip(usage).map(|(limiter, usage)| guess(limiter, usage));
        let asked = (client.is_some(), login.is_some());
        let mut answers = ask(&self.shared, client.into_iter().chain(login)).await?.into_iter();
        Ok(Taken {
            client: !asked.0 || limit::read(&next(&mut answers)?)?.tokens > 0,
            login: if asked.1 { permit(&next(&mut answers)?)? } else { Permit::Free },
        })
    }

    /// Gives back what was taken of the client and of the login, and remembers from where a login was used. True: that
    /// network was not known.
    ///
    /// # Errors
    /// As [`Self::take`]. Do not repeat it then: time brings the tokens back, and twice would be too many.
    pub async fn settle(&self, client: Option<&str>, login: Option<&str>, used: Option<&Usage>) -> Result<bool, Error> {
        let client = self.per_client.as_ref().zip(client).map(|(limiter, who)| limiter.command(who, -1.0));
        let login = self.per_login.as_ref().zip(login).map(|(limiter, who)| limiter.command(who, -1.0));
        let used = used.and_then(acquaint);
        let asked = used.is_some();
        let mut last = None;
        for answer in ask(&self.shared, client.into_iter().chain(login).chain(used)).await? {
            last = value::integer(&answer?);
        }
        Ok(asked && last == Some(NEW))
    }
}

fn guess(limiter: &Limiter, usage: &Usage) -> Cmd {
    let bucket = limiter.bucket(&usage.login);
    let (interval, size) = limiter.measure();
    script::Guess {
        bucket: &bucket,
        known: &known(usage),
        network: usage.network.as_ref().map_or(&[][..], |network| network).into(),
        life: LIFE.into(),
        tokens: Arg::Real(1.0),
        interval,
        size,
    }
    .call()
}

fn acquaint(usage: &Usage) -> Option<Cmd> {
    let network = usage.network.as_ref()?;
    let known = known(usage);
    let (life, fresh) = (LIFE.into(), FRESH.into());
    Some(script::Acquaint { known: &known, network: network[..].into(), life, fresh, room: ROOM.into() }.call())
}

/// The key of the networks that a login was used from, beside its bucket.
fn known(usage: &Usage) -> String {
    limit::bucket(SCOPE, &usage.login) + "known"
}

/// What GUESS answers.
fn permit(answer: &Value) -> Result<Permit, Error> {
    match value::array(answer).first().and_then(value::integer) {
        Some(-1) => Ok(Permit::Free),
        Some(0) => Ok(Permit::No),
        Some(1) => Ok(Permit::Token),
        _ => Err(unexpected("guess", answer).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_the_same_in_any_case_and_never_stands_in_its_key() {
        let usage = |name| Usage::new(name, None);
        for same in ["John@Example.ORG", " john@example.org ", "JOHN@EXAMPLE.ORG"] {
            assert_eq!(usage(same), usage("john@example.org"), "{same}");
        }
        assert_ne!(usage("john"), usage("jon"));
        let long = usage(&"x".repeat(9_000));
        assert!(long.login().len() == 24 && !long.login().contains("xx"));
    }
}
