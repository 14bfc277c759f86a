//! Connections of a client, counted over all pods.

use std::time::Duration;

use staffetta_queue::{Headcount, Heads};

use crate::world::world;

fn heads(count: u32, version: u64) -> Heads {
    Heads { client: "192.0.2.1".to_owned(), count, version }
}

async fn claim(pod: &Headcount, count: u32, version: u64) -> u32 {
    pod.claim(&heads(count, version), 10).await.unwrap()
}

#[tokio::test]
async fn all_pods_together_have_no_more_than_the_limit() {
    let world = world().await;
    let (one, two) = (world.queue.headcount(), world.another().await.headcount());
    assert_eq!(claim(&one, 6, 1).await, 6);
    assert_eq!(claim(&two, 6, 1).await, 4);
    assert_eq!(claim(&one, 7, 2).await, 6, "there are no more");
    let other = Heads { client: "192.0.2.2".to_owned(), count: 6, version: 2 };
    assert_eq!(two.claim(&other, 10).await.unwrap(), 6, "each client has its own");
    one.tell(&[heads(2, 3)]).await.unwrap();
    assert_eq!(claim(&two, 9, 3).await, 8);
    // What is so already is said, not asked for.
    one.tell(&[heads(5, 4)]).await.unwrap();
    assert_eq!(claim(&two, 9, 4).await, 5);
    one.tell(&[heads(0, 5)]).await.unwrap();
    two.tell(&[heads(0, 5), Heads { count: 0, version: 6, ..other }]).await.unwrap();
    assert_eq!(world.remains(), Vec::<String>::new(), "who has no connections has no key");
}

#[tokio::test]
async fn what_comes_late_changes_nothing() {
    let world = world().await;
    let (one, two) = (world.queue.headcount(), world.another().await.headcount());
    assert_eq!(claim(&one, 3, 7).await, 3);
    assert_eq!(claim(&one, 8, 6).await, 3);
    one.tell(&[heads(0, 5), heads(9, 7)]).await.unwrap();
    assert_eq!(claim(&two, 10, 1).await, 7);
}

#[tokio::test]
async fn a_pod_that_died_holds_no_places_for_ever() {
    const KEY: &str = "{C:192.0.2.1}";
    let world = world().await;
    let (one, two) = (world.queue.headcount(), world.another().await.headcount());
    assert_eq!(claim(&one, 9, 1).await, 9);
    let mut redis = world.redis();
    let left: i64 = redis::cmd("PTTL").arg(KEY).query(&mut redis).unwrap();
    assert!((80_000..=90_000).contains(&left), "{left}");
    assert!(Headcount::RENEWAL * 2 < Duration::from_secs(90), "two may be missed");
    let entries: Vec<(String, String)> = redis::cmd("HGETALL").arg(KEY).query(&mut redis).unwrap();
    let (pod, entry) = &entries[0];
    let end: u64 = entry.strip_prefix("9 1 ").unwrap().parse().unwrap();
    let mut write = |entry: String| redis::cmd("HSET").arg(KEY).arg(pod).arg(entry).exec(&mut redis).unwrap();
    write(format!("9 1 {}", end - 60_000));
    assert_eq!(claim(&two, 5, 1).await, 1, "30 s are left");
    write(format!("9 1 {}", end - 90_001));
    assert_eq!(claim(&two, 5, 2).await, 5);
    let pods: u64 = redis::cmd("HLEN").arg(KEY).query(&mut redis).unwrap();
    assert_eq!(pods, 1, "what is over is gone");
}

#[tokio::test]
async fn a_full_redis_still_counts() {
    let world = world().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("100kb").exec(&mut world.redis()).unwrap();
    assert_eq!(claim(&world.queue.headcount(), 3, 1).await, 3);
}
