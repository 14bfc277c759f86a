//! Leases that this worker holds: how long each is good for, and their renewal in the background.
//!
//! A lease counts from the moment *before* its claim or renewal was sent, on our monotonic clock, so the worker gives
//! up earlier than Redis does. Whoever is about to send a final dot asks [`Leases::secure`] first: after a lost lease
//! no final dot is sent, because another worker may be sending its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_queue::{Lease, Queue};
use tokio_util::sync::CancellationToken;

use crate::recent::JobName;

/// What must be left of a lease before the final dot, if the lease is long enough.
const SAFETY: Duration = Duration::from_secs(30);
/// Leases renewed in one call.
const BATCH: usize = 500;
/// Stands for "the lease has passed to somebody else" in [`Held::ends`].
const LOST: u64 = 0;

/// A job that is ours for the time being.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// Milliseconds since the start of [`Leases`] at which it ends, or [`LOST`].
    ends: AtomicU64,
}

impl Held {
    /// The name of the job.
    pub(crate) fn job(&self) -> JobName {
        (self.lease.id, self.lease.job)
    }
}

/// All of them.
pub(crate) struct Leases {
    queue: Queue,
    start: Instant,
    term: Duration,
    held: Mutex<HashMap<JobName, Arc<Held>>>,
}

impl Leases {
    pub(crate) fn new(queue: Queue, term: Duration) -> Self {
        Self { queue, start: Instant::now(), term, held: Mutex::default() }
    }

    /// Takes note of a lease that was asked for at `since`.
    pub(crate) fn hold(&self, lease: Lease, since: Instant) -> Arc<Held> {
        let held = Arc::new(Held { lease, ends: AtomicU64::new(self.end_of(since)) });
        self.lock().insert(held.job(), held.clone());
        held
    }

    /// The job is settled.
    pub(crate) fn forget(&self, held: &Arc<Held>) {
        let mut all = self.lock();
        // The same job may have been claimed anew in the meantime.
        if all.get(&held.job()).is_some_and(|known| Arc::ptr_eq(known, held)) {
            all.remove(&held.job());
        }
    }

    /// True if the lease is safe for long enough to end a transaction; renews it first if need be.
    pub(crate) async fn secure(&self, held: &Held) -> bool {
        let needed = SAFETY.min(self.term / 4);
        if self.remaining(held) >= needed {
            return true;
        }
        self.renew(&[held]).await;
        self.remaining(held) >= needed
    }

    /// Renews what is older than a quarter of the term, until the token is cancelled.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        let period = (self.term / 8).max(Duration::from_millis(50));
        while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
            let aging = self.aging();
            for batch in aging.chunks(BATCH) {
                self.renew(&batch.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await;
            }
        }
    }

    /// Leases whose first quarter is over.
    fn aging(&self) -> Vec<Arc<Held>> {
        let limit = self.term * 3 / 4;
        let held: Vec<_> = self.lock().values().cloned().collect();
        held.into_iter().filter(|held| !self.is_lost(held) && self.remaining(held) < limit).collect()
    }

    async fn renew(&self, held: &[&Held]) {
        let since = Instant::now();
        let leases: Vec<Lease> = held.iter().map(|held| held.lease.clone()).collect();
        match self.queue.renew(&leases).await {
            Ok(ours) => {
                for (held, ours) in held.iter().zip(ours) {
                    held.ends.store(if ours { self.end_of(since) } else { LOST }, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::warn!(%error, leases = held.len(), "failed to renew leases"),
        }
    }

    /// Has the lease passed to somebody else, as far as is known?
    pub(crate) fn is_lost(&self, held: &Held) -> bool {
        held.ends.load(Ordering::Relaxed) == LOST
    }

    /// Zero for a lease that has passed or is lost.
    fn remaining(&self, held: &Held) -> Duration {
        let now = self.start.elapsed().as_millis() as u64;
        Duration::from_millis(held.ends.load(Ordering::Relaxed).saturating_sub(now))
    }

    fn end_of(&self, since: Instant) -> u64 {
        (since.saturating_duration_since(self.start) + self.term).as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobName, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
