//! What all clones of a [`crate::Queue`] share: the nodes, which partition is on which, names of keys.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Pipeline, Value};
use staffetta_mail::QueueId;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::cluster::MOST;
use crate::error::Fault;
use crate::format::NEWEST;
use crate::node::{Ground, Node};
use crate::partition::{Partition, REGISTRY_SLOT};
use crate::partitions::{Count, Partitions, Share};
use crate::readers::{Formats, Word};
use crate::resting::Resting;
use crate::shelf::Shelf;
use crate::slot::Table;
use crate::spool::Spool;
use crate::{Compression, Error, Health, Settings, UnixMillis};

/// How long the outcome of an enqueue is pursued. Well below the patience of clients, and below the minute after which the
/// script refuses an old record.
const PATIENCE: Duration = Duration::from_secs(20);
/// Far above the patience, so that what is about to be queued does not go away; short, so that what a dead process leaves
/// behind does not take room for long.
const CHUNK_LIFE: Duration = Duration::from_secs(120);

/// What one process brings along; tests pretend.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    /// The newest format that it reads.
    pub(crate) reads: u8,
    /// Its own clock, which may be wrong.
    pub(crate) wall: fn() -> UnixMillis,
    /// How long the outcome of an enqueue is pursued.
    pub(crate) patience: Duration,
    /// How long a piece of a body lives without its message, unless it is refreshed.
    pub(crate) chunk_life: Duration,
}

impl Process {
    /// This one.
    pub(crate) const TODAY: Self =
        Self { reads: NEWEST, wall: crate::clock::wall, patience: PATIENCE, chunk_life: CHUNK_LIFE };
}

/// The inside of a queue.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    partitions: Arc<Partitions>,
    pub(crate) count: Arc<Count>,
    /// By their numbers; the first one is always there.
    nodes: Box<[OnceLock<Arc<Node>>]>,
    /// Which slot is at which node.
    pub(crate) table: Arc<Table>,
    ground: Ground,
    /// Partitions that new mail passes by for a moment.
    pub(crate) resting: Arc<Resting>,
    next_partition: AtomicU32,
    unique: AtomicU32,
    /// Where bodies lie that are too large for Redis.
    pub(crate) spool: Option<Arc<Spool>>,
    /// Records that the next jobs will want again.
    pub(crate) shelf: Shelf,
    /// The newest format that this process reads.
    pub(crate) reads: u8,
    /// How long the outcome of an enqueue is pursued.
    pub(crate) patience: Duration,
    /// How long a piece of a body lives without its message, unless it is refreshed.
    pub(crate) chunk_life: Duration,
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
        let address = Address::parse(&settings)?;
        let settings = Arc::new(settings);
        let cluster = address.cluster().cloned();
        let ground = Ground {
            settings: settings.clone(),
            address,
            registry: Arc::default(),
            formats: Arc::new(Formats::new(process.reads)),
            wall: process.wall,
            shutdown: shutdown.clone(),
        };
        let (nodes, table) = match cluster {
            None => (1, Table::of_one()),
            Some(_) => (MOST, Table::of_many()),
        };
        let shared = Arc::new(Self {
            spool: Spool::open(&settings)?,
            partitions: Arc::new(Partitions::new()),
            count: Arc::new(Count::new(settings.partitions)),
            settings,
            nodes: (0..nodes).map(|_| OnceLock::new()).collect(),
            table: Arc::new(table),
            ground,
            resting: Arc::default(),
            next_partition: AtomicU32::new(rand::random()),
            unique: AtomicU32::new(rand::random()),
            shelf: Shelf::default(),
            reads: process.reads,
            patience: process.patience,
            chunk_life: process.chunk_life,
            shutdown: shutdown.clone(),
        });
        shared.begin_node(0);
        let end = shutdown.clone();
        match shared.spool.clone() {
            Some(spool) => {
                let watching = shared.clone().watch_store(spool);
                tokio::spawn(async move { end.run_until_cancelled(watching).await });
            }
            None => {
                let missing = shared.clone().miss_store();
                tokio::spawn(async move { end.run_until_cancelled(missing).await });
            }
        }
        if let Some(cluster) = cluster {
            let following = shared.clone().follow(cluster);
            tokio::spawn(async move { shutdown.run_until_cancelled(following).await });
        }
        Ok(shared)
    }

    /// The names of a partition's keys. In one that does not exist (an id of another queue) nothing will be found.
    pub(crate) fn partition(&self, number: u16) -> &Partition {
        self.partitions.get(number)
    }

    /// All that may have mail.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        (0..self.count.known()).map(|number| self.partition(number))
    }

    /// The server that has this partition.
    pub(crate) fn node(&self, partition: u16) -> &Node {
        self.node_of(self.partition(partition))
    }

    pub(crate) fn node_of(&self, partition: &Partition) -> &Node {
        self.node_at(partition.slot)
    }

    /// The server that has this slot.
    pub(crate) fn node_at(&self, slot: u16) -> &Node {
        self.begin_node(self.table.node(slot))
    }

    /// All that have slots.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter_map(OnceLock::get).filter(|node| node.serves())
    }

    pub(crate) fn known_node(&self, number: u16) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(number))?.get()
    }

    /// Starts it, unless it was.
    pub(crate) fn begin_node(&self, number: u16) -> &Arc<Node> {
        let place = self.nodes.get(usize::from(number)).unwrap_or(&self.nodes[0]);
        place.get_or_init(|| {
            let share = Share::new(self.partitions.clone(), self.count.clone(), self.table.clone(), number);
            Node::start(&self.ground, share.noting(self.resting.clone()))
        })
    }

    /// Can all servers be used?
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes().all(|node| node.admin.trouble().is_none() && !matches!(node.health(), Health::Down(_)))
    }

    /// See [`crate::Queue::away`].
    pub(crate) fn away(&self) -> Vec<(u16, Arc<str>)> {
        let trouble = |partition: &Partition| Some((partition.number, self.node_of(partition).admin.trouble()?));
        self.partitions().filter_map(trouble).collect()
    }

    /// Those whose servers can be asked; all, if none can.
    pub(crate) fn within_reach(&self) -> Vec<&Partition> {
        let there = |partition: &&Partition| self.node_of(partition).admin.trouble().is_none();
        let there: Vec<&Partition> = self.partitions().filter(there).collect();
        if there.is_empty() { self.partitions().collect() } else { there }
    }

    /// Where the registry is.
    pub(crate) fn home(&self) -> &Node {
        self.node_at(*REGISTRY_SLOT)
    }

    pub(crate) fn formats(&self) -> &Formats {
        &self.ground.formats
    }

    /// May pieces of bodies be packed?
    pub(crate) async fn packs(&self) -> bool {
        self.settings.compression == Compression::Zstd && self.formats().all_say(Word::Zstd).await
    }

    /// Where Redis is; for connections of one's own.
    pub(crate) fn address(&self) -> &Address {
        &self.ground.address
    }

    /// A new id in the next partition, in turn, that takes mail now.
    pub(crate) fn new_id(&self) -> QueueId {
        let mut partition = self.next_in_turn();
        if self.table.is_of_many() {
            let tries = (0..self.settings.partitions).map(|_| self.next_in_turn());
            let mut turns = std::iter::once(partition).chain(tries);
            let takes = |number| self.node(number).health() == Health::Ready && !self.resting.is(number);
            partition = turns.find(|&number| takes(number)).unwrap_or(partition);
        }
        self.new_id_in(partition)
    }

    fn next_in_turn(&self) -> u16 {
        let partition = self.next_partition.fetch_add(1, Ordering::Relaxed) % u32::from(self.settings.partitions);
        u16::try_from(partition).unwrap_or(0)
    }

    /// A new id in this partition. Unique in this process; a clash with another process is noticed by the enqueue.
    pub(crate) fn new_id_in(&self, partition: u16) -> QueueId {
        QueueId::new(partition, self.node(partition).clock.now(), self.unique.fetch_add(1, Ordering::Relaxed))
    }

    /// Octets used at the last look, and the limits, of all nodes.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let all = self.nodes().map(|node| node.memory());
        all.fold((0, 0), |(used, limit), memory| (used + memory.used, limit + memory.limit))
    }

    /// Octets used at the last look, and up to where new mail is taken, of all nodes.
    pub(crate) fn marks(&self) -> (u64, u64) {
        let all = self.nodes().map(|node| node.memory());
        let ratio = self.settings.max_memory_ratio;
        all.fold((0, 0), |(used, mark), memory| (used + memory.used, mark + memory.mark(ratio)))
    }

    /// That of the best node: new mail goes there.
    pub(crate) fn health(&self) -> Health {
        let mut best = self.home().health();
        for node in self.nodes() {
            match (&best, node.health()) {
                (Health::Ready, _) => break,
                (_, Health::Ready) => best = Health::Ready,
                (Health::Down(_), Health::Full) => best = Health::Full,
                _ => {}
            }
        }
        best
    }

    /// Read-only commands on the operators' connections; the first failure is the failure of all.
    pub(crate) async fn ask_all(&self, requests: &Requests<'_>) -> Result<Vec<Value>, Error> {
        Ok(self.ask_each(requests).await?.into_iter().collect::<Result<_, _>>()?)
    }

    /// An answer for each command. A server that does not answer is the failure of all.
    pub(crate) async fn ask_each(&self, requests: &Requests<'_>) -> Result<Vec<Result<Value, Fault>>, Fault> {
        if let [(number, pipeline)] = &requests.pipelines[..] {
            return self.begin_node(*number).admin.send(pipeline).await;
        }
        let asked = requests.pipelines.iter().map(|(number, pipeline)| self.begin_node(*number).admin.send(pipeline));
        let answers = futures_util::future::try_join_all(asked).await?;
        let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
        Ok(requests.order.iter().map(|&index| answers[index].next().unwrap_or(Ok(Value::Nil))).collect())
    }
}

/// Commands for several partitions: one pipeline for each node, the answers in the order of the commands.
pub(crate) struct Requests<'a> {
    shared: &'a Shared,
    /// With the numbers of their nodes.
    pipelines: Vec<(u16, Pipeline)>,
    /// For each command, which pipeline it is in.
    order: Vec<usize>,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, pipelines: Vec::new(), order: Vec::new() }
    }

    /// Begins a command to the node of this partition; call it once for each command.
    pub(crate) fn to(&mut self, partition: u16) -> &mut Pipeline {
        self.at(self.shared.partition(partition).slot)
    }

    /// The same of this slot.
    pub(crate) fn at(&mut self, slot: u16) -> &mut Pipeline {
        let node = self.shared.table.node(slot);
        let index = self.pipelines.iter().position(|(number, _)| *number == node).unwrap_or_else(|| {
            self.pipelines.push((node, Pipeline::new()));
            self.pipelines.len() - 1
        });
        self.order.push(index);
        &mut self.pipelines[index].1
    }
}
