//! The life of a job up to its settlement: offered, claimed, renewed, reclaimed.

use std::time::Duration;

use staffetta_queue::{Chunks, Destination, Filter, Job, Place, Settled};

use crate::world::{World, world, world_with};

/// Makes all leases look expired.
pub(crate) fn expire_leases(world: &World) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*}lease')) do
        for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZADD', key, 1, member) end end";
    redis::cmd("EVAL").arg(script).arg(0).exec(&mut world.redis()).unwrap();
}

async fn reclaim(world: &World) -> u64 {
    let mut total = 0;
    for partition in 0..world.queue.partitions() {
        total += world.queue.reclaim(partition).await.unwrap();
    }
    total
}

#[tokio::test]
async fn destinations_with_mail_are_offered_once_a_visit() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example"], b"hello").await;
    let offer = world.queue.offer(id.partition(), 10).await.unwrap();
    assert_eq!(offer.destinations, [Destination::new("x.example"), Destination::new("y.example")]);
    let again = world.queue.offer(id.partition(), 10).await.unwrap();
    assert_eq!(again.destinations, []);
    assert!(again.next.is_some_and(|next| next <= Duration::from_millis(200)));
    let elsewhere = world.queue.offer((id.partition() + 1) % 4, 10).await.unwrap();
    assert_eq!((elsewhere.destinations, elsewhere.next), (vec![], None));
}

#[tokio::test]
async fn a_claim_takes_the_oldest_up_to_its_limit() {
    let world = world_with(&[], |settings| settings.partitions = 1).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.put(&["a@x.example"], b"x").await);
    }
    let destination = Destination::new("x.example");
    let first = world.queue.claim(0, &destination, 3).await.unwrap();
    assert_eq!(first.iter().map(|job| job.lease.id).collect::<Vec<_>>(), ids[..3]);
    // What is left is offered at once, not after the visit time.
    assert_eq!(world.queue.offer(0, 10).await.unwrap().destinations, std::slice::from_ref(&destination));
    assert_eq!(world.queue.claim(0, &destination, 3).await.unwrap().len(), 2);
    assert!(world.queue.claim(0, &destination, 3).await.unwrap().is_empty());
    assert_eq!(world.queue.offer(0, 10).await.unwrap().next, None);
}

#[tokio::test]
async fn a_job_says_how_old_it_is_and_what_is_left_of_its_life() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    let job = world.claim_one("x.example").await;
    assert!(job.age < Duration::from_secs(10), "{:?}", job.age);
    assert!(job.left <= Duration::from_secs(3_600) && job.left > Duration::from_secs(3_590), "{:?}", job.left);
    world.defer(&job, Duration::ZERO).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let again = world.claim_one("x.example").await;
    assert!(again.age >= job.age + Duration::from_millis(20), "{:?}", again.age);
    assert_eq!(again.age + again.left, job.age + job.left);
}

#[tokio::test]
async fn jobs_of_one_message_are_independent_and_the_last_one_ends_it() {
    let world = world().await;
    let id = world.put(&["a@x.example", "b@y.example", "c@x.example"], &[b'b'; 300_000]).await;
    let (x, y) = (world.claim_one("x.example").await, world.claim_one("y.example").await);
    assert_eq!((x.recipients.clone(), y.recipients.clone()), (vec![0, 2], vec![1]));
    world.finish(&x).await;
    let entry = world.queue.entry(id).await.unwrap().unwrap();
    assert_eq!(entry.jobs.iter().map(|job| job.destination.as_str()).collect::<Vec<_>>(), ["y.example"]);
    world.queue.chunk(id, &Chunks::default(), 1).await.unwrap();
    assert_eq!(world.finish(&x).await, Settled::Stale);
    world.finish(&y).await;
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn an_expired_lease_is_taken_back_and_its_holder_is_fenced_off() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    let first = world.claim_one("x.example").await;
    assert_eq!(reclaim(&world).await, 0, "not before it has expired");
    expire_leases(&world);
    assert_eq!(world.queue.renew(std::slice::from_ref(&first.lease)).await.unwrap(), [true], "nobody else has it yet");
    assert_eq!(reclaim(&world).await, 0);
    expire_leases(&world);
    assert_eq!(reclaim(&world).await, 1);
    assert_eq!(world.queue.renew(std::slice::from_ref(&first.lease)).await.unwrap(), [false]);
    let second = world.claim_one("x.example").await;
    assert_ne!(first.lease, second.lease);
    assert_eq!(world.finish(&first).await, Settled::Stale);
    assert_eq!(world.defer(&first, Duration::ZERO).await, Settled::Stale);
    assert_eq!(world.queue.renew(&[first.lease, second.lease.clone()]).await.unwrap(), [false, true]);
    assert!(world.finish(&second).await.is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_job_that_kills_five_workers_is_held() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    for _ in 0..4 {
        world.attempt("x.example").await;
        expire_leases(&world);
        assert_eq!(reclaim(&world).await, 1);
    }
    // An attempt that ends in order starts the count again.
    let job = world.attempt("x.example").await;
    world.defer(&job, Duration::ZERO).await;
    for _ in 0..5 {
        assert_eq!(world.attempt("x.example").await.attempts, 1);
        expire_leases(&world);
        assert_eq!(reclaim(&world).await, 1);
    }
    assert!(world.claim("x.example").await.is_empty());
    let entry = world.queue.entry(id).await.unwrap().unwrap();
    assert_eq!((entry.jobs[0].place, entry.jobs[0].attempts), (Place::Held, 1));
    assert_eq!(world.queue.counts().await.unwrap().held, 1);
    assert_eq!(world.queue.delete(id).await.unwrap(), staffetta_queue::Deleted::Removed);
    assert_eq!(world.remains(), Vec::<String>::new());
}

/// It waited in the worker for another's dot, or for a connection.
#[tokio::test]
async fn a_job_that_was_never_begun_is_not_to_blame_for_its_workers() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    for _ in 0..12 {
        let job = world.claim_one("x.example").await;
        expire_leases(&world);
        assert_eq!(reclaim(&world).await, 1);
        assert!(!world.queue.begin(&job.lease).await.unwrap(), "another has it");
    }
    assert!(world.finish(&world.claim_one("x.example").await).await.is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_suspect_is_claimed_alone_and_waits_longer_each_time() {
    let world = world_with(&[], |settings| settings.partitions = 1).await;
    let destination = Destination::new("x.example");
    let ids = [world.put(&["a@x.example"], b"x").await, world.put(&["a@x.example"], b"x").await];
    assert_eq!(world.claim("x.example").await.len(), 2);
    expire_leases(&world);
    assert_eq!(reclaim(&world).await, 2);
    // So far there is nothing against them.
    let jobs = world.claim("x.example").await;
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.silences == 1));
    let last = world.put(&["a@x.example"], b"x").await;
    // A lease is a minute: a quarter of it, all of it, four times.
    let mut leases: Vec<_> = jobs.into_iter().map(|job| job.lease).collect();
    for rest in [15, 60, 240] {
        for lease in &leases {
            assert!(world.queue.begin(lease).await.unwrap());
        }
        expire_leases(&world);
        assert_eq!(reclaim(&world).await, 2);
        let waits = world.queue.list(&Filter::default(), None, 10).await.unwrap().entries;
        let next = waits.iter().filter(|entry| ids.contains(&entry.message.id)).map(|entry| &entry.jobs[0].place);
        assert_eq!(next.filter(|place| matches!(place, Place::Waiting(_))).count(), 2);
        for job in world.queue.claim(0, &destination, 10).await.unwrap() {
            assert_eq!(job.lease.id, last, "nobody is kept waiting");
            assert!(world.finish(&job).await.is_done());
        }
        let offered = world.queue.offer(0, 10).await.unwrap().next.unwrap();
        // Each has a time of its own.
        assert!(
            offered > Duration::from_secs(rest / 2 - 5) && offered <= Duration::from_secs(rest * 3 / 2),
            "{offered:?}"
        );
        world.queue.flush(&Filter::default()).await.unwrap();
        leases.clear();
        for id in ids {
            let job = world.claim_one("x.example").await;
            assert_eq!(job.lease.id, id, "each alone");
            leases.push(job.lease);
        }
    }
}

/// Each job of a message to many domains would read the whole envelope anew. Only an operator makes it longer.
#[tokio::test]
async fn a_long_record_is_read_once_for_many_jobs_and_again_when_it_has_changed() {
    let world = world().await;
    let to: Vec<String> = (0..20).flat_map(|n| ["a", "b"].map(|who| format!("{who}@d{n}.example"))).collect();
    let id = world.put(&to.iter().map(String::as_str).collect::<Vec<_>>(), &[b'x'; 12_000]).await;
    let addresses = |job: &Job| -> Vec<String> {
        let all = &job.message.envelope.recipients;
        job.recipients.iter().map(|&index| all[index as usize].address.to_string()).collect()
    };
    assert_eq!(addresses(&world.claim_one("d0.example").await), ["a@d0.example", "b@d0.example"]);
    // Nobody looks at it again: what is wrong with it is not noticed.
    let record: Vec<String> = redis::cmd("KEYS").arg(format!("*}}m:{id}")).query(&mut world.redis()).unwrap();
    let whole: Vec<u8> = redis::cmd("GET").arg(&record[0]).query(&mut world.redis()).unwrap();
    redis::cmd("SETRANGE").arg(&record[0]).arg(0).arg("not a record").exec(&mut world.redis()).unwrap();
    let job = world.claim_one("d1.example").await;
    assert_eq!((addresses(&job), job.message.id), (vec!["a@d1.example".to_owned(), "b@d1.example".to_owned()], id));
    assert!(world.finish(&job).await.is_done());

    redis::cmd("SET").arg(&record[0]).arg(whole).exec(&mut world.redis()).unwrap();
    let one = Filter { recipient: Some("b@d2.example".into()), ..Filter::default() };
    world.queue.separate(&one).await.unwrap();
    let mut apart: Vec<_> = world.claim("d2.example").await.iter().map(addresses).collect();
    apart.sort();
    assert_eq!(apart, [["a@d2.example"], ["b@d2.example"]]);
    // And one that is gone is gone.
    redis::cmd("DEL").arg(&record[0]).exec(&mut world.redis()).unwrap();
    assert!(world.claim("d3.example").await.is_empty());
}

/// A worker that must not use an offer gives it back, and others need not wait for the end of its visit.
#[tokio::test]
async fn what_is_given_back_is_offered_again_at_once() {
    let world = world().await;
    let id = world.put(&["a@x.example"], b"x").await;
    let offered = async || world.queue.offer(id.partition(), 10).await.unwrap().destinations;
    let x = Destination::new("x.example");
    let back = [(id.partition(), x.clone()), (id.partition(), Destination::new("none.example"))];
    assert_eq!(offered().await, std::slice::from_ref(&x));
    world.queue.offer_again(&back, Duration::ZERO).await.unwrap();
    assert_eq!(offered().await, std::slice::from_ref(&x), "and nothing for which nothing waits");
    // Not sooner than it would be tried: it is put off, and stays so.
    let job = world.claim_one("x.example").await;
    world.defer(&job, Duration::from_secs(600)).await;
    assert_eq!(offered().await, []);
}
