//! A block as it lies in Redis: `<since> <until> <reason>`, times in ms, until 0 if it has no end.

use std::time::Duration;

use crate::UnixMillis;

/// What is known of a block beside whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// When it was said last.
    pub since: UnixMillis,
    /// When it ends; `None`: when it is taken back.
    pub until: Option<UnixMillis>,
    /// Why, in the operator's words.
    pub reason: String,
}

/// What is known of a suspension of some servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// How long it holds yet; `None`: until it is taken back.
    pub left: Option<Duration>,
    /// Why: the operator's words, or what a server said.
    pub reason: String,
}

impl Block {
    /// Longest reason, in octets.
    pub const MAX_REASON: usize = 500;

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (since, until) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let reason = parts.next().unwrap_or_default().to_owned();
        Some(Self { since, until: (until > 0).then_some(until), reason })
    }

    pub(super) fn holds(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_as_it_was_written_and_nonsense_is_none() {
        let block = Block::parse("5 9 a thief, it seems").unwrap();
        assert_eq!((block.since, block.until, &*block.reason), (5, Some(9), "a thief, it seems"));
        assert!(block.holds(8) && !block.holds(9));
        let endless = Block::parse("5 0 ").unwrap();
        assert_eq!((endless.until, &*endless.reason), (None, ""));
        assert!(endless.holds(u64::MAX));
        for nonsense in ["", "5", "a b c", "5 -1 x"] {
            assert_eq!(Block::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
