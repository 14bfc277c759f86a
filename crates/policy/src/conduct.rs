//! How a login behaves, and what that means: counts of an hour, thresholds, and the ladder of steps above them.
//!
//! A stolen password shows in what a relay counts anyway. Each signal has a threshold, and each step of the ladder stands at a
//! multiple of it. What a login has done decides alone: no clock, no memory.

use std::ops::{Index, IndexMut};

/// What is counted of a login in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Messages that were accepted.
    Messages,
    /// Their recipients.
    Recipients,
    /// The different domains of these.
    Domains,
    /// Recipients who were refused for good when they were delivered to.
    Bounces,
    /// Those among them who do not exist: `5.1.1`.
    UnknownRecipients,
    /// Networks from which it was not used before.
    NewNetworks,
}

/// What is done to a login, from mild to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The operator is told.
    Notify,
    /// MAIL is answered late.
    Slow,
    /// Its messages are accepted, and held.
    Hold,
    /// It is blocked.
    Block,
}

/// How much of each signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Signal::ALL.len()]);

/// The operator's thresholds, and at which multiple of one each step stands. 0: is not watched, is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// In the order of [`Signal::ALL`].
    pub thresholds: Counts,
    /// In the order of [`Step::ALL`].
    pub multiples: [u32; Step::ALL.len()],
}

/// What a login's sessions meet as long as the hour lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stance {
    /// MAIL is answered late.
    pub slow: bool,
    /// Messages are held.
    pub hold: bool,
}

/// A login has come to a step, for the first time in this hour and in the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The login, in the spelling under which it is counted.
    pub login: String,
    /// In which hour, in hours since the Unix epoch.
    pub hour: u64,
    /// By this signal.
    pub signal: Signal,
    /// So much of it.
    pub count: u64,
    /// The threshold of the signal, of which the step stands at a multiple.
    pub threshold: u64,
    /// What is done.
    pub step: Step,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Messages, Self::Recipients, Self::Domains, Self::Bounces, Self::UnknownRecipients, Self::NewNetworks];

    /// Its name in the configuration, the log, the metrics and Redis.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Domains => "domains",
            Self::Bounces => "bounces",
            Self::UnknownRecipients => "unknown_recipients",
            Self::NewNetworks => "new_networks",
        }
    }
}

impl Step {
    /// From mild to hard.
    pub const ALL: [Self; 4] = [Self::Notify, Self::Slow, Self::Hold, Self::Block];

    /// Its name in the configuration, the log, the metrics and Redis.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Slow => "slow",
            Self::Hold => "hold",
            Self::Block => "block",
        }
    }
}

impl Counts {
    /// In the order of [`Signal::ALL`].
    pub const fn new(counts: [u64; Signal::ALL.len()]) -> Self {
        Self(counts)
    }

    /// Each with its signal.
    pub fn each(&self) -> impl Iterator<Item = (Signal, u64)> {
        Signal::ALL.into_iter().zip(self.0)
    }
}

impl Index<Signal> for Counts {
    type Output = u64;

    fn index(&self, signal: Signal) -> &u64 {
        &self.0[signal as usize]
    }
}

impl IndexMut<Signal> for Counts {
    fn index_mut(&mut self, signal: Signal) -> &mut u64 {
        &mut self.0[signal as usize]
    }
}

impl Ladder {
    /// From how much of a signal on a step is taken; `None`: never.
    pub fn limit(&self, signal: Signal, step: Step) -> Option<u64> {
        let limit = self.thresholds[signal].saturating_mul(self.multiples[step as usize].into());
        (limit > 0).then_some(limit)
    }

    /// The steps that these counts have come to, mild ones first for each signal.
    pub fn reached(&self, counts: &Counts) -> impl Iterator<Item = (Signal, Step)> {
        let all = Signal::ALL.into_iter().flat_map(|signal| Step::ALL.map(|step| (signal, step)));
        all.filter(|&(signal, step)| self.limit(signal, step).is_some_and(|limit| counts[signal] >= limit))
    }

    /// What sessions of such a login meet.
    pub fn stance(&self, counts: &Counts) -> Stance {
        let has = |wanted: Step| self.reached(counts).any(|(_, step)| step == wanted);
        Stance { slow: has(Step::Slow), hold: has(Step::Hold) }
    }

    /// The first step that does not stand above the one before it, as (lower, upper); steps that are not taken do not count.
    pub fn misstep(&self) -> Option<(Step, Step)> {
        let taken: Vec<Step> = Step::ALL.into_iter().filter(|step| self.multiples[*step as usize] > 0).collect();
        let misplaced = |pair: &&[Step]| self.multiples[pair[0] as usize] >= self.multiples[pair[1] as usize];
        taken.windows(2).find(misplaced).map(|pair| (pair[0], pair[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Signal::{Bounces, Messages, NewNetworks};
    use Step::{Block, Hold, Notify, Slow};

    /// Messages from 10 on, bounces from 5 on; each step at a multiple.
    fn ladder(multiples: [u32; 4]) -> Ladder {
        Ladder { thresholds: Counts::new([10, 0, 0, 5, 0, 0]), multiples }
    }

    fn counts(messages: u64, bounces: u64) -> Counts {
        Counts::new([messages, 1_000_000, 0, bounces, 0, 0])
    }

    #[test]
    fn each_signal_climbs_its_own_ladder() {
        for (messages, bounces, expected) in [
            (9, 4, &[][..]),
            (10, 0, &[(Messages, Notify)]),
            (19, 0, &[(Messages, Notify)]),
            (20, 5, &[(Messages, Notify), (Messages, Slow), (Bounces, Notify)]),
            (30, 0, &[(Messages, Notify), (Messages, Slow), (Messages, Hold)]),
            (0, 20, &[(Bounces, Notify), (Bounces, Slow), (Bounces, Hold), (Bounces, Block)]),
        ] {
            let reached: Vec<_> = ladder([1, 2, 3, 4]).reached(&counts(messages, bounces)).collect();
            assert_eq!(reached, expected, "{messages} {bounces}");
        }
    }

    #[test]
    fn a_step_at_zero_is_not_taken_and_a_signal_at_zero_is_not_watched() {
        let reached: Vec<_> = ladder([1, 0, 0, 3]).reached(&counts(1_000, 0)).collect();
        assert_eq!(reached, [(Messages, Notify), (Messages, Block)]);
        assert_eq!(Ladder::default().reached(&counts(u64::MAX, u64::MAX)).next(), None);
        assert_eq!(ladder([1, 2, 3, 4]).limit(NewNetworks, Notify), None);
        assert_eq!(ladder([u32::MAX; 4]).limit(Messages, Notify), Some(10 * u64::from(u32::MAX)));
    }

    #[test]
    fn sessions_meet_what_any_signal_has_come_to() {
        for (messages, bounces, slow, hold) in
            [(10, 5, false, false), (20, 0, true, false), (0, 15, true, true), (25, 15, true, true)]
        {
            let stance = ladder([1, 2, 3, 4]).stance(&counts(messages, bounces));
            assert_eq!(stance, Stance { slow, hold }, "{messages} {bounces}");
        }
        assert_eq!(ladder([0, 0, 1, 0]).stance(&counts(10, 0)), Stance { slow: false, hold: true });
    }

    #[test]
    fn a_ladder_ascends_over_the_steps_that_are_taken() {
        for (multiples, misstep) in [
            ([1, 0, 0, 0], None),
            ([0, 0, 0, 0], None),
            ([1, 2, 3, 4], None),
            ([1, 0, 5, 0], None),
            ([0, 3, 0, 4], None),
            ([2, 1, 0, 0], Some((Notify, Slow))),
            ([1, 1, 0, 0], Some((Notify, Slow))),
            ([1, 3, 0, 2], Some((Slow, Block))),
            ([1, 2, 4, 3], Some((Hold, Block))),
        ] {
            assert_eq!(ladder(multiples).misstep(), misstep, "{multiples:?}");
        }
    }
}
