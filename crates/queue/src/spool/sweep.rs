//! Bodies that nobody knows of: their entry in the garbage set was lost, as when a replica that had not heard of it took the
//! place of its primary, or a program that does not know the store deleted their message.
//!
//! Now and then one worker of all goes through the store, a page at a time, and enters what has no message among the
//! garbage. What was written in the last hour is left alone.

use std::time::{Duration, UNIX_EPOCH};

use futures_util::TryStreamExt;
use redis::Value;

use super::{IN_STORE, Place, Spool, UNFINISHED};
use crate::shared::{Requests, Shared};
use crate::{Error, value};

/// How often.
const EVERY: Duration = Duration::from_secs(3_600);
/// What is younger is hardly worth a question: most of it has a message, or an entry.
const AGE: Duration = Duration::from_secs(3_600);
/// Bodies that Redis is asked about in one go.
const GROUP: usize = 256;

impl Shared {
    /// Once in a while, if this process is a worker.
    pub(super) async fn sweep_store(&self, spool: &Spool) -> Result<(), String> {
        if !self.formats().is_listed() {
            return Ok(());
        }
        if !self.has_turn("sweep", "store", EVERY).await.map_err(|error| error.to_string())? {
            return Ok(());
        }
        let found = self.find_orphans(spool, AGE, true).await?;
        if !found.is_empty() {
            tracing::warn!(bodies = found.len(), "bodies in the store belonged to no message and are deleted");
        }
        Ok(())
    }

    /// Bodies older than this that belong to no message; with `enter` they are garbage from then on. At most some thousands, the
    /// rest the next time.
    pub(crate) async fn find_orphans(&self, spool: &Spool, age: Duration, enter: bool) -> Result<Vec<Place>, String> {
        let under = spool.home().await.map_err(|fault| fault.to_string())?.under;
        let limit = UNIX_EPOCH + Duration::from_millis(self.home().clock.now()).saturating_sub(age);
        let groups = spool.store.groups(&under).await.map_err(|fault| fault.to_string())?;
        let old = groups.try_filter_map(|group| {
            let place = (group.written <= limit).then(|| Place::parse(&group.name)).flatten();
            std::future::ready(Ok(place))
        });
        let mut pages = std::pin::pin!(old.try_chunks(GROUP));
        let mut orphans = Vec::new();
        while let Some(places) = pages.try_next().await.map_err(|error| error.to_string())? {
            orphans.extend(self.orphans(&places, enter).await.map_err(|error| error.to_string())?);
            if orphans.len() >= MOST {
                break;
            }
        }
        Ok(orphans)
    }

    /// Those of these that belong to no message, and do not come in.
    async fn orphans(&self, places: &[Place], enter: bool) -> Result<Vec<Place>, Error> {
        let is_known = |place: &Place| place.id.partition() < self.count.known();
        let places: Vec<Place> = places.iter().copied().filter(is_known).collect();
        let mut requests = Requests::new(self);
        for place in &places {
            let keys = self.partition(place.id.partition());
            requests.to(keys.number).cmd("ZSCORE").arg(&keys.ids).arg(place.id.to_string());
            requests.to(keys.number).cmd("EXISTS").arg(keys.record(place.id));
            for kind in [UNFINISHED, IN_STORE] {
                requests.to(keys.number).cmd("ZSCORE").arg(&keys.garbage).arg(place.entry(kind));
            }
        }
        let answers = self.ask_all(&requests).await?;
        let unknown = |facts: &[Value]| match facts {
            [listed, record, unfinished, garbage] => {
                [listed, unfinished, garbage].into_iter().all(|score| *score == Value::Nil) && value::count(record) == 0
            }
            _ => false,
        };
        let each = places.into_iter().zip(answers.chunks(4));
        let found: Vec<Place> = each.filter(|(_, facts)| unknown(facts)).map(|(place, _)| place).collect();
        if enter && !found.is_empty() {
            let mut requests = Requests::new(self);
            for place in &found {
                let keys = self.partition(place.id.partition());
                let add = requests.to(keys.number).cmd("ZADD").arg(&keys.garbage);
                add.arg("NX").arg(1).arg(place.entry(IN_STORE));
            }
            self.ask_all(&requests).await?;
        }
        Ok(found)
    }
}

/// Orphans of one sweep.
const MOST: usize = 10_000;
