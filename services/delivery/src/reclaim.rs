//! Takes jobs back whose worker has gone silent, shows the state of the queue, writes down what operators have done.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use staffetta_queue::{Act, Health, Object};
use staffetta_telemetry::maillog;
use tokio_util::sync::CancellationToken;

use crate::metrics::record;
use crate::worker::Worker;

/// Each partition is looked at this often, so a dead worker's jobs are free within lease + 5 s.
const PERIOD: Duration = Duration::from_secs(5);
/// Shortest pause between two partitions.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs until the token is cancelled.
pub(crate) async fn watch(worker: Arc<Worker>, end: CancellationToken) {
    let rounds = async {
        loop {
            gauges(&worker).await;
            round(&worker).await;
        }
    };
    end.run_until_cancelled(rounds).await;
}

/// All partitions once, spread over the period.
async fn round(worker: &Worker) {
    let partitions = worker.queue.partitions();
    for partition in 0..partitions {
        tokio::time::sleep(pause(partitions)).await;
        match worker.queue.reclaim(partition).await {
            Ok(0) => {}
            Ok(count) => {
                worker.metrics.leases_expired.increment(count);
                tracing::info!(partition, count, "took over jobs of a worker that went silent");
            }
            Err(error) => tracing::debug!(partition, %error, "failed to look for expired leases"),
        }
        match worker.queue.acts(partition).await {
            Ok(acts) => acts.iter().for_each(log),
            Err(error) => tracing::debug!(partition, %error, "failed to look for what operators have done"),
        }
    }
}

/// Operators' tools have no log that anybody keeps: workers write theirs.
fn log(act: &Act) {
    let (verb, by) = (&*act.verb, &*act.by);
    match &act.object {
        Object::Mail { id: qid, ended, recipients } => {
            for to in recipients {
                maillog::administered(&maillog::Administered { qid: *qid, to, verb, by });
            }
            if *ended {
                maillog::removed(&maillog::Removed { qid: *qid });
            }
        }
        Object::Selection { selection, deliveries } => {
            maillog::moved(&maillog::Moved { selection, deliveries: *deliveries, verb, by });
        }
        Object::Target { target, reason } => {
            let (kind, name) = (target.kind(), &*target.name());
            maillog::barred(&maillog::Barred { kind, name, verb, by, reason });
        }
    }
}

/// An even share of nine tenths of the period, with jitter so that workers do not march in step.
fn pause(partitions: u16) -> Duration {
    let share = PERIOD.mul_f64(0.9 / f64::from(partitions.max(1)));
    share.mul_f64(rand::rng().random_range(0.8..1.0)).max(PAUSE)
}

async fn gauges(worker: &Worker) {
    match worker.queue.counts().await {
        Ok(counts) => {
            worker.metrics.queue(&counts, worker.queue.health() == Health::Full);
            if let Ok(took) = worker.queue.round_trip().await {
                record(&worker.metrics.round_trip, took);
            }
        }
        Err(error) => {
            tracing::debug!(%error, "failed to count the queue");
            worker.metrics.queue_unknown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_fits_into_the_period() {
        for partitions in [1, 16, 64] {
            let all = pause(partitions) * u32::from(partitions);
            assert!(all <= PERIOD && all > PERIOD / 2, "{partitions}: {all:?}");
        }
    }
}
