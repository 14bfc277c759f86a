//! Leases that this worker holds: how long each is good for, and their renewal in the background.
//!
//! A lease counts from the moment *before* its claim or renewal was sent, on our monotonic clock, so the worker gives
//! up earlier than Redis does. Whoever is about to send a final dot asks [`Leases::secure`] first: after a lost lease
//! no final dot is sent, because another worker may be sending its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use staffetta_queue::{Lease, Queue};
use tokio_util::sync::CancellationToken;

use crate::recent::JobName;

/// What must be left of a lease before the final dot, if the lease is long enough.
const SAFETY: Duration = Duration::from_secs(30);
/// A job is not kept for longer: an attempt that takes so long has come to grief.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
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
    since: Instant,
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
    /// Whoever works on a job holds it; when nobody does, be it by a panic, its lease is left to end.
    held: Mutex<HashMap<JobName, Weak<Held>>>,
}

impl Leases {
    pub(crate) fn new(queue: Queue, term: Duration) -> Self {
        Self { queue, start: Instant::now(), term, held: Mutex::default() }
    }

    /// Takes note of a lease that was asked for at `since`.
    pub(crate) fn hold(&self, lease: Lease, since: Instant) -> Arc<Held> {
        let held = Arc::new(Held { lease, ends: AtomicU64::new(self.end_of(since)), since });
        self.lock().insert(held.job(), Arc::downgrade(&held));
        held
    }

    /// The job is settled.
    pub(crate) fn forget(&self, held: &Arc<Held>) {
        let mut all = self.lock();
        // The same job may have been claimed anew in the meantime.
        if all.get(&held.job()).is_some_and(|known| Weak::as_ptr(known) == Arc::as_ptr(held)) {
            all.remove(&held.job());
        }
    }

    /// True if the lease is safe for long enough to end a transaction; renews it first if need be.
    pub(crate) async fn secure(&self, held: &Held) -> bool {
        if held.since.elapsed() > LONGEST {
            return false;
        }
        if !self.is_safe(held) {
            self.renew(&[held]).await;
        }
        self.is_safe(held)
    }

    /// Is it, as far as is known, without asking?
    pub(crate) fn is_safe(&self, held: &Held) -> bool {
        held.since.elapsed() <= LONGEST && self.remaining(held) >= SAFETY.min(self.term / 4)
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

    /// What is held now is cut off on purpose: it counts against no job.
    pub(crate) async fn excuse(&self) {
        let held: Vec<Arc<Held>> = self.lock().values().filter_map(Weak::upgrade).collect();
        let leases: Vec<Lease> = held.iter().map(|held| held.lease.clone()).collect();
        if let Err(error) = self.queue.excuse(&leases).await {
            tracing::warn!(%error, "failed to say that attempts were cut off on purpose");
        }
    }

    /// Leases whose first quarter is over.
    fn aging(&self) -> Vec<Arc<Held>> {
        let limit = self.term * 3 / 4;
        let mut held = Vec::new();
        self.lock().retain(|_, known| {
            held.extend(known.upgrade());
            known.strong_count() > 0
        });
        held.retain(|held| !self.is_lost(held) && held.since.elapsed() < LONGEST && self.remaining(held) < limit);
        held
    }

    async fn renew(&self, held: &[&Held]) {
        let since = Instant::now();
        let leases: Vec<Lease> = held.iter().map(|held| held.lease.clone()).collect();
        let (mut failed, mut reason) = (0, None);
        for (held, ours) in held.iter().zip(self.queue.renew_each(&leases).await) {
            match ours {
                Ok(ours) => held.ends.store(if ours { self.end_of(since) } else { LOST }, Ordering::Relaxed),
                Err(error) => (failed, reason) = (failed + 1, Some(error)),
            }
        }
        if let Some(error) = reason {
            tracing::warn!(%error, leases = failed, "failed to renew leases");
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

    fn lock(&self) -> MutexGuard<'_, HashMap<JobName, Weak<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_config::Config;
    use staffetta_mail::{Address, Envelope, Recipient, ReversePath};
    use staffetta_queue::server::LocalServer;
    use staffetta_queue::{Accept, Destination, Origin};

    use super::*;

    /// A queue with two messages, both claimed.
    async fn claimed(server: &LocalServer) -> (Queue, Vec<Lease>) {
        let text = format!("hostname = \"a.example\"\n[redis]\nurl = \"{}\"\npartitions = 1\n", server.url());
        let config = Config::parse(&text, "t").unwrap();
        let queue = Queue::open((&config).into(), CancellationToken::new()).unwrap();
        queue.ready(Duration::from_secs(20)).await.unwrap();
        for _ in 0..2 {
            let recipient = Recipient::new(Address::parse("lisa@x.example").unwrap());
            let envelope = Envelope::new(ReversePath::Null, vec![recipient]);
            let origin =
                Origin { listener: "t".to_owned(), client: None, helo: "t".to_owned(), login: None, span: None };
            let accept = Accept { envelope, origin, lifetime: Duration::from_secs(60) };
            let mut incoming = queue.receive().unwrap();
            incoming.write(b"x").await.unwrap();
            incoming.commit(accept, b"").await.unwrap();
        }
        let jobs = queue.claim(0, &Destination::new("x.example"), 10).await.unwrap();
        (queue, jobs.into_iter().map(|job| job.lease).collect())
    }

    #[tokio::test]
    async fn a_job_that_nobody_works_on_any_longer_is_not_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalServer::start(folder.path()).unwrap();
        let (queue, jobs) = claimed(&server).await;
        let mut leases = Leases::new(queue, Duration::from_secs(120));
        let since = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        leases.start = since;
        let mut held: Vec<_> = jobs.into_iter().map(|lease| leases.hold(lease, since)).collect();
        assert_eq!(leases.aging().len(), 2);
        held.pop();
        assert_eq!((leases.aging().len(), leases.lock().len()), (1, 1));
        assert!(leases.secure(&held[0]).await);
    }

    #[tokio::test]
    async fn no_job_is_kept_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalServer::start(folder.path()).unwrap();
        let (queue, jobs) = claimed(&server).await;
        let leases = Leases::new(queue, Duration::from_secs(120));
        let Some(since) = Instant::now().checked_sub(LONGEST + Duration::from_secs(1)) else { return };
        let held: Vec<_> = jobs.into_iter().map(|lease| leases.hold(lease, since)).collect();
        assert!(leases.aging().is_empty() && !leases.secure(&held[0]).await);
    }
}
