//! Logins that come again: a client that opens a connection for each message shows the same credentials every time. When
//! the auth service has said for how long they need not be asked about again, the same ones from the same address cost
//! neither a call nor a token of a limit. **Anything else is asked about**, so nobody can guess by it, and so are these once
//! the login was revoked (`staffetta user …`), or while this pod may be missing that it was.
//!
//! Kept are a seal of the credentials ([`staffetta_policy::seal`]) and what the service said, of PLAIN and LOGIN alone:
//! other mechanisms never show the same thing twice, or a token that the service reads.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use staffetta_policy::seal::{Seal, Sealed};
use staffetta_proto::auth::v1::authenticate_response::Limits;
use staffetta_queue::Revocations;

/// Entries kept at most; each takes some 300 octets.
const MAX_ENTRIES: u64 = 100_000;

/// Credentials as a client shows them: the mechanism, and its one or two messages.
pub(crate) type Shown<'a> = [&'a [u8]; 3];

/// Whom they let in, and until when that needs no question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    pub(crate) login: String,
    /// What is said of this account alone.
    pub(crate) limits: Option<Limits>,
    /// Zero: it is asked every time.
    pub(crate) good_for: Duration,
}

/// The memory of a pod.
pub(crate) struct Repeated {
    seal: Seal,
    entries: Cache<Sealed, Entry>,
    revocations: Revocations,
}

#[derive(Clone)]
struct Entry {
    admitted: Admitted,
    /// What had been heard of revocations when the service was asked.
    since: u64,
    until: Instant,
}

/// Each entry ends when the service said.
struct AsTold;

impl Expiry<Sealed, Entry> for AsTold {
    fn expire_after_create(&self, _: &Sealed, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.admitted.good_for)
    }

    fn expire_after_update(&self, _: &Sealed, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.admitted.good_for)
    }
}

impl Repeated {
    pub(crate) fn new(secret: [u8; 32], revocations: Revocations) -> Self {
        let entries = Cache::builder().max_capacity(MAX_ENTRIES).expire_after(AsTold).build();
        Self { seal: Seal::new(secret), entries, revocations }
    }

    /// What these credentials are known by, shown by this client. Where it is, and that nobody listens, the back end may
    /// have looked at.
    pub(crate) fn seal(&self, client: IpAddr, encrypted: bool, shown: Shown<'_>) -> Sealed {
        let client = client.to_string();
        self.seal.of([client.as_bytes(), &[u8::from(encrypted)]].into_iter().chain(shown))
    }

    /// What the service said, if that still counts.
    pub(crate) fn find(&self, credentials: &Sealed) -> Option<Admitted> {
        let entry = self.entries.get(credentials)?;
        if !self.revocations.is_current() {
            return None;
        }
        if entry.until <= Instant::now() || self.revocations.is_revoked(&entry.admitted.login, entry.since) {
            self.entries.invalidate(credentials);
            return None;
        }
        Some(entry.admitted)
    }

    /// Keeps what the service said; `since` is [`Revocations::version`] of before it was asked.
    pub(crate) fn note(&self, credentials: Sealed, admitted: &Admitted, since: u64) {
        if let Some(until) = Instant::now().checked_add(admitted.good_for)
            && !admitted.good_for.is_zero()
        {
            self.entries.insert(credentials, Entry { admitted: admitted.clone(), since, until });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_config::Config;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const JOHN: Shown<'static> = [b"PLAIN", b"\0john\0summersun", b""];

    fn admitted(good_for: Duration) -> Admitted {
        Admitted { login: "John".to_owned(), limits: None, good_for }
    }

    /// Follows no journal: it may be missing anything.
    fn alone() -> Repeated {
        let config = Config::parse("hostname = \"a.example\"\nredis.url = \"redis://127.0.0.1:1\"\n", "t").unwrap();
        Repeated::new([7; 32], Revocations::follow(&(&config).into(), CancellationToken::new()).unwrap())
    }

    #[tokio::test]
    async fn other_credentials_and_other_clients_are_others() {
        let repeated = alone();
        let seal = |shown| repeated.seal(HERE, true, shown);
        let seals = [
            seal(JOHN),
            seal([b"PLAIN", b"\0john\0summersum", b""]),
            seal([b"PLAIN", b"john\0john\0summersun", b""]),
            seal([b"LOGIN", b"john", b"summersun"]),
            seal([b"LOGIN", b"johns", b"ummersun"]),
            repeated.seal(HERE, false, JOHN),
            repeated.seal("::1".parse().unwrap(), true, JOHN),
        ];
        assert!((1..seals.len()).all(|at| !seals[..at].contains(&seals[at])));
        assert_eq!(seal(JOHN), seals[0]);
    }

    #[tokio::test]
    async fn what_need_not_be_kept_is_not_and_what_may_be_revoked_does_not_count() {
        let repeated = alone();
        let seal = repeated.seal(HERE, true, JOHN);
        repeated.note(seal, &admitted(Duration::ZERO), 0);
        assert!(!repeated.entries.contains_key(&seal));
        repeated.note(seal, &admitted(Duration::MAX), 0);
        assert!(!repeated.entries.contains_key(&seal), "no clock goes so far");
        repeated.note(seal, &admitted(Duration::from_secs(300)), 0);
        assert!(repeated.entries.contains_key(&seal));
        assert_eq!(repeated.find(&seal), None, "without Redis nobody knows whether it was revoked");
    }
}
