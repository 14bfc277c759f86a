//! Tokens of a limit that this pod has taken before they are needed, so that a message with a hundred recipients does not
//! cost a hundred questions to Redis.
//!
//! A block is a 64th of the limit, or what the client has already named if that is more, and all sessions of the pod
//! draw on it. What nobody draws for two seconds goes back, and so does the rest when the service ends; a pod that is
//! killed takes its blocks along, and time brings them back. While Redis is away, blocks come out of the pod's own count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_queue::{Queue, Rate};

use crate::quota::Quota;

/// A block is one in so many of the tokens of a full bucket, and so many at most.
const PART: u32 = 64;
const LARGEST: u32 = 256;
/// How long a block may rest, and how often that is looked at.
const REST: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_secs(1);
/// How long an ending service tries to give back.
const PARTING: Duration = Duration::from_secs(2);
/// Those who may have blocks at a time; others take what they need.
const HOLDERS: usize = 16 * 1024;

/// A limit of which tokens are taken in advance.
pub(crate) struct Advance {
    quota: Quota,
    blocks: Mutex<Blocks>,
}

/// A token that is not here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    rate: Rate,
    /// A block may be asked for.
    alone: bool,
}

/// Somebody asks for a block. Dropped, whatever came of it: the next may.
struct Question<'a> {
    advance: &'a Advance,
    who: &'a str,
    /// For others.
    left: u32,
}

/// What is left of blocks.
#[derive(Default)]
struct Blocks(HashMap<Box<str>, Block>);

struct Block {
    tokens: u32,
    rate: Rate,
    used: Instant,
    /// Somebody asks for more: others at the same time take no more than they need.
    asked_for: bool,
}

impl Advance {
    /// `scope` names the limit in Redis and in the metrics.
    pub(crate) fn new(queue: &Queue, scope: &'static str) -> Self {
        Self { quota: Quota::new(queue, scope), blocks: Mutex::default() }
    }

    /// Draws one of `who`'s tokens that are here; else there is a wish to be fulfilled.
    pub(crate) fn draw(&self, who: &str, rate: Rate) -> Result<(), Wish> {
        match self.blocks().draw(who, rate, Instant::now()) {
            None => Ok(()),
            Some(alone) => Err(Wish { rate, alone }),
        }
    }

    /// Takes one of `who`'s tokens, if there is one. `ahead`: how many more are about to be asked for.
    pub(crate) async fn acquire(&self, who: &str, wish: Wish, ahead: u32) -> bool {
        let Wish { rate, alone } = wish;
        if !alone {
            return self.quota.take(who, rate, 1).await > 0;
        }
        let mut question = Question { advance: self, who, left: 0 };
        let granted = self.quota.take(who, rate, block(rate).max(ahead.saturating_add(1))).await;
        question.left = granted.saturating_sub(1);
        granted > 0
    }

    /// Somebody was refused for want of a token.
    pub(crate) fn refused(&self) {
        self.quota.refused();
    }

    /// Gives back what nobody needs; never ends.
    pub(crate) async fn settle(&self) {
        loop {
            tokio::time::sleep(TURN).await;
            self.give_back(Instant::now().checked_sub(REST)).await;
        }
    }

    /// Gives everything back, at the end.
    pub(crate) async fn end(&self) {
        let late = tokio::time::timeout(PARTING, self.give_back(Some(Instant::now()))).await.is_err();
        if late {
            tracing::debug!("tokens that were taken in advance are lost");
        }
    }

    /// What was not drawn on since then. Once Redis does not answer, the others are not told of either: time brings them
    /// back.
    async fn give_back(&self, since: Option<Instant>) {
        let Some(since) = since else { return };
        let resting = self.blocks().resting(since);
        for (who, block) in resting {
            if !self.quota.give_back(&who, block.rate, block.tokens).await {
                return;
            }
        }
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.advance.blocks().put(self.who, self.left);
    }
}

impl Blocks {
    /// Draws a token; `None`: there was one. Else: may a block be asked for? Then [`Self::put`] must follow, or nobody else
    /// asks for one until this one has rested.
    fn draw(&mut self, who: &str, rate: Rate, now: Instant) -> Option<bool> {
        let Some(block) = self.0.get_mut(who) else {
            let has_room = self.0.len() < HOLDERS;
            if has_room {
                self.0.insert(who.into(), Block { tokens: 0, rate, used: now, asked_for: true });
            }
            return Some(has_room);
        };
        (block.rate, block.used) = (rate, now);
        if block.tokens > 0 {
            block.tokens -= 1;
            return None;
        }
        Some(!std::mem::replace(&mut block.asked_for, true))
    }

    /// Puts down what came of the question.
    fn put(&mut self, who: &str, tokens: u32) {
        if let Some(block) = self.0.get_mut(who) {
            block.tokens = block.tokens.saturating_add(tokens);
            block.asked_for = false;
        }
    }

    /// Takes away what was not drawn on since then.
    fn resting(&mut self, since: Instant) -> Vec<(Box<str>, Block)> {
        let resting = self.0.extract_if(|_, block| block.used <= since);
        resting.filter(|(_, block)| block.tokens > 0).collect()
    }
}

/// The size of a block.
fn block(rate: Rate) -> u32 {
    (rate.count / PART).clamp(1, LARGEST)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use staffetta_config::Config;
    use staffetta_queue::server::LocalServer;

    use super::*;

    const RATE: Rate = Rate { count: 640, per: Duration::from_secs(3600) };

    #[test]
    fn a_block_is_a_small_part_of_the_limit() {
        let size = |count| block(Rate { count, ..RATE });
        assert_eq!([1, 63, 64, 640, 10_000, 100_000].map(size), [1, 1, 1, 10, 156, 256]);
    }

    #[test]
    fn one_asks_for_a_block_and_all_draw_on_it() {
        let (mut blocks, now) = (Blocks::default(), Instant::now());
        assert_eq!(blocks.draw("a", RATE, now), Some(true));
        assert_eq!(blocks.draw("a", RATE, now), Some(false), "somebody asks already");
        assert_eq!(blocks.draw("b", RATE, now), Some(true), "for himself");
        blocks.put("a", 2);
        assert_eq!([0; 3].map(|_| blocks.draw("a", RATE, now)), [None, None, Some(true)]);
        blocks.put("a", 0);
        assert_eq!(blocks.draw("a", RATE, now), Some(true), "an empty answer ends the question, too");
    }

    /// Its client has hung up, say.
    #[tokio::test]
    async fn a_question_that_is_given_up_lets_the_next_ask() {
        let folder = tempfile::tempdir().unwrap();
        let redis = LocalServer::start(folder.path()).unwrap();
        let text = format!("hostname = \"mail.test\"\nredis.url = {:?}\n", redis.url());
        let config = Config::parse(&text, "test.toml").unwrap();
        let queue = Queue::open((&config).into(), tokio_util::sync::CancellationToken::new()).unwrap();
        queue.ready(Duration::from_secs(30)).await.unwrap();
        let advance = Advance::new(&queue, "recipient");
        let wish = advance.draw("a", RATE).unwrap_err();
        {
            let mut asking = pin!(advance.acquire("a", wish, 0));
            assert!(poll!(asking.as_mut()).is_pending());
            assert!(!advance.draw("a", RATE).unwrap_err().alone);
        }
        let wish = advance.draw("a", RATE).unwrap_err();
        assert!(wish.alone && advance.acquire("a", wish, 0).await);
        assert!(advance.draw("a", RATE).is_ok());
    }

    #[test]
    fn what_rests_is_taken_away_once() {
        let (mut blocks, start) = (Blocks::default(), Instant::now());
        for who in ["a", "b", "c"] {
            blocks.draw(who, RATE, start);
        }
        blocks.put("a", 5);
        blocks.put("b", 5);
        blocks.draw("b", RATE, start + REST);
        let resting: Vec<_> = blocks.resting(start).into_iter().map(|(who, block)| (who, block.tokens)).collect();
        assert_eq!(resting, [("a".into(), 5)]);
        assert!(blocks.resting(start).is_empty());
        assert_eq!(blocks.0.len(), 1, "nothing is kept of those who have nothing");
        blocks.put("c", 5);
        assert_eq!(blocks.0.len(), 1, "what comes late is not kept");
    }

    #[test]
    fn there_is_an_end_to_those_who_have_blocks() {
        let (mut blocks, now) = (Blocks::default(), Instant::now());
        for n in 0..HOLDERS {
            assert_eq!(blocks.draw(&n.to_string(), RATE, now), Some(true));
        }
        assert_eq!(blocks.draw("another", RATE, now), Some(false));
        assert_eq!(blocks.0.len(), HOLDERS);
    }
}
