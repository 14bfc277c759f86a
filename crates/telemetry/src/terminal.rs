//! Complaints that a person reads on a terminal.

use crate::maillog::is_dangerous;

/// A complaint of one or more lines. Characters that would drive the terminal or reorder what is read are written as
/// `\u{…}`: file names, keys and answers of servers come from others.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_dangerous(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_complaint_drives_the_terminal() {
        assert_eq!(printable("staffetta.toml:3: ünknown\nkey"), "staffetta.toml:3: ünknown\nkey");
        assert_eq!(printable("\u{1b}[31mX\u{202e}gro\r\t"), "\\u{1b}[31mX\\u{202e}gro\\u{d}\\u{9}");
    }
}
