//! Goes through a message and tells what is what: header sections, bodies, and what stands between parts (RFC 2046).
//!
//! Cut as the octets may be, bodies come in pieces and all else whole. A line is held back only as long as it could be the
//! boundary of a part.

use memchr::memchr;

use super::entity::{Entity, Kind};

/// The largest header section that is looked at.
const MAX_HEADER: usize = 1024 * 1024;
/// Parts within parts, and messages within them, that are looked at.
const MAX_DEPTH: usize = 64;
/// Header sections of one message that are looked at.
const MAX_SECTIONS: usize = 10_000;
/// A line with more octets is no boundary: two hyphens before, two behind, blanks.
const MAX_DELIMITER: usize = 512;

/// Who is told.
pub(crate) trait Visitor {
    /// A header section, with the blank line at its end if there is one.
    fn header(&mut self, section: &[u8], entity: &Entity);
    /// A piece of the body of what had the last header section, which is not made of parts.
    fn body(&mut self, piece: &[u8]);
    /// A boundary, or a piece of what is in front of, between or behind parts.
    fn between(&mut self, piece: &[u8]);
}

/// See the module. After [`Self::is_lost`] it says nothing more.
#[derive(Debug)]
pub(crate) struct Walker {
    /// The boundaries that may come, the innermost last, and whether parts there are messages.
    levels: Vec<(Vec<u8>, bool)>,
    /// The section that comes in; `None` in a body.
    section: Option<Vec<u8>>,
    /// What names no type in it is a message.
    digest: bool,
    /// The body belongs to a part, and not between parts.
    in_part: bool,
    /// A line that has not ended, or the beginning of one.
    line: Vec<u8>,
    /// The beginning of the line has been told.
    told: bool,
    sections: usize,
    messages: usize,
    lost: bool,
}

impl Default for Walker {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            section: Some(Vec::new()),
            digest: false,
            in_part: false,
            line: Vec::new(),
            told: false,
            sections: 0,
            messages: 0,
            lost: false,
        }
    }
}

impl Walker {
    /// Is the message more than is looked at?
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// The next octets.
    pub(crate) fn update(&mut self, mut piece: &[u8], visitor: &mut impl Visitor) {
        while !piece.is_empty() && !self.lost {
            let end = memchr(b'\n', piece).map(|at| at + 1);
            let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
            piece = rest;
            if self.told {
                self.text(part, visitor);
                self.told = end.is_none();
            } else if end.is_some() && self.line.is_empty() {
                self.line(part, visitor);
            } else {
                self.hold(part, end.is_some(), visitor);
            }
        }
    }

    /// The message has ended.
    pub(crate) fn finish(&mut self, visitor: &mut impl Visitor) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line(&line, visitor);
        }
        if self.section.as_ref().is_some_and(|section| !section.is_empty()) {
            self.end_section(visitor);
        }
    }

    fn hold(&mut self, part: &[u8], ended: bool, visitor: &mut impl Visitor) {
        self.line.extend_from_slice(part);
        let in_body = self.section.is_none();
        if ended {
            let line = std::mem::take(&mut self.line);
            self.line(&line, visitor);
        } else if in_body && self.line.len() > MAX_DELIMITER {
            let line = std::mem::take(&mut self.line);
            self.text(&line, visitor);
            self.told = true;
        }
        self.lost |= self.line.len() > MAX_HEADER;
    }

    /// A whole line.
    fn line(&mut self, line: &[u8], visitor: &mut impl Visitor) {
        if let Some((level, closes)) = self.delimiter(line) {
            if self.section.is_some() {
                self.end_section(visitor);
            }
            visitor.between(line);
            self.cross(level, closes);
            return;
        }
        let Some(section) = &mut self.section else { return self.text(line, visitor) };
        section.extend_from_slice(line);
        self.lost |= section.len() > MAX_HEADER;
        if matches!(line, b"\r\n" | b"\n") {
            self.end_section(visitor);
        }
    }

    fn text(&mut self, piece: &[u8], visitor: &mut impl Visitor) {
        if self.in_part { visitor.body(piece) } else { visitor.between(piece) }
    }

    /// Which level's boundary is this line, and is it the last one there?
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?.trim_ascii_end();
        let levels = self.levels.iter().enumerate().rev();
        levels.into_iter().find_map(|(level, (boundary, _))| match line.strip_prefix(boundary.as_slice())? {
            b"" => Some((level, false)),
            b"--" => Some((level, true)),
            _ => None,
        })
    }

    fn cross(&mut self, level: usize, closes: bool) {
        self.levels.truncate(if closes { level } else { level + 1 });
        self.in_part = false;
        self.digest = self.levels.last().is_some_and(|(_, digest)| *digest);
        self.section = (!closes).then(Vec::new);
    }

    fn end_section(&mut self, visitor: &mut impl Visitor) {
        let section = self.section.take().unwrap_or_default();
        let mut entity = Entity::read(&section, self.digest);
        self.sections += 1;
        self.lost |= self.sections > MAX_SECTIONS;
        if self.levels.len() + self.messages >= MAX_DEPTH && !entity.kind.is_simple() {
            entity.kind = Kind::Encoded;
        }
        visitor.header(&section, &entity);
        self.in_part = entity.kind.is_simple();
        match entity.kind {
            Kind::Multipart { boundary, digest } => self.levels.push((boundary, digest)),
            Kind::Message => {
                self.messages += 1;
                (self.section, self.digest) = (Some(Vec::new()), false);
            }
            Kind::Text | Kind::Encoded | Kind::Signed => {}
        }
    }
}
