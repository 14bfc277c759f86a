//! The third part: the message that the report is about, or its header section.

use memchr::memmem;

use super::Notice;
use crate::Return;

/// A message above this many octets is not returned whole (Postfix `bounce_size_limit`).
const MAX_WHOLE: u64 = 50_000;
/// Most octets of a header section that are returned.
const MAX_HEADERS: usize = 50_000;
/// What all reports about one message return of it together, at most, if each can be about a recipient of its own.
const MAX_TOGETHER: usize = 1 << 20;
/// The size of what nobody shall see.
const WITHHELD: u64 = u64::MAX;
/// RFC 5322 section 2.1.1, without CRLF.
const MAX_LINE: usize = 998;

/// The message as far as the caller has it.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Its first octets: all of them, or at least the header section.
    pub head: &'a [u8],
    /// Octets of the whole message.
    pub size: u64,
    /// How many of them are returned at most, within the limits of this module.
    pub most: usize,
}

impl<'a> Original<'a> {
    /// A message that is at hand completely.
    pub fn whole(content: &'a [u8]) -> Self {
        Self { head: content, size: content.len() as u64, most: usize::MAX }
    }

    /// What one of many reports returns: a message to a thousand servers that refuse it must not come back as a thousand
    /// of its size. `recipients`: of the message.
    pub fn share(recipients: usize) -> usize {
        MAX_TOGETHER / recipients.max(1)
    }

    /// Nothing of it is returned.
    pub fn withheld() -> Self {
        Self { head: b"", size: WITHHELD, most: 0 }
    }

    /// There is no third part.
    pub(super) fn is_withheld(&self) -> bool {
        self.size == WITHHELD
    }

    fn is_complete(&self) -> bool {
        self.head.len() as u64 == self.size
    }

    /// The header section without the empty line that ends it.
    fn headers(&self) -> &'a [u8] {
        let head = self.head;
        let end = match memmem::find(head, b"\r\n\r\n") {
            _ if head.starts_with(b"\r\n") => 0,
            Some(end) => end + 2,
            None => head.len(),
        };
        &head[..end.min(MAX_HEADERS).min(self.most)]
    }
}

/// The content of the part.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) content: Vec<u8>,
    /// The message rather than its header section.
    pub(super) whole: bool,
}

/// Chooses between message and header section (RFC 3461 section 4.3) and adds the sender as Return-Path.
pub(super) fn part(notice: &Notice<'_>, may_return_all: bool) -> Returned {
    let original = &notice.original;
    let whole = may_return_all
        && notice.ret != Some(Return::Headers)
        && original.is_complete()
        && original.size <= MAX_WHOLE.min(original.most as u64)
        && lines_are_sound(original.head);
    if original.is_withheld() {
        return Returned { content: Vec::new(), whole: false };
    }
    let mut content = format!("Return-Path: <{}>\r\n", notice.sender).into_bytes();
    if whole {
        content.extend_from_slice(original.head);
    } else {
        append_lines(original.headers(), &mut content);
    }
    Returned { content, whole }
}

/// True if the message can travel in a part that is not encoded (RFC 2045 section 2.8).
fn lines_are_sound(content: &[u8]) -> bool {
    let mut lines = content.split(|&b| b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let text = match (line.strip_suffix(b"\r"), lines.peek()) {
            (Some(text), Some(_)) => text,
            (None, Some(_)) => return false,
            (_, None) => line,
        };
        if text.len() > MAX_LINE || text.contains(&b'\r') || text.contains(&0) {
            return false;
        }
    }
    true
}

/// Appends lines with CRLF, each cut to the length that may travel; other control characters become `?`.
fn append_lines(headers: &[u8], out: &mut Vec<u8>) {
    for line in headers.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            let text = &line[..line.len().min(MAX_LINE)];
            out.extend(text.iter().map(|&b| if b < b' ' && b != b'\t' { b'?' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5322_2_1_the_header_section_ends_at_the_first_empty_line() {
        for (content, headers) in [
            ("A: b\r\nC: d\r\n\r\nbody\r\n\r\nmore", "A: b\r\nC: d\r\n"),
            ("A: b\r\n", "A: b\r\n"),
            ("\r\nbody\r\n\r\nx", ""),
            ("", ""),
        ] {
            assert_eq!(Original::whole(content.as_bytes()).headers(), headers.as_bytes(), "{content:?}");
        }
    }

    #[test]
    fn only_sound_lines_are_returned_unencoded() {
        let (fits, long) = (format!("{}\r\n", "a".repeat(998)), "a".repeat(999));
        for (content, sound) in [
            ("", true),
            ("a\r\nb", true),
            (fits.as_str(), true),
            (long.as_str(), false),
            ("a\nb\r\n", false),
            ("a\rb\r\n", false),
            ("a\r\n\r", false),
            ("a\0\r\n", false),
        ] {
            assert_eq!(lines_are_sound(content.as_bytes()), sound, "{content:?}");
        }
    }

    #[test]
    fn header_lines_are_made_fit_to_travel() {
        let mut out = Vec::new();
        append_lines(&[b"A: \x01\tb\nC: ".to_vec(), vec![b'x'; 2000], b"\r\n".to_vec()].concat(), &mut out);
        assert_eq!(out, [b"A: ?\tb\r\nC: ".to_vec(), vec![b'x'; 995], b"\r\n".to_vec()].concat());
    }
}
