//! Unfinished messages: whoever brings them, there is room for others in Redis.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_queue::{Budget, EnqueueError, Health, Incoming, Payer};

use crate::world::{World, accept, world_with};

static PIECE: [u8; 256 * 1024] = [b'x'; 256 * 1024];

fn stranger(listener: usize, number: u8) -> Payer {
    Payer { listener, client: Some(IpAddr::from([192, 0, 2, number])) }
}

/// Sends without an end until it is refused.
async fn endless(world: &World, budget: &Arc<Budget>, payer: Payer) -> Result<Incoming, EnqueueError> {
    let mut incoming = world.queue.receive_for(budget, payer)?;
    for _ in 0..1_000 {
        if let Err(error) = incoming.write(&PIECE).await {
            assert!(matches!(error, EnqueueError::Full), "{error}");
            break;
        }
    }
    assert!(incoming.size() < 200 << 20, "nobody stopped it");
    Ok(incoming)
}

#[tokio::test]
async fn strangers_who_never_end_their_messages_do_not_fill_redis() {
    let world = world_with(&[("maxmemory", "100mb")], |_| {}).await;
    // Two pods.
    let other = world.another().await;
    let budgets = [Budget::new(1 << 30, 10 << 20, 2), Budget::new(1 << 30, 10 << 20, 2)];
    let mut all = Vec::new();
    for number in 0..30 {
        all.push(endless(&world, &budgets[usize::from(number) % 2], stranger(usize::from(number) % 2, number)).await);
        assert_eq!((world.queue.health(), other.health()), (Health::Ready, Health::Ready));
    }
    let (used, limit) = world.queue.counts().await.unwrap().memory;
    assert!(used < limit * 8 / 10, "{used} of {limit}");
    let mut honest = other.receive_for(&budgets[1], Payer { listener: 1, client: None }).unwrap();
    honest.write(&PIECE).await.unwrap();
    honest.write(&PIECE).await.unwrap();
    honest.commit(accept(&["a@x.example"]), b"").await.unwrap();

    drop(all);
    let end = Instant::now() + Duration::from_secs(20);
    while world.remains().iter().filter(|key| key.contains("}b:")).count() > 2 {
        assert!(Instant::now() < end, "{} keys stay", world.remains().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_client_leaves_room_to_the_others_and_gets_it_back_when_it_is_done() {
    let world = world_with(&[("maxmemory", "200mb")], |_| {}).await;
    let budget = Budget::new(1 << 30, 4 << 20, 1);
    let first = endless(&world, &budget, stranger(0, 1)).await.unwrap();
    let (size, second) = (first.size(), endless(&world, &budget, stranger(0, 1)).await.unwrap());
    assert!(second.size() < 1 << 20, "a second connection is no second client: {}", second.size());
    assert!((4 << 20..20 << 20).contains(&size), "{size}");
    let other = endless(&world, &budget, stranger(0, 2)).await.unwrap();
    assert!(other.size() > size / 2, "{}", other.size());
    drop((first, second, other));
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let again = endless(&world, &budget, stranger(0, 1)).await.unwrap();
        if again.size() + (1 << 20) > size {
            return;
        }
        assert!(Instant::now() < end, "{} of {size}", again.size());
        drop(again);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
