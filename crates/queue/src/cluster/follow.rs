//! Keeps a queue on the map of its cluster: a node for each shard, and each slot at the node that has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cluster, Map};
use crate::shared::Shared;

/// How often the map is fetched when nobody has doubts.
const EVERY: Duration = Duration::from_secs(30);

impl Shared {
    /// Goes on for ever.
    pub(crate) async fn follow(self: Arc<Self>, cluster: Arc<Cluster>) {
        let mut maps = cluster.watch();
        let mut known = Arc::<Map>::default();
        loop {
            let map = maps.borrow_and_update().clone();
            if !map.0.is_empty() {
                self.settle_on(&map, &known);
                known = map;
            }
            tokio::select! {
                changed = maps.changed() => if changed.is_err() { return },
                () = cluster.doubted() => self.fetch(&cluster).await,
                () = tokio::time::sleep(EVERY) => self.fetch(&cluster).await,
            }
        }
    }

    async fn fetch(&self, cluster: &Cluster) {
        if let Err(reason) = cluster.refresh().await {
            tracing::debug!(%reason, "the map of the cluster is as old as it was");
        }
    }

    /// New nodes first, so that every slot is at one that is there. `known`: the map before; empty, if there was none.
    fn settle_on(&self, map: &Map, known: &Map) {
        for (number, _) in map.shards() {
            self.begin_node(number);
        }
        let mut moved = Vec::new();
        for (number, shard) in map.shards() {
            for slot in shard.slots() {
                if self.table.put(slot, number) && !known.0.is_empty() {
                    moved.push(slot);
                }
            }
        }
        for (number, shard) in (0..).zip(&map.0) {
            if let Some(node) = self.known_node(number) {
                node.set_serving(!shard.ranges.is_empty());
                // A server that was demoted stays connected, and has nothing to say.
                if known.0.get(usize::from(number)).is_some_and(|before| before.primary != shard.primary) {
                    node.renew_connections();
                }
            }
        }
        self.await_withdrawals(&moved);
    }

    /// Whoever has refused a message in a partition that was away with its slot may not have withdrawn it yet: for a moment
    /// nothing is claimed where it is now.
    fn await_withdrawals(&self, moved: &[u16]) {
        if moved.is_empty() {
            return;
        }
        for partition in self.partitions().filter(|partition| moved.contains(&partition.slot)) {
            tracing::info!(partition = partition.number, "a partition has moved to another server of the cluster");
            self.node_of(partition).pulse().unsettle(Instant::now());
        }
    }
}
