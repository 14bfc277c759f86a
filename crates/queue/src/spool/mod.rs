//! Bodies that are too large for Redis, in the store of `spool.url`.
//!
//! A body lies there in pieces of half a mebibyte, `<queue>/<id>/<n>`, each an object of its own: so a message takes as little
//! memory on its way in and out as one in Redis, in any kind of store, and what a dead process leaves can be seen and deleted.
//!
//! Nothing of this decides about a message: Redis does. Before the first piece is written the message is entered in the
//! garbage set (`<id> a`), with the life of a chunk, and kept there while it comes in; the enqueue takes it out, in the
//! script that queues the message. Who dies on the way leaves an entry that a reaper finds. [`sweep`] looks, rarely, for what
//! even the set does not know of.
//!
//! The store of another queue, or an empty directory that a pod has to itself, must not be taken for ours: an object there,
//! `<queue>/mark-…`, is named in the registry, and without it a store is not used. See [`mark`].

mod act;
mod mark;
mod offload;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod offload_tests;
mod place;
mod sweep;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use staffetta_store::{Fault, Store};
use tokio::sync::{Semaphore, watch};

use crate::{EnqueueError, Error, Settings};
pub(crate) use place::{IN_STORE, Place, UNFINISHED};
pub use trial::{StoreTrouble, compare_store, try_store};

/// Octets of a piece; the last one of a body may be shorter.
pub(crate) const PIECE: usize = 512 * 1024;
/// The same while many messages come in at once.
pub(crate) const SMALL_PIECE: usize = 128 * 1024;
/// Pieces that are on their way to the store at a time.
const PUTS: usize = 32;
/// Rounds of reapers that are at work in it at a time.
const REAPERS: usize = 4;
/// How long a message waits for a store that nobody has looked at yet.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How long a piece waits for its turn.
const TURN: Duration = Duration::from_secs(20);

/// Why a process without one cannot have what lies there.
pub(crate) const UNSET: &str = "spool.url is not set here";

/// The store, as this process knows it.
pub(crate) struct Spool {
    store: Store,
    /// Bodies above so many octets go there.
    pub(crate) limit: u64,
    /// So many octets of messages that come in may lie there.
    pub(crate) incoming_limit: u64,
    /// May this process say which store is the queue's, if nobody has?
    founds: bool,
    standing: watch::Sender<Standing>,
    puts: Semaphore,
    reapers: Arc<Semaphore>,
}

/// What is known of the store.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Once it is known that the store is the queue's.
    home: Option<Home>,
    /// Why it cannot be used now.
    trouble: Option<Arc<str>>,
    /// That is no wonder: others have begun as well, and are about to say which store it is.
    early: bool,
    /// Why nothing can be written, at least: a full disk can be read.
    unwritable: Option<Arc<str>>,
}

impl Standing {
    fn complaint(&self) -> Option<&Arc<str>> {
        self.trouble.as_ref().or(self.unwritable.as_ref())
    }

    /// What an operator must hear of.
    fn alarm(&self) -> Option<&Arc<str>> {
        self.complaint().filter(|_| !self.early)
    }
}

/// What is ours in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Home {
    /// Stands in front of all names: the identity of the queue.
    under: Arc<str>,
    /// What its mark says.
    mark: Arc<str>,
}

impl Spool {
    /// `None`: all bodies stay in Redis.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Arc<Self>>, Error> {
        let Some(url) = &settings.spool else { return Ok(None) };
        let open = if settings.founds_store { Store::open } else { Store::existing };
        let store = open(url, std::env::vars()).map_err(|error| Error::Settings(error.to_string()))?;
        Ok(Some(Arc::new(Self {
            store,
            limit: settings.redis_limit,
            incoming_limit: settings.incoming_limit,
            founds: settings.founds_store,
            standing: watch::Sender::default(),
            puts: Semaphore::new(PUTS),
            reapers: Arc::new(Semaphore::new(REAPERS)),
        })))
    }

    /// Why it cannot be used now, as far as is known.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.standing.borrow().trouble.clone()
    }

    /// Why nothing can be written now, as far as is known.
    pub(crate) fn cannot_write(&self) -> Option<Arc<str>> {
        self.standing.borrow().complaint().cloned()
    }

    /// What is ours in it. The first look may be under way.
    async fn home(&self) -> Result<Home, Fault> {
        self.home_when(|standing| standing.home.is_some() || standing.trouble.is_some()).await
    }

    async fn home_when(&self, is_known: fn(&Standing) -> bool) -> Result<Home, Fault> {
        let mut standing = self.standing.subscribe();
        let known = standing.wait_for(is_known);
        if let Ok(Ok(standing)) = tokio::time::timeout(FIRST_LOOK, known).await
            && let Some(home) = &standing.home
        {
            return Ok(home.clone());
        }
        let reason = self.trouble().unwrap_or_else(|| "it was not looked at yet".into());
        Err(Fault::Away(reason.to_string()))
    }

    /// A message begins: is the store there, and still ours? A directory may have been unmounted.
    pub(crate) async fn begin(&self) -> Result<(), Fault> {
        // Others may be about to say which store it is.
        let home = self.home_when(|standing| standing.home.is_some()).await?;
        let found = self.look_again(&home).await;
        self.found(found)
    }

    /// Keeps a piece; it is durable when this returns.
    pub(crate) async fn put(&self, place: Place, index: u32, octets: Bytes) -> Result<(), Fault> {
        let late = |_| Fault::Away("too many pieces of messages wait for the store".to_owned());
        let _turn = tokio::time::timeout(TURN, self.puts.acquire()).await.map_err(late)?;
        let name = format!("{}/{place}/{index}", self.home().await?.under);
        let put = self.store.put(&name, octets).await;
        let unwritable = match &put {
            Err(Fault::Away(reason)) => Some(Arc::from(reason.as_str())),
            _ => None,
        };
        self.stand(|standing| standing.unwritable = unwritable);
        put
    }

    /// All pieces of a message are there, in the store of the queue: it may have gone, and another one come, while they were written.
    pub(crate) async fn seal(&self, place: Place, pieces: u32) -> Result<(), Fault> {
        let home = self.home().await?;
        let sealed = async {
            self.look_again(&home).await?;
            match self.store.count(&home.under, &place.to_string()).await? {
                found if found == u64::from(pieces) => Ok(()),
                found => Err(Fault::Away(format!("of {pieces} pieces of a message it has {found}"))),
            }
        };
        let sealed = sealed.await;
        self.noted(sealed)
    }

    /// Reads a piece. One that is missing where it is not known whether the store is still ours may be somewhere else.
    pub(crate) async fn get(&self, place: Place, index: u32) -> Result<Bytes, Fault> {
        let home = self.home().await?;
        let found = match self.store.get(&format!("{}/{place}/{index}", home.under)).await {
            Err(Fault::Missing(name)) => match self.look_again(&home).await {
                Ok(()) => return Err(Fault::Missing(name)),
                Err(fault) => Err(fault),
            },
            found => found,
        };
        self.found(found)
    }

    /// Deletes all pieces of a body.
    pub(crate) async fn remove(&self, place: Place) -> Result<(), Fault> {
        let under = self.home().await?.under;
        self.noted(self.store.remove_group(&under, &place.to_string()).await)
    }

    /// How many pieces of a body there are.
    pub(crate) async fn count(&self, place: Place) -> Result<u64, Fault> {
        let under = self.home().await?.under;
        self.noted(self.store.count(&under, &place.to_string()).await)
    }

    /// The same of what was read: if it could be, the store is there.
    fn found<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        if outcome.is_ok() {
            self.stand(|standing| standing.trouble = None);
        }
        self.noted(outcome)
    }

    /// Remembers trouble, for those who come next.
    fn noted<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(Fault::Away(reason)) = &outcome {
            let trouble = Some(Arc::from(reason.as_str()));
            self.stand(|standing| standing.trouble = trouble);
        }
        outcome
    }

    /// Tells what is new about it, once.
    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_if_modified(|standing| {
            let before = standing.clone();
            change(standing);
            let url = self.store.url();
            match (before.alarm(), standing.alarm()) {
                (None, Some(reason)) => {
                    tracing::error!(url, %reason, "the store of large bodies cannot be used; large mail must wait");
                }
                (Some(_), None) => tracing::info!(url, "the store of large bodies can be used again"),
                (None, None) if before.home.is_none() && standing.home.is_some() => {
                    tracing::info!(url, "large bodies are kept in this store");
                }
                _ => {}
            }
            crate::metrics::store_up().set(if standing.complaint().is_none() && standing.home.is_some() {
                1.0
            } else {
                0.0
            });
            before.home != standing.home
                || before.trouble != standing.trouble
                || before.early != standing.early
                || before.unwritable != standing.unwritable
        });
    }
}

/// What a fault of the store means for a message that comes in.
pub(crate) fn not_taken(fault: &Fault) -> EnqueueError {
    EnqueueError::Unavailable(format!("the store of large bodies: {fault}"))
}
