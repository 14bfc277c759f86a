//! Recipients whose own servers have refused them for good, and when that is often enough to suppress them.
//!
//! Whoever runs a mail host can have it refuse as many addresses of its domain as it likes. So what is remembered is bounded, who
//! is suppressed by it takes no more than half of the room that blocks have, and nothing of it ends or changes what an
//! operator has said.

use std::time::Duration;

use redis::Cmd;
use staffetta_config::{Config, Rate};

use super::announce::{LENGTH, ROOM};
use super::target::Target;
use super::{BLOCKS, ENDS, JOURNAL};
use crate::script;

/// Who was refused before.
const BOUNCES: &str = "{R}bounces";
/// How many of them are remembered.
const MOST: u64 = 50_000;

/// When hard bounces suppress a recipient, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardBounces {
    /// After so many.
    pub after: Rate,
    /// For so long.
    pub life: Duration,
}

impl HardBounces {
    /// As the configuration has it; `None`: nobody is suppressed by them.
    pub fn of(config: &Config) -> Option<Self> {
        let life = config.delivery.suppress_for;
        config.delivery.suppress_after.map(|after| Self { after, life })
    }
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reckoning {
    /// It is not enough yet, or was enough before.
    Counted,
    /// The recipient is suppressed from now on.
    Suppressed,
    /// It would be, if there were room.
    Full,
}

/// What counts one.
pub(crate) fn hard_bounce(target: &Target, HardBounces { after, life }: HardBounces, reason: &str) -> Cmd {
    let target = target.to_string();
    let command = script::HardBounce {
        journal: JOURNAL,
        blocks: BLOCKS,
        ends: ENDS,
        bounces: BOUNCES,
        target: (&*target).into(),
        times: u64::from(after.count).into(),
        interval: (after.per / after.count.saturating_sub(1).max(1)).into(),
        life: life.into(),
        reason: reason.into(),
        room: (ROOM / 2).into(),
        most: MOST.into(),
        length: LENGTH.into(),
    };
    command.call()
}

impl From<u64> for Reckoning {
    fn from(answer: u64) -> Self {
        match answer {
            1 => Self::Suppressed,
            2 => Self::Full,
            _ => Self::Counted,
        }
    }
}
