//! The clock of Redis, as this process knows it.
//!
//! Redis is the clock of the queue: scripts read TIME. Where a time must go into an id or a record before a script runs,
//! it comes from here: the last TIME that was seen, carried on by the local monotonic clock, so a wrong wall clock of a
//! pod does no harm. Before Redis was seen for the first time the wall clock stands in.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::UnixMillis;

/// The clock of one node.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Redis time at `started`, in milliseconds.
    origin: AtomicI64,
}

impl Clock {
    /// `wall` is the guess until Redis is seen.
    pub(crate) fn new(wall: UnixMillis) -> Self {
        Self { started: Instant::now(), origin: AtomicI64::new(i64::try_from(wall).unwrap_or_default()) }
    }

    /// What TIME would answer now, to within a network round trip; never later than that, as an answer is always some
    /// time under way.
    pub(crate) fn now(&self) -> UnixMillis {
        let now = self.origin.load(Ordering::Relaxed) + millis(self.started.elapsed());
        u64::try_from(now).unwrap_or_default()
    }

    /// Takes over what TIME answered just now.
    pub(crate) fn adjust(&self, redis_now: UnixMillis) {
        let origin = i64::try_from(redis_now).unwrap_or_default() - millis(self.started.elapsed());
        self.origin.store(origin, Ordering::Relaxed);
    }
}

/// The clock of this machine.
pub(crate) fn wall() -> UnixMillis {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or_default()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_of_redis_counts() {
        let clock = Clock::new(wall());
        assert!(clock.now() > 1_600_000_000_000);
        clock.adjust(1_000_000);
        assert!((1_000_000..1_060_000).contains(&clock.now()));
    }
}
