//! The clock of Redis, as this process knows it.
//!
//! Redis is the clock of the queue: scripts read TIME. Where a time must go into an id or a record before a script runs,
//! it comes from here: the last TIME that was seen, carried on by the local monotonic clock, so a wrong wall clock of a
//! pod does no harm. Before Redis was seen for the first time the wall clock stands in.
//!
//! Where the time of Redis leaps ahead (somebody sets its clock, a replica with another one takes its place), all leases
//! look as if they had ended. Nobody takes them back until whoever holds them has had the time to renew them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::UnixMillis;

/// By so much, in milliseconds, an answer may be ahead of what was expected: as long as one may be under way.
const LEAP: i64 = 10_000;

/// The clock of one node.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Redis time at `started`, in milliseconds.
    origin: AtomicI64,
    /// Is that more than a guess?
    seen: AtomicBool,
    /// When the last leap was noticed, in milliseconds since `started`; 0: there was none.
    leapt: AtomicU64,
}

impl Clock {
    /// `wall` is the guess until Redis is seen.
    pub(crate) fn new(wall: UnixMillis) -> Self {
        let origin = AtomicI64::new(i64::try_from(wall).unwrap_or_default());
        Self { started: Instant::now(), origin, seen: AtomicBool::new(false), leapt: AtomicU64::new(0) }
    }

    /// What TIME would answer now, to within a network round trip; never later than that, as an answer is always some
    /// time under way.
    pub(crate) fn now(&self) -> UnixMillis {
        let now = self.origin.load(Ordering::Relaxed) + millis(self.started.elapsed());
        u64::try_from(now).unwrap_or_default()
    }

    /// Takes over what TIME answered just now.
    pub(crate) fn adjust(&self, redis_now: UnixMillis) {
        let elapsed = millis(self.started.elapsed());
        let origin = i64::try_from(redis_now).unwrap_or_default() - elapsed;
        let before = self.origin.swap(origin, Ordering::Relaxed);
        if self.seen.swap(true, Ordering::Relaxed) && origin.saturating_sub(before) > LEAP {
            let ahead = (origin - before) / 1000;
            tracing::warn!(
                seconds = ahead,
                "the clock of Redis has leapt ahead: leases that look expired are left alone for a while"
            );
            self.leapt.store(u64::try_from(elapsed).unwrap_or_default().max(1), Ordering::Relaxed);
        }
    }

    /// Was Redis ever seen?
    pub(crate) fn is_known(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Has it leapt ahead within the last so long?
    pub(crate) fn has_leapt_within(&self, so_long: Duration) -> bool {
        let leapt = self.leapt.load(Ordering::Relaxed);
        leapt > 0 && self.started.elapsed() < Duration::from_millis(leapt) + so_long
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
    #[test]
    fn an_answer_that_is_far_ahead_is_a_leap_and_the_first_one_is_none() {
        let clock = Clock::new(0);
        let moment = Duration::from_secs(60);
        assert!(!clock.is_known());
        clock.adjust(1_000_000_000);
        assert!(clock.is_known());
        assert!(!clock.has_leapt_within(moment), "before there was but a guess");
        clock.adjust(1_000_009_000);
        clock.adjust(999_000_000);
        assert!(!clock.has_leapt_within(moment), "late, or set back");
        clock.adjust(1_003_600_000);
        assert!(clock.has_leapt_within(moment));
    }
}
