//! Jobs of one message that go to the same server, claimed together so that they travel in one transaction: a message for fifty
//! domains through a smart host crosses the wire once.
//!
//! Whose server is the recipient's own has no company, and neither has mail that is sorted by sender, or whose recipients have
//! senders of their own; nothing is asked for them.
//! Each job keeps its own lease and comes to its own end; how they share a transaction is for `staffetta_dispatch::Conversation`.

use std::time::Instant;

use futures_util::future::join_all;
use staffetta_queue::{Destination, Job};
use staffetta_transport::hop::{NextHop, Router};

use crate::lanes::{Lane, Work};
use crate::leased::Task;
use crate::worker::{RECORD, UNIT, Worker};

/// Most recipients of a transaction that is made up so (Postfix: `default_destination_recipient_limit`).
const RECIPIENTS: usize = 50;
/// Units of memory for one more job of a message that is here: its content is shared.
const EACH: u32 = RECORD.div_ceil(UNIT) as u32;

impl Worker {
    /// What travels with these jobs, which were claimed for this lane.
    pub(crate) async fn company(&self, lane: &Lane, hop: &NextHop, jobs: &[Job]) -> Vec<Task> {
        if !Router::is_for_many(hop) {
            return Vec::new();
        }
        let terms = self.terms.load_full();
        let has_others = |job: &&Job| job.message.envelope.recipients.len() > job.recipients.len();
        let heads =
            jobs.iter().filter(|job| job.silences == 0 && terms.verp(&job.message).is_none()).filter(has_others);
        let claimed = join_all(heads.map(|job| self.company_of(lane, hop, job))).await;
        claimed.into_iter().flatten().collect()
    }

    async fn company_of(&self, lane: &Lane, hop: &NextHop, job: &Job) -> Vec<Task> {
        let most = RECIPIENTS.saturating_sub(job.recipients.len());
        let room = self.room.clone().try_acquire_many_owned(EACH * most as u32);
        // Where memory is short each comes by itself.
        let (Ok(room), true) = (room, most > 0) else { return Vec::new() };
        let terms = self.terms.load_full();
        let partition = job.lease.id.partition();
        let wanted = |destination: &Destination| {
            let domain = destination.as_str();
            terms.router.key(domain, None) == lane.hop.key
                && !self.is_mixed(&Work { partition, destination: destination.clone() })
                && self.suspension(hop, domain).is_none()
        };
        let since = Instant::now();
        match self.queue.accompany(job, most, wanted).await {
            Ok(jobs) => self.tasks(jobs, since, room, EACH).await,
            Err(error) => {
                tracing::debug!(qid = %job.message.id, %error, "failed to claim what could travel with a job");
                Vec::new()
            }
        }
    }
}
