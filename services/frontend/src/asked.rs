//! Questions that take long. A quick one costs nothing here. One that is still open after a moment goes on by itself, and
//! whoever asks the same meanwhile, in whatever session, waits for the same answer, up to one deadline for all of them.
//! That nobody could say is remembered for a while, so that a server that is silent costs one wait and not one for each
//! recipient.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// A wait that a client does not notice. Beyond it, what can be done meanwhile is done.
pub(crate) const NOTICEABLE: Duration = Duration::from_millis(50);
/// Longest wait for an answer, counted from the first time that the question was asked.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);
/// How long nobody is asked again what nobody could say.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an answer that took long is used: by the next who asks, not instead of a cache.
const FRESH: Duration = Duration::from_secs(5);
/// A question that goes on by itself ends after this long in any case.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Most questions that are remembered; beyond it each waits for its own answer.
const MEMORY: usize = 10_000;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Whoever was asked could not say.
    Unknown,
    /// It took too long, now or when it was asked last.
    Late,
}

/// The questions of one kind that take or took long. See the module.
pub(crate) struct Asked<A> {
    slow: Mutex<HashMap<String, Slow<A>>>,
    deadline: Duration,
}

struct Slow<A> {
    since: Instant,
    outcome: watch::Receiver<Option<Outcome<A>>>,
}

#[derive(Clone)]
struct Outcome<A> {
    answer: Option<A>,
    at: Instant,
}

impl<A: Clone + Send + Sync + 'static> Asked<A> {
    /// Nobody waits for longer than `deadline`.
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { slow: Mutex::default(), deadline }
    }

    /// The answer to the question that `key` stands for. `ask` finds it; `None` is "nobody could say".
    pub(crate) async fn answer<F>(&self, key: &str, ask: impl FnOnce() -> F) -> Result<A, Missing>
    where
        F: Future<Output = Option<A>> + Send + 'static,
    {
        if let Some(slow) = self.remembered(key) {
            return slow.wait(self.deadline).await;
        }
        let asked = Instant::now();
        let mut asking = Box::pin(ask());
        match timeout(NOTICEABLE.min(self.deadline), &mut asking).await {
            Ok(answer) => answer.ok_or(Missing::Unknown),
            Err(_) => match self.go_on(key, asked, asking) {
                Ok(slow) => slow.wait(self.deadline).await,
                Err(asking) => match timeout_at(asked + self.deadline, asking).await {
                    Ok(answer) => answer.ok_or(Missing::Unknown),
                    Err(_) => Err(Missing::Late),
                },
            },
        }
    }

    fn remembered(&self, key: &str) -> Option<Slow<A>> {
        self.slow().get(key).filter(|slow| slow.is_of_use()).cloned()
    }

    /// Lets the question go on by itself, unless somebody was faster, or so many do that this one must be waited for.
    fn go_on<F>(&self, key: &str, asked: Instant, asking: Pin<Box<F>>) -> Result<Slow<A>, Pin<Box<F>>>
    where
        F: Future<Output = Option<A>> + Send + 'static,
    {
        let mut all = self.slow();
        if let Some(other) = all.get(key).filter(|slow| slow.is_of_use()) {
            return Ok(other.clone());
        }
        if all.len() >= MEMORY {
            all.retain(|_, slow| slow.is_of_use());
        }
        if all.len() >= MEMORY {
            return Err(asking);
        }
        let (tell, outcome) = watch::channel(None);
        tokio::spawn(async move {
            let answer = timeout(GIVE_UP, asking).await.unwrap_or(None);
            let _ = tell.send(Some(Outcome { answer, at: Instant::now() }));
        });
        let slow = Slow { since: asked, outcome };
        all.insert(key.to_owned(), slow.clone());
        Ok(slow)
    }

    fn slow(&self) -> MutexGuard<'_, HashMap<String, Slow<A>>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Clone for Slow<A> {
    fn clone(&self) -> Self {
        Self { since: self.since, outcome: self.outcome.clone() }
    }
}

impl<A: Clone> Slow<A> {
    fn is_of_use(&self) -> bool {
        match &*self.outcome.borrow() {
            Some(Outcome { answer: Some(_), at }) => at.elapsed() < FRESH,
            Some(Outcome { answer: None, at }) => at.elapsed() < SILENCE,
            None => true,
        }
    }

    async fn wait(mut self, deadline: Duration) -> Result<A, Missing> {
        let end = self.since + deadline;
        let outcome = match timeout_at(end, self.outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            // Its end is not told only if the process ends.
            Ok(Err(_)) | Err(_) => None,
        };
        outcome.and_then(|outcome| outcome.answer).ok_or(Missing::Late)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Counts the questions, each of which takes `takes` and is answered by `answer`.
    fn asker(takes: Duration, answer: Option<u8>) -> (Arc<AtomicUsize>, impl Fn() -> Pin<Box<Ask>>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let ask = move || -> Pin<Box<Ask>> {
            count.fetch_add(1, Relaxed);
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                answer
            })
        };
        (asked, ask)
    }

    type Ask = dyn Future<Output = Option<u8>> + Send;

    #[tokio::test(start_paused = true)]
    async fn a_quick_answer_is_neither_shared_nor_remembered() {
        let all = Asked::new(DEADLINE);
        for answer in [Some(1), None] {
            let (asked, ask) = asker(Duration::from_millis(10), answer);
            for _ in 0..3 {
                assert_eq!(all.answer("a", &ask).await, answer.ok_or(Missing::Unknown));
            }
            assert_eq!(asked.load(Relaxed), 3);
        }
        assert!(all.slow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_the_same_wait_for_one_answer() {
        let all = Asked::new(DEADLINE);
        let (asked, ask) = asker(Duration::from_secs(2), Some(7));
        let began = Instant::now();
        let answers = futures_util::future::join_all((0..20).map(|_| all.answer("a", &ask))).await;
        assert_eq!(answers, vec![Ok(7); 20]);
        assert_eq!(began.elapsed().as_secs(), 2);
        let before = asked.load(Relaxed);
        assert_eq!(all.answer("a", &ask).await, Ok(7), "the next has it at once");
        assert_eq!((asked.load(Relaxed), began.elapsed().as_secs()), (before, 2));
        tokio::time::advance(FRESH).await;
        assert_eq!(all.answer("a", &ask).await, Ok(7));
        assert_eq!(asked.load(Relaxed), before + 1, "it is no cache");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_costs_one_deadline_and_is_remembered_for_a_while() {
        let all = Asked::new(DEADLINE);
        let (asked, ask) = asker(Duration::from_secs(10), None);
        let began = Instant::now();
        assert_eq!(all.answer("a", &ask).await, Err(Missing::Late));
        assert_eq!(began.elapsed(), DEADLINE);
        for _ in 0..10 {
            assert_eq!(all.answer("a", &ask).await, Err(Missing::Late));
        }
        assert_eq!((began.elapsed(), asked.load(Relaxed)), (DEADLINE, 1));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(all.answer("a", &ask).await, Err(Missing::Late), "it has ended and is still remembered");
        assert_eq!(asked.load(Relaxed), 1);
        tokio::time::sleep(SILENCE).await;
        assert_eq!((all.answer("a", &ask).await, asked.load(Relaxed)), (Err(Missing::Late), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_after_the_deadline_serves_the_next_try() {
        let all = Asked::new(DEADLINE);
        let (asked, ask) = asker(DEADLINE * 2, Some(7));
        assert_eq!(all.answer("a", &ask).await, Err(Missing::Late));
        tokio::time::sleep(DEADLINE + NOTICEABLE).await;
        assert_eq!((all.answer("a", &ask).await, asked.load(Relaxed)), (Ok(7), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let all = Asked::new(DEADLINE);
        let (_, ask) = asker(DEADLINE * 2, None);
        let keys: Vec<String> = (0..MEMORY + 10).map(|number| number.to_string()).collect();
        let began = Instant::now();
        let answers = futures_util::future::join_all(keys.iter().map(|key| all.answer(key, &ask))).await;
        assert!(answers.iter().all(|answer| *answer == Err(Missing::Late)));
        assert_eq!((all.slow().len(), began.elapsed()), (MEMORY, DEADLINE));
    }
}
