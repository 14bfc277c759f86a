//! The relaxed form of a body and its hash (RFC 6376 section 3.4.4), made while the body streams by.

use aws_lc_rs::digest::{Context, SHA256};

/// Octets that are given to the hash at a time.
const BLOCK: usize = 4096;
/// Line ends for [`Body::settle`] to take from.
const LINE_ENDS: [u8; 256] = {
    let mut ends = [b'\n'; 256];
    let mut at = 0;
    while at < ends.len() {
        ends[at] = b'\r';
        at += 2;
    }
    ends
};

/// Blanks become one space, those at the end of a line go, and so do empty lines at the end.
///
/// The result does not depend on how the body is cut into pieces. A body without a line end at its end gets one: so does
/// the message on its way.
pub(crate) struct Body {
    hash: Context,
    block: Vec<u8>,
    /// Line ends that count only if something follows.
    ends: u64,
    /// A blank that counts only if something follows in its line.
    blank: bool,
    /// The last octet was a CR.
    cr: bool,
    /// Something that counts has been there.
    any: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self { hash: Context::new(&SHA256), block: Vec::new(), ends: 0, blank: false, cr: false, any: false }
    }
}

impl Body {
    /// The next piece.
    pub(crate) fn update(&mut self, mut piece: &[u8]) {
        while let Some(&octet) = piece.first() {
            if self.cr {
                self.cr = false;
                if octet == b'\n' {
                    (self.ends, self.blank) = (self.ends + 1, false);
                    piece = &piece[1..];
                    continue;
                }
                self.settle();
                self.put(b"\r");
            }
            match octet {
                b'\r' => (self.cr, piece) = (true, &piece[1..]),
                b' ' | b'\t' => (self.blank, piece) = (true, &piece[1..]),
                _ => {
                    let special = |octet: &u8| matches!(octet, b'\r' | b' ' | b'\t');
                    let (text, rest) = piece.split_at(piece.iter().position(special).unwrap_or(piece.len()));
                    self.settle();
                    self.put(text);
                    piece = rest;
                }
            }
        }
    }

    /// The hash of all.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        if self.cr {
            self.settle();
            self.put(b"\r");
        }
        if self.any {
            self.put(b"\r\n");
        }
        self.hash.update(&self.block);
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.finish().as_ref());
        hash
    }

    /// Something follows: what was put off counts.
    fn settle(&mut self) {
        while self.ends > 0 {
            let some = self.ends.min(LINE_ENDS.len() as u64 / 2);
            self.put(&LINE_ENDS[..2 * some as usize]);
            self.ends -= some;
        }
        if std::mem::take(&mut self.blank) {
            self.put(b" ");
        }
        self.any = true;
    }

    fn put(&mut self, octets: &[u8]) {
        self.block.extend_from_slice(octets);
        if self.block.len() >= BLOCK {
            self.hash.update(&self.block);
            self.block.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;

    use super::*;

    fn hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut body = Body::default();
        pieces.into_iter().for_each(|piece| body.update(piece));
        body.finish()
    }

    fn expect(body: &str, canonical: &str) {
        let expected = digest(&SHA256, canonical.as_bytes());
        assert_eq!(hash([body.as_bytes()]), expected.as_ref(), "{body:?} is not {canonical:?}");
    }

    #[test]
    fn rfc6376_3_4_4_the_relaxed_form() {
        expect(" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
        for (body, canonical) in [
            ("", ""),
            ("\r\n", ""),
            ("\r\n\r\n \t\r\n", ""),
            ("a", "a\r\n"),
            ("a\r\n", "a\r\n"),
            ("a \t", "a\r\n"),
            ("\r\na", "\r\na\r\n"),
            ("a\r\n \r\nb \r\n\t\r\n", "a\r\n\r\nb\r\n"),
            ("  a  b\tc", " a b c\r\n"),
            (" \r\n a", "\r\n a\r\n"),
            ("a\rb \r c\nd", "a\rb \r c\nd\r\n"),
            ("a\r", "a\r\r\n"),
            ("caf\u{e9} \u{a0}\r\n", "caf\u{e9} \u{a0}\r\n"),
        ] {
            expect(body, canonical);
        }
        let far = format!("a{}b\r\n", "\r\n".repeat(1000));
        expect(&far, &far);
    }

    proptest::proptest! {
        #[test]
        fn the_hash_does_not_depend_on_how_the_body_was_cut(
            body in proptest::collection::vec(proptest::sample::select(b"\r\n \tab".to_vec()), 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            proptest::prop_assert_eq!(hash(cuts.windows(2).map(|w| &body[w[0]..w[1]])), hash([&body[..]]));
        }
    }
}
