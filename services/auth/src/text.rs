//! Text from clients on its way into the log: control characters escaped, length capped.

use std::fmt::{self, Write as _};

/// Characters shown at most.
const MAX: usize = 256;

/// Shows foreign text safely: it cannot forge a line or fill the disk.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(MAX) {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_length_is_capped() {
        assert_eq!(Printable("john\r\nevil\u{1b}").to_string(), "john\\r\\nevil\\u{1b}");
        assert_eq!(Printable(&"a".repeat(300)).to_string(), format!("{}…", "a".repeat(256)));
        assert_eq!(Printable("jörg@example.org").to_string(), "jörg@example.org");
    }
}
