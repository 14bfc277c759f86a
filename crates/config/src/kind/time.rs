//! Durations (`"1h30m"`) and rates (`"10/10m"`).

use std::time::Duration;

use jiff::Unit;
use jiff::civil::Date;

use super::{Kind, Wrong, quoted};
use crate::Rate;

/// From the largest; `ms` before `m` and `s` would be read wrongly otherwise.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration of `MIN` to `MAX` milliseconds.
pub(crate) struct Time<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Kind for Time<MIN, MAX> {
    type Value = Duration;
    const NOUN: &'static str = "a duration";

    fn allowed() -> String {
        let (min, max) = (show(Duration::from_millis(MIN)), show(Duration::from_millis(MAX)));
        format!("numbers with w, d, h, m, s, ms, such as \"5m\" or \"1h30m\", from {min} to {max}")
    }

    fn parse(text: &str) -> Result<Duration, Wrong> {
        let time = parse(text).ok_or_else(|| Wrong::not::<Self>(text))?;
        if time < Duration::from_millis(MIN) || time > Duration::from_millis(MAX) {
            return Err(Wrong::because::<Self>(text, "is out of range"));
        }
        Ok(time)
    }

    fn show(value: &Duration) -> String {
        quoted(&show(*value))
    }
}

/// A day, in days since 1970 (UTC).
pub(crate) struct Day;

impl Kind for Day {
    type Value = u32;
    const NOUN: &'static str = "a day";

    fn allowed() -> String {
        "year, month and day in quotes, such as \"2026-12-01\"".into()
    }

    fn parse(text: &str) -> Result<u32, Wrong> {
        let since = text.parse().ok().and_then(|day: Date| day.since((Unit::Day, Date::constant(1970, 1, 1))).ok());
        since.and_then(|span| u32::try_from(span.get_days()).ok()).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &u32) -> String {
        let passed = Duration::from_secs(86_400 * u64::from(*value));
        quoted(&Date::constant(1970, 1, 1).saturating_add(passed).to_string())
    }
}

/// So many in a time.
pub(crate) struct Limit;

impl Kind for Limit {
    type Value = Rate;
    const NOUN: &'static str = "a rate";

    fn allowed() -> String {
        "a number above 0, a slash and a duration, such as \"10/10m\"".into()
    }

    fn parse(text: &str) -> Result<Rate, Wrong> {
        let rate = || {
            let (count, per) = text.split_once('/')?;
            let rate = Rate { count: count.trim().parse().ok()?, per: parse(per.trim())? };
            Some(rate).filter(|r| r.count > 0 && !r.per.is_zero())
        };
        rate().ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &Rate) -> String {
        quoted(&value.to_string())
    }
}

impl Rate {
    /// Reads `10/10m`, as the configuration has it.
    pub fn parse(text: &str) -> Option<Self> {
        Limit::parse(text).ok()
    }

    /// Are these fewer in the same time?
    pub fn is_lower_than(&self, other: &Self) -> bool {
        u128::from(self.count) * other.per.as_nanos() < u128::from(other.count) * self.per.as_nanos()
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, show(self.per))
    }
}

/// Reads `90s`, `1h30m`, `1w`: each unit at most once, the larger first.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let letters = rest[digits..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &rest[digits..rest.len() - letters.len()];
        let index = units.iter().position(|(name, _)| *name == unit)?;
        let number: u64 = rest[..digits].parse().ok()?;
        total = total.checked_add(number.checked_mul(units[index].1)?)?;
        units = &units[index + 1..];
        rest = letters;
    }
    Some(Duration::from_millis(total)).filter(|_| !text.is_empty())
}

fn show(time: Duration) -> String {
    let mut millis = time.as_millis() as u64;
    let mut out = String::new();
    // Weeks read badly beside days.
    for (name, factor) in &UNITS[1..] {
        if millis >= *factor {
            out += &format!("{}{name}", millis / factor);
            millis %= factor;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("5m", Some(300_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("67m", Some(4_020_000)),
            ("5d", Some(432_000_000)),
            ("1w", Some(604_800_000)),
            ("250ms", Some(250)),
            ("1s500ms", Some(1500)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("30m1h", None),
            ("1h1h", None),
            ("5 m", None),
            ("-5m", None),
            ("5y", None),
            ("99999999999999999999d", None),
            ("9999999999999999d", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        }
        for millis in [0, 250, 1500, 90_000, 4_020_000, 432_000_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse(&show(time)), Some(time));
        }
    }

    #[test]
    fn rates() {
        assert_eq!(Limit::parse("10/10m"), Ok(Rate { count: 10, per: Duration::from_secs(600) }));
        for text in ["", "10", "10/", "/1m", "0/1m", "10/0s", "ten/1m", "10/1m/1s"] {
            assert!(Limit::parse(text).is_err(), "{text}");
        }
        let rate = Rate { count: 100, per: Duration::from_secs(1) };
        assert_eq!(Limit::show(&rate), "\"100/1s\"");
    }
}
