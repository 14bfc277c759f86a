//! Credentials that were verified a moment ago, so that a provider's hundreds of sessions with one login cost one hash.
//!
//! Neither login nor password is kept: the key is an HMAC-SHA-256 of all that decided under a secret that this process
//! made at its start, the value is the login as the back end spells it. Only successes are kept. **A changed password, or an
//! account removed, takes effect at the latest after `auth.cache_ttl`**; "0s" turns the cache off. Identical
//! verifications that run at the same time share one result, be it yes or no: a flood with one wrong password costs one
//! hash at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::future::Cache;
use sha2::Sha256;

/// Entries kept at most; each takes some 200 octets.
const MAX_ENTRIES: u64 = 100_000;

/// What credentials are found under.
pub(crate) type Key = [u8; 32];

/// Verified credentials; cheap to clone.
#[derive(Clone)]
pub(crate) struct Verified {
    secret: zeroize::Zeroizing<[u8; 32]>,
    entries: Cache<Key, Arc<str>>,
    kept: bool,
}

impl Verified {
    /// Keeps entries for `ttl`; keeps none if it is zero.
    pub(crate) fn new(ttl: Duration) -> Self {
        let entries = Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(ttl).build();
        Self { secret: rand::random::<[u8; 32]>().into(), entries, kept: !ttl.is_zero() }
    }

    /// The key of credentials, made from everything on which it depends whether they are right. `None` if nothing is
    /// kept.
    pub(crate) fn key<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Key> {
        if !self.kept {
            return None;
        }
        // It takes keys of any length, and so does not fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).ok()?;
        for part in parts {
            // With its length, so that no two lists of parts give the same text.
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    /// The login of these credentials, if they were verified within the time to live.
    pub(crate) async fn find(&self, key: Option<&Key>) -> Option<Arc<str>> {
        self.entries.get(key?).await
    }

    /// Verifies with `verify`, together with all who ask for the same at this moment, and keeps a success.
    pub(crate) async fn verify<E: Send + Sync + 'static>(
        &self,
        key: Option<Key>,
        verify: impl Future<Output = Result<Arc<str>, E>>,
    ) -> Result<Arc<str>, Arc<E>> {
        match key {
            Some(key) => self.entries.try_get_with(key, verify).await,
            None => verify.await.map_err(Arc::new),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn john(cache: &Verified, password: &str) -> Option<Key> {
        cache.key([&b"john"[..], password.as_bytes()])
    }

    #[test]
    fn no_two_lists_of_parts_have_one_key() {
        let cache = Verified::new(Duration::from_secs(60));
        let lists: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""]];
        let keys: Vec<_> = lists.iter().map(|parts| cache.key(parts.iter().copied())).collect();
        assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])));
    }

    #[tokio::test]
    async fn a_success_is_found_again_under_the_same_password_only() {
        let cache = Verified::new(Duration::from_secs(60));
        cache.verify(john(&cache, "summersun"), async { Ok::<_, ()>("John".into()) }).await.unwrap();
        assert_eq!(cache.find(john(&cache, "summersun").as_ref()).await.as_deref(), Some("John"));
        assert_eq!(cache.find(john(&cache, "summersum").as_ref()).await, None);
    }

    #[tokio::test]
    async fn a_refusal_is_not_kept() {
        let cache = Verified::new(Duration::from_secs(60));
        cache.verify(john(&cache, "x"), async { Err::<Arc<str>, _>(()) }).await.unwrap_err();
        assert_eq!(cache.find(john(&cache, "x").as_ref()).await, None);
    }

    #[tokio::test]
    async fn without_a_time_to_live_nothing_is_kept() {
        let cache = Verified::new(Duration::ZERO);
        cache.verify(john(&cache, "x"), async { Ok::<_, ()>("John".into()) }).await.unwrap();
        assert_eq!(cache.find(john(&cache, "x").as_ref()).await, None);
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_one_verification() {
        let cache = Verified::new(Duration::from_secs(60));
        let (calls, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let (cache, calls, gate) = (cache.clone(), Arc::clone(&calls), Arc::clone(&gate));
                tokio::spawn(async move {
                    let verify = async {
                        calls.fetch_add(1, Ordering::Relaxed);
                        gate.acquire().await.unwrap().forget();
                        Err::<Arc<str>, _>("wrong")
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
