//! The flow of transactions over one connection.
//!
//! [`Conversation::next`] hands out transactions while the connection has use for them, [`Conversation::on_report`]
//! takes what came of each, and [`Conversation::end`] says what happens to the jobs that the connection leaves behind.
//!
//! Jobs of one message that are in stock together [travel](Handle::travels_with) in one transaction, as far as its recipients
//! go. Nothing else is common to them: each has its own attempt, and comes to its own end. Where each recipient has a sender of
//! his own (VERP), each has a transaction of his own.
//!
//! A server that ends the session before it has said anything about a message (`421`, or a lost connection, before
//! `354`) has not failed that message: on a connection that has served, the job goes back into stock, uncounted. A fresh
//! connection that ends so counts; otherwise a server that greets and hangs up would be asked for ever.

use std::collections::VecDeque;
use std::time::Instant;

use staffetta_mail::{Envelope, ReversePath};
use staffetta_policy::classify::{Action, Failure, Peer, classify, too_many_recipients};
use staffetta_policy::tls::{Need, Security};
use staffetta_smtp::client::{self, Outcome, Report, Stage, TransactionId, Transfer};

use crate::Handle;
use crate::attempt::{Attempt, Rules, State, Task};
use crate::fate::{Failed, Fate};
use crate::progress::{Others, Said};

/// What one connection may carry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Recipients of a transaction.
    pub recipients: usize,
    /// Transactions of the connection.
    pub messages: u32,
}

/// What to do next on the connection.
#[derive(Debug)]
pub enum Next<J> {
    /// Give this to the session.
    Submit(TransactionId, Transfer),
    /// The job belongs to somebody else now: it is neither sent nor settled.
    Disown(Task<J>),
    /// There is nothing to send, or this connection takes no more.
    Nothing,
}

/// What a report is judged by.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Who said it; asked only about failures.
    pub peer: &'a dyn Fn() -> Peer,
    /// The hosts besides this one.
    pub others: Others,
    /// By whose word a failure of mail with this envelope, for this domain, is final although the server calls it temporary.
    pub final_by: &'a dyn Fn(&Envelope, &str, &client::Failure) -> Option<String>,
    /// The rules.
    pub rules: &'a Rules,
    /// Now.
    pub now: Instant,
}

/// What a connection leaves behind.
#[derive(Debug)]
pub struct Ended<J> {
    /// Jobs that are not finished, in order.
    pub stock: Vec<Task<J>>,
    /// How to go on with them.
    pub course: Course,
    /// What the server has said.
    pub said: Said,
}

/// Where the next connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// To the next host of this round.
    NextHost,
    /// To the hosts as a new look-up orders them.
    Afresh,
    /// Nowhere: every job in stock meets this failure.
    Fail(client::Failure),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Conversation<J> {
    /// Jobs on this connection, by number.
    tasks: VecDeque<(u64, Task<J>)>,
    /// Transactions under way, in the order of submission.
    open: VecDeque<Flight>,
    /// Jobs that this host put off.
    aside: Vec<Task<J>>,
    next_task: u64,
    submitted: u32,
    /// Transactions about which the server has said something.
    served: u32,
    /// The server has ended the session.
    ending: bool,
    said: Said,
}

/// A transaction: whose recipients it carries, and how many, in the order of its commands.
#[derive(Debug)]
struct Flight {
    id: TransactionId,
    parts: Vec<(u64, usize)>,
}

impl<J> Default for Conversation<J> {
    fn default() -> Self {
        let (tasks, open) = (VecDeque::new(), VecDeque::new());
        let (next_task, submitted, served) = (0, 0, 0);
        Self { tasks, open, aside: Vec::new(), next_task, submitted, served, ending: false, said: Said::default() }
    }
}

impl<J: Handle> Conversation<J> {
    /// Transactions submitted so far.
    pub const fn submitted(&self) -> u32 {
        self.submitted
    }

    /// Has the host put jobs off? Then the connection is of no more use.
    pub fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// The next transaction: of the job at hand while it has recipients, then of the next in `stock` that may travel over
    /// a connection like this, with whatever of the same message is there. A job whose lease is not `ours` is never begun.
    pub fn next(
        &mut self,
        stock: &mut VecDeque<Task<J>>,
        security: &Security,
        limits: Limits,
        ours: impl Fn(&J) -> bool,
        now: Instant,
    ) -> Next<J> {
        if self.ending || self.submitted >= limits.messages {
            return Next::Nothing;
        }
        let Some(at) = self.current(stock, security) else { return Next::Nothing };
        let (number, task) = &mut self.tasks[at];
        if !ours(&task.job) {
            let number = *number;
            return self.disown(number).map_or(Next::Nothing, Next::Disown);
        }
        let id = TransactionId(u64::from(self.submitted));
        let one_by_one = task.job.verp().is_some();
        let most = if one_by_one { 1 } else { limits.recipients };
        let mut recipients = task.attempt.take(id, most, now);
        let mut parts = vec![(*number, recipients.len())];
        if !one_by_one && !task.attempt.has_waiting() {
            let room = limits.recipients.saturating_sub(recipients.len());
            let others = Self::companions(task, stock, room, ours);
            for mut other in others {
                let taken = other.attempt.take(id, room, now);
                parts.push((self.next_task, taken.len()));
                recipients.extend(taken);
                self.tasks.push_back((self.next_task, other));
                self.next_task += 1;
            }
        }
        let transaction = transfer(&self.tasks[at].1.job, &recipients);
        self.open.push_back(Flight { id, parts });
        self.submitted += 1;
        Next::Submit(id, transaction)
    }

    /// The first job of a transaction under way.
    pub fn task(&self, id: TransactionId) -> Option<&Task<J>> {
        self.tasks(id).next()
    }

    /// All jobs of a transaction under way.
    pub fn tasks(&self, id: TransactionId) -> impl Iterator<Item = &Task<J>> {
        let parts = self.open.iter().find(|flight| flight.id == id).map_or(&[][..], |flight| &flight.parts);
        parts.iter().filter_map(|(number, _)| self.tasks.iter().find(|(n, _)| n == number).map(|(_, task)| task))
    }

    /// Takes the jobs of a transaction away, with all their transactions: they are not this connection's any more.
    pub fn take(&mut self, id: TransactionId) -> Vec<Task<J>> {
        let parts = self.land(id).map(|flight| flight.parts).unwrap_or_default();
        parts.into_iter().filter_map(|(number, _)| self.disown(number)).collect()
    }

    /// The session has taken these back unsent. The jobs that have nothing else under way here, to be given to others;
    /// a job of which another transaction is under way goes on here.
    pub fn withdraw(&mut self, ids: &[TransactionId]) -> Vec<Task<J>> {
        let mut free = Vec::new();
        for id in ids {
            let parts = self.land(*id).map(|flight| flight.parts).unwrap_or_default();
            for (number, _) in parts {
                let Some(at) = self.place(number) else { continue };
                self.tasks[at].1.attempt.withdraw(*id);
                if !self.open.iter().any(|flight| flight.carries(number)) {
                    free.extend(self.disown(number));
                }
            }
        }
        free
    }

    /// A transaction has ended: each of its recipients has a fate, or is offered to another host, or waits as before.
    /// `told` hears of the fates. The jobs of which every recipient has one now.
    pub fn on_report(
        &mut self,
        id: TransactionId,
        report: Report,
        seen: &Seen<'_>,
        mut told: impl FnMut(&Task<J>, u32, &Fate),
    ) -> Vec<Task<J>> {
        let Some(flight) = self.land(id) else { return Vec::new() };
        let used = self.served > 0;
        self.said.heard |= report.outcomes.iter().any(is_answer);
        let (mut said, mut accepted) = (false, false);
        let mut outcomes = report.outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Failed(failure) if used && says_nothing(&failure) => None,
            outcome => {
                let outcome = too_many(outcome, accepted);
                accepted |= !is_refused_recipient(&outcome);
                said = true;
                Some(outcome)
            }
        });
        let mut ended = Vec::new();
        for (number, count) in flight.parts {
            let outcomes: Vec<_> = outcomes.by_ref().take(count).collect();
            let Some(at) = self.place(number) else { continue };
            let task = &mut self.tasks[at].1;
            self.ending |= outcomes.contains(&None);
            task.attempt.judge(seen.rules, seen.now);
            let (decided, postponed) = decide_each(task, id, outcomes, report.dsn_passed_on, seen);
            self.said.postponed |= postponed;
            for at in decided {
                if let Some((index, State::Done(fate))) = task.attempt.table().get(at) {
                    told(task, *index, fate);
                }
            }
            if !task.attempt.is_complete() {
                continue;
            }
            let Some(task) = self.disown(number) else { continue };
            if task.attempt.is_done() { ended.push(task) } else { self.aside.push(task) }
        }
        self.served += u32::from(said);
        ended
    }

    /// The connection has ended, with this failure if the server or the network ended it.
    pub fn end(self, failure: Option<client::Failure>, other_host: bool) -> Ended<J> {
        let put_off = !self.aside.is_empty();
        let mut stock: Vec<_> = self.tasks.into_iter().map(|(_, task)| task).chain(self.aside).collect();
        for task in &mut stock {
            task.attempt.turn_back();
        }
        let mut said = self.said;
        let course = match failure {
            _ if put_off => Course::NextHost,
            Some(_) if self.served == 0 && other_host => {
                said.postponed = true;
                Course::NextHost
            }
            // A server that takes connections and ends them before any mail would be asked for ever.
            Some(failure) if self.served == 0 && self.submitted > 0 => Course::Fail(failure),
            _ => Course::Afresh,
        };
        Ended { stock, course, said }
    }

    /// Where the job is whose recipients come next.
    fn current(&mut self, stock: &mut VecDeque<Task<J>>, security: &Security) -> Option<usize> {
        if self.tasks.back().is_none_or(|(_, task)| !task.attempt.has_waiting()) {
            let may = |task: &Task<J>| security.satisfies(Need::of(task.job.envelope()));
            let task = stock.iter().position(may).and_then(|at| stock.remove(at))?;
            self.tasks.push_back((self.next_task, task));
            self.next_task += 1;
        }
        Some(self.tasks.len() - 1)
    }

    /// What of the same message is in stock and has room beside this job, each as a whole.
    fn companions(
        task: &Task<J>,
        stock: &mut VecDeque<Task<J>>,
        room: usize,
        ours: impl Fn(&J) -> bool,
    ) -> Vec<Task<J>> {
        let envelope = task.job.envelope();
        // One whose address needs SMTPUTF8 would need it for all.
        let is_plain =
            |index: u32| envelope.recipients.get(index as usize).is_some_and(|it| it.address.as_str().is_ascii());
        let fits_all =
            |attempt: &Attempt| envelope.smtputf8 || attempt.table().iter().all(|(index, _)| is_plain(*index));
        let mut found = Vec::new();
        if !fits_all(&task.attempt) {
            return found;
        }
        let (mut at, mut room) = (0, room);
        while room > 0 && at < stock.len() {
            let other = &stock[at];
            let count = other.attempt.waiting().count();
            let fits = (1..=room).contains(&count) && fits_all(&other.attempt);
            if !(other.job.travels_with(&task.job) && fits && ours(&other.job)) {
                at += 1;
                continue;
            }
            found.extend(stock.remove(at));
            room -= count;
        }
        found
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.tasks.iter().position(|(n, _)| *n == number)
    }

    /// A transaction is not under way any more.
    fn land(&mut self, id: TransactionId) -> Option<Flight> {
        let at = self.open.iter().position(|flight| flight.id == id)?;
        self.open.remove(at)
    }

    /// What is reported of its transactions concerns the others of these only.
    fn disown(&mut self, number: u64) -> Option<Task<J>> {
        let at = self.place(number)?;
        self.tasks.remove(at).map(|(_, task)| task)
    }
}

impl Flight {
    fn carries(&self, number: u64) -> bool {
        self.parts.iter().any(|(of, _)| *of == number)
    }
}

/// What these recipients get: from the sender, or from the one that is theirs.
fn transfer<J: Handle>(job: &J, recipients: &[u32]) -> Transfer {
    let mut transfer = Transfer::new(job.envelope(), recipients, job.size());
    if let [only] = &transfer.recipients[..]
        && let Some(own) = job.own_sender(&only.address)
    {
        transfer.sender = ReversePath::Address(own);
    }
    transfer
}

/// What its outcomes are to the recipients of a job; `None`: nothing was said. Those who have a fate now, by their place in the
/// table, and whether one goes on whom this host may take another time.
fn decide_each<J: Handle>(
    task: &mut Task<J>,
    id: TransactionId,
    outcomes: Vec<Option<Outcome>>,
    dsn_passed_on: bool,
    seen: &Seen<'_>,
) -> (Vec<usize>, bool) {
    let (mut decided, mut postponed) = (Vec::with_capacity(outcomes.len()), false);
    let job = &task.job;
    for ((at, state), outcome) in task.attempt.in_flight(id).zip(outcomes) {
        *state = outcome.map_or(State::Waiting, |outcome| state_of(outcome, dsn_passed_on, seen, job, &mut postponed));
        if matches!(state, State::Done(_)) {
            decided.push(at);
        }
    }
    (decided, postponed)
}

/// The session ended before anything was said about the message.
fn says_nothing(failure: &client::Failure) -> bool {
    let early = matches!(failure.stage(), Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Reset | Stage::Idle);
    early && (failure.is_shutdown() || matches!(failure, client::Failure::Lost { .. }))
}

fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Delivered(_) => true,
        Outcome::Failed(failure) => failure.is_answered(),
    }
}

fn is_refused_recipient(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.stage() == Stage::Rcpt)
}

fn too_many(outcome: Outcome, accepted: bool) -> Outcome {
    match outcome {
        Outcome::Failed(failure) => Outcome::Failed(too_many_recipients(failure, accepted)),
        delivered => delivered,
    }
}

/// Lost sessions and temporary refusals are offered to the next host (RFC 5321 section 5.1).
fn state_of<J: Handle>(outcome: Outcome, dsn_passed_on: bool, seen: &Seen<'_>, job: &J, postponed: &mut bool) -> State {
    let failure = match outcome {
        Outcome::Delivered(reply) => return State::Done(Fate::Delivered { reply, dsn_passed_on }),
        Outcome::Failed(failure) => failure,
    };
    let domain = job.destination();
    let final_by = (seen.final_by)(job.envelope(), domain, &failure);
    let goes_on = seen.others.may_take(&failure);
    let failure = Failure::Session { peer: (seen.peer)(), failure };
    if let Some(rule) = final_by {
        return State::Done(Fate::Failed(Failed::of(&failure, domain, false).made_final(&rule)));
    }
    let verdict = classify(&failure, domain);
    if goes_on && verdict.action == Action::NextHost {
        *postponed |= verdict.finally() == Action::Defer;
        return State::Elsewhere;
    }
    State::Done(Fate::of_last(&failure, domain, seen.others.undecided))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
#[path = "conversation_tests.rs"]
mod tests;
