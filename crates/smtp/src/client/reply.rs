//! Reads replies (RFC 5321 section 4.2) from the server's octets, with bounds on everything it may send.
//!
//! Lenient, as Postfix is (`smtp_chat.c`): a reply to the final dot that is not understood means that a message which
//! may be there is sent again. So a line may end in a bare LF, the text may be missing, whatever follows three digits
//! separates (only `-` says that there is more), a line without a code is skipped, and the code of the last line counts.
//! Of an overlong line the beginning counts. Nothing is without a bound: a line without an end and too many lines,
//! skipped ones included, are errors.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{Buf, BytesMut};
use memchr::memchr;
use staffetta_mail::{RemoteReply, Status};

/// Octets of a line that are looked at. RFC 5321 section 4.5.3.1.5 promises 512.
const MAX_LINE: usize = 4096;
/// Most octets of one reply that are passed over because their line is too long.
const MAX_REST: usize = 64 * 1024;
/// Most lines of one reply, those that are skipped included.
const MAX_LINES: usize = 100;
/// Most octets of text that are kept of one reply.
const MAX_TEXT: usize = 1024;

/// Assembles lines into replies. Keeps only what the reply in progress needs.
#[derive(Debug, Default)]
pub(super) struct Reader {
    partial: Option<RemoteReply>,
    lines: usize,
    /// The beginning of an overlong line was read, and was (or was not) the last line; its rest comes.
    cut: Option<bool>,
    /// Octets of such rests.
    rest: usize,
    /// A line without a code is an error: what greets like that is no mail server.
    pub(super) strict: bool,
    /// Keep the lines of the reply, for [`Reader::take_lines`].
    pub(super) keep_lines: bool,
    kept: Vec<String>,
}

impl Reader {
    /// For what may turn out to be no mail server.
    pub(super) fn for_greeting() -> Self {
        Self { strict: true, ..Self::default() }
    }

    /// Takes one reply from `input`; `None` if it is not complete yet. The error says what is wrong with it.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<RemoteReply>, &'static str> {
        loop {
            let end = memchr(b'\n', input);
            let (last, line) = match (self.cut, end) {
                (None, Some(end)) if end < MAX_LINE => (self.on_line(strip_cr(&input[..end]))?, end + 1),
                (None, _) if input.len() >= MAX_LINE => {
                    self.cut = Some(self.on_line(&input[..MAX_LINE])?);
                    (false, MAX_LINE)
                }
                (None, _) => return Ok(None),
                (Some(last), Some(end)) => {
                    self.pass_over(end)?;
                    self.cut = None;
                    (last, end + 1)
                }
                (Some(_), None) => {
                    self.pass_over(input.len())?;
                    input.clear();
                    return Ok(None);
                }
            };
            input.advance(line);
            if last {
                (self.lines, self.rest) = (0, 0);
                return Ok(self.partial.take());
            }
        }
    }

    fn pass_over(&mut self, octets: usize) -> Result<(), &'static str> {
        self.rest += octets;
        if self.rest > MAX_REST { Err("reply line is too long") } else { Ok(()) }
    }

    /// The texts of the lines of the last reply, if they were to be kept.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept)
    }

    /// Adds a line; true if it is the last one.
    fn on_line(&mut self, line: &[u8]) -> Result<bool, &'static str> {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err("reply has too many lines");
        }
        let Some((code, last, text)) = split_line(line) else {
            return if self.strict && !line.is_empty() { Err("malformed reply") } else { Ok(false) };
        };
        let text = readable(text);
        if self.keep_lines {
            self.kept.push(text.chars().map(printable).collect());
        }
        let (status, text) = split_status(code, &text);
        let empty = || RemoteReply { code, status: None, text: String::with_capacity(text.len()) };
        let reply = self.partial.get_or_insert_with(empty);
        // An enhanced code goes with its line's code; one of another class than the reply's says nothing about it.
        reply.status = status.or(reply.status.filter(|status| u16::from(status.class) == code / 100));
        reply.code = code;
        append(&mut reply.text, text);
        Ok(last)
    }
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// `code`, is it the last line, text; `None` for a line that does not begin with a code (of three digits, not more).
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_first_chunk::<3>()?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest {
        [b'0'..=b'9', ..] => None,
        [b'-', text @ ..] => Some((code, false, text)),
        [b' ' | b'\t', text @ ..] => Some((code, true, text)),
        text => Some((code, true, text)),
    }
}

/// The text. Octets that are no UTF-8 are written as `\xE9`, so that whoever reads it can still find out what they are.
fn readable(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(text) {
        return text.into();
    }
    let mut readable = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        readable.push_str(chunk.valid());
        for octet in chunk.invalid() {
            // A String takes whatever is written.
            let _ = write!(readable, "\\x{octet:02X}");
        }
    }
    readable.into()
}

/// RFC 2034 section 4: the enhanced code is the first word and has the class of the reply code.
fn split_status(code: u16, text: &str) -> (Option<Status>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word.parse::<Status>() {
        Ok(status) if u16::from(status.class) == code / 100 => (Some(status), rest),
        _ => (None, text),
    }
}

/// Appends a line's text after a space, printable, within the bound.
fn append(to: &mut String, text: &str) {
    let text = text.trim();
    if !to.is_empty() && !text.is_empty() && to.len() < MAX_TEXT {
        to.push(' ');
    }
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return to.push_str(&text[..text.len().min(MAX_TEXT.saturating_sub(to.len()))]);
    }
    for c in text.chars().map(printable) {
        if to.len() + c.len_utf8() > MAX_TEXT {
            return;
        }
        to.push(c);
    }
}

fn printable(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(wire: &[u8]) -> Result<Option<RemoteReply>, &'static str> {
        Reader::default().next(&mut BytesMut::from(wire))
    }

    fn shown(wire: &[u8]) -> String {
        read(wire).unwrap().unwrap().to_string()
    }

    #[test]
    fn rfc5321_4_2_1_replies_of_one_and_many_lines() {
        for (wire, reply) in [
            (&b"250 Ok\r\n"[..], "250 Ok"),
            (b"250 2.1.0 Ok\r\n", "250 2.1.0 Ok"),
            (b"250\r\n", "250 "),
            (b"250 \r\n", "250 "),
            (b"250 bare LF\n", "250 bare LF"),
            (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", "550 5.1.1 no such user"),
            (b"550-first\r\n550 5.1.1 user\r\n", "550 5.1.1 first user"),
            (b"550-5.1.1 first\r\n550 user\r\n", "550 5.1.1 first user"),
            (b"550 2.1.1 class differs\r\n", "550 2.1.1 class differs"),
            (b"550-a\r\n551 last code counts\r\n", "551 a last code counts"),
            (b"550 a\x00b\x1b[31m\x7f\r\n", "550 a?b?[31m?"),
            (b"550 a\rb\r\n", "550 a?b"),
            (b"550 caf\xe9 \xc3\xa9\xc3\r\n", "550 caf\\xE9 \u{e9}\\xC3"),
        ] {
            assert_eq!(shown(wire), reply);
        }
    }

    #[test]
    fn an_incomplete_reply_is_no_error() {
        for wire in [&b""[..], b"2", b"250 Ok", b"250 Ok\r", b"250-Ok\r\n", b"250-Ok\r\n250 Ok"] {
            assert_eq!(read(wire), Ok(None), "{wire:?}");
        }
    }

    #[test]
    fn odd_replies_are_understood() {
        for (wire, reply) in [
            // Whatever follows the digits separates.
            (&b"250OK\r\n"[..], "250 OK"),
            (b"250\tok\r\n", "250 ok"),
            (b"250_x\r\n", "250 _x"),
            (b"250: 2.0.0 ok\r\n", "250 : 2.0.0 ok"),
            (b"250\n", "250 "),
            // Lines without a code are skipped.
            (b"\r\n250 ok\r\n", "250 ok"),
            (b"hello\r\n25\r\n25a x\r\n2500 x\r\n250 ok\r\n", "250 ok"),
            (b"150 x\r\n650 x\r\n000 x\r\n250 ok\r\n", "250 ok"),
            (b"250-a\r\n\r\nb\r\n250 c\r\n", "250 a c"),
            // The last line's code counts, and only an enhanced code of its class goes with it.
            (b"250-x\r\n550 y\r\n", "550 x y"),
            (b"550-x\r\n250 y\r\n", "250 x y"),
            (b"550-5.7.1 x\r\n250 y\r\n", "250 x y"),
            (b"220-x\r\n521 5.7.1 blocked\r\n", "521 5.7.1 x blocked"),
            (b"220-2.0.0 x\r\n521 blocked\r\n", "521 x blocked"),
        ] {
            assert_eq!(shown(wire), reply, "{:?}", String::from_utf8_lossy(wire));
        }
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        let long = [b"250 ".to_vec(), vec![b'a'; MAX_LINE + MAX_REST]].concat();
        let endless = b"250-x\r\n".repeat(MAX_LINES + 1);
        let junk = b"\r\n".repeat(MAX_LINES + 1);
        let mixed = [b"250-x\r\n".repeat(MAX_LINES / 2), b"junk\n".repeat(MAX_LINES / 2 + 1)].concat();
        for wire in [&long, &endless, &junk, &mixed, &vec![b'a'; MAX_LINE + MAX_REST + 1]] {
            assert!(read(wire).is_err(), "{:?}", String::from_utf8_lossy(wire));
        }
    }

    #[test]
    fn of_an_overlong_line_the_beginning_counts() {
        for length in [MAX_LINE - 5, MAX_LINE - 4, MAX_LINE - 3, MAX_LINE, MAX_REST / 2] {
            let text = "a".repeat(length);
            for (wire, code) in [
                (format!("250 {text}\r\n"), 250),
                (format!("250-{text}\r\n550 {text}\r\n"), 550),
                (format!("{text}\r\n250 ok\r\n"), 250),
            ] {
                let wire = [wire.as_bytes(), b"221 next\r\n"].concat();
                for cut in [1, 3, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, length + 5] {
                    let (mut reader, mut input, mut codes) = (Reader::default(), BytesMut::new(), Vec::new());
                    for part in [&wire[..cut], &wire[cut..]] {
                        input.extend_from_slice(part);
                        while let Some(reply) = reader.next(&mut input).unwrap() {
                            codes.push(reply.code);
                        }
                    }
                    assert_eq!(codes, [code, 221], "{length} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn the_bound_is_of_one_reply_not_of_a_connection() {
        let mut reader = Reader::default();
        let mut input = BytesMut::from(&b"junk\r\n250 ok\r\n".repeat(MAX_LINES)[..]);
        for _ in 0..MAX_LINES {
            assert!(matches!(reader.next(&mut input), Ok(Some(RemoteReply { code: 250, .. }))));
        }
    }

    #[test]
    fn the_text_is_bounded() {
        let wire =
            [b"250-".to_vec(), vec![b'a'; 3000], b"\r\n250 ".to_vec(), "\u{e9}".repeat(900).into(), b"\r\n".to_vec()];
        let reply = read(&wire.concat()).unwrap().unwrap();
        assert!(reply.text.len() <= MAX_TEXT);
    }

    proptest::proptest! {
        #[test]
        fn cutting_does_not_matter_and_nothing_panics(
            wire in "(250[- ][ -~]{0,9}\r\n|[0-9]{3} x\n|\\PC{0,5}){0,5}", cut in 0usize..60,
        ) {
            let mut whole = BytesMut::from(wire.as_bytes());
            let mut reader = Reader::default();
            let mut expected = Vec::new();
            while let Ok(Some(reply)) = reader.next(&mut whole) {
                expected.push(reply);
            }
            let (a, b) = wire.as_bytes().split_at(cut.min(wire.len()));
            let (mut reader, mut input, mut replies) = (Reader::default(), BytesMut::new(), Vec::new());
            'outer: for part in [a, b] {
                input.extend_from_slice(part);
                loop {
                    match reader.next(&mut input) {
                        Ok(Some(reply)) => replies.push(reply),
                        Ok(None) => break,
                        Err(_) => break 'outer,
                    }
                }
            }
            proptest::prop_assert_eq!(replies, expected);
        }
    }
}
