//! Wake-ups: whoever queues mail in a partition that had nothing due says so, and workers need not ask so often.
//!
//! By Redis' PUBLISH in the script of the enqueue, so it costs no round trip and comes after the fact. It is a hint and no
//! more: one that is lost, or forbidden by an ACL, costs the time until the next poll.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use staffetta_mail::QueueId;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::slot::SLOTS;

/// What all channels are called.
const PATTERN: &str = "{kq:*}wake";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After a failure; polling does meanwhile.
const BACK_OFF: Duration = Duration::from_secs(2);
/// A connection without a word for so long is made anew: nothing else tells whether it lives.
const SILENCE: Duration = Duration::from_secs(60);

/// What a worker waits for besides its time. Cheap to clone.
#[derive(Clone)]
pub struct Wakes(Arc<[Notify]>);

impl Wakes {
    /// See [`crate::Queue::wakes`].
    pub(crate) fn listen(address: Address, shutdown: CancellationToken) -> Self {
        let wakes = Self((0..QueueId::MAX_PARTITIONS).map(|_| Notify::new()).collect());
        let told = wakes.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(told.follow(&address)).await });
        wakes
    }

    /// Mail has come into this partition since the last time.
    pub async fn of(&self, partition: u16) {
        match self.0.get(usize::from(partition)) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    async fn follow(&self, address: &Address) {
        loop {
            let Err(reason) = self.hear(address).await;
            tracing::debug!(%reason, "no wake-ups from Redis");
            sleep(BACK_OFF).await;
        }
    }

    async fn hear(&self, address: &Address) -> Result<std::convert::Infallible, String> {
        let connected = timeout(CONNECT_TIMEOUT, async {
            // In a cluster each server hears what is said at any.
            let client = address.of_slot(rand::random_range(0..SLOTS)).primary().await?;
            let mut connection = client.get_async_pubsub().await.map_err(|error| error.to_string())?;
            connection.psubscribe(PATTERN).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(connection)
        });
        let mut messages = connected.await.map_err(|_| "no answer in time")??.into_on_message();
        loop {
            let message =
                timeout(SILENCE, messages.next()).await.map_err(|_| "silence")?.ok_or("the connection ended")?;
            if let Some(notify) = partition(message.get_channel_name()).and_then(|number| self.0.get(number)) {
                notify.notify_one();
            }
        }
    }
}

/// Which partition a channel is about: `{kq:<p>.<i>}wake`.
fn partition(channel: &str) -> Option<usize> {
    channel.strip_prefix("{kq:")?.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partition;

    #[test]
    fn a_channel_names_its_partition() {
        for number in [0, 7, 1023] {
            assert_eq!(partition(&Partition::new(number).wake), Some(usize::from(number)));
        }
        assert_eq!(partition("{kq:x.1}wake"), None);
        assert_eq!(partition("other"), None);
    }
}
