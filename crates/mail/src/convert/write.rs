//! The second pass: the message as the [`Plan`] wants it.

use std::sync::Arc;

use super::entity::{Entity, Kind, fields, value};
use super::fold::Fold;
use super::quoted::Quoted;
use super::walk::{Visitor, Walker};
use super::{Part, Plan};

const ENCODING: &[u8] = b"Content-Transfer-Encoding";

/// Writes a message anew. To be fed the very octets of which the plan was made.
#[derive(Debug)]
pub struct Converter {
    walker: Walker,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    plan: Arc<Plan>,
    /// How many parts there were.
    part: usize,
    mode: Mode,
    quoted: Quoted,
    fold: Fold,
    /// The first section has been written: others are of parts.
    begun: bool,
    out: Vec<u8>,
}

/// What is done to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It goes out as it is.
    Untouched,
    Folded,
    Quoted,
}

impl Converter {
    /// For a message of which this is the plan.
    pub fn new(plan: Arc<Plan>) -> Self {
        let (quoted, fold) = (Quoted::default(), Fold::default());
        let writer = Writer { plan, part: 0, mode: Mode::Folded, quoted, fold, begun: false, out: Vec::new() };
        Self { walker: Walker::default(), writer }
    }

    /// The next octets of the message; what they have become, as far as that is known.
    pub fn update(&mut self, piece: &[u8]) -> Vec<u8> {
        self.walker.update(piece, &mut self.writer);
        std::mem::take(&mut self.writer.out)
    }

    /// The message has ended; what is left of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.walker.finish(&mut self.writer);
        self.writer.end();
        self.writer.out
    }
}

impl Writer {
    /// The part at hand has ended.
    fn end(&mut self) {
        if self.mode == Mode::Quoted {
            self.quoted.finish(&mut self.out);
        }
        self.mode = Mode::Folded;
    }

    /// What becomes of the next part.
    fn next(&mut self) -> Part {
        self.part += 1;
        self.plan.parts.get(self.part - 1).copied().unwrap_or(Part::AsIs)
    }

    fn folded(&mut self, octets: &[u8]) {
        if self.plan.needs.short_lines {
            self.fold.update(octets, &mut self.out);
        } else {
            self.out.extend_from_slice(octets);
        }
    }

    /// A section with another encoding in the place of its own, or of none.
    fn with_encoding(&mut self, section: &[u8], encoding: &str, missing: &str) {
        let mut encoding = Some(format!("Content-Transfer-Encoding: {encoding}\r\n"));
        let mut length = 0;
        for field in fields(section) {
            length += field.len();
            if value(field, ENCODING).is_none() {
                self.folded(field);
            } else if let Some(encoding) = encoding.take() {
                self.out.extend_from_slice(encoding.as_bytes());
            }
        }
        if length > 0 && !section[..length].ends_with(b"\n") {
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(missing.as_bytes());
        self.out.extend_from_slice(encoding.unwrap_or_default().as_bytes());
        self.out.extend_from_slice(&section[length..]);
    }

    /// Fields without which an encoding means nothing (RFC 2045 section 4). RFC 1428 has the name for text of which nobody
    /// says what it is.
    fn missing(&self, entity: &Entity, eight_bit: bool) -> &'static str {
        match (self.begun, entity.has_version, entity.has_type, eight_bit) {
            (true, ..) | (_, true, true, _) => "",
            (_, false, true, _) => "MIME-Version: 1.0\r\n",
            (_, true, false, false) => "Content-Type: text/plain; charset=us-ascii\r\n",
            (_, true, false, true) => "Content-Type: text/plain; charset=unknown-8bit\r\n",
            (_, false, false, false) => "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n",
            (_, false, false, true) => "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n",
        }
    }
}

impl Visitor for Writer {
    fn header(&mut self, section: &[u8], entity: &Entity) {
        self.end();
        let part = if entity.kind.is_simple() { self.next() } else { Part::AsIs };
        match part {
            Part::Encoded { eight_bit } => {
                let missing = self.missing(entity, eight_bit);
                self.with_encoding(section, "quoted-printable", missing);
            }
            // What is converted has no such octets, and says so.
            Part::AsIs if self.plan.needs.seven_bit && entity.says_eight_bit => self.with_encoding(section, "7bit", ""),
            Part::AsIs => self.folded(section),
        }
        self.begun = true;
        self.mode = match (part, &entity.kind) {
            (Part::Encoded { .. }, _) => Mode::Quoted,
            (_, Kind::Signed) => Mode::Untouched,
            _ => Mode::Folded,
        };
    }

    fn body(&mut self, piece: &[u8]) {
        match self.mode {
            Mode::Untouched => self.out.extend_from_slice(piece),
            Mode::Folded => self.folded(piece),
            Mode::Quoted => self.quoted.update(piece, &mut self.out),
        }
    }

    fn between(&mut self, piece: &[u8]) {
        self.end();
        self.folded(piece);
    }
}
