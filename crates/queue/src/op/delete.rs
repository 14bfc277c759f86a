//! ABORT: deletes a message, for an operator or because its enqueue was refused to the client.

use redis::Cmd;
use staffetta_mail::QueueId;

use super::act::note;
use super::unexpected;
use crate::error::Fault;
use crate::record::{Encoded, Record};
use crate::script::{self, Arg};
use crate::shared::Shared;
use crate::value;
use crate::{Chunks, Deleted, Destination, Error, UnixMillis};

/// How often a message is read again that was changed meanwhile.
const TRIES: u32 = 10;
/// What is noted of it.
const DELETED: &str = "deleted";

/// What there is of a message, all of which is to go.
pub(crate) struct Whole<'a> {
    id: QueueId,
    arrived: UnixMillis,
    destinations: &'a [Destination],
    chunks: Chunks,
    counted_for: Option<&'a str>,
    /// How long the record was that says so; 0: it does not matter.
    octets: u64,
}

impl<'a> From<&'a Encoded> for Whole<'a> {
    fn from(record: &'a Encoded) -> Self {
        Self {
            id: record.id,
            arrived: record.arrived,
            destinations: &record.destinations,
            chunks: record.chunks,
            counted_for: record.counted_for.as_deref(),
            octets: 0,
        }
    }
}

impl<'a> From<&'a Record> for Whole<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            id: record.message.id,
            arrived: record.message.arrived,
            destinations: &record.destinations,
            chunks: record.chunks(),
            counted_for: record.counted_for.as_deref(),
            octets: record.octets as u64,
        }
    }
}

impl Shared {
    pub(crate) async fn delete(&self, id: QueueId) -> Result<Deleted, Error> {
        // Its record may change once for each recipient that an operator means, and when its body is moved.
        for _ in 0..TRIES {
            if let Some(deleted) = self.delete_as_it_is(id).await? {
                return Ok(deleted);
            }
        }
        Err(Fault::Refused("the message changes all the time".to_owned()).into())
    }

    /// `None`: it was changed meanwhile, and nothing was done.
    async fn delete_as_it_is(&self, id: QueueId) -> Result<Option<Deleted>, Error> {
        let call = match self.record(id).await? {
            None => return Ok(Some(Deleted::Missing)),
            Some(Ok(record)) => {
                let Some(entry) = self.entry(id).await? else { return Ok(Some(Deleted::Missing)) };
                let act = Self::note_of(&entry, DELETED, None);
                self.abort_call(&(&record).into(), true, &act)
            }
            Some(Err(_)) => self.abort_unread_call(id).await?,
        };
        let answer = self.node(id.partition()).admin.ask(call).await?;
        match value::str(&answer) {
            Some("REMOVED") => Ok(Some(Deleted::Removed)),
            Some("LEASED") => Ok(Some(Deleted::Leased)),
            Some("DONE" | "GONE") => Ok(Some(Deleted::Missing)),
            Some("CHANGED") => Ok(None),
            _ => Err(unexpected("abort", &answer).into()),
        }
    }

    /// Some jobs of a message; the whole message, if nothing of it would be left.
    pub(crate) async fn delete_jobs(&self, id: QueueId, numbers: &[u16]) -> Result<Deleted, Error> {
        let record = match self.record(id).await? {
            None => return Ok(Deleted::Missing),
            Some(Ok(record)) if record.destinations.len() > 1 => record,
            Some(Ok(_)) => return self.delete(id).await,
            Some(Err(error)) => return Err(Error::Unreadable(id, error.to_string())),
        };
        let jobs = numbers.iter().filter_map(|job| Some((*job, record.destinations.get(usize::from(*job))?)));
        let Some(entry) = self.entry(id).await? else { return Ok(Deleted::Missing) };
        let act = Self::note_of(&entry, DELETED, Some(numbers));
        let answer = self.node(id.partition()).admin.ask(self.drop_call(id, &jobs.collect::<Vec<_>>(), &act)).await?;
        match value::str(&answer) {
            Some("ALL") => self.delete(id).await,
            Some("REMOVED") => Ok(Deleted::Removed),
            Some("LEASED") => Ok(Deleted::Leased),
            Some("GONE") => Ok(Deleted::Missing),
            _ => Err(unexpected("drop", &answer).into()),
        }
    }

    fn drop_call(&self, id: QueueId, jobs: &[(u16, &Destination)], act: &str) -> Cmd {
        let partition = self.partition(id.partition());
        let states: Vec<String> = jobs.iter().map(|(job, _)| partition.state(id, *job)).collect();
        let waiting: Vec<String> = jobs.iter().map(|(_, name)| partition.waiting(name.as_str())).collect();
        let numbers: Vec<Arg<'_>> = jobs.iter().map(|(job, _)| u64::from(*job).into()).collect();
        let destinations: Vec<Arg<'_>> = jobs.iter().map(|(_, name)| name.as_str().into()).collect();
        script::DropJobs {
            due: &partition.due,
            held: &partition.held,
            back_off: &partition.back_off,
            open: &partition.open_jobs(id),
            extra: &partition.extra,
            acts: &partition.acts,
            states: &states,
            waiting: &waiting,
            id: Arg::Id(id),
            act: act.into(),
            numbers: &numbers,
            destinations: &destinations,
        }
        .call()
    }

    /// By the keys that there are. A job that is held needs no destination.
    async fn abort_unread_call(&self, id: QueueId) -> Result<Cmd, Error> {
        let traces = self.traces(id).await?;
        let places = self.places(id, &traces.jobs).await?;
        let jobs = traces.jobs.iter().map(|job| job + 1).max().unwrap_or(1).max(if traces.several { 2 } else { 1 });
        let nowhere = Destination::new("");
        let destinations: Vec<Destination> =
            (0..jobs).map(|job| places.get(&job).unwrap_or(&nowhere).clone()).collect();
        let act = note(id, DELETED, std::iter::empty());
        let (arrived, chunks) = (id.unix_millis(), traces.all_chunks());
        let whole = Whole { id, arrived, destinations: &destinations, chunks, counted_for: None, octets: 0 };
        Ok(self.abort_call(&whole, true, &act))
    }

    /// `leased`: also if workers have it; it then ends with their attempts. `act`: what to note, if an operator does it.
    pub(crate) fn abort_call(&self, message: &Whole<'_>, leased: bool, act: &str) -> Cmd {
        let Whole { id, arrived, destinations, chunks, counted_for, octets } = *message;
        let partition = self.partition(id.partition());
        let open = (destinations.len() > 1).then(|| partition.open_jobs(id));
        let states: Vec<String> = (0..).zip(destinations).map(|(job, _)| partition.state(id, job)).collect();
        let waiting: Vec<String> = destinations.iter().map(|name| partition.waiting(name.as_str())).collect();
        let destinations: Vec<Arg<'_>> = destinations.iter().map(|name| name.as_str().into()).collect();
        let (counted, login) = partition.counted(counted_for);
        script::Abort {
            record: &partition.record(id),
            ids: &partition.ids,
            tombstones: &partition.tombstones(arrived),
            due: &partition.due,
            held: &partition.held,
            back_off: &partition.back_off,
            extra: &partition.extra,
            garbage: &partition.garbage,
            acts: &partition.acts,
            open: open.as_slice(),
            states: &states,
            waiting: &waiting,
            counted: counted.as_slice(),
            id: Arg::Id(id),
            chunks: (&*chunks.garbage(id)).into(),
            octets: octets.into(),
            mark: leased.into(),
            act: act.into(),
            destinations: &destinations,
            login: login.as_slice(),
        }
        .call()
    }
}
