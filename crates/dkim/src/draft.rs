//! A message on its way through: its header section is looked at line by line, its body goes into a hash.

use crate::body::Body;
use crate::header::{self, Line, SEALED, SIGNED};

/// Most octets of the fields that are signed, and of a line that comes in pieces.
const LIMIT: usize = 1024 * 1024;

/// What has been seen of a message. Feed it all octets as they will arrive, without the dots of SMTP.
#[derive(Default)]
pub struct Draft {
    fields: Vec<Field>,
    /// The beginning of a line whose end is in the next piece.
    held: Vec<u8>,
    /// The last line belonged to a field that is signed.
    open: bool,
    /// There was a field.
    any: bool,
    in_body: bool,
    body: Body,
    /// Octets kept.
    kept: usize,
}

/// A field that is signed.
struct Field {
    name: &'static str,
    /// What stands behind the colon, as it is.
    value: Vec<u8>,
}

/// The header section is too large to be kept: the message cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header section is too large to be signed")]
pub struct TooLarge;

/// All that a signature says about a message. Each key signs the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// `from:from:to:…`, as names.
    pub(crate) names: Vec<&'static str>,
    /// The fields in this order, in their relaxed form.
    pub(crate) header: Vec<u8>,
    pub(crate) body: [u8; 32],
}

impl Draft {
    /// The next piece of the message.
    ///
    /// # Errors
    /// [`TooLarge`]; there is nothing more to do then.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let mut rest = piece;
        while !self.in_body && !rest.is_empty() {
            let Some(end) = memchr::memchr(b'\n', rest) else { return self.hold(rest) };
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.held.is_empty() {
                self.line(line)?;
            } else {
                self.hold(line)?;
                let line = std::mem::take(&mut self.held);
                self.line(&line)?;
            }
        }
        self.body.update(rest);
        Ok(())
    }

    /// The message has ended.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn finish(mut self) -> Result<Digest, TooLarge> {
        let last = std::mem::take(&mut self.held);
        if !last.is_empty() {
            self.line(&last)?;
        }
        let mut digest = Digest { names: Vec::new(), header: Vec::new(), body: self.body.finish() };
        for name in SEALED {
            digest.add(name, &self.fields, true);
        }
        for name in SIGNED {
            digest.add(name, &self.fields, false);
        }
        Ok(digest)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        match header::line(line) {
            Line::Field(name, value) => {
                let name = header::signed(name);
                (self.open, self.any) = (name.is_some(), true);
                if let Some(name) = name {
                    self.keep(value.len())?;
                    self.fields.push(Field { name, value: value.to_vec() });
                }
            }
            Line::Continuation if self.any => {
                if self.open
                    && let Some(field) = self.fields.last_mut()
                {
                    field.value.extend_from_slice(line);
                    self.keep(line.len())?;
                }
            }
            Line::Blank => self.in_body = true,
            Line::Continuation | Line::Other => {
                self.in_body = true;
                self.body.update(line);
            }
        }
        Ok(())
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), TooLarge> {
        self.held.extend_from_slice(part);
        if self.held.len() > LIMIT { Err(TooLarge) } else { Ok(()) }
    }

    fn keep(&mut self, octets: usize) -> Result<(), TooLarge> {
        self.kept += octets;
        if self.kept > LIMIT { Err(TooLarge) } else { Ok(()) }
    }
}

impl Digest {
    /// The fields of this name, from the last to the first as verifiers take them (RFC 6376 section 5.4.2), and the name
    /// once more.
    fn add(&mut self, name: &'static str, fields: &[Field], always: bool) {
        let before = self.names.len();
        for field in fields.iter().rev().filter(|field| field.name == name) {
            self.names.push(name);
            header::relax(name, &field.value, &mut self.header);
        }
        if always || self.names.len() > before {
            self.names.push(name);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn digest<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let mut draft = Draft::default();
        pieces.into_iter().for_each(|piece| draft.update(piece).unwrap());
        draft.finish().unwrap()
    }

    fn body(text: &str) -> [u8; 32] {
        let mut body = Body::default();
        body.update(text.as_bytes());
        body.finish()
    }

    const MESSAGE: &str = "Received: from a\r\n\tby b\r\nSubject: one\r\nFROM : John\r\n <john@example.org>\r\nX-A: b\r\n more\r\n\
                           subject:  two  \r\n words\r\n\r\nSubject: three\r\n";

    #[test]
    fn fields_are_signed_from_the_last_to_the_first_and_sealed() {
        let digest = digest([MESSAGE.as_bytes()]);
        assert_eq!(
            String::from_utf8_lossy(&digest.header),
            "from:John <john@example.org>\r\nsubject:two words\r\nsubject:one\r\n"
        );
        assert_eq!(digest.names[..8], ["from", "from", "to", "cc", "subject", "subject", "subject", "date"]);
        assert!(!digest.names.contains(&"references"), "may be added where there is none");
        assert_eq!(digest.body, body("Subject: three\r\n"));
    }

    #[test]
    fn what_is_there_without_need_is_sealed_too() {
        let digest = digest([&b"References: <a@b>\r\nList-Id: <x.y>\r\nFeedback-ID: a:b:c:d\r\n\r\n"[..]]);
        let twice = ["list-id", "references", "feedback-id"].map(|name| [name; 2]);
        assert_eq!(digest.names[12..], *twice.as_flattened());
    }

    #[test]
    fn a_line_that_is_no_field_begins_the_body() {
        for (message, text) in [
            ("Subject: a\r\nno field\r\nFrom: b\r\n", "no field\r\nFrom: b\r\n"),
            (" more\r\nSubject: a\r\n", " more\r\nSubject: a\r\n"),
            ("Subject: a\r\n", ""),
            ("Subject: a", ""),
            ("Subject: a\r\nno field", "no field"),
            ("\r\nSubject: a\r\n", "Subject: a\r\n"),
            ("", ""),
        ] {
            assert_eq!(digest([message.as_bytes()]).body, body(text), "{message:?}");
        }
    }

    #[test]
    fn a_header_section_without_bounds_is_not_kept() {
        let mut draft = Draft::default();
        let endless = |draft: &mut Draft, text: &[u8]| (0..2000).find_map(|_| draft.update(text).err());
        assert_eq!(endless(&mut draft, &[b'x'; 1000]), Some(TooLarge), "a line");
        let mut draft = Draft::default();
        draft.update(b"To: a@b.c\r\n").unwrap();
        assert_eq!(endless(&mut draft, &[b" ".as_slice(), &[b'x'; 998], b"\r\n"].concat()), Some(TooLarge), "a field");
        let mut draft = Draft::default();
        assert_eq!(endless(&mut draft, &[b"X-A: ".as_slice(), &[b'x'; 990], b"\r\n"].concat()), None, "not signed");
    }

    proptest::proptest! {
        #[test]
        fn the_digest_does_not_depend_on_how_the_message_was_cut(
            cuts in proptest::collection::vec(0usize..MESSAGE.len(), 0..6),
        ) {
            let mut cuts = [&cuts[..], &[0, MESSAGE.len()]].concat();
            cuts.sort_unstable();
            let cut = digest(cuts.windows(2).map(|w| &MESSAGE.as_bytes()[w[0]..w[1]]));
            proptest::prop_assert_eq!(cut, digest([MESSAGE.as_bytes()]));
        }
    }
}
