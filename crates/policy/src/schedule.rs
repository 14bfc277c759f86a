//! When a deferred message is tried again, and when it is given up.
//!
//! The wait is about as long as the message has already waited, between two bounds (Postfix `qmgr_active_defer`:
//! 5, 5, 10, 20, 40, 67, 67 … minutes). It depends on the age alone, so lost or repeated attempts do not distort it.
//! Jitter spreads messages that failed together.

use std::time::Duration;

/// The operator's retry settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Shortest wait (`delivery.retry_min`).
    pub min: Duration,
    /// Longest wait (`delivery.retry_max`); if it is below `min`, `min` holds.
    pub max: Duration,
    /// Age at which delivery is given up (`delivery.lifetime`); zero allows one attempt.
    pub lifetime: Duration,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this long. The wait is not cut at the end of the lifetime; the queue brings the message up
    /// once more when it expires.
    After(Duration),
    /// The lifetime is over: report the last failure to the sender.
    GiveUp,
}

/// Largest share of the wait that jitter adds or takes.
const SPREAD: f64 = 0.1;

/// Decides after a failed attempt at a message that was accepted `age` ago.
///
/// `jitter` is a random number from 0 to 1; 0.5 changes nothing, others move the wait by up to a tenth.
pub fn next(schedule: &Schedule, age: Duration, jitter: f64) -> Next {
    if age >= schedule.lifetime {
        return Next::GiveUp;
    }
    let max = schedule.max.max(schedule.min);
    let wait = age.clamp(schedule.min, max);
    Next::After(spread(wait, jitter).clamp(schedule.min, max))
}

/// `wait` × (1 ± [`SPREAD`]).
fn spread(wait: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_nan() { 0.5 } else { jitter.clamp(0.0, 1.0) };
    let factor = 1.0 + SPREAD * (2.0 * jitter - 1.0);
    Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    fn defaults() -> Schedule {
        Schedule { min: minutes(5), max: minutes(67), lifetime: minutes(5 * 24 * 60) }
    }

    #[test]
    fn the_wait_follows_the_age_as_in_postfix() {
        for (age, wait) in [(0, 5), (5, 5), (10, 10), (20, 20), (40, 40), (80, 67), (5000, 67)] {
            assert_eq!(next(&defaults(), minutes(age), 0.5), Next::After(minutes(wait)), "{age}");
        }
    }

    #[test]
    fn the_lifetime_ends_it() {
        let lifetime = defaults().lifetime;
        assert_eq!(next(&defaults(), lifetime, 0.5), Next::GiveUp);
        assert_eq!(next(&defaults(), lifetime - Duration::from_nanos(1), 0.5), Next::After(minutes(67)));
        let once = Schedule { lifetime: Duration::ZERO, ..defaults() };
        assert_eq!(next(&once, Duration::ZERO, 0.5), Next::GiveUp);
    }

    #[test]
    fn jitter_moves_the_wait_by_up_to_a_tenth() {
        for (jitter, seconds) in [(0.0, 1080), (0.25, 1140), (0.5, 1200), (1.0, 1320), (9.0, 1320), (f64::NAN, 1200)] {
            assert_eq!(next(&defaults(), minutes(20), jitter), Next::After(Duration::from_secs(seconds)), "{jitter}");
        }
    }

    #[test]
    fn messages_live_about_a_hundred_attempts_in_five_days() {
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        while let Next::After(wait) = next(&defaults(), age, 0.5) {
            age += wait;
            attempts += 1;
        }
        assert!((100..125).contains(&attempts), "{attempts}");
    }

    proptest::proptest! {
        #[test]
        fn the_wait_is_within_its_bounds(
            min in 0u64..1 << 40, max in 0u64..1 << 40, age in 0u64..u64::MAX, jitter in proptest::num::f64::ANY,
        ) {
            let schedule = Schedule {
                min: Duration::from_millis(min),
                max: Duration::from_millis(max),
                lifetime: Duration::MAX,
            };
            let Next::After(wait) = next(&schedule, Duration::from_millis(age), jitter) else {
                return Err(proptest::test_runner::TestCaseError::fail("gave up"));
            };
            proptest::prop_assert!(wait >= schedule.min && wait <= schedule.max.max(schedule.min));
        }
    }
}
