//! Recipients that are suppressed because their servers have refused them for good.

use std::time::Duration;

use staffetta_queue::{Announcer, Block, HardBounces, Rate, Reckoning, Target};

use crate::world::{World, world, world_with};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn rule(count: u32) -> HardBounces {
    HardBounces { after: Rate { count, per: HOUR }, life: DAY }
}

fn recipient(text: &str) -> Target {
    Target::recipient(text).unwrap()
}

async fn bounce(world: &World, to: &str, count: u32) -> Reckoning {
    world.queue.hard_bounce(&recipient(to), rule(count), "550 5.1.1 no such user").await.unwrap()
}

async fn suppressed(world: &World) -> Vec<(Target, Block)> {
    Announcer::connect(&world.settings).await.unwrap().blocks().await.unwrap().0
}

#[tokio::test]
async fn the_last_of_so_many_suppresses_once_and_all_pods_hear_of_it() {
    let world = world().await;
    assert_eq!(bounce(&world, "gone@example.com", 3).await, Reckoning::Counted);
    assert_eq!(bounce(&world, "other@example.com", 3).await, Reckoning::Counted);
    assert_eq!(bounce(&world, "Gone@Example.com", 3).await, Reckoning::Counted);
    assert!(suppressed(&world).await.is_empty());
    assert_eq!(bounce(&world, "gone@example.com", 3).await, Reckoning::Suppressed);
    assert_eq!(bounce(&world, "gone@example.com", 3).await, Reckoning::Counted, "one that was on its way");
    let all = suppressed(&world).await;
    assert_eq!((all.len(), &all[0].0), (1, &recipient("gone@example.com")));
    let Block { since, until, reason, .. } = &all[0].1;
    assert_eq!(reason, "550 5.1.1 no such user");
    assert_eq!(until.unwrap() - since, DAY.as_millis() as u64);
    let told: u64 = redis::cmd("XLEN").arg("{R}log").query(&mut world.redis()).unwrap();
    assert_eq!(told, 1);
    let kept: Vec<String> = redis::cmd("ZRANGE").arg("{R}bounces").arg(0).arg(-1).query(&mut world.redis()).unwrap();
    assert_eq!(kept, ["recipient other@example.com"]);
    assert_eq!(bounce(&world, "first@example.com", 1).await, Reckoning::Suppressed, "where one is enough");
}

#[tokio::test]
async fn what_was_long_ago_is_forgotten() {
    let world = world().await;
    let rule = HardBounces { after: Rate { count: 2, per: Duration::from_millis(20) }, life: DAY };
    for _ in 0..3 {
        let reckoning = world.queue.hard_bounce(&recipient("gone@example.com"), rule, "").await.unwrap();
        assert_eq!(reckoning, Reckoning::Counted);
        // By the clock of Redis.
        let forgotten = async || -> u64 {
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut world.redis()).unwrap();
            let now = seconds * 1_000 + micros / 1_000;
            let mut count = redis::cmd("ZCOUNT");
            count.arg("{R}bounces").arg("-inf").arg(now).query(&mut world.redis()).unwrap()
        };
        while forgotten().await == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(suppressed(&world).await.is_empty());
}

#[tokio::test]
async fn what_an_operator_has_said_stays_as_it_is() {
    let world = world().await;
    let announcer = Announcer::connect(&world.settings).await.unwrap();
    assert!(announcer.block(&recipient("gone@example.com"), None, "for ever").await.unwrap());
    assert_eq!(bounce(&world, "gone@example.com", 1).await, Reckoning::Counted);
    let all = suppressed(&world).await;
    assert_eq!((all[0].1.until, &*all[0].1.reason), (None, "for ever"));
    let life = Duration::from_secs(1);
    assert!(!world.queue.block(&recipient("gone@example.com"), life, "of a rule").await.unwrap());
    assert_eq!(suppressed(&world).await[0].1.until, None, "a rule does not end what has no end");
    assert!(announcer.unblock(&recipient("gone@example.com")).await.unwrap());
    assert_eq!(bounce(&world, "gone@example.com", 1).await, Reckoning::Suppressed);
}

/// Whoever runs a mail host can have it refuse any number of addresses.
#[tokio::test]
async fn hard_bounces_leave_room_for_operators_and_remember_no_more_than_they_may() {
    let world = world_with(&[("appendonly", "no")], |settings| {
        settings.durability = staffetta_queue::Durability::None;
    })
    .await;
    let mut redis = world.redis();
    for first in (0..50_000).step_by(10_000) {
        let mut pipe = redis::pipe();
        for number in first..first + 10_000 {
            pipe.zadd("{R}bounces", format!("recipient r{number}@example.com"), 9e15 + f64::from(number)).ignore();
            pipe.hset("{R}blocks", format!("recipient r{number}@example.net"), "1 0 many").ignore();
        }
        pipe.exec(&mut redis).unwrap();
    }
    assert_eq!(bounce(&world, "one@example.org", 1).await, Reckoning::Full);
    assert!(
        Announcer::connect(&world.settings).await.unwrap().block(&recipient("a@b.example"), None, "").await.unwrap()
    );
    assert_eq!(bounce(&world, "one@example.org", 2).await, Reckoning::Counted);
    let (kept, oldest): (u64, Option<f64>) =
        redis::pipe().zcard("{R}bounces").zscore("{R}bounces", "recipient r0@example.com").query(&mut redis).unwrap();
    assert_eq!((kept, oldest), (50_000, None), "who would be forgotten first");
    let told: u64 = redis::cmd("XLEN").arg("{R}log").query(&mut redis).unwrap();
    assert_eq!(told, 1, "the operator's only");
}
