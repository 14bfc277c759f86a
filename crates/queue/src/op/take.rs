//! TAKE: an operator leases one job, whether it is due or held, to settle it by hand.

use std::sync::Arc;
use std::time::Instant;

use staffetta_mail::QueueId;

use super::claim::Claimed;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value::count;
use crate::{Destination, Error, Job};

impl Shared {
    /// The job with its message, or nothing if somebody else has it or it is over.
    pub(crate) async fn take(
        self: &Arc<Self>,
        id: QueueId,
        job: u16,
        destination: &Destination,
    ) -> Result<Option<Job>, Error> {
        let keys = self.partition(id.partition());
        let token = format!("{:016x}", rand::random::<u64>());
        let member = format!("{id}.{job} {token} {destination}");
        let deadline = Instant::now() + self.settings.lease;
        let call = script::Take {
            waiting: &keys.waiting(destination.as_str()),
            held: &keys.held,
            due: &keys.due,
            back_off: &keys.back_off,
            lease: &keys.lease,
            job: Arg::Job(id, job),
            destination: destination.as_str().into(),
            member: member.as_str().into(),
            term: self.settings.lease.into(),
        }
        .call();
        if count(&self.node(keys.number).admin.ask(call).await?) == 0 {
            return Ok(None);
        }
        let at = self.node(keys.number).clock.now();
        let claimed = Claimed { names: vec![(id, job)], at, deadline, safe: true };
        Ok(self.read_jobs(keys, destination, &token, &claimed).await?.pop())
    }
}
