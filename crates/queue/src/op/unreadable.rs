//! What can be done with a message whose record this program cannot read: a newer one may be able to, so a worker leaves
//! it to that, and an operator sees that it is there and can delete it. What the record would have said is found by the
//! keys that exist; that is work for each destination with mail, so only operators ask for places.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Pipeline;
use staffetta_mail::QueueId;

use super::reclaim::parse_member;
use super::settle::Back;
use crate::error::Fault;
use crate::format::ReadError;
use crate::job::Facts;
use crate::partition::job_name;
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Chunks, Destination, Error, Kept, Lease, Unreadable, metrics};

/// How long such a job rests before somebody looks at it again.
const REST: Duration = Duration::from_secs(60);
/// Chunks or places asked for at once.
const GROUP: u32 = 256;

/// What the keys of a message say.
pub(crate) struct Traces {
    /// Octets of record and chunks.
    pub(crate) octets: u64,
    /// It had more than one job at its arrival.
    pub(crate) several: bool,
    /// The jobs that are open.
    pub(crate) jobs: Vec<u16>,
    pub(crate) chunks: u32,
    /// There is a store, in which its body may be if it is not here.
    store: bool,
}

impl Traces {
    /// All that may have to be deleted with the message.
    pub(crate) fn all_chunks(&self) -> Chunks {
        let kept = if self.chunks == 0 && self.store { Kept::InStore } else { Kept::InRedis };
        Chunks { kept, ..Chunks::in_redis(self.chunks, 0) }
    }

    pub(crate) fn facts(&self, id: QueueId) -> Facts {
        let jobs = if self.several { 2 } else { 1 };
        Facts { jobs, chunks: self.all_chunks(), arrived: id.unix_millis(), ..Facts::default() }
    }
}

impl Shared {
    /// Puts a job back without a strike against it: a newer worker may take it.
    pub(crate) async fn leave_to_others(&self, lease: Lease, error: &ReadError) {
        tracing::error!(qid = %lease.id, job = lease.job, destination = %lease.destination, reason = %error,
            "this job cannot be read here and is left to a newer program");
        metrics::unreadable().increment(1);
        let rest = REST + Duration::from_millis(u64::from(rand::random::<u16>()) / 4);
        let left = async {
            let facts = self.traces(lease.id).await?.facts(lease.id);
            self.defer(&Lease { facts, ..lease }, Back::after(rest), &[]).await
        };
        if let Err(error) = left.await {
            tracing::warn!(%error, "a job that cannot be read comes back when its lease ends");
        }
    }

    /// Ends a job that an operator has deleted.
    pub(crate) async fn finish_unread(&self, lease: &Lease) -> Result<(), Error> {
        let facts = self.traces(lease.id).await?.facts(lease.id);
        self.finish(&Lease { facts, ..lease.clone() }, &[]).await.map(drop)
    }

    /// As an operator sees it.
    pub(crate) async fn unread(&self, id: QueueId, error: &ReadError) -> Result<Unreadable, Error> {
        let size = self.traces(id).await?.octets;
        Ok(Unreadable { id, size, arrived: id.unix_millis(), reason: error.to_string() })
    }

    pub(crate) async fn traces(&self, id: QueueId) -> Result<Traces, Fault> {
        let keys = self.partition(id.partition());
        let store = self.spool.is_some();
        let mut traces = Traces { octets: 0, several: false, jobs: vec![0], chunks: 0, store };
        let mut pipeline = Pipeline::new();
        pipeline.cmd("STRLEN").arg(keys.record(id));
        pipeline.cmd("SRANDMEMBER").arg(keys.open_jobs(id)).arg(u16::MAX);
        loop {
            let head = pipeline.len();
            for index in traces.chunks..traces.chunks + GROUP {
                pipeline.cmd("STRLEN").arg(keys.chunk(id, index));
            }
            let answers =
                self.node(keys.number).admin.send(&pipeline).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
            if let [record, open, ..] = answers.as_slice()
                && head > 0
            {
                traces.octets = count(record);
                let open: Vec<u16> = value::array(open)
                    .iter()
                    .filter_map(value::integer)
                    .filter_map(|job| job.try_into().ok())
                    .collect();
                if !open.is_empty() {
                    traces.several = true;
                    traces.jobs = open;
                }
            }
            let chunks: Vec<u64> = answers[head..].iter().map(count).take_while(|octets| *octets > 0).collect();
            traces.octets += chunks.iter().sum::<u64>();
            traces.chunks += chunks.len() as u32;
            if chunks.len() < GROUP as usize {
                return Ok(traces);
            }
            pipeline.clear();
        }
    }

    /// The destinations of the open jobs that wait or are leased; a held job has none that anybody knows.
    pub(crate) async fn places(&self, id: QueueId, jobs: &[u16]) -> Result<BTreeMap<u16, Destination>, Error> {
        let keys = self.partition(id.partition());
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ZRANGE").arg(&keys.lease).arg(0).arg(-1);
        let answers = self.node(keys.number).ask_all(&pipeline).await?;
        let leases = answers.iter().flat_map(value::array).filter_map(value::str).filter_map(parse_member);
        let mut places: BTreeMap<u16, Destination> =
            leases.filter(|lease| lease.id == id).map(|lease| (lease.job, lease.destination)).collect();
        let pairs: Vec<(Destination, u16)> = self
            .destinations(keys)
            .await?
            .into_iter()
            .flat_map(|destination| jobs.iter().map(move |&job| (destination.clone(), job)))
            .collect();
        for group in pairs.chunks(GROUP as usize) {
            let mut pipeline = Pipeline::new();
            for (destination, job) in group {
                pipeline.cmd("ZSCORE").arg(keys.waiting(destination.as_str())).arg(job_name(id, *job));
            }
            let found = self.node(keys.number).ask_all(&pipeline).await?;
            for ((destination, job), _) in group.iter().zip(&found).filter(|(_, at)| value::score(at).is_some()) {
                places.insert(*job, destination.clone());
            }
        }
        Ok(places)
    }
}
