//! Tells Redis of recipients who were refused for good, beside whatever else is done with the news: nothing waits for it.
//!
//! What may be told, and by whom it was found out, is for the callers (docs/decisions/025, 034). What is lost of it while Redis
//! is away, or because more come than can be told, is found out again by the next message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::Counter;
use staffetta_config::Rate;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{Block, Error, HardBounces, Queue, Reckoning, Target};

/// Told at a time.
const AT_ONCE: usize = 64;
/// Hard bounces of one sender that count in the time for which they suppress.
const OF_ONE: u32 = 5_000;
/// The name of that limit in Redis.
const SCOPE: &str = "hard_bounces";

/// See the module.
pub struct Suppressor {
    queue: Queue,
    suppressions: Counter,
    /// Hears who is suppressed, and why.
    log: fn(&str, &str),
    /// What is told; a drain waits for it.
    telling: TaskTracker,
    turns: Arc<Semaphore>,
    /// There was no room, and that is said.
    is_full: Arc<AtomicBool>,
}

/// One hard bounce.
#[derive(Debug)]
pub struct HardBounce {
    /// Who was refused.
    pub target: Target,
    /// Whose mail it was.
    pub who: String,
    /// Why.
    pub words: String,
}

impl Suppressor {
    /// Counts who is suppressed, and tells `log` of him and of the reason.
    pub fn new(queue: Queue, suppressions: Counter, log: fn(&str, &str), telling: TaskTracker) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { queue, suppressions, log, telling, turns, is_full: Arc::default() }
    }

    /// Counts it, and suppresses the recipient if it was often enough.
    pub fn refused(&self, rule: HardBounces, bounce: HardBounce) {
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return tracing::debug!("a hard bounce is not counted: too many at a time");
        };
        let (queue, suppressions, is_full) = (self.queue.clone(), self.suppressions.clone(), self.is_full.clone());
        let log = self.log;
        self.telling.spawn(async move {
            let reason = bounce.reason();
            match count(&queue, rule, &bounce, &reason).await {
                Ok(Reckoning::Counted) => {}
                Ok(Reckoning::Suppressed) => {
                    is_full.store(false, Ordering::Relaxed);
                    suppressions.increment(1);
                    log(&bounce.target.name(), &reason);
                }
                Ok(Reckoning::Full) if is_full.swap(true, Ordering::Relaxed) => {}
                Ok(Reckoning::Full) => {
                    tracing::warn!("hard bounces suppress nobody for now: there are too many suppressions and blocks");
                }
                Err(error) => tracing::debug!(%error, "failed to count a hard bounce"),
            }
            drop(turn);
        });
    }
}

/// Nothing is counted of those who have more than their share.
async fn count(queue: &Queue, rule: HardBounces, bounce: &HardBounce, reason: &str) -> Result<Reckoning, Error> {
    let share = Rate { count: OF_ONE, per: rule.life };
    if queue.limiter(SCOPE, share).acquire(&bounce.who, 1).await?.tokens == 0 {
        return Ok(Reckoning::Counted);
    }
    queue.hard_bounce(&bounce.target, rule, reason).await
}

impl HardBounce {
    /// So that it is told apart from a suppression that an operator has made.
    fn reason(&self) -> String {
        let said = self.words.chars().filter(|c| !c.is_control());
        let mut reason: String = "hard bounces: ".chars().chain(said).collect();
        reason.truncate(reason.floor_char_boundary(Block::MAX_REASON));
        reason
    }
}
