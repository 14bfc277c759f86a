//! The part of a look that is about the store: torn bodies, and those that belong to no message.

use std::time::Duration;

use super::Look;
use crate::Error;
use crate::finding::Problem;
use crate::partition::Partition;
use crate::spool::Place;

/// What was written in the store within this time may be about to get its message, or to lose it.
const MOVING: Duration = Duration::from_secs(300);

impl Look<'_> {
    /// Bodies in the store: is all of each there? Looked at one by one, for operators who can wait.
    pub(super) async fn pieces(&mut self, keys: &Partition) -> Result<(), Error> {
        let in_store = std::mem::take(&mut self.in_store);
        if in_store.is_empty() {
            return Ok(());
        }
        let spool = self.shared.store_here()?;
        for (id, (place, pieces)) in in_store {
            let found = spool.count(place).await.map_err(|fault| Error::StoreAway(fault.to_string()))?;
            // It may have ended meanwhile.
            if found < u64::from(pieces) && matches!(self.shared.record(id).await?, Some(Ok(_))) {
                self.found(keys.number, Some(id), Problem::Torn, String::new());
            }
        }
        Ok(())
    }

    /// Bodies in the store that belong to no message.
    pub(super) async fn store(&mut self) -> Result<(), Error> {
        let Some(spool) = &self.shared.spool else { return Ok(()) };
        let orphans = self.shared.find_orphans(spool, MOVING, self.repair).await.map_err(Error::StoreAway)?;
        for Place { id, .. } in orphans {
            self.found(id.partition(), Some(id), Problem::Leftover, "in the store".to_owned());
        }
        Ok(())
    }
}
