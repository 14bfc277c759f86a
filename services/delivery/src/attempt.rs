//! One job under way: its transactions, what came of each recipient so far, and the times for the log.
//!
//! A job with more recipients than one transaction may carry goes out as several transactions; it is settled when all
//! of them have ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_queue::{Body, Job, Message};
use tokio::sync::OwnedSemaphorePermit;

use crate::outcome::Fate;
use crate::renew::Held;

/// A claimed job on its way.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) held: Arc<Held>,
    pub(crate) message: Arc<Message>,
    pub(crate) body: Body,
    /// Finished attempts before this one.
    pub(crate) attempts: u32,
    pub(crate) delay_noticed: bool,
    /// All recipients of this attempt, as indices into the envelope.
    pub(crate) recipients: Vec<u32>,
    /// Those that no transaction carries yet.
    pub(crate) waiting: VecDeque<u32>,
    /// Recipients that another host is to be tried for.
    pub(crate) elsewhere: Vec<u32>,
    /// Transactions under way.
    pub(crate) open: u32,
    /// What happened so far.
    pub(crate) results: Vec<(u32, Fate)>,
    pub(crate) claimed: Instant,
    /// Start of the first transaction.
    pub(crate) began: Option<Instant>,
    /// The message has reached its end; decided once an attempt.
    pub(crate) expired: bool,
    /// When the schedule tries again; decided once an attempt.
    pub(crate) retry: Duration,
    /// This pod's share of memory for the body; given back when the job is settled.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

impl Attempt {
    /// From the queue.
    pub(crate) fn new(job: Job, held: Arc<Held>, claimed: Instant, room: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            held,
            message: job.message,
            body: job.body,
            attempts: job.attempts,
            delay_noticed: job.delay_noticed,
            waiting: job.recipients.iter().copied().collect(),
            recipients: job.recipients,
            elsewhere: Vec::new(),
            open: 0,
            results: Vec::new(),
            claimed,
            began: None,
            expired: false,
            retry: Duration::ZERO,
            _room: room,
        }
    }

    /// The recipients of the next transaction, at most `limit`.
    pub(crate) fn take_recipients(&mut self, limit: usize) -> Vec<u32> {
        let count = self.waiting.len().min(limit.max(1));
        self.waiting.drain(..count).collect()
    }

    /// These were not attempted after all.
    pub(crate) fn give_back(&mut self, recipients: &[u32]) {
        for &index in recipients.iter().rev() {
            self.waiting.push_front(index);
        }
    }

    /// All recipients that have no result, also those of transactions under way.
    pub(crate) fn take_rest(&mut self) -> Vec<u32> {
        self.waiting.clear();
        self.elsewhere.clear();
        let known = |index: &u32| self.results.iter().any(|(done, _)| done == index);
        self.recipients.iter().copied().filter(|index| !known(index)).collect()
    }

    /// True if nothing more will happen to it.
    pub(crate) fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.open == 0
    }

    /// The recipients that were put aside for another host wait again.
    pub(crate) fn turn_elsewhere(&mut self) {
        self.waiting.extend(self.elsewhere.drain(..));
    }

    /// True if no recipient has got anywhere: it can go back as if it had not been claimed.
    pub(crate) fn is_untouched(&self) -> bool {
        self.results.is_empty() && self.open == 0
    }

    /// Time in the queue before this pod took it; `now` is milliseconds since the Unix epoch.
    pub(crate) fn queued(&self, now: u64) -> Duration {
        let age = Duration::from_millis(now.saturating_sub(self.message.arrived));
        age.saturating_sub(self.claimed.elapsed())
    }
}
