//! Dot-stuffing (RFC 5321 section 4.5.2) of content that arrives in chunks, without copying it.

use bytes::BytesMut;
use memchr::memmem;

/// Turns content into what follows the `354`: doubles the dot at the start of a line, ends with CRLF `.` CRLF.
///
/// The pieces of a chunk are slices of it; a chunk without a leading dot comes back whole. The result does not depend
/// on how the content is cut into chunks.
#[derive(Clone, Debug, Default)]
pub(super) struct Stuffer {
    before: Before,
}

/// What the next octet follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    /// CRLF, or nothing at all.
    #[default]
    LineStart,
    /// A CR.
    Cr,
    /// Anything else.
    Text,
}

impl Stuffer {
    /// For one message.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The next chunk as the slices to send, in order. Consume them all.
    pub(super) fn pieces<'a>(&mut self, chunk: &'a [u8]) -> Pieces<'a> {
        let doubled = match (self.before, chunk) {
            (Before::LineStart, [b'.', ..]) => Some(0),
            (Before::Cr, [b'\n', b'.', ..]) => Some(1),
            _ => None,
        };
        self.before = self.before.then(chunk);
        Pieces { rest: Some(chunk), doubled }
    }

    /// Appends the next chunk to `output`.
    pub(super) fn append(&mut self, chunk: &[u8], output: &mut BytesMut) {
        for piece in self.pieces(chunk) {
            output.extend_from_slice(piece);
        }
    }

    /// The end of the data: a line end if the content lacks one, and the dot.
    pub(super) fn finish(self) -> &'static [u8] {
        match self.before {
            Before::LineStart => b".\r\n",
            Before::Cr | Before::Text => b"\r\n.\r\n",
        }
    }
}

impl Before {
    /// Behind this chunk.
    pub(super) fn then(self, chunk: &[u8]) -> Self {
        match chunk {
            [] => self,
            [b'\n'] if self == Self::Cr => Self::LineStart,
            [.., b'\r', b'\n'] => Self::LineStart,
            [.., b'\r'] => Self::Cr,
            _ => Self::Text,
        }
    }
}

/// The slices of one chunk; two neighbours overlap in the dot that is sent twice.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    /// A dot that was found by what the chunk before ended in.
    doubled: Option<usize>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let dot = self.doubled.take().or_else(|| memmem::find(rest, b"\r\n.").map(|at| at + 2));
        let Some(dot) = dot else {
            return Some(rest).filter(|rest| !rest.is_empty());
        };
        self.rest = Some(&rest[dot..]);
        Some(&rest[..=dot])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut output = BytesMut::new();
        for chunk in chunks {
            stuffer.append(chunk, &mut output);
        }
        output.extend_from_slice(stuffer.finish());
        output.to_vec()
    }

    /// RFC 5321 section 4.5.2, octet by octet; panics unless the data end exactly at the first CRLF.CRLF.
    fn unstuffed(wire: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut rest = wire;
        loop {
            let end = rest.windows(2).position(|w| w == b"\r\n").map(|at| at + 2).unwrap_or_default();
            assert_ne!(end, 0, "no end of data in {wire:?}");
            let (line, after) = rest.split_at(end);
            rest = after;
            if line == b".\r\n" {
                assert!(after.is_empty(), "the data end too early in {wire:?}");
                return lines;
            }
            lines.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    }

    #[test]
    fn rfc5321_4_5_2_a_leading_dot_is_doubled_and_the_end_is_marked() {
        for (content, wire) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("..\r\n", "...\r\n.\r\n"),
            ("a\r\n.b\r\n", "a\r\n..b\r\n.\r\n"),
            ("a\r\n.\r\n.\r\n", "a\r\n..\r\n..\r\n.\r\n"),
            ("a.\r\nb.\r\n", "a.\r\nb.\r\n.\r\n"),
            ("a\r", "a\r\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&stuffed([content.as_bytes()])), wire, "{content:?}");
        }
    }

    #[test]
    fn a_chunk_without_a_leading_dot_is_borrowed_whole() {
        let chunk = b"Subject: a.b\r\n\r\ntext.\r\n";
        let pieces: Vec<_> = Stuffer::new().pieces(chunk).collect();
        assert_eq!(pieces, [&chunk[..]]);
        assert_eq!(pieces[0].as_ptr(), chunk.as_ptr());
    }

    proptest::proptest! {
        #[test]
        fn decoding_gives_the_content_back_however_it_was_cut(
            content in proptest::collection::vec(proptest::sample::select(b".\r\na".to_vec()), 0..40),
            cuts in proptest::collection::vec(0usize..40, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(content.len())).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            let wire = stuffed(cuts.windows(2).map(|w| &content[w[0]..w[1]]));
            proptest::prop_assert_eq!(&wire, &stuffed([&content[..]]));
            let mut expected = content;
            if !expected.is_empty() && !expected.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            proptest::prop_assert_eq!(unstuffed(&wire), expected);
        }
    }
}
