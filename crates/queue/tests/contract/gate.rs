//! What kind of Redis is used at all.

use std::time::Duration;

use staffetta_queue::{
    Beginning, Destination, Durability, EnqueueError, Error, Health, Queue, Settings, begin, exists,
};
use tokio_util::sync::CancellationToken;

use crate::world::{World, put, world, world_with};

fn config(world: &World, name: &str, value: &str) {
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut world.redis()).unwrap();
}

async fn until(what: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(tokio::time::Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn reason(queue: &Queue) -> String {
    match queue.health() {
        Health::Down(reason) => reason.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_redis_without_a_synced_file_is_refused_with_advice() {
    let world = world_with(&[("appendonly", "no")], |settings| settings.durability = Durability::None).await;
    let mut settings = world.settings.clone();
    settings.durability = Durability::Fsync;
    let queue = Queue::open(settings, CancellationToken::new()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(error.contains("set `appendonly yes`"), "{error}");
    assert!(matches!(put(&queue, &["a@x.example"], b"x").await, Err(EnqueueError::Unavailable(_))));
}

#[tokio::test]
async fn a_setting_that_is_changed_while_running_is_noticed() {
    let world = world().await;
    config(&world, "appendfsync", "everysec");
    until(|| reason(&world.queue).contains("set `appendfsync always`")).await;
    assert!(matches!(put(&world.queue, &["a@x.example"], b"x").await, Err(EnqueueError::Unavailable(_))));
    config(&world, "appendfsync", "always");
    world.queue.ready(Duration::from_secs(20)).await.unwrap();
    world.put(&["a@x.example"], b"x").await;
}

#[tokio::test]
async fn an_emptied_redis_is_noticed() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    redis::cmd("FLUSHALL").exec(&mut world.redis()).unwrap();
    until(|| reason(&world.queue).contains("emptied or replaced")).await;
    // Somebody who starts the service again knows what happened.
    let queue = world.another().await;
    put(&queue, &["a@x.example"], b"x").await.unwrap();
}

#[tokio::test]
async fn a_lost_partition_is_noticed_by_a_new_process_too() {
    let world = world().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*}id").query(&mut world.redis()).unwrap();
    assert_eq!(keys.len(), 4);
    redis::cmd("DEL").arg(&keys[0]).exec(&mut world.redis()).unwrap();
    let queue = Queue::open(world.settings.clone(), CancellationToken::new()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(error.contains("is gone. Restore its data"), "{error}");
    let refused = begin(&world.settings, false).await.unwrap_err().to_string();
    assert!(refused.contains("is gone. Restore its data"), "{refused}");
    assert_eq!(begin(&world.settings, true).await.unwrap(), Beginning::Extended);
    queue.ready(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn where_no_queue_may_be_made_one_begins_when_an_operator_says_so() {
    let world = world().await;
    world.put(&["a@x.example"], b"x").await;
    redis::cmd("FLUSHALL").exec(&mut world.redis()).unwrap();
    until(|| reason(&world.queue).contains("emptied or replaced")).await;
    let by_hand = Settings { create: false, ..world.settings.clone() };
    let queue = Queue::open(by_hand.clone(), CancellationToken::new()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(error.contains("there is no queue in this Redis"), "{error}");
    assert_eq!(begin(&by_hand, false).await.unwrap(), Beginning::New);
    queue.ready(Duration::from_secs(20)).await.unwrap();
    // To those who have seen the old one it is not what they have lost, until somebody says that it is lost.
    assert!(reason(&world.queue).contains("emptied or replaced"));
    assert_eq!(begin(&by_hand, true).await.unwrap(), Beginning::There);
    world.queue.ready(Duration::from_secs(20)).await.unwrap();
    world.put(&["a@x.example"], b"x").await;
    assert_eq!(begin(&by_hand, false).await.unwrap(), Beginning::There);
    assert_eq!(world.queue.counts().await.unwrap().messages, 1, "nothing that was there is touched");
}

#[tokio::test]
async fn a_queue_is_that_of_one_cluster() {
    let world = world().await;
    let others = Settings { name: "another".to_owned(), ..world.settings.clone() };
    let end = CancellationToken::new();
    let queue = Queue::open(others.clone(), end.clone()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    end.cancel();
    assert!(error.contains("is that of \"staffetta\", and redis.name is \"another\""), "{error}");
    assert!(begin(&others, true).await.unwrap_err().to_string().contains("is that of \"staffetta\""));
    // One from before there were names gets that of whoever has it.
    redis::cmd("HDEL").arg("{kq:cfg}").arg("name").exec(&mut world.redis()).unwrap();
    until(|| {
        let name: Option<String> = redis::cmd("HGET").arg("{kq:cfg}").arg("name").query(&mut world.redis()).unwrap();
        name.as_deref() == Some("staffetta")
    })
    .await;
    let queue = Queue::open(others, CancellationToken::new()).unwrap();
    assert!(queue.ready(Duration::from_millis(500)).await.is_err());
}

#[tokio::test]
async fn partitions_are_added_while_others_run_and_those_of_before_are_served_for_ever() {
    let world = world().await;
    assert_eq!(world.queue.partitions(), 4);
    let wide = Settings { partitions: 8, ..world.settings.clone() };
    let queue = Queue::open(wide, CancellationToken::new()).unwrap();
    queue.ready(Duration::from_secs(10)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(put(&queue, &["a@x.example"], b"x").await.unwrap());
    }
    // Whoever runs already hears of it, puts nothing there, and finds what is there.
    until(|| world.queue.partitions() == 8).await;
    for _ in 0..8 {
        assert!(world.put(&["a@x.example"], b"x").await.partition() < 4);
    }
    let narrow = world.another().await;
    assert_eq!((narrow.partitions(), narrow.counts().await.unwrap().messages), (8, 16));
    let added = ids.iter().find(|id| id.partition() >= 4).unwrap();
    let jobs = narrow.claim(added.partition(), &Destination::new("x.example"), 10).await.unwrap();
    assert!(jobs.iter().any(|job| job.message.id == *added));
    let narrowed: String = redis::cmd("HGET").arg("{kq:cfg}").arg("partitions").query(&mut world.redis()).unwrap();
    assert_eq!(narrowed, "8", "it never shrinks");
}

#[tokio::test]
async fn whoever_only_looks_makes_nothing() {
    let world = world().await;
    let onlooker = world.settings.clone().only_looking();
    let queue = Queue::open(onlooker.clone(), CancellationToken::new()).unwrap();
    queue.ready(Duration::from_secs(10)).await.unwrap();
    assert_eq!(queue.partitions(), 4);
    assert!(exists(&onlooker).await.unwrap());
    redis::cmd("FLUSHALL").exec(&mut world.redis()).unwrap();
    assert!(!exists(&onlooker).await.unwrap());
    let queue = Queue::open(onlooker, CancellationToken::new()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(error.contains("there is no queue in this Redis"), "{error}");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut world.redis()).unwrap();
    assert_eq!(keys, Vec::<String>::new());
}

#[tokio::test]
async fn replicated_needs_replicas_and_gets_their_word() {
    let world = world().await;
    let mut settings = world.settings.clone();
    settings.durability = Durability::Replicated;
    settings.replicas = 1;
    let queue = Queue::open(settings, CancellationToken::new()).unwrap();
    let error = queue.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(error.contains("0 replicas are connected, 1 are needed"), "{error}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config(&world, "port", &port.to_string());
    let replica = world_with(&[], |settings| settings.durability = Durability::None).await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut replica.redis()).unwrap();
    queue.ready(Duration::from_secs(20)).await.unwrap();
    let id = put(&queue, &["a@x.example"], b"x").await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg(format!("*m:{id}")).query(&mut replica.redis()).unwrap();
    assert_eq!(keys.len(), 1, "it is on the replica when the client hears 250");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let world = world().await;
    let open = |change: &dyn Fn(&mut Settings)| {
        let mut settings = world.settings.clone();
        change(&mut settings);
        match Queue::open(settings, CancellationToken::new()) {
            Err(Error::Settings(text)) => text,
            _ => "accepted".to_owned(),
        }
    };
    assert!(open(&|settings| settings.partitions = 0).contains("1 to 1024"));
    assert!(open(&|settings| settings.max_memory_ratio = 1.5).contains("at most 1"));
    assert!(open(&|settings| settings.durability = Durability::Replicated).contains("how many replicas"));
    assert!(open(&|settings| settings.url = "redis-cluster://a,b/1".into()).contains("no database number"));
}
