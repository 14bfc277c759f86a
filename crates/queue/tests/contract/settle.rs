//! The end of an attempt: finished, deferred, released; with notices; after a deletion; while Redis is away.

use std::time::Duration;

use staffetta_mail::{ReversePath, Status};
use staffetta_queue::{Body, Chunks, Deleted, Destination, Place, Settled, Settlement};

use crate::world::{deferred, notice, world};

#[tokio::test]
async fn a_deferral_keeps_who_is_left_and_why() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    let settlement = Settlement::Deferred {
        remaining: vec![1],
        after: Duration::from_secs(600),
        reason: "450 4.2.0 mailbox busy".into(),
        status: Status::new(4, 2, 0),
        back_off: None,
        notices: Vec::new(),
        delay_noticed: true,
        held: false,
    };
    assert!(world.queue.settle(&job.lease, settlement).await.unwrap().is_done());
    let entry = world.queue.entry(id).await.unwrap().unwrap();
    let state = &entry.jobs[0];
    assert_eq!((state.attempts, state.recipients.clone()), (1, vec![1]));
    assert_eq!(state.reason.as_deref(), Some("450 4.2.0 mailbox busy"));
    assert_eq!(state.status, Some(Status::new(4, 2, 0)));
    let Place::Waiting(due) = state.place else { panic!("{:?}", state.place) };
    assert!((595_000..=605_000).contains(&(due - entry.message.arrived)), "{due}");
    assert!(world.claim("x.example").await.is_empty(), "not due yet");
    assert_eq!(world.queue.flush(&Default::default()).await.unwrap(), 1);
    let job = world.claim_one("x.example").await;
    assert_eq!((job.attempts, job.recipients.clone(), job.delay_noticed), (1, vec![1], true));
    world.defer(&job, Duration::ZERO).await;
    let job = world.claim_one("x.example").await;
    assert_eq!((job.attempts, job.delay_noticed), (2, true), "a delay notice is sent once");
    world.finish(&job).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deferral_comes_up_when_the_message_expires() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    world.defer(&job, Duration::from_secs(86_400)).await;
    let entry = world.queue.entry(id).await.unwrap().unwrap();
    assert_eq!(entry.jobs[0].place, Place::Waiting(entry.message.expires));
}

#[tokio::test]
async fn a_back_off_stops_the_whole_destination_until_it_is_flushed() {
    let world = world().await;
    let (first, others) = (world.put(&["a@x.example"], b"x").await, 8);
    for _ in 0..others {
        world.put(&["b@x.example"], b"x").await;
    }
    let destination = Destination::new("x.example");
    let job = world.queue.claim(first.partition(), &destination, 1).await.unwrap().remove(0);
    let mut settlement = deferred(vec![0], Duration::from_secs(60));
    if let Settlement::Deferred { back_off, .. } = &mut settlement {
        *back_off = Some(Duration::from_secs(300));
    }
    world.queue.settle(&job.lease, settlement).await.unwrap();
    let offer = world.queue.offer(first.partition(), 10).await.unwrap();
    assert_eq!(offer.destinations, []);
    assert!(offer.next.is_some_and(|next| next > Duration::from_secs(290)), "{:?}", offer.next);
    assert!(world.queue.claim(first.partition(), &destination, 9).await.unwrap().is_empty());
    let counts = world.queue.counts().await.unwrap();
    assert_eq!(counts.ready + counts.scheduled, others + 1);
    let page = world.queue.list(&staffetta_queue::Filter::default(), None, 100).await.unwrap();
    let moved = page.entries.iter().filter(|entry| entry.message.id.partition() == first.partition()).count() as u64;
    let filter = staffetta_queue::Filter { destination: Some(destination), ..Default::default() };
    assert_eq!(world.queue.flush(&filter).await.unwrap(), moved, "with it what was due and stopped with it");
    assert_eq!(world.claim("x.example").await.len() as u64, others + 1);
}

#[tokio::test]
async fn a_destination_can_be_parked_without_an_attempt() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let (partition, destination) = (id.partition(), Destination::new("x.example"));
    world.queue.park(partition, &destination, Duration::from_secs(300)).await.unwrap();
    world.queue.park(partition, &destination, Duration::from_secs(5)).await.unwrap();
    let offer = world.queue.offer(partition, 10).await.unwrap();
    assert_eq!(offer.destinations, []);
    assert!(offer.next.is_some_and(|next| next > Duration::from_secs(290)), "never shortened: {:?}", offer.next);
    assert!(world.claim("x.example").await.is_empty());
    assert_eq!(world.queue.flush(&staffetta_queue::Filter::default()).await.unwrap(), 1, "it was due, and stopped");
    let job = world.claim_one("x.example").await;
    assert_eq!(job.attempts, 0);
    world.finish(&job).await;
    world.queue.park(partition, &destination, Duration::from_secs(300)).await.unwrap();
    assert_eq!(world.remains(), Vec::<String>::new(), "nothing waits, nothing is kept");
}

#[tokio::test]
async fn a_release_counts_for_nothing() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    assert!(world.queue.settle(&job.lease, Settlement::Released).await.unwrap().is_done());
    assert_eq!(world.queue.settle(&job.lease, Settlement::Released).await.unwrap(), Settled::Stale);
    assert_eq!(world.claim_one("x.example").await.attempts, 0);
}

#[tokio::test]
async fn a_notice_is_queued_with_the_end_of_its_cause_and_only_then() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    let finished = || Settlement::Finished { notices: vec![notice(b"it failed")] };
    let settled = world.queue.settle(&job.lease, finished()).await.unwrap();
    assert_eq!(world.queue.settle(&job.lease, finished()).await.unwrap(), Settled::Stale);
    assert!(world.queue.entry(id).await.unwrap().is_none());
    let bounce = world.claim_one("example.org").await;
    assert_eq!(settled, Settled::Done { ended: true, notices: vec![bounce.message.id] });
    assert_eq!(bounce.lease.id.partition(), id.partition());
    assert_eq!(bounce.message.envelope.sender, ReversePath::Null);
    assert_eq!(bounce.body, Body::Inline(b"it failed".as_slice().into()));
    world.finish(&bounce).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn two_notices_are_queued_with_the_end_of_their_cause_and_only_once() {
    let world = world().await;
    for deferred_first in [false, true] {
        world.put(&["a@x.example", "b@x.example"], b"x").await;
        let job = world.claim_one("x.example").await;
        let notices = || vec![notice(b"it failed"), notice(&[b'n'; 300_000])];
        let mut settlement = Settlement::Finished { notices: notices() };
        if deferred_first {
            settlement = deferred(vec![1], Duration::ZERO);
            if let Settlement::Deferred { notices: slot, .. } = &mut settlement {
                *slot = notices();
            }
        }
        let settled = world.queue.settle(&job.lease, settlement.clone()).await.unwrap();
        assert_eq!(world.queue.settle(&job.lease, settlement).await.unwrap(), Settled::Stale);
        let reports = world.claim("example.org").await;
        let ids = reports.iter().map(|report| report.message.id).collect();
        assert_eq!(settled, Settled::Done { ended: !deferred_first, notices: ids });
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[0].body, Body::Inline(b"it failed".as_slice().into()));
        assert_eq!(reports[1].body, Body::Chunks(Chunks::in_redis(2, 300_000)));
        assert_eq!(
            world.queue.chunk(reports[1].lease.id, &Chunks::default(), 1).await.unwrap().len(),
            300_000 - 256 * 1024
        );
        for report in &reports {
            assert!(world.finish(report).await.is_done());
        }
    }
    world.finish(&world.claim_one("x.example").await).await;
    world.keep_house().await;
    for key in world.remains() {
        let left: i64 = redis::cmd("TTL").arg(&key).query(&mut world.redis()).unwrap();
        assert!(key.contains("}b:") && left > 0, "only chunks that the repeated calls stored, and they go: {key}");
    }
}

#[tokio::test]
async fn a_message_ends_with_the_last_of_its_jobs() {
    let world = world().await;
    world.put(&["a@x.example", "b@y.example", "c@z.example"], b"x").await;
    let [x, y, z] =
        [world.claim_one("x.example").await, world.claim_one("y.example").await, world.claim_one("z.example").await];
    let done = |ended| Settled::Done { ended, notices: Vec::new() };
    assert_eq!(world.finish(&z).await, done(false));
    assert_eq!(world.defer(&x, Duration::ZERO).await, done(false));
    assert_eq!(world.finish(&y).await, done(false));
    assert_eq!(world.finish(&world.claim_one("x.example").await).await, done(true));
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deferral_can_carry_a_large_notice() {
    let world = world().await;
    world.put(&["a@x.example", "b@y.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    let mut settlement = deferred(vec![0], Duration::ZERO);
    if let Settlement::Deferred { notices: slot, .. } = &mut settlement {
        *slot = vec![notice(&[b'n'; 400_000])];
    }
    assert!(world.queue.settle(&job.lease, settlement).await.unwrap().is_done());
    let report = world.claim_one("example.org").await;
    assert_eq!(report.body, Body::Chunks(Chunks::in_redis(2, 400_000)));
    assert_eq!(world.queue.chunk(report.lease.id, &Chunks::default(), 1).await.unwrap().len(), 400_000 - 256 * 1024);
    for job in [report, world.claim_one("x.example").await, world.claim_one("y.example").await] {
        assert!(world.finish(&job).await.is_done());
    }
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deleted_message_ends_with_the_attempt_that_is_under_way() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Leased);
    assert!(world.claim("y.example").await.is_empty(), "what was waiting is gone at once");
    assert!(world.defer(&job, Duration::ZERO).await.is_done());
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Missing);
    assert_eq!(world.remains(), Vec::<String>::new());

    let id = world.put(&["a@x.example"], b"x").await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Removed);
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_settlement_waits_for_redis_to_come_back() {
    let mut world = world().await;
    world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    world.server.kill().unwrap();
    let queue = world.queue.clone();
    let settling =
        tokio::spawn(
            async move { queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() }).await.unwrap() },
        );
    world.server.restart().unwrap();
    assert!(settling.await.unwrap().is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}
