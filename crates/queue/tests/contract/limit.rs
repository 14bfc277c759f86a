//! Limits that hold for the whole cluster.

use std::time::Duration;

use staffetta_queue::Rate;

use crate::world::world;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_bucket_is_shared_by_all_pods_and_empty_after_the_last_token() {
    let world = world().await;
    let rate = Rate { count: 3, per: HOUR };
    let (here, there) = (world.queue.limiter("auth", rate), world.another().await.limiter("auth", rate));
    assert_eq!(here.wait("192.0.2.1").await.unwrap(), Duration::ZERO);
    assert_eq!(world.remains(), Vec::<String>::new(), "looking leaves nothing behind");
    assert_eq!(here.take("192.0.2.1").await.unwrap(), Duration::ZERO);
    assert_eq!(there.take("192.0.2.1").await.unwrap(), Duration::ZERO);
    let wait = here.take("192.0.2.1").await.unwrap();
    assert!(wait > HOUR / 3 - Duration::from_secs(60) && wait <= HOUR / 3, "one token comes back in 20 min: {wait:?}");
    assert!(there.wait("192.0.2.1").await.unwrap() > Duration::ZERO);
    assert_eq!(there.wait("192.0.2.2").await.unwrap(), Duration::ZERO, "each client has its own");
    let other = world.queue.limiter("mail", rate);
    assert_eq!(other.wait("192.0.2.1").await.unwrap(), Duration::ZERO, "each scope has its own");
    for _ in 0..10 {
        assert!(here.take("192.0.2.1").await.unwrap() <= HOUR / 3, "an empty bucket does not become emptier");
    }
    let ttl: i64 = redis::cmd("PTTL").arg("{L:auth:192.0.2.1}").query(&mut world.redis()).unwrap();
    assert!((1..=3_600_000).contains(&ttl), "it goes away once it would be full: {ttl}");
}

#[tokio::test]
async fn tokens_come_back_with_time() {
    let world = world().await;
    let limiter = world.queue.limiter("auth", Rate { count: 1, per: Duration::from_millis(50) });
    let wait = limiter.take("x").await.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(50), "{wait:?}");
    while !limiter.wait("x").await.unwrap().is_zero() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_redis_still_counts_and_one_that_is_away_is_an_error() {
    let mut world = world().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("100kb").exec(&mut world.redis()).unwrap();
    let limiter = world.queue.limiter("auth", Rate { count: 1, per: HOUR });
    assert!(limiter.take("x").await.unwrap() > Duration::ZERO);
    world.server.kill().unwrap();
    assert!(limiter.wait("x").await.is_err());
}
