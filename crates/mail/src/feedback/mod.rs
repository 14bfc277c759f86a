//! What other systems report of mail: delivery status notifications (RFC 3464), read while they stream by.
//!
//! A [`Reader`] is shown a message in any pieces and keeps no more of it than the fields that it looks for. It looks at the
//! first 64 KiB. Nobody vouches for what it finds: anybody can write a report about any mail.

mod status;

use crate::convert::entity::{self, Entity};
use crate::convert::walk::{Visitor, Walker};

pub use status::Failure;

/// Octets of a message that are looked at.
const LOOKED_AT: usize = 64 * 1024;
/// Octets of the fields in which a report says what happened.
const MAX_FIELDS: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    walker: Walker,
    found: Found,
    seen: usize,
}

/// What there is of a report.
#[derive(Debug, Default)]
struct Found {
    place: Place,
    /// The body of the part with the fields.
    fields: Vec<u8>,
}

/// Of which header section the octets are that come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The message's own, or before it.
    #[default]
    Message,
    /// Of a part that says what happened.
    Fields,
    /// Of any other part of a report.
    Part,
    /// It is no report.
    Elsewhere,
}

impl Reader {
    /// At the beginning of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next octets of it.
    pub fn feed(&mut self, octets: &[u8]) {
        let left = LOOKED_AT.saturating_sub(self.seen);
        if left > 0 && self.found.place != Place::Elsewhere && !self.walker.is_lost() {
            self.walker.update(&octets[..octets.len().min(left)], &mut self.found);
            self.seen += octets.len();
        }
    }

    /// Who did not get a message, by its word; nobody, if it is no such report.
    pub fn failures(mut self) -> Vec<Failure> {
        self.walker.finish(&mut self.found);
        status::failures(&self.found.fields)
    }
}

impl Visitor for Found {
    fn header(&mut self, section: &[u8], _: &Entity) {
        let media = Media::of(section);
        self.place = match self.place {
            Place::Elsewhere => Place::Elsewhere,
            Place::Message if media.is("multipart/report") && media.has("report-type=delivery-status") => Place::Part,
            Place::Message => Place::Elsewhere,
            // RFC 6533 section 4 has the second.
            _ if media.is("message/delivery-status") || media.is("message/global-delivery-status") => Place::Fields,
            _ => Place::Part,
        };
    }

    fn body(&mut self, piece: &[u8]) {
        if self.place == Place::Fields {
            let room = MAX_FIELDS.saturating_sub(self.fields.len());
            self.fields.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn between(&mut self, _: &[u8]) {}
}

/// What a header section says of the type of its body: the type, and its parameters. In lower case, without quotes and blanks.
struct Media(Vec<String>);

impl Media {
    fn of(section: &[u8]) -> Self {
        let value = entity::fields(section).find_map(|field| entity::value(field, b"Content-Type")).unwrap_or_default();
        let mut value = String::from_utf8_lossy(value).to_ascii_lowercase();
        value.retain(|letter| !letter.is_whitespace() && letter != '"');
        Self(value.split(';').map(str::to_owned).collect())
    }

    fn is(&self, name: &str) -> bool {
        self.0.first().is_some_and(|first| first == name)
    }

    fn has(&self, parameter: &str) -> bool {
        self.0.iter().skip(1).any(|one| one == parameter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
