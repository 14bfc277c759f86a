//! A lease ends while its holder waits for the server.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use staffetta_queue::Place;
use staffetta_tests::{Content, SOON, Service, Value, World, eventually};
use tokio::time::{Duration, sleep};

use super::{MESSAGE, accepted, body, large, until_each};

const TERM: Duration = Duration::from_secs(3);

async fn world() -> anyhow::Result<World> {
    World::new().await?.set("delivery.lease", "\"3s\"").start().await
}

/// All leases of the store: key, and the members with their ends.
fn leases(world: &World) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut store = world.store()?;
    let mut found = Vec::new();
    for key in store.keys("*}lease")? {
        let Value::List(members) = store.ask(&["ZRANGE", &key, "0", "-1"])? else { continue };
        for member in members {
            if let Value::Octets(octets) = member {
                found.push((key.clone(), octets));
            }
        }
    }
    Ok(found)
}

/// In the store the lease is another's, or nobody's: its holder hears of it when it renews, at the latest when it would
/// have ended.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_lease_the_old_holder_sends_no_dot_and_settles_nothing() -> anyhow::Result<()> {
    for (message, passed_on) in [(MESSAGE.to_owned(), true), (large(), true), (MESSAGE.to_owned(), false)] {
        let mut world = world().await?;
        let hand = world.hand("example.com").await?;
        accepted(&world, "lisa@example.com", &message).await?;
        let mut visit = hand.accept().await?;
        visit.until_data().await?;
        let (key, member) = leases(&world)?.pop().context("no lease")?;
        let mut store = world.store()?;
        store.ask(&[b"ZREM", key.as_bytes(), &member])?;
        let mut expected = Vec::new();
        if passed_on {
            // `<job> <token> <destination>`
            let text = String::from_utf8(member)?;
            let token = text.split(' ').nth(1).context("no token")?;
            let other = text.replace(token, &token.chars().rev().collect::<String>());
            store.ask(&["ZADD", &key, "99999999999999", &other])?;
            expected.push((key, other.into_bytes()));
        }
        sleep(TERM).await;
        visit.say("354 go on").await?;
        assert!(matches!(visit.content().await?, Content::CutOff(_)), "a second copy");
        world.stop(Service::Delivery)?;
        assert_eq!(leases(&world)?, expected, "what the new holder has is not touched");
        assert_eq!(world.queue().await?.counts().await?.messages, 1, "and the message is there");
        assert!(world.log(Service::Delivery).contains("the lease was lost"), "{}", world.log(Service::Delivery));
    }
    Ok(())
}

/// The process is paused, as a machine is that is moved: when it wakes up it must look at its clock before it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_through_its_lease_sends_no_dot() -> anyhow::Result<()> {
    for message in [MESSAGE.to_owned(), large()] {
        let mut world = world().await?;
        let hand = world.hand("example.com").await?;
        accepted(&world, "lisa@example.com", &message).await?;
        let mut first = hand.accept().await?;
        first.until_data().await?;
        let sleeper = world.pids(Service::Delivery).pop().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let sleeper = sleeper.context("no worker")?;
        kill_process(sleeper, Signal::STOP)?;
        world.second_worker().await?;
        let mut second = hand.accept().await?;
        second.until_data().await?;
        first.say("354 go on").await?;
        kill_process(sleeper, Signal::CONT)?;
        assert!(matches!(first.content().await?, Content::CutOff(_)), "a second copy");
        assert!(body(&second.take().await?) == body(&message), "whole");
        world.until_empty().await?;
    }
    Ok(())
}

/// The server has taken the message and the settlement comes too late. The job comes up again: the worker knows that it
/// has delivered it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_delivered_after_its_lease_was_lost_it_does_not_send_again() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let hand = world.hand("example.com").await?;
    accepted(&world, "lisa@example.com", MESSAGE).await?;
    let mut visit = hand.accept().await?;
    visit.until_data().await?;
    visit.say("354 go on").await?;
    anyhow::ensure!(matches!(visit.content().await?, Content::Whole(_)), "cut off");
    let (key, member) = leases(&world)?.pop().context("no lease")?;
    let mut store = world.store()?;
    store.ask(&[b"ZREM", key.as_bytes(), &member])?;
    visit.say("250 taken").await?;
    eventually(SOON, || async {
        let metrics = world.metrics(Service::Delivery).await?;
        anyhow::ensure!(metrics.sum("staffetta_possible_duplicates_total", &[]) == 1.0, "not counted");
        Ok(())
    })
    .await?;
    // Somebody had it whose lease is over.
    store.ask(&[b"ZADD", key.as_bytes(), b"1", &member])?;
    world.until_empty().await?;
    assert!(hand.accept_within(Duration::from_millis(100)).await?.is_none(), "a second copy");
    while let Some(line) = visit.line().await? {
        assert!(!line.starts_with("MAIL"), "a second copy");
        visit.say("250 ok").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lasts_as_long_as_its_holder_lives() -> anyhow::Result<()> {
    let mut world = world().await?;
    let hand = world.hand("example.com").await?;
    accepted(&world, "lisa@example.com", MESSAGE).await?;
    let mut visit = hand.accept().await?;
    visit.until_data().await?;
    assert!(hand.accept_within(TERM * 2).await?.is_none(), "nobody else gets the job meanwhile");
    until_each(&world, 1, |entry| matches!(entry.jobs[0].place, Place::Leased(_))).await?;
    visit.take().await?;
    world.until_empty().await?;
    assert_eq!(world.metrics(Service::Delivery).await?.sum("staffetta_queue_lease_expired_total", &[]), 0.0);
    Ok(())
}
