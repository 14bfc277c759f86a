//! How the commands were answered: counted by the session, drained by the shell into its metrics.

use super::action::Activity;

/// Classes of replies: 2yz to 5yz.
const CLASSES: usize = 4;

/// Replies by what was answered and by their first digit. As large as it looks, and never larger.
#[derive(Debug)]
pub(super) struct Tally {
    counts: [[u16; CLASSES]; Activity::ALL.len()],
    any: bool,
}

impl Tally {
    pub(super) const fn new() -> Self {
        Self { counts: [[0; CLASSES]; Activity::ALL.len()], any: false }
    }

    pub(super) fn count(&mut self, activity: Activity, code: u16) {
        let class = usize::from(code / 100).saturating_sub(2).min(CLASSES - 1);
        let count = &mut self.counts[activity.index()][class];
        *count = count.saturating_add(1);
        self.any = true;
    }

    /// Tells and forgets what was counted: activity, first digit, number.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Activity, u8, u16)) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        for (activity, counts) in Activity::ALL.into_iter().zip(&mut self.counts) {
            for (class, count) in (2..).zip(counts) {
                if *count > 0 {
                    each(activity, class, std::mem::take(count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Verb;

    #[test]
    fn counts_are_told_once() {
        let (rcpt, message) = (Activity::Command(Verb::Rcpt), Activity::EndOfMessage);
        let mut tally = Tally::new();
        for (activity, code) in [(rcpt, 250), (rcpt, 554), (message, 250), (rcpt, 250)] {
            tally.count(activity, code);
        }
        let mut seen = Vec::new();
        tally.drain(|activity, class, n| seen.push((activity, class, n)));
        assert_eq!(seen, [(message, 2, 1), (rcpt, 2, 2), (rcpt, 5, 1)]);
        tally.drain(|activity, _, _| panic!("{activity} again"));
    }

    #[test]
    fn every_stage_has_a_place_of_its_own() {
        for (index, activity) in Activity::ALL.into_iter().enumerate() {
            assert_eq!(activity.index(), index, "{activity}");
        }
    }
}
