//! How many messages of a login are in the queue, as this pod knows it: Redis is asked once a second at most, and what this pod accepts
//! in between counts along. So a login that sends much costs one question a second, and what it has beyond its limit is what came in
//! through other pods within that second, and what was under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use staffetta_queue::Queue;
use tokio::time::timeout;

use crate::metrics;

/// How long an answer of Redis is good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Logins that are remembered.
const LOGINS: usize = 16 * 1024;
/// The name in the metrics.
const SCOPE: &str = "queued";

/// A limit of what may wait.
pub(crate) struct Depth {
    queue: Queue,
    /// For each login; 0: there is none.
    limit: AtomicU32,
    known: Mutex<Known>,
    limited: Counter,
    unavailable: Counter,
}

/// What was said of logins lately.
#[derive(Default)]
struct Known(HashMap<Box<str>, (u64, Instant)>);

impl Depth {
    pub(crate) fn new(queue: &Queue, limit: Option<u32>) -> Self {
        Self {
            queue: queue.clone(),
            limit: AtomicU32::new(limit.unwrap_or(0)),
            known: Mutex::default(),
            limited: metrics::rate_limited(SCOPE),
            unavailable: metrics::rate_limit_unavailable(SCOPE),
        }
    }

    /// What holds from now on.
    pub(crate) fn change(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// How many messages of one login may be in the queue, if there is an end of them.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// May one more be? While Redis does not say, it may: a Redis that is away takes no message anyhow.
    pub(crate) async fn has_room(&self, login: &str, limit: u32) -> bool {
        let known = self.known().fresh(login, Instant::now());
        let messages = match known {
            Some(messages) => messages,
            None => {
                let Ok(Ok(messages)) = timeout(PATIENCE, self.queue.depth(login)).await else {
                    self.unavailable.increment(1);
                    return true;
                };
                self.known().learn(login, messages, Instant::now());
                messages
            }
        };
        let has_room = messages < u64::from(limit);
        if !has_room {
            self.limited.increment(1);
        }
        has_room
    }

    /// One more is.
    pub(crate) fn queued(&self, login: &str) {
        self.known().add(login);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn fresh(&self, login: &str, now: Instant) -> Option<u64> {
        let (messages, at) = self.0.get(login)?;
        (now.saturating_duration_since(*at) < FRESH).then_some(*messages)
    }

    fn learn(&mut self, login: &str, messages: u64, now: Instant) {
        if self.0.len() >= LOGINS {
            self.0.retain(|_, (_, at)| now.saturating_duration_since(*at) < FRESH);
        }
        if self.0.len() < LOGINS {
            self.0.insert(login.into(), (messages, now));
        }
    }

    fn add(&mut self, login: &str) {
        if let Some((messages, _)) = self.0.get_mut(login) {
            *messages += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_good_for_a_second_and_counts_along() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.add("john");
        assert_eq!(known.fresh("john", now), None, "nobody has said anything of him");
        known.learn("john", 3, now);
        known.add("john");
        assert_eq!((known.fresh("john", now), known.fresh("lisa", now)), (Some(4), None));
        assert_eq!(known.fresh("john", now + FRESH), None);
        known.learn("john", 1, now + FRESH);
        assert_eq!(known.fresh("john", now + FRESH), Some(1));
    }

    #[test]
    fn a_flood_of_logins_costs_bounded_memory() {
        let (mut known, now) = (Known::default(), Instant::now());
        for n in 0..2 * LOGINS {
            known.learn(&n.to_string(), 1, now);
        }
        assert_eq!(known.0.len(), LOGINS);
        known.learn("late", 1, now + FRESH);
        assert_eq!(known.0.len(), 1, "those of a second ago make room");
    }
}
