//! Text from clients on its way into the log: quoted if it is more than a word, whatever is not plainly visible escaped,
//! length capped.

use std::fmt::{self, Write as _};

/// Characters shown at most.
const MAX: usize = 256;

/// Shows foreign text safely: it cannot forge a line or another field of it, turn the direction of writing, or fill the
/// disk. Without quotes it is one word of letters, digits and the marks of an address.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.0.is_empty() || !self.0.chars().all(is_plain);
        let mut characters = self.0.chars();
        if quoted {
            f.write_char('"')?;
        }
        for character in characters.by_ref().take(MAX) {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' ' => f.write_char(' ')?,
                _ if character.is_alphanumeric() || character.is_ascii_graphic() => f.write_char(character)?,
                _ => write!(f, "{}", character.escape_unicode())?,
            }
        }
        if characters.next().is_some() {
            f.write_char('…')?;
        }
        if quoted { f.write_char('"') } else { Ok(()) }
    }
}

fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || "@.-_+:/[]".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_as_it_is_and_everything_else_is_quoted() {
        let escaped = |text: &str| Printable(text).to_string();
        assert_eq!(escaped("jörg+x@example.org"), "jörg+x@example.org");
        assert_eq!(escaped("2001:db8::1"), "2001:db8::1");
        assert_eq!(escaped("bob ip=203.0.113.9"), "\"bob ip=203.0.113.9\"");
        assert_eq!(escaped("a\"b\\"), "\"a\\\"b\\\\\"");
        assert_eq!(escaped("john\r\nevil\u{1b}"), "\"john\\u{d}\\u{a}evil\\u{1b}\"");
        for hidden in ['\u{202e}', '\u{2028}', '\u{2029}', '\u{200b}', '\u{feff}', '\u{85}', '\u{a0}', '\u{e0001}'] {
            let text = escaped(&format!("a{hidden}b"));
            assert!(text.is_ascii() && text.starts_with("\"a\\u{"), "{text}");
        }
        assert_eq!(escaped(&"a".repeat(300)), format!("{}…", "a".repeat(256)));
        assert_eq!(escaped(""), "\"\"");
    }
}
