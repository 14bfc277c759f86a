//! What becomes of a body in the store: it comes in, is queued, and goes.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline};
use staffetta_mail::QueueId;

use crate::Error;
use crate::error::Fault;
use crate::ledger::Charge;
use crate::partition::Partition;
use crate::script;
use crate::shared::Shared;
use crate::spool::{IN_STORE, Place, Spool, UNFINISHED, UNSET};

/// Before the store is asked again to delete what was given up.
const AGAIN: Duration = Duration::from_secs(5);

impl Shared {
    /// The store, for what lies there.
    pub(crate) fn store_here(&self) -> Result<&Spool, Error> {
        self.spool.as_deref().ok_or_else(|| Error::StoreAway(UNSET.to_owned()))
    }

    /// Octets of the largest body that stays in Redis: while memory is short, none of those that can go to the store.
    pub(crate) fn redis_limit(&self, partition: u16) -> u64 {
        let Some(spool) = &self.spool else { return u64::MAX };
        let is_tight = self.node(partition).memory().is_tight(self.settings.max_memory_ratio);
        if is_tight && spool.cannot_write().is_none() {
            return self.settings.inline_limit.min(spool.limit);
        }
        spool.limit
    }

    /// Before the first piece is written: if nothing follows, it is cleared up after the life of a chunk.
    pub(crate) async fn enter_unfinished(&self, place: Place) -> Result<(), Fault> {
        self.store(place.id, || self.unfinished(place, false)).await
    }

    /// It still comes in. Not if it was given up meanwhile: then it is not queued any more.
    pub(crate) async fn refresh_unfinished(&self, place: Place) -> Result<(), Fault> {
        self.node(place.id.partition()).bodies.ask(self.unfinished(place, true)).await.map(drop)
    }

    fn unfinished(&self, place: Place, again: bool) -> Cmd {
        let partition = place.id.partition();
        let due = self.node(partition).clock.now().saturating_add(self.life());
        let (garbage, entry) = (&self.partition(partition).garbage, place.entry(UNFINISHED));
        script::Unfinished { garbage, entry: (&*entry).into(), due: due.into(), again: again.into() }.call()
    }

    /// A message was given up before anybody asked for it to be queued. Its entry stays: a piece may still be on its way, and
    /// what cannot be deleted now is left to a reaper. What it has taken of the budget is given back when it is gone, whoever
    /// has deleted it.
    pub(crate) async fn give_up_unfinished(self: Arc<Self>, id: QueueId, charge: Option<Charge>) {
        let Some(spool) = &self.spool else { return };
        while let Err(fault) = spool.remove(Place::of(id)).await {
            tracing::debug!(qid = %id, %fault, "a body that was given up is cleared up later");
            let again = self.shutdown.run_until_cancelled(tokio::time::sleep(AGAIN));
            if charge.is_none() || again.await.is_none() {
                return;
            }
        }
    }

    /// Deletes bodies that were found among the garbage, in the background: a slow store must not keep those waiting who
    /// reap. What is not done keeps its entry, which is due again when the term of this reaper has ended.
    pub(crate) fn remove_from_store(self: &Arc<Self>, keys: &Partition, places: Vec<Place>) {
        let Some(spool) = self.spool.clone().filter(|_| !places.is_empty()) else { return };
        let Ok(turn) = spool.reapers().try_acquire_owned() else { return };
        let (shared, number) = (self.clone(), keys.number);
        let shutdown = self.shutdown.clone();
        let removing = async move {
            let _turn = turn;
            for place in places {
                if let Err(fault) = spool.remove(place).await {
                    tracing::debug!(%place, %fault, "a body in the store waits to be deleted");
                    return;
                }
                let mut pipeline = Pipeline::new();
                pipeline.cmd("ZREM").arg(&shared.partition(number).garbage).arg(place.entry(IN_STORE));
                if shared.node(number).bodies.send(&pipeline).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move { shutdown.run_until_cancelled(removing).await });
    }
}

impl Spool {
    fn reapers(&self) -> Arc<tokio::sync::Semaphore> {
        self.reapers.clone()
    }
}
