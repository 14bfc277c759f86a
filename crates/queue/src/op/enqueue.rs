//! ENQ: one message with all its jobs, in one script.
//!
//! A refusal is reported at once. When the outcome is unknown the same id is sent again, which is harmless, until the
//! patience ends; then the message is withdrawn, so that a `4xx` is never followed by a delivery. Once one attempt is
//! unknown, a later refusal proves nothing about it.
//!
//! Each attempt carries the time, by the clock of Redis, at which the patience ends, and the script refuses it afterwards.
//! A Redis that stood still and finds the enqueue in its socket when it goes on does nothing with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{MOVE, unexpected};
use crate::commit::Lane;
use crate::error::Fault;
use crate::metrics;
use crate::record::Encoded;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{EnqueueError, UnixMillis};

const PAUSE: Duration = Duration::from_millis(50);
/// How long Redis may take to answer a withdrawal before the client is told.
const WITHDRAWAL: Duration = Duration::from_secs(2);
/// How long a message that a worker has, but not enough replicas, is pursued beyond the patience.
const PURSUIT: Duration = Duration::from_secs(30);
/// By how much the clock of Redis may fall behind ours during the patience.
const DRIFT: Duration = Duration::from_secs(1);

/// What Redis said of an enqueue.
enum EnqueueAnswer {
    /// It is queued.
    Queued,
    /// It had been queued, or was withdrawn, and is over.
    Over,
    /// It came too late, as did every attempt before it.
    Late,
}

/// Until when the attempts of one enqueue may have an effect.
struct Patience {
    /// By our clock.
    end: Instant,
    /// By that of Redis, at the latest at the same moment.
    ends: UnixMillis,
}

impl Shared {
    /// Queues a message. `Ok`: it is durable. `Err`: it is not there and will never be.
    pub(crate) async fn enqueue(self: &Arc<Self>, record: &Encoded) -> Result<(), EnqueueError> {
        let patience = self.patience(record);
        let moving = Instant::now() + MOVE;
        let mut unknown = None;
        while Instant::now() < patience.end {
            let late = |_| Err(Fault::Unknown("no answer in time".into()));
            let attempt = self.try_enqueue(record, patience.ends);
            match timeout_at(patience.end, attempt).await.unwrap_or_else(late) {
                Ok(EnqueueAnswer::Queued) => return Ok(()),
                Ok(EnqueueAnswer::Over) if unknown.is_some() => return Ok(()),
                Ok(EnqueueAnswer::Over) => return Err(EnqueueError::Unavailable("it was withdrawn".into())),
                Ok(EnqueueAnswer::Late) => {
                    return Err(EnqueueError::Unavailable("the clock of Redis has moved".into()));
                }
                Err(Fault::Unknown(text)) => {
                    if unknown.is_none() {
                        tracing::warn!(qid = %record.id, reason = %text, "outcome of an enqueue is unknown, asking again");
                        metrics::ambiguous().increment(1);
                    }
                    unknown = Some(text);
                }
                // Where it is going the same id is as good.
                Err(Fault::Elsewhere(_)) if unknown.is_some() || Instant::now() < moving => {
                    self.resting.begin(record.id.partition());
                }
                Err(fault) if unknown.is_none() => return Err(fault.into()),
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
        self.give_up(record, &patience, unknown.unwrap_or_default()).await
    }

    fn patience(&self, record: &Encoded) -> Patience {
        let millis = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        // Our idea of the time of Redis is never later than that time itself.
        let ends = self.node(record.id.partition()).clock.now().saturating_add(millis);
        Patience { end: Instant::now() + self.patience, ends }
    }

    async fn try_enqueue(&self, record: &Encoded, ends: UnixMillis) -> Result<EnqueueAnswer, Fault> {
        let lane = self.node(record.id.partition()).enqueue_lane()?;
        let [place, enqueue] = self.enqueue_calls(record, ends);
        let answer = lane.call_behind(place, enqueue, record.bytes.len() + 512).await?;
        match value::str(&answer) {
            Some("OK" | "DUP") => Ok(EnqueueAnswer::Queued),
            Some("DONE") => Ok(EnqueueAnswer::Over),
            Some("LATE") => Ok(EnqueueAnswer::Late),
            Some("CONFLICT") => Err(Fault::Refused("another message has the same id".into())),
            Some("NORECORD") => Err(Fault::Full),
            Some("NOBODY") => Err(Fault::Refused("a part of the body has expired".into())),
            _ => Err(unexpected("enqueue", &answer)),
        }
    }

    /// The record is put in its place, with a life, unless it is there; then the script queues it. Apart, because a script
    /// pays for each octet that it is given. `ends`: when it may take effect at the latest, by the clock of Redis.
    pub(super) fn enqueue_calls(&self, record: &Encoded, ends: UnixMillis) -> [redis::Cmd; 2] {
        let id = record.id;
        let partition = self.partition(id.partition());
        let waiting: Vec<String> = record.destinations.iter().map(|name| partition.waiting(name.as_str())).collect();
        let open = (record.destinations.len() > 1).then(|| partition.open_jobs(id));
        let chunks = partition.chunks(id, 0..record.chunks.keys());
        let held = record.held_until.map(|until| (partition.held.clone(), Arg::from(until)));
        let (held, until_held): (Vec<String>, Vec<Arg<'_>>) = held.into_iter().unzip();
        let unfinished = record.chunks.kept.is_in_store().then(|| partition.garbage.clone());
        let destinations: Vec<Arg<'_>> = record.destinations.iter().map(|name| name.as_str().into()).collect();
        let (counted, login) = partition.counted(record.counted_for.as_deref());
        let key = partition.record(id);
        let mut place = redis::Cmd::with_capacity(6, record.bytes.len() + 128);
        place.arg("SET").arg(&key).arg(&record.bytes).arg("NX").arg("PX").arg(self.life());
        let enqueue = script::Enqueue {
            record: &key,
            tombstones: &partition.tombstones(record.arrived),
            ids: &partition.ids,
            due: &partition.due,
            extra: &partition.extra,
            waiting: &waiting,
            open: open.as_slice(),
            chunks: &chunks,
            held: &held,
            unfinished: unfinished.as_slice(),
            counted: counted.as_slice(),
            id: Arg::Id(id),
            arrived: record.arrived.into(),
            ends: ends.into(),
            stamp: record.stamp().into(),
            wake: partition.wake.as_str().into(),
            destinations: &destinations,
            until_held: &until_held,
            login: login.as_slice(),
        };
        [place, enqueue.call()]
    }

    /// As at the end of a patience in which nobody answered.
    #[cfg(test)]
    pub(super) async fn pursue(self: &Arc<Self>, record: &Encoded) -> Result<(), EnqueueError> {
        self.give_up(record, &self.patience(record), String::new()).await
    }

    /// Nobody knows, and the patience has ended: make sure that it is not delivered, or learn that it is queued.
    async fn give_up(
        self: &Arc<Self>,
        record: &Encoded,
        patience: &Patience,
        reason: String,
    ) -> Result<(), EnqueueError> {
        // What is on its way to Redis must not take effect any more when the client hears of it.
        let last = patience.end + DRIFT;
        let pursued = Instant::now() + PURSUIT;
        let gone = loop {
            let lane = &self.node(record.id.partition()).settles;
            let end = match timeout(WITHDRAWAL, self.withdraw(lane, record, false)).await {
                Ok(Ok(Withdrawn::Over)) => return Ok(()),
                Ok(Ok(Withdrawn::Gone)) if self.settings.wait_for().is_none() => {
                    return Err(EnqueueError::Unavailable(reason));
                }
                Ok(Ok(Withdrawn::Gone)) => break true,
                // A worker has it: then it is the truth that it was accepted, once it is durable.
                Ok(Ok(Withdrawn::Leased)) if self.is_durable(record, patience).await => return Ok(()),
                Ok(Ok(Withdrawn::Leased)) => pursued,
                // Redis may come back while the client waits anyhow.
                Ok(Err(_)) | Err(_) => last,
            };
            if Instant::now() >= end {
                break false;
            }
            sleep(PAUSE).await;
        };
        sleep_until(last).await;
        tokio::spawn(self.clone().withdraw_later(record.clone(), gone));
        Err(EnqueueError::Unavailable(reason))
    }

    /// A message that is queued is in enough places.
    async fn is_durable(&self, record: &Encoded, patience: &Patience) -> bool {
        if self.settings.wait_for().is_none() {
            return true;
        }
        let answer = timeout(WITHDRAWAL, self.try_enqueue(record, patience.ends)).await;
        matches!(answer, Ok(Ok(EnqueueAnswer::Queued | EnqueueAnswer::Over)))
    }

    /// Goes on trying to withdraw a refused message until Redis is back, and its replicas have heard of it: it may have
    /// been queued in time, and only the answer been lost. `gone`: Redis has said once that it is not there.
    async fn withdraw_later(self: Arc<Self>, mut record: Encoded, mut gone: bool) {
        record.bytes = Vec::new();
        let shutdown = self.shutdown.clone();
        let withdrawing = shutdown.run_until_cancelled(async {
            let node = self.node(record.id.partition());
            while !gone {
                match self.withdraw(&node.settles, &record, true).await {
                    Ok(Withdrawn::Gone) => gone = true,
                    Ok(Withdrawn::Over | Withdrawn::Leased) => return,
                    Err(_) => sleep(PAUSE).await,
                }
            }
            // Many messages ask the replicas together, and nobody waits behind them.
            let Some(lane) = &node.withdrawals else { return };
            loop {
                match self.withdraw(lane, &record, true).await {
                    Ok(found) => {
                        // A replica that has taken over may not have heard of it, and a worker have been faster.
                        gone = matches!(found, Withdrawn::Gone);
                        return;
                    }
                    Err(_) => sleep(PAUSE).await,
                }
            }
        });
        withdrawing.await;
        if gone {
            tracing::info!(qid = %record.id, "refused message withdrawn");
        } else {
            tracing::error!(qid = %record.id, "refused message could not be withdrawn: possible duplicate");
            metrics::withdraw_failed().increment(1);
        }
    }

    /// With `leased`, a message that workers have ends with their attempts; without, nothing is done to it. `lane` says who must
    /// have heard of it.
    async fn withdraw(&self, lane: &Lane, record: &Encoded, leased: bool) -> Result<Withdrawn, Fault> {
        let answer = lane.call(self.abort_call(&record.into(), leased, ""), 256).await?;
        match value::str(&answer) {
            Some("DONE") => Ok(Withdrawn::Over),
            Some("GONE" | "REMOVED") => Ok(Withdrawn::Gone),
            Some("LEASED") => Ok(Withdrawn::Leased),
            _ => Err(unexpected("abort", &answer)),
        }
    }
}

enum Withdrawn {
    /// It had been accepted, and is over.
    Over,
    /// A worker is delivering it.
    Leased,
    /// It is not there and will not come.
    Gone,
}
