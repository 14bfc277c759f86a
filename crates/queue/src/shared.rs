//! What all clones of a [`crate::Queue`] share: connections by role, names of keys, the clock, the health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use staffetta_mail::QueueId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::commit::Lane;
use crate::connection::{Dialler, Link};
use crate::error::Fault;
use crate::format::NEWEST;
use crate::partition::Partition;
use crate::readers::Formats;
use crate::server_check::ServerCheck;
use crate::{Error, Health, Settings, UnixMillis};

/// Connections that enqueue. Redis reads 16 KiB from a connection between two syncs of its append-only file, three
/// usual messages: one connection with large batches needs far more syncs than some with small ones.
const ENQUEUE_LANES: usize = 8;
/// How often the gate, the clock and the memory are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What one process brings along; tests pretend.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    /// The newest format that it reads.
    pub(crate) reads: u8,
    /// Its own clock, which may be wrong.
    pub(crate) wall: fn() -> UnixMillis,
}

impl Process {
    /// This one.
    pub(crate) const TODAY: Self = Self { reads: NEWEST, wall: crate::clock::wall };
}

/// The inside of a queue.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<Clock>,
    partitions: Arc<[Partition]>,
    dialler: Arc<Dialler>,
    enqueue: Vec<Lane>,
    /// Offers and claims, which are groups already.
    pub(crate) claims: Link,
    /// Everything that ends or extends a lease.
    pub(crate) settles: Lane,
    /// Chunks of bodies.
    pub(crate) bodies: Link,
    /// Operators' commands, metrics and checks.
    pub(crate) admin: Link,
    /// Why a server that was good no longer is.
    degraded: watch::Sender<Option<Arc<str>>>,
    next_partition: AtomicU32,
    unique: AtomicU32,
    pub(crate) formats: Formats,
    pub(crate) shutdown: CancellationToken,
}

impl Shared {
    pub(crate) fn open(settings: Settings, shutdown: CancellationToken) -> Result<Arc<Self>, Error> {
        Self::open_as(settings, shutdown, Process::TODAY)
    }

    /// As a program of another day, or with another clock.
    pub(crate) fn open_as(
        settings: Settings,
        shutdown: CancellationToken,
        process: Process,
    ) -> Result<Arc<Self>, Error> {
        settings.check()?;
        let settings = Arc::new(settings);
        let partitions: Arc<[Partition]> = (0..settings.partitions).map(Partition::new).collect();
        let clock = Arc::new(Clock::new((process.wall)()));
        let check = ServerCheck::new(settings.clone(), partitions.clone(), clock.clone());
        let dialler = Arc::new(Dialler::new(&settings, check)?);
        let link = || Link::start(dialler.clone(), shutdown.clone());
        let lane = |replicas| Lane::start(link(), replicas, shutdown.clone());
        let shared = Arc::new(Self {
            enqueue: (0..ENQUEUE_LANES).map(|_| lane(settings.wait_for())).collect(),
            claims: link(),
            settles: lane(None),
            bodies: link(),
            admin: link(),
            degraded: watch::Sender::new(None),
            next_partition: AtomicU32::new(rand::random()),
            unique: AtomicU32::new(rand::random()),
            formats: Formats::new(process.reads),
            settings,
            clock,
            partitions,
            dialler,
            shutdown,
        });
        let watched = shared.clone();
        tokio::spawn(async move { watched.shutdown.clone().run_until_cancelled(watched.watch()).await });
        let readers = shared.clone();
        tokio::spawn(async move { readers.shutdown.clone().run_until_cancelled(readers.watch_readers()).await });
        Ok(shared)
    }

    /// The names of a partition's keys. A number that does not exist (an id of another queue) means the first one, where
    /// nothing will be found.
    pub(crate) fn partition(&self, number: u16) -> &Partition {
        self.partitions.get(usize::from(number)).unwrap_or(&self.partitions[0])
    }

    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// A new id in the next partition, in turn.
    pub(crate) fn new_id(&self) -> QueueId {
        let partition = self.next_partition.fetch_add(1, Ordering::Relaxed) % u32::from(self.settings.partitions);
        self.new_id_in(u16::try_from(partition).unwrap_or(0))
    }

    /// A new id in this partition. Unique in this process; a clash with another process is noticed by the enqueue.
    pub(crate) fn new_id_in(&self, partition: u16) -> QueueId {
        QueueId::new(partition, self.clock.now(), self.unique.fetch_add(1, Ordering::Relaxed))
    }

    /// The connected enqueue lane with the least to do, or why there is none.
    pub(crate) fn enqueue_lane(&self) -> Result<&Lane, Fault> {
        let connected = self.enqueue.iter().filter(|lane| lane.link().trouble().is_none());
        match connected.min_by_key(|lane| lane.pending()) {
            Some(lane) => Ok(lane),
            None => Err(Fault::Refused(self.enqueue[0].link().trouble().unwrap_or_default().to_string())),
        }
    }

    /// Octets used by Redis at the last look, and its limit.
    pub(crate) fn memory(&self) -> (u64, u64) {
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
        let (used, limit) = self.memory();
        #[expect(clippy::cast_precision_loss, reason = "a share of memory")]
        let full = limit > 0 && used as f64 > limit as f64 * self.settings.max_memory_ratio;
        if full { Health::Full } else { Health::Ready }
    }

    /// Repeats the checks as long as the process lives.
    async fn watch(&self) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let Ok(live) = self.admin.live() else { continue };
            let verdict = self.dialler.check.again(&live).await;
            // A connection that died during the check says nothing about the server; its link knows.
            let reason = verdict.err().filter(|_| self.admin.trouble().is_none());
            if reason.as_deref() != self.degraded.borrow().as_deref() {
                match &reason {
                    Some(reason) => tracing::error!(%reason, "Redis must not be used any longer"),
                    None => tracing::info!("Redis is fit for use again"),
                }
                self.degraded.send_replace(reason.map(Into::into));
            }
        }
    }
}
