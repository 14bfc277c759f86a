//! What need not be asked again. A client that opens a connection for each message shows the same credentials every time,
//! and sends as the same address. When the auth service has said for how long its answer is good, credentials that were right
//! cost neither a call nor a token of a limit when they come again from the same address, and a sender that was the login's
//! own costs no call. **Anything else is asked about**, and takes a token. Nobody can guess by it, as long as it is only asked
//! for clients who would have a token ([`crate::failures`]): to others a right guess must look like a wrong one. Asked about
//! are these, too, once the login was revoked (`staffetta user …`), or while this pod may be missing that it was.
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

/// Entries kept at most, of each kind; each takes some 300 octets.
const MAX_ENTRIES: u64 = 100_000;

/// Credentials as a client shows them: the mechanism, and its one or two messages.
pub(crate) type Shown<'a> = [&'a [u8]; 3];

/// Whom they let in, and for how long that needs no question.
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
    logins: Answers<Option<Limits>>,
    senders: Answers<()>,
    revocations: Revocations,
}

type Answers<A> = Cache<Sealed, Entry<A>>;

/// What can be kept.
trait Answer: Clone + Send + Sync + 'static {}

impl<A: Clone + Send + Sync + 'static> Answer for A {}

/// An answer that was yes.
#[derive(Clone)]
struct Entry<A> {
    answer: A,
    /// Whom it is about.
    login: String,
    /// What had been heard of revocations when the service was asked.
    since: u64,
    until: Instant,
}

/// Each entry ends when the service said.
struct AsTold;

impl<A> Expiry<Sealed, Entry<A>> for AsTold {
    fn expire_after_create(&self, _: &Sealed, entry: &Entry<A>, now: Instant) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }

    fn expire_after_update(&self, _: &Sealed, entry: &Entry<A>, now: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }
}

impl Repeated {
    pub(crate) fn new(secret: [u8; 32], revocations: Revocations) -> Self {
        Self { seal: Seal::new(secret), logins: answers(), senders: answers(), revocations }
    }

    /// What these credentials are known by, shown by this client. Where it is, and that nobody listens, the back end may
    /// have looked at.
    pub(crate) fn seal(&self, client: IpAddr, encrypted: bool, shown: Shown<'_>) -> Sealed {
        let client = client.to_string();
        self.seal.of([client.as_bytes(), &[u8::from(encrypted)]].into_iter().chain(shown))
    }

    /// Whom these credentials let in without a question.
    pub(crate) fn login(&self, credentials: &Sealed) -> Option<Admitted> {
        let Entry { login, answer: limits, until, .. } = self.find(&self.logins, credentials)?;
        Some(Admitted { login, limits, good_for: until.saturating_duration_since(Instant::now()) })
    }

    /// They let this login in; `since` is [`Revocations::version`] of before that was asked.
    pub(crate) fn note_login(&self, credentials: Sealed, admitted: &Admitted, since: u64) {
        let Admitted { login, limits, good_for } = admitted;
        note(&self.logins, credentials, login, *limits, since, *good_for);
    }

    /// Is the sender the login's own, without a question?
    pub(super) fn owns(&self, login: &str, sender: &str) -> bool {
        self.find(&self.senders, &self.seal.of([login.as_bytes(), sender.as_bytes()])).is_some()
    }

    /// It is; `since` as above.
    pub(super) fn note_sender(&self, login: &str, sender: &str, since: u64, good_for: Duration) {
        note(&self.senders, self.seal.of([login.as_bytes(), sender.as_bytes()]), login, (), since, good_for);
    }

    /// See [`Revocations::version`].
    pub(super) fn version(&self) -> u64 {
        self.revocations.version()
    }

    fn find<A: Answer>(&self, answers: &Answers<A>, key: &Sealed) -> Option<Entry<A>> {
        let entry = answers.get(key)?;
        let counts = entry.until > Instant::now() && self.revocations.vouches_for(&entry.login, entry.since);
        counts.then_some(entry)
    }
}

fn answers<A: Answer>() -> Answers<A> {
    Cache::builder().max_capacity(MAX_ENTRIES).expire_after(AsTold).build()
}

fn note<A: Answer>(answers: &Answers<A>, key: Sealed, login: &str, answer: A, since: u64, good_for: Duration) {
    if let Some(until) = Instant::now().checked_add(good_for)
        && !good_for.is_zero()
    {
        answers.insert(key, Entry { answer, login: login.to_owned(), since, until });
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
        repeated.note_login(seal, &admitted(Duration::ZERO), 0);
        assert!(!repeated.logins.contains_key(&seal));
        repeated.note_login(seal, &admitted(Duration::MAX), 0);
        assert!(!repeated.logins.contains_key(&seal), "no clock goes so far");
        repeated.note_login(seal, &admitted(Duration::from_secs(300)), 0);
        assert!(repeated.logins.contains_key(&seal));
        assert_eq!(repeated.login(&seal), None, "without Redis nobody knows whether it was revoked");
    }
}
