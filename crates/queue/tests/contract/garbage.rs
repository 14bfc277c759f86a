//! Bodies of messages that are over: they go through the garbage set, and nothing else goes with them.

use staffetta_mail::QueueId;
use staffetta_queue::{Chunks, Deleted};

use crate::world::{World, accept, world};

/// Of six chunks: more than a settlement deletes itself.
const LARGE: &[u8] = &[b'b'; 1_500_000];

fn keys(world: &World, pattern: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(pattern).query(&mut world.redis()).unwrap()
}

/// Enters something by hand, due at once.
fn enter(world: &World, id: QueueId, name: &str) -> String {
    let record =
        keys(world, "*}id").into_iter().find(|key| key.starts_with(&format!("{{kq:{}.", id.partition()))).unwrap();
    let garbage = record.replace("}id", "}gc");
    redis::cmd("ZADD").arg(&garbage).arg(1).arg(name).exec(&mut world.redis()).unwrap();
    garbage
}

#[tokio::test]
async fn an_inline_body_needs_no_entry() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    world.finish(&world.claim_one("x.example").await).await;
    assert_eq!(keys(&world, "*}gc"), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_of_few_chunks_goes_with_the_settlement_that_ends_its_message() {
    let world = world().await;
    world.put(&["a@x.example", "b@y.example"], &LARGE[..1_000_000]).await;
    world.finish(&world.claim_one("x.example").await).await;
    assert_eq!(keys(&world, "*}b:*").len(), 4, "the other recipient's job needs it");
    world.finish(&world.claim_one("y.example").await).await;
    assert_eq!(world.remains(), Vec::<String>::new(), "nothing waits for the reaper");
}

#[tokio::test]
async fn a_reaper_that_dies_between_taking_and_deleting_loses_its_turn() {
    let world = world().await;
    let id = world.put(&["a@x.example"], LARGE).await;
    world.finish(&world.claim_one("x.example").await).await;
    // It gets no further than taking the entry, and not to the question what is queued: that is its own for a minute.
    let garbage = keys(&world, "*}gc").remove(0);
    let allow = |zscore: &str| {
        redis::cmd("ACL").arg(&["SETUSER", "default", zscore]).exec(&mut world.redis()).unwrap();
    };
    allow("-zscore");
    world.queue.reclaim(id.partition()).await.unwrap();
    allow("+zscore");
    let due: u64 = redis::cmd("ZSCORE").arg(&garbage).arg(format!("{id} 6")).query(&mut world.redis()).unwrap();
    let now: (u64, u64) = redis::cmd("TIME").query(&mut world.redis()).unwrap();
    let left = due.saturating_sub(now.0 * 1_000);
    assert!((30_000..=61_000).contains(&left), "{left} ms");
    world.keep_house().await;
    assert_eq!(keys(&world, "*}b:*").len(), 6, "it belongs to another reaper");
    redis::cmd("ZADD").arg(&garbage).arg(1).arg(format!("{id} 6")).exec(&mut world.redis()).unwrap();
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_record_alone_keeps_no_body() {
    let world = world().await;
    let id = world.put(&["a@x.example"], LARGE).await;
    let record = keys(&world, "*}m:*").remove(0);
    world.finish(&world.claim_one("x.example").await).await;
    // As when an enqueue is repeated late and its script never comes.
    redis::cmd("SET").arg(&record).arg("x").arg("PX").arg(120_000).exec(&mut world.redis()).unwrap();
    world.queue.reclaim(id.partition()).await.unwrap();
    assert_eq!(world.remains(), [record]);
}

#[tokio::test]
async fn two_reapers_at_once_delete_everything_and_nothing_else() {
    let world = world().await;
    let other = world.another().await;
    let kept = world.put(&["a@y.example"], LARGE).await;
    for _ in 0..10 {
        world.put(&["a@x.example"], LARGE).await;
    }
    for job in world.claim("x.example").await {
        world.finish(&job).await;
    }
    assert_eq!(keys(&world, "*}b:*").len(), 66);
    for partition in 0..world.queue.partitions() {
        let (a, b) = tokio::join!(world.queue.reclaim(partition), other.reclaim(partition));
        assert_eq!((a.unwrap(), b.unwrap()), (0, 0), "garbage is not counted among the jobs");
    }
    assert_eq!(keys(&world, "*}gc"), Vec::<String>::new());
    assert_eq!(keys(&world, "*}b:*").len(), 6);
    for index in 0..6 {
        world.queue.chunk(kept, &Chunks::default(), index).await.unwrap();
    }
}

#[tokio::test]
async fn the_body_of_a_queued_message_stays_whatever_stands_in_the_set() {
    let world = world().await;
    let id = world.put(&["a@x.example"], LARGE).await;
    let garbage = enter(&world, id, &format!("{id} 6"));
    let newer = "s3 a/form/of/tomorrow";
    enter(&world, id, newer);
    world.keep_house().await;
    assert_eq!(keys(&world, "*}b:*").len(), 6);
    let left: Vec<String> = redis::cmd("ZRANGE").arg(&garbage).arg(0).arg(-1).query(&mut world.redis()).unwrap();
    assert_eq!(left, [newer], "what only a newer program understands is left to it");
}

#[tokio::test]
async fn what_is_deleted_or_withdrawn_goes_the_same_way() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example"], LARGE).await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Removed);
    assert_eq!(keys(&world, "*}b:*").len(), 6);
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
    // Never committed.
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(LARGE).await.unwrap();
    let refused = incoming.commit(accept(&[]), b"").await;
    assert!(refused.is_err());
    while !world.remains().is_empty() {
        world.keep_house().await;
    }
}
