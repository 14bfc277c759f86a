//! The end of a message: the streaming decoder of the DATA phase (RFC 5321 sections 4.1.1.4 and 4.5.2).
//!
//! Feed [`Decoder::next`] the bytes at hand and do what the returned [`Piece`] says: pass the first `n` bytes on as
//! content, drop `n` bytes, stop, or read more. Content is handed out as slices of the input: nothing is copied, and
//! at most two bytes are left over when more input is needed, whatever the length of a line.
//!
//! Only CRLF `.` CRLF ends a message. A CR or LF that is not part of CRLF never does, and no dot behind it is taken out; it is
//! remembered in [`Decoder::bare`], so that the session can refuse the message or make it whole: between servers that
//! disagree about bare line ends one message could smuggle in another (CVE-2023-51764).

use super::{BareLines, Piece};

/// Where in a line the input starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// First byte of a line: after `354`, or after CRLF.
    LineStart,
    /// Anywhere else.
    Middle,
    /// After a CR that was already handed out.
    AfterCr,
}

/// Finds the end of the message and takes the stuffed dots out.
#[derive(Clone, Debug)]
pub struct Decoder {
    position: Position,
    bare: BareLines,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { position: Position::LineStart, bare: BareLines::default() }
    }
}

impl Decoder {
    /// A decoder that stands right after the `354`, where a lone dot already ends the (empty) message.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line ends that stood alone so far.
    pub fn bare(&self) -> BareLines {
        self.bare
    }

    /// Looks at all the bytes at hand; the caller removes what the piece covers before the next call.
    pub fn next(&mut self, input: &[u8]) -> Piece {
        if input.is_empty() {
            return Piece::More;
        }
        if self.position == Position::LineStart && input[0] == b'.' {
            return self.at_dot(input);
        }
        Piece::Content(self.content(input))
    }

    /// A dot at the start of a line: the end, a stuffed dot, or too early to tell.
    fn at_dot(&mut self, input: &[u8]) -> Piece {
        match input {
            [_, b'\r', b'\n', ..] => Piece::End(3),
            [_] | [_, b'\r'] => Piece::More,
            _ => {
                self.position = Position::Middle;
                Piece::Skip(1)
            }
        }
    }

    /// Length of the content up to a line that starts with a dot, or all of it.
    fn content(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        if self.position == Position::AfterCr && !self.line_feed_follows(input, &mut at) {
            self.position = Position::Middle;
        }
        loop {
            if self.position == Position::LineStart {
                match input.get(at) {
                    Some(b'.') | None => return at,
                    Some(_) => self.position = Position::Middle,
                }
            }
            let Some(found) = memchr::memchr2(b'\r', b'\n', &input[at..]) else {
                return input.len();
            };
            at += found + 1;
            if input[at - 1] == b'\n' {
                self.bare.lf = true;
            } else if at == input.len() {
                self.position = Position::AfterCr;
                return at;
            } else {
                self.line_feed_follows(input, &mut at);
            }
        }
    }

    /// After a CR: steps over the LF that must follow, or notes that it does not.
    fn line_feed_follows(&mut self, input: &[u8], at: &mut usize) -> bool {
        let follows = input[*at] == b'\n';
        if follows {
            *at += 1;
            self.position = Position::LineStart;
        } else {
            self.bare.cr = true;
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CR: BareLines = BareLines { cr: true, lf: false };
    const LF: BareLines = BareLines { cr: false, lf: true };

    /// Content, rest after the end (if it was found), bare line ends.
    type Decoded = (Vec<u8>, Option<Vec<u8>>, BareLines);

    /// Feeds the chunks one after the other, as a socket would.
    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let mut decoder = Decoder::new();
        let (mut content, mut buffer, mut ended) = (Vec::new(), Vec::new(), false);
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while !ended {
                match decoder.next(&buffer) {
                    Piece::Content(n) => content.extend(buffer.drain(..n)),
                    Piece::Skip(n) => drop(buffer.drain(..n)),
                    Piece::End(n) => {
                        buffer.drain(..n);
                        ended = true;
                    }
                    Piece::More => break,
                }
            }
            assert!(ended || buffer.len() <= 2, "{} bytes are held back", buffer.len());
        }
        (content, ended.then_some(buffer), decoder.bare())
    }

    /// The same, slow and obvious: cut at CRLF, look at each line.
    fn reference(input: &[u8]) -> Decoded {
        let find = |from: usize| input[from..].windows(2).position(|w| w == b"\r\n").map(|n| from + n + 2);
        let (mut content, mut at) = (Vec::new(), 0);
        let mut end = None;
        while at < input.len() {
            let next = find(at).unwrap_or(input.len());
            let line = &input[at..next];
            at = next;
            if line == b".\r\n" {
                end = Some(input[at..].to_vec());
                break;
            }
            if (line == b"." || line == b".\r") && at == input.len() {
                break; // held back
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        let bare = bare_lines(&content);
        (content, end, bare)
    }

    fn bare_lines(content: &[u8]) -> BareLines {
        let at = |i: usize| content.get(i).copied();
        BareLines {
            cr: (0..content.len()).any(|i| at(i) == Some(b'\r') && at(i + 1).is_some_and(|next| next != b'\n')),
            lf: (0..content.len()).any(|i| at(i) == Some(b'\n') && (i == 0 || at(i - 1) != Some(b'\r'))),
        }
    }

    #[test]
    fn rfc5321_4_5_2_dots_and_the_end() {
        for (input, content, rest) in [
            (&b".\r\n"[..], &b""[..], Some(&b""[..])), // empty message right after 354
            (b"a\r\n.\r\n", b"a\r\n", Some(b"")),
            (b"a\r\n.\r\nMAIL FROM:<>\r\n", b"a\r\n", Some(b"MAIL FROM:<>\r\n")), // RFC 2920: the next group
            (b"..\r\n.\r\n", b".\r\n", Some(b"")),
            (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", Some(b"")),
            (b".a\r\n.\r\n", b"a\r\n", Some(b"")), // a dot that was not doubled goes too
            (b"\r\n.\r\n", b"\r\n", Some(b"")),
            (b"a.\r\n.\r\n", b"a.\r\n", Some(b"")),
            (b"a\r\n.", b"a\r\n", None),
            (b"a\r\n.\r", b"a\r\n", None),
            (b"a", b"a", None),
        ] {
            let (got, got_rest, bare) = decode([input]);
            assert_eq!((&got[..], got_rest.as_deref(), bare), (content, rest, BareLines::default()), "{input:?}");
        }
    }

    #[test]
    fn cve_2023_51764_bare_line_ends_never_end_a_message() {
        for (input, which) in [
            (&b"a\n.\nMAIL FROM:<>\r\n.\r\n"[..], LF),
            (b"a\r\n.\nx\r\n.\r\n", LF),
            (b"a\n.\r\nx\r\n.\r\n", LF),
            (b"a\r.\r\nx\r\n.\r\n", CR),
            (b"a\r\n.\rx\r\n.\r\n", CR),
            (b"a\r\n.\r\r\n.\r\n", CR),
            (b"\n.\r\n.\r\n", LF),
            (b"a\n\r.\n\rx\r\n.\r\n", BareLines { cr: true, lf: true }),
        ] {
            let (content, rest, bare) = decode([input]);
            assert_eq!(rest.as_deref(), Some(&b""[..]), "{input:?} {content:?}");
            assert_eq!(bare, which, "{input:?}");
        }
    }

    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(&b"\r\n"[..]),
            3 => Just(&b"."[..]),
            2 => Just(&b"abc"[..]),
            1 => Just(&b"\r"[..]),
            1 => Just(&b"\n"[..]),
            1 => Just(&b"\r\n.\r\n"[..]),
        ];
        proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_chunking_gives_what_the_reference_gives(input in tricky(), sizes in proptest::collection::vec(1usize..6, 1..12)) {
            let mut chunks = Vec::new();
            let (mut rest, mut sizes) = (&input[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let n = rest.len().min(*sizes.next().unwrap_or(&1));
                let (chunk, tail) = rest.split_at(n);
                chunks.push(chunk);
                rest = tail;
            }
            let expected = reference(&input);
            prop_assert_eq!(&decode([&input[..]]), &expected);
            prop_assert_eq!(&decode(chunks), &expected);
        }
    }
}
