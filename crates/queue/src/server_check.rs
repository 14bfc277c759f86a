//! What is asked of a server before a connection to it is used: the durability gate, its clock, its identity, the
//! scripts. The same questions without the scripts are asked every second while it is in use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use redis::{Pipeline, Value};

use crate::clock::Clock;
use crate::error::Fault;
use crate::format::NEWEST;
use crate::gate::{self, Expected, Identity, Memory, Registered, ServerFacts};
use crate::live::Live;
use crate::metrics;
use crate::partition::REGISTRY;
use crate::partitions::Share;
use crate::pulse::Pulse;
use crate::script::{self, load_all};
use crate::value::{self, integer};
use crate::{Durability, Settings};

/// How long the probe of the replicas may take, in milliseconds.
const PROBE_TIMEOUT: u32 = 1_000;
/// How often the questions are asked when there are more partitions than were known.
const ROUNDS: u32 = 3;

/// The questions, and what the answers were.
pub(crate) struct ServerCheck {
    settings: Arc<Settings>,
    partitions: Share,
    clock: Arc<Clock>,
    memory: Mutex<Memory>,
    seen: Mutex<Option<String>>,
    pub(crate) pulse: Pulse,
    accept_loss: bool,
}

/// What a look has done to the marks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// Nothing: they were there.
    Before,
    /// Nothing, as there is no queue, and none may be made.
    Absent,
    /// It has put some beside others, or at the same time as somebody else.
    Further,
    /// It has put the first one.
    New,
}

impl ServerCheck {
    pub(crate) fn new(settings: Arc<Settings>, partitions: Share, clock: Arc<Clock>) -> Self {
        let pulse = Pulse::new(Instant::now());
        Self {
            settings,
            partitions,
            clock,
            memory: Mutex::default(),
            seen: Mutex::default(),
            pulse,
            accept_loss: false,
        }
    }

    /// Takes for lost what is not there, and lets the queue go on without it.
    pub(crate) fn accepting_loss(self) -> Self {
        Self { accept_loss: true, ..self }
    }

    /// At the last look.
    pub(crate) fn memory(&self) -> Memory {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, for a new connection. The error is for the operator.
    pub(crate) async fn run(&self, live: &Live) -> Result<(), String> {
        self.again(live).await?;
        self.probe(live).await
    }

    /// The scripts, and the word of the replicas.
    pub(crate) async fn probe(&self, live: &Live) -> Result<(), String> {
        let mut pipeline = Pipeline::new();
        load_all(&mut pipeline);
        if let Some(replicas) = self.settings.wait_for() {
            // WAIT counts the replicas that have what this connection wrote last.
            pipeline.cmd("SET").arg(self.partitions.at(0).heartbeat()).arg(self.clock.now());
            pipeline.cmd("WAIT").arg(replicas).arg(PROBE_TIMEOUT);
        }
        let mut answers = live.send(&pipeline).await.map_err(|fault| fault.to_string())?;
        if let Some(replicas) = self.settings.wait_for() {
            let good = answers.pop().and_then(Result::ok).and_then(|value| integer(&value)).unwrap_or(0);
            if good < i64::from(replicas) {
                return Err(format!("{good} replicas confirm writes, {replicas} are needed: check the replicas"));
            }
        }
        answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(|fault| fault.to_string()))
    }

    /// The part that may change while a server runs.
    pub(crate) async fn again(&self, live: &Live) -> Result<(), String> {
        match self.look(live).await? {
            Marked::Absent => return Err(gate::ABSENT.to_owned()),
            Marked::New => {
                metrics::queue_created().increment(1);
                tracing::warn!(partitions = self.partitions.len(), "there was no queue in Redis: a new one begins");
            }
            Marked::Before | Marked::Further => {}
        }
        Ok(())
    }

    /// The same without a word: whoever asks for a queue to be made knows that there was none.
    pub(crate) async fn look(&self, live: &Live) -> Result<Marked, String> {
        // Others may add partitions while this is asked.
        for _ in 0..ROUNDS {
            if let Some(marked) = self.look_at_known(live).await? {
                return Ok(marked);
            }
        }
        Err("partitions are added all the time".to_owned())
    }

    /// `None`: there are more partitions than were asked for.
    async fn look_at_known(&self, live: &Live) -> Result<Option<Marked>, String> {
        let mut pipeline = Pipeline::new();
        ServerFacts::ask(&mut pipeline);
        pipeline.cmd("TIME");
        pipeline.cmd("HMGET").arg(REGISTRY).arg(&["partitions", "id", "name", "after_loss"]);
        for partition in self.partitions.iter() {
            pipeline.cmd("GET").arg(&partition.identity);
        }
        let say = |fault: Fault| fault.to_string();
        // Before the question: another connection may make the identity while the answer without one is under way.
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answers = live.send(&pipeline).await.map_err(say)?.into_iter();
        self.pulse.answered(Instant::now());
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        // CONFIG may be forbidden; an error in place of a mark must not look like a missing mark.
        let (info, config) = (next(), next().unwrap_or_default());
        let rest = std::iter::from_fn(|| answers.next()).collect::<Result<Vec<_>, _>>();
        let (info, rest) = (info.map_err(say)?, rest.map_err(say)?);
        let [time, registry, marks @ ..] = rest.as_slice() else { return Err("Redis did not answer".to_owned()) };
        let marks: Vec<Option<String>> = marks.iter().map(gate::text).collect();

        let facts = ServerFacts::read(&info, &config);
        let problems = gate::problems(&facts, self.settings.durability, self.settings.replicas);
        if !problems.is_empty() {
            return Err(format!("Redis is not fit for durability: {}", problems.join("; ")));
        }
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = facts.memory();
        if let Some(now) = value::time(time) {
            self.clock.adjust(now);
        }
        let fields: Vec<Option<String>> = value::array(registry).iter().map(gate::text).collect();
        let registered = Registered::read(&fields);
        let count = self.partitions.learn(registered.map_or(0, |registered| registered.partitions));
        match marks.get(..usize::from(count)) {
            Some(marks) => self.identify(live, registered, marks, seen).await.map(Some),
            None => Ok(None),
        }
    }

    /// Compares the identity with what is expected, `seen` when it was asked for; marks a server at its first start.
    async fn identify(
        &self,
        live: &Live,
        registered: Option<Registered<'_>>,
        marks: &[Option<String>],
        seen: Option<String>,
    ) -> Result<Marked, String> {
        let seen = seen.filter(|_| self.settings.durability != Durability::None);
        let Settings { name, create, .. } = &*self.settings;
        let expected = Expected { name, seen: seen.as_deref(), create: *create, accept_loss: self.accept_loss };
        // A queue of an older program has no name yet.
        let is_named = registered.is_some_and(|registered| registered.name.is_some());
        let (id, marked) = match gate::identity(registered, marks, expected)? {
            Identity::Known(id) if is_named && !self.accept_loss => (id, Marked::Before),
            Identity::Known(id) => (self.mark(live, &id, &[], false).await?.0, Marked::Before),
            Identity::Absent => return Ok(Marked::Absent),
            Identity::Unmarked { id, partitions } => {
                let new = id.is_none();
                let id = id.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
                self.mark(live, &id, &partitions, new).await?
            }
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(marked)
    }

    /// Says whose queue it is, marks partitions, then the registry, so that an interrupted first start can go on. Several processes may do so at
    /// once: the first mark counts, and everybody reads it back.
    async fn mark(&self, live: &Live, id: &str, partitions: &[u16], new: bool) -> Result<(String, Marked), String> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSETNX").arg(REGISTRY).arg("name").arg(&self.settings.name);
        pipeline.cmd("HGET").arg(REGISTRY).arg("name");
        let name = self.expect(live, &pipeline).await?.pop().and_then(|value| gate::text(&value));
        gate::is_ours(name.as_deref(), &self.settings.name)?;
        let mut pipeline = Pipeline::new();
        let identity = &self.partitions.at(0).identity;
        pipeline.cmd("SET").arg(identity).arg(id).arg("NX");
        pipeline.cmd("GET").arg(identity);
        let mut answers = self.expect(live, &pipeline).await?;
        let first = answers.pop().and_then(|value| gate::text(&value));
        let was_first = answers.pop() == Some(Value::Okay);
        let id = first.ok_or("the identity of the queue cannot be written")?;
        let mut pipeline = Pipeline::new();
        for &partition in partitions {
            pipeline.cmd("SET").arg(&self.partitions.at(partition).identity).arg(&id).arg("NX");
        }
        if new {
            // Nobody who knows only an older format has ever used it.
            pipeline.cmd("HSETNX").arg(REGISTRY).arg("format").arg(NEWEST);
            pipeline.cmd("HSETNX").arg(REGISTRY).arg("created").arg(self.clock.now());
        }
        if self.accept_loss {
            pipeline.cmd("HSET").arg(REGISTRY).arg("after_loss").arg(self.clock.now());
        }
        let count = u64::from(self.partitions.len());
        pipeline.add_command(script::Widen { registry: REGISTRY, partitions: count.into(), id: (&*id).into() }.call());
        self.expect(live, &pipeline).await?;
        tracing::debug!(id, partitions = self.partitions.len(), "the queue is marked");
        Ok((id, if new && was_first { Marked::New } else { Marked::Further }))
    }

    async fn expect(&self, live: &Live, pipeline: &Pipeline) -> Result<Vec<Value>, String> {
        let answers = live.send(pipeline).await.map_err(|fault| fault.to_string())?;
        answers.into_iter().collect::<Result<_, _>>().map_err(|fault| fault.to_string())
    }
}
