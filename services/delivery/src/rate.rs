//! How many messages a destination may have at present: `destination_rate`, `rate` of a route, and less if its servers have
//! said that it is too much.
//!
//! Tokens are taken before jobs are claimed, so that a job that must wait stays in the queue, free for any worker.
//! Without a token its queue rests, for all workers, until there are some. A token is spent by an attempt, also by one
//! that fails; a claim that finds fewer jobs than it has tokens gives the others back.

use std::time::Duration;

use staffetta_queue::Limiter;
use staffetta_transport::hop::NextHop;

use crate::lanes::Work;
use crate::worker::Worker;

/// The name of these limits in Redis.
const SCOPE: &str = "destination";
/// Shortest rest: at a high rate a few tokens gather meanwhile, and workers do not ask for each.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest rest, at a low rate: a token that another worker gives back is found soon.
const LONGEST: Duration = Duration::from_secs(1);

impl Worker {
    /// For how many of the `wanted` jobs an attempt may begin; their tokens are taken. 0: the work rests in the queue.
    pub(crate) async fn allowed(&self, hop: &NextHop, work: &Work, wanted: usize) -> usize {
        match self.granted(hop, work, wanted).await {
            Some((0, empty_for)) => {
                self.park(work, empty_for.clamp(SHORTEST, LONGEST)).await;
                0
            }
            Some((tokens, _)) => tokens,
            // Nothing is claimed without a token; the queue offers the work again.
            None => 0,
        }
    }

    /// The same, with the time until there are some if there are none; `None`: nobody knows.
    pub(crate) async fn granted(&self, hop: &NextHop, work: &Work, wanted: usize) -> Option<(usize, Duration)> {
        let Some((limiter, account)) = self.pace(hop) else { return Some((wanted, Duration::ZERO)) };
        let granted = limiter.acquire(&account, u32::try_from(wanted).unwrap_or(u32::MAX)).await;
        let granted = granted.inspect_err(
            |error| tracing::debug!(destination = work.destination.as_str(), %error, "failed to ask for a rate"),
        );
        let granted = granted.ok()?;
        if granted.tokens == 0 {
            self.metrics.throttled.increment(1);
        }
        Some((granted.tokens as usize, granted.empty_for))
    }

    /// So many tokens were taken for jobs that are not there.
    pub(crate) async fn not_sent(&self, hop: &NextHop, jobs: usize) {
        let Some((limiter, account)) = self.pace(hop).filter(|_| jobs > 0) else { return };
        if let Err(error) = limiter.give_back(&account, u32::try_from(jobs).unwrap_or(u32::MAX)).await {
            tracing::debug!(hop = hop.name(), %error, "tokens of a rate are lost");
        }
    }

    /// How fast mail may go there now, and by what it is counted; `None`: at any rate.
    fn pace(&self, hop: &NextHop) -> Option<(Limiter, String)> {
        let slower = self.curbs(hop).rate.filter(|slow| hop.rate.is_none_or(|usual| slow.is_lower_than(&usual)));
        let (rate, account) = match slower {
            Some(slow) => (slow, hop.party()),
            None => (hop.rate?, hop.account()),
        };
        Some((self.queue.limiter(SCOPE, rate), account))
    }
}
