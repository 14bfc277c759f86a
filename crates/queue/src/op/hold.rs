//! HOLD and RELEASE: an operator takes jobs out of the way and puts them back; a held job whose message's life is over
//! comes back by itself, so that its sender hears of it.
//!
//! The score of a held job says when somebody should look at it: the end of its life, once that is known. A job that is
//! held as poison gets it at the next look.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redis::Cmd;
use staffetta_mail::QueueId;

use crate::partition::{Partition, parse_job_name};
use crate::revocation::Announcer;
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Destination, Entry, Error, Filter, JobState, Moved, Place, UnixMillis};

/// Jobs in one call.
const GROUP: usize = 200;
/// Messages in one page.
const PAGE: usize = 500;
/// When a held job that cannot be read is looked at again, in milliseconds.
const LATER: u64 = 3_600_000;

/// After this every pod has heard of a block.
const HEARD: Duration = Duration::from_secs(1);

/// Where selected jobs go.
#[derive(Clone, Copy)]
enum To {
    Held,
    Waiting,
}

/// A job to be moved.
struct Task {
    id: QueueId,
    job: u16,
    destination: Destination,
    expires: UnixMillis,
}

impl Task {
    fn of(entry: &Entry, job: &JobState) -> Self {
        let message = &entry.message;
        Self { id: message.id, job: job.number, destination: job.destination.clone(), expires: message.expires }
    }
}

impl Shared {
    pub(crate) async fn hold(&self, filter: &Filter) -> Result<Moved, Error> {
        self.move_selected(filter, To::Held, |job| matches!(job.place, Place::Waiting(_))).await
    }

    pub(crate) async fn hold_blocked(&self, login: &str, patience: Duration) -> Result<Moved, Error> {
        let filter = Filter { login: Some(login.to_owned()), ..Filter::default() };
        let announcer = Announcer::connect(&self.settings).await?;
        let end = Instant::now() + patience;
        let mut before = self.hold(&filter).await?;
        loop {
            if before.leased > 0 {
                announcer.hold(login).await?;
            }
            tokio::time::sleep(HEARD).await;
            let moved = self.hold(&filter).await?;
            if moved.leased == 0 || Instant::now() >= end {
                return Ok(moved);
            }
            before = moved;
        }
    }

    pub(crate) async fn release(&self, filter: &Filter) -> Result<Moved, Error> {
        self.move_selected(filter, To::Waiting, |job| job.place == Place::Held).await
    }

    async fn move_selected(
        &self,
        filter: &Filter,
        to: To,
        movable: impl Fn(&JobState) -> bool,
    ) -> Result<Moved, Error> {
        self.separate(filter).await?;
        let (mut moved, mut cursor) = (Moved::default(), None);
        loop {
            let page = self.list(filter, cursor, PAGE).await?;
            let jobs = || page.entries.iter().flat_map(|entry| entry.selected(filter).map(move |job| (entry, job)));
            // With others: it was under way when they were separated.
            let busy =
                |entry: &Entry, job: &JobState| matches!(job.place, Place::Leased(_)) || entry.has_others(job, filter);
            let movable = jobs().filter(|(entry, job)| movable(job) && !busy(entry, job));
            let tasks: Vec<Task> = movable.map(|(entry, job)| Task::of(entry, job)).collect();
            moved.jobs += self.move_tasks(to, &tasks).await?;
            if matches!(to, To::Held) {
                let held = jobs().filter(|(entry, job)| job.place == Place::Held && !entry.has_others(job, filter));
                moved.already += held.count() as u64;
            }
            moved.leased += jobs().filter(|(entry, job)| busy(entry, job)).count() as u64;
            moved.unreadable += page.unreadable.len() as u64;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(moved),
            }
        }
    }

    /// What is held as poison waits again; what an operator holds stays.
    pub(crate) async fn release_poison(&self, filter: &Filter) -> Result<u64, Error> {
        let mut total = 0;
        for keys in self.partitions() {
            let mut cursor = Some("0".to_owned());
            while let Some(from) = cursor {
                let (next, held) = self.node(keys.number).members(&keys.held, &from).await?;
                let ids: BTreeSet<QueueId> = held.iter().filter_map(|name| Some(parse_job_name(name)?.0)).collect();
                total += self.release_poison_of(&ids.into_iter().collect::<Vec<_>>(), filter).await?;
                cursor = next;
            }
        }
        Ok(total)
    }

    async fn release_poison_of(&self, ids: &[QueueId], filter: &Filter) -> Result<u64, Error> {
        let mut total = 0;
        for ids in ids.chunks(GROUP) {
            let entries = self.matching(ids, filter).await?;
            let jobs = entries.iter().flat_map(|entry| entry.selected(filter).map(move |job| (entry, job)));
            let poison = jobs.filter(|(_, job)| job.place == Place::Held && job.poison);
            let tasks: Vec<Task> = poison.map(|(entry, job)| Task::of(entry, job)).collect();
            total += self.move_tasks(To::Waiting, &tasks).await?;
        }
        Ok(total)
    }

    async fn move_tasks(&self, to: To, tasks: &[Task]) -> Result<u64, Error> {
        let mut moved = 0;
        for keys in self.partitions() {
            let number = keys.number;
            let here: Vec<&Task> = tasks.iter().filter(|task| task.id.partition() == number).collect();
            for group in here.chunks(GROUP) {
                let call = match to {
                    To::Held => hold_call(keys, group),
                    To::Waiting => release_call(keys, group, false),
                };
                moved += count(&self.node(number).admin.ask(call).await?);
            }
        }
        Ok(moved)
    }

    /// Lets held jobs go whose message's life is over; returns how many.
    pub(crate) async fn release_over(&self, keys: &Partition) -> Result<u64, Error> {
        let mut command = Cmd::new();
        command.arg("ZRANGEBYSCORE").arg(&keys.held).arg("-inf").arg(self.node(keys.number).clock.now());
        command.arg("LIMIT").arg(0).arg(GROUP);
        let looked_at = self.node(keys.number).settles.call(command, 128).await?;
        let mut tasks = Vec::new();
        for (id, job) in names(&looked_at) {
            let record = self.record(id).await?.and_then(Result::ok);
            let known = record.as_ref().and_then(|record| record.destinations.get(usize::from(job)).zip(Some(record)));
            let (destination, expires) = match known {
                Some((destination, record)) => (destination.clone(), record.message.expires),
                None => (Destination::new(""), self.node(keys.number).clock.now() + LATER),
            };
            tasks.push(Task { id, job, destination, expires });
        }
        if tasks.is_empty() {
            return Ok(0);
        }
        let tasks: Vec<&Task> = tasks.iter().collect();
        let call = release_call(keys, &tasks, true);
        Ok(count(&self.node(keys.number).settles.call(call, 200 * tasks.len()).await?))
    }
}

/// The jobs that a set names.
fn names(set: &redis::Value) -> impl Iterator<Item = (QueueId, u16)> {
    value::array(set).iter().filter_map(value::str).filter_map(parse_job_name)
}

fn hold_call(keys: &Partition, tasks: &[&Task]) -> Cmd {
    let waiting: Vec<String> = tasks.iter().map(|task| keys.waiting(task.destination.as_str())).collect();
    let (jobs, destinations, ends) = columns(tasks);
    script::Hold {
        held: &keys.held,
        due: &keys.due,
        back_off: &keys.back_off,
        waiting: &waiting,
        jobs: &jobs,
        destinations: &destinations,
        ends: &ends,
    }
    .call()
}

fn release_call(keys: &Partition, tasks: &[&Task], only_over: bool) -> Cmd {
    let states: Vec<String> = tasks.iter().map(|task| keys.state(task.id, task.job)).collect();
    let waiting: Vec<String> = tasks.iter().map(|task| keys.waiting(task.destination.as_str())).collect();
    let (jobs, destinations, ends) = columns(tasks);
    script::Release {
        held: &keys.held,
        due: &keys.due,
        states: &states,
        waiting: &waiting,
        only_over: only_over.into(),
        jobs: &jobs,
        destinations: &destinations,
        ends: &ends,
    }
    .call()
}

/// Names, destinations, ends of life.
fn columns<'a>(tasks: &[&'a Task]) -> (Vec<Arg<'a>>, Vec<Arg<'a>>, Vec<Arg<'a>>) {
    (
        tasks.iter().map(|task| Arg::Job(task.id, task.job)).collect(),
        tasks.iter().map(|task| task.destination.as_str().into()).collect(),
        tasks.iter().map(|task| task.expires.into()).collect(),
    )
}
