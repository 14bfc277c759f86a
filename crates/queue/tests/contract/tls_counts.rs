//! How the TLS of mail went, until the domains are told.

use std::time::Duration;

use staffetta_queue::TlsPeriod;

use crate::world::world;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: u64 = 86_400_000;

fn day(domain: &str) -> TlsPeriod {
    TlsPeriod { domain: domain.to_owned(), start: DAY, end: 2 * DAY }
}

fn outcomes<const N: usize>(all: [(&str, u64); N]) -> Vec<(String, u64)> {
    all.into_iter().map(|(outcome, number)| (outcome.to_owned(), number)).collect()
}

#[tokio::test]
async fn what_all_pods_have_seen_is_counted_together_and_claimed_by_one() {
    let world = world().await;
    let (here, there) = (world.queue.tls_counts(), world.another().await.tls_counts());
    assert_eq!(here.claim(HOUR).await.unwrap(), None);
    assert!(here.add(&day("a.test"), DAY, &outcomes([("good", 2), ("bad", 1)])).await.unwrap());
    assert!(there.add(&day("a.test"), DAY, &outcomes([("good", 40)])).await.unwrap());
    let later = world.queue.now() + DAY;
    assert!(there.add(&day("b.test"), later, &outcomes([("good", 1)])).await.unwrap());
    let claimed = there.claim(HOUR).await.unwrap().unwrap();
    assert_eq!(claimed, day("a.test"));
    assert_eq!(here.claim(HOUR).await.unwrap(), None, "somebody has it, and the other is not due");
    let mut found = here.read(&claimed).await.unwrap();
    found.sort();
    assert_eq!(found, outcomes([("bad", 1), ("good", 42)]));
    there.forget(&claimed).await.unwrap();
    assert!(here.read(&claimed).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_dies_with_a_claim_leaves_it_to_others() {
    let world = world().await;
    let counts = world.queue.tls_counts();
    counts.add(&day("a.test"), DAY, &outcomes([("good", 1)])).await.unwrap();
    for _ in 0..2 {
        while counts.claim(Duration::from_millis(20)).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(counts.read(&day("a.test")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_entry_that_nobody_can_read_goes() {
    let world = world().await;
    let counts = world.queue.tls_counts();
    redis::cmd("ZADD").arg("{T:}pending").arg(0).arg("what").exec(&mut world.redis()).unwrap();
    counts.add(&day("a.test"), DAY, &outcomes([("good", 1)])).await.unwrap();
    assert_eq!(counts.claim(HOUR).await.unwrap(), None);
    assert_eq!(counts.claim(HOUR).await.unwrap(), Some(day("a.test")));
}

#[tokio::test]
async fn what_is_counted_is_bounded() {
    let world = world().await;
    let counts = world.queue.tls_counts();
    assert!(counts.add(&day("none.test"), DAY, &[("x".repeat(10_000), 1)]).await.unwrap());
    assert_eq!(counts.claim(HOUR).await.unwrap(), None, "where nothing fits there is nothing to tell");
    let many: Vec<(String, u64)> = (0..100).map(|number| (format!("outcome {number}"), 1)).collect();
    let long = [("x".repeat(10_000), 1), ("short".to_owned(), 1)];
    assert!(counts.add(&day("a.test"), DAY, &long).await.unwrap());
    assert!(counts.add(&day("a.test"), DAY, &many).await.unwrap());
    assert!(counts.add(&day("a.test"), DAY, &outcomes([("short", 1)])).await.unwrap(), "one that is known has room");
    let kept = counts.read(&day("a.test")).await.unwrap();
    assert_eq!(kept.len(), 16);
    assert!(kept.contains(&("short".to_owned(), 2)));
    let mut redis = world.redis();
    let mut command = redis::cmd("ZADD");
    command.arg("{T:}pending");
    for number in 1..10_000 {
        command.arg(u64::MAX / 4096).arg(format!("0 1 {number}.test"));
    }
    command.exec(&mut redis).unwrap();
    assert!(!counts.add(&day("b.test"), DAY, &outcomes([("good", 1)])).await.unwrap(), "there are too many");
    assert!(counts.add(&day("a.test"), DAY, &outcomes([("short", 1)])).await.unwrap());
    let left: u64 = redis::cmd("PTTL").arg("{T:}86400000:a.test").query(&mut redis).unwrap();
    assert!((3 * DAY..=4 * DAY).contains(&left), "{left}");
}
