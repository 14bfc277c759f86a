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

fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let factor = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
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
