//! Who is told that mail has come.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::world::world_with;

#[tokio::test]
async fn a_partition_that_had_nothing_due_wakes_workers_and_one_that_had_does_not() {
    let world = world_with(&[], |settings| settings.partitions = 1).await;
    let wakes = world.queue.wakes().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    while redis::cmd("PUBSUB").arg("NUMPAT").query::<u32>(&mut world.redis()).unwrap() == 0 {
        assert!(Instant::now() < patience, "nobody listens");
        sleep(Duration::from_millis(10)).await;
    }
    world.put(&["a@x.example"], b"x").await;
    timeout(Duration::from_secs(20), wakes.of(0)).await.unwrap();
    world.put(&["b@y.example"], b"x").await;
    assert!(timeout(Duration::from_millis(300), wakes.of(0)).await.is_err(), "workers are at it");
    for destination in ["x.example", "y.example"] {
        let job = world.claim_one(destination).await;
        world.defer(&job, Duration::from_secs(600)).await;
    }
    world.put(&["c@z.example"], b"x").await;
    timeout(Duration::from_secs(20), wakes.of(0)).await.unwrap();
}

#[tokio::test]
async fn without_leave_to_say_so_mail_is_queued_all_the_same() {
    let world = world_with(&[], |settings| settings.partitions = 1).await;
    redis::cmd("ACL").arg(&["SETUSER", "default", "resetchannels"]).exec(&mut world.redis()).unwrap();
    world.put(&["a@x.example"], b"x").await;
    assert!(world.finish(&world.claim_one("x.example").await).await.is_done());
}
