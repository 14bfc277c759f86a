//! How the end of a message's content is found: one variant for each command that can announce content.
//!
//! Limits, loops and bare line ends are judged behind it, alike for all of them.

use super::{BareLines, Piece, chunk, dot};

/// The decoder of the content at hand.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// DATA: up to CRLF `.` CRLF, with dots stuffed.
    Dots(dot::Decoder),
    /// BDAT: octets that were counted before.
    Chunks(chunk::Counter),
}

impl Content {
    /// What follows the `354`.
    pub(crate) fn data() -> Self {
        Self::Dots(dot::Decoder::new())
    }

    /// What follows BDAT, once [`Self::begin_chunk`] has told how much.
    pub(crate) fn chunks() -> Self {
        Self::Chunks(chunk::Counter::default())
    }

    /// So many octets follow.
    pub(crate) fn begin_chunk(&mut self, octets: u64) {
        if let Self::Chunks(counter) = self {
            counter.begin(octets);
        }
    }

    /// The content is over.
    pub(crate) fn finish(&mut self) {
        if let Self::Chunks(counter) = self {
            counter.finish();
        }
    }

    /// Looks at all the bytes at hand; the caller removes what the piece covers before the next call.
    pub(crate) fn next(&mut self, input: &[u8]) -> Piece {
        match self {
            Self::Dots(decoder) => decoder.next(input),
            Self::Chunks(counter) => counter.next(input),
        }
    }

    /// The line ends that stood alone so far.
    pub(crate) fn bare(&self) -> BareLines {
        match self {
            Self::Dots(decoder) => decoder.bare(),
            Self::Chunks(counter) => counter.bare(),
        }
    }
}
