//! Numbers for the metrics, without counters in the hot path: most are the cardinality of an index.
//!
//! Jobs = messages + `n` (jobs beyond the first of each message); waiting = jobs - leased - held; ready is summed over
//! the destinations that are due, at most 256 in a partition, and scaled up beyond. The oldest message of a state is
//! looked for among the first of an index, which is in the order of arrival or close to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};
use staffetta_mail::QueueId;

use crate::node::Node;
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Counts, Error, UnixMillis};

/// Destinations looked at in a partition.
const SAMPLE: usize = 256;
/// An offer moves a destination this far into the future; it is ready all the same.
const VISIT: u64 = 200;
/// Members of an index among which the oldest message is looked for.
const HEAD: usize = 64;

impl Shared {
    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        self.counts_on(self.nodes()).await
    }

    /// Servers that are away are left out, unless all are.
    pub(crate) async fn counts_of_parts(&self) -> Result<Counts, Error> {
        let there = || self.nodes().filter(|node| node.admin.trouble().is_none());
        if there().next().is_none() { self.counts().await } else { self.counts_on(there()).await }
    }

    async fn counts_on(&self, nodes: impl Iterator<Item = &Arc<Node>>) -> Result<Counts, Error> {
        let mut counts = Counts { memory: self.memory(), ..Counts::default() };
        for node in nodes {
            node.add_counts(&mut counts).await?;
        }
        Ok(counts)
    }

    /// The slowest of all servers counts.
    pub(crate) async fn round_trip(&self) -> Result<Duration, Error> {
        let mut longest = Duration::ZERO;
        for node in self.nodes() {
            let asked = Instant::now();
            node.redis_now().await?;
            longest = longest.max(asked.elapsed());
        }
        Ok(longest)
    }
}

impl Node {
    async fn add_counts(&self, counts: &mut Counts) -> Result<(), Error> {
        let now = self.redis_now().await?;
        let mut pipeline = Pipeline::new();
        let partitions: Vec<_> = self.partitions.iter().collect();
        for keys in &partitions {
            pipeline.cmd("ZCARD").arg(&keys.ids);
            pipeline.cmd("GET").arg(&keys.extra);
            pipeline.cmd("ZCARD").arg(&keys.lease);
            pipeline.cmd("ZCARD").arg(&keys.held);
            pipeline.cmd("ZCOUNT").arg(&keys.due).arg("-inf").arg(now + VISIT);
            pipeline.cmd("ZRANGEBYSCORE").arg(&keys.due).arg("-inf").arg(now + VISIT).arg("LIMIT").arg(0).arg(SAMPLE);
            pipeline.cmd("ZRANGE").arg(&keys.ids).arg(0).arg(HEAD - 1);
            // One less, so that one of those messages is none of these.
            pipeline.cmd("ZRANGE").arg(&keys.held).arg(0).arg(HEAD - 2);
            pipeline.cmd("ZRANGE").arg(&keys.lease).arg(0).arg(HEAD - 1);
        }
        let answers = self.ask_all(&pipeline).await?;
        let (mut idle, mut ready_here) = (0_u64, 0);
        let (mut oldest, mut arrivals) = (now, Arrivals { scheduled: now, leased: now, held: now });
        for (keys, answers) in partitions.into_iter().zip(answers.chunks_exact(9)) {
            let [messages, extra, leased, held, due, names, heads @ ..] = answers else { continue };
            arrivals.look_at(heads);
            counts.messages += count(messages);
            counts.leased += count(leased);
            counts.held += count(held);
            idle = (idle + count(messages) + count(extra)).saturating_sub(count(leased) + count(held));
            let mut pipeline = Pipeline::new();
            for name in value::array(names).iter().filter_map(value::str) {
                let waiting = keys.waiting(name);
                pipeline.cmd("ZCOUNT").arg(&waiting).arg("-inf").arg(now);
                pipeline.cmd("ZRANGE").arg(&waiting).arg(0).arg(0).arg("WITHSCORES");
            }
            let answers = self.ask_all(&pipeline).await?;
            let looked = answers.len() as u64 / 2;
            if looked == 0 {
                continue;
            }
            let ready: u64 = answers.iter().step_by(2).map(count).sum();
            ready_here += ready * count(due).max(looked) / looked;
            let heads =
                answers.iter().skip(1).step_by(2).filter_map(|head| value::scored(head).first().map(|(_, at)| *at));
            oldest = heads.fold(oldest, u64::min);
        }
        let ready = ready_here.min(idle);
        counts.ready += ready;
        counts.scheduled += idle - ready;
        counts.oldest_ready = counts.oldest_ready.max(Duration::from_millis(now - oldest));
        let age = |arrived: UnixMillis| Duration::from_millis(now.saturating_sub(arrived));
        if idle > ready {
            counts.oldest_scheduled = counts.oldest_scheduled.max(age(arrivals.scheduled));
        }
        counts.oldest_leased = counts.oldest_leased.max(age(arrivals.leased));
        counts.oldest_held = counts.oldest_held.max(age(arrivals.held));
        Ok(())
    }

    /// Exactly; the clock of this process may be a round trip behind.
    async fn redis_now(&self) -> Result<UnixMillis, Error> {
        let answer = self.admin.ask(redis::cmd("TIME")).await?;
        Ok(value::time(&answer).unwrap_or_else(|| self.clock.now()))
    }

    /// Read-only commands on the operators' connection; the first failure is the failure of all.
    pub(crate) async fn ask_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.admin.send(pipeline).await?;
        Ok(answers.into_iter().collect::<Result<_, _>>()?)
    }
}

/// When the oldest messages of each state arrived; now, where there is none.
struct Arrivals {
    scheduled: UnixMillis,
    leased: UnixMillis,
    held: UnixMillis,
}

impl Arrivals {
    /// The first of a partition's messages, of its held jobs and of its leases.
    fn look_at(&mut self, heads: &[Value]) {
        let [messages, held, leased] = heads else { return };
        let held: Vec<QueueId> = ids(held).collect();
        let leased = ids(leased).map(QueueId::unix_millis);
        self.leased = leased.fold(self.leased, u64::min);
        self.held = held.iter().map(|id| id.unix_millis()).fold(self.held, u64::min);
        // Where more are held than were looked at, one of those may be taken for one that is not.
        if let Some(first) = ids(messages).find(|id| !held.contains(id)) {
            self.scheduled = self.scheduled.min(first.unix_millis());
        }
    }
}

/// The queue id that each member of an index begins with.
fn ids(members: &Value) -> impl Iterator<Item = QueueId> {
    let id = |member: &Value| value::str(member).and_then(|text| text.get(..QueueId::LENGTH)?.parse().ok());
    value::array(members).iter().filter_map(id)
}
