//! One attempt at a job: one table says where each recipient is.
//!
//! ```text
//! Waiting ──▶ InFlight(transaction) ──▶ Done(fate)
//!    ▲            │        │ put off by this host
//!    │ not said   │        ▼
//!    └────────────┘    Elsewhere ──▶ Waiting, at the next host
//! ```
//!
//! A job with more recipients than one transaction may carry goes out as several; it is settled when all are `Done`.

use std::time::{Duration, Instant};

use staffetta_policy::schedule::{self, Next, Schedule};
use staffetta_smtp::client::TransactionId;

use crate::fate::Fate;

/// A job that comes up this short before its end has reached it: it was scheduled for just that. Less where retries are
/// closer to each other.
const SHORTLY: Duration = Duration::from_secs(2);

/// A job and its attempt.
#[derive(Debug)]
pub struct Task<J> {
    /// The shell's: lease, envelope, body.
    pub job: J,
    /// The core's.
    pub attempt: Attempt,
}

/// What is known of a job when it is claimed. Times are Redis' for the message and the caller's monotonic ones here.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How old the message was at the claim.
    pub age: Duration,
    /// What was left of its life.
    pub left: Duration,
    /// The moment before the claim was sent.
    pub claimed: Instant,
    /// Finished attempts before this one.
    pub attempts: u32,
    /// A delay notice was sent before.
    pub delay_noticed: bool,
    /// From 0 to 1; drawn once, so that all recipients of the attempt are tried again together.
    pub jitter: f64,
}

/// What decisions depend on besides results.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// When what failed is tried again.
    pub schedule: Schedule,
    /// Age at which a delay notice is due.
    pub delay_warning: Option<Duration>,
    /// A next hop that cannot be reached rests this long.
    pub back_off: Duration,
    /// After an answer to the final dot that was late or lost, nothing is sent again before this: longer than the other
    /// side waits for itself (RFC 1047, RFC 5321 section 4.5.3.2.6).
    pub doubt: Duration,
}

/// Decided once an attempt, when the first of its recipients has a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The message has reached its end: what fails is given up.
    pub expired: bool,
    /// A delay notice is due.
    pub late: bool,
    /// When the schedule tries again.
    pub retry: Duration,
}

/// Where a recipient is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No transaction carries it yet.
    Waiting,
    /// This one does.
    InFlight(TransactionId),
    /// The host put it off and there is another one.
    Elsewhere,
    /// It has its result.
    Done(Fate),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Attempt {
    facts: Facts,
    /// Indices into the envelope. No recipient is in it twice; none is ever removed.
    table: Vec<(u32, State)>,
    began: Option<Instant>,
    judgement: Option<Judgement>,
}

impl Attempt {
    /// At these recipients.
    pub fn new(facts: Facts, recipients: impl IntoIterator<Item = u32>) -> Self {
        let table = recipients.into_iter().map(|index| (index, State::Waiting)).collect();
        Self { facts, table, began: None, judgement: None }
    }

    /// As claimed.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// When its first transaction was handed over.
    pub const fn began(&self) -> Option<Instant> {
        self.began
    }

    /// All recipients and where they are.
    pub fn table(&self) -> &[(u32, State)] {
        &self.table
    }

    /// Expiry and the next attempt's time: decided at the first call, the same ever after.
    pub fn judge(&mut self, rules: &Rules, now: Instant) -> Judgement {
        *self.judgement.get_or_insert_with(|| judge(&self.facts, rules, now))
    }

    /// What was judged; for the log.
    pub fn judgement(&self) -> Option<Judgement> {
        self.judgement
    }

    /// The shell stops: what is left is not given up, even if it is late.
    pub fn interrupt(&mut self, rules: &Rules, now: Instant) {
        let judged = self.judge(rules, now);
        self.judgement = Some(Judgement { expired: false, ..judged });
    }

    /// What it waits for may be over before the schedule tries again: it is looked at by then.
    pub fn look_again(&mut self, rules: &Rules, now: Instant, wait: Duration) {
        let judged = self.judge(rules, now);
        self.judgement = Some(Judgement { retry: judged.retry.min(wait), ..judged });
    }

    /// Is there a recipient that no transaction carries?
    pub fn has_waiting(&self) -> bool {
        self.table.iter().any(|(_, state)| *state == State::Waiting)
    }

    /// Those whom no transaction carries.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.table.iter().filter(|(_, state)| *state == State::Waiting).map(|(index, _)| *index)
    }

    /// Nothing more happens to it at this host.
    pub fn is_complete(&self) -> bool {
        !self.table.iter().any(|(_, state)| matches!(state, State::Waiting | State::InFlight(_)))
    }

    /// Every recipient has its result.
    pub fn is_done(&self) -> bool {
        self.table.iter().all(|(_, state)| matches!(state, State::Done(_)))
    }

    /// No recipient has got anywhere: it can go back as if it had not been claimed.
    pub fn is_untouched(&self) -> bool {
        !self.table.iter().any(|(_, state)| matches!(state, State::InFlight(_) | State::Done(_)))
    }

    /// Nobody has a result, and nobody is in another transaction than this one: if that is given up before its content has
    /// ended, the job can go back as well.
    pub fn is_only_in(&self, id: TransactionId) -> bool {
        self.table.iter().all(|(_, state)| match state {
            State::Waiting => true,
            State::InFlight(of) => *of == id,
            _ => false,
        })
    }

    /// The recipients of the next transaction, at most `limit`.
    pub fn take(&mut self, id: TransactionId, limit: usize, now: Instant) -> Vec<u32> {
        self.began.get_or_insert(now);
        let waiting = self.table.iter_mut().filter(|(_, state)| *state == State::Waiting);
        let each = waiting.take(limit.max(1)).map(|(index, state)| {
            *state = State::InFlight(id);
            *index
        });
        each.collect()
    }

    /// The recipients of a transaction, in the order of its commands, by their place in the table.
    pub(crate) fn in_flight(&mut self, id: TransactionId) -> impl Iterator<Item = (usize, &mut State)> {
        let places = self.table.iter_mut().map(|(_, state)| state).enumerate();
        places.filter(move |(_, state)| **state == State::InFlight(id))
    }

    /// The transaction was not sent: its recipients wait again.
    pub(crate) fn withdraw(&mut self, id: TransactionId) {
        self.in_flight(id).for_each(|(_, state)| *state = State::Waiting);
    }

    /// The connection is gone: what it carried, or put off, waits again.
    pub fn turn_back(&mut self) {
        for (_, state) in &mut self.table {
            if matches!(state, State::InFlight(_) | State::Elsewhere) {
                *state = State::Waiting;
            }
        }
    }

    /// Everyone without a result gets this one; says who that was.
    pub fn fail_rest(&mut self, fate: &Fate) -> Vec<u32> {
        self.fail_those(fate, |_| true)
    }

    /// The same for those who are meant.
    pub fn fail_those(&mut self, fate: &Fate, meant: impl Fn(u32) -> bool) -> Vec<u32> {
        let rest = self.table.iter_mut().filter(|(index, state)| !matches!(state, State::Done(_)) && meant(*index));
        let each = rest.map(|(index, state)| {
            *state = State::Done(fate.clone());
            *index
        });
        each.collect()
    }

    #[cfg(test)]
    pub(crate) fn set(&mut self, at: usize, state: State) {
        self.table[at].1 = state;
    }

    pub(crate) fn into_table(self) -> Vec<(u32, State)> {
        self.table
    }
}

fn judge(facts: &Facts, rules: &Rules, now: Instant) -> Judgement {
    let since = now.saturating_duration_since(facts.claimed);
    let age = facts.age + since;
    let retry = match schedule::next(&rules.schedule, age, facts.jitter) {
        Next::After(wait) => wait,
        // The message's own end counts; this is only reached when the configured lifetime was shortened.
        Next::GiveUp => rules.schedule.max,
    };
    Judgement {
        expired: facts.left.saturating_sub(since) <= SHORTLY.min(rules.schedule.min / 10),
        late: !facts.delay_noticed && rules.delay_warning.is_some_and(|limit| age >= limit),
        retry,
    }
}
