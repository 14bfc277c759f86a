//! One server with its share of the partitions: connections by role, its clock, its check, its health. In a cluster it is a
//! shard: whichever server is its primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::clock::Clock;
use crate::commit::Lane;
use crate::connection::{Dialler, Link};
use crate::error::{Fault, Trouble};
use crate::gate::Memory;
use crate::partitions::Share;
use crate::pulse::Pulse;
use crate::readers::Formats;
use crate::registry::Registry;
use crate::server_check::{Need, ServerCheck};
use crate::{EnqueueError, Health, Settings, UnixMillis};

/// Connections that enqueue. Redis reads 16 KiB from a connection between two syncs of its append-only file, three
/// usual messages: one connection with large batches needs far more syncs than some with small ones.
const ENQUEUE_LANES: usize = 8;
/// How often the gate, the clock and the memory are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A server.
pub(crate) struct Node {
    settings: Arc<Settings>,
    pub(crate) clock: Arc<Clock>,
    /// Which formats the readers of the queue know.
    pub(crate) formats: Arc<Formats>,
    pub(crate) partitions: Share,
    dialler: Arc<Dialler>,
    enqueue: Vec<Lane>,
    /// Offers and claims, which are groups already.
    pub(crate) claims: Link,
    /// Everything that ends or extends a lease, and withdrawals.
    pub(crate) settles: Lane,
    /// Withdrawals that replicas have to hear of, too; `None`: nobody asks for them.
    pub(crate) withdrawals: Option<Lane>,
    /// Chunks of bodies.
    pub(crate) bodies: Link,
    /// Operators' commands, metrics and checks.
    pub(crate) admin: Link,
    /// Why a server that was good no longer is.
    degraded: watch::Sender<Option<Arc<str>>>,
    /// Has it any slots?
    serves: AtomicBool,
}

/// What all nodes of a queue begin with.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) settings: Arc<Settings>,
    /// Where Redis is.
    pub(crate) address: Address,
    pub(crate) registry: Arc<Registry>,
    pub(crate) formats: Arc<Formats>,
    pub(crate) wall: fn() -> UnixMillis,
    pub(crate) shutdown: CancellationToken,
}

impl Node {
    /// Starts its connections, and its checks, which go on until the shutdown.
    pub(crate) fn start(ground: &Ground, partitions: Share) -> Arc<Self> {
        let Ground { settings, address, registry, formats, wall, shutdown } = ground;
        let clock = Arc::new(Clock::new(wall()));
        let cluster = address.cluster().cloned();
        let check = ServerCheck::new(settings.clone(), partitions.clone(), clock.clone(), registry.clone(), cluster);
        let dialler = Arc::new(Dialler::new(address.of_shard(partitions.node()), check));
        let link = |need| Link::start(dialler.clone(), need, shutdown.clone());
        let lane = |need, replicas| Lane::start(link(need), replicas, shutdown.clone());
        let node = Arc::new(Self {
            enqueue: (0..ENQUEUE_LANES).map(|_| lane(Need::Durable, settings.wait_for())).collect(),
            claims: link(Need::Durable),
            settles: lane(Need::Ours, None),
            withdrawals: settings.wait_for().map(|replicas| lane(Need::Ours, Some(replicas))),
            bodies: link(Need::Durable),
            admin: link(Need::Ours),
            degraded: watch::Sender::new(None),
            serves: AtomicBool::new(true),
            formats: formats.clone(),
            settings: settings.clone(),
            clock,
            partitions,
            dialler,
        });
        let (watched, end) = (node.clone(), shutdown.clone());
        tokio::spawn(async move { end.run_until_cancelled(watched.watch()).await });
        let (readers, end) = (node.clone(), shutdown.clone());
        tokio::spawn(async move { end.run_until_cancelled(readers.watch_readers()).await });
        node
    }

    /// Has it any slots, as far as is known? Else nothing is asked of it.
    pub(crate) fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    pub(crate) fn set_serving(&self, serves: bool) {
        self.serves.store(serves, Ordering::Relaxed);
    }

    /// Another server has its slots now: all connections are made anew, and lead there.
    pub(crate) fn renew_connections(&self) {
        let links = [&self.claims, &self.bodies, &self.admin];
        let lanes = self.enqueue.iter().chain([&self.settles]).chain(&self.withdrawals);
        links.into_iter().chain(lanes.map(Lane::link)).for_each(Link::renew);
    }

    /// The connected enqueue lane with the least to do, or why there is none.
    pub(crate) fn enqueue_lane(&self) -> Result<&Lane, Fault> {
        let connected = self.enqueue.iter().filter(|lane| lane.link().trouble().is_none());
        match connected.min_by_key(|lane| lane.pending()) {
            Some(lane) => Ok(lane),
            None => Err(Fault::Refused(self.enqueue[0].link().trouble().unwrap_or_default().to_string())),
        }
    }

    /// Whether it has answered all along: offers, claims, and the checks of each second.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.dialler.check.pulse
    }

    /// At the last look.
    pub(crate) fn memory(&self) -> Memory {
        self.dialler.check.memory()
    }

    pub(crate) fn health(&self) -> Health {
        if let Some(reason) = self.degraded.borrow().clone() {
            return Health::Down(reason);
        }
        let links = [&self.claims, self.settles.link(), &self.bodies];
        if let Some(reason) = links.into_iter().find_map(Link::trouble) {
            return Health::Down(reason);
        }
        if let Err(fault) = self.enqueue_lane() {
            return Health::Down(fault.to_string().into());
        }
        if self.memory().is_full(self.settings.max_memory_ratio) { Health::Full } else { Health::Ready }
    }

    /// The health gate in front of every new message.
    pub(crate) fn may_enqueue(&self) -> Result<(), EnqueueError> {
        may_enqueue(self.health())
    }

    /// Repeats the checks as long as the process lives.
    async fn watch(&self) {
        let mut witness = self.dialler.witness();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let Ok(live) = self.admin.live() else { continue };
            let verdict = self.dialler.check.again(&live, Need::Durable).await;
            // A connection that died during the check says nothing about the server; its link knows. What was wrong is wrong still.
            let is_answered = !live.is_unanswered() && self.admin.trouble().is_none();
            if !is_answered {
                continue;
            }
            let reason = verdict.err();
            match &reason {
                Some(reason) => witness.lost(&Trouble::Wrong(reason.clone())),
                None => witness.found(),
            }
            if reason.as_deref() != self.degraded.borrow().as_deref() {
                self.degraded.send_replace(reason.map(Into::into));
            }
        }
    }
}

/// What a health means for a new message.
pub(crate) fn may_enqueue(health: Health) -> Result<(), EnqueueError> {
    match health {
        Health::Ready => Ok(()),
        Health::Full => Err(EnqueueError::Full),
        Health::Down(reason) => Err(EnqueueError::Unavailable(reason.to_string())),
    }
}
