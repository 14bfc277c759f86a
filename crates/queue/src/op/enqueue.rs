//! ENQ: one message with all its jobs, in one script.
//!
//! A refusal is reported at once. When the outcome is unknown the same id is sent again, which is harmless, until the
//! deadline; then the message is withdrawn, so that a `4xx` is never followed by a delivery. Once one attempt is
//! unknown, a later refusal proves nothing about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_mail::QueueId;

use super::unexpected;
use crate::EnqueueError;
use crate::error::Fault;
use crate::metrics;
use crate::record::Encoded;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;

/// How long an unknown outcome is pursued. Well below the patience of clients, and below the minute after which the
/// script refuses an old record.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

impl Shared {
    /// Queues a message. `Ok`: it is durable. `Err`: it is not there and will never be.
    pub(crate) async fn enqueue(self: &Arc<Self>, record: &Encoded) -> Result<(), EnqueueError> {
        let end = Instant::now() + DEADLINE;
        let mut unknown = false;
        loop {
            match self.try_enqueue(record).await {
                Ok(true) => return Ok(()),
                Ok(false) if unknown => return Ok(()),
                Ok(false) => return Err(EnqueueError::Unavailable("it was withdrawn".into())),
                Err(Fault::Unknown(text)) if Instant::now() >= end => return self.give_up(record, text).await,
                Err(Fault::Unknown(text)) => {
                    if !unknown {
                        tracing::warn!(id = %record.id, reason = %text, "outcome of an enqueue is unknown, asking again");
                        metrics::ambiguous().increment(1);
                    }
                    unknown = true;
                }
                Err(fault) if !unknown => return Err(fault.into()),
                Err(fault) if Instant::now() >= end => return self.give_up(record, fault.to_string()).await,
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// True: it is queued. False: it is over already.
    async fn try_enqueue(&self, record: &Encoded) -> Result<bool, Fault> {
        let lane = self.node(record.id.partition()).enqueue_lane()?;
        let answer = lane.call(self.enqueue_call(record), record.bytes.len() + 512).await?;
        match value::str(&answer) {
            Some("OK" | "DUP") => Ok(true),
            Some("DONE") => Ok(false),
            Some("CONFLICT") => Err(Fault::Refused("another message has the same id".into())),
            Some("LATE") => Err(Fault::Refused("the clock of Redis has moved".into())),
            Some("NOBODY") => Err(Fault::Refused("a part of the body has expired".into())),
            _ => Err(unexpected("enqueue", &answer)),
        }
    }

    pub(super) fn enqueue_call(&self, record: &Encoded) -> redis::Cmd {
        let id = record.id;
        let partition = self.partition(id.partition());
        let waiting: Vec<String> = record.destinations.iter().map(|name| partition.waiting(name.as_str())).collect();
        let open = (record.destinations.len() > 1).then(|| partition.open_jobs(id));
        let chunks = partition.chunks(id, 0..record.chunks);
        let destinations: Vec<Arg<'_>> = record.destinations.iter().map(|name| name.as_str().into()).collect();
        script::Enqueue {
            record: &partition.record(id),
            tombstones: &partition.tombstones(record.arrived),
            ids: &partition.ids,
            due: &partition.due,
            extra: &partition.extra,
            waiting: &waiting,
            open: open.as_slice(),
            chunks: &chunks,
            id: Arg::Id(id),
            arrived: record.arrived.into(),
            octets: record.bytes.as_slice().into(),
            destinations: &destinations,
        }
        .call()
    }

    /// The deadline has passed: make sure that it is not delivered, or learn that it was.
    async fn give_up(self: &Arc<Self>, record: &Encoded, reason: String) -> Result<(), EnqueueError> {
        match self.withdraw(record).await {
            Ok(Withdrawn::Delivered) => Ok(()),
            Ok(Withdrawn::Leased) => {
                tracing::error!(id = %record.id, "refused, but a worker has it already: possible duplicate");
                metrics::withdraw_failed().increment(1);
                Err(EnqueueError::Unavailable(reason))
            }
            Ok(Withdrawn::Gone) => Err(EnqueueError::Unavailable(reason)),
            Err(_) => {
                tokio::spawn(self.clone().withdraw_later(record.clone()));
                Err(EnqueueError::Unavailable(reason))
            }
        }
    }

    /// Goes on trying to withdraw a refused message until Redis is back.
    async fn withdraw_later(self: Arc<Self>, mut record: Encoded) {
        record.bytes = Vec::new();
        let withdrawn = self.shutdown.clone().run_until_cancelled_owned(async {
            loop {
                tokio::time::sleep(PAUSE).await;
                if let Ok(withdrawn) = self.withdraw(&record).await {
                    return withdrawn;
                }
            }
        });
        match withdrawn.await {
            Some(Withdrawn::Gone) => tracing::info!(id = %record.id, "refused message withdrawn"),
            _ => {
                tracing::error!(id = %record.id, "refused message could not be withdrawn: possible duplicate");
                metrics::withdraw_failed().increment(1);
            }
        }
    }

    async fn withdraw(&self, record: &Encoded) -> Result<Withdrawn, Fault> {
        let live = self.node(record.id.partition()).admin.live()?;
        let mut pipeline = redis::Pipeline::new();
        let id: QueueId = record.id;
        pipeline.add_command(self.abort_call(id, record.arrived, &record.destinations, record.chunks));
        let answer = live.send(&pipeline).await?.pop().unwrap_or(Ok(redis::Value::Nil))?;
        match value::str(&answer) {
            Some("DONE") => Ok(Withdrawn::Delivered),
            Some("GONE" | "REMOVED") => Ok(Withdrawn::Gone),
            Some("LEASED") => Ok(Withdrawn::Leased),
            _ => Err(unexpected("abort", &answer)),
        }
    }
}

enum Withdrawn {
    /// It had been accepted, and is over.
    Delivered,
    /// A worker is delivering it.
    Leased,
    /// It is not there and will not come.
    Gone,
}
