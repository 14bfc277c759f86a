//! Jobs of one message that are claimed beside another one.

use std::time::Duration;

use staffetta_queue::{Destination, Filter, Job, Settled, Settlement};

use crate::deliver::expire_leases;
use crate::world::{World, deferred, world};

const LATER: Duration = Duration::from_secs(600);
const TO: [&str; 6] = ["a@a.example", "b@b.example", "c@c.example", "d@d.example", "e@e.example", "f@f.example"];

async fn beside(world: &World, job: &Job, most: usize) -> Vec<Job> {
    world.queue.accompany(job, most, |destination| destination.as_str() != "f.example").await.unwrap()
}

fn destinations(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.lease.destination.as_str()).collect()
}

#[tokio::test]
async fn what_is_due_and_wanted_comes_along_and_is_settled_by_itself() {
    let world = world().await;
    let id = world.put(&TO, b"x").await;
    let other = world.put(&TO[..2], b"y").await;
    let mut of_b = world.claim("b.example").await;
    of_b.retain(|job| job.message.id == id);
    let head = of_b.remove(0);
    let company = beside(&world, &head, 3).await;
    assert_eq!(destinations(&company), ["c.example", "d.example", "e.example"], "as many as may");
    assert!(company.iter().all(|job| job.message.id == head.message.id && job.recipients.len() == 1));
    let rest = beside(&world, &head, 50).await;
    assert_eq!(destinations(&rest), ["a.example"], "neither what is leased nor what is not wanted");
    assert!(beside(&world, &head, 50).await.is_empty());
    // The queue is as if each had been claimed by itself.
    let mut findings = Vec::new();
    world.queue.verify(false, &mut |finding| findings.push(finding.to_string())).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    assert!(world.claim("e.example").await.is_empty());
    let left = world.claim("a.example").await;
    assert_eq!(left.iter().map(|job| job.message.id).collect::<Vec<_>>(), [other]);
    for job in company.iter().chain(&rest) {
        assert_eq!(world.finish(job).await, Settled::Done { ended: false, notices: Vec::new() });
        assert_eq!(world.finish(job).await, Settled::Stale);
    }
}

#[tokio::test]
async fn what_waits_for_its_time_rests_is_held_or_suspect_stays() {
    let world = world().await;
    let id = world.put(&TO, b"x").await;
    for _ in 0..2 {
        let silent = world.attempt("d.example").await;
        assert!(world.queue.begin(&silent.lease).await.unwrap());
        expire_leases(&world);
        world.keep_house().await;
    }
    world.queue.flush(&Filter::default()).await.unwrap();
    world.defer(&world.claim_one("a.example").await, LATER).await;
    world.queue.park(id.partition(), &Destination::new("b.example"), LATER).await.unwrap();
    let held = Filter { recipient: Some("c@c.example".into()), ..Filter::default() };
    assert_eq!(world.queue.hold(&held).await.unwrap().jobs, 1);
    let head = world.claim_one("e.example").await;
    assert!(beside(&world, &head, 50).await.is_empty());
    // And is claimed in its own time.
    world.queue.park(id.partition(), &Destination::new("b.example"), Duration::ZERO).await.unwrap();
    assert_eq!(destinations(&beside(&world, &head, 50).await), ["b.example"]);
}

#[tokio::test]
async fn of_a_worker_that_dies_each_comes_back_and_its_tokens_settle_nothing() {
    let world = world().await;
    world.put(&TO, b"x").await;
    let head = world.claim_one("a.example").await;
    let company = beside(&world, &head, 50).await;
    assert_eq!(company.len(), 4);
    assert!(matches!(world.finish(&company[0]).await, Settled::Done { .. }));
    expire_leases(&world);
    world.keep_house().await;
    assert!(world.claim("b.example").await.is_empty(), "it is over");
    let again = world.claim_one("c.example").await;
    assert_eq!(destinations(&beside(&world, &again, 50).await), ["d.example", "e.example", "a.example"]);
    let settlement = || deferred(company[1].recipients.clone(), LATER);
    assert_eq!(world.queue.settle(&company[1].lease, settlement()).await.unwrap(), Settled::Stale);
    let released = world.queue.settle(&again.lease, Settlement::Released).await.unwrap();
    assert!(released.is_done() && world.claim_one("c.example").await.lease != again.lease);
}

#[tokio::test]
async fn a_message_with_one_job_has_no_company_and_redis_is_not_asked() {
    let world = world().await;
    world.put(&["a@a.example", "b@a.example"], b"x").await;
    let head = world.claim_one("a.example").await;
    let commands = || {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut world.redis()).unwrap();
        info.lines().filter(|line| line.starts_with("cmdstat_evalsha")).collect::<String>()
    };
    let before = commands();
    assert!(beside(&world, &head, 50).await.is_empty());
    assert_eq!(commands(), before);
}
