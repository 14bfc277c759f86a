//! What is asked of a server before a connection to it is used: the durability gate, its clock, its identity, the
//! scripts. The same questions without the scripts are asked every second while it is in use.
//!
//! Of several servers each is asked for the marks of its own partitions, and one of them for the registry. Only who has that
//! makes a queue or adds partitions, and then reaches all others for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::error::Fault;
use crate::format::NEWEST;
use crate::gate::{self, Expected, Identity, Mark, Memory, Registered, ServerFacts};
use crate::live::Live;
use crate::metrics;
use crate::partition::{Partition, REGISTRY, REGISTRY_SLOT};
use crate::partitions::Share;
use crate::pulse::Pulse;
use crate::reach::Reach;
use crate::registry::{FIELDS, Fields, Registry};
use crate::script::{self, load_all};
use crate::value::{self, integer};
use crate::{Durability, Settings};

/// How long the probe of the replicas may take, in milliseconds.
const PROBE_TIMEOUT: u32 = 1_000;
/// An answer that took longer does not say what the time is.
const LATE: Duration = Duration::from_secs(3);
/// How often the questions are asked when there are more partitions than were known.
const ROUNDS: u32 = 3;

/// The questions, and what the answers were.
pub(crate) struct ServerCheck {
    settings: Arc<Settings>,
    partitions: Share,
    clock: Arc<Clock>,
    memory: Mutex<Memory>,
    registry: Arc<Registry>,
    /// Whose member the server is.
    cluster: Option<Arc<Cluster>>,
    pub(crate) pulse: Pulse,
    accept_loss: bool,
}

/// What a connection is for decides what its server must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One that keeps what it is given: mail is entrusted to it.
    Durable,
    /// The one that has the queue, once that is known, however fit it is now: what was refused is withdrawn before anybody is fit to
    /// deliver it, and what was delivered is settled before its lease ends.
    Ours,
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
    pub(crate) fn new(
        settings: Arc<Settings>,
        partitions: Share,
        clock: Arc<Clock>,
        registry: Arc<Registry>,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        let pulse = Pulse::new(Instant::now());
        let memory = Mutex::default();
        Self { settings, partitions, clock, memory, registry, cluster, pulse, accept_loss: false }
    }

    /// Does this server have the registry?
    fn is_home(&self) -> bool {
        self.partitions.has(*REGISTRY_SLOT)
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
    pub(crate) async fn run(&self, live: &Live, need: Need) -> Result<(), String> {
        self.again(live, need).await?;
        self.probe(live, need).await
    }

    /// The scripts, and the word of the replicas.
    pub(crate) async fn probe(&self, live: &Live, need: Need) -> Result<(), String> {
        let mut pipeline = Pipeline::new();
        load_all(&mut pipeline);
        let replicas = self.settings.wait_for().filter(|_| need == Need::Durable);
        if let Some(replicas) = replicas {
            // WAIT counts the replicas that have what this connection wrote last.
            if let Some(partition) = self.partitions.iter().next() {
                pipeline.cmd("SET").arg(partition.heartbeat()).arg(self.clock.now());
            }
            pipeline.cmd("WAIT").arg(replicas).arg(PROBE_TIMEOUT);
        }
        let mut answers = live.send(&pipeline).await.map_err(|fault| fault.to_string())?;
        if let Some(replicas) = replicas {
            let good = answers.pop().and_then(Result::ok).and_then(|value| integer(&value)).unwrap_or(0);
            if good < i64::from(replicas) {
                return Err(format!("{good} replicas confirm writes, {replicas} are needed: check the replicas"));
            }
        }
        answers.into_iter().try_for_each(|answer| match answer {
            Err(Fault::Elsewhere(_)) if self.cluster.is_some() => Ok(()),
            answer => answer.map(drop).map_err(|fault| fault.to_string()),
        })
    }

    /// The part that may change while a server runs.
    pub(crate) async fn again(&self, live: &Live, need: Need) -> Result<(), String> {
        match self.look(live, need).await? {
            Marked::Absent => return Err(gate::ABSENT.to_owned()),
            Marked::New => {
                metrics::queue_created().increment(1);
                tracing::warn!(
                    partitions = self.partitions.count.known(),
                    "there was no queue in Redis: a new one begins"
                );
            }
            Marked::Before | Marked::Further => {}
        }
        Ok(())
    }

    /// The same without a word: whoever asks for a queue to be made knows that there was none.
    pub(crate) async fn look(&self, live: &Live, need: Need) -> Result<Marked, String> {
        // Others may add partitions while this is asked.
        for _ in 0..ROUNDS {
            if let Some(marked) = self.look_at_known(live, need).await? {
                return Ok(marked);
            }
        }
        Err("partitions are added all the time".to_owned())
    }

    /// `None`: there are more partitions than were asked for.
    async fn look_at_known(&self, live: &Live, need: Need) -> Result<Option<Marked>, String> {
        let own: Vec<&Partition> = self.partitions.iter().collect();
        let mut pipeline = Pipeline::new();
        ServerFacts::ask(&mut pipeline);
        pipeline.cmd("TIME");
        let is_home = self.is_home();
        // Before the marks: whoever adds partitions marks them first.
        if is_home {
            pipeline.cmd("HMGET").arg(REGISTRY).arg(&FIELDS);
        }
        for partition in &own {
            match self.cluster {
                None => pipeline.cmd("GET").arg(&partition.identity),
                Some(_) => pipeline.cmd("MGET").arg(&partition.identity).arg(partition.never()),
            };
        }
        // Before the question: another connection may make the identity while the answer without one is under way.
        let seen = self.registry.seen();
        let asked = Instant::now();
        let mut answers = live.send(&pipeline).await.map_err(say)?.into_iter();
        self.pulse.answered(Instant::now());
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        // CONFIG may be forbidden.
        let (info, config) = (next().map_err(say)?, next().unwrap_or_default());
        let time = next().map_err(say)?;
        let facts = ServerFacts::read(&info, &config);
        let unfit = self.judge(&facts).err();
        let is_usable = || gate::problems(&facts, Durability::None, 0).is_empty();
        let will_do = need == Need::Ours && seen.is_some() && is_usable();
        if let Some(reason) = unfit.as_ref().filter(|_| !will_do) {
            return Err(reason.clone());
        }
        // What was read late says what the time was: better than a guess, and worse than what is known.
        let is_late = asked.elapsed() >= LATE;
        if let Some(now) = value::time(&time).filter(|_| !is_late || !self.clock.is_known()) {
            self.clock.adjust(now);
        }
        let fields = match is_home.then(next) {
            None => self.registry.last().await?,
            Some(Err(Fault::Elsewhere(_))) if self.cluster.is_some() => self.registry.last().await?,
            Some(answer) => {
                let fields: Fields = value::array(&answer.map_err(say)?).iter().map(gate::text).collect();
                let registered = Registered::read(&fields).map_or(0, |registered| registered.partitions);
                self.partitions.count.learn(registered);
                fields
            }
        };
        let marks = self.marks(&own, &mut answers)?;
        if self.partitions.iter().count() > own.len() {
            return Ok(None);
        }
        self.identify(live, &fields, &marks, seen, unfit).await.map(Some)
    }

    fn judge(&self, facts: &ServerFacts) -> Result<(), String> {
        let problems = gate::problems(facts, self.settings.durability, self.settings.replicas);
        if !problems.is_empty() {
            return Err(format!("Redis is not fit for durability: {}", problems.join("; ")));
        }
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = facts.memory();
        Ok(())
    }

    /// One answer for each partition. An error in place of a mark must not look like a missing mark; a partition that moves, or
    /// has moved, is for another server to show. A slot that is on its way answers nothing about two keys of which one is not there.
    fn marks(
        &self,
        own: &[&Partition],
        answers: &mut impl Iterator<Item = Result<Value, Fault>>,
    ) -> Result<Vec<Mark>, String> {
        let mut marks = Vec::with_capacity(own.len());
        for partition in own {
            match answers.next().ok_or("Redis did not answer")? {
                Err(Fault::Elsewhere(_)) if self.cluster.is_some() => self.partitions.resting.begin(partition.number),
                mark => {
                    let mark = mark.map_err(say)?;
                    marks.push((partition.number, gate::text(value::array(&mark).first().unwrap_or(&mark))));
                }
            }
        }
        Ok(marks)
    }

    /// Compares the identity with what is expected, `seen` when it was asked for; marks a server at its first start, unless
    /// it is `unfit`.
    async fn identify(
        &self,
        live: &Live,
        fields: &Fields,
        marks: &[Mark],
        seen: Option<String>,
        unfit: Option<String>,
    ) -> Result<Marked, String> {
        let registered = Registered::read(fields);
        let seen = seen.filter(|_| self.settings.durability != Durability::None);
        let Settings { name, create, .. } = &*self.settings;
        let expected = Expected { name, seen: seen.as_deref(), create: *create, accept_loss: self.accept_loss };
        // A queue of an older program has no name yet.
        let is_named = registered.is_some_and(|registered| registered.name.is_some());
        let count = self.partitions.count.known();
        let (id, marked) = match gate::identity(registered, marks, count, expected)? {
            Identity::Known(id) if is_named && !self.accept_loss => {
                self.registry.tell(fields);
                (id, Marked::Before)
            }
            Identity::Absent => return Ok(Marked::Absent),
            _ if !self.is_home() => return Err("partitions are being added to the queue".to_owned()),
            found => {
                if let Some(reason) = unfit {
                    return Err(reason);
                }
                let reach = Reach::all(live, &self.partitions, self.cluster.as_ref()).await?;
                let found = match self.cluster {
                    None => found,
                    Some(_) => gate::identity(registered, &reach.marks(count).await?, count, expected)?,
                };
                match found {
                    Identity::Known(id) => (self.mark(&reach, &id, &[], false).await?.0, Marked::Before),
                    Identity::Absent => return Ok(Marked::Absent),
                    Identity::Unmarked { id, partitions } => {
                        let new = id.is_none();
                        let id = id.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
                        self.mark(&reach, &id, &partitions, new).await?
                    }
                }
            }
        };
        self.registry.see(id);
        Ok(marked)
    }

    /// Says whose queue it is, marks partitions, then the registry, so that an interrupted first start can go on. Several processes may do so at
    /// once: the first mark counts, and everybody reads it back.
    async fn mark(&self, reach: &Reach, id: &str, partitions: &[u16], new: bool) -> Result<(String, Marked), String> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSETNX").arg(REGISTRY).arg("name").arg(&self.settings.name);
        pipeline.cmd("HGET").arg(REGISTRY).arg("name");
        let name = reach.expect(*REGISTRY_SLOT, &pipeline).await?.pop().and_then(|value| gate::text(&value));
        gate::is_ours(name.as_deref(), &self.settings.name)?;
        let mut pipeline = Pipeline::new();
        let Partition { identity, slot, .. } = self.partitions.any(0);
        pipeline.cmd("SET").arg(identity).arg(id).arg("NX");
        pipeline.cmd("GET").arg(identity);
        let mut answers = reach.expect(*slot, &pipeline).await?;
        let first = answers.pop().and_then(|value| gate::text(&value));
        let was_first = answers.pop() == Some(Value::Okay);
        let id = first.ok_or("the identity of the queue cannot be written")?;
        reach.put_marks(partitions, &id).await?;
        let mut pipeline = Pipeline::new();
        if new {
            // Nobody who knows only an older format has ever used it.
            pipeline.cmd("HSETNX").arg(REGISTRY).arg("format").arg(NEWEST);
            pipeline.cmd("HSETNX").arg(REGISTRY).arg("created").arg(self.clock.now());
        }
        if self.accept_loss {
            pipeline.cmd("HSET").arg(REGISTRY).arg("after_loss").arg(self.clock.now());
        }
        let count = self.partitions.count.known();
        let partitions = u64::from(count).into();
        pipeline.add_command(script::Widen { registry: REGISTRY, partitions, id: (&*id).into() }.call());
        reach.expect(*REGISTRY_SLOT, &pipeline).await?;
        tracing::debug!(id, partitions = count, "the queue is marked");
        Ok((id, if new && was_first { Marked::New } else { Marked::Further }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
fn say(fault: Fault) -> String {
    fault.to_string()
}
