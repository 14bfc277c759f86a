//! The look-ups of a domain's mail hosts: each when its turn comes, unless one keeps the others waiting, and none for longer
//! than the plan may take.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use staffetta_policy::classify::Failure;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Addresses, Planner, late};

/// After so long without an answer the others are not made to wait for it.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// So many are looked up at a time then: whoever has an attempt look up a hundred names has a server answer them all.
pub(super) const AT_ONCE: usize = 10;

/// Answers come in the order of the names.
pub(super) struct LookUps<'a> {
    planner: &'a Planner,
    end: Instant,
    waiting: VecDeque<Arc<str>>,
    running: FuturesOrdered<BoxFuture<'a, Result<Addresses, Failure>>>,
}

impl<'a> LookUps<'a> {
    /// What has no answer at the `end` has failed.
    pub(super) fn new(planner: &'a Planner, names: impl Iterator<Item = Arc<str>>, end: Instant) -> Self {
        Self { planner, end, waiting: names.collect(), running: FuturesOrdered::new() }
    }

    /// That of the next name; `None`: all have been given.
    pub(super) async fn next(&mut self) -> Option<Result<Addresses, Failure>> {
        if self.running.is_empty() {
            self.begin(1);
        }
        match timeout(SLOW, self.running.next()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.begin(AT_ONCE.saturating_sub(self.running.len()));
                self.running.next().await
            }
        }
    }

    fn begin(&mut self, many: usize) {
        let (planner, end) = (self.planner, self.end);
        for name in self.waiting.drain(..many.min(self.waiting.len())) {
            let answer =
                async move { timeout_at(end, planner.look_up(&name)).await.unwrap_or_else(|_| Err(late(&name, "A"))) };
            self.running.push_back(Box::pin(answer));
        }
    }
}
