//! What all clones of a [`crate::Queue`] share: the nodes, which partition is on which, names of keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Pipeline, Value};
use staffetta_mail::QueueId;
use tokio_util::sync::CancellationToken;

use crate::format::NEWEST;
use crate::node::Node;
use crate::partition::Partition;
use crate::partitions::{Partitions, Share};
use crate::shelf::Shelf;
use crate::{Error, Health, Settings, UnixMillis};

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
    /// Never empty.
    nodes: Vec<Arc<Node>>,
    /// For each partition, the index of its node.
    places: Vec<usize>,
    next_partition: AtomicU32,
    unique: AtomicU32,
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
        let urls = [settings.url.clone()];
        Self::open_on(settings, &urls, shutdown, process)
    }

    /// On these servers, each with an equal share of the partitions.
    pub(crate) fn open_on(
        settings: Settings,
        urls: &[String],
        shutdown: CancellationToken,
        process: Process,
    ) -> Result<Arc<Self>, Error> {
        settings.check()?;
        let count = usize::from(settings.partitions);
        let partitions = Arc::new(Partitions::new());
        let places: Vec<usize> = (0..count).map(|number| number * urls.len() / count).collect();
        let mut nodes = Vec::with_capacity(urls.len());
        let mut first = 0;
        for (index, url) in urls.iter().enumerate() {
            let own = places.iter().filter(|place| **place == index).count();
            let own = u16::try_from(own).unwrap_or(u16::MAX);
            let share = Share::new(partitions.clone(), first, own);
            let settings = Arc::new(Settings { url: url.clone(), ..settings.clone() });
            nodes.push(Node::start(&settings, share, process, &shutdown)?);
            first += own;
        }
        Ok(Arc::new(Self {
            settings: Arc::new(settings),
            partitions,
            nodes,
            places,
            next_partition: AtomicU32::new(rand::random()),
            unique: AtomicU32::new(rand::random()),
            shelf: Shelf::default(),
            reads: process.reads,
            patience: process.patience,
            chunk_life: process.chunk_life,
            shutdown,
        }))
    }

    /// The names of a partition's keys. In one that does not exist (an id of another queue) nothing will be found.
    pub(crate) fn partition(&self, number: u16) -> &Partition {
        self.partitions.get(number)
    }

    /// All that may have mail.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.nodes.iter().flat_map(|node| node.partitions.iter())
    }

    /// The server that has this partition.
    pub(crate) fn node(&self, partition: u16) -> &Node {
        &self.nodes[self.places.get(usize::from(partition)).copied().unwrap_or(0)]
    }

    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Where that is which belongs to no partition: the registry, limits.
    pub(crate) fn home(&self) -> &Node {
        &self.nodes[0]
    }

    /// A new id in the next partition, in turn, that takes mail now.
    pub(crate) fn new_id(&self) -> QueueId {
        let mut partition = self.next_in_turn();
        if self.nodes.len() > 1 {
            let tries = (0..self.settings.partitions).map(|_| self.next_in_turn());
            let mut turns = std::iter::once(partition).chain(tries);
            partition = turns.find(|&number| self.node(number).health() == Health::Ready).unwrap_or(partition);
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
        let all = self.nodes.iter().map(|node| node.memory());
        all.fold((0, 0), |(used, limit), memory| (used + memory.used, limit + memory.limit))
    }

    /// Octets used at the last look, and up to where new mail is taken, of all nodes.
    pub(crate) fn marks(&self) -> (u64, u64) {
        let all = self.nodes.iter().map(|node| node.memory());
        let ratio = self.settings.max_memory_ratio;
        all.fold((0, 0), |(used, mark), memory| (used + memory.used, mark + memory.mark(ratio)))
    }

    /// That of the best node: new mail goes there.
    pub(crate) fn health(&self) -> Health {
        let mut best = self.nodes[0].health();
        for node in &self.nodes[1..] {
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
        let asked = requests.pipelines.iter().zip(&self.nodes).map(|(pipeline, node)| async move {
            match pipeline.is_empty() {
                true => Ok(Vec::new()),
                false => node.admin.send(pipeline).await,
            }
        });
        let mut answers: Vec<_> =
            futures_util::future::try_join_all(asked).await?.into_iter().map(Vec::into_iter).collect();
        let in_order = requests.order.iter().map(|&node| answers[node].next().unwrap_or(Ok(Value::Nil)));
        Ok(in_order.collect::<Result<_, _>>()?)
    }
}

/// Commands for several partitions: one pipeline for each node, the answers in the order of the commands.
pub(crate) struct Requests<'a> {
    shared: &'a Shared,
    pipelines: Vec<Pipeline>,
    order: Vec<usize>,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, pipelines: vec![Pipeline::new(); shared.nodes.len()], order: Vec::new() }
    }

    /// Begins a command to the node of this partition; call it once for each command.
    pub(crate) fn to(&mut self, partition: u16) -> &mut Pipeline {
        let node = self.shared.places.get(usize::from(partition)).copied().unwrap_or(0);
        self.order.push(node);
        &mut self.pipelines[node]
    }
}
