//! The keys of the identity provider: from a file or an address, kept, and looked at again.
//!
//! ```text
//! looked at a while ago ─▶ in use, and looked at again beside it
//! looked at long ago    ─▶ looked at again before use; those of before, if that fails
//! a key is not known    ─▶ looked at again, but not twice in a few seconds
//! ```
//!
//! All that ask at the same time share one look. Keys that cannot be read never replace those that can. Keys of an address
//! that nobody could ask for a day are not believed any more: one of them may have been taken back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hyper::body::Bytes;
use staffetta_config::{KeySource, read_file_within};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::web::SIZE;
use tokio::sync::Mutex;

use super::jwks::Ring;
use super::web::{ProviderError, Web};
use crate::metrics::Metrics;

/// How long keys are what they are.
#[derive(Clone, Copy)]
struct Times {
    /// For so long nobody looks.
    fresh: Duration,
    /// For so long nobody waits for a look.
    usable: Duration,
    /// For so long they count although nobody can look.
    life: Duration,
    /// Between two looks.
    rest: Duration,
}

const OF_A_FILE: Times = Times {
    fresh: Duration::from_secs(10),
    usable: Duration::from_secs(10),
    life: Duration::MAX,
    rest: Duration::from_secs(1),
};

const OF_AN_ADDRESS: Times = Times {
    fresh: Duration::from_secs(600),
    usable: Duration::from_secs(3600),
    life: Duration::from_secs(86_400),
    rest: Duration::from_secs(2),
};

/// Keys as they were at some time.
pub(super) struct Held {
    pub(super) ring: Ring,
    looked: Instant,
}

/// Where keys come from, and the last that came.
pub(super) struct Keys {
    source: Source,
    times: Times,
    held: ArcSwapOption<Held>,
    looks: Mutex<Looks>,
}

/// What there is to know before the next look; locked while somebody looks.
#[derive(Default)]
struct Looks {
    /// When the last one failed, and why, if it did.
    failed: Option<(Instant, String)>,
    /// When somebody looked for a key that was missing.
    missed: Option<Instant>,
}

enum Source {
    File(PathBuf),
    Web(Web),
}

impl Keys {
    /// Reads a file, and asks no address.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn new(source: &KeySource, tls: TlsClient, metrics: Metrics) -> Result<Self, ProviderError> {
        let (source, times, held) = match source {
            KeySource::File(path) => {
                let failed = |error| ProviderError::File { path: path.clone(), error };
                let ring = Ring::parse(&contents(path).map_err(failed)?)?;
                (Source::File(path.clone()), OF_A_FILE, Some(Held::now(ring)))
            }
            KeySource::Url(url) => (Source::Web(Web::new(url, tls, metrics)?), OF_AN_ADDRESS, None),
        };
        Ok(Self { source, times, held: ArcSwapOption::from_pointee(held), looks: Mutex::default() })
    }

    /// Looks before somebody asks, in the background, unless there are keys already.
    pub(super) fn prepare(self: &Arc<Self>) {
        if self.held.load().is_none() {
            self.renew_beside();
        }
    }

    fn renew_beside(self: &Arc<Self>) {
        let keys = Arc::clone(self);
        tokio::spawn(async move { keys.renew(keys.held.load_full().as_ref()).await.map(drop) });
    }

    /// The keys to judge by.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Held>, ProviderError> {
        let held = self.held.load_full();
        let Some(known) = &held else { return self.renew(None).await };
        let age = known.looked.elapsed();
        if age < self.times.fresh {
            return Ok(Arc::clone(known));
        }
        if age < self.times.usable {
            self.renew_beside();
            return Ok(Arc::clone(known));
        }
        match self.renew(Some(known)).await {
            Err(_) if age < self.times.life => Ok(Arc::clone(known)),
            result => result,
        }
    }

    /// Keys that are newer than these, in which one was missing. `None` if there are none, or nobody may look again yet.
    ///
    /// # Errors
    /// Nobody can look: whether there is such a key is not known.
    pub(super) async fn newer(&self, held: &Arc<Held>) -> Result<Option<Arc<Held>>, ProviderError> {
        let mut looks = self.looks.lock().await;
        if let Some(found) = self.found_since(Some(held)) {
            return Ok(Some(found));
        }
        self.may_try(&looks)?;
        if looks.missed.is_some_and(|at| at.elapsed() < self.times.rest) {
            return Ok(None);
        }
        looks.missed = Some(Instant::now());
        self.look(&mut looks).await.map(Some)
    }

    /// Keys in the place of those that were `seen`.
    async fn renew(&self, seen: Option<&Arc<Held>>) -> Result<Arc<Held>, ProviderError> {
        let mut looks = self.looks.lock().await;
        if let Some(found) = self.found_since(seen) {
            return Ok(found);
        }
        self.may_try(&looks)?;
        self.look(&mut looks).await
    }

    /// What somebody else has found meanwhile.
    fn found_since(&self, seen: Option<&Arc<Held>>) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| seen.is_none_or(|seen| !Arc::ptr_eq(seen, held)))
    }

    /// What has just failed is left alone for a moment.
    fn may_try(&self, looks: &Looks) -> Result<(), ProviderError> {
        match &looks.failed {
            Some((at, problem)) if at.elapsed() < self.times.rest => Err(ProviderError::Resting(problem.clone())),
            _ => Ok(()),
        }
    }

    async fn look(&self, looks: &mut Looks) -> Result<Arc<Held>, ProviderError> {
        match self.read().await {
            Ok(ring) => {
                looks.failed = None;
                let held = Arc::new(Held::now(ring));
                self.held.store(Some(Arc::clone(&held)));
                Ok(held)
            }
            Err(error) => {
                looks.failed = Some((Instant::now(), error.to_string()));
                tracing::warn!(%error, "the keys of the identity provider cannot be read");
                Err(error)
            }
        }
    }

    async fn read(&self) -> Result<Ring, ProviderError> {
        let text = match &self.source {
            Source::File(path) => {
                let failed = |error| ProviderError::File { path: path.clone(), error };
                let read = path.clone();
                let text = tokio::task::spawn_blocking(move || contents(&read)).await;
                text.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?
            }
            Source::Web(web) => web.get().await?,
        };
        Ok(Ring::parse(&text)?)
    }
}

impl Held {
    fn now(ring: Ring) -> Self {
        Self { ring, looked: Instant::now() }
    }
}

/// Of a file, and not more than an address may give.
fn contents(path: &Path) -> io::Result<Bytes> {
    read_file_within(path, SIZE).map(Bytes::from)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_a_bound_and_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, vec![b' '; SIZE]).unwrap();
        assert_eq!(contents(&path).unwrap().len(), SIZE);
        std::fs::write(&path, vec![b' '; SIZE + 1]).unwrap();
        assert_eq!(contents(&path).unwrap_err().to_string(), "more than 256 KiB");
        for odd in ["/dev/zero", "/"] {
            assert_eq!(contents(Path::new(odd)).unwrap_err().to_string(), "not a file");
        }
    }
}
