//! What an operator takes out of the way, and what comes back by itself.

use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Accept, Body, Deleted, Destination, Filter, Moved, Place, Settled, Settlement};

use crate::world::{World, accept, deferred, world, world_with};

fn by_id(id: QueueId) -> Filter {
    Filter { id: Some(id), ..Filter::default() }
}

fn to(destination: &str) -> Filter {
    Filter { destination: Some(Destination::new(destination)), ..Filter::default() }
}

fn moved(jobs: u64, leased: u64) -> Moved {
    Moved { jobs, leased, ..Moved::default() }
}

async fn places(world: &World, id: QueueId) -> Vec<Place> {
    world.queue.entry(id).await.unwrap().unwrap().jobs.iter().map(|job| job.place).collect()
}

async fn reclaim(world: &World) -> u64 {
    let mut total = 0;
    for partition in 0..world.queue.partitions() {
        total += world.queue.reclaim(partition).await.unwrap();
    }
    total
}

#[tokio::test]
async fn what_is_held_after_its_attempt_keeps_its_state_and_leaves_no_trace_in_the_schedule() {
    let world = world().await;
    let [first, second] = [world.put(&["a@x.example"], b"x").await, world.put(&["b@y.example"], b"x").await];
    let job = world.claim_one("x.example").await;
    let mut settlement = deferred(vec![0], Duration::from_secs(60));
    if let Settlement::Deferred { back_off, .. } = &mut settlement {
        *back_off = Some(Duration::from_secs(60));
    }
    assert!(world.queue.settle(&job.lease, settlement.held()).await.unwrap().is_done());
    let job = world.claim_one("y.example").await;
    assert!(world.queue.settle(&job.lease, Settlement::Released.held()).await.unwrap().is_done());
    assert_eq!(world.queue.settle(&job.lease, Settlement::Held).await.unwrap(), Settled::Stale);
    for id in [first, second] {
        assert_eq!(places(&world, id).await, [Place::Held]);
    }
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.held, counts.ready + counts.scheduled), (2, 0));
    assert_eq!(world.queue.release(&Filter::default()).await.unwrap(), moved(2, 0));
    assert_eq!([world.claim_one("x.example").await.attempts, world.claim_one("y.example").await.attempts], [1, 0]);
}

/// Five workers claim it and die.
async fn poison(world: &World, destination: &str) {
    for _ in 0..5 {
        world.attempt(destination).await;
        tokio::time::sleep(Duration::from_millis(110)).await;
        while reclaim(world).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_hold_means_the_selected_deliveries_until_they_are_released() {
    let world = world().await;
    let first = world.put(&["a@x.example", "b@y.example"], b"x").await;
    let second = world.put(&["c@x.example"], b"x").await;
    assert_eq!(world.queue.hold(&to("x.example")).await.unwrap(), moved(2, 0));
    assert_eq!(world.queue.hold(&to("x.example")).await.unwrap(), Moved { already: 2, ..Moved::default() });
    assert!(matches!(places(&world, first).await[..], [Place::Held, Place::Waiting(_)]));
    assert!(world.claim("x.example").await.is_empty());
    assert!(
        !world.queue.offer(second.partition(), 10).await.unwrap().destinations.contains(&Destination::new("x.example"))
    );
    assert_eq!(world.queue.flush(&to("x.example")).await.unwrap(), 0, "a flush is no release");
    assert_eq!(reclaim(&world).await, 0);
    assert_eq!(world.queue.counts().await.unwrap().held, 2);

    assert_eq!(world.queue.release(&by_id(second)).await.unwrap(), moved(1, 0));
    assert_eq!(world.claim_one("x.example").await.lease.id, second);
    let leased =
        world.queue.hold(&Filter { recipient: Some("c@X.example".into()), ..Filter::default() }).await.unwrap();
    assert_eq!(leased, moved(0, 1), "nobody stops what is under way");
    assert_eq!(world.queue.release(&Filter::default()).await.unwrap(), moved(1, 1));
    assert_eq!(world.claim_one("x.example").await.lease.id, first);
}

#[tokio::test]
async fn a_message_that_is_held_from_the_first_moment_on_waits_for_its_release_or_its_end() {
    let world = world().await;
    for (recipients, destinations) in [(&["a@x.example"][..], 1), (&["a@x.example", "b@y.example"], 2)] {
        let mut incoming = world.queue.receive().unwrap();
        incoming.hold();
        incoming.write(b"x").await.unwrap();
        let id = incoming.commit(accept(recipients), b"").await.unwrap();
        assert_eq!(places(&world, id).await, vec![Place::Held; destinations]);
        assert_eq!(world.queue.offer(id.partition(), 10).await.unwrap().destinations, []);
        assert_eq!((world.claim("x.example").await.len(), world.claim("y.example").await.len()), (0, 0));
        let held = world.queue.counts().await.unwrap();
        assert_eq!((held.held, held.messages), (destinations as u64, 1));
        assert_eq!(world.queue.release(&by_id(id)).await.unwrap(), moved(destinations as u64, 0));
        for address in recipients {
            let destination = address.split_once('@').unwrap().1;
            let settled = world.finish(&world.claim_one(destination).await).await;
            assert!(matches!(settled, Settled::Done { .. }), "{settled:?}");
        }
        assert_eq!(world.remains(), Vec::<String>::new());
    }
    let mut incoming = world.queue.receive().unwrap();
    incoming.hold();
    let short = Accept { lifetime: Duration::ZERO, ..accept(&["a@x.example"]) };
    let id = incoming.commit(short, b"").await.unwrap();
    assert_eq!(places(&world, id).await, [Place::Held]);
    while reclaim(&world).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.claim_one("x.example").await.lease.id, id, "its sender must hear of the end");
    let mut incoming = world.queue.receive().unwrap();
    incoming.hold();
    let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Removed);
}

#[tokio::test]
async fn selections_go_by_recipient_and_login() {
    let world = world().await;
    let first = world.put(&["a@x.example", "b@x.example", "c@y.example"], b"x").await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(b"x").await.unwrap();
    let mut from_anna = accept(&["a@x.example"]);
    from_anna.origin.login = Some("anna".into());
    let second = incoming.commit(from_anna, b"").await.unwrap();
    let found = async |filter: Filter| {
        let page = world.queue.list(&filter, None, 10).await.unwrap();
        page.entries.iter().map(|entry| entry.message.id).collect::<Vec<_>>()
    };
    let recipient = |text: &str| Filter { recipient: Some(text.into()), ..Filter::default() };
    assert_eq!(found(recipient("b@X.example")).await, [first]);
    assert_eq!(found(recipient("@X.example")).await.len(), 2, "all of a domain");
    assert_eq!(found(recipient("@example")).await, []);
    assert_eq!(found(recipient("B@x.example")).await, [], "a local part is its host's business");
    assert_eq!(found(recipient("c@x.example")).await, []);
    assert_eq!(found(Filter { login: Some("anna".into()), ..Filter::default() }).await, [second]);
    let both = Filter { login: Some("anna".into()), ..recipient("b@x.example") };
    assert_eq!(found(both).await, []);
    let job = world.claim_one("y.example").await;
    world.finish(&job).await;
    assert_eq!(found(recipient("c@y.example")).await, [], "it has its message");
    let jobs = world.claim("x.example").await;
    let of_first = jobs.iter().find(|job| job.lease.id == first).unwrap();
    let rest = deferred(vec![0], Duration::ZERO);
    world.queue.settle(&of_first.lease, rest).await.unwrap();
    assert_eq!(found(recipient("b@x.example")).await, []);
}

fn recipient(address: &str) -> Filter {
    Filter { recipient: Some(address.into()), ..Filter::default() }
}

/// One who shares a delivery is held alone, after an attempt as before; all are delivered once, nothing is left.
#[tokio::test]
async fn a_hold_by_recipient_leaves_the_others_of_a_delivery_alone() {
    let world = world().await;
    for size in [10, 300_000] {
        let body = vec![b'b'; size];
        let id = world.put(&["a@x.example", "b@x.example", "c@y.example", "d@x.example"], &body).await;
        assert_eq!(world.queue.hold(&recipient("b@x.example")).await.unwrap(), moved(1, 0));
        assert_eq!(
            world.queue.hold(&recipient("b@x.example")).await.unwrap(),
            Moved { already: 1, ..Moved::default() }
        );
        let job = world.claim_one("x.example").await;
        assert_eq!(job.recipients, [0, 3]);
        world.defer(&job, Duration::ZERO).await;
        assert_eq!(world.queue.hold(&recipient("d@x.example")).await.unwrap(), moved(1, 0));
        let jobs = world.queue.entry(id).await.unwrap().unwrap().jobs;
        let [of_d] = jobs.iter().filter(|job| job.recipients == [3]).collect::<Vec<_>>()[..] else {
            panic!("{jobs:?}")
        };
        assert_eq!((of_d.place, of_d.attempts), (Place::Held, 1), "what attempts have left behind goes along");
        assert_eq!(of_d.reason.as_deref(), Some("450 4.2.0 later"));

        let job = world.claim_one("x.example").await;
        assert_eq!((&*job.recipients, job.attempts), (&[0][..], 1));
        world.finish(&job).await;
        assert_eq!(world.queue.release(&recipient("d@x.example")).await.unwrap(), moved(1, 0));
        let job = world.claim_one("x.example").await;
        assert_eq!(job.recipients, [3]);
        world.finish(&job).await;
        let job = world.claim_one("y.example").await;
        assert_eq!(job.recipients, [2]);
        world.finish(&job).await;
        assert_eq!(world.queue.release(&by_id(id)).await.unwrap(), moved(1, 0));
        let job = world.claim_one("x.example").await;
        assert_eq!(job.recipients, [1]);
        match &job.body {
            Body::Inline(octets) => assert_eq!(*octets, body),
            Body::Chunks(chunks) => assert_eq!(world.queue.chunk(id, chunks, 0).await.unwrap(), &body[..256 * 1024]),
        }
        world.finish(&job).await;
        world.keep_house().await;
        assert_eq!(world.remains(), Vec::<String>::new());
    }
}

/// Two who are held together are released one by one, and one of a single delivery that was never tried is deleted.
#[tokio::test]
async fn who_is_held_with_others_is_released_alone() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@x.example"], b"x").await;
    world.queue.hold(&by_id(id)).await.unwrap();
    assert_eq!(world.queue.release(&recipient("b@x.example")).await.unwrap(), moved(1, 0));
    let job = world.claim_one("x.example").await;
    assert_eq!(job.recipients, [1]);
    assert_eq!(world.queue.hold(&recipient("b@x.example")).await.unwrap(), moved(0, 1), "it is under way");
    world.finish(&job).await;
    assert_eq!(places(&world, id).await, [Place::Held]);

    let second = world.put(&["a@x.example", "b@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    assert_eq!(world.queue.hold(&recipient("b@x.example")).await.unwrap(), moved(0, 1), "nor is it taken apart");
    world.defer(&job, Duration::from_secs(600)).await;
    assert_eq!(world.queue.flush(&recipient("b@x.example")).await.unwrap(), 1);
    let job = world.claim_one("x.example").await;
    assert_eq!((job.lease.id, &*job.recipients), (second, &[1][..]), "the other waits for his time");
}

/// A job that is held when its message's life ends must come up, or nobody would ever tell the sender.
#[tokio::test]
async fn a_held_job_comes_back_when_the_life_of_its_message_is_over() {
    let world = world_with(&[], |settings| settings.lease = Duration::from_millis(100)).await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(b"x").await.unwrap();
    let mut short = accept(&["a@x.example", "b@y.example"]);
    short.lifetime = Duration::from_millis(2_000);
    let id = incoming.commit(short, b"").await.unwrap();
    let long = world.put(&["a@z.example"], b"x").await;
    let since = std::time::Instant::now();
    world.queue.hold(&to("x.example")).await.unwrap();
    world.queue.hold(&to("z.example")).await.unwrap();
    poison(&world, "y.example").await;
    assert!(world.queue.entry(id).await.unwrap().unwrap().jobs[1].poison);
    assert_eq!(world.queue.counts().await.unwrap().held, 3);
    if since.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(reclaim(&world).await, 0, "it lives still");
    }
    tokio::time::sleep(Duration::from_millis(2_100).saturating_sub(since.elapsed())).await;
    assert_eq!(reclaim(&world).await, 2);
    for destination in ["x.example", "y.example"] {
        assert_eq!(world.claim_one(destination).await.left, Duration::ZERO);
    }
    assert_eq!(places(&world, long).await, [Place::Held]);
}

#[tokio::test]
async fn a_flush_and_a_release_bring_poison_back_with_a_clean_slate() {
    let world = world_with(&[], |settings| settings.lease = Duration::from_millis(100)).await;
    let id = world.put(&["a@x.example"], b"x").await;
    let other = world.put(&["b@y.example"], b"x").await;
    world.queue.hold(&by_id(other)).await.unwrap();
    for way in 0..3 {
        poison(&world, "x.example").await;
        assert_eq!(places(&world, id).await, [Place::Held]);
        let back = match way {
            0 => world.queue.flush(&Filter::default()).await.unwrap(),
            1 => world.queue.flush(&by_id(id)).await.unwrap(),
            _ => world.queue.release(&to("x.example")).await.unwrap().jobs,
        };
        assert_eq!(back, 1, "way {way}");
        let job = world.claim_one("x.example").await;
        world.queue.settle(&job.lease, Settlement::Released).await.unwrap();
    }
    assert_eq!(places(&world, other).await, [Place::Held], "what an operator holds is no poison");
}

#[tokio::test]
async fn some_deliveries_of_a_message_are_deleted_and_the_rest_goes_on() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example", "c@z.example"], &[b'b'; 300_000]).await;
    assert_eq!(world.queue.delete_jobs(id, &[0]).await.unwrap(), Deleted::Removed);
    assert_eq!(world.queue.delete_jobs(id, &[0]).await.unwrap(), Deleted::Missing);
    assert!(world.claim("x.example").await.is_empty());
    assert!(
        !world.queue.offer(id.partition(), 10).await.unwrap().destinations.contains(&Destination::new("x.example"))
    );
    let job = world.claim_one("y.example").await;
    assert_eq!(world.queue.delete_jobs(id, &[1]).await.unwrap(), Deleted::Leased);
    world.defer(&job, Duration::ZERO).await;
    assert!(world.claim("y.example").await.is_empty(), "it has ended with its attempt");
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.messages, counts.ready, counts.scheduled, counts.leased), (1, 1, 0, 0));
    assert_eq!(world.queue.delete_jobs(id, &[2]).await.unwrap(), Deleted::Removed, "the message with its last one");
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
    let single = world.put(&["a@x.example"], b"x").await;
    assert_eq!(world.queue.delete_jobs(single, &[0]).await.unwrap(), Deleted::Removed);
    assert_eq!(world.remains(), Vec::<String>::new());
}
