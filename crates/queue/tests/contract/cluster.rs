//! Every operation on a node of a Redis Cluster: it refuses a command or a script whose keys lie in two slots.

use std::time::Duration;

use staffetta_queue::{Deleted, Destination, Filter, Place, Rate, Settlement};

use crate::deliver::expire_leases;
use crate::world::{accept, cluster_world, deferred, notice};

const LARGE: &[u8] = &[b'b'; 600_000];

fn to(destination: &str) -> Filter {
    Filter { destination: Some(Destination::new(destination)), ..Filter::default() }
}

#[tokio::test]
async fn mail_comes_in_is_delivered_deferred_and_reported() {
    let world = cluster_world(&[], |_| {}).await;
    let mut redis = world.redis();
    let crossing = redis::cmd("MSET").arg("{a}x").arg(1).arg("{b}x").arg(1).exec(&mut redis);
    assert_eq!(crossing.unwrap_err().code(), Some("CROSSSLOT"), "else this test shows nothing");

    for body in [b"small".as_slice(), LARGE] {
        let mut incoming = world.queue.receive().unwrap();
        incoming.write(body).await.unwrap();
        let id = incoming.commit(accept(&["a@x.example", "b@y.example", "c@y.example"]), b"X: y\r\n").await.unwrap();
        for partition in 0..world.queue.partitions() {
            world.queue.offer(partition, 10).await.unwrap();
        }
        let x = world.claim_one("x.example").await;
        assert_eq!(world.queue.renew(std::slice::from_ref(&x.lease)).await.unwrap(), [true]);
        let y = world.claim_one("y.example").await;
        let mut settlement = deferred(vec![1], Duration::ZERO);
        if let Settlement::Deferred { notices, back_off, .. } = &mut settlement {
            *notices = vec![notice(b"it takes longer"), notice(LARGE)];
            *back_off = Some(Duration::from_secs(60));
        }
        assert!(world.queue.settle(&y.lease, settlement).await.unwrap().is_done());
        let notices = vec![notice(b"it failed"), notice(LARGE)];
        assert!(world.queue.settle(&x.lease, Settlement::Finished { notices }).await.unwrap().is_done());
        let reports = world.claim("example.org").await;
        assert_eq!(reports.len(), 4);
        for report in &reports {
            assert!(world.finish(report).await.is_done());
        }
        world.queue.park(id.partition(), &Destination::new("y.example"), Duration::from_secs(9)).await.unwrap();
        assert_eq!(world.queue.flush(&to("y.example")).await.unwrap(), 1, "its back-off ends");
        let y = world.claim_one("y.example").await;
        world.queue.settle(&y.lease, Settlement::Released).await.unwrap();
        world.finish(&world.claim_one("y.example").await).await;
    }
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn operators_see_and_move_and_delete() {
    let world = cluster_world(&[], |_| {}).await;
    for body in [b"small".as_slice(), LARGE, b"small", LARGE, b"small"] {
        world.put(&["a@x.example", "b@y.example"], body).await;
    }
    let all = Filter::default();
    assert_eq!(world.queue.hold(&to("x.example")).await.unwrap().jobs, 5);
    let page = world.queue.list(&all, None, 100).await.unwrap();
    assert_eq!(page.entries.iter().filter(|entry| entry.jobs[0].place == Place::Held).count(), 5);
    assert_eq!(world.queue.counts().await.unwrap().held, 5);
    assert_eq!(world.queue.release(&all).await.unwrap().jobs, 5);
    let jobs = world.claim("x.example").await;
    for job in &jobs[..3] {
        world.defer(job, Duration::from_secs(600)).await;
    }
    assert_eq!(world.queue.flush(&all).await.unwrap(), 3);
    let ids: Vec<_> = page.entries.iter().map(|entry| entry.message.id).collect();
    assert_eq!(world.queue.delete_jobs(ids[0], &[1]).await.unwrap(), Deleted::Removed);
    for id in &ids {
        assert!(world.queue.stored(*id).await.unwrap().is_some());
        world.queue.delete(*id).await.unwrap();
    }
    for job in &jobs {
        world.finish(job).await;
    }
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
    let limiter = world.queue.limiter("auth", Rate { count: 1, per: Duration::from_secs(600) });
    limiter.acquire("192.0.2.1", 1).await.unwrap();
    limiter.give_back("192.0.2.1", 1).await.unwrap();
}

#[tokio::test]
async fn jobs_of_a_silent_worker_are_taken_back_and_poison_is_held_and_let_go() {
    let world = cluster_world(&[], |_| {}).await;
    let id = world.put(&["a@x.example"], LARGE).await;
    for _ in 0..5 {
        world.attempt("x.example").await;
        expire_leases(&world);
        assert_eq!(world.queue.reclaim(id.partition()).await.unwrap(), 1);
    }
    assert_eq!(world.queue.counts().await.unwrap().held, 1);
    assert_eq!(world.queue.flush(&Filter::default()).await.unwrap(), 1);
    // Deleted while a worker has it that is gone.
    world.claim_one("x.example").await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Leased);
    expire_leases(&world);
    assert_eq!(world.queue.reclaim(id.partition()).await.unwrap(), 1);
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}
