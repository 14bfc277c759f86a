//! The invariants of the queue under random steps, against a model in memory.
//!
//! After every step all keys of the server are read and must be exactly what the model says: each open job in one place,
//! nothing left of a finished message, every destination with waiting jobs scheduled, no destination scheduled without.
//! Time passes by moving all scores into the past, so the steps need no waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use staffetta_mail::{QueueId, Status};
use staffetta_queue::{
    Accept, Deleted, Destination, Durability, Filter, Job, Lease, Queue, Settings, Settled, Settlement,
};
use staffetta_testkit::redis_cluster::RedisCluster;
use tokio_util::sync::CancellationToken;

use crate::world::{accept, cluster_world, notice, settings, world_with};

const DESTINATIONS: [&str; 3] = ["x.example", "y.example", "z.example"];
/// Where notices go.
const BOUNCES: &str = "example.org";
const HOUR: u64 = 3_600_000;
/// For each seed; 20 unless the environment says how many.
const CASES: &str = "STAFFETTA_MODEL_CASES";
const SEEDS: [u8; 3] = [1, 2, 3];

#[derive(Clone, Debug)]
enum Step {
    /// Which destinations, whether the body needs chunks, whether it is held from the first moment on, and for whom it counts.
    Put {
        destinations: u8,
        chunks: u32,
        held: bool,
        login: Option<&'static str>,
    },
    Claim {
        destination: usize,
        partition: u16,
        limit: usize,
        /// With whatever of their messages may travel with them.
        company: bool,
    },
    Settle {
        lease: usize,
        how: How,
    },
    Renew {
        lease: usize,
    },
    Offer {
        partition: u16,
    },
    Reclaim {
        partition: u16,
    },
    Delete {
        message: usize,
    },
    FlushDestination {
        destination: usize,
    },
    FlushMessage {
        message: usize,
    },
    FlushAll,
    /// Bodies of what waits go to the store, if there is one.
    Offload {
        partition: u16,
    },
    /// An hour passes.
    Pass,
}

#[derive(Clone, Debug)]
enum How {
    Finish { notice: bool },
    Defer { hours: u64, back_off: bool, notice: bool, held: bool },
    Release { held: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        3 => any::<bool>().prop_map(|notice| How::Finish { notice }),
        3 => (0..3_u64, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(hours, back_off, notice, held)| How::Defer { hours, back_off, notice, held }),
        1 => prop::bool::weighted(0.2).prop_map(|held| How::Release { held }),
    ];
    let step = prop_oneof![
        5 => (
            1..8_u8,
            prop_oneof![12 => Just(0), 1 => Just(2), 1 => Just(5)],
            prop::bool::weighted(0.1),
            prop_oneof![Just(None), Just(Some("john")), Just(Some("lisa"))],
        )
            .prop_map(|(destinations, chunks, held, login)| Step::Put { destinations, chunks, held, login }),
        6 => (0..4_usize, 0..2_u16, 1..4_usize, any::<bool>()).prop_map(|(destination, partition, limit, company)| {
            Step::Claim { destination, partition, limit, company }
        }),
        6 => (any::<usize>(), how).prop_map(|(lease, how)| Step::Settle { lease, how }),
        1 => any::<usize>().prop_map(|lease| Step::Renew { lease }),
        1 => (0..2_u16).prop_map(|partition| Step::Offer { partition }),
        2 => (0..2_u16).prop_map(|partition| Step::Reclaim { partition }),
        1 => any::<usize>().prop_map(|message| Step::Delete { message }),
        1 => (0..3_usize).prop_map(|destination| Step::FlushDestination { destination }),
        1 => any::<usize>().prop_map(|message| Step::FlushMessage { message }),
        1 => Just(Step::FlushAll),
        2 => (0..2_u16).prop_map(|partition| Step::Offload { partition }),
        2 => Just(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Until this virtual hour.
    Waiting(u64),
    /// With this lease, granted or renewed at this virtual hour.
    Leased(Lease, u64),
    Held,
}

#[derive(Clone, Debug)]
struct ModelJob {
    destination: String,
    place: Place,
    attempts: u32,
    reclaims: u32,
    /// It went silent in an attempt: it is claimed alone.
    suspect: bool,
    begun: bool,
    doomed: bool,
}

#[derive(Default)]
struct Model {
    hour: u64,
    /// Open jobs only; a message without is gone.
    messages: BTreeMap<QueueId, BTreeMap<u16, ModelJob>>,
    chunks: BTreeMap<QueueId, u32>,
    /// Messages whose chunks are in the store.
    offloaded: BTreeSet<QueueId>,
    /// For whom messages count.
    logins: BTreeMap<QueueId, &'static str>,
    /// Messages that are over and whose chunks are still there.
    garbage: BTreeSet<QueueId>,
    all: Vec<QueueId>,
    leases: Vec<Lease>,
    back_off: BTreeMap<(u16, String), u64>,
}

impl Model {
    /// Does anything wait in the queue that this lease is from?
    fn waits(&self, lease: &Lease) -> bool {
        let here = self.messages.iter().filter(|(id, _)| id.partition() == lease.id.partition());
        let mut jobs = here.flat_map(|(_, jobs)| jobs.values());
        jobs.any(|job| job.destination == lease.destination.as_str() && matches!(job.place, Place::Waiting(_)))
    }

    fn open(&mut self, id: QueueId, destinations: &[&str], chunks: u32, held: bool) {
        let job = |destination: &&str| ModelJob {
            destination: (*destination).to_owned(),
            place: if held { Place::Held } else { Place::Waiting(self.hour) },
            attempts: 0,
            reclaims: 0,
            suspect: false,
            begun: false,
            doomed: false,
        };
        self.messages.insert(id, (0..).zip(destinations.iter().map(job)).collect());
        self.chunks.insert(id, chunks);
        self.all.push(id);
    }

    fn due(&self, partition: u16, destination: &str) -> BTreeSet<(QueueId, u16)> {
        if self.back_off.get(&(partition, destination.to_owned())).is_some_and(|until| *until > self.hour) {
            return BTreeSet::new();
        }
        let in_partition = self.messages.iter().filter(|(id, _)| id.partition() == partition);
        let jobs = in_partition.flat_map(|(id, jobs)| jobs.iter().map(move |(number, job)| ((*id, *number), job)));
        jobs.filter(|(_, job)| {
            job.destination == destination && matches!(job.place, Place::Waiting(at) if at <= self.hour)
        })
        .map(|(name, _)| name)
        .collect()
    }

    fn job(&mut self, id: QueueId, number: u16) -> Option<&mut ModelJob> {
        self.messages.get_mut(&id)?.get_mut(&number)
    }

    fn suspects(&self, id: QueueId, number: u16) -> bool {
        self.messages.get(&id).and_then(|jobs| jobs.get(&number)).is_some_and(|job| job.suspect)
    }

    /// How many chunks of a message Redis has.
    fn chunks_of(&self, id: QueueId) -> u32 {
        if self.offloaded.contains(&id) { 0 } else { self.chunks[&id] }
    }

    /// The job that this lease owns.
    fn owned(&mut self, lease: &Lease) -> Option<&mut ModelJob> {
        self.job(lease.id, lease.job).filter(|job| matches!(&job.place, Place::Leased(owner, _) if owner == lease))
    }

    fn close(&mut self, id: QueueId, number: u16) {
        if let Some(jobs) = self.messages.get_mut(&id) {
            jobs.remove(&number);
            // A settlement deletes a few chunks itself.
            if jobs.is_empty() && self.chunks_of(id) > 4 {
                self.garbage.insert(id);
            }
            self.messages.retain(|_, jobs| !jobs.is_empty());
        }
    }

    fn delete(&mut self, id: QueueId) {
        self.messages.remove(&id);
        if self.chunks_of(id) > 0 {
            self.garbage.insert(id);
        }
    }
}

/// Where the model is played: one server, or the primaries of a cluster.
struct Stage {
    settings: Settings,
    servers: Vec<redis::Client>,
    /// The store, if there is one.
    folder: Option<PathBuf>,
}

impl Stage {
    fn new(settings: &Settings, urls: &[String]) -> Self {
        let servers = urls.iter().map(|url| redis::Client::open(url.as_str()).unwrap()).collect();
        Self { settings: settings.clone(), servers, folder: None }
    }

    /// A connection to each.
    fn redis(&self) -> Vec<redis::Connection> {
        self.servers.iter().map(|server| server.get_connection().unwrap()).collect()
    }

    fn everywhere(&self, command: &redis::Cmd) {
        self.redis().iter_mut().for_each(|redis| command.exec(redis).unwrap());
    }
}

struct Run<'a> {
    stage: &'a Stage,
    queue: Queue,
    model: Model,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put { destinations, chunks, held, login } => self.put(*destinations, *chunks, *held, *login).await,
            Step::Claim { destination, partition, limit, company } => {
                let destination = DESTINATIONS.get(*destination).copied().unwrap_or(BOUNCES);
                self.claim(*partition, destination, *limit, *company).await
            }
            Step::Settle { lease, how } => self.settle(*lease, how).await,
            Step::Renew { lease } => self.renew(*lease).await,
            Step::Offer { partition } => self.offer(*partition).await,
            Step::Reclaim { partition } => self.reclaim(*partition).await,
            Step::Delete { message } => self.delete(*message).await,
            Step::FlushDestination { destination } => self.flush(None, Some(DESTINATIONS[*destination])).await,
            Step::FlushMessage { message } => match pick(&self.model.all, *message) {
                Some(id) => self.flush(Some(id), None).await,
                None => Ok(()),
            },
            Step::FlushAll => self.flush(None, None).await,
            Step::Offload { partition } => self.offload(*partition).await,
            Step::Pass => {
                self.model.hour += 1;
                self.shift();
                Ok(())
            }
        }
    }

    async fn put(
        &mut self,
        destinations: u8,
        chunks: u32,
        held: bool,
        login: Option<&'static str>,
    ) -> Result<(), TestCaseError> {
        let chosen: Vec<&str> =
            (0..3).filter(|bit| destinations & 1 << bit != 0).map(|bit| DESTINATIONS[bit]).collect();
        let recipients: Vec<String> = chosen.iter().map(|destination| format!("a@{destination}")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let mut incoming = self.queue.receive().unwrap();
        if held {
            incoming.hold();
        }
        incoming.write(&vec![b'b'; 10.max(chunks as usize * 256 * 1024)]).await.unwrap();
        let mut accept = long_lived(&recipients);
        if let Some(login) = login {
            incoming.count_for_login();
            accept.origin.login = Some(login.to_owned());
        }
        let id = incoming.commit(accept, b"").await.unwrap();
        self.model.open(id, &chosen, chunks, held);
        self.model.logins.extend(login.map(|login| (id, login)));
        Ok(())
    }

    async fn claim(
        &mut self,
        partition: u16,
        destination: &str,
        limit: usize,
        company: bool,
    ) -> Result<(), TestCaseError> {
        let due = self.model.due(partition, destination);
        let jobs: Vec<Job> = self.queue.claim(partition, &Destination::new(destination), limit).await.unwrap();
        let suspects = due.iter().filter(|(id, number)| self.model.suspects(*id, *number)).count();
        let alone = jobs.iter().any(|job| self.model.suspects(job.lease.id, job.lease.job));
        prop_assert!(jobs.len() <= due.len().min(limit) && (!alone || jobs.len() == 1));
        let least = if suspects == 0 { due.len() } else { 1.min(due.len()) };
        prop_assert!(jobs.len() >= least.min(limit), "claim of {}: due {:?}", destination, due);
        let ended =
            self.model.back_off.get(&(partition, destination.to_owned())).is_some_and(|at| *at <= self.model.hour);
        if ended {
            self.model.back_off.remove(&(partition, destination.to_owned()));
        }
        for job in jobs {
            let name = (job.lease.id, job.lease.job);
            prop_assert!(due.contains(&name), "{:?} was not due", name);
            self.leased(&job, limit).await?;
            if company {
                self.accompany(&job, limit).await?;
            }
        }
        Ok(())
    }

    async fn leased(&mut self, job: &Job, limit: usize) -> Result<(), TestCaseError> {
        let hour = self.model.hour;
        let model = self.model.job(job.lease.id, job.lease.job).unwrap();
        prop_assert_eq!((job.attempts, u32::from(job.silences)), (model.attempts, model.reclaims));
        // Some workers die before they begin.
        if job.silences > 0 && !limit.is_multiple_of(3) {
            model.begun = true;
            prop_assert!(self.queue.begin(&job.lease).await.unwrap());
        }
        model.place = Place::Leased(job.lease.clone(), hour);
        self.model.leases.push(job.lease.clone());
        Ok(())
    }

    /// All that is due of its message, and that nothing keeps from being claimed, comes along.
    async fn accompany(&mut self, job: &Job, limit: usize) -> Result<(), TestCaseError> {
        let id = job.lease.id;
        let others = self.model.messages.get(&id).into_iter().flatten();
        let others: Vec<_> = others.map(|(number, other)| (*number, other.destination.clone())).collect();
        let is_due = |(number, destination): &(u16, String)| {
            self.model.due(id.partition(), destination).contains(&(id, *number)) && !self.model.suspects(id, *number)
        };
        let expected: BTreeSet<u16> = others.into_iter().filter(is_due).map(|(number, _)| number).collect();
        let company = self.queue.accompany(job, 50, |_| true).await.unwrap();
        prop_assert_eq!(company.iter().map(|job| job.lease.job).collect::<BTreeSet<_>>(), expected);
        for job in company {
            prop_assert_eq!(job.message.id, id);
            self.leased(&job, limit).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, lease: usize, how: &How) -> Result<(), TestCaseError> {
        let Some(lease) = pick(&self.model.leases, lease) else { return Ok(()) };
        let before = self.new_ids();
        let settled = self.queue.settle(&lease, settlement(how)).await.unwrap();
        let hour = self.model.hour;
        let Some(job) = self.model.owned(&lease) else {
            prop_assert_eq!(settled, Settled::Stale, "a superseded lease changes nothing");
            return Ok(());
        };
        prop_assert!(settled.is_done());
        let doomed = job.doomed;
        let (mut noticed, mut ended) = (false, doomed);
        match how {
            How::Finish { notice } => (noticed, ended) = (*notice, true),
            How::Release { .. } if doomed => {}
            How::Release { held: true } => job.place = Place::Held,
            How::Release { held: false } => job.place = Place::Waiting(hour),
            How::Defer { hours, back_off, notice, held } => {
                noticed = *notice;
                if !doomed {
                    (job.attempts, job.reclaims, job.begun) = (job.attempts + 1, 0, false);
                    job.place = if *held { Place::Held } else { Place::Waiting(hour + hours) };
                }
                if *back_off && !doomed && self.model.waits(&lease) {
                    let key = (lease.id.partition(), lease.destination.as_str().to_owned());
                    self.model.back_off.insert(key, hour + 1);
                }
            }
        }
        if ended {
            self.model.close(lease.id, lease.job);
        }
        if noticed {
            let new: Vec<QueueId> = self.new_ids().difference(&before).copied().collect();
            prop_assert_eq!(new.len(), 1, "one notice");
            self.model.open(new[0], &[BOUNCES], 0, false);
        }
        Ok(())
    }

    async fn renew(&mut self, lease: usize) -> Result<(), TestCaseError> {
        let Some(lease) = pick(&self.model.leases, lease) else { return Ok(()) };
        let ours = self.queue.renew(std::slice::from_ref(&lease)).await.unwrap();
        let hour = self.model.hour;
        let owned = self.model.owned(&lease);
        prop_assert_eq!(ours, vec![owned.is_some()]);
        if let Some(job) = owned {
            job.place = Place::Leased(lease, hour);
        }
        Ok(())
    }

    /// What is offered has work; an offer never changes where a job is.
    async fn offer(&mut self, partition: u16) -> Result<(), TestCaseError> {
        let offer = self.queue.offer(partition, 10).await.unwrap();
        for destination in offer.destinations {
            let mut jobs = self
                .model
                .messages
                .iter()
                .filter(|(id, _)| id.partition() == partition)
                .flat_map(|(_, jobs)| jobs.values());
            let waits =
                jobs.any(|job| job.destination == destination.as_str() && matches!(job.place, Place::Waiting(_)));
            prop_assert!(waits, "{destination} was offered without work");
        }
        Ok(())
    }

    async fn reclaim(&mut self, partition: u16) -> Result<(), TestCaseError> {
        let hour = self.model.hour;
        let mut expected = 0;
        let mut doomed = Vec::new();
        for (id, jobs) in self.model.messages.iter_mut().filter(|(id, _)| id.partition() == partition) {
            for (number, job) in jobs.iter_mut() {
                if !matches!(&job.place, Place::Leased(_, granted) if *granted < hour) {
                    continue;
                }
                expected += 1;
                if job.doomed {
                    doomed.push((*id, *number));
                    continue;
                }
                job.reclaims += u32::from(job.reclaims == 0 || job.begun);
                (job.suspect, job.begun) = (job.suspect || job.reclaims > 1, false);
                // Not before some seconds are over, and so not in this hour.
                let rests = u64::from(job.reclaims > 1);
                job.place = if job.reclaims >= 5 { Place::Held } else { Place::Waiting(hour + rests) };
            }
        }
        for (id, number) in doomed {
            self.model.close(id, number);
        }
        prop_assert_eq!(self.queue.reclaim(partition).await.unwrap(), expected);
        self.model.garbage.retain(|id| id.partition() != partition);
        Ok(())
    }

    async fn delete(&mut self, message: usize) -> Result<(), TestCaseError> {
        let Some(id) = pick(&self.model.all, message) else { return Ok(()) };
        let deleted = self.queue.delete(id).await.unwrap();
        let Some(jobs) = self.model.messages.get_mut(&id) else {
            prop_assert_eq!(deleted, Deleted::Missing);
            return Ok(());
        };
        let partition = id.partition();
        let gone: Vec<String> = jobs
            .values()
            .filter(|job| !matches!(job.place, Place::Leased(..)))
            .map(|job| job.destination.clone())
            .collect();
        jobs.retain(|_, job| matches!(job.place, Place::Leased(..)));
        jobs.values_mut().for_each(|job| job.doomed = true);
        let leased = !jobs.is_empty();
        if !leased {
            self.model.delete(id);
        }
        // With the last waiting job of a destination its back-off ends.
        for destination in gone {
            if !self.waits(partition, &destination) {
                self.model.back_off.remove(&(partition, destination));
            }
        }
        prop_assert_eq!(deleted, if leased { Deleted::Leased } else { Deleted::Removed });
        Ok(())
    }

    fn waits(&self, partition: u16, destination: &str) -> bool {
        let jobs = self
            .model
            .messages
            .iter()
            .filter(|(id, _)| id.partition() == partition)
            .flat_map(|(_, jobs)| jobs.values());
        jobs.into_iter().any(|job| job.destination == destination && matches!(job.place, Place::Waiting(_)))
    }

    async fn flush(&mut self, id: Option<QueueId>, destination: Option<&str>) -> Result<(), TestCaseError> {
        let filter = Filter { id, destination: destination.map(Destination::new), ..Filter::default() };
        let hour = self.model.hour;
        let mut touched = BTreeSet::new();
        let mut expected = 0;
        for (message, jobs) in &mut self.model.messages {
            for job in jobs.values_mut() {
                let meant =
                    id.is_none_or(|id| id == *message) && destination.is_none_or(|name| name == job.destination);
                if let Place::Waiting(at) = job.place
                    && meant
                {
                    touched.insert((message.partition(), job.destination.clone()));
                    let rest = self.model.back_off.get(&(message.partition(), job.destination.clone()));
                    expected += u64::from(at > hour || rest.is_some_and(|until| *until > hour));
                    job.place = Place::Waiting(at.min(hour));
                }
            }
        }
        for key in touched {
            self.model.back_off.remove(&key);
        }
        if id.is_none()
            && let Some(name) = destination
        {
            // A destination that is named is asked for in every partition.
            self.model.back_off.retain(|(_, other), _| other != name);
        }
        prop_assert_eq!(self.queue.flush(&filter).await.unwrap(), expected);
        Ok(())
    }

    /// What no worker has a job of moves, and nothing else.
    async fn offload(&mut self, partition: u16) -> Result<(), TestCaseError> {
        if self.stage.folder.is_none() {
            return Ok(());
        }
        let here = self.model.messages.iter().filter(|(id, _)| id.partition() == partition);
        let rests = |jobs: &BTreeMap<u16, ModelJob>| jobs.values().all(|job| !matches!(job.place, Place::Leased(..)));
        let here = here.filter(|(id, jobs)| self.model.chunks_of(**id) > 0 && rests(jobs));
        let expected: Vec<QueueId> = here.map(|(id, _)| *id).collect();
        // At first it is not known yet that all workers would find them.
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let moved = loop {
            // A walk from the beginning, whoever's turn it is; and what is as old as the clock of Redis is not older.
            self.forget_walks();
            tokio::time::sleep(Duration::from_millis(2)).await;
            let moved = self.queue.offload(partition).await.unwrap();
            if moved > 0 || expected.is_empty() || std::time::Instant::now() > end {
                break moved;
            }
        };
        self.forget_walks();
        prop_assert_eq!(moved, expected.len() as u64);
        self.model.offloaded.extend(expected);
        Ok(())
    }

    fn forget_walks(&self) {
        let script = "for _, name in ipairs({'{L:offload:*', '*}off'}) do
              for _, key in ipairs(redis.call('KEYS', name)) do redis.call('DEL', key) end
            end";
        self.stage.everywhere(redis::cmd("EVAL").arg(script).arg(0));
    }

    /// Once the garbage is gone the store has the bodies that are needed, and no others.
    async fn check_store(&mut self) -> Result<(), TestCaseError> {
        let Some(folder) = self.stage.folder.clone() else { return Ok(()) };
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let due = "local left = 0
            for _, key in ipairs(redis.call('KEYS', '*}gc')) do
              for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                redis.call('ZADD', key, 1, name)
                left = left + 1
              end
            end
            return left";
        let redis = &mut self.stage.redis()[0];
        while redis::cmd("EVAL").arg(due).arg(0).query::<u64>(redis).unwrap() > 0 {
            prop_assert!(std::time::Instant::now() < end, "garbage is left");
            for partition in 0..2 {
                self.reclaim(partition).await?;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let queue: String = redis::cmd("HGET").arg("{kq:cfg}").arg("id").query(redis).unwrap();
        let groups = std::fs::read_dir(folder.join(queue)).unwrap().map(|group| group.unwrap().file_name());
        let groups = groups.map(|name| name.into_string().unwrap()).filter(|name| !name.starts_with("mark-"));
        let there: Vec<QueueId> = groups.map(|name| name.split_once('-').unwrap().0.parse().unwrap()).collect();
        let needed = self.model.offloaded.iter().filter(|id| self.model.messages.contains_key(id));
        prop_assert_eq!(there.len(), there.iter().collect::<BTreeSet<_>>().len(), "twice");
        prop_assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), needed.copied().collect::<BTreeSet<_>>());
        Ok(())
    }

    /// Moves every time in Redis an hour into the past.
    fn shift(&self) {
        let script = "
            for _, name in ipairs({'*w:*', '*due', '*lease'}) do
              for _, key in ipairs(redis.call('KEYS', name)) do
                for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                  redis.call('ZINCRBY', key, 0 - ARGV[1], member)
                end
              end
            end
            for _, key in ipairs(redis.call('KEYS', '*qf')) do
              local all = redis.call('HGETALL', key)
              for i = 1, #all, 2 do
                redis.call('HSET', key, all[i], string.format('%.0f', all[i + 1] - ARGV[1]))
              end
            end";
        self.stage.everywhere(redis::cmd("EVAL").arg(script).arg(0).arg(HOUR));
    }

    /// An operator who looks finds nothing to put right, and changes nothing if he tries.
    async fn verify(&self) -> Result<(), TestCaseError> {
        for repair in [false, true] {
            let mut found = Vec::new();
            let verified = self.queue.verify(repair, &mut |finding| found.push(finding.to_string())).await.unwrap();
            prop_assert_eq!(found, Vec::<String>::new());
            let jobs: usize = self.model.messages.values().map(BTreeMap::len).sum();
            prop_assert_eq!((verified.messages, verified.jobs), (self.model.messages.len() as u64, jobs as u64));
        }
        Ok(())
    }

    fn new_ids(&self) -> BTreeSet<QueueId> {
        let keys = |redis: &mut redis::Connection| redis::cmd("KEYS").arg("*}m:*").query::<Vec<String>>(redis).unwrap();
        let keys: Vec<String> = self.stage.redis().iter_mut().flat_map(keys).collect();
        keys.iter().filter_map(|key| key.rsplit(':').next()?.parse().ok()).collect()
    }

    /// Compares all keys of all servers with the model.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut servers = self.stage.redis();
        let keys = (0..servers.len()).flat_map(|server| {
            let keys: Vec<String> = redis::cmd("KEYS").arg("{kq:*").query(&mut servers[server]).unwrap();
            keys.into_iter().map(move |key| (server, key))
        });
        let keys: Vec<(usize, String)> = keys.collect();
        let (mut found, mut expected) = (BTreeSet::new(), BTreeSet::new());
        let mut due: BTreeMap<(u16, String), u64> = BTreeMap::new();
        let mut heads: BTreeMap<(u16, String), u64> = BTreeMap::new();
        let mut extra = BTreeMap::from([(0, 0), (1, 0)]);
        let mut counted = BTreeMap::new();
        for (server, key) in &keys {
            let redis = &mut servers[*server];
            let Some((tag, name)) = key.split_once('}') else { continue };
            let Some(Ok(partition)) =
                tag.strip_prefix("{kq:").and_then(|tag| tag.split('.').next()).map(str::parse::<u16>)
            else {
                continue;
            };
            let mut scored = || -> Vec<(String, f64)> {
                redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES").query(redis).unwrap()
            };
            match name.split_once(':') {
                Some(("w", destination)) => {
                    for (job, at) in scored() {
                        let head = heads.entry((partition, destination.to_owned())).or_insert(u64::MAX);
                        *head = (*head).min(at as u64);
                        found.insert(format!("{job} waits for {destination}"));
                    }
                }
                Some(("m", id)) => drop(found.insert(format!("{id} has a record"))),
                Some(("o", id)) => {
                    let open: BTreeSet<u16> = redis::cmd("SMEMBERS").arg(key).query(redis).unwrap();
                    found.insert(format!("{id} open {open:?}"));
                }
                Some(("b", chunk)) => {
                    let ttl: i64 = redis::cmd("TTL").arg(key).query(redis).unwrap();
                    found.insert(format!("chunk {chunk} for ever {}", ttl == -1));
                }
                Some(("s", job)) => {
                    let (id, number) = job.split_once('.').unwrap();
                    let open = self
                        .model
                        .messages
                        .get(&id.parse().unwrap())
                        .and_then(|jobs| jobs.get(&number.parse().unwrap()));
                    prop_assert!(open.is_some(), "state of {job} outlives it");
                }
                Some(("x", _)) => {}
                Some(_) => prop_assert!(false, "unknown key {key}"),
                None => match name {
                    "due" => due.extend(scored().into_iter().map(|(name, at)| ((partition, name), at as u64))),
                    "lease" => found.extend(scored().into_iter().map(|(member, _)| format!("leased {member}"))),
                    "held" => found.extend(scored().into_iter().map(|(job, _)| format!("held {job}"))),
                    // What is in the store goes in its own time: see the end of a run.
                    "gc" => {
                        let names = scored().into_iter().map(|(name, _)| name);
                        let in_redis = names.filter(|name| !name.contains('-'));
                        found.extend(in_redis.map(|name| format!("garbage {name}")));
                    }
                    "ids" => found.extend(scored().into_iter().map(|(id, _)| format!("{id} is listed"))),
                    "n" => drop(extra.insert(partition, redis::cmd("GET").arg(key).query(redis).unwrap())),
                    "who" => {
                        let logins: BTreeMap<String, u64> = redis::cmd("HGETALL").arg(key).query(redis).unwrap();
                        counted.extend(logins.into_iter().map(|(login, messages)| ((partition, login), messages)));
                    }
                    "id" | "qf" | "hb" | "op" | "sus" => {}
                    _ => prop_assert!(false, "unknown key {key}"),
                },
            }
        }
        for id in &self.model.garbage {
            let chunks = self.model.chunks[id];
            expected.insert(format!("garbage {id} {chunks}"));
            expected.extend((0..chunks).map(|index| format!("chunk {id}:{index} for ever true")));
        }
        let mut more = BTreeMap::from([(0, 0), (1, 0)]);
        for (id, jobs) in &self.model.messages {
            expected.insert(format!("{id} has a record"));
            expected.insert(format!("{id} is listed"));
            expected.extend((0..self.model.chunks_of(*id)).map(|index| format!("chunk {id}:{index} for ever true")));
            *more.entry(id.partition()).or_insert(0) += jobs.len() as i64 - 1;
            for (number, job) in jobs {
                expected.insert(match &job.place {
                    Place::Waiting(_) => format!("{id}.{number} waits for {}", job.destination),
                    Place::Held => format!("held {id}.{number}"),
                    Place::Leased(..) => String::new(),
                });
            }
        }
        expected.remove("");
        let leased = found.iter().filter(|text| text.starts_with("leased ")).count();
        let places = self.model.messages.values().flat_map(BTreeMap::values);
        prop_assert_eq!(leased, places.filter(|job| matches!(job.place, Place::Leased(..))).count(), "leases");
        let open: BTreeSet<String> = found.iter().filter(|text| text.contains(" open ")).cloned().collect();
        for text in &open {
            let (id, jobs) = text.split_once(" open ").unwrap();
            let model: BTreeSet<u16> = self.model.messages[&id.parse::<QueueId>().unwrap()].keys().copied().collect();
            prop_assert_eq!(jobs, format!("{model:?}"), "open jobs of {}", id);
        }
        found.retain(|text| !text.starts_with("leased ") && !open.contains(text));
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(extra, more, "jobs beyond the first");
        let mut queued = BTreeMap::new();
        for (id, login) in self.model.logins.iter().filter(|(id, _)| self.model.messages.contains_key(id)) {
            *queued.entry((id.partition(), (*login).to_owned())).or_insert(0) += 1;
        }
        prop_assert_eq!(counted, queued, "messages of logins");
        self.check_schedule(&due, &heads)
    }

    /// Exactly the destinations with waiting jobs are scheduled, not later than they should be.
    fn check_schedule(
        &self,
        due: &BTreeMap<(u16, String), u64>,
        heads: &BTreeMap<(u16, String), u64>,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(due.keys().collect::<Vec<_>>(), heads.keys().collect::<Vec<_>>(), "no ghost, no lost wake-up");
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut self.stage.redis()[0]).unwrap();
        let now = seconds * 1_000 + micros / 1_000;
        for (key, at) in due {
            let hours = self.model.back_off.get(key).map_or(0, |until| until.saturating_sub(self.model.hour));
            let latest = heads[key].max(now + 200).max(now + hours * HOUR);
            prop_assert!(*at <= latest, "{:?} is visited {} ms too late", key, at - latest);
        }
        Ok(())
    }
}

fn settlement(how: &How) -> Settlement {
    match how {
        How::Finish { notice: wanted } => {
            Settlement::Finished { notices: wanted.then(long_notice).into_iter().collect() }
        }
        How::Release { held: false } => Settlement::Released,
        How::Release { held: true } => Settlement::Held,
        How::Defer { hours, back_off, notice: wanted, held } => Settlement::Deferred {
            remaining: vec![0],
            after: Duration::from_millis(hours * HOUR),
            reason: "later".into(),
            status: Status::new(4, 0, 0),
            back_off: back_off.then(|| Duration::from_millis(HOUR)),
            notices: wanted.then(long_notice).into_iter().collect(),
            delay_noticed: false,
            held: *held,
        },
    }
}

/// So long that the end of its life does not cut a deferral.
fn long_lived(recipients: &[&str]) -> Accept {
    Accept { lifetime: Duration::from_secs(86_400 * 365), ..accept(recipients) }
}

fn long_notice() -> staffetta_queue::Notice {
    staffetta_queue::Notice { accept: long_lived(&["sender@example.org"]), ..notice(b"sorry") }
}

fn pick<T: Clone>(all: &[T], index: usize) -> Option<T> {
    (!all.is_empty()).then(|| all[index % all.len()].clone())
}

#[test]
fn the_invariants_hold_under_random_steps() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fast = [("appendonly", "no"), ("appendfsync", "no")];
    let world = runtime.block_on(world_with(&fast, |settings| {
        settings.durability = Durability::None;
        settings.partitions = 2;
    }));
    let stage = Stage::new(&world.settings, &[world.server.url()]);
    for seed in SEEDS {
        run_seed(&runtime, &stage, seed);
    }
}

/// The same where bodies of what waits move.
#[test]
fn the_invariants_hold_with_a_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fast = [("appendonly", "no"), ("appendfsync", "no")];
    let world = runtime.block_on(world_with(&fast, |settings| {
        settings.durability = Durability::None;
        settings.partitions = 2;
    }));
    let settings = Settings {
        spool: Some(format!("file://{}", folder.path().display())),
        redis_limit: u64::MAX,
        offload_after: Some(Duration::ZERO),
        ..world.settings.clone()
    };
    let stage = Stage { folder: Some(folder.path().to_owned()), ..Stage::new(&settings, &[world.server.url()]) };
    run_seed(&runtime, &stage, 6);
}

/// The same on a node of a cluster, where every step must stay in one slot.
#[test]
fn the_invariants_hold_in_a_cluster() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fast = [("appendonly", "no"), ("appendfsync", "no")];
    let world = runtime.block_on(cluster_world(&fast, |settings| {
        settings.durability = Durability::None;
        settings.partitions = 2;
    }));
    run_seed(&runtime, &Stage::new(&world.settings, &[world.server.url()]), 4);
}

/// The same on three primaries, with partitions on all of them.
#[test]
fn the_invariants_hold_on_three_primaries() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = RedisCluster::start(false, &[("appendonly", "no"), ("appendfsync", "no")]).unwrap();
    let settings = Settings { durability: Durability::None, partitions: 2, ..settings(cluster.url()) };
    let urls: Vec<String> = (0..cluster.len()).map(|member| format!("redis://{}", cluster.place(member))).collect();
    run_seed(&runtime, &Stage::new(&settings, &urls), 5);
}

fn run_seed(runtime: &tokio::runtime::Runtime, stage: &Stage, seed: u8) {
    let cases = std::env::var(CASES).ok().and_then(|number| number.parse().ok()).unwrap_or(20);
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let outcome = TestRunner::new_with_rng(config, rng).run(&steps(), |steps| {
        stage.everywhere(&redis::cmd("FLUSHALL"));
        let shutdown = CancellationToken::new();
        let result = runtime.block_on(async {
            let queue = Queue::open(stage.settings.clone(), shutdown.clone()).unwrap();
            queue.ready(Duration::from_secs(10)).await.unwrap();
            let mut run = Run { stage, queue, model: Model::default() };
            for (number, step) in steps.iter().enumerate() {
                let checked = match run.step(step).await {
                    Ok(()) => run.check(),
                    failed => failed,
                };
                checked.map_err(|error| TestCaseError::fail(format!("step {number}, {step:?}: {error}")))?;
            }
            run.verify().await?;
            run.check()?;
            run.check_store().await
        });
        shutdown.cancel();
        result
    });
    if let Err(error) = outcome {
        panic!("seed {seed}: {error}");
    }
}
