//! Sizes in octets: `"40MiB"`, `1000`.

use super::{Kind, Shape, Wrong};
use crate::ByteSize;

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A size of `MIN` to `MAX` octets.
pub(crate) struct Size<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Kind for Size<MIN, MAX> {
    type Value = ByteSize;
    const NOUN: &'static str = "a size";
    const SHAPE: Shape = Shape::StringOrInteger;

    fn allowed() -> String {
        let range = format!("from {} to {}", ByteSize(MIN), ByteSize(MAX));
        format!("a number of bytes or a number with KiB, MiB, GiB, such as \"40MiB\", {range}")
    }

    fn parse(text: &str) -> Result<ByteSize, Wrong> {
        let octets = parse(text).ok_or_else(|| Wrong::not::<Self>(text))?;
        if !(MIN..=MAX).contains(&octets) {
            return Err(Wrong::because::<Self>(text, "is out of range"));
        }
        Ok(ByteSize(octets))
    }

    fn show(value: &ByteSize) -> String {
        Self::SHAPE.literal(&value.to_string())
    }
}

/// Octets a second: `"500B/s"`; 0 is none.
pub(crate) struct DataRate;

impl Kind for DataRate {
    type Value = ByteSize;
    const NOUN: &'static str = "a data rate";

    fn allowed() -> String {
        "a size a second, such as \"500B/s\" or \"1KiB/s\", or \"0B/s\" for none".into()
    }

    fn parse(text: &str) -> Result<ByteSize, Wrong> {
        let octets = text.strip_suffix("/s").and_then(parse);
        octets.filter(|octets| *octets <= 1 << 30).map(ByteSize).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &ByteSize) -> String {
        let unit = if value.0 > 0 && value.0.is_multiple_of(1 << 10) { "" } else { "B" };
        super::quoted(&format!("{value}{unit}/s"))
    }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let factor = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl ByteSize {
    /// Reads `40MiB` or `1000`, as the configuration has it, without its bounds.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }
}

impl std::fmt::Display for ByteSize {
    /// In the largest unit that divides it; plain octets without one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if *factor > 1 => write!(f, "{}{name}", self.0 / factor),
            _ => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_rates() {
        for (text, octets) in [("500B/s", 500), ("1KiB/s", 1024), ("0B/s", 0), ("3MiB/s", 3 << 20)] {
            assert_eq!(DataRate::parse(text), Ok(ByteSize(octets)));
            assert_eq!(DataRate::show(&ByteSize(octets)), format!("\"{text}\""));
        }
        for text in ["500", "500B", "/s", "500B/m", "2GiB/s"] {
            assert!(DataRate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let rows = [
            ("1000", Some(1000)),
            ("40MiB", Some(40 << 20)),
            ("40 MiB", Some(40 << 20)),
            ("16KiB", Some(16 << 10)),
            ("1GiB", Some(1 << 30)),
            ("7B", Some(7)),
            ("40 apples", None),
            ("40MB", None),
            ("MiB", None),
            ("", None),
            ("-1", None),
            ("1.5MiB", None),
            ("99999999999999999999", None),
            ("99999999999GiB", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
        for octets in [0, 1, 1000, 1024, 1536, 40 << 20, 3 << 30] {
            assert_eq!(parse(&ByteSize(octets).to_string()), Some(octets));
        }
    }
}
