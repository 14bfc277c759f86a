//! A remote that breaks off, puts off, or is shared by two workers.

use staffetta_cli::sink::{Scenario, Stage};
use staffetta_queue::Place;
use staffetta_tests::{Metrics, SOON, Service, World, eventually};

use super::{MESSAGE, accepted, client, ledger, once, until_each};

fn recipients(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("r{n}@example.com"))
}

async fn send_all(world: &World, count: usize) -> anyhow::Result<()> {
    let mut client = client(world).await?;
    for recipient in recipients(count) {
        assert_eq!(client.send("john@example.org", &[&recipient], MESSAGE).await?.code, 250);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pipelined_behind_a_421_to_the_dot_is_neither_lost_nor_doubled() -> anyhow::Result<()> {
    for scenario in [
        Scenario::default().reply(Stage::End, "421 4.3.2 going down").only("r20@").times(1),
        Scenario::default().reply(Stage::End, "421 4.3.2 going down").times(3),
        Scenario::default().reply(Stage::Mail, "421 4.3.2 going down").times(2),
        Scenario::default().reply(Stage::Recipient, "421 4.3.2 going down").only("r7@").times(1),
        Scenario::default().reply(Stage::Data, "421 4.3.2 going down").only("r11@").times(1),
    ] {
        let mut world = World::new().await?.start().await?;
        let text = format!("{scenario:?}");
        let mut mx = world.mx("example.com", scenario).await?;
        world.kill(Service::Delivery);
        send_all(&world, 40).await?;
        world.spawn(Service::Delivery)?;
        assert_eq!(ledger(&mut mx, 40).await?, once(recipients(40)), "{text}");
        world.until_empty().await?;
        assert_eq!(mx.count(), 40, "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_grows_with_the_age_of_the_message() -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.retry_min", "\"1s\"").set("delivery.retry_max", "\"1h\"");
    let mut world = world.start().await?;
    let _mx = world.mx("example.com", Scenario::default().reply(Stage::Mail, "451 4.3.0 not now")).await?;
    accepted(&world, "lisa@example.com", MESSAGE).await?;
    let mut waits: Vec<u64> = Vec::new();
    for attempts in 1..=4 {
        let at = |entry: &staffetta_queue::Entry| match entry.jobs[0].place {
            Place::Waiting(at) if entry.jobs[0].attempts == attempts => Some(at - entry.message.arrived),
            _ => None,
        };
        let entries = until_each(&world, 1, |entry| at(entry).is_some()).await?;
        waits.push(entries.first().and_then(at).unwrap_or_default());
    }
    // Due at about 1, 2, 4 and 8 seconds of age, give or take a tenth and what the attempts take.
    assert!(waits.is_sorted() && waits[0] < 2_500 && waits[3] > 5_500, "{waits:?}");
    assert!(waits[3] - waits[2] > waits[1] - waits[0] + 1_000, "{waits:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_destination_and_every_message_comes_once() -> anyhow::Result<()> {
    const COUNT: usize = 1_500;
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let second = world.second_worker().await?;
    send_all(&world, COUNT).await?;
    assert_eq!(ledger(&mut mx, COUNT).await?, once(recipients(COUNT)));
    world.until_empty().await?;
    assert_eq!(mx.count() as usize, COUNT);
    let delivered = |metrics: &Metrics| metrics.sum("staffetta_deliveries_total", &["outcome=\"delivered\""]);
    eventually(SOON, || async {
        let (first, second) = (world.metrics(Service::Delivery).await?, Metrics::scrape(second).await?);
        let (first, second) = (delivered(&first), delivered(&second));
        anyhow::ensure!(first > 0.0 && second > 0.0 && first + second == COUNT as f64, "{first} and {second}");
        Ok(())
    })
    .await
}
