//! The content that BDAT announces (RFC 3030): so many octets, whatever they are. Nothing in them ends a message, no
//! dot is stuffed, and a line may go on in the next chunk.

use super::{BareLines, Piece};

/// Counts the octets of a chunk down, and looks at line ends over all chunks of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    left: u64,
    after_cr: bool,
    bare: BareLines,
}

impl Counter {
    /// The next chunk is so long.
    pub(crate) fn begin(&mut self, octets: u64) {
        self.left = octets;
    }

    /// Line ends that stood alone so far. A CR at the end of a chunk is not among them: its LF may come with the next.
    pub(crate) fn bare(&self) -> BareLines {
        self.bare
    }

    /// No chunk follows: a CR at the very end stands alone.
    pub(crate) fn finish(&mut self) {
        self.bare.cr |= std::mem::take(&mut self.after_cr);
    }

    /// Looks at all the bytes at hand; the caller removes what the piece covers before the next call.
    pub(crate) fn next(&mut self, input: &[u8]) -> Piece {
        if self.left == 0 {
            return Piece::End(0);
        }
        let n = input.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if n == 0 {
            return Piece::More;
        }
        self.left -= n as u64;
        self.watch(&input[..n]);
        Piece::Content(n)
    }

    fn watch(&mut self, content: &[u8]) {
        if self.after_cr && content[0] != b'\n' {
            self.bare.cr = true;
        }
        for at in memchr::memchr2_iter(b'\r', b'\n', content) {
            if content[at] == b'\r' {
                self.bare.cr |= content.get(at + 1).is_some_and(|&next| next != b'\n');
            } else {
                let after_cr = if at == 0 { self.after_cr } else { content[at - 1] == b'\r' };
                self.bare.lf |= !after_cr;
            }
        }
        self.after_cr = content.ends_with(b"\r");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a chunk that arrives in the given pieces.
    fn chunk(counter: &mut Counter, octets: u64, pieces: &[&[u8]]) -> usize {
        counter.begin(octets);
        pieces.iter().map(|piece| if let Piece::Content(n) = counter.next(piece) { n } else { 0 }).sum()
    }

    #[test]
    fn rfc3030_2_so_many_octets_and_no_more() {
        let mut counter = Counter::default();
        assert_eq!(counter.next(b"RSET\r\n"), Piece::End(0));
        counter.begin(4);
        assert_eq!(counter.next(b""), Piece::More);
        assert_eq!(counter.next(b"a\r\n"), Piece::Content(3));
        assert_eq!(counter.next(b".\r\nRSET\r\n"), Piece::Content(1));
        assert_eq!(counter.next(b"\r\nRSET\r\n"), Piece::End(0));
        counter.begin(u64::MAX);
        assert_eq!(counter.next(b"x"), Piece::Content(1));
    }

    #[test]
    fn a_line_end_may_lie_on_the_border_of_two_chunks() {
        for (first, second, cr, lf) in [
            (&b"a\r"[..], &b"\nb\r\n"[..], false, false),
            (b"a\r", b"b\r\n", true, false),
            (b"a", b"\nb\r\n", false, true),
            (b"a\n", b"b\r\n", false, true),
            (b"a\r\r\n", b"b", true, false),
            (b"\r", b"\r", true, false),
        ] {
            let mut counter = Counter::default();
            assert_eq!(chunk(&mut counter, first.len() as u64, &[first]), first.len());
            chunk(&mut counter, second.len() as u64, &[second]);
            assert_eq!(counter.bare(), BareLines { cr, lf }, "{first:?} {second:?}");
            let mut slow = Counter::default();
            let octets: Vec<&[u8]> = first.chunks(1).chain(second.chunks(1)).collect();
            chunk(&mut slow, octets.len() as u64, &octets);
            assert_eq!(slow.bare(), counter.bare(), "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_cr_at_the_end_of_the_last_chunk_stands_alone() {
        let mut counter = Counter::default();
        chunk(&mut counter, 2, &[b"a\r"]);
        assert!(!counter.bare().cr);
        counter.finish();
        assert!(counter.bare().cr);
    }
}
