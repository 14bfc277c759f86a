//! Credentials that were verified a moment ago, so that a provider's hundreds of sessions with one login cost one hash.
//!
//! Neither login nor password is kept: the key is a seal ([`staffetta_policy::seal`]) of all that decided, the value is the
//! login as the back end spells it, with its limits. Only successes are kept, for `auth.cache_ttl`, a token not beyond its
//! own end; "0s" turns the cache off. **A login that is revoked (`staffetta
//! user …`) is asked anew at once**, and while this process may be missing a revocation, because Redis is silent or a
//! frontend has read further, nothing counts that is older than a second. What is changed in the database by other
//! means takes effect after `auth.cache_ttl`. Identical verifications that run at the same time share one result, be it
//! yes or no: a flood with one wrong password costs one hash at a time.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::future::Cache;
use staffetta_policy::seal::{Seal, Sealed};
use staffetta_queue::{Position, Revocations};

use crate::limits::Admitted;

/// Entries kept at most; each takes some 200 octets.
const MAX_ENTRIES: u64 = 100_000;

/// How old an entry may be while revocations may be missing.
const BLIND: Duration = Duration::from_secs(1);

/// Verified credentials; cheap to clone.
#[derive(Clone)]
pub(crate) struct Verified {
    seal: Seal,
    entries: Cache<Sealed, Entry>,
    ttl: Duration,
    revocations: Revocations,
    ahead: Arc<Mutex<Option<Ahead>>>,
}

/// What the back end says of credentials that are right.
pub(crate) struct Right {
    pub(crate) admitted: Admitted,
    /// When they end by themselves, as tokens do.
    pub(crate) until: Option<Instant>,
}

/// Credentials that were right.
#[derive(Clone)]
struct Entry {
    admitted: Admitted,
    until: Option<Instant>,
    /// What had been heard of revocations when the back end was asked.
    since: u64,
    /// When that was.
    asked: Instant,
}

impl Entry {
    fn admitted(self, ttl: Duration) -> Admitted {
        let left = ttl.saturating_sub(self.asked.elapsed());
        let until = self.until.map_or(left, |until| until.saturating_duration_since(Instant::now()));
        Admitted { good_for: left.min(until), ..self.admitted }
    }
}

/// A frontend has read further in the journal than we have.
#[derive(Clone, Copy)]
struct Ahead {
    place: Position,
    noticed: Instant,
}

impl Verified {
    /// Keeps entries for `ttl`; keeps none if it is zero.
    pub(crate) fn new(ttl: Duration, revocations: Revocations) -> Self {
        let entries = Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(ttl).build();
        Self { seal: Seal::new(rand::random()), entries, ttl, revocations, ahead: Arc::default() }
    }

    /// A frontend that asks has read the journal up to here.
    pub(crate) fn heard_by_others(&self, place: Position) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.is_none_or(|ahead| ahead.place < place) {
            *ahead = Some(Ahead { place, noticed: Instant::now() });
        }
    }

    /// Is what the back end said then still to be believed?
    fn is_good(&self, entry: &Entry) -> bool {
        let login = &entry.admitted.login;
        let is_blind = !self.revocations.vouches_for(login, entry.since);
        if is_blind && (entry.asked.elapsed() > BLIND || self.revocations.is_revoked(login, entry.since)) {
            return false;
        }
        match *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Ahead { place, noticed }) if self.revocations.place().is_none_or(|here| here < place) => {
                entry.asked > noticed
            }
            _ => true,
        }
    }

    /// What credentials are kept under, made from everything on which it depends whether they are right. `None` if nothing
    /// is kept.
    pub(crate) fn key<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Sealed> {
        (!self.ttl.is_zero()).then(|| self.seal.of(parts))
    }

    /// The login of these credentials, if they were verified within the time to live and nothing has happened since.
    pub(crate) async fn find(&self, key: Option<&Sealed>) -> Option<Admitted> {
        let entry = self.entries.get(key?).await?;
        let has_ended = entry.until.is_some_and(|until| until <= Instant::now());
        if !has_ended && self.is_good(&entry) {
            return Some(entry.admitted(self.ttl));
        }
        self.entries.invalidate(key?).await;
        None
    }

    /// Verifies with `verify`, together with all who ask for the same at this moment, and keeps a success. One that was
    /// under way when the login was revoked may be about the password of before: it is asked once more.
    pub(crate) async fn verify<E: Send + Sync + 'static, F>(
        &self,
        key: Option<Sealed>,
        verify: impl Fn() -> F,
    ) -> Result<Admitted, Arc<E>>
    where
        F: Future<Output = Result<Admitted, E>>,
    {
        self.verify_ending(key, || async { verify().await.map(|admitted| Right { admitted, until: None }) }).await
    }

    /// The same for credentials that may end by themselves.
    pub(crate) async fn verify_ending<E: Send + Sync + 'static, F>(
        &self,
        key: Option<Sealed>,
        verify: impl Fn() -> F,
    ) -> Result<Admitted, Arc<E>>
    where
        F: Future<Output = Result<Right, E>>,
    {
        let ask = || async {
            let (since, asked) = (self.revocations.version(), Instant::now());
            verify().await.map(|Right { admitted, until }| Entry { admitted, until, since, asked })
        };
        let Some(key) = key else { return ask().await.map(|entry| entry.admitted).map_err(Arc::new) };
        let entry = self.entries.try_get_with(key, ask()).await?;
        if self.is_good(&entry) {
            return Ok(entry.admitted(self.ttl));
        }
        self.entries.invalidate(&key).await;
        ask().await.map(|entry| entry.admitted).map_err(Arc::new)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use staffetta_config::Config;

    use super::*;

    /// Without a Redis: entries count for a second.
    fn verified(ttl: Duration) -> Verified {
        let config = Config::parse("hostname = \"a.example\"\nredis.url = \"redis://127.0.0.1:1\"\n", "t").unwrap();
        let revocations = Revocations::follow(&(&config).into(), tokio_util::sync::CancellationToken::new()).unwrap();
        Verified::new(ttl, revocations)
    }

    async fn found(cache: &Verified, key: Option<Sealed>) -> Option<String> {
        cache.find(key.as_ref()).await.map(|admitted| admitted.login.to_string())
    }

    fn john(cache: &Verified, password: &str) -> Option<Sealed> {
        cache.key([&b"john"[..], password.as_bytes()])
    }

    #[tokio::test]
    async fn a_success_is_found_again_under_the_same_password_only() {
        let cache = verified(Duration::from_secs(60));
        cache.verify(john(&cache, "summersun"), || async { Ok::<_, ()>(Admitted::plain("John")) }).await.unwrap();
        assert_eq!(found(&cache, john(&cache, "summersun")).await.as_deref(), Some("John"));
        assert_eq!(found(&cache, john(&cache, "summersum")).await, None);
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_not_kept_beyond_its_end() {
        let cache = verified(Duration::from_secs(60));
        for (left, kept) in [(Duration::from_secs(30), true), (Duration::ZERO, false)] {
            let until = Some(Instant::now() + left);
            let key = cache.key([&b"token"[..], &left.as_nanos().to_be_bytes()]);
            let verify = || async { Ok::<_, ()>(Right { admitted: Admitted::plain("John"), until }) };
            assert_eq!(
                cache.verify_ending(key, verify).await.map(|admitted| admitted.login),
                Ok("John".into()),
                "it was good when it was asked about"
            );
            assert_eq!(cache.find(key.as_ref()).await.is_some(), kept);
        }
    }

    #[tokio::test]
    async fn it_is_told_for_how_long_nobody_need_be_asked() {
        let right = |left: Option<u64>| {
            let until = left.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            move || async move { Ok::<_, ()>(Right { admitted: Admitted::plain("John"), until }) }
        };
        for (ttl, left, at_most) in
            [(60, None, 60), (60, Some(30), 30), (60, Some(90), 60), (0, None, 0), (60, Some(0), 0)]
        {
            let cache = verified(Duration::from_secs(ttl));
            let key = cache.key([&b"token"[..]]);
            let first = cache.verify_ending(key, right(left)).await.unwrap().good_for;
            assert!(first <= Duration::from_secs(at_most) && (at_most == 0 || !first.is_zero()), "{first:?}");
            if let Some(again) = cache.find(key.as_ref()).await {
                assert!(again.good_for < first, "{again:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_is_not_kept() {
        let cache = verified(Duration::from_secs(60));
        cache.verify(john(&cache, "x"), || async { Err::<Admitted, _>(()) }).await.unwrap_err();
        assert_eq!(found(&cache, john(&cache, "x")).await, None);
    }

    #[tokio::test]
    async fn without_a_time_to_live_nothing_is_kept() {
        let cache = verified(Duration::ZERO);
        cache.verify(john(&cache, "x"), || async { Ok::<_, ()>(Admitted::plain("John")) }).await.unwrap();
        assert_eq!(found(&cache, john(&cache, "x")).await, None);
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_verification() {
        let cache = verified(Duration::from_secs(60));
        let (calls, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let (cache, calls, gate) = (cache.clone(), Arc::clone(&calls), Arc::clone(&gate));
                tokio::spawn(async move {
                    let verify = || async {
                        calls.fetch_add(1, Ordering::Relaxed);
                        gate.acquire().await.unwrap().forget();
                        Err::<Admitted, _>("wrong")
                    };
                    cache.verify(john(&cache, "x"), verify).await
                })
            })
            .collect();
        // On this single thread all twenty have asked before the first can be answered.
        tokio::task::yield_now().await;
        gate.add_permits(20);
        for task in asking {
            assert_eq!(*task.await.unwrap().unwrap_err(), "wrong");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
