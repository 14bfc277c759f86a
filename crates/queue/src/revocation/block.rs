//! A block as it lies in Redis: `<since> <until> <reason>`, times in ms, until 0 if it has no end. Where servers get less and
//! not nothing, how much that is stands in front of the reason. A program puts a `+` in front of its `since`, which programs of
//! before it did overlook.

use std::fmt;
use std::time::Duration;

use staffetta_config::Rate;

use super::target::Target;
use crate::UnixMillis;

/// What is known of a block beside whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// When it was said last.
    pub since: UnixMillis,
    /// When it ends; `None`: when it is taken back.
    pub until: Option<UnixMillis>,
    /// How much servers get meanwhile; only of [`Target::Slow`] and [`Target::Fewer`].
    pub curb: Option<Curb>,
    /// A program has said it, because of what servers or logins do; else an operator.
    pub by_program: bool,
    /// Why, in the operator's words.
    pub reason: String,
}

/// How much some servers get for a while, where that is not nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curb {
    /// So many messages.
    Rate(Rate),
    /// So many connections.
    Connections(u32),
}

impl Curb {
    /// Is it of the same kind, and leaves less?
    pub fn is_stricter_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Rate(rate), Self::Rate(other)) => rate.is_lower_than(&other),
            (Self::Connections(count), Self::Connections(other)) => count < other,
            _ => false,
        }
    }

    /// What [`fmt::Display`] has written about this target; `None`: nothing is said of it.
    fn parse(target: &Target, text: &str) -> Option<Self> {
        match target {
            Target::Slow(_) => Rate::parse(text).map(Self::Rate),
            Target::Fewer(_) => text.parse().ok().filter(|count| *count > 0).map(Self::Connections),
            _ => None,
        }
    }
}

impl fmt::Display for Curb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => rate.fmt(f),
            Self::Connections(count) => count.fmt(f),
        }
    }
}

/// What servers have asked for, of which each may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Curbs {
    /// Most messages.
    pub rate: Option<Rate>,
    /// Most connections.
    pub connections: Option<u32>,
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

    pub(super) fn parse(target: &Target, text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (since, until) = (parts.next()?, parts.next()?.parse().ok()?);
        let (by_program, since) = since.strip_prefix('+').map_or((false, since), |since| (true, since));
        let said = parts.next().unwrap_or_default();
        let (curb, reason) = match target {
            Target::Slow(_) | Target::Fewer(_) => {
                let (curb, reason) = said.split_once(' ').unwrap_or((said, ""));
                (Some(Curb::parse(target, curb)?), reason)
            }
            _ => (None, said),
        };
        Some(Self {
            since: since.parse().ok()?,
            until: (until > 0).then_some(until),
            curb,
            by_program,
            reason: reason.to_owned(),
        })
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
        let login = Target::login("john").unwrap();
        let parse = |text: &str| Block::parse(&login, text);
        let block = parse("5 9 a thief, it seems").unwrap();
        assert_eq!((block.since, block.until, &*block.reason), (5, Some(9), "a thief, it seems"));
        assert!(block.holds(8) && !block.holds(9) && !block.by_program);
        assert_eq!(parse("+5 9 550 go away"), Some(Block { by_program: true, reason: "550 go away".into(), ..block }));
        let endless = parse("5 0 ").unwrap();
        assert_eq!((endless.until, &*endless.reason), (None, ""));
        assert!(endless.holds(u64::MAX));
        for nonsense in ["", "5", "a b c", "5 -1 x"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn how_much_servers_get_is_read_as_it_was_written_and_nonsense_curbs_nobody() {
        let minute = Rate { count: 10, per: Duration::from_secs(60) };
        for curb in [Curb::Rate(minute), Curb::Connections(2)] {
            let target = Target::curbed("mx.a.test", curb).unwrap();
            let block = Block::parse(&target, &format!("5 9 {curb} 421 too much")).unwrap();
            assert_eq!((block.curb, &*block.reason), (Some(curb), "421 too much"));
            assert_eq!(Block::parse(&target, &format!("5 9 {curb}")).unwrap().curb, Some(curb));
            for nonsense in ["5 9", "5 9 ", "5 9 too much", "5 9 0 x", "5 9 0/1m x", "5 9 -1 x"] {
                assert_eq!(Block::parse(&target, nonsense), None, "{target} {nonsense}");
            }
        }
    }
}
