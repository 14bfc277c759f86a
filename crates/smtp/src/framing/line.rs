//! Cuts command lines out of the input: CRLF only, of bounded length.

use bytes::{Buf, BytesMut};

use super::Bare;

/// What the front of the input is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// A line of so many octets, its CRLF behind it; the caller removes both.
    Line(usize),
    /// The beginning of a line.
    Partial,
    /// A line beyond the limit; it is already removed.
    TooLong,
    /// A CR or LF that is not part of CRLF: the session must end.
    Bare(Bare),
}

/// Remembers whether the beginning of an overlong line was thrown away.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    skipping: bool,
}

impl Framer {
    /// Looks for a line of at most `limit` octets. What exceeds the limit is thrown away as it comes, so that the
    /// input never holds more than the limit and one read.
    pub(crate) fn frame(&mut self, input: &mut BytesMut, limit: usize) -> Framed {
        match memchr::memchr(b'\n', input) {
            Some(at) => self.complete(input, at, limit),
            None => self.partial(input, limit),
        }
    }

    fn complete(&mut self, input: &mut BytesMut, at: usize, limit: usize) -> Framed {
        let Some(length) = at.checked_sub(1).filter(|&cr| input[cr] == b'\r') else {
            return Framed::Bare(Bare::Lf);
        };
        if memchr::memchr(b'\r', &input[..length]).is_some() {
            return Framed::Bare(Bare::Cr);
        }
        if length > limit || self.skipping {
            self.skipping = false;
            input.advance(at + 1);
            return Framed::TooLong;
        }
        Framed::Line(length)
    }

    fn partial(&mut self, input: &mut BytesMut, limit: usize) -> Framed {
        // A trailing CR may yet become a CRLF: it stays.
        let length = input.len() - usize::from(input.last() == Some(&b'\r'));
        if length > limit || self.skipping {
            if memchr::memchr(b'\r', &input[..length]).is_some() {
                return Framed::Bare(Bare::Cr);
            }
            self.skipping = true;
            input.advance(length);
        }
        Framed::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8], limit: usize) -> (Framed, Vec<u8>) {
        let mut input = BytesMut::from(text);
        let framed = Framer::default().frame(&mut input, limit);
        (framed, input.to_vec())
    }

    #[test]
    fn rfc5321_2_3_8_only_crlf_ends_a_line() {
        for (text, framed) in [
            (&b"QUIT\r\n"[..], Framed::Line(4)),
            (b"\r\n", Framed::Line(0)),
            (b"QUIT\r\nRSET\r\n", Framed::Line(4)),
            (b"QUIT\r", Framed::Partial),
            (b"", Framed::Partial),
            (b"QUIT\n", Framed::Bare(Bare::Lf)),
            (b"\n", Framed::Bare(Bare::Lf)),
            (b"QU\rIT\r\n", Framed::Bare(Bare::Cr)),
            (b"QUIT\r\r\n", Framed::Bare(Bare::Cr)),
        ] {
            assert_eq!(frame(text, 10), (framed, text.to_vec()), "{text:?}");
        }
    }

    #[test]
    fn overlong_lines_cost_no_memory_and_end_at_their_crlf() {
        assert_eq!(frame(b"0123456789\r\n", 10).0, Framed::Line(10));
        assert_eq!(frame(b"01234567890\r\nQUIT\r\n", 10), (Framed::TooLong, b"QUIT\r\n".to_vec()));
        let (mut lines, mut input) = (Framer::default(), BytesMut::new());
        for _ in 0..1000 {
            input.extend_from_slice(&[b'x'; 100]);
            assert_eq!(lines.frame(&mut input, 10), Framed::Partial);
            assert!(input.len() <= 1);
        }
        input.extend_from_slice(b"\r");
        assert_eq!(lines.frame(&mut input, 10), Framed::Partial);
        input.extend_from_slice(b"\nNOOP\r\n");
        assert_eq!(lines.frame(&mut input, 10), Framed::TooLong);
        assert_eq!(lines.frame(&mut input, 10), Framed::Line(4));
    }

    #[test]
    fn a_bare_line_end_within_an_overlong_line_is_found() {
        let (mut lines, mut input) = (Framer::default(), BytesMut::from(&b"0123456789ABC"[..]));
        assert_eq!(lines.frame(&mut input, 10), Framed::Partial);
        input.extend_from_slice(b"x\nMAIL\r\n");
        assert_eq!(lines.frame(&mut input, 10), Framed::Bare(Bare::Lf));
        assert_eq!(frame(b"0123456789A\rB", 10).0, Framed::Bare(Bare::Cr));
    }
}
