//! What is said of messages that could not be queued: a line for each cause when that begins, and one with their number when it
//! is over. Hundreds that come in while Redis goes away find out the same; what each client was told is in the mail log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_queue::EnqueueError;

use super::NotQueued;

/// Causes that are said; more of them are one that is never told in the same words.
const MOST: usize = 8;
/// It is over when messages are queued and none was refused for so long: one of several servers may be away.
const CALM: Duration = Duration::from_secs(10);

/// Those of a process.
#[derive(Default)]
pub(super) struct Refusals {
    go_on: AtomicBool,
    spell: Mutex<Spell>,
}

#[derive(Default)]
struct Spell {
    /// How many were refused, and when the last one was.
    refused: u64,
    last: Option<Instant>,
    told: Vec<String>,
}

impl Refusals {
    /// What the client is told; the queue's own words are for the operator.
    pub(super) fn refused(&self, error: &EnqueueError) -> NotQueued {
        match error {
            EnqueueError::Full => NotQueued::Full,
            EnqueueError::Unavailable(reason) => {
                if self.is_news(reason, Instant::now()) {
                    tracing::warn!(reason, "a message could not be queued");
                } else {
                    tracing::debug!(reason, "a message could not be queued");
                }
                NotQueued::Unavailable
            }
        }
    }

    /// A message was queued.
    pub(super) fn queued(&self) {
        if self.go_on.load(Ordering::Relaxed)
            && let Some(refused) = self.end(Instant::now())
        {
            tracing::info!(refused, "messages are queued again");
        }
    }

    fn is_news(&self, reason: &str, now: Instant) -> bool {
        let mut spell = self.spell();
        if spell.last.is_some_and(|last| now.saturating_duration_since(last) >= CALM) {
            // Another one, and nothing was queued in between.
            spell.told.clear();
        }
        spell.refused += 1;
        spell.last = Some(now);
        self.go_on.store(true, Ordering::Relaxed);
        let is_news = spell.told.len() < MOST && spell.told.iter().all(|told| told != reason);
        if is_news {
            spell.told.push(reason.to_owned());
        }
        is_news
    }

    /// How many were refused, if that is over.
    fn end(&self, now: Instant) -> Option<u64> {
        let mut spell = self.spell();
        spell.last.filter(|last| now.saturating_duration_since(*last) >= CALM)?;
        self.go_on.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut *spell).refused)
    }

    fn spell(&self) -> MutexGuard<'_, Spell> {
        self.spell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_news_once_until_messages_are_queued_for_a_while() {
        let (refusals, began) = (Refusals::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(refusals.end(began), None);
        assert!(refusals.is_news("reset", began) && !refusals.is_news("reset", began));
        assert!(refusals.is_news("read only", after(1)) && !refusals.is_news("reset", after(5)));
        assert_eq!(refusals.end(after(14)), None, "the next one may fail again");
        assert!(refusals.go_on.load(Ordering::Relaxed));
        assert_eq!(refusals.end(after(15)), Some(4));
        assert!(refusals.is_news("reset", after(16)) && !refusals.is_news("reset", after(25)));
        assert!(refusals.is_news("reset", after(35)), "another one, though nothing was queued in between");
        assert_eq!(refusals.end(after(45)), Some(3));
        assert_eq!(refusals.end(after(50)), None, "it is over once");
        assert!(refusals.is_news("reset", after(51)), "the next one");
    }

    #[test]
    fn causes_that_are_never_the_same_come_to_an_end() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!((0..50).filter(|number| refusals.is_news(&number.to_string(), now)).count(), MOST);
        assert_eq!(refusals.end(now + CALM), Some(50));
    }
}
