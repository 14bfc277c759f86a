//! Taking responsibility: receive, write, commit.

use std::time::{Duration, Instant};

use staffetta_queue::{Body, EnqueueError, Health};

use crate::world::{World, accept, put, world, world_with};

/// The octets of a job's body, wherever they are.
async fn body(world: &World, job: &staffetta_queue::Job) -> Vec<u8> {
    match &job.body {
        Body::Inline(octets) => octets.to_vec(),
        Body::Chunks(chunks) => {
            let mut octets = Vec::new();
            for index in 0..chunks.count {
                octets.extend(world.queue.chunk(job.lease.id, chunks, index).await.unwrap());
            }
            assert_eq!(octets.len() as u64, chunks.size);
            octets
        }
    }
}

#[tokio::test]
async fn a_small_message_comes_back_as_it_went_in() {
    let world = world().await;
    assert_eq!(world.queue.health(), Health::Ready);
    let id = world.put(&["a@x.example", "b@X.example"], b"Subject: x\r\n\r\nhello\r\n").await;
    let job = world.claim_one("x.example").await;
    assert_eq!(job.lease.id, id);
    assert_eq!(job.message.envelope, accept(&["a@x.example", "b@X.example"]).envelope);
    assert_eq!((job.recipients.clone(), job.attempts, job.delay_noticed), (vec![0, 1], 0, false));
    assert_eq!(job.body, Body::Inline(b"Subject: x\r\n\r\nhello\r\n".as_slice().into()));
    assert_eq!(job.message.expires - job.message.arrived, 3_600_000);
    assert!(world.finish(&job).await.is_done());
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn bodies_of_every_size_come_back_and_leave_nothing_behind() {
    let world = world().await;
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 700_000, 1_200_000] {
        let octets: Vec<u8> = (0..size).map(|index: usize| (index * 7 % 251) as u8).collect();
        let mut incoming = world.queue.receive().unwrap();
        for piece in octets.chunks(9_999) {
            incoming.write(piece).await.unwrap();
        }
        assert_eq!(incoming.size(), size as u64);
        incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
        let job = world.claim_one("x.example").await;
        assert_eq!(matches!(job.body, Body::Inline(_)), size <= 16 * 1024, "{size}");
        assert!(body(&world, &job).await == octets, "{size}");
        assert_eq!(job.message.size, size as u64);
        world.finish(&job).await;
        let chunks = size.div_ceil(256 * 1024);
        assert_eq!(world.remains().len(), if chunks <= 4 { 0 } else { chunks + 1 }, "{size}: chunks and their entry");
        world.keep_house().await;
        assert_eq!(world.remains(), Vec::<String>::new(), "{size}");
    }
}

#[tokio::test]
async fn what_is_put_in_front_at_the_end_comes_first_and_once_and_counts() {
    const FIELD: &[u8] = b"X-Added: last\r\n";
    let world = world().await;
    for size in [0, 100, 16 * 1024, 16 * 1024 + 1, 256 * 1024 + 1, 700_000] {
        let octets: Vec<u8> = (0..size).map(|index: usize| (index * 7 % 251) as u8).collect();
        let mut incoming = world.queue.receive().unwrap();
        incoming.write(&octets).await.unwrap();
        let stored = chunks(&world);
        let id = incoming.commit(accept(&["a@x.example"]), FIELD).await.unwrap();
        assert!(stored.iter().all(|chunk| chunks(&world).contains(chunk)), "what is stored is not written again");
        let job = world.claim_one("x.example").await;
        assert!([&*job.prefix, &body(&world, &job).await].concat() == [FIELD, &octets].concat(), "{size}");
        assert_eq!(job.message.size, (FIELD.len() + size) as u64);
        let (prefix, _) = world.queue.stored(id).await.unwrap().unwrap();
        assert_eq!(prefix, job.prefix);
        world.finish(&job).await;
        world.keep_house().await;
    }
}

/// The pieces of bodies, with what they hold.
fn chunks(world: &World) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*}b:*").query(&mut world.redis()).unwrap();
    let octets = |key: &String| redis::cmd("GET").arg(key).query(&mut world.redis()).unwrap();
    keys.into_iter().map(|key| (key.clone(), octets(&key))).collect()
}

#[tokio::test]
async fn chunks_have_a_time_to_live_until_the_message_is_queued() {
    let world = world().await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(&vec![b'x'; 600_000]).await.unwrap();
    let chunks = world.remains();
    assert_eq!(chunks.len(), 2);
    let ttl = |key: &String| redis::cmd("TTL").arg(key).query::<i64>(&mut world.redis()).unwrap();
    assert!(chunks.iter().all(|key| (100..=120).contains(&ttl(key))));
    let id = incoming.commit(accept(&["a@x.example"]), b"").await.unwrap();
    let chunks: Vec<String> = world.remains().into_iter().filter(|key| key.contains(&format!("b:{id}"))).collect();
    assert_eq!(chunks.len(), 3);
    assert!(chunks.iter().all(|key| ttl(key) == -1));
}

#[tokio::test]
async fn a_message_that_is_dropped_before_commit_is_not_queued() {
    let world = world().await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(b"half a mess").await.unwrap();
    drop(incoming);
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_message_that_is_dropped_gives_its_room_back() {
    let world = world().await;
    let mut incoming = world.queue.receive().unwrap();
    incoming.write(&vec![b'x'; 600_000]).await.unwrap();
    assert_eq!(world.remains().len(), 2);
    drop(incoming);
    let end = Instant::now() + Duration::from_secs(10);
    while !world.remains().is_empty() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_message_without_recipients_is_refused() {
    let world = world().await;
    assert!(matches!(put(&world.queue, &[], b"x").await, Err(EnqueueError::Unavailable(_))));
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn ids_name_the_partition_and_the_time() {
    let world = world().await;
    let ids = [world.put(&["a@x.example"], b"1").await, world.put(&["a@x.example"], b"2").await];
    assert_ne!(ids[0].partition(), ids[1].partition());
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut world.redis()).unwrap();
    assert!(ids.iter().all(|id| id.unix_millis().abs_diff(seconds * 1_000) < 10_000));
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_loaded_again() {
    let world = world().await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut world.redis()).unwrap();
    let all = (0..40).map(|_| put(&world.queue, &["a@x.example"], b"x"));
    for outcome in futures_util::future::join_all(all).await {
        outcome.unwrap();
    }
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut world.redis()).unwrap();
    let jobs = world.claim("x.example").await;
    assert_eq!(jobs.len(), 40);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut world.redis()).unwrap();
    assert!(world.finish(&jobs[0]).await.is_done());
}

#[tokio::test]
async fn a_redis_that_goes_away_is_noticed_at_once() {
    let mut world = world().await;
    world.put(&["a@x.example"], b"x").await;
    world.server.kill().unwrap();
    let start = Instant::now();
    // The first may still be under way when the loss is noticed.
    while world.queue.health() == Health::Ready {
        tokio::task::yield_now().await;
    }
    assert!(matches!(put(&world.queue, &["a@x.example"], b"x").await, Err(EnqueueError::Unavailable(_))));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    world.server.restart().unwrap();
    world.queue.ready(Duration::from_secs(10)).await.unwrap();
    world.put(&["a@x.example"], b"x").await;
    assert_eq!(world.claim("x.example").await.len(), 2);
}

#[tokio::test]
async fn a_redis_in_tcp_is_used_as_well() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://127.0.0.1:{port}/3");
    let world = world_with(&[("port", &port.to_string())], |settings| settings.url = url).await;
    world.put(&["a@x.example"], b"x").await;
    assert_eq!(world.claim("x.example").await.len(), 1);
}
