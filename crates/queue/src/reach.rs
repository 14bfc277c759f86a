//! Connections to all servers that have partitions, for the rare moment in which a queue is made, gets more partitions, or goes on
//! without some.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{Pipeline, Value};

use crate::address::Address;
use crate::cluster::Cluster;
use crate::connection::{self, RESPONSE_TIMEOUT};
use crate::gate::{self, Mark};
use crate::live::Live;
use crate::partitions::Share;

/// One for each node, by its number.
pub(crate) struct Reach {
    partitions: Share,
    servers: BTreeMap<u16, Live>,
}

impl Reach {
    /// `live` leads to the node that has this share. Without one of the others nothing is reached.
    pub(crate) async fn all(live: &Live, partitions: &Share, cluster: Option<&Arc<Cluster>>) -> Result<Self, String> {
        let mut servers = BTreeMap::from([(partitions.node(), live.clone())]);
        if let Some(cluster) = cluster {
            let address = Address::in_cluster(cluster.clone());
            for (number, _) in cluster.map().shards().filter(|(number, _)| *number != partitions.node()) {
                let live = connection::open(&address.of_shard(number), RESPONSE_TIMEOUT).await?;
                servers.insert(number, live);
            }
        }
        Ok(Self { partitions: partitions.clone(), servers })
    }

    /// What the server that has this slot answers; the first failure is the failure of all.
    pub(crate) async fn expect(&self, slot: u16, pipeline: &Pipeline) -> Result<Vec<Value>, String> {
        let server = self.servers.get(&self.partitions.node_of(slot));
        let answers = server.ok_or("a server of the cluster is not known yet")?.send(pipeline).await;
        let answers = answers.map_err(|fault| fault.to_string())?.into_iter();
        answers.collect::<Result<_, _>>().map_err(|fault| fault.to_string())
    }

    /// The marks of all partitions.
    pub(crate) async fn marks(&self, count: u16) -> Result<Vec<Mark>, String> {
        let mut marks = Vec::with_capacity(usize::from(count));
        for numbers in self.by_node(0..count) {
            let mut pipeline = Pipeline::new();
            for number in &numbers {
                pipeline.cmd("GET").arg(&self.partitions.any(*number).identity);
            }
            let answers = self.expect(self.slot_of(&numbers), &pipeline).await?;
            marks.extend(numbers.into_iter().zip(answers.iter().map(gate::text)));
        }
        marks.sort_by_key(|(number, _)| *number);
        Ok(marks)
    }

    /// Marks these, unless they are.
    pub(crate) async fn put_marks(&self, partitions: &[u16], id: &str) -> Result<(), String> {
        for numbers in self.by_node(partitions.iter().copied()) {
            let mut pipeline = Pipeline::new();
            for number in &numbers {
                pipeline.cmd("SET").arg(&self.partitions.any(*number).identity).arg(id).arg("NX");
            }
            self.expect(self.slot_of(&numbers), &pipeline).await?;
        }
        Ok(())
    }

    fn by_node(&self, numbers: impl Iterator<Item = u16>) -> impl Iterator<Item = Vec<u16>> {
        let mut groups: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for number in numbers {
            groups.entry(self.partitions.node_of(self.partitions.any(number).slot)).or_default().push(number);
        }
        groups.into_values()
    }

    /// Of the first of a group that is on one node.
    fn slot_of(&self, numbers: &[u16]) -> u16 {
        numbers.first().map_or(0, |number| self.partitions.any(*number).slot)
    }
}
