//! What is made of the words with which servers refuse mail.

use anyhow::ensure;
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Stage};
use staffetta_tests::{Client, Service, World, next};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";
const GONE: &str = "550 5.1.1 No such user here";

/// Trusted, and so no stranger.
async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

/// The records of this event that the worker has written.
fn events(world: &World, event: &str) -> Vec<Value> {
    let log = world.log(Service::Delivery);
    let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|record| record["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_mail_fails_is_in_the_log_and_in_the_metrics() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let gone = Scenario::default().reply(Stage::Recipient, GONE).only("nobody@");
    let full = gone.reply(Stage::Recipient, "452 4.2.2 Mailbox is full").only("lisa@").times(1);
    let mut mx = world.mx("example.com", full).await?;
    let _home = world.mx("example.org", Scenario::default()).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com", "nobody@example.com"], MESSAGE).await?;
    ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
    world.until_empty().await?;
    for (event, to, class) in
        [("bounced", "nobody@example.com", "bad-mailbox"), ("deferred", "lisa@example.com", "quota-issues")]
    {
        let told = events(&world, event);
        ensure!(told.len() == 1, "{event}: {told:?}");
        let seen = [&told[0]["to"], &told[0]["class"], &told[0]["category"], &told[0]["scope"]];
        ensure!(seen == [to, class, class, "recipient"], "{seen:?}");
        let metrics = world.metrics(Service::Delivery).await?;
        let labels = [format!("outcome=\"{event}\""), format!("class=\"{class}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        ensure!(metrics.sum("staffetta_deliveries_total", &labels) == 1.0, "{event}");
        ensure!(metrics.sum("staffetta_deliveries_total", &labels[..1]) == 1.0, "{event}: nothing else");
    }
    ensure!(events(&world, "delivered").iter().all(|record| record["class"].is_null()));
    Ok(())
}
