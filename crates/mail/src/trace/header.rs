//! The scan of a header section while it streams by, in bounded memory.

use std::ops::Range;

use crate::{Address, mailbox};

/// A field name longer than this is none: the line belongs to the body.
const MAX_NAME: usize = 128;
/// How much of a Message-ID field is kept.
const MAX_MESSAGE_ID: usize = 1024;
/// How much of a TLS-Required field is kept.
const MAX_TLS_REQUIRED: usize = 128;
/// How much of all From fields together is kept, where they are.
const MAX_FROM: usize = 16 * 1024;
/// A longer field is not shown as a whole.
const MAX_WHOLE: usize = 16 * 1024;

/// Watches a header section stream by.
///
/// Feed it the message in any chunks; it holds back at most the beginning of one line, as long as it cannot tell
/// whether that line still belongs to the header section. The section ends before the blank line, before the first
/// line that is no field, or with the message.
///
/// A first line `From x …` or `>From x …`, which mailbox files and programs such as cron put in front of a header, would
/// end the section before it begins, and the real header would become text of the body: it becomes a field,
/// `X-Mailbox-Line`.
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
    tls_required: Option<Vec<u8>>,
    /// The From fields, if they are wanted. Boxed: most messages go without.
    from: Option<Box<Authors>>,
    /// What the line at hand belongs to, of what is kept.
    capturing: Option<Kept>,
    /// Names of fields that are left out.
    dropped: &'static [&'static str],
    /// Names of fields that are shown as a whole.
    whole: &'static [&'static str],
    /// Of the field to which the line at hand belongs.
    fate: Fate,
    /// A line that is no field, and not the blank one, ended the header section.
    ends_oddly: bool,
}

/// All From fields; a message should have one (RFC 5322 section 3.6.2), and those who have two must not show another than was
/// looked at.
#[derive(Clone, Debug, Default)]
struct Authors {
    fields: Vec<Vec<u8>>,
    /// Octets that may still come.
    room: usize,
    /// More came.
    overflown: bool,
}

/// What is kept of a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    MessageId,
    From,
    TlsRequired,
}

/// What becomes of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It goes on as it comes.
    #[default]
    Stays,
    Dropped,
    /// It is shown when it is over; what there is of it.
    Collected(Vec<u8>),
}

/// What a line of a mailbox file gets in front, to be a field.
const MAILBOX_LINE: &[u8] = b"X-Mailbox-Line: ";

/// What [`HeaderScan::feed`] makes of a chunk; to be written in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What was held back of earlier chunks.
    Held(Vec<u8>),
    /// This range of the chunk.
    Chunk(Range<usize>),
    /// A whole field, with its name and line ends, for whoever may change it.
    Field(Vec<u8>),
    /// The header section ends here: the place for fields that are missing.
    End {
        /// False if no blank line follows: whoever adds fields here must add one.
        blank_follows: bool,
    },
}

/// The parts of a chunk, in order.
pub type Parts = std::vec::IntoIter<Part>;

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
    /// The line of a mailbox file, in front of everything.
    Mailbox,
    Other,
}

impl HeaderScan {
    /// A scan at the beginning of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and fields of these names are left out, with all their lines.
    pub fn dropping(names: &'static [&'static str]) -> Self {
        Self { dropped: names, ..Self::default() }
    }

    /// The same, and fields of these names come as [`Part::Field`], unless they are longer than 16 KiB.
    #[must_use]
    pub fn collecting(self, names: &'static [&'static str]) -> Self {
        Self { whole: names, ..self }
    }

    /// The same, and [`Self::authors`] can be asked.
    #[must_use]
    pub fn keeping_authors(mut self) -> Self {
        self.from = Some(Box::new(Authors { room: MAX_FROM, ..Authors::default() }));
        self
    }

    /// Whom the From fields name, all of them; nobody without such a field. `None` if they cannot be understood, are too
    /// long, or were not kept; or if a line that is no field ends the header without a blank line: many readers look for
    /// fields behind it, too.
    pub fn authors(&self) -> Option<Vec<Address>> {
        let from = self.from.as_ref().filter(|from| !from.overflown)?;
        if self.has_from && self.ends_oddly {
            return None;
        }
        let mut authors = Vec::new();
        for field in &from.fields {
            let (_, value) = std::str::from_utf8(field).ok()?.split_once(':')?;
            authors.extend(mailbox::addresses(value)?);
        }
        Some(authors)
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
        let value = memchr::memchr(b':', field).map_or(&[][..], |colon| field[colon + 1..].trim_ascii());
        let mut text = String::from_utf8_lossy(value).into_owned();
        text.retain(|c| !matches!(c, '\r' | '\n'));
        Some(text.trim().to_owned())
    }

    /// Does the first TLS-Required field say that the message may go without TLS (RFC 8689 section 5)?
    pub fn says_tls_is_optional(&self) -> bool {
        let field = self.tls_required.as_deref().and_then(|field| std::str::from_utf8(field).ok());
        let value = field.and_then(|field| field.split_once(':')).map(|(_, value)| value.trim());
        value.is_some_and(|value| value.eq_ignore_ascii_case("no"))
    }

    /// Is the header section over?
    pub fn is_over(&self) -> bool {
        self.place == Place::Body
    }

    /// Looks at the next chunk.
    pub fn feed(&mut self, chunk: &[u8]) -> Parts {
        let mut parts = Vec::with_capacity(4);
        if self.place == Place::Body {
            parts.push(Part::Chunk(0..chunk.len()));
        } else if self.held.is_empty() {
            self.scan(chunk, &mut parts);
        } else {
            self.decide(chunk, &mut parts);
        }
        parts.into_iter()
    }

    /// With the chunk, it may be clear what the line is whose beginning is held.
    fn decide(&mut self, chunk: &[u8], parts: &mut Vec<Part>) {
        let wanted = (MAX_NAME + 2).saturating_sub(self.held.len()).min(chunk.len());
        let mut probe = self.held.clone();
        probe.extend_from_slice(&chunk[..wanted]);
        match self.classify(&probe) {
            Line::Undecided => self.held = probe,
            line @ (Line::Blank | Line::Other) => {
                let held = std::mem::take(&mut self.held);
                parts.extend(self.close());
                parts.push(self.leave(line));
                parts.extend([Part::Held(held), Part::Chunk(0..chunk.len())]);
            }
            line => {
                let held = std::mem::take(&mut self.held);
                parts.extend(self.enter_line(line, &probe));
                parts.extend(mark(line));
                self.capture(&held);
                match &mut self.fate {
                    Fate::Stays => parts.push(Part::Held(held)),
                    Fate::Dropped => {}
                    Fate::Collected(field) => field.extend_from_slice(&held),
                }
                self.scan(chunk, parts);
            }
        }
    }

    /// The message is over: what is still held back, and the end of the header section if it was not seen yet.
    pub fn finish(&mut self) -> Parts {
        let mut parts = Vec::new();
        if std::mem::replace(&mut self.place, Place::Body) != Place::Body {
            let held = std::mem::take(&mut self.held);
            parts.extend(self.close());
            parts.push(Part::End { blank_follows: false });
            parts.extend((!held.is_empty()).then_some(Part::Held(held)));
        }
        parts.into_iter()
    }

    fn scan(&mut self, chunk: &[u8], parts: &mut Vec<Part>) {
        // What stands before `at` and is not in `parts` yet begins at `kept`, if it stays.
        let (mut at, mut kept) = (0, 0);
        while at < chunk.len() {
            if self.place == Place::InLine {
                let end = memchr::memchr(b'\n', &chunk[at..]).map(|n| at + n + 1);
                let line = at..end.unwrap_or(chunk.len());
                self.place = if end.is_some() { Place::LineStart } else { Place::InLine };
                self.capture(&chunk[line.clone()]);
                at = line.end;
                if let Some(long) = self.collect(&chunk[line]) {
                    parts.push(Part::Held(long));
                    kept = at;
                }
                continue;
            }
            let stays = self.fate == Fate::Stays;
            match self.classify(&chunk[at..]) {
                Line::Undecided => {
                    self.held = chunk[at..].to_vec();
                    break;
                }
                line @ (Line::Blank | Line::Other) => {
                    parts.extend(range(kept..at).filter(|_| stays));
                    parts.extend(self.close());
                    parts.push(self.leave(line));
                    parts.extend(range(at..chunk.len()));
                    return;
                }
                line => {
                    let before = self.enter_line(line, &chunk[at..]);
                    let mark = mark(line);
                    // Fields of one fate stay together: most messages are one part.
                    if mark.is_some() || before.is_some() || stays != (self.fate == Fate::Stays) {
                        parts.extend(range(kept..at).filter(|_| stays));
                        kept = at;
                    }
                    parts.extend(before);
                    parts.extend(mark);
                }
            }
        }
        parts.extend(range(kept..at).filter(|_| self.fate == Fate::Stays));
    }

    /// Notes a piece of a field that is collected. Back comes what there is of it, once it is too long for that; the rest
    /// stays where it is.
    fn collect(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let Fate::Collected(field) = &mut self.fate else { return None };
        field.extend_from_slice(line);
        if field.len() <= MAX_WHOLE {
            return None;
        }
        let long = std::mem::take(field);
        self.fate = Fate::Stays;
        Some(long)
    }

    /// A field that is collected is over.
    fn close(&mut self) -> Option<Part> {
        match std::mem::take(&mut self.fate) {
            Fate::Collected(field) => Some(Part::Field(field)),
            Fate::Stays | Fate::Dropped => None,
        }
    }

    fn classify(&self, start: &[u8]) -> Line {
        match start {
            [] | [b'\r'] => Line::Undecided,
            [b'\n', ..] | [b'\r', b'\n', ..] => Line::Blank,
            [b' ' | b'\t', ..] if self.any => Line::Continuation,
            _ => match classify_field(start) {
                Line::Other if !self.any && (start.starts_with(b"From ") || start.starts_with(b">From ")) => {
                    Line::Mailbox
                }
                line => line,
            },
        }
    }

    /// This line ends the header section.
    fn leave(&mut self, line: Line) -> Part {
        self.place = Place::Body;
        self.ends_oddly = line == Line::Other;
        Part::End { blank_follows: line == Line::Blank }
    }

    /// Notes which field begins; back comes the one before, if it was collected.
    fn enter_line(&mut self, line: Line, start: &[u8]) -> Option<Part> {
        self.place = Place::InLine;
        let Line::Field(length) = line else { return None };
        let before = self.close();
        self.any = true;
        let name = &start[..length];
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let among = |names: &[&str]| names.iter().any(|known| is(known));
        self.fate = match () {
            () if among(self.dropped) => Fate::Dropped,
            () if among(self.whole) => Fate::Collected(Vec::new()),
            () => Fate::Stays,
        };
        self.received += u32::from(is("Received"));
        self.has_date |= is("Date");
        self.has_from |= is("From");
        self.capturing = None;
        if is("Message-ID") && self.message_id.is_none() {
            self.message_id = Some(Vec::new());
            self.capturing = Some(Kept::MessageId);
        } else if is("TLS-Required") && self.tls_required.is_none() {
            self.tls_required = Some(Vec::new());
            self.capturing = Some(Kept::TlsRequired);
        } else if let Some(from) = self.from.as_mut().filter(|_| is("From")) {
            from.fields.push(Vec::new());
            self.capturing = Some(Kept::From);
        }
        before
    }

    fn capture(&mut self, bytes: &[u8]) {
        let (field, most) = match self.capturing {
            Some(Kept::MessageId) => (&mut self.message_id, MAX_MESSAGE_ID),
            Some(Kept::TlsRequired) => (&mut self.tls_required, MAX_TLS_REQUIRED),
            Some(Kept::From) => return self.from.iter_mut().for_each(|from| from.keep(bytes)),
            None => return,
        };
        if let Some(field) = field {
            let room = most.saturating_sub(field.len());
            field.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

impl Authors {
    fn keep(&mut self, bytes: &[u8]) {
        self.overflown |= bytes.len() > self.room;
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        if let Some(field) = self.fields.last_mut() {
            field.extend_from_slice(&bytes[..taken]);
        }
    }
}

/// What goes in front of a line.
fn mark(line: Line) -> Option<Part> {
    (line == Line::Mailbox).then(|| Part::Held(MAILBOX_LINE.to_vec()))
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
                    Part::Field(field) => [b"{", &field[..], b"}"].concat(),
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
    fn rfc5322_3_6_2_all_authors_are_kept_however_the_message_comes_in_pieces() {
        let long = format!("From: {}a@b.test\r\n\r\n", " x,\r\n".repeat(MAX_FROM / 5));
        for (message, authors) in [
            ("From: a@b.test\r\nSubject: x\r\n\r\nFrom: c@d.test\r\n", Some("a@b.test")),
            ("from : A\r\n <a@b.test>,\r\n\tc@d.test\r\nTo: e@f.test\r\n\r\n", Some("a@b.test c@d.test")),
            ("From: a@b.test\r\nX: y\r\nFROM: c@d.test\r\n\r\n", Some("a@b.test c@d.test")),
            ("From: a@b.test", Some("a@b.test")),
            ("Subject: x\r\n From: a@b.test\r\n\r\n", Some("")),
            ("From:\r\n\r\n", None),
            ("From: a@b.test\r\nFrom: nobody\r\n\r\n", None),
            ("From: a@b.test\r\nno field\r\nFrom: c@d.test\r\n\r\n", None),
            ("From: a@b.test\r\n: x\r\nFrom: c@d.test\r\n\r\n", None),
            ("From: a@b.test\r\nFrom c@d.test Tue\r\n\r\n", None),
            ("no field\r\nFrom: c@d.test\r\n\r\n", Some("")),
            (&long, None),
        ] {
            for size in [1, 2, 3, 7, message.len()] {
                let mut scan = HeaderScan::new().keeping_authors();
                split(&mut scan, message.as_bytes().chunks(size));
                let found = scan.authors().map(|all| all.iter().map(Address::as_str).collect::<Vec<_>>().join(" "));
                assert_eq!(found.as_deref(), authors, "{message:.80} in pieces of {size}");
            }
        }
        assert_eq!(HeaderScan::new().authors(), None, "nobody asked for them");
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
            ("A: a\r\nFrom john Tue Nov 24 04:29:44 2026\r\nB: b\r\n", "A: a\r\n", false),
            ("From : john\r\n\r\n", "From : john\r\n", true),
            ("Fro", "", false),
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
    fn lines_of_a_mailbox_file_become_fields_and_dropped_fields_go_with_all_their_lines_however_they_arrive() {
        const DROPPED: &[&str] = &["Bcc", "Return-Path"];
        for (message, expected) in [
            ("From john Tue\r\nA: a\r\n\r\nb\r\n", "X-Mailbox-Line: From john Tue\r\nA: a\r\n|\r\nb\r\n"),
            (
                ">From john\r\n>From lisa\r\nA: a\r\n\r\n",
                "X-Mailbox-Line: >From john\r\nX-Mailbox-Line: >From lisa\r\nA: a\r\n|\r\n",
            ),
            ("From the start,\r\nJohn\r\n", "X-Mailbox-Line: From the start,\r\n|John\r\n"),
            ("From x\n\nFrom y\n", "X-Mailbox-Line: From x\n|\nFrom y\n"),
            ("bcc: a,\r\n\tb\r\nA: a\r\nBCC : c\r\n\r\nBcc: d\r\n", "A: a\r\n|\r\nBcc: d\r\n"),
            ("A: a\r\nBcc: b\r\n c\r\n", "A: a\r\n|"),
            ("Bcc: b", "|"),
            ("Return-Path: <x>\r\nBccx: y\r\n Bcc: z\r\n\r\n", "Bccx: y\r\n Bcc: z\r\n|\r\n"),
            ("Bcc: b\r\nHello\r\n", "|Hello\r\n"),
        ] {
            for size in 1..=message.len() {
                let mut scan = HeaderScan::dropping(DROPPED);
                let (header, body, _) = split(&mut scan, message.as_bytes().chunks(size));
                let text = format!("{}|{}", String::from_utf8_lossy(&header), String::from_utf8_lossy(&body));
                assert_eq!(text, expected, "{message:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn some_fields_come_as_a_whole_however_they_arrive() {
        const WHOLE: &[&str] = &["From", "Sender"];
        for (message, expected) in [
            (
                "From: a\r\n b\r\nTo: c\r\nsender : d\r\n\r\nFrom: e\r\n",
                "{From: a\r\n b\r\n}To: c\r\n{sender : d\r\n}|\r\nFrom: e\r\n",
            ),
            (
                "To: c\r\nFrom: a\r\nFrom: b\r\nBcc: c\r\nTo: d\r\n\r\n",
                "To: c\r\n{From: a\r\n}{From: b\r\n}To: d\r\n|\r\n",
            ),
            ("Bcc: c\r\nFrom: a\r\nBcc: c\r\nX", "{From: a\r\n}|X"),
            ("From: a\r\n\tb", "{From: a\r\n\tb}|"),
            ("From: a\r\nno field\r\nFrom: b\r\n", "{From: a\r\n}|no field\r\nFrom: b\r\n"),
        ] {
            for size in 1..=message.len() {
                let mut scan = HeaderScan::dropping(&["Bcc"]).collecting(WHOLE);
                let (header, body, _) = split(&mut scan, message.as_bytes().chunks(size));
                let text = format!("{}|{}", String::from_utf8_lossy(&header), String::from_utf8_lossy(&body));
                assert_eq!(text, expected, "{message:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_field_that_is_too_long_to_be_shown_as_a_whole_goes_on_as_it_comes() {
        let long = format!("From: a,\r\n{}", " b,\r\n".repeat(MAX_WHOLE / 4));
        let message = format!("To: c\r\n{long}Sender: d\r\n\r\nbody");
        for size in [1, 7, 4096, message.len()] {
            let mut scan = HeaderScan::new().collecting(&["From", "Sender"]);
            let (header, body, _) = split(&mut scan, message.as_bytes().chunks(size));
            assert_eq!(String::from_utf8(header).unwrap(), format!("To: c\r\n{long}{{Sender: d\r\n}}"), "{size}");
            assert_eq!(body, b"\r\nbody");
        }
    }

    #[test]
    fn fields_that_stay_are_one_part() {
        let message = b"A: a\r\nB: b\r\nBcc: c\r\nBcc: d\r\nE: e\r\nF: f\r\n\r\nbody";
        let kept = |scan: &mut HeaderScan| scan.feed(message).filter(|part| matches!(part, Part::Chunk(_))).count();
        assert_eq!(kept(&mut HeaderScan::new()), 2, "header and body");
        assert_eq!(kept(&mut HeaderScan::dropping(&["Bcc"])), 3, "in front of what goes, behind it, body");
    }

    #[test]
    fn received_fields_behind_a_line_of_a_mailbox_file_count() {
        let mut scan = HeaderScan::new();
        split(&mut scan, [&b"From x\r\nReceived: a\r\nReceived: b\r\n\r\n"[..]]);
        assert_eq!(scan.received(), 2);
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
    fn rfc8689_tls_is_optional_where_the_first_field_about_it_says_no() {
        let endless = format!("TLS-Required: {}no\r\n\r\n", " ".repeat(MAX_TLS_REQUIRED));
        for (message, optional) in [
            ("TLS-Required: No\r\n\r\n", true),
            ("From: a@b.c\r\ntls-required:\r\n no \r\n\r\n", true),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n", false),
            ("TLS-Required: No thanks\r\n\r\n", false),
            ("Subject: x\r\n\r\nTLS-Required: No\r\n", false),
            (&endless, false),
        ] {
            for size in [1, 7, message.len()] {
                let mut scan = HeaderScan::new();
                split(&mut scan, message.as_bytes().chunks(size));
                assert_eq!(scan.says_tls_is_optional(), optional, "{message:?} in pieces of {size}");
            }
        }
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
