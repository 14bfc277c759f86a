//! Several servers, each with its share of the partitions: a cluster of three primaries without replicas.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use staffetta_testkit::redis_cluster::RedisCluster;
use tokio_util::sync::CancellationToken;

use super::inside::{put, settings};
use crate::shared::{Process, Shared};
use crate::{Destination, Filter, Health};

struct Three {
    shared: Arc<Shared>,
    cluster: RedisCluster,
}

async fn three() -> Three {
    let cluster = RedisCluster::start(false, &[]).unwrap();
    let settings = crate::Settings { partitions: 4, ..settings(cluster.url()) };
    let shared = Shared::open_as(settings, CancellationToken::new(), Process::TODAY).unwrap();
    while shared.nodes().count() < 3 || !shared.is_whole() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Three { shared, cluster }
}

#[tokio::test]
async fn mail_is_spread_over_the_nodes_and_found_on_all() {
    let three = three().await;
    let shared = &three.shared;
    let mut ids = BTreeSet::new();
    for _ in 0..8 {
        ids.insert(put(shared, &["a@x.example", "b@y.example"]).await.unwrap());
    }
    let used: BTreeSet<u16> = ids.iter().map(|id| id.partition()).collect();
    assert_eq!(used, BTreeSet::from([0, 1, 2, 3]));
    let mut records = Vec::new();
    for member in 0..3 {
        let keys = three.cluster.ask(member, &["KEYS", "*}m:*"]).unwrap();
        records.push(keys.lines().filter(|key| !key.is_empty()).count());
    }
    assert!(records.iter().sum::<usize>() == 8 && records.iter().all(|count| *count >= 2), "{records:?}");
    let counts = shared.counts().await.unwrap();
    assert_eq!((counts.messages, counts.ready), (8, 16));
    let page = shared.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.message.id).collect::<BTreeSet<_>>(), ids);
    assert!(page.entries.iter().all(|entry| entry.jobs.len() == 2));
    let filter = Filter { destination: Some(Destination::new("x.example")), ..Filter::default() };
    assert_eq!(shared.list(&filter, None, 100).await.unwrap().entries.len(), 8);
    for number in 0..4 {
        shared.park(number, &Destination::new("x.example"), Duration::from_secs(300)).await.unwrap();
    }
    shared.flush(&filter).await.unwrap();
    let mut jobs = Vec::new();
    for number in 0..4 {
        jobs.extend(shared.claim(number, &Destination::new("x.example"), 10).await.unwrap());
    }
    let leases: Vec<_> = jobs.iter().map(|job| job.lease.clone()).collect();
    assert_eq!(shared.renew(&leases).await.unwrap(), [true; 8]);
    for lease in &leases {
        assert!(shared.finish(lease, &[]).await.unwrap().is_done());
    }
    assert_eq!(shared.counts().await.unwrap().ready, 8);
}

#[tokio::test]
async fn new_mail_goes_to_the_nodes_that_are_there_and_operators_see_those() {
    let mut three = three().await;
    for _ in 0..4 {
        put(&three.shared, &["a@x.example"]).await.unwrap();
    }
    let slot = three.shared.partition(0).slot;
    let gone = three.cluster.primary_of(slot).unwrap();
    three.cluster.kill(gone);
    let shared = &three.shared;
    while shared.node(0).health() == Health::Ready || shared.node(0).admin.trouble().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shared.health(), Health::Ready);
    let away: BTreeSet<u16> = shared.away().into_iter().map(|(number, _)| number).collect();
    assert!(away.contains(&0) && away.len() < 4, "{away:?}");
    for _ in 0..8 {
        let id = put(shared, &["a@x.example"]).await.unwrap();
        assert!(!away.contains(&id.partition()), "{id}");
    }
    let mut jobs = Vec::new();
    for number in (0..4).filter(|number| !away.contains(number)) {
        jobs.extend(shared.claim(number, &Destination::new("x.example"), 10).await.unwrap());
    }
    assert_eq!(jobs.len(), 8 + 4 - away.len());
    let seen = shared.list(&Filter::default(), None, 100).await.unwrap().entries.len();
    assert_eq!((seen as u64, seen), (shared.counts_of_parts().await.unwrap().messages, jobs.len()));
    assert!(shared.counts().await.is_err(), "part of a number is none");

    // Leases of those that are there are renewed whatever becomes of the others.
    let mut leases: Vec<_> = jobs.iter().map(|job| job.lease.clone()).collect();
    leases[0].id = shared.new_id_in(0);
    let renewed = shared.renew_each(&leases).await;
    assert!(renewed[0].is_err() && renewed[1..].iter().all(|ours| matches!(ours, Ok(true))), "{renewed:?}");
    for member in (0..3).filter(|member| *member != gone) {
        three.cluster.kill(member);
    }
    while three.shared.health() == Health::Ready {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(put(&three.shared, &["a@x.example"]).await.is_err());
}
