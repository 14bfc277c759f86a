//! A limit of the whole cluster as this pod uses it: Redis decides, and while it cannot, the pod by itself.
//!
//! Without Redis there must be a limit still, or whoever makes it slow may guess passwords without end; and nobody may be
//! locked out who has done nothing. So each pod counts along: what it was granted is in its own buckets too, and they
//! decide while Redis is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use staffetta_queue::{Limiter, Queue, Rate};

use crate::metrics;

/// Buckets that a pod keeps at most; beyond it those go that are nearest to full.
const BUCKETS: usize = 16 * 1024;

/// One limit.
pub(crate) struct Quota {
    limiter: Limiter,
    own: Mutex<Buckets>,
    limited: Counter,
    unavailable: Counter,
}

impl Quota {
    /// `scope` names it in Redis and in the metrics.
    pub(crate) fn new(queue: &Queue, scope: &'static str, rate: Rate) -> Self {
        Self {
            limiter: queue.limiter(scope, rate),
            own: Mutex::new(Buckets::new(rate)),
            limited: metrics::rate_limited(scope),
            unavailable: metrics::rate_limit_unavailable(scope),
        }
    }

    /// Takes one of `who`'s tokens, if there is one.
    pub(crate) async fn acquire(&self, who: &str) -> bool {
        match self.limiter.acquire(who, 1).await {
            Ok(granted) => {
                let granted = granted.tokens > 0;
                if granted {
                    self.own().take(who, Instant::now());
                }
                granted
            }
            Err(error) => {
                self.unavailable.increment(1);
                tracing::debug!(%error, "a limit is counted by this pod alone now");
                self.own().take(who, Instant::now())
            }
        }
    }

    /// Somebody was refused for want of a token.
    pub(crate) fn refused(&self) {
        self.limited.increment(1);
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Buckets> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets of one pod: when each will be full again. One that is full is not kept.
pub(crate) struct Buckets {
    interval: Duration,
    span: Duration,
    full_at: HashMap<Box<str>, Instant>,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { interval: rate.per / rate.count, span: rate.per, full_at: HashMap::new() }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, who: &str, now: Instant) -> bool {
        let full_at = self.full_at.get(who).copied().unwrap_or(now).max(now) + self.interval;
        // A bucket of seven in an hour misses some nanoseconds of its seventh token.
        if full_at > now + self.span + self.interval / 1000 {
            return false;
        }
        if self.full_at.len() >= BUCKETS && !self.full_at.contains_key(who) {
            self.make_room(now);
        }
        self.full_at.insert(who.into(), full_at);
        true
    }

    /// Puts a token back.
    pub(crate) fn give_back(&mut self, who: &str, now: Instant) {
        if let Some(full_at) = self.full_at.get_mut(who) {
            match full_at.checked_sub(self.interval).filter(|at| *at > now) {
                Some(earlier) => *full_at = earlier,
                None => drop(self.full_at.remove(who)),
            }
        }
    }

    /// Drops those that are full again, else the half that is nearest to it.
    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= BUCKETS {
            let mut times: Vec<Instant> = self.full_at.values().copied().collect();
            let (_, median, _) = times.select_nth_unstable(BUCKETS / 2);
            let median = *median;
            self.full_at.retain(|_, full_at| *full_at > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_pod_alone_grants_what_the_rate_says_and_takes_back() {
        for count in [1, 3, 7, 10, 1000] {
            let mut buckets = Buckets::new(Rate { count, per: HOUR });
            let now = Instant::now();
            let granted = (0..2 * count).filter(|_| buckets.take("a", now)).count();
            assert_eq!(granted, count as usize);
            assert!(buckets.take("b", now), "each has its own");
            buckets.give_back("a", now);
            assert!(buckets.take("a", now) && !buckets.take("a", now));
            assert!(buckets.take("a", now + HOUR / count + Duration::from_secs(1)), "time brings one back");
        }
    }

    #[test]
    fn a_flood_of_names_costs_bounded_memory_and_keeps_the_worst() {
        let mut buckets = Buckets::new(Rate { count: 10, per: HOUR });
        let now = Instant::now();
        while buckets.take("guesser", now) {}
        for n in 0..3 * BUCKETS {
            buckets.take(&n.to_string(), now);
        }
        assert!(buckets.full_at.len() <= BUCKETS);
        assert!(!buckets.take("guesser", now));
    }
}
