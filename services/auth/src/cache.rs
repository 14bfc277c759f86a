//! Credentials that were verified a moment ago, so that a provider's hundreds of sessions with one login cost one hash.
//!
//! Neither login nor password is kept: the key is an HMAC-SHA-256 of both under a secret that this process made at its
//! start, the value is the login as the back end spells it. Only successes are kept. **A changed password, or an
//! account removed, takes effect at the latest after `auth.cache_ttl`**; "0s" turns the cache off. Identical
//! verifications that run at the same time share one result, be it yes or no: a flood with one wrong password costs one
//! hash at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::future::Cache;
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use crate::sasl::Credentials;

/// Entries kept at most; each takes some 200 octets.
const MAX_ENTRIES: u64 = 100_000;

type Key = [u8; 32];

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

    /// The login of these credentials, if they were verified within the time to live.
    pub(crate) async fn find(&self, credentials: &Credentials) -> Option<Arc<str>> {
        if !self.kept {
            return None;
        }
        self.entries.get(&self.key(credentials)?).await
    }

    /// Verifies with `verify`, together with all who ask for the same at this moment, and keeps a success.
    pub(crate) async fn verify<E: Send + Sync + 'static>(
        &self,
        credentials: &Credentials,
        verify: impl Future<Output = Result<Arc<str>, E>>,
    ) -> Result<Arc<str>, Arc<E>> {
        match self.key(credentials) {
            Some(key) if self.kept => self.entries.try_get_with(key, verify).await,
            _ => verify.await.map_err(Arc::new),
        }
    }

    /// A NUL cannot occur in either part, so no two pairs give the same text. `None` cannot happen: HMAC takes keys of
    /// any length.
    fn key(&self, credentials: &Credentials) -> Option<Key> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).ok()?;
        mac.update(credentials.login.as_bytes());
        mac.update(b"\0");
        mac.update(credentials.password.expose_secret().as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn john(password: &str) -> Credentials {
        Credentials { login: "john".to_owned(), password: password.into() }
    }

    #[tokio::test]
    async fn a_success_is_found_again_under_the_same_password_only() {
        let cache = Verified::new(Duration::from_secs(60));
        cache.verify(&john("summersun"), async { Ok::<_, ()>("John".into()) }).await.unwrap();
        assert_eq!(cache.find(&john("summersun")).await.as_deref(), Some("John"));
        assert_eq!(cache.find(&john("summersum")).await, None);
    }

    #[tokio::test]
    async fn a_refusal_is_not_kept() {
        let cache = Verified::new(Duration::from_secs(60));
        cache.verify(&john("x"), async { Err::<Arc<str>, _>(()) }).await.unwrap_err();
        assert_eq!(cache.find(&john("x")).await, None);
    }

    #[tokio::test]
    async fn without_a_time_to_live_nothing_is_kept() {
        let cache = Verified::new(Duration::ZERO);
        cache.verify(&john("x"), async { Ok::<_, ()>("John".into()) }).await.unwrap();
        assert_eq!(cache.find(&john("x")).await, None);
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
                    cache.verify(&john("x"), verify).await
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
