//! What servers said of recipients.

use std::time::Duration;

use sha2::{Digest, Sha256};
use staffetta_queue::{Verification, Verifications};

use crate::world::{World, world};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YES: Verification = Verification::Deliverable;

fn no(text: &str) -> Verification {
    Verification::Undeliverable(text.to_owned())
}

/// Fields of all places, by key.
fn places(world: &World) -> Vec<(String, usize)> {
    let mut redis = world.redis();
    let keys: Vec<String> = redis::cmd("KEYS").arg("{V:*").query(&mut redis).unwrap();
    keys.into_iter().map(|key| (key.clone(), redis::cmd("HLEN").arg(key).query(&mut redis).unwrap())).collect()
}

#[tokio::test]
async fn what_one_pod_was_told_all_know_until_its_time_is_over() {
    let world = world().await;
    let (here, there) = (world.queue.verifications(), world.another().await.verifications());
    assert_eq!(there.recall("mx lisa@x.test").await.unwrap(), None);
    let long = "no ".repeat(1_000);
    for (who, said, back) in [
        ("mx lisa@x.test", YES, YES),
        ("mx nobody@x.test", no("host mx said: 550 5.1.1 no"), no("host mx said: 550 5.1.1 no")),
        ("mx later@x.test", Verification::Unknown, Verification::Unknown),
        ("mx long@x.test", no(&long), no(&long[..300])),
    ] {
        here.remember(who, &said, HOUR).await.unwrap();
        assert_eq!(there.recall(who).await.unwrap(), Some(back), "{who}");
    }
    assert_eq!(there.recall("other lisa@x.test").await.unwrap(), None, "another server may know better");
    here.remember("mx nobody@x.test", &YES, HOUR).await.unwrap();
    assert_eq!(there.recall("mx nobody@x.test").await.unwrap(), Some(YES), "the last word counts");

    here.remember("mx short@x.test", &YES, Duration::from_millis(30)).await.unwrap();
    while there.recall("mx short@x.test").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    for (key, _) in places(&world) {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut world.redis()).unwrap();
        assert!((-2..=3_600_000).contains(&ttl) && ttl != -1, "{key} goes with its last entry: {ttl}");
    }
}

/// So many names, of this kind, that all have the same place.
fn neighbours(kind: &str, count: usize) -> Vec<String> {
    let names = (0..).map(|n| format!("mx {kind}{n}@x.test"));
    let together = names.filter(|name| u16::from_be_bytes(Sha256::digest(name)[..2].try_into().unwrap()) % 2048 == 7);
    together.take(count).collect()
}

async fn known(verifications: &Verifications, names: &[String]) -> usize {
    let mut known = 0;
    for name in names {
        known += usize::from(verifications.recall(name).await.unwrap().is_some());
    }
    known
}

#[tokio::test]
async fn a_place_is_never_fuller_than_it_may_be_and_names_that_do_not_exist_push_out_none_who_does() {
    let world = world().await;
    let verifications = world.queue.verifications();
    let (people, nobodies, more) = (neighbours("real", 48), neighbours("false", 40), neighbours("more", 40));
    for (n, name) in (0..).zip(&nobodies) {
        verifications.remember(name, &no("550"), HOUR + Duration::from_secs(n)).await.unwrap();
    }
    assert_eq!(places(&world), [("{V:7}".to_owned(), 16)], "they are no yes");
    for name in &people {
        verifications.remember(name, &YES, DAY).await.unwrap();
    }
    assert_eq!(places(&world), [("{V:7}".to_owned(), 64)]);
    assert_eq!(known(&verifications, &people).await, 48);
    assert_eq!(known(&verifications, &nobodies[24..]).await, 16, "the last ones, which would end last");
    for name in &more {
        verifications.remember(name, &YES, 2 * DAY).await.unwrap();
    }
    assert_eq!(places(&world), [("{V:7}".to_owned(), 64)]);
    assert_eq!(known(&verifications, &more).await, 40);
    assert_eq!(known(&verifications, &nobodies).await, 0, "what ends first goes first");
    verifications.remember(&more[0], &YES, 2 * DAY).await.unwrap();
    assert_eq!(known(&verifications, &more).await, 40, "who is there already needs no room");
}

#[tokio::test]
async fn what_has_ended_makes_room_first() {
    let world = world().await;
    let verifications = world.queue.verifications();
    let (old, new) = (neighbours("old", 64), neighbours("new", 1));
    for name in &old[..60] {
        verifications.remember(name, &YES, HOUR).await.unwrap();
    }
    for name in &old[60..] {
        verifications.remember(name, &YES, Duration::from_millis(1)).await.unwrap();
    }
    while known(&verifications, &old[60..]).await > 0 {
        tokio::task::yield_now().await;
    }
    verifications.remember(&new[0], &YES, HOUR).await.unwrap();
    assert_eq!(known(&verifications, &old[..60]).await, 60);
    assert_eq!(places(&world), [("{V:7}".to_owned(), 61)]);
}

#[tokio::test]
async fn without_redis_there_is_an_error_and_a_full_one_takes_nothing() {
    let mut world = world().await;
    let verifications = world.queue.verifications();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("100kb").exec(&mut world.redis()).unwrap();
    assert!(verifications.remember("mx x@x.test", &YES, HOUR).await.is_err());
    assert_eq!(verifications.recall("mx x@x.test").await.unwrap(), None);
    world.server.kill().unwrap();
    assert!(verifications.recall("mx x@x.test").await.is_err());
}
