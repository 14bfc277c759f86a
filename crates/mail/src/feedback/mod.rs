//! What other systems report of mail: delivery status notifications (RFC 3464) and complaints (RFC 5965), read while they stream
//! by.
//!
//! A [`Reader`] is shown a message in any pieces and keeps no more of it than the fields that it looks for. It looks at the
//! first 64 KiB. Nobody vouches for what it finds: anybody can write a report about any mail.

mod complaint;
mod status;

use crate::convert::entity::{self, Entity};
use crate::convert::walk::{Visitor, Walker};

pub use complaint::{Complaint, ComplaintKind};
pub use status::Failure;

/// Octets of a message that are looked at.
const LOOKED_AT: usize = 64 * 1024;
/// Octets of the fields in which a report says what happened, and of the header of the message that it is about.
const MAX_FIELDS: usize = 16 * 1024;
/// Octets of a text.
const MAX_TEXT: usize = 1024;

/// What a message reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Who did not get a message; somebody.
    Failures(Vec<Failure>),
    /// What somebody says of a message that he got.
    Complaint(Complaint),
}

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
    /// It is a complaint.
    complains: bool,
    /// The body of the part with the fields: of the first, for there may be reports in the message that it is about.
    fields: Vec<u8>,
    /// The header of the message that it is about.
    original: Vec<u8>,
}

/// Of which header section the octets are that come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The message's own, or before it.
    #[default]
    Message,
    /// Of a part that says what happened.
    Fields,
    /// Of a part that is the header of the message it is about.
    Header,
    /// Of a part in which that message is; its header comes next.
    Around,
    /// Of any other part of a report.
    Part,
    /// It is no report.
    Elsewhere,
}

impl Reader {
    /// Octets of memory that one takes at most: a header section, and what it keeps.
    pub const MOST: u64 = (LOOKED_AT + 2 * MAX_FIELDS) as u64;

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

    /// What it reports, if it is a report.
    pub fn finish(mut self) -> Option<Feedback> {
        self.walker.finish(&mut self.found);
        let Found { complains, fields, original, .. } = self.found;
        if complains {
            return complaint::complaint(&fields, &original).map(Feedback::Complaint);
        }
        let failures = status::failures(&fields);
        (!failures.is_empty()).then_some(Feedback::Failures(failures))
    }
}

impl Found {
    /// What the message's own header says of it.
    fn begin(&mut self, media: &Media) -> Place {
        self.complains = media.has("report-type=feedback-report");
        let is_report = self.complains || media.has("report-type=delivery-status");
        if is_report && media.is("multipart/report") { Place::Part } else { Place::Elsewhere }
    }

    /// What the header of a part says of it.
    fn part(&self, media: &Media) -> Place {
        // RFC 6533 section 4 has the second.
        let of_fields: &[&str] = match self.complains {
            true => &["message/feedback-report"],
            false => &["message/delivery-status", "message/global-delivery-status"],
        };
        if self.fields.is_empty() && of_fields.iter().any(|name| media.is(name)) {
            Place::Fields
        } else if self.original.is_empty() && media.is("message/rfc822") {
            Place::Around
        } else if self.original.is_empty() && media.is("text/rfc822-headers") {
            Place::Header
        } else {
            Place::Part
        }
    }
}

impl Visitor for Found {
    fn header(&mut self, section: &[u8], _: &Entity) {
        self.place = match self.place {
            Place::Elsewhere => Place::Elsewhere,
            Place::Message => self.begin(&Media::of(section)),
            Place::Around => {
                keep(&mut self.original, section);
                Place::Part
            }
            Place::Fields | Place::Header | Place::Part => self.part(&Media::of(section)),
        };
    }

    fn body(&mut self, piece: &[u8]) {
        match self.place {
            Place::Fields => keep(&mut self.fields, piece),
            Place::Header => keep(&mut self.original, piece),
            _ => {}
        }
    }

    fn between(&mut self, _: &[u8]) {}
}

fn keep(text: &mut Vec<u8>, piece: &[u8]) {
    let room = MAX_FIELDS.saturating_sub(text.len());
    text.extend_from_slice(&piece[..piece.len().min(room)]);
}

/// The text of a field, on one line; not an empty one.
fn text_of(section: &[u8], name: &[u8]) -> Option<String> {
    let value = entity::fields(section).find_map(|field| entity::value(field, name))?;
    let value = String::from_utf8_lossy(&value[..value.len().min(MAX_TEXT)]);
    let words: Vec<&str> = value.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" ").replace(char::is_control, "?"))
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
