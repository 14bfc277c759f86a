//! Moves bodies of mail that waits from the memory of Redis to the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;

/// Pause between two rounds, at least; twice that at most.
const PAUSE: Duration = Duration::from_secs(5);
/// Partitions at a time, each with a piece of a body in hand.
const AT_A_TIME: usize = 4;

/// Runs until the token is cancelled. What is cut off is cleared up by another worker.
pub(crate) async fn watch(worker: Arc<Worker>, end: CancellationToken) {
    let rounds = async {
        loop {
            let pause = PAUSE.mul_f64(rand::rng().random_range(1.0..2.0));
            tokio::time::sleep(pause).await;
            let partitions = futures_util::stream::iter(0..worker.queue.partitions());
            partitions.for_each_concurrent(AT_A_TIME, |partition| offload(&worker, partition)).await;
        }
    };
    end.run_until_cancelled(rounds).await;
}

async fn offload(worker: &Worker, partition: u16) {
    match worker.queue.offload(partition).await {
        Ok(0) => {}
        Ok(count) => {
            worker.metrics.offloaded.increment(count);
            tracing::info!(partition, count, "moved bodies of waiting mail to the store");
        }
        Err(error) => tracing::debug!(partition, %error, "bodies of waiting mail stay in Redis until the next look"),
    }
}
