//! Whose refusals count against an address, and whose do not.

use std::net::IpAddr;

use staffetta_mail::ReversePath;
use staffetta_queue::Target;

use super::shaping::suspended;
use super::{port, served};
use crate::world::World;
use crate::world::mx::{Script, Server};

const SETTINGS: &str = "suppress_after = \"1/1d\"";
const GONE: &str = "550 5.1.1 no such user";
/// In a network that is trusted.
const OURS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)));

fn refusing(verb: &'static str, reply: &'static str) -> Script {
    Script { replies: vec![(verb, reply); 20], ..Script::default() }
}

async fn until_suppressed(world: &World, expected: &[&str]) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + crate::world::PATIENCE;
    loop {
        let names: Vec<String> = suspended(world).await?.into_iter().map(|(name, _)| name).collect();
        if names == expected {
            return Ok(());
        }
        anyhow::ensure!(names.len() < expected.len() && tokio::time::Instant::now() < end, "{names:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_recipients_own_server_that_says_that_it_is_not_there_counts() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dead = Server::start(refusing("RCPT", GONE)).await?;
    let beside = async |last: u8, script| Server::start_on(([127, 0, 0, last], dead.port()).into(), script).await;
    let strict = beside(2, refusing("RCPT", "550 5.7.1 rejected by local policy")).await?;
    let late = beside(3, refusing("DATA", GONE)).await?;
    let busy = beside(4, refusing("RCPT", "450 4.1.1 no such user at the moment")).await?;
    let smart = beside(5, refusing("RCPT", GONE)).await?;
    for (domain, server) in [("dead.test", &dead), ("strict.test", &strict), ("late.test", &late), ("busy.test", &busy)]
    {
        served(&world, &[domain], &format!("mx.{domain}"), server);
    }
    let route = format!("[[delivery.route]]\ndomain = \"routed.test\"\nvia = \"smtp://{}\"\n", smart.address());
    let worker = world.worker(&port(&dead, SETTINGS), &route)?;
    world.send_from(Some("198.51.100.9".parse()?), "of-a-stranger@dead.test", |_| {}).await?;
    world.send_from(OURS, "of-a-report@dead.test", |envelope| envelope.sender = ReversePath::Null).await?;
    for to in ["a@strict.test", "a@late.test", "a@routed.test"] {
        world.send_from(OURS, to, |_| {}).await?;
    }
    world.drained().await?;
    world.send_from(OURS, "a@busy.test", |_| {}).await?;
    world.until("deferred", |entries| !crate::world::waiting(entries).is_empty()).await?;
    world.send_from(OURS, "Gone@dead.test", |_| {}).await?;
    until_suppressed(&world, &[&Target::recipient("gone@dead.test")?.to_string()]).await?;
    let reason = suspended(&world).await?.remove(0).1;
    assert!(reason.contains(GONE) && reason.contains("mx.dead.test"), "{reason}");
    worker.stop().await
}

/// Who has a mail host of his own can have it refuse whatever he writes to.
#[tokio::test(flavor = "multi_thread")]
async fn of_one_client_only_so_many_count() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dead = Server::start(refusing("RCPT", GONE)).await?;
    served(&world, &["dead.test"], "mx.dead.test", &dead);
    let share = staffetta_queue::Rate { count: 5_000, per: std::time::Duration::from_secs(90 * 86_400) };
    let taken = world.queue.limiter("hard_bounces", share).acquire("127.0.0.1", 4_999).await?;
    assert_eq!(taken.tokens, 4_999);
    let worker = world.worker(&port(&dead, SETTINGS), "")?;
    for to in ["last@dead.test", "one-too-many@dead.test"] {
        world.send_from(OURS, to, |_| {}).await?;
        world.drained().await?;
        until_suppressed(&world, &["recipient last@dead.test"]).await?;
    }
    world.send_from("127.0.0.2".parse().ok(), "of-another@dead.test", |_| {}).await?;
    until_suppressed(&world, &["recipient last@dead.test", "recipient of-another@dead.test"]).await?;
    worker.stop().await
}
