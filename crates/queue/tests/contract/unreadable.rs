//! Messages that only a newer program can read: they stay, and they are in nobody's way.

use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Deleted, Destination, Error, Filter, Settlement};

use crate::world::{World, world, world_with};

/// Overwrites the version of a record.
fn spoil(world: &World, id: QueueId) {
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*}}m:{id}")).query(&mut world.redis()).unwrap();
    redis::cmd("SETRANGE").arg(&keys[0]).arg(0).arg("\u{7f}").exec(&mut world.redis()).unwrap();
}

fn held(world: &World, partition: u16) -> usize {
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{{kq:{partition}.*}}held")).query(&mut world.redis()).unwrap();
    keys.len()
}

#[tokio::test]
async fn a_worker_leaves_what_it_cannot_read_to_others_without_a_strike() {
    let world = world_with(&[], |settings| settings.partitions = 1).await;
    let (good, bad) = (world.put(&["a@x.example"], b"x").await, world.put(&["b@x.example"], b"x").await);
    spoil(&world, bad);
    for _ in 0..7 {
        let jobs = world.claim("x.example").await;
        assert_eq!(jobs.iter().map(|job| job.lease.id).collect::<Vec<_>>(), [good], "the other one is in its way");
        world.queue.settle(&jobs[0].lease, Settlement::Released).await.unwrap();
        assert_eq!(world.queue.counts().await.unwrap().leased, 0, "it is not kept either");
        assert!(world.queue.offer(0, 10).await.unwrap().next.is_none_or(|next| next < Duration::from_secs(60)));
        let by_id = Filter { id: Some(bad), ..Filter::default() };
        assert_eq!(world.queue.flush(&by_id).await.unwrap(), 1, "it rests until it is flushed");
    }
    assert_eq!(held(&world, 0), 0);
}

#[tokio::test]
async fn one_unreadable_record_blinds_no_tool() {
    let world = world().await;
    let mut put = Vec::new();
    for number in 0..5 {
        put.push(world.put(&["a@x.example", "b@y.example"], &vec![b'b'; 600_000 * (number % 2)]).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for id in [put[1], put[2]] {
        spoil(&world, id);
    }
    let page = world.queue.list(&Filter::default(), None, 100).await.unwrap();
    let entries: Vec<QueueId> = page.entries.iter().map(|entry| entry.message.id).collect();
    assert_eq!(entries, [put[0], put[3], put[4]]);
    let unreadable: Vec<(QueueId, bool)> = page.unreadable.iter().map(|it| (it.id, it.size > 600_000)).collect();
    assert_eq!(unreadable, [(put[1], true), (put[2], false)]);
    assert!(page.unreadable[0].reason.contains("127"), "{:?}", page.unreadable[0]);
    assert_eq!(page.unreadable[0].arrived, put[1].unix_millis());
    assert!(matches!(world.queue.entry(put[1]).await, Err(Error::Unreadable(..))));
    let from = Filter { sender: Some("sender@example.org".into()), ..Filter::default() };
    let page = world.queue.list(&from, None, 100).await.unwrap();
    assert_eq!((page.entries.len(), page.unreadable.len()), (3, 0), "nobody knows who has sent it");

    assert_eq!(world.queue.flush(&Filter::default()).await.unwrap(), 0);
    for id in put {
        assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Removed, "{id}");
    }
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
    assert_eq!(world.queue.counts().await.unwrap().messages, 0);
}

/// Deleted while a worker has it, and the worker is gone.
#[tokio::test]
async fn an_unreadable_message_that_is_leased_is_deleted_when_its_lease_ends() {
    let world = world_with(&[], |settings| settings.lease = Duration::from_millis(200)).await;
    let id = world.put(&["a@x.example", "b@y.example"], &[b'b'; 300_000]).await;
    let _worker = world.claim_one("x.example").await;
    spoil(&world, id);
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Leased);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(world.queue.reclaim(id.partition()).await.unwrap(), 1);
    assert_eq!(world.remains(), Vec::<String>::new());
    assert!(world.queue.claim(id.partition(), &Destination::new("y.example"), 10).await.unwrap().is_empty());
}
