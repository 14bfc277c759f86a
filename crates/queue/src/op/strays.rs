//! Strays: jobs that a claim leased without anybody hearing of it.
//!
//! When Redis pauses, a claim is given up or repeated while its first try still waits to be carried out. What that leases
//! later belongs to nobody, and would wait for the end of its lease. The token of the claim finds it.

use std::sync::Arc;
use std::time::Duration;

use staffetta_mail::QueueId;

use super::settle::Back;
use crate::error::Fault;
use crate::partition::parse_job_name;
use crate::shared::Shared;
use crate::value;
use crate::{Destination, Error, Lease};

/// Before each look.
const PAUSE: Duration = Duration::from_secs(2);
/// Looks that Redis must answer: what was on its way at the first one is there at the second.
const LOOKS: u32 = 2;

impl Shared {
    /// Gives back, in the background, what the token has leased besides the jobs that are known.
    pub(crate) fn look_for_strays(
        self: &Arc<Self>,
        partition: u16,
        destination: Destination,
        token: String,
        known: Vec<(QueueId, u16)>,
    ) {
        let shared = self.clone();
        tokio::spawn(async move {
            // After a lease there is nothing left to find.
            let rounds = shared.settings.lease.as_secs() / PAUSE.as_secs() + u64::from(LOOKS);
            let mut looks = 0;
            for _ in 0..rounds {
                let pause = tokio::time::sleep(PAUSE);
                if shared.shutdown.run_until_cancelled(pause).await.is_none() || looks >= LOOKS {
                    return;
                }
                if shared.give_back_strays(partition, &destination, &token, &known).await.is_ok() {
                    looks += 1;
                }
            }
        });
    }

    async fn give_back_strays(
        &self,
        partition: u16,
        destination: &Destination,
        token: &str,
        known: &[(QueueId, u16)],
    ) -> Result<(), Error> {
        let strays = self.leased_by(partition, destination, token).await?;
        for (id, job) in strays.into_iter().filter(|name| !known.contains(name)) {
            let member = format!("{id}.{job} {token} {destination}").into();
            let facts = self.traces(id).await?.facts(id);
            let lease = Lease { facts, ..Lease::new(id, job, destination.clone(), member) };
            self.defer(&lease, Back::default(), &[]).await?;
            tracing::debug!(qid = %id, job, "gave back a job that was leased unheard");
        }
        Ok(())
    }

    /// A claim that repeats itself and wants no new jobs says what it has.
    async fn leased_by(
        &self,
        partition: u16,
        destination: &Destination,
        token: &str,
    ) -> Result<Vec<(QueueId, u16)>, Fault> {
        let keys = self.partition(partition);
        let call = self.claim_call(keys, destination, token, 0, true);
        let answer = self.node(partition).claims.ask(call).await?;
        Ok(value::array(&answer).iter().skip(1).filter_map(value::str).filter_map(parse_job_name).collect())
    }
}
