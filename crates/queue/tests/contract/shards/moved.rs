//! A partition's slot goes to another primary.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use staffetta_queue::{Destination, Filter};
use staffetta_testkit::redis_cluster::PRIMARIES;
use tokio_util::sync::CancellationToken;

use super::{Ledger, PARTITIONS, Shards, deliver_aside, send, until};
use crate::world::{accept, put};

/// As `redis-cli --cluster reshard` does it, key by key, while mail comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moved_to_another_primary_while_in_use_loses_and_doubles_nothing() {
    let shards = Shards::start(false, |_| {}).await;
    let slot = shards.slot_of(0);
    let (from, waiting) =
        (shards.member_of(0), Filter { destination: Some(Destination::new("x.example")), ..Filter::default() });
    let to = (from + 1) % PRIMARIES;
    // Some mail waits there all the time.
    let mut resting = BTreeSet::new();
    while resting.len() < 30 {
        let id = put(&shards.queue, &["a@y.example"], b"x").await.unwrap();
        resting.extend((id.partition() == 0).then_some(id));
    }
    let stop = CancellationToken::new();
    let senders: Vec<_> = (0..4).map(|_| tokio::spawn(send(shards.queue.clone(), stop.clone(), b"x"))).collect();
    let delivered = Ledger::default();
    let (queue, ledger, end) = (shards.queue.clone(), delivered.clone(), shards.shutdown.clone());
    let worker = tokio::spawn(async move {
        while !end.is_cancelled() {
            deliver_aside(&queue, &ledger).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let count = || delivered.lock().unwrap_or_else(PoisonError::into_inner).len();
    until("mail flows", async || count() > 50).await;
    shards.cluster.begin_move(slot, from, to).unwrap();
    while shards.cluster.move_keys(slot, from, to, 7).unwrap() > 0 {
        let before = count();
        until("mail flows in the other partitions", async || count() > before + 5).await;
    }
    shards.cluster.end_move(slot, from, to).unwrap();
    until("the partition takes mail where it is now", async || shards.put().await.partition() == 0).await;
    stop.cancel();
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for sender in senders {
        let (taken, not) = sender.await.unwrap();
        accepted.extend(taken);
        refused.extend(not);
    }
    let left = async || shards.queue.list(&waiting, None, 10).await.map_or(1, |page| page.entries.len());
    until("everything is delivered", async || left().await == 0).await;
    shards.shutdown.cancel();
    worker.await.unwrap();
    let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
    let wrong: Vec<_> = accepted.iter().filter(|id| delivered.get(id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), accepted.len());
    assert!(refused.iter().all(|id| !delivered.contains_key(id)), "{} refused", refused.len());
    assert_eq!(shards.cluster.ask(from, &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).unwrap(), "0");
    let there = shards.cluster.ask(to, &["ZCARD", &shards.identity(0).replace("}id", "}ids")]).unwrap();
    assert_eq!(there, resting.len().to_string(), "what waited has moved along");
}

/// What is under way there is asked again, with the same id, and the server has other partitions.
#[tokio::test]
async fn an_enqueue_waits_for_the_end_of_a_move_and_the_rest_of_the_server_is_in_use() {
    let shards = Shards::start(false, |_| {}).await;
    let (slot, from) = (shards.slot_of(0), shards.member_of(0));
    let to = (from + 1) % PRIMARIES;
    let mut incoming = shards.queue.receive().unwrap();
    while incoming.id().partition() != 0 {
        incoming = shards.queue.receive().unwrap();
    }
    let id = incoming.id();
    let theirs: BTreeSet<u16> = (1..PARTITIONS).filter(|number| shards.member_of(*number) == from).collect();
    shards.cluster.begin_move(slot, from, to).unwrap();
    // The checks of each second notice it, and mail goes elsewhere.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for _ in 0..2 * PARTITIONS {
        assert_ne!(shards.put().await.partition(), 0, "it would have to wait there");
    }
    while shards.cluster.move_keys(slot, from, to, 100).unwrap() > 0 {}
    // They do not find its mark any longer, which is no reason to leave the server.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    until("the rest of the server takes mail", async || theirs.contains(&shards.put().await.partition())).await;

    incoming.write(b"x").await.unwrap();
    let commit = tokio::spawn(incoming.commit(accept(&["a@z.example"]), b""));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!commit.is_finished(), "nobody has the slot");
    shards.cluster.end_move(slot, from, to).unwrap();
    let moved = Instant::now();
    assert_eq!(commit.await.unwrap().unwrap(), id);
    let claimed = shards.queue.claim(0, &Destination::new("z.example"), 10).await.unwrap();
    assert!(
        claimed.is_empty() || moved.elapsed() > Duration::from_secs(4),
        "whoever was refused may be withdrawing yet"
    );
    until("it is delivered", async || {
        let jobs = shards.queue.claim(0, &Destination::new("z.example"), 10).await.unwrap();
        jobs.first().is_some_and(|job| job.lease.id == id)
    })
    .await;
}
