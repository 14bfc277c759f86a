//! A primary dies, or changes places with its replica.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use staffetta_queue::{Durability, Health};
use staffetta_testkit::redis_cluster::PRIMARIES;
use tokio_util::sync::CancellationToken;

use super::{Ledger, PARTITIONS, Shards, deliver_once, send, until};
use crate::world::put;

/// What only a killed primary had is with its replica, because a 250 has waited for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_killed_under_load_takes_nothing_along_and_the_others_go_on() {
    let mut shards = Shards::start(true, |settings| {
        settings.durability = Durability::Replicated;
        settings.replicas = 1;
    })
    .await;
    let stop = CancellationToken::new();
    let body: [&[u8]; 2] = [b"x", &[b'y'; 300_000]];
    let senders: Vec<_> =
        (0..8).map(|n| tokio::spawn(send(shards.queue.clone(), stop.clone(), body[usize::from(n == 7)]))).collect();
    let delivered = Ledger::default();
    let (queue, ledger, end) = (shards.queue.clone(), delivered.clone(), shards.shutdown.clone());
    let worker = tokio::spawn(async move {
        while !end.is_cancelled() {
            deliver_once(&queue, &ledger).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    until("mail flows", async || delivered.lock().unwrap_or_else(PoisonError::into_inner).len() > 50).await;

    let slot = shards.slot_of(0);
    let killed = shards.cluster.primary_of(slot).unwrap();
    let theirs: BTreeSet<u16> = (0..PARTITIONS).filter(|number| shards.member_of(*number) == killed).collect();
    assert!((1..PARTITIONS).contains(&(theirs.len() as u16)), "{theirs:?}");
    shards.cluster.kill(killed);
    until("it is noticed", async || !shards.queue.away().is_empty()).await;
    assert_eq!(shards.queue.health(), Health::Ready);
    for _ in 0..20 {
        assert!(!theirs.contains(&shards.put().await.partition()), "mail goes elsewhere");
    }
    until("a replica takes its place", async || shards.cluster.primary_of(slot).is_ok_and(|now| now != killed)).await;
    // It has nobody to confirm what it takes before the old one is back.
    shards.cluster.revive(killed).unwrap();
    until("its partitions are back", async || shards.queue.away().is_empty()).await;
    until("they take mail", async || theirs.contains(&shards.put().await.partition())).await;
    stop.cancel();
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for sender in senders {
        let (taken, not) = sender.await.unwrap();
        accepted.extend(taken);
        refused.extend(not);
    }
    let missing = || {
        let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.iter().filter(|id| !delivered.contains_key(id)).count()
    };
    until("everything accepted is delivered", async || missing() == 0).await;
    until("nothing is left", async || shards.queue.counts().await.is_ok_and(|counts| counts.messages == 0)).await;
    shards.shutdown.cancel();
    worker.await.unwrap();
    let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
    let though_refused: Vec<_> = refused.iter().filter(|id| delivered.contains_key(id)).collect();
    assert!(though_refused.is_empty(), "refused and delivered: {though_refused:?} of {}", refused.len());
}

/// Without somebody to wait for, what the replica had heard is all there is; but it comes back by itself.
#[tokio::test]
async fn partitions_come_back_with_the_replica_that_was_promoted() {
    let mut shards = Shards::start(true, |_| {}).await;
    let slot = shards.slot_of(0);
    let killed = shards.cluster.primary_of(slot).unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..PARTITIONS * 2 {
        ids.insert(shards.put().await);
    }
    until("the replica has it", async || {
        let offset = |text: String| {
            text.lines().find_map(|line| Some(line.split_once("master_repl_offset:")?.1.trim().to_owned()))
        };
        let of = |member| shards.cluster.ask(member, &["INFO", "replication"]).ok().and_then(offset);
        of(killed).is_some() && of(killed) == of(killed + PRIMARIES)
    })
    .await;
    shards.cluster.kill(killed);
    until("it is noticed", async || shards.queue.away().iter().any(|(number, _)| *number == 0)).await;
    until("it is replaced", async || shards.queue.away().is_empty()).await;
    until("its partitions take mail", async || {
        let id = shards.put().await;
        ids.insert(id);
        id.partition() == 0
    })
    .await;
    // After a while without a primary nothing is begun for a moment.
    let delivered = shards.drain(Duration::from_secs(8)).await;
    assert_eq!(delivered.keys().copied().collect::<BTreeSet<_>>(), ids);
    assert!(delivered.values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_primary_that_is_demoted_is_left_for_the_one_in_its_place() {
    let shards = Shards::start(true, |_| {}).await;
    let slot = shards.slot_of(0);
    let old = shards.cluster.primary_of(slot).unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..PARTITIONS {
        ids.insert(shards.put().await);
    }
    shards.cluster.ask(old + PRIMARIES, &["CLUSTER", "FAILOVER"]).unwrap();
    until("they change places", async || shards.cluster.primary_of(slot).is_ok_and(|now| now == old + PRIMARIES)).await;
    until("mail comes into its partitions", async || {
        let Ok(id) = put(&shards.queue, &["a@x.example"], b"x").await else { return false };
        ids.insert(id);
        id.partition() == 0
    })
    .await;
    let delivered = shards.drain(Duration::from_secs(8)).await;
    assert_eq!(delivered.keys().copied().collect::<BTreeSet<_>>(), ids);
    assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
}
