//! The scan of a header section while it streams by, in bounded memory.

use std::ops::Range;

/// A field name longer than this is none: the line belongs to the body.
const MAX_NAME: usize = 128;
/// How much of a Message-ID field is kept.
const MAX_MESSAGE_ID: usize = 1024;

/// Watches a header section stream by.
///
/// Feed it the message in any chunks; it holds back at most the beginning of one line, as long as it cannot tell
/// whether that line still belongs to the header section. The section ends before the blank line, before the first
/// line that is no field, or with the message.
#[derive(Clone, Debug, Default)]
pub struct HeaderScan {
    place: Place,
    /// The beginning of a line that may be a field or not; at most `MAX_NAME` and a little.
    held: Vec<u8>,
    /// Has a field been seen? Only then a line may continue one.
    any: bool,
    received: u32,
    has_date: bool,
    has_from: bool,
    message_id: Option<Vec<u8>>,
    /// The line at hand belongs to the Message-ID field.
    capturing: bool,
}

/// What [`HeaderScan::feed`] makes of a chunk; to be written in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What was held back of earlier chunks.
    Held(Vec<u8>),
    /// This range of the chunk.
    Chunk(Range<usize>),
    /// The header section ends here: the place for fields that are missing.
    End {
        /// False if no blank line follows: whoever adds fields here must add one.
        blank_follows: bool,
    },
}

/// At most four parts, in order.
pub type Parts = std::iter::Flatten<std::array::IntoIter<Option<Part>, 4>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    InLine,
    Body,
}

/// What the beginning of a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Too early to tell.
    Undecided,
    Blank,
    Continuation,
    /// A field whose name is so long.
    Field(usize),
    Other,
}

impl HeaderScan {
    /// A scan at the beginning of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many Received fields there were so far.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Was there a Date field?
    pub fn has_date(&self) -> bool {
        self.has_date
    }

    /// Was there a From field?
    pub fn has_from(&self) -> bool {
        self.has_from
    }

    /// Was there a Message-ID field?
    pub fn has_message_id(&self) -> bool {
        self.message_id.is_some()
    }

    /// The text of the first Message-ID field, unfolded, for the log; at most 1 KiB. Peer text: not verified.
    pub fn message_id(&self) -> Option<String> {
        let field = self.message_id.as_deref()?;
        let value = field.splitn(2, |&b| b == b':').nth(1).unwrap_or_default();
        let text: String = String::from_utf8_lossy(value).chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        Some(text.trim().to_owned())
    }

    /// Is the header section over?
    pub fn is_over(&self) -> bool {
        self.place == Place::Body
    }

    /// Looks at the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) -> Parts {
        if self.place == Place::Body {
            return parts([Some(Part::Chunk(0..chunk.len())), None, None, None]);
        }
        if self.held.is_empty() {
            return self.scan(chunk, None);
        }
        let wanted = (MAX_NAME + 2).saturating_sub(self.held.len()).min(chunk.len());
        let mut probe = self.held.clone();
        probe.extend_from_slice(&chunk[..wanted]);
        match self.classify(&probe) {
            Line::Undecided => {
                self.held = probe;
                parts([const { None }; 4])
            }
            line @ (Line::Blank | Line::Other) => {
                let held = std::mem::take(&mut self.held);
                self.place = Place::Body;
                let end = Part::End { blank_follows: line == Line::Blank };
                parts([Some(end), Some(Part::Held(held)), Some(Part::Chunk(0..chunk.len())), None])
            }
            line => {
                let held = std::mem::take(&mut self.held);
                self.enter_line(line, &probe);
                self.capture(&held);
                self.scan(chunk, Some(Part::Held(held)))
            }
        }
    }

    /// The message is over: what is still held back, and the end of the header section if it was not seen yet.
    pub fn finish(&mut self) -> Parts {
        if std::mem::replace(&mut self.place, Place::Body) == Place::Body {
            return parts([const { None }; 4]);
        }
        let held = std::mem::take(&mut self.held);
        let end = Part::End { blank_follows: false };
        parts([Some(end), (!held.is_empty()).then_some(Part::Held(held)), None, None])
    }

    fn scan(&mut self, chunk: &[u8], held: Option<Part>) -> Parts {
        let mut at = 0;
        while at < chunk.len() {
            if self.place == Place::InLine {
                let end = memchr::memchr(b'\n', &chunk[at..]).map(|n| at + n + 1);
                self.capture(&chunk[at..end.unwrap_or(chunk.len())]);
                self.place = if end.is_some() { Place::LineStart } else { Place::InLine };
                at = end.unwrap_or(chunk.len());
                continue;
            }
            match self.classify(&chunk[at..]) {
                Line::Undecided => {
                    self.held = chunk[at..].to_vec();
                    break;
                }
                line @ (Line::Blank | Line::Other) => {
                    self.place = Place::Body;
                    let end = Part::End { blank_follows: line == Line::Blank };
                    return parts([held, range(0..at), Some(end), range(at..chunk.len())]);
                }
                line => self.enter_line(line, &chunk[at..]),
            }
        }
        parts([held, range(0..at), None, None])
    }

    fn classify(&self, start: &[u8]) -> Line {
        match start {
            [] | [b'\r'] => Line::Undecided,
            [b'\n', ..] | [b'\r', b'\n', ..] => Line::Blank,
            [b' ' | b'\t', ..] if self.any => Line::Continuation,
            _ => classify_field(start),
        }
    }

    /// Notes which field begins.
    fn enter_line(&mut self, line: Line, start: &[u8]) {
        self.place = Place::InLine;
        let Line::Field(length) = line else { return };
        self.any = true;
        let name = &start[..length];
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        self.received += u32::from(is("Received"));
        self.has_date |= is("Date");
        self.has_from |= is("From");
        self.capturing = is("Message-ID") && self.message_id.is_none();
        if self.capturing {
            self.message_id = Some(Vec::new());
        }
    }

    fn capture(&mut self, bytes: &[u8]) {
        if let Some(field) = self.message_id.as_mut().filter(|_| self.capturing) {
            let room = MAX_MESSAGE_ID.saturating_sub(field.len());
            field.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// RFC 5322 section 2.2: a name of printable characters, perhaps blanks (section 4.5), a colon.
fn classify_field(start: &[u8]) -> Line {
    let window = &start[..start.len().min(MAX_NAME + 1)];
    let Some(length) = window.iter().position(|&b| !matches!(b, b'!'..=b'9' | b';'..=b'~')) else {
        return if start.len() > MAX_NAME { Line::Other } else { Line::Undecided };
    };
    match window[length..].iter().find(|&&b| !matches!(b, b' ' | b'\t')) {
        _ if length == 0 => Line::Other,
        Some(b':') => Line::Field(length),
        None if window.len() <= MAX_NAME => Line::Undecided,
        _ => Line::Other,
    }
}

fn parts(parts: [Option<Part>; 4]) -> Parts {
    parts.into_iter().flatten()
}

fn range(range: Range<usize>) -> Option<Part> {
    (!range.is_empty()).then_some(Part::Chunk(range))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Header, body, blank line follows.
    type Split = (Vec<u8>, Vec<u8>, bool);

    /// Feeds the chunks and sorts what comes out.
    fn split<'a>(scan: &mut HeaderScan, chunks: impl IntoIterator<Item = &'a [u8]>) -> Split {
        let (mut header, mut body, mut end) = (Vec::new(), Vec::new(), None);
        let mut take = |parts: Parts, chunk: &[u8]| {
            for part in parts {
                let bytes = match part {
                    Part::Held(bytes) => bytes,
                    Part::Chunk(range) => chunk[range].to_vec(),
                    Part::End { blank_follows } => {
                        assert_eq!(end.replace(blank_follows), None, "the end comes once");
                        continue;
                    }
                };
                if end.is_some() { body.extend(bytes) } else { header.extend(bytes) }
            }
        };
        for chunk in chunks {
            take(scan.feed(chunk), chunk);
            assert!(scan.held.len() <= MAX_NAME + 2, "{} bytes are held back", scan.held.len());
        }
        take(scan.finish(), b"");
        (header, body, end.unwrap())
    }

    #[test]
    fn rfc5322_2_2_the_section_ends_before_the_blank_line_or_the_first_line_that_is_no_field() {
        let long_line = format!("{}: x\r\n", "a".repeat(MAX_NAME + 1));
        let long_name = format!("{}: x\r\n", "a".repeat(MAX_NAME));
        for (message, header, blank) in [
            ("Subject: a\r\n\r\nbody\r\n", "Subject: a\r\n", true),
            ("A: a\r\n b\r\n\tc\r\nB:\r\n\r\n", "A: a\r\n b\r\n\tc\r\nB:\r\n", true),
            ("Subject : a\r\n\r\n", "Subject : a\r\n", true),
            ("\r\nSubject: a\r\n", "", true),
            ("", "", false),
            ("Hello John,\r\nSubject: a\r\n", "", false),
            ("A: a\r\nHello\r\n\r\n", "A: a\r\n", false),
            ("A: a\r\n", "A: a\r\n", false),
            ("A: a", "A: a", false),
            ("A: a\r\nB", "A: a\r\n", false),
            (" leading blank\r\n\r\n", "", false),
            ("From john Tue Nov 24 04:29:44 2026\r\nA: a\r\n", "", false),
            (": no name\r\n", "", false),
            ("--boundary\r\nA: a\r\n", "", false),
            (&long_line, "", false),
            (&long_name, &long_name, false),
        ] {
            let (got, body, got_blank) = split(&mut HeaderScan::new(), [message.as_bytes()]);
            assert_eq!((String::from_utf8_lossy(&got).as_ref(), got_blank), (header, blank), "{message:?}");
            assert_eq!(header.len() + body.len(), message.len(), "{message:?}");
        }
    }

    #[test]
    fn fields_are_noticed_in_the_header_section_only() {
        let mut scan = HeaderScan::new();
        let message = "Received: a\r\n\tb\r\nRECEIVED: c\r\ndate: d\r\nMessage-Id:\r\n <x@y>\r\nMessage-ID: <z>\r\n\r\nFrom: e\r\n";
        split(&mut scan, [message.as_bytes()]);
        assert_eq!((scan.received(), scan.has_date(), scan.has_from()), (2, true, false));
        assert_eq!(scan.message_id().as_deref(), Some("<x@y>"));
        assert!(scan.has_message_id() && scan.is_over());
        assert_eq!(HeaderScan::new().message_id(), None);
    }

    #[test]
    fn an_endless_message_id_is_cut() {
        let mut scan = HeaderScan::new();
        for chunk in [b"Message-ID: ".to_vec(), vec![b'x'; 1 << 20], b"\r\n\r\n".to_vec()] {
            scan.feed(&chunk).for_each(drop);
        }
        assert!(scan.message_id().unwrap().len() <= MAX_MESSAGE_ID);
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just("\r\n"),
            3 => Just("Message-ID: <a@b>"),
            3 => Just("Received: x"),
            2 => Just("Date:"),
            1 => Just(" "),
            1 => Just("x"),
            1 => Just(":"),
            1 => Just("\r"),
            1 => Just("aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbb"),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_chunking_gives_the_same(message in message(), sizes in proptest::collection::vec(1usize..9, 1..12)) {
            let mut chunks = Vec::new();
            let (mut rest, mut sizes) = (&message[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                chunks.push(chunk);
                rest = tail;
            }
            let (mut whole, mut cut) = (HeaderScan::new(), HeaderScan::new());
            let expected = split(&mut whole, [&message[..]]);
            prop_assert_eq!(&split(&mut cut, chunks), &expected);
            let facts = |scan: &HeaderScan| (scan.received(), scan.has_date(), scan.has_from(), scan.message_id());
            prop_assert_eq!(facts(&cut), facts(&whole));
            let (mut all, body, _) = expected;
            all.extend(body);
            prop_assert_eq!(all, message);
        }
    }
}
