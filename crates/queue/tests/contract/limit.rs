//! Limits that hold for the whole cluster.

use std::time::Duration;

use staffetta_queue::{Granted, Limiter, Rate};

use crate::world::world;

const HOUR: Duration = Duration::from_secs(3_600);

async fn take(limiter: &Limiter, who: &str) -> u32 {
    limiter.acquire(who, 1).await.unwrap().tokens
}

#[tokio::test]
async fn a_bucket_is_shared_by_all_pods_and_empty_after_the_last_token() {
    let world = world().await;
    let rate = Rate { count: 3, per: HOUR };
    let (here, there) = (world.queue.limiter("auth", rate), world.another().await.limiter("auth", rate));
    assert_eq!(here.acquire("192.0.2.1", 0).await.unwrap(), Granted { tokens: 0, empty_for: Duration::ZERO });
    assert_eq!(world.remains(), Vec::<String>::new(), "looking leaves nothing behind");
    assert_eq!(take(&here, "192.0.2.1").await, 1);
    assert_eq!(take(&there, "192.0.2.1").await, 1);
    let last = here.acquire("192.0.2.1", 5).await.unwrap();
    assert_eq!(last.tokens, 1, "no more than are there");
    let wait = last.empty_for;
    assert!(wait > HOUR / 3 - Duration::from_secs(60) && wait <= HOUR / 3, "one token comes back in 20 min: {wait:?}");
    assert_eq!(take(&there, "192.0.2.1").await, 0);
    assert_eq!(take(&there, "192.0.2.2").await, 1, "each client has its own");
    assert_eq!(take(&world.queue.limiter("mail", rate), "192.0.2.1").await, 1, "each scope has its own");
    for _ in 0..10 {
        let none = here.acquire("192.0.2.1", 1).await.unwrap();
        assert!(none.tokens == 0 && none.empty_for <= HOUR / 3, "an empty bucket does not become emptier");
    }
    let ttl: i64 = redis::cmd("PTTL").arg("{L:auth:192.0.2.1}").query(&mut world.redis()).unwrap();
    assert!((3_500_000..=3_600_000).contains(&ttl), "it goes away once it would be full: {ttl}");
}

#[tokio::test]
async fn how_much_of_a_bucket_is_gone_can_be_seen() {
    let world = world().await;
    let limiter = world.queue.limiter("auth", Rate { count: 10, per: HOUR });
    assert_eq!(limiter.used("x").await.unwrap(), 0);
    for used in 1..=10 {
        assert_eq!(take(&limiter, "x").await, 1);
        assert_eq!(limiter.used("x").await.unwrap(), used);
    }
    assert_eq!(limiter.used("y").await.unwrap(), 0);
}

/// Who looks first and counts afterwards lets fifty through.
#[tokio::test]
async fn of_fifty_at_once_no_more_get_a_token_than_there_are() {
    let world = world().await;
    let limiter = world.queue.limiter("auth", Rate { count: 10, per: HOUR });
    let all = futures_util::future::join_all((0..50).map(|_| take(&limiter, "x"))).await;
    assert_eq!(all.iter().sum::<u32>(), 10);
}

#[tokio::test]
async fn what_is_given_back_can_be_taken_again_and_is_never_more_than_was_there() {
    let world = world().await;
    for count in [1, 3, 7, 10, 1_000, 999_983] {
        let rate = Rate { count, per: HOUR };
        let limiter = world.queue.limiter("auth", rate);
        assert_eq!(limiter.acquire("x", u32::MAX).await.unwrap().tokens, count, "a full bucket");
        limiter.give_back("x", 1).await.unwrap();
        assert_eq!(take(&limiter, "x").await, 1, "of {count}");
        limiter.give_back("x", count).await.unwrap();
        limiter.give_back("x", count).await.unwrap();
        assert_eq!(limiter.acquire("x", u32::MAX).await.unwrap().tokens, count, "full is full");
        limiter.give_back("x", count).await.unwrap();
        redis::cmd("FLUSHALL").exec(&mut world.redis()).unwrap();
    }
}

#[tokio::test]
async fn tokens_come_back_with_time() {
    let world = world().await;
    let limiter = world.queue.limiter("auth", Rate { count: 1, per: Duration::from_millis(50) });
    let wait = limiter.acquire("x", 1).await.unwrap().empty_for;
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(50), "{wait:?}");
    while take(&limiter, "x").await == 0 {
        tokio::task::yield_now().await;
    }
}

/// A limit that is raised for somebody who has reached it is not empty for as long as the old one was.
#[tokio::test]
async fn a_bucket_of_another_size_fills_at_its_own_pace() {
    let world = world().await;
    let limiter = |count, per| world.queue.limiter("auth", Rate { count, per });
    let day = 24 * HOUR;
    assert_eq!(limiter(10, day).acquire("x", 10).await.unwrap().tokens, 10);
    let short = limiter(10, Duration::from_millis(500));
    let wait = short.acquire("x", 1).await.unwrap();
    assert_eq!(wait.tokens, 0, "it was empty");
    assert!(wait.empty_for <= Duration::from_millis(50), "{wait:?}");
    while take(&short, "x").await == 0 {
        tokio::task::yield_now().await;
    }
    let ttl: i64 = redis::cmd("PTTL").arg("{L:auth:x}").query(&mut world.redis()).unwrap();
    assert!(ttl <= 500, "{ttl}");
}

#[tokio::test]
async fn a_full_redis_still_counts_and_one_that_is_away_is_an_error() {
    let mut world = world().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("100kb").exec(&mut world.redis()).unwrap();
    let limiter = world.queue.limiter("auth", Rate { count: 1, per: HOUR });
    assert_eq!(take(&limiter, "x").await, 1);
    assert_eq!(take(&limiter, "x").await, 0);
    world.server.kill().unwrap();
    assert!(limiter.acquire("x", 1).await.is_err());
}
