//! Two servers, each with half of the partitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::inside::{put, settings};
use crate::server::LocalServer;
use crate::shared::{Process, Shared};
use crate::{Destination, Filter, Health};

struct Two {
    shared: Arc<Shared>,
    servers: Vec<LocalServer>,
    _dirs: [tempfile::TempDir; 2],
}

async fn two() -> Two {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let servers: Vec<LocalServer> = dirs.iter().map(|dir| LocalServer::start(dir.path()).unwrap()).collect();
    let urls: Vec<String> = servers.iter().map(LocalServer::url).collect();
    let settings = crate::Settings { partitions: 4, ..settings(urls[0].clone()) };
    let shared = Shared::open_on(settings, &urls, CancellationToken::new(), Process::TODAY).unwrap();
    for node in shared.nodes() {
        while node.health() != Health::Ready || node.admin.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Two { shared, servers, _dirs: dirs }
}

#[tokio::test]
async fn mail_is_spread_over_the_nodes_and_found_on_all() {
    let two = two().await;
    let mut ids = BTreeSet::new();
    for _ in 0..8 {
        ids.insert(put(&two.shared, &["a@x.example", "b@y.example"]).await.unwrap());
    }
    let used: BTreeSet<u16> = ids.iter().map(|id| id.partition()).collect();
    assert_eq!(used, BTreeSet::from([0, 1, 2, 3]));
    for server in &two.servers {
        let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*}m:*").query(&mut redis).unwrap();
        assert_eq!(keys.len(), 4, "half of the messages: {keys:?}");
    }
    let counts = two.shared.counts().await.unwrap();
    assert_eq!((counts.messages, counts.ready), (8, 16));
    let page = two.shared.list(&Filter::default(), None, 100).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.message.id).collect::<BTreeSet<_>>(), ids);
    assert!(page.entries.iter().all(|entry| entry.jobs.len() == 2));
    let filter = Filter { destination: Some(Destination::new("x.example")), ..Filter::default() };
    assert_eq!(two.shared.list(&filter, None, 100).await.unwrap().entries.len(), 8);
    for number in 0..4 {
        two.shared.park(number, &Destination::new("x.example"), Duration::from_secs(300)).await.unwrap();
    }
    two.shared.flush(&filter).await.unwrap();
    let mut jobs = Vec::new();
    for number in 0..4 {
        jobs.extend(two.shared.claim(number, &Destination::new("x.example"), 10).await.unwrap());
    }
    let leases: Vec<_> = jobs.iter().map(|job| job.lease.clone()).collect();
    assert_eq!(two.shared.renew(&leases).await.unwrap(), [true; 8]);
    for lease in &leases {
        assert!(two.shared.finish(lease, &[]).await.unwrap().is_done());
    }
    assert_eq!(two.shared.counts().await.unwrap().ready, 8);
}

#[tokio::test]
async fn new_mail_goes_to_the_nodes_that_are_there() {
    let mut two = two().await;
    let on_first = |partition: u16| std::ptr::eq(two.shared.node(partition), two.shared.home());
    assert!(on_first(0) && on_first(1) && !on_first(2) && !on_first(3));
    two.servers[0].kill().unwrap();
    while two.shared.home().health() == Health::Ready {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(two.shared.health(), Health::Ready);
    for _ in 0..8 {
        let id = put(&two.shared, &["a@x.example"]).await.unwrap();
        assert!([2, 3].contains(&id.partition()), "{id}");
    }
    let mut jobs = 0;
    for number in [2, 3] {
        assert_eq!(two.shared.offer(number, 10).await.unwrap().destinations.len(), 1);
        jobs += two.shared.claim(number, &Destination::new("x.example"), 10).await.unwrap().len();
    }
    assert_eq!(jobs, 8);
    two.servers[1].kill().unwrap();
    while two.shared.health() == Health::Ready {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(put(&two.shared, &["a@x.example"]).await.is_err());
}
