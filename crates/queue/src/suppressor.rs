//! Tells Redis of recipients who are not to get any more mail, beside whatever else is done with the news: nothing waits for it.
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
/// Such news of one sender's mail that count in the time for which they suppress.
const OF_ONE: u32 = 5_000;

/// See the module.
pub struct Suppressor {
    queue: Queue,
    scope: &'static str,
    suppressions: Counter,
    /// Hears who is suppressed, by which key of the configuration, and why.
    log: fn(&str, &str, &str),
    /// What is told; a drain waits for it.
    telling: TaskTracker,
    turns: Arc<Semaphore>,
    /// There was no room, and that is said.
    is_full: Arc<AtomicBool>,
}

/// Why a recipient should get no more mail.
#[derive(Debug)]
pub struct Grievance {
    /// Whom it is about.
    pub target: Target,
    /// Whose mail it was.
    pub who: String,
    /// The key of the configuration that wants it.
    pub by: &'static str,
    /// Why: so that it is told apart from what an operator has said.
    pub reason: String,
}

impl Grievance {
    /// His server has refused him for good, with these words.
    pub fn refused(target: Target, who: String, words: &str) -> Self {
        Self { target, who, by: "delivery.suppress_after", reason: format!("hard bounces: {words}") }
    }

    /// He wants no such mail, by this report.
    pub fn complains(target: Target, who: String, report: &str) -> Self {
        Self { target, who, by: "delivery.suppress_complaints", reason: format!("complaint: {report}") }
    }
}

impl Suppressor {
    /// Counts who is suppressed, and tells `log` of him, of the key and of the reason. `scope`: the name in Redis of the limit of
    /// each sender; what is found out in one way takes nothing from another.
    pub fn new(
        queue: Queue,
        scope: &'static str,
        suppressions: Counter,
        log: fn(&str, &str, &str),
        telling: TaskTracker,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { queue, scope, suppressions, log, telling, turns, is_full: Arc::default() }
    }

    /// Counts it, and suppresses the recipient if it was often enough.
    pub fn tell(&self, rule: HardBounces, grievance: Grievance) {
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return tracing::debug!("a reason to suppress somebody is not counted: too many at a time");
        };
        let (queue, suppressions, is_full) = (self.queue.clone(), self.suppressions.clone(), self.is_full.clone());
        let (log, scope) = (self.log, self.scope);
        self.telling.spawn(async move {
            let reason = grievance.shown();
            match count(&queue, scope, rule, &grievance, &reason).await {
                Ok(Reckoning::Counted) => {}
                Ok(Reckoning::Suppressed) => {
                    is_full.store(false, Ordering::Relaxed);
                    suppressions.increment(1);
                    log(&grievance.target.name(), grievance.by, &reason);
                }
                Ok(Reckoning::Full) if is_full.swap(true, Ordering::Relaxed) => {}
                Ok(Reckoning::Full) => {
                    tracing::warn!("nobody is suppressed by rules for now: there are too many suppressions and blocks");
                }
                Err(error) => tracing::debug!(%error, "failed to count a reason to suppress somebody"),
            }
            drop(turn);
        });
    }
}

/// Nothing is counted of those who have more than their share.
async fn count(
    queue: &Queue,
    scope: &'static str,
    rule: HardBounces,
    grievance: &Grievance,
    reason: &str,
) -> Result<Reckoning, Error> {
    let share = Rate { count: OF_ONE, per: rule.life };
    if queue.limiter(scope, share).acquire(&grievance.who, 1).await?.tokens == 0 {
        return Ok(Reckoning::Counted);
    }
    queue.hard_bounce(&grievance.target, rule, reason).await
}

impl Grievance {
    fn shown(&self) -> String {
        let mut reason: String = self.reason.chars().filter(|c| !c.is_control()).collect();
        reason.truncate(reason.floor_char_boundary(Block::MAX_REASON));
        reason
    }
}
