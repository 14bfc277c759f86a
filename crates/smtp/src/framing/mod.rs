//! Where things end in the octets that a client sends: command lines ([`line`]), and the content of a message
//! ([`content`]), whichever command announces it. Both look at the input and tell what its front is; neither copies.

pub mod chunk;
pub mod content;
pub mod dot;
pub mod line;
pub mod normal;

use std::fmt;

/// Which half of a line end stood alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// CR without LF.
    Cr,
    /// LF without CR.
    Lf,
}

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cr => "CR",
            Self::Lf => "LF",
        })
    }
}

/// Which line ends of a content stood alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BareLines {
    /// A CR without LF.
    pub cr: bool,
    /// A LF without CR.
    pub lf: bool,
}

/// What to do with the front of the input while content comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The first `n > 0` bytes are content.
    Content(usize),
    /// Drop the first `n > 0` bytes: a stuffed dot.
    Skip(usize),
    /// Drop the first `n` bytes, of a chunk none: the end of the content. What follows belongs to the next command.
    End(usize),
    /// Nothing more can be told without more input.
    More,
}
