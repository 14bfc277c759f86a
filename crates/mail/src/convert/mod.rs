//! A message in a form that its next hop can take: without octets above 127, for a server that does not offer 8BITMIME
//! (RFC 6152 section 3), and without lines of more than 998 octets (RFC 5322 section 2.1.1).
//!
//! Two passes over the same octets, cut in any way. The [`Survey`] finds out which parts have to be encoded, and whether
//! that can be done; the [`Converter`] writes. Neither keeps more than a header section, so a message of any size takes little
//! memory, and both give the same for the same octets: what is signed is what is sent.
//!
//! A part with text in it becomes quoted-printable (RFC 2045 section 6.7), which loses nothing; parts within parts and within
//! messages likewise, as composite types have no encoding of their own (section 6.4). What is left of long lines, in header
//! fields and in parts that are encoded already, is folded by CRLF and a blank, as Postfix does. A `multipart/signed` is
//! never touched: its long lines go out, its octets above 127 are a reason to give up. So are those in header fields, in front
//! of, between and behind parts, and in parts that say they are encoded.

pub(crate) mod entity;
mod fold;
mod quoted;
#[cfg(test)]
mod tests;
pub(crate) mod walk;
mod write;

use std::sync::Arc;

use entity::{Entity, Kind};
use fold::MAX_LINE;
use walk::{Visitor, Walker};

pub use write::Converter;

/// What the next hop cannot take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// No octets above 127.
    pub seven_bit: bool,
    /// No lines of more than 998 octets.
    pub short_lines: bool,
}

impl Needs {
    /// Is there anything to do?
    pub const fn any(self) -> bool {
        self.seven_bit || self.short_lines
    }
}

/// Why a message cannot be converted. Completes "the message cannot be converted to 7 bit: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unconvertible {
    /// RFC 6532 without SMTPUTF8.
    #[error("a header field has octets above 127")]
    Header,
    /// What was signed would be something else.
    #[error("a signed part has octets above 127")]
    Signed,
    /// In front of, between or behind parts, or in a part whose encoding or type says that there are none.
    #[error("octets above 127 are where they cannot be encoded")]
    Misplaced,
    /// A header section, or the number of parts, is beyond what is looked at.
    #[error("it is too complex")]
    Complex,
}

/// What becomes of each part, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    needs: Needs,
    parts: Vec<Part>,
}

impl Plan {
    /// What it is for.
    pub fn needs(&self) -> Needs {
        self.needs
    }
}

/// What becomes of a part that is not made of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It stays as it is; long lines are folded.
    AsIs,
    /// It becomes quoted-printable.
    Encoded {
        /// It has octets above 127.
        eight_bit: bool,
    },
}

/// The first pass.
#[derive(Debug)]
pub struct Survey {
    walker: Walker,
    facts: Facts,
}

#[derive(Debug)]
struct Facts {
    needs: Needs,
    parts: Vec<Part>,
    /// The part at hand; `None` outside of them.
    kind: Option<Kind>,
    eight_bit: bool,
    lengths: LineLengths,
    problem: Option<Unconvertible>,
}

impl Survey {
    /// For a next hop that cannot take this.
    pub fn new(needs: Needs) -> Self {
        let (kind, lengths, problem) = (None, LineLengths::default(), None);
        let facts = Facts { needs, parts: Vec::new(), kind, eight_bit: false, lengths, problem };
        Self { walker: Walker::default(), facts }
    }

    /// The next octets of the message.
    pub fn update(&mut self, piece: &[u8]) {
        if self.facts.problem.is_none() {
            self.walker.update(piece, &mut self.facts);
        }
    }

    /// The message has ended: what is to be done.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn finish(mut self) -> Result<Arc<Plan>, Unconvertible> {
        self.walker.finish(&mut self.facts);
        self.facts.end();
        let complex = self.walker.is_lost().then_some(Unconvertible::Complex);
        match self.facts.problem.or(complex) {
            None => Ok(Arc::new(Plan { needs: self.facts.needs, parts: self.facts.parts })),
            Some(problem) => Err(problem),
        }
    }
}

impl Facts {
    /// The part at hand has ended.
    fn end(&mut self) {
        let Some(kind) = self.kind.take() else { return };
        let eight_bit = std::mem::take(&mut self.eight_bit) && self.needs.seven_bit;
        let long = std::mem::take(&mut self.lengths).is_long() && self.needs.short_lines;
        match kind {
            Kind::Text if eight_bit || long => self.parts.push(Part::Encoded { eight_bit }),
            Kind::Signed if eight_bit => self.fail(Unconvertible::Signed),
            Kind::Encoded if eight_bit => self.fail(Unconvertible::Misplaced),
            _ => self.parts.push(Part::AsIs),
        }
    }

    fn fail(&mut self, problem: Unconvertible) {
        self.problem.get_or_insert(problem);
    }

    fn refuse_eight_bit(&mut self, octets: &[u8], problem: Unconvertible) {
        if self.needs.seven_bit && !octets.is_ascii() {
            self.fail(problem);
        }
    }
}

impl Visitor for Facts {
    fn header(&mut self, section: &[u8], entity: &Entity) {
        self.end();
        self.refuse_eight_bit(section, Unconvertible::Header);
        self.kind = entity.kind.is_simple().then(|| entity.kind.clone());
    }

    fn body(&mut self, piece: &[u8]) {
        self.eight_bit = self.eight_bit || !piece.is_ascii();
        self.lengths.update(piece);
    }

    fn between(&mut self, piece: &[u8]) {
        self.end();
        self.refuse_eight_bit(piece, Unconvertible::Misplaced);
    }
}

/// Finds out while a message comes in whether any of its lines is too long, at the cost of a look at each line's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineLengths {
    column: usize,
    long: bool,
}

impl LineLengths {
    /// The next octets.
    pub fn update(&mut self, piece: &[u8]) {
        if self.long {
            return;
        }
        let (mut at, mut column) = (0, self.column);
        // From where a line begins, the last line end within its longest length is looked for, from behind.
        loop {
            let window = &piece[at..piece.len().min(at + (MAX_LINE + 2).saturating_sub(column))];
            match memchr::memrchr(b'\n', window) {
                Some(end) => (at, column) = (at + end + 1, 0),
                None if at + window.len() == piece.len() => {
                    self.column = column + window.len();
                    return;
                }
                None => {
                    self.long = true;
                    return;
                }
            }
        }
    }

    /// Was there a line of more than 998 octets?
    pub fn is_long(self) -> bool {
        self.long || self.column > MAX_LINE + 1
    }
}
