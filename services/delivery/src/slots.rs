//! Places for connections to a next hop: `destination_concurrency`, and `concurrency` of a route, hold for all workers
//! together.
//!
//! One task keeps the book of this worker and speaks to Redis for all carriers, many in one go. Where there is room enough
//! for one connection of every worker, the first one is not told to anybody: most mail for the many small destinations costs no question.
//! What was told is repeated, and ends by itself when a worker dies.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rand::RngExt;
use staffetta_queue::{Heads, Queue};
use tokio::sync::{mpsc, oneshot};

/// Asked in one go.
const BATCH: usize = 256;
/// Between looks at what must be told again.
const TICK: Duration = Duration::from_secs(1);
/// Where there was no room, nobody asks for so long, about.
const PAUSE: Duration = Duration::from_millis(200);
/// A limit below this is kept to the letter also while workers come and go.
const LARGE: u32 = 8;
/// So many places for each worker are room enough.
const ROOMY: u32 = 4;

/// How carriers ask. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Slots(mpsc::UnboundedSender<Ask>);

/// A place for one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    hop: String,
    book: mpsc::UnboundedSender<Ask>,
}

#[derive(Debug)]
enum Ask {
    Take {
        hop: String,
        limit: u32,
        answer: oneshot::Sender<Option<Slot>>,
    },
    Free {
        hop: String,
    },
    /// When all that was asked before is told.
    Flush(oneshot::Sender<()>),
}

/// What is to be kept by [`keep`].
pub(crate) struct Asked {
    asked: mpsc::UnboundedReceiver<Ask>,
    book: mpsc::WeakUnboundedSender<Ask>,
}

impl Slots {
    /// As many may wait in it as there are carriers.
    pub(crate) fn new() -> (Self, Asked) {
        let (book, asked) = mpsc::unbounded_channel();
        let weak = book.downgrade();
        (Self(book), Asked { asked, book: weak })
    }

    /// A place, if there is one beside those of other workers. None while Redis is away: there is nothing to claim then,
    /// either.
    pub(crate) async fn take(&self, hop: String, limit: u32) -> Option<Slot> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Ask::Take { hop, limit, answer }).ok()?;
        answered.await.ok().flatten()
    }

    /// Waits until others know what was given up.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.send(Ask::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(TICK, flushed).await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.book.send(Ask::Free { hop: std::mem::take(&mut self.hop) });
    }
}

/// Keeps the book as long as anybody may ask.
pub(crate) async fn keep(queue: Queue, asked: Asked) {
    let (headcount, Asked { mut asked, book }) = (queue.connections(), asked);
    let mut book = Book { slots: book, renewal: headcount.renewal(), hops: HashMap::new(), version: 0 };
    let mut asks = Vec::with_capacity(BATCH);
    // By the clock: a worker that is never idle has the most to repeat.
    let mut tick = Instant::now() + TICK;
    loop {
        let heard = tokio::time::timeout_at(tick.into(), asked.recv_many(&mut asks, BATCH)).await;
        let (mut touched, mut flushed) = (BTreeSet::new(), Vec::new());
        for ask in asks.drain(..) {
            match ask {
                Ask::Take { hop, limit, answer } => book.want(hop, limit, answer, queue.workers(), &mut touched),
                Ask::Free { hop } => book.free(hop, &mut touched),
                Ask::Flush(done) => flushed.push(done),
            }
        }
        if matches!(heard, Ok(0)) {
            return;
        }
        let now = Instant::now();
        if now >= tick {
            book.tick(now, &mut touched);
            tick = now + TICK;
        }
        let said = book.say(&touched);
        if !said.is_empty() {
            let heard = headcount.claim_all(&said).await;
            if let Err(error) = &heard {
                tracing::debug!(%error, "failed to ask for places of next hops");
            }
            book.heard(&said, heard.ok().as_deref(), Instant::now());
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

/// What this worker has, and what the others know of it.
struct Book {
    slots: mpsc::WeakUnboundedSender<Ask>,
    renewal: Duration,
    hops: HashMap<String, Hop>,
    /// Of the last thing that was said.
    version: u64,
}

#[derive(Default)]
struct Hop {
    held: u32,
    /// In Redis, as far as is known; with the time.
    told: u32,
    told_at: Option<Instant>,
    /// It may be something else.
    unsure: bool,
    /// Who waits for a place.
    takers: Vec<oneshot::Sender<Option<Slot>>>,
    /// Most places for those that are told of.
    limit: u32,
    /// One connection needs no telling.
    first_is_free: bool,
    crowded_until: Option<Instant>,
}

impl Book {
    fn want(
        &mut self,
        name: String,
        limit: u32,
        answer: oneshot::Sender<Option<Slot>>,
        workers: u32,
        touched: &mut BTreeSet<String>,
    ) {
        let hop = self.hops.entry(name.clone()).or_default();
        hop.first_is_free = limit >= LARGE && limit / ROOMY >= workers;
        // Each of the others may have one that nobody hears of.
        hop.limit = if hop.first_is_free { limit - (workers - 1) } else { limit };
        if hop.crowded_until.is_some_and(|until| Instant::now() < until) {
            let _ = answer.send(None);
        } else if hop.first_is_free && hop.held == 0 && hop.told == 0 && !hop.unsure && hop.takers.is_empty() {
            hop.held = 1;
            let _ = answer.send(slot(&self.slots, &name));
        } else {
            hop.takers.push(answer);
            touched.insert(name);
        }
    }

    fn free(&mut self, name: String, touched: &mut BTreeSet<String>) {
        let Some(hop) = self.hops.get_mut(&name) else { return };
        hop.held = hop.held.saturating_sub(1);
        if hop.told > 0 || hop.unsure {
            touched.insert(name);
        } else {
            self.forget(&name);
        }
    }

    /// What has to be told although nobody asks.
    fn tick(&mut self, now: Instant, touched: &mut BTreeSet<String>) {
        self.hops.retain(|_, hop| !hop.is_over(now));
        let old = |hop: &Hop| hop.told > 0 && hop.told_at.is_none_or(|at| now >= at + self.renewal);
        touched.extend(self.hops.iter().filter(|(_, hop)| hop.unsure || old(hop)).map(|(name, _)| name.clone()));
    }

    fn say(&mut self, touched: &BTreeSet<String>) -> Vec<(Heads, u32)> {
        let mut all = Vec::with_capacity(touched.len());
        for name in touched {
            let Some(hop) = self.hops.get_mut(name) else { continue };
            self.version += 1;
            let takers = u32::try_from(hop.takers.len()).unwrap_or(u32::MAX);
            let wanted = hop.held.saturating_add(takers);
            let alone = wanted <= 1 && takers == 0 && hop.first_is_free;
            let heads = Heads { client: name.clone(), count: if alone { 0 } else { wanted }, version: self.version };
            all.push((heads, if takers == 0 { 0 } else { hop.limit }));
        }
        all
    }

    fn heard(&mut self, said: &[(Heads, u32)], granted: Option<&[u32]>, now: Instant) {
        for (index, (heads, limit)) in said.iter().enumerate() {
            let Some(hop) = self.hops.get_mut(&heads.client) else { continue };
            let takers = std::mem::take(&mut hop.takers);
            let granted = granted.and_then(|all| all.get(index)).copied();
            let room = granted.unwrap_or(0).saturating_sub(hop.held) as usize;
            let refused = takers.len() > room;
            for (index, taker) in takers.into_iter().enumerate() {
                let slot = if index < room { slot(&self.slots, &heads.client) } else { None };
                hop.held += u32::from(slot.is_some());
                let _ = taker.send(slot);
            }
            if refused {
                hop.crowded_until = Some(now + PAUSE.mul_f64(rand::rng().random_range(0.5..1.5)));
            }
            (hop.told, hop.told_at) = (granted.unwrap_or(hop.told), Some(now));
            // Less than it has, or nobody knows what was heard.
            hop.unsure = granted.is_none_or(|granted| *limit > 0 && granted < hop.held);
            self.forget(&heads.client);
        }
    }

    fn forget(&mut self, name: &str) {
        if self.hops.get(name).is_some_and(|hop| hop.is_over(Instant::now())) {
            self.hops.remove(name);
        }
    }
}

/// One that nobody takes any more comes back by itself. None is left when nobody may ask.
fn slot(book: &mpsc::WeakUnboundedSender<Ask>, hop: &str) -> Option<Slot> {
    Some(Slot { hop: hop.to_owned(), book: book.upgrade()? })
}

impl Hop {
    fn is_over(&self, now: Instant) -> bool {
        let rests = self.crowded_until.is_some_and(|until| now < until);
        self.held == 0 && self.told == 0 && !self.unsure && !rests && self.takers.is_empty()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    struct Desk {
        book: Book,
        slots: Slots,
        asked: Asked,
        now: Instant,
    }

    impl Desk {
        fn new() -> Self {
            let (slots, asked) = Slots::new();
            let renewal = Duration::from_secs(30);
            let book = Book { slots: asked.book.clone(), renewal, hops: HashMap::new(), version: 0 };
            Self { book, slots, asked, now: Instant::now() }
        }

        /// So many carriers ask; what is said, and what became of each after this answer.
        fn ask(&mut self, carriers: usize, limit: u32, workers: u32, granted: Option<u32>) -> (Vec<u32>, Vec<Slot>) {
            let mut touched = BTreeSet::new();
            let asking = || oneshot::channel();
            let (answers, mut answered): (Vec<_>, Vec<_>) = (0..carriers).map(|_| asking()).unzip();
            for answer in answers {
                self.book.want("x".to_owned(), limit, answer, workers, &mut touched);
            }
            let said = self.settle(&touched, granted);
            (said, answered.iter_mut().filter_map(|answer| answer.try_recv().unwrap()).collect())
        }

        fn settle(&mut self, touched: &BTreeSet<String>, granted: Option<u32>) -> Vec<u32> {
            let said = self.book.say(touched);
            if !said.is_empty() {
                self.book.heard(&said, granted.map(|granted| vec![granted]).as_deref(), self.now);
            }
            said.iter().map(|(heads, _)| heads.count).collect()
        }

        /// Of what was given up meanwhile.
        fn freed(&mut self, granted: Option<u32>) -> Vec<u32> {
            let mut touched = BTreeSet::new();
            while let Ok(Ask::Free { hop }) = self.asked.asked.try_recv() {
                self.book.free(hop, &mut touched);
            }
            self.settle(&touched, granted)
        }

        fn later(&mut self, span: Duration, granted: Option<u32>) -> Vec<u32> {
            self.now += span;
            let mut touched = BTreeSet::new();
            self.book.tick(self.now, &mut touched);
            self.settle(&touched, granted)
        }
    }

    #[test]
    fn the_first_connection_is_told_to_nobody_where_there_is_room_for_one_of_everybody() {
        let mut desk = Desk::new();
        let (said, first) = desk.ask(1, 20, 5, None);
        assert_eq!((said, first.len()), (vec![], 1));
        let (said, more) = desk.ask(2, 20, 5, Some(3));
        assert_eq!((said, more.len()), (vec![3], 2), "with a second one all are told");
        drop(more);
        assert_eq!(desk.freed(Some(0)), [0], "one is what it was at first");
        drop(first);
        assert_eq!(desk.freed(None), [0_u32; 0]);
        assert!(desk.book.hops.is_empty());
        // Small limits, and many workers.
        for (limit, workers) in [(7, 1), (20, 6)] {
            let (said, slots) = desk.ask(1, limit, workers, Some(1));
            assert_eq!((said, slots.len()), (vec![1], 1), "{limit} {workers}");
            drop(slots);
            assert_eq!(desk.freed(Some(0)), [0]);
        }
        assert!(desk.book.hops.is_empty());
        drop(desk.slots);
    }

    #[test]
    fn who_finds_no_room_is_refused_and_asks_again_only_after_a_while() {
        let mut desk = Desk::new();
        let (said, slots) = desk.ask(3, 4, 2, Some(2));
        assert_eq!((said, slots.len()), (vec![3], 2));
        let (said, none) = desk.ask(1, 4, 2, Some(3));
        assert_eq!((said, none.len()), (vec![], 0), "a moment later");
        desk.book.hops.get_mut("x").unwrap().crowded_until = None;
        let (said, one) = desk.ask(1, 4, 2, Some(3));
        assert_eq!((said, one.len()), (vec![3], 1));
    }

    #[test]
    fn what_nobody_may_have_heard_is_told_again_and_what_was_heard_now_and_then() {
        let mut desk = Desk::new();
        let (_, slots) = desk.ask(2, 4, 2, Some(2));
        assert_eq!(desk.later(Duration::from_secs(1), None), [0_u32; 0]);
        assert_eq!(desk.later(Duration::from_secs(30), Some(2)), [2]);
        // Redis is away: the places go on, and are told once it is back.
        assert_eq!(desk.later(Duration::from_secs(30), None), [2]);
        assert_eq!(desk.later(Duration::from_secs(1), Some(2)), [2]);
        drop(slots);
        assert_eq!(desk.freed(None), [0]);
        assert_eq!(desk.later(Duration::from_secs(1), Some(0)), [0]);
        assert!(desk.book.hops.is_empty());
    }
}
