//! Whether Redis has answered all along, as this process sees it.
//!
//! A Redis that stands still may have queued a message in its last moment and not said so. The client of that message is
//! told no when the patience of its enqueue ends, and the withdrawal gets through once Redis goes on: until then no
//! worker may begin with it. So after a stall of some length nothing is claimed for a moment. A stall too short for that
//! is one that every enqueue outlives.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A silence that may have cost an enqueue its answer: far below the patience of an enqueue, and far above the pauses
/// between two questions of a process, the checks of each second among them.
pub(crate) const STALL: Duration = Duration::from_secs(5);
/// How long whoever has refused a message may need to reach Redis again and withdraw it.
pub(crate) const SETTLING: Duration = Duration::from_secs(5);

/// When a server last answered, and whether that is long enough ago.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Debug, Clone, Copy)]
struct Beat {
    last: Instant,
    /// When what it did in its last moment is known or undone.
    settled: Instant,
}

impl Pulse {
    /// As if it had answered just now.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Beat { last: now, settled: now }))
    }

    /// It has answered. How long nothing may be claimed yet, zero if it has not stood still.
    pub(crate) fn answered(&self, now: Instant) -> Duration {
        let mut beat = self.beat();
        if now.saturating_duration_since(beat.last) > STALL {
            beat.settled = now + SETTLING;
        }
        beat.last = beat.last.max(now);
        beat.settled.saturating_duration_since(now)
    }

    /// What it has was somewhere else until now, and may have been out of reach there.
    pub(crate) fn unsettle(&self, now: Instant) {
        let mut beat = self.beat();
        beat.settled = beat.settled.max(now + SETTLING);
    }

    /// Nothing may be claimed, as far as is known without an answer.
    pub(crate) fn is_settling(&self, now: Instant) -> bool {
        self.beat().settled > now
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_given_the_same_moment() {
        let now = Instant::now();
        let pulse = Pulse::new(now);
        pulse.unsettle(now);
        assert!(pulse.is_settling(now) && pulse.answered(now) == SETTLING);
        assert!(!pulse.is_settling(now + SETTLING));
    }

    #[test]
    fn after_a_stall_and_only_then_a_moment_must_pass() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pulse = Pulse::new(start);
        assert_eq!(pulse.answered(at(4)), Duration::ZERO);
        assert_eq!(pulse.answered(at(9)), Duration::ZERO, "it was as slow as a disk can be");
        assert!(!pulse.is_settling(at(20)));
        assert_eq!(pulse.answered(at(20)), SETTLING);
        assert!(pulse.is_settling(at(20)));
        assert_eq!(pulse.answered(at(22)), SETTLING - Duration::from_secs(2), "it answers again, but not for long");
        assert_eq!(pulse.answered(at(25)), Duration::ZERO);
        assert_eq!(pulse.answered(at(24)), Duration::from_secs(1), "answers may be told of out of order");
        assert_eq!(pulse.answered(at(26)), Duration::ZERO);
    }
}
