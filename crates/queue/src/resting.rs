//! Partitions whose slots are being moved: new mail passes them by for a moment, since it would have to wait there. The checks of
//! each second see a move from its beginning on, and whatever was refused for it is a sign too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;

/// How long after the last sign of a move.
const REST: Duration = Duration::from_secs(3);

/// Until when each rests.
pub(crate) struct Resting {
    began: Instant,
    /// In milliseconds since then.
    until: Box<[AtomicU64]>,
}

impl Default for Resting {
    fn default() -> Self {
        Self { began: Instant::now(), until: (0..QueueId::MAX_PARTITIONS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Resting {
    /// There was a sign.
    pub(crate) fn begin(&self, partition: u16) {
        if let Some(until) = self.until.get(usize::from(partition)) {
            until.store(self.millis(REST), Ordering::Relaxed);
        }
    }

    /// Does it rest?
    pub(crate) fn is(&self, partition: u16) -> bool {
        let until = self.until.get(usize::from(partition)).map_or(0, |until| until.load(Ordering::Relaxed));
        until > 0 && until > self.millis(Duration::ZERO)
    }

    fn millis(&self, after: Duration) -> u64 {
        u64::try_from((self.began.elapsed() + after).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_shown_no_sign_does_not_rest() {
        let resting = Resting::default();
        resting.begin(3);
        assert!(resting.is(3) && !resting.is(4) && !resting.is(u16::MAX));
        resting.until[3].store(0, Ordering::Relaxed);
        assert!(!resting.is(3), "it is over");
    }
}
