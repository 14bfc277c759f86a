//! How the end of a message's content is found: one variant for each command that can announce content.
//!
//! Limits, loops and bare line ends are judged behind it, alike for all of them. BDAT (RFC 3030) is a second variant,
//! which counts down the octets of a chunk.

use super::dot;
use super::{Bare, Piece};

/// The decoder of the content at hand.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// DATA: up to CRLF `.` CRLF, with dots stuffed.
    Dots(dot::Decoder),
}

impl Content {
    /// What follows the `354`.
    pub(crate) fn data() -> Self {
        Self::Dots(dot::Decoder::new())
    }

    /// Looks at all the bytes at hand; the caller removes what the piece covers before the next call.
    pub(crate) fn next(&mut self, input: &[u8]) -> Piece {
        match self {
            Self::Dots(decoder) => decoder.next(input),
        }
    }

    /// The first bare CR or LF seen so far, if any.
    pub(crate) fn bare(&self) -> Option<Bare> {
        match self {
            Self::Dots(decoder) => decoder.bare(),
        }
    }
}
