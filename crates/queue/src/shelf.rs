//! Records of messages to many destinations, kept for a moment by whoever delivers them: their envelope is long, and each job
//! would read all of it again.
//!
//! A record changes only when an operator means one recipient of several, or when its body is moved to the store, and is longer
//! then; whoever finds it here asks Redis how long it is now.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;

use crate::record::Record;

/// Records with fewer jobs, or fewer octets, are read as they come.
const MANY: u16 = 8;
const LONG: usize = 8 * 1024;
/// Octets of all that are kept, as they lie in Redis; one is kept however long it is.
const ROOM: usize = 16 * 1024 * 1024;
/// What nobody has asked for so long is forgotten.
const IDLE: Duration = Duration::from_secs(10);

/// What is at hand.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<VecDeque<Kept>>);

struct Kept {
    id: QueueId,
    octets: usize,
    record: Arc<Record>,
    used: Instant,
}

impl Shelf {
    /// The record as it was read, and how long it was then.
    pub(crate) fn find(&self, id: QueueId, now: Instant) -> Option<(Arc<Record>, usize)> {
        let mut all = self.lock();
        let kept = all.iter_mut().find(|kept| kept.id == id)?;
        kept.used = now;
        Some((kept.record.clone(), kept.octets))
    }

    /// Keeps what is worth it.
    pub(crate) fn keep(&self, id: QueueId, record: &Arc<Record>, octets: usize, now: Instant) {
        if record.jobs() < MANY || octets < LONG {
            return;
        }
        let mut all = self.lock();
        all.retain(|kept| kept.id != id);
        all.push_back(Kept { id, octets, record: record.clone(), used: now });
        while all.len() > 1 && all.iter().map(|kept| kept.octets).sum::<usize>() > ROOM {
            all.pop_front();
        }
    }

    /// Forgets what is no longer asked for.
    pub(crate) fn tidy(&self, now: Instant) {
        self.lock().retain(|kept| now.saturating_duration_since(kept.used) < IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::format::OLDEST;
    use crate::op::inside::accept;
    use crate::record::{Content, Encoded};

    fn record(unique: u32, jobs: usize) -> (QueueId, Arc<Record>) {
        let id = QueueId::new(0, 1, unique);
        let to: Vec<String> = (0..jobs).map(|number| format!("a@d{number}.example")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let encoded = Encoded::new(OLDEST, id, &accept(&to), 1, Content::inline(b"x")).unwrap();
        (id, Arc::new(Record::decode(id, &encoded.bytes.into(), OLDEST).unwrap()))
    }

    #[test]
    fn long_records_of_many_jobs_are_kept_while_they_are_asked_for_and_there_is_room() {
        let (shelf, now) = (Shelf::default(), Instant::now());
        let (few, short) = (record(1, 7), record(2, 8));
        shelf.keep(few.0, &few.1, LONG, now);
        shelf.keep(short.0, &short.1, LONG - 1, now);
        assert!(shelf.find(few.0, now).is_none() && shelf.find(short.0, now).is_none());

        let records: Vec<_> = (3..6).map(|unique| record(unique, 8)).collect();
        for (id, record) in &records {
            shelf.keep(*id, record, ROOM / 2, now);
        }
        assert!(shelf.find(records[0].0, now).is_none(), "there is room for two");
        assert_eq!(shelf.find(records[1].0, now).unwrap().1, ROOM / 2);
        shelf.keep(records[2].0, &records[2].1, 2 * ROOM, now);
        assert!(shelf.find(records[1].0, now).is_none() && shelf.find(records[2].0, now).is_some());
        shelf.tidy(now + IDLE / 2);
        assert!(shelf.find(records[2].0, now + IDLE / 2).is_some());
        shelf.tidy(now + IDLE);
        assert!(shelf.find(records[2].0, now).is_some(), "it was asked for meanwhile");
        shelf.tidy(now + IDLE * 2);
        assert!(shelf.find(records[2].0, now).is_none());
    }
}
