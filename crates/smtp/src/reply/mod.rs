//! Replies (RFC 5321 section 4.2); the one table of them is in `table`.
//!
//! A [`Reply`] is a code, an enhanced status code (RFC 2034, RFC 3463) unless the reply must not carry one (greeting,
//! HELO, EHLO, ETRN), and text. The texts are Postfix's where Postfix has one. Peer text that ends up in a reply
//! (an address, an option) is made harmless when the reply is written: printable ASCII only, lines of at most 512
//! octets, so a reply can never be split or forged by what it quotes.

mod table;

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use staffetta_mail::Status;

/// Longest reply line with its code and CRLF (RFC 5321 section 4.5.3.1.5).
const MAX_LINE: usize = 512;

/// What the server says to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<Status>,
    /// Lines are separated by `\n`.
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status code and a fixed text.
    pub const fn fixed(code: u16, status: Status, text: &'static str) -> Self {
        Self { code, status: Some(status), text: Cow::Borrowed(text) }
    }

    /// A reply with an enhanced status code; `\n` in the text separates lines.
    pub fn new(code: u16, status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: Some(status), text: text.into() }
    }

    /// A reply without an enhanced status code; `\n` in the text separates lines.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: None, text: text.into() }
    }

    /// The three digits, 200 to 599.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, if the reply carries one.
    pub const fn status(&self) -> Option<Status> {
        self.status
    }

    /// The text without codes; lines are separated by `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True for 4yz and 5yz.
    pub const fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// True for 421 and 521, after which the connection is closed (RFC 5321 section 3.8, RFC 7504).
    pub const fn closes(&self) -> bool {
        matches!(self.code, 421 | 521)
    }

    /// Appends the reply as it goes over the wire (RFC 5321 section 4.2.1: `250-first`, `250 last`).
    pub fn write(&self, out: &mut BytesMut) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            let start = out.len();
            put_number(out, self.code);
            out.put_u8(separator);
            if let Some(status) = self.status {
                put_status(out, status);
                out.put_u8(b' ');
            }
            let room = MAX_LINE - 2 - (out.len() - start);
            put_harmless(out, line, room);
            out.put_slice(b"\r\n");
        }
    }
}

/// One line, as a log shows it: `553 5.7.1 text`. Peer text in it is not escaped.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

fn put_status(out: &mut BytesMut, status: Status) {
    put_number(out, u16::from(status.class));
    out.put_u8(b'.');
    put_number(out, status.subject);
    out.put_u8(b'.');
    put_number(out, status.detail);
}

/// Decimal digits of a number below 1000, without the formatting machinery: this runs for every command.
fn put_number(out: &mut BytesMut, number: u16) {
    if number >= 100 {
        out.put_u8(b'0' + (number / 100 % 10) as u8);
    }
    if number >= 10 {
        out.put_u8(b'0' + (number / 10 % 10) as u8);
    }
    out.put_u8(b'0' + (number % 10) as u8);
}

/// Text without anything that could end a line early or upset a terminal.
fn put_harmless(out: &mut BytesMut, text: &str, room: usize) {
    let text = &text.as_bytes()[..text.len().min(room)];
    let start = out.len();
    out.put_slice(text);
    for b in &mut out[start..] {
        if !matches!(*b, b' '..=b'~') {
            *b = b'?';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn rfc5321_4_2_1_every_line_but_the_last_has_a_hyphen() {
        assert_eq!(wire(&Reply::mail_ok()), "250 2.1.0 Ok\r\n");
        assert_eq!(wire(&Reply::plain(250, "a\nb\nc")), "250-a\r\n250-b\r\n250 c\r\n");
        let twice = Reply::new(550, Status::new(5, 1, 10), "one\ntwo");
        assert_eq!(wire(&twice), "550-5.1.10 one\r\n550 5.1.10 two\r\n");
        assert_eq!(twice.to_string(), "550 5.1.10 one two");
    }

    #[test]
    fn quoted_peer_text_cannot_forge_a_reply() {
        assert_eq!(
            wire(&Reply::unsupported_option("X\r250 ok\u{7f}\u{e9}")),
            "555 5.5.4 Unsupported option: X?250 ok???\r\n"
        );
    }

    #[test]
    fn rfc5321_4_5_3_1_5_lines_stay_within_512_octets() {
        let long = wire(&Reply::unsupported_option(&"x".repeat(2000)));
        assert_eq!(long.len(), 512);
        assert!(long.ends_with("x\r\n"));
    }
}
