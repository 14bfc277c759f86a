//! When a kept policy is fetched again.

use super::*;

#[test]
fn a_policy_is_old_after_half_of_its_life_and_after_a_day() {
    let hour = Duration::from_secs(3_600);
    for (max_age, left, old) in [
        (2 * hour, 2 * hour, false),
        (2 * hour, hour, false),
        (2 * hour, hour - Duration::from_secs(1), true),
        (14 * DAY, 13 * DAY, false),
        (14 * DAY, 13 * DAY - hour, true),
        // It was changed to a shorter one, and kept for longer.
        (hour, DAY, false),
    ] {
        let policy = format!("a1\nversion: STSv1\nmode: none\nmax_age: {}\n", max_age.as_secs());
        assert_eq!(Kept::read(&policy, left).map(|kept| kept.is_old()), Some(old), "{max_age:?} {left:?}");
    }
    for text in ["", "a1", "a1\n", "a1\nversion: STSv2\n"] {
        assert!(Kept::read(text, hour).is_none(), "{text:?}");
    }
}
