//! Numbers for the metrics, without counters in the hot path: most are the cardinality of an index.
//!
//! Jobs = messages + `n` (jobs beyond the first of each message); waiting = jobs - leased - held; ready is summed over
//! the destinations that are due, at most 256 in a partition, and scaled up beyond.

use std::time::Duration;

use redis::{Pipeline, Value};

use crate::node::Node;
use crate::shared::Shared;
use crate::value::{self, count};
use crate::{Counts, Error, UnixMillis};

/// Destinations looked at in a partition.
const SAMPLE: usize = 256;
/// An offer moves a destination this far into the future; it is ready all the same.
const VISIT: u64 = 200;

impl Shared {
    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        let mut counts = Counts { memory: self.memory(), ..Counts::default() };
        for node in self.nodes() {
            node.add_counts(&mut counts).await?;
        }
        Ok(counts)
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
        }
        let answers = self.ask_all(&pipeline).await?;
        let (mut idle, mut ready_here) = (0_u64, 0);
        let mut oldest = now;
        for (keys, answers) in partitions.into_iter().zip(answers.chunks_exact(6)) {
            let [messages, extra, leased, held, due, names] = answers else { continue };
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
