//! One poller for each partition: asks which destinations have work and hands them to the lanes.
//!
//! Polling adapts: at once while there is work, twenty times a second shortly after, four times a second when nothing
//! has happened for long, never later than the next job is due, and at once when somebody says that mail has come.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use crate::lanes::Work;
use crate::worker::Worker;

/// Destinations asked for at a time.
const LIMIT: usize = 50;
/// Between polls while there is work; long enough that each finds several jobs.
const BUSY: Duration = Duration::from_millis(5);
/// Between polls after the last work, at first.
const CALM: Duration = Duration::from_millis(50);
/// Between polls when nothing has happened for [`DROWSY_AFTER`].
const DROWSY: Duration = Duration::from_millis(100);
/// Between polls when nothing has happened for [`ASLEEP_AFTER`].
const ASLEEP: Duration = Duration::from_millis(250);
const DROWSY_AFTER: Duration = Duration::from_secs(10);
const ASLEEP_AFTER: Duration = Duration::from_secs(60);
/// Before a look at whether the pool has room again.
const FULL: Duration = Duration::from_millis(50);
const FULL_ROUNDS: u32 = 5;
/// How often is looked for partitions that were added.
const GROWTH: Duration = Duration::from_secs(1);
/// How long the first poll waits for what operators have said about logins and recipients.
const KNOWN: Duration = Duration::from_secs(2);
/// After a failed poll.
const AWAY: Duration = Duration::from_millis(250);

/// Polls every partition there is, and those that come, until the worker stops. Ends before if one of them does.
pub(crate) async fn poll_all(worker: Arc<Worker>) {
    // Whom no mail is to be sent to must be known before any is.
    worker.stop.run_until_cancelled(worker.revocations.is_current_within(KNOWN)).await;
    let mut pollers = JoinSet::new();
    let mut polled = 0;
    loop {
        while polled < worker.queue.partitions() {
            pollers.spawn(poll(worker.clone(), polled));
            polled += 1;
        }
        tokio::select! {
            biased;
            () = worker.stop.cancelled() => break,
            Some(ended) = pollers.join_next() => match ended.map_err(JoinError::try_into_panic) {
                Err(Ok(panic)) => resume_unwind(panic),
                _ => return,
            },
            () = tokio::time::sleep(GROWTH) => {}
        }
    }
    while pollers.join_next().await.is_some() {}
}

/// Polls one partition until the worker stops.
async fn poll(worker: Arc<Worker>, partition: u16) {
    let mut rhythm = Rhythm { busy: BUSY, last_work: Instant::now() };
    loop {
        // What is at hand is more than can be begun: looking for more only costs. Now and then it is done all the
        // same, because an offer is what gives a carrier to a lane that could not have one before.
        let mut patience = 0;
        while worker.lanes.are_full() && patience < FULL_ROUNDS {
            patience += 1;
            if worker.stop.run_until_cancelled(tokio::time::sleep(FULL)).await.is_none() {
                return;
            }
        }
        let Some(offer) = worker.stop.run_until_cancelled(worker.queue.offer(partition, LIMIT)).await else { return };
        let pause = match offer {
            Ok(offer) => {
                let found = offer.destinations.len();
                for destination in offer.destinations {
                    worker.carry(&Work { partition, destination });
                }
                rhythm.after(found, offer.next, Instant::now())
            }
            Err(error) => {
                tracing::debug!(partition, %error, "failed to poll the queue");
                AWAY
            }
        };
        tokio::select! {
            biased;
            () = worker.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // Whoever was about to poll anyhow finds it then.
            () = worker.wakes.of(partition), if pause > BUSY => {}
        }
    }
}

/// How soon to poll again.
struct Rhythm {
    busy: Duration,
    last_work: Instant,
}

impl Rhythm {
    /// After a poll that found so many destinations, with the next one due after `next`.
    fn after(&mut self, found: usize, next: Option<Duration>, now: Instant) -> Duration {
        if found == LIMIT {
            self.last_work = now;
            return Duration::ZERO;
        }
        if found > 0 {
            self.last_work = now;
            self.busy = BUSY;
            return BUSY;
        }
        self.busy = (self.busy * 2).min(CALM);
        let idle = now.saturating_duration_since(self.last_work);
        let pause = match idle {
            _ if idle >= ASLEEP_AFTER => ASLEEP,
            _ if idle >= DROWSY_AFTER => DROWSY,
            _ => self.busy,
        };
        // Never shorter than busy: "next" may be a destination that was offered just now.
        next.map_or(pause, |next| next.clamp(BUSY, pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_slows_down_when_nothing_happens_and_wakes_for_what_is_due() {
        let start = Instant::now();
        let mut rhythm = Rhythm { busy: BUSY, last_work: start };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rhythm.after(LIMIT, None, start), Duration::ZERO);
        assert_eq!(rhythm.after(3, None, start), BUSY);
        for _ in 0..8 {
            rhythm.after(0, None, start);
        }
        assert_eq!(rhythm.after(0, None, at(1)), CALM);
        assert_eq!(rhythm.after(0, None, at(11)), DROWSY);
        assert_eq!(rhythm.after(0, None, at(61)), ASLEEP);
        assert_eq!(rhythm.after(0, Some(Duration::from_millis(70)), at(61)), Duration::from_millis(70));
        assert_eq!(rhythm.after(0, Some(Duration::ZERO), at(61)), BUSY);
        assert_eq!(rhythm.after(1, None, at(70)), BUSY);
        assert_eq!(rhythm.after(0, None, at(70)), BUSY * 2);
    }
}
