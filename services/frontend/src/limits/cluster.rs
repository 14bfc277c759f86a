//! `connections_per_client` over all pods.
//!
//! Redis knows what each pod has of a client with more than one connection. It is asked when a connection does not fit
//! into what was granted before, and for a tenth of a second at most: without an answer this pod's own count is all there
//! is. The places of a client that has left are given up within two seconds.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use staffetta_policy::client::network;
use staffetta_queue::{Headcount, Heads, Queue};

use super::clients::Standing;
use super::{Full, Guest, Limits, Slot};
use crate::metrics;

/// How often places are given up, and asked for again that were not there.
const TURN: Duration = Duration::from_secs(1);

/// The other pods.
pub(crate) struct Cluster {
    headcount: Headcount,
    /// It did not answer in this turn; nobody waits for it before the next.
    silent: AtomicBool,
    unavailable: Counter,
}

impl Cluster {
    pub(crate) fn new(queue: &Queue) -> Self {
        Self {
            headcount: queue.headcount(),
            silent: AtomicBool::new(false),
            unavailable: metrics::rate_limit_unavailable("connection"),
        }
    }

    /// What it grants; `None`: it does not say.
    async fn claim(&self, heads: &Heads, limit: u32) -> Option<u32> {
        if self.silent.load(Ordering::Relaxed) {
            self.unavailable.increment(1);
            return None;
        }
        match self.headcount.claim(heads, limit).await {
            Ok(granted) => Some(granted),
            Err(error) => {
                self.silent.store(true, Ordering::Relaxed);
                self.unavailable.increment(1);
                tracing::debug!(%error, "connections of a client are counted by this pod alone now");
                None
            }
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("silent", &self.silent).finish_non_exhaustive()
    }
}

impl Limits {
    /// Tells the other pods of places that are given up, and again of those that are not.
    pub(crate) async fn share(self: Arc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            tokio::time::sleep(TURN).await;
            cluster.silent.store(false, Ordering::Relaxed);
            let news = self.open().clients.news(Instant::now());
            if news.is_empty() {
                continue;
            }
            let told: Vec<Heads> = news.iter().map(|(_, heads)| heads.clone()).collect();
            match cluster.headcount.tell(&told).await {
                Ok(()) => self.open().clients.heard(news, Instant::now()),
                Err(error) => tracing::debug!(%error, "the other pods were not told of connections"),
            }
        }
    }

    async fn is_granted(&self, cluster: &Cluster, client: IpAddr) -> bool {
        let (standing, limit) = {
            let mut open = self.open();
            (open.clients.standing(client), open.caps.per_client)
        };
        match standing {
            Standing::Granted => true,
            Standing::Refused => false,
            Standing::Wanted(heads) => match cluster.claim(&heads, limit).await {
                Some(granted) => self.open().clients.granted(client, &heads, granted, Instant::now()),
                None => true,
            },
        }
    }
}

impl Slot {
    /// Has the client a place in the cluster, too? Whoever has none has no more of this one than one who just came.
    pub(crate) async fn confirm(&mut self) -> Result<(), Full> {
        let (Guest::Stranger(ip), Some(cluster)) = (self.guest, &self.limits.cluster) else { return Ok(()) };
        if self.limits.is_granted(cluster, network(ip)).await {
            return Ok(());
        }
        self.release(&mut self.limits.open());
        self.guest = Guest::Trusted;
        Err(Full::Client)
    }
}
