//! A limit of the whole cluster as this pod uses it: Redis decides, and while it cannot, the pod by itself.
//!
//! Without Redis there must be a limit still, or whoever makes it slow may guess passwords without end; and nobody may be
//! locked out who has done nothing. So each pod counts along: what it was granted is in its own buckets too, and they
//! decide while Redis is away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use staffetta_queue::{Queue, Rate};

use crate::metrics;

/// Buckets that a pod keeps at most; beyond it those go that are nearest to full.
const BUCKETS: usize = 16 * 1024;

/// One kind of limit. How much each may have is said with each question.
pub(crate) struct Quota {
    queue: Queue,
    scope: &'static str,
    own: Mutex<Buckets>,
    limited: Counter,
    unavailable: Counter,
}

impl Quota {
    /// `scope` names it in Redis and in the metrics.
    pub(crate) fn new(queue: &Queue, scope: &'static str) -> Self {
        Self {
            queue: queue.clone(),
            scope,
            own: Mutex::default(),
            limited: metrics::rate_limited(scope),
            unavailable: metrics::rate_limit_unavailable(scope),
        }
    }

    /// Takes one of `who`'s tokens, if there is one.
    pub(crate) async fn acquire(&self, who: &str, rate: Rate) -> bool {
        self.take(who, rate, 1).await > 0
    }

    /// Takes up to so many of them; says how many there were.
    pub(crate) async fn take(&self, who: &str, rate: Rate, tokens: u32) -> u32 {
        match self.queue.limiter(self.scope, rate).acquire(who, tokens).await {
            Ok(granted) => {
                self.own().take(who, rate, granted.tokens, Instant::now());
                granted.tokens
            }
            Err(error) => {
                self.unavailable.increment(1);
                tracing::debug!(%error, "a limit is counted by this pod alone now");
                self.own().take(who, rate, tokens, Instant::now())
            }
        }
    }

    /// Puts back what was taken and not used; false: Redis did not hear of it, and time brings the tokens back.
    pub(crate) async fn give_back(&self, who: &str, rate: Rate, tokens: u32) -> bool {
        self.own().give_back(who, rate, tokens, Instant::now());
        self.queue.limiter(self.scope, rate).give_back(who, tokens).await.is_ok()
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
#[derive(Default)]
pub(crate) struct Buckets {
    full_at: HashMap<Box<str>, Instant>,
}

impl Buckets {
    /// Takes up to so many tokens; says how many there were.
    pub(crate) fn take(&mut self, who: &str, rate: Rate, tokens: u32, now: Instant) -> u32 {
        let stored = self.full_at.get(who).copied();
        let full_at = within(stored, rate, now);
        let taken = there(full_at, rate, now).min(tokens);
        // What was empty for longer than a bucket lasts now had another size: from here on it fills as this one does.
        if taken > 0 || stored.is_some_and(|stored| stored > full_at) {
            if self.full_at.len() >= BUCKETS && !self.full_at.contains_key(who) {
                self.make_room(now);
            }
            self.full_at.insert(who.into(), full_at + interval(rate) * taken);
        }
        taken
    }

    /// How many tokens there are.
    pub(crate) fn left(&self, who: &str, rate: Rate, now: Instant) -> u32 {
        there(within(self.full_at.get(who).copied(), rate, now), rate, now)
    }

    /// Puts tokens back.
    pub(crate) fn give_back(&mut self, who: &str, rate: Rate, tokens: u32, now: Instant) {
        if let Some(full_at) = self.full_at.get_mut(who) {
            match full_at.checked_sub(interval(rate).saturating_mul(tokens)).filter(|at| *at > now) {
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

/// When a bucket is full: neither before now, nor later than an empty one.
fn within(stored: Option<Instant>, rate: Rate, now: Instant) -> Instant {
    stored.map_or(now, |at| at.clamp(now, now + rate.per))
}

/// What is in a bucket that will be full then. Rounded down: of seven in an hour the seventh must not miss some nanoseconds.
fn there(full_at: Instant, rate: Rate, now: Instant) -> u32 {
    let tokens = (now + rate.per - full_at).as_nanos() / interval(rate).as_nanos();
    u32::try_from(tokens).unwrap_or(u32::MAX).min(rate.count)
}

/// How long it takes until a token is back; at least a nanosecond.
fn interval(rate: Rate) -> Duration {
    (rate.per / rate.count.max(1)).max(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_pod_alone_grants_what_the_rate_says_and_takes_back() {
        for count in [1, 3, 7, 10, 1000] {
            let (mut buckets, rate) = (Buckets::default(), Rate { count, per: HOUR });
            let now = Instant::now();
            let granted: u32 = (0..2 * count).map(|_| buckets.take("a", rate, 1, now)).sum();
            assert_eq!(granted, count);
            assert_eq!(buckets.take("b", rate, u32::MAX, now), count, "each has its own");
            assert_eq!((buckets.left("a", rate, now), buckets.left("b", rate, now)), (0, 0));
            buckets.give_back("a", rate, 1, now);
            assert_eq!(buckets.left("a", rate, now), 1);
            assert_eq!(buckets.take("a", rate, 5, now), 1);
            assert_eq!(buckets.take("a", rate, 1, now), 0);
            buckets.give_back("b", rate, u32::MAX, now);
            assert_eq!(buckets.take("b", rate, u32::MAX, now), count, "full is full");
            let later = now + HOUR / count + Duration::from_secs(1);
            assert_eq!(buckets.take("a", rate, 1, later), 1, "time brings one back");
        }
    }

    #[test]
    fn a_rate_may_change_between_two_questions() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        let rate = |count| Rate { count, per: HOUR };
        assert_eq!(buckets.take("a", rate(10), 5, now), 5);
        assert_eq!(buckets.take("a", rate(100), u32::MAX, now), 50, "half of the time is left, at another pace");
        assert_eq!(buckets.take("a", rate(1000), 1, now), 0);
        let short = Rate { count: 10, per: Duration::from_secs(1) };
        assert_eq!(buckets.take("a", short, 1, now), 0, "it was empty");
        assert_eq!(
            buckets.take("a", short, 9, now + Duration::from_millis(150)),
            1,
            "and does not stay so for an hour"
        );
    }

    #[test]
    fn a_flood_of_names_costs_bounded_memory_and_keeps_the_worst() {
        let (mut buckets, rate) = (Buckets::default(), Rate { count: 10, per: HOUR });
        let now = Instant::now();
        buckets.take("guesser", rate, u32::MAX, now);
        for n in 0..3 * BUCKETS {
            buckets.take(&n.to_string(), rate, 1, now);
        }
        assert!(buckets.full_at.len() <= BUCKETS);
        assert_eq!(buckets.take("guesser", rate, 1, now), 0);
    }
}
