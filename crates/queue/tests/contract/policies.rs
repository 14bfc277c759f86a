//! What domains have published about the TLS of their mail.

use std::time::Duration;

use crate::world::world;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn what_one_pod_has_fetched_all_know_until_its_time_is_over() {
    let world = world().await;
    let (here, there) = (world.queue.policies(), world.another().await.policies());
    assert_eq!(there.recall("a.test").await.unwrap(), None);
    here.keep("a.test", "one", DAY).await.unwrap();
    here.keep("a.test", "two\nlines", DAY).await.unwrap();
    let kept = there.recall("a.test").await.unwrap().unwrap();
    assert_eq!(kept.text, "two\nlines", "the last word counts");
    assert!(kept.left <= DAY && kept.left > DAY / 2, "{kept:?}");
    assert_eq!(there.recall("b.a.test").await.unwrap(), None);

    here.keep("short.test", "text", Duration::from_millis(30)).await.unwrap();
    while there.recall("short.test").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_over_or_too_long_is_not_kept() {
    let world = world().await;
    let policies = world.queue.policies();
    policies.keep("a.test", "text", Duration::ZERO).await.unwrap();
    policies.keep("b.test", &"x".repeat(96 * 1024 + 1), DAY).await.unwrap();
    for domain in ["a.test", "b.test"] {
        assert_eq!(policies.recall(domain).await.unwrap(), None, "{domain}");
    }
    policies.keep("c.test", &"x".repeat(96 * 1024), DAY).await.unwrap();
    assert!(policies.recall("c.test").await.unwrap().is_some());
}
