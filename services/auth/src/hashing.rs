//! Password hashing off the async threads, bounded: as many at a time as there are cores, with as much memory as the
//! control group leaves for it, a limited number waiting.
//!
//! Argon2id takes memory as well as time, each hash as much as it says itself, so letting every login start at once would
//! end in swap or an OOM kill. One that alone asks for more than there is gets no answer. A
//! burst beyond the queue is answered "temporarily": the client tries again, the cache has warmed up meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::scheme::{self, SchemeError, Verifier};

/// The longest wait for a result, the wait for a core included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Verifications that may wait for each core.
const WAITING_PER_CORE: usize = 64;

/// The part of the memory that hashing may take: half of it.
const SHARE: usize = 2;
/// When the system does not say how much memory there is.
const FALLBACK: usize = 512 << 20;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// A burst of logins, or hostile parameters below the ceiling.
    #[error("too many password verifications are waiting")]
    Busy,
    /// The machine is overloaded.
    #[error("the password was not verified within {} s", DEADLINE.as_secs())]
    Timeout,
    /// One hash alone asks for more than this process may take for all.
    #[error("the stored password asks for {asked} KiB of memory, and this process has {limit} KiB for hashing")]
    Memory {
        /// By its own parameters.
        asked: u32,
        /// For all verifications together.
        limit: u32,
    },
    /// What is stored cannot be verified; waiting does not help.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// The blocking task was lost: the runtime is shutting down.
    #[error("the password verification was aborted")]
    Aborted,
}

/// The bounded pool.
#[derive(Clone)]
pub(crate) struct Hashing {
    cores: Arc<Semaphore>,
    /// In KiB.
    memory: Arc<Semaphore>,
    memory_limit: u32,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    metrics: Metrics,
}

impl Hashing {
    /// With one place for each core that the process may use.
    pub(crate) fn new(metrics: Metrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let octets = staffetta_transport::memory_limit().unwrap_or(FALLBACK) / SHARE;
        Self::with_limits(cores, cores * WAITING_PER_CORE, u32::try_from(octets / 1024).unwrap_or(u32::MAX), metrics)
    }

    fn with_limits(cores: usize, max_waiting: usize, memory_limit: u32, metrics: Metrics) -> Self {
        let memory = Arc::new(Semaphore::new(memory_limit as usize));
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            memory,
            memory_limit,
            waiting: Arc::default(),
            max_waiting,
            metrics,
        }
    }

    /// Is it this password?
    pub(crate) async fn verify(&self, stored: SecretString, password: SecretString) -> Result<bool, HashError> {
        tokio::time::timeout(DEADLINE, self.verify_in_turn(stored, password)).await.map_err(|_| HashError::Timeout)?
    }

    /// What SCRAM needs of a password.
    pub(crate) async fn derive(
        &self,
        password: SecretString,
        salt: Vec<u8>,
        iterations: u32,
    ) -> Result<Verifier, HashError> {
        let work = self.in_turn(0, move || scheme::derived(password.expose_secret().as_bytes(), &salt, iterations));
        tokio::time::timeout(DEADLINE, work).await.map_err(|_| HashError::Timeout)?
    }

    async fn verify_in_turn(&self, stored: SecretString, password: SecretString) -> Result<bool, HashError> {
        let asked = scheme::check(stored.expose_secret())?.memory;
        let verify = move || scheme::verify(stored.expose_secret(), password.expose_secret().as_bytes());
        Ok(self.in_turn(asked, verify).await??)
    }

    /// Works once there is a core for it, and this much memory (KiB).
    async fn in_turn<T: Send + 'static>(
        &self,
        asked: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        if asked > self.memory_limit {
            return Err(HashError::Memory { asked, limit: self.memory_limit });
        }
        let waiting = Waiting::enter(self).ok_or(HashError::Busy)?;
        let room = Arc::clone(&self.memory).acquire_many_owned(asked).await.map_err(|_| HashError::Aborted)?;
        let permit = Arc::clone(&self.cores).acquire_owned().await.map_err(|_| HashError::Aborted)?;
        drop(waiting);
        let metrics = self.metrics.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when nobody waits for it any more.
            let _permits = (permit, room);
            let started = Instant::now();
            let result = work();
            metrics.hash(started.elapsed());
            result
        });
        task.await.map_err(|_| HashError::Aborted)
    }
}

/// A place in the queue, given back when dropped.
struct Waiting<'a>(&'a Hashing);

impl<'a> Waiting<'a> {
    fn enter(hashing: &'a Hashing) -> Option<Self> {
        let before = hashing.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(hashing);
        hashing.metrics.hash_waiting(before + 1);
        // A free core means no wait, however short the queue is meant to be.
        (before < hashing.max_waiting || hashing.cores.available_permits() > 0).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let before = self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.hash_waiting(before.saturating_sub(1));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_queue_holds_are_turned_away() {
        let hashing = Hashing::with_limits(1, 2, 1, Metrics::new());
        let core = Arc::clone(&hashing.cores).acquire_owned().await.unwrap();
        let stored = scheme::hash("SSHA512", &"x".into()).unwrap();
        let verify = || {
            let (hashing, stored) = (hashing.clone(), SecretString::from(stored.clone()));
            tokio::spawn(async move { hashing.verify(stored, "x".into()).await })
        };
        let waiting = [verify(), verify()];
        while hashing.waiting.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(verify().await.unwrap(), Err(HashError::Busy)));
        drop(core);
        for task in waiting {
            assert!(task.await.unwrap().unwrap());
        }
        assert_eq!(hashing.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn memory_is_charged_at_each_hashs_own_cost() {
        // 19 MiB each: two cores, and room for one.
        let hashing = Hashing::with_limits(2, 4, 30 * 1024, Metrics::new());
        let stored = scheme::hash("ARGON2ID", &"x".into()).unwrap();
        let room = Arc::clone(&hashing.memory).acquire_many_owned(20 * 1024).await.unwrap();
        let mut verify = tokio::spawn({
            let (hashing, stored) = (hashing.clone(), SecretString::from(stored.clone()));
            async move { hashing.verify(stored, "x".into()).await }
        });
        let cheap = scheme::hash("SSHA512", &"x".into()).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut verify).await.is_err(), "it waits for memory");
        drop(room);
        assert!(verify.await.unwrap().unwrap());
        assert_eq!(hashing.memory.available_permits(), 30 * 1024);
        let small = Hashing::with_limits(2, 4, 10 * 1024, Metrics::new());
        let refused = small.verify(stored.into(), "x".into()).await;
        assert!(matches!(refused, Err(HashError::Memory { limit: 10_240, .. })), "{refused:?}");
        assert!(small.verify(cheap.into(), "x".into()).await.unwrap());
    }
}
