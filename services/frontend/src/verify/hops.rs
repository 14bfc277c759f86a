//! Next hops as they are asked: how many questions at a time, and which of them rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use staffetta_transport::hop::HopKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Answer;

/// Questions at a time: to one next hop, and of this pod.
const PER_HOP: usize = 8;
const ALL: usize = 64;
/// How long a next hop that could not be asked is left alone.
const REST: Duration = Duration::from_secs(60);
/// Next hops after which those are looked for that need not be remembered.
const SWEEP: usize = 1024;

/// See the module.
pub(super) struct Hops {
    known: Mutex<HashMap<HopKey, Hop>>,
    all: Arc<Semaphore>,
}

struct Hop {
    turns: Arc<Semaphore>,
    /// Until when it rests, and what is answered for all its recipients.
    rest: Option<(Instant, Answer)>,
}

/// A turn to ask.
pub(super) struct Turn {
    _hop: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Default for Hops {
    fn default() -> Self {
        Self { known: Mutex::default(), all: Arc::new(Semaphore::new(ALL)) }
    }
}

impl Hops {
    /// What is answered for a next hop that rests.
    pub(super) fn resting(&self, key: &HopKey, now: Instant) -> Option<Answer> {
        let known = self.known();
        let (until, answer) = known.get(key)?.rest.as_ref()?;
        (now < *until).then(|| answer.clone())
    }

    /// It could not be asked: this is the answer for a while.
    pub(super) fn rest(&self, key: &HopKey, answer: Answer, now: Instant) {
        let mut known = self.known();
        make_room(&mut known, now);
        known.entry(key.clone()).or_default().rest = Some((now + REST, answer));
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, key: &HopKey) -> Turn {
        let turns = {
            let mut known = self.known();
            make_room(&mut known, Instant::now());
            Arc::clone(&known.entry(key.clone()).or_default().turns)
        };
        // No semaphore is ever closed.
        let hop = turns.acquire_owned().await.ok();
        Turn { _hop: hop, _all: Arc::clone(&self.all).acquire_owned().await.ok() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<HopKey, Hop>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(PER_HOP)), rest: None }
    }
}

/// First those go that nobody asks and that do not rest; then all that nobody asks.
fn make_room(known: &mut HashMap<HopKey, Hop>, now: Instant) {
    if known.len() < SWEEP {
        return;
    }
    let asked = |hop: &Hop| Arc::strong_count(&hop.turns) > 1;
    known.retain(|_, hop| asked(hop) || hop.rest.as_ref().is_some_and(|(until, _)| now < *until));
    if known.len() >= SWEEP {
        known.retain(|_, hop| asked(hop));
    }
}

#[cfg(test)]
mod tests {
    use staffetta_config::Config;
    use staffetta_transport::hop::Router;

    use super::*;

    fn router() -> Router {
        #[expect(clippy::unwrap_used, reason = "tests")]
        Router::new(&Config::parse("hostname = \"mail.test\"", "test.toml").unwrap())
    }

    #[test]
    fn a_next_hop_rests_for_a_minute_and_the_memory_is_bounded() {
        let (hops, router, now) = (Hops::default(), router(), Instant::now());
        let key = router.key("x.test", None);
        assert_eq!(hops.resting(&key, now), None);
        hops.rest(&key, Answer::Takes, now);
        assert_eq!(hops.resting(&key, now + REST / 2), Some(Answer::Takes));
        assert_eq!(hops.resting(&router.key("y.test", None), now), None);
        assert_eq!(hops.resting(&key, now + REST), None);
        for n in 0..3 * SWEEP {
            hops.rest(&router.key(&format!("{n}.test"), None), Answer::Takes, now);
        }
        assert!(hops.known().len() <= SWEEP);
    }

    #[tokio::test]
    async fn a_next_hop_is_asked_by_few_at_a_time_and_others_need_not_wait_for_it() {
        let (hops, router) = (Hops::default(), router());
        let (here, there) = (router.key("x.test", None), router.key("y.test", None));
        let mut turns = Vec::new();
        for _ in 0..PER_HOP {
            turns.push(hops.turn(&here).await);
        }
        let next = tokio::time::timeout(Duration::from_millis(20), hops.turn(&here));
        assert!(next.await.is_err(), "no turn is left");
        turns.push(hops.turn(&there).await);
        turns.remove(0);
        turns.push(hops.turn(&here).await);
    }
}
