//! What is made of the words with which servers refuse mail.

use anyhow::ensure;
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Stage};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};

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
    for (event, to, class, remedy) in [
        ("bounced", "nobody@example.com", "bad-mailbox", "remove-recipient"),
        ("deferred", "lisa@example.com", "quota-issues", "wait"),
    ] {
        let told = events(&world, event);
        ensure!(told.len() == 1, "{event}: {told:?}");
        let seen = ["to", "class", "category", "scope", "remedy"].map(|field| &told[0][field]);
        ensure!(seen == [to, class, class, "recipient", remedy], "{seen:?}");
        let metrics = world.metrics(Service::Delivery).await?;
        let labels = [format!("outcome=\"{event}\""), format!("class=\"{class}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        ensure!(metrics.sum("staffetta_deliveries_total", &labels) == 1.0, "{event}");
        ensure!(metrics.sum("staffetta_deliveries_total", &labels[..1]) == 1.0, "{event}: nothing else");
    }
    ensure!(events(&world, "delivered").iter().all(|record| record["class"].is_null()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_good_is_suppressed_where_that_is_asked_for_until_it_is_taken_back() -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.suppress_after", "\"2/1d\"").set("delivery.suppress_for", "\"30d\"");
    let mut world = world.start().await?;
    let gone = Scenario::default().reply(Stage::Recipient, GONE).only("gone@");
    let policy = gone.reply(Stage::Recipient, "550 5.7.1 Blocked by policy").only("lisa@");
    let mx = world.mx("example.com", policy).await?;
    let _home = world.mx("example.org", Scenario::default()).await?;
    let mut client = client(&world).await?;
    for round in 1..=2 {
        ensure!(world.staffetta(&["suppress", "list"])?.contains("No recipient is suppressed."), "round {round}");
        client.send("john@example.org", &["gone@example.com", "lisa@example.com"], MESSAGE).await?;
        world.until_empty().await?;
    }
    let world = &world;
    let listed = async || world.staffetta(&["suppress", "list", "--json"]);
    eventually(SOON, async || {
        let listed = listed().await?;
        ensure!(listed.lines().count() == 1 && listed.contains("gone@example.com"), "{listed}");
        ensure!(listed.contains(GONE), "the words of the server: {listed}");
        ensure!(listed.contains("\"reason\":\"hard bounces: "), "nobody did that by hand: {listed}");
        let told = events(world, "administered");
        ensure!(told.len() == 1, "{told:?}");
        let seen = [&told[0]["kind"], &told[0]["name"], &told[0]["action"], &told[0]["by"]];
        ensure!(seen == ["recipient", "gone@example.com", "suppressed", "delivery.suppress_after"], "{seen:?}");
        ensure!(world.metrics(Service::Delivery).await?.sum("staffetta_delivery_suppressions_total", &[]) == 1.0);
        Ok(())
    })
    .await?;
    let connections = mx.connections();
    eventually(SOON, async || {
        let mut client = self::client(world).await?;
        client.expect("MAIL FROM:<john@example.org>", 250).await?;
        client.expect("RCPT TO:<Gone@example.com>", 550).await?;
        client.expect("RCPT TO:<lisa@example.com>", 250).await.map(drop)
    })
    .await?;
    ensure!(mx.connections() == connections);

    world.staffetta(&["suppress", "remove", "gone@example.com"])?;
    eventually(SOON, async || {
        let reply = self::client(world).await?.send("john@example.org", &["gone@example.com"], MESSAGE).await?;
        ensure!(reply.code == 250, "{}", reply.text());
        Ok(())
    })
    .await?;
    world.until_empty().await?;
    ensure!(world.staffetta(&["suppress", "list"])?.contains("No recipient is suppressed."), "it is counted anew");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_counted_by_the_few_providers_that_have_a_name() -> anyhow::Result<()> {
    let table = "[[delivery.destination]]\nmx = [\"*.example.com\"]\n";
    let mut world = World::new().await?.tables(table).start().await?;
    let full = Scenario::default().reply(Stage::Recipient, "452 4.2.2 Mailbox is full").only("lisa@").times(1);
    let _named = world.mx("example.com", full).await?;
    let _nameless = world.mx("example.net", Scenario::default()).await?;
    let recipients = ["lisa@example.com", "john@example.com", "lisa@example.net"];
    client(&world).await?.send("john@example.org", &recipients, MESSAGE).await?;
    world.until_empty().await?;
    let metrics = world.metrics(Service::Delivery).await?;
    for (provider, outcome, expected) in
        [("*.example.com", "delivered", 2.0), ("*.example.com", "deferred", 1.0), ("other", "delivered", 1.0)]
    {
        let labels = [format!("provider=\"{provider}\""), format!("outcome=\"{outcome}\"")];
        let seen = metrics.sum("staffetta_provider_deliveries_total", &labels.each_ref().map(String::as_str));
        ensure!(seen == expected, "{provider} {outcome}: {seen}");
    }
    ensure!(metrics.sum("staffetta_provider_deliveries_total", &[]) == 4.0, "nowhere else");
    ensure!(metrics.sum("staffetta_provider_duration_seconds_count", &["provider=\"*.example.com\""]) == 4.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_calls_final_is_reported_although_the_server_would_be_asked_again() -> anyhow::Result<()> {
    let rule = "[[delivery.rule]]\nreply = 'unverified address'\naction = \"bounce\"\ntimes = \"1/1m\"\n";
    let mut world = World::new().await?.tables(rule).start().await?;
    let never = Scenario::default().reply(Stage::Recipient, "450 4.1.1 Unverified address: no such user").only("gone@");
    let mut mx = world.mx("example.com", never).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    client(&world).await?.send("john@example.org", &["gone@example.com", "lisa@example.com"], MESSAGE).await?;
    ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
    let report = String::from_utf8(next(&mut home).await?.body.to_vec())?;
    for part in
        ["Final-Recipient: rfc822; gone@example.com", "Status: 5.1.1", "450 4.1.1 Unverified", "delivery.rule[0]"]
    {
        ensure!(report.contains(part), "no {part:?} in\n{report}");
    }
    world.until_empty().await?;
    ensure!(events(&world, "deferred").is_empty());
    Ok(())
}
