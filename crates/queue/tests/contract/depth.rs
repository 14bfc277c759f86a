//! How many messages of a login are in the queue.

use std::time::Duration;

use staffetta_mail::QueueId;
use staffetta_queue::{Accept, Deleted, Filter, Problem, Queue, Settlement};

use crate::world::{World, accept, deferred, notice, world};

async fn put(queue: &Queue, login: Option<&str>, counts: bool, to: &[&str]) -> QueueId {
    let mut incoming = queue.receive().unwrap();
    if counts {
        incoming.count_for_login();
    }
    incoming.write(b"x").await.unwrap();
    let mut accept: Accept = accept(to);
    accept.origin.login = login.map(str::to_owned);
    incoming.commit(accept, b"").await.unwrap()
}

async fn depths<const N: usize>(world: &World, logins: [&str; N]) -> [u64; N] {
    let mut depths = [0; N];
    for (depth, login) in depths.iter_mut().zip(logins) {
        *depth = world.queue.depth(login).await.unwrap();
    }
    depths
}

#[tokio::test]
async fn a_message_counts_for_its_login_from_its_acceptance_to_its_end() {
    let world = world().await;
    let (john, lisa) = ("john@example.org", "lisa@example.org");
    for _ in 0..6 {
        put(&world.queue, Some("John@Example.org"), true, &["a@x.example", "b@y.example"]).await;
    }
    put(&world.queue, Some(lisa), true, &["a@z.example"]).await;
    put(&world.queue, Some(lisa), false, &["a@z.example"]).await;
    put(&world.queue, None, true, &["a@z.example"]).await;
    assert_eq!(depths(&world, [john, lisa, "nobody"]).await, [6, 1, 0], "however it is spelt");

    // Of two deliveries the last one ends the message; one that waits again, or is held, does not.
    for (index, job) in world.claim("x.example").await.iter().enumerate() {
        match index {
            0 => drop(world.defer(job, Duration::ZERO).await),
            1 => drop(world.queue.settle(&job.lease, Settlement::Held).await.unwrap()),
            _ => drop(world.finish(job).await),
        }
    }
    assert_eq!(depths(&world, [john]).await, [6]);
    let jobs = world.claim("y.example").await;
    for job in &jobs {
        world.queue.settle(&job.lease, Settlement::Finished { notices: vec![notice(b"sorry")] }).await.unwrap();
    }
    assert_eq!(depths(&world, [john, lisa]).await, [2, 1]);

    // An operator deletes one that waits or is held, and one that is under way.
    let job = world.claim_one("x.example").await;
    assert_eq!(world.queue.delete(job.message.id).await.unwrap(), Deleted::Leased);
    assert_eq!(depths(&world, [john]).await, [2], "it is under way");
    let later = deferred(job.recipients.clone(), Duration::from_secs(60));
    assert!(world.queue.settle(&job.lease, later).await.unwrap().is_done());
    assert_eq!(depths(&world, [john]).await, [1]);
    for entry in world.queue.list(&Filter::default(), None, 100).await.unwrap().entries {
        world.queue.delete(entry.message.id).await.unwrap();
    }
    assert_eq!(depths(&world, [john, lisa]).await, [0, 0]);
    world.keep_house().await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn the_worker_of_a_deleted_message_is_gone_and_its_login_has_room_all_the_same() {
    let world = world().await;
    let id = put(&world.queue, Some("john"), true, &["a@x.example"]).await;
    let _job = world.claim_one("x.example").await;
    assert_eq!(world.queue.delete(id).await.unwrap(), Deleted::Leased);
    crate::deliver::expire_leases(&world);
    world.keep_house().await;
    assert_eq!(depths(&world, ["john"]).await, [0]);
}

/// Such a worker would not give it back.
#[tokio::test]
async fn nothing_counts_while_a_worker_of_yesterday_is_there() {
    let world = world().await;
    let time: (u64, u64) = redis::cmd("TIME").query(&mut world.redis()).unwrap();
    redis::cmd("ZADD")
        .arg("{kq:cfg}readers")
        .arg(time.0 * 1_000)
        .arg("00000000000000aa 2")
        .exec(&mut world.redis())
        .unwrap();
    let queue = world.another().await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let before = queue.depth("john").await.unwrap();
        put(&queue, Some("john"), true, &["a@x.example"]).await;
        if queue.depth("john").await.unwrap() == before {
            break;
        }
        // It had looked before the old one came.
        assert!(std::time::Instant::now() < end, "it counts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_counted_wrongly_is_found_and_put_right() {
    let world = world().await;
    let ids = [
        put(&world.queue, Some("john"), true, &["a@x.example"]).await,
        put(&world.queue, Some("lisa"), true, &["a@x.example"]).await,
    ];
    let key = |id: QueueId| {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("{{kq:{}.*}}who", id.partition())).query(&mut world.redis()).unwrap();
        keys[0].clone()
    };
    let look = async |repair| {
        let mut found = Vec::new();
        world.queue.verify(repair, &mut |finding| found.push((finding.problem, finding.about.clone()))).await.unwrap();
        found.sort_by(|one, other| one.1.cmp(&other.1));
        found
    };
    assert_eq!(look(false).await, vec![]);
    redis::cmd("HINCRBY").arg(key(ids[0])).arg("john").arg(3).exec(&mut world.redis()).unwrap();
    redis::cmd("HSET").arg(key(ids[0])).arg("nobody").arg(1).exec(&mut world.redis()).unwrap();
    redis::cmd("HDEL").arg(key(ids[1])).arg("lisa").exec(&mut world.redis()).unwrap();
    let wrong = ["john +3", "lisa -1", "nobody +1"].map(|about| (Problem::Misjudged, about.to_owned()));
    assert_eq!(look(false).await, wrong);
    assert_eq!(look(true).await, wrong);
    assert_eq!((look(true).await, depths(&world, ["john", "lisa", "nobody"]).await), (vec![], [1, 1, 0]));
    for job in world.claim("x.example").await {
        world.finish(&job).await;
    }
    assert_eq!(world.remains(), Vec::<String>::new());
}
