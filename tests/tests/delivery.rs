//! What the workers do when the other side is not as one would wish.

use serde_json::Value;
use staffetta_cli::sink::{Action, Scenario, Stage, StartTls};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

/// A relay that trusts 127.0.0.9, from which `client` speaks.
async fn world() -> anyhow::Result<World> {
    World::new().await?.start().await
}

async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_message_is_tried_again_and_delivered() -> anyhow::Result<()> {
    let mut world = world().await?;
    let later = Scenario::default().reply(Stage::Recipient, "451 4.7.1 Greylisted").times(2);
    let mut mx = world.mx("example.com", later).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    assert_eq!(next(&mut mx).await?.recipients, ["lisa@example.com"]);
    world.until_empty().await?;
    assert_eq!(mx.count(), 1);
    let metrics = world.metrics(Service::Delivery).await?;
    assert_eq!(metrics.sum("staffetta_deliveries_total", &["outcome=\"deferred\""]), 2.0);
    assert!(world.log(Service::Delivery).contains("Greylisted"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_reported_and_the_other_delivered() -> anyhow::Result<()> {
    let mut world = world().await?;
    let full = Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here").only("nobody@");
    let mut mx = world.mx("example.com", full).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    let recipients = ["lisa@example.com", "nobody@example.com"];
    client(&world).await?.send("john@example.org", &recipients, MESSAGE).await?;
    assert_eq!(next(&mut mx).await?.recipients, ["lisa@example.com"]);
    let bounce = next(&mut home).await?;
    assert_eq!((bounce.sender.as_str(), bounce.recipients.as_slice()), ("", &["john@example.org".to_owned()][..]));
    let text = String::from_utf8(bounce.body.to_vec())?;
    for part in [
        "Content-Type: multipart/report; report-type=delivery-status",
        "Auto-Submitted: auto-replied",
        "Final-Recipient: rfc822; nobody@example.com",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 No such user here",
        "Subject: hello",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("lisa@example.com"), "{text}");
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_of_reports_and_of_the_end_of_each_message() -> anyhow::Result<()> {
    let mut world = world().await?;
    let full = Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here");
    let _refuses = world.mx("example.com", full).await?;
    let _takes = world.mx("example.net", Scenario::default()).await?;
    let _home = world.mx("example.org", Scenario::default()).await?;
    let recipients = ["nobody@example.com", "lisa@example.net"];
    let accepted = client(&world).await?.send("john@example.org", &recipients, MESSAGE).await?.text();
    let qid = accepted.rsplit(' ').next().unwrap_or_default();
    let world = &world;
    eventually(SOON, || async move {
        let log = world.log(Service::Delivery);
        let events = |event: &str| -> Vec<Value> {
            let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.filter(|line| line["event"] == event).collect()
        };
        let reported = events("reported");
        anyhow::ensure!(reported.len() == 1, "{log}");
        assert_eq!((&reported[0]["qid"], &reported[0]["kind"]), (&qid.into(), &"failure".into()));
        let removed: Vec<_> = events("removed").into_iter().map(|event| event["qid"].clone()).collect();
        anyhow::ensure!(removed.len() == 2, "{log}");
        assert!(removed.contains(&qid.into()), "once, although it had two destinations");
        assert!(removed.contains(&reported[0]["report_qid"]), "{removed:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_never_and_the_null_sender_bring_no_report() -> anyhow::Result<()> {
    let mut world = world().await?;
    let refuse = Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here");
    let _mx = world.mx("example.com", refuse).await?;
    let home = world.mx("example.org", Scenario::default()).await?;
    let mut client = client(&world).await?;
    client.send("", &["nobody@example.com"], MESSAGE).await?;
    client.expect("MAIL FROM:<john@example.org>", 250).await?;
    client.expect("RCPT TO:<nobody@example.com> NOTIFY=NEVER", 250).await?;
    client.expect("DATA", 354).await?;
    client.expect(&format!("{MESSAGE}\r\n."), 250).await?;
    world.until_empty().await?;
    assert_eq!(home.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_mx_takes_what_the_first_cannot() -> anyhow::Result<()> {
    let mut world = world().await?;
    let closed = Scenario::default().reply(Stage::Connect, "421 4.3.2 Closed");
    let first = world.mx("example.com", closed).await?;
    let mut second = world.mx("example.com", Scenario::default()).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    assert_eq!(next(&mut second).await?.recipients, ["lisa@example.com"]);
    assert_eq!(first.count(), 0);
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_handshake_falls_back_to_plaintext_only_where_tls_is_optional() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut mx = world.mx("example.com", Scenario::default().starttls(StartTls::Broken)).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    assert!(!next(&mut mx).await?.encrypted);
    world.until_empty().await?;

    let strict = World::new().await?.set("delivery.tls", "\"encrypt\"").set("delivery.lifetime", "\"1s\"");
    let mut world = strict.start().await?;
    let mx = world.mx("example.com", Scenario::default().starttls(StartTls::Absent)).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    let report = String::from_utf8(next(&mut home).await?.body.to_vec())?;
    assert!(report.contains("TLS is required"), "{report}");
    assert_eq!(mx.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_final_dot_is_tried_again() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut mx = world.mx("example.com", Scenario::default().act(Stage::End, Action::Drop).times(1)).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    next(&mut mx).await?;
    world.until_empty().await?;
    assert!(world.log(Service::Delivery).contains("lost connection"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expires_is_reported() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("delivery.lifetime", "\"2s\"").start().await?;
    let _mx = world.mx("example.com", Scenario::default().reply(Stage::Mail, "451 4.3.0 Not now")).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    let report = String::from_utf8(next(&mut home).await?.body.to_vec())?;
    assert!(report.contains("Action: failed") && report.contains("451 4.3.0 Not now"), "{report}");
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_destination_share_connections() -> anyhow::Result<()> {
    let mut world = world().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = client(&world).await?;
    for n in 0..50 {
        let accepted = client.send("john@example.org", &[&format!("user{n}@example.com")], MESSAGE).await?;
        assert_eq!(accepted.code, 250);
    }
    for _ in 0..50 {
        next(&mut mx).await?;
    }
    world.until_empty().await?;
    assert!(mx.connections() <= 20, "{} connections", mx.connections());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_sends_a_domain_to_its_next_hop() -> anyhow::Result<()> {
    let port = staffetta_testkit::ports::Port::reserve()?;
    let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n", port.number());
    let world = World::new().await?.tables(&route).start().await?;
    let mut hop = staffetta_cli::sink::Sink::start(port.address(), staffetta_cli::sink::Settings::default()).await?;
    client(&world).await?.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    assert_eq!(next(&mut hop).await?.recipients, ["lisa@example.com"]);
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_of_which_delivery_policies_were_waived() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = client(&world).await?;
    // Over a connection that was opened for it: on one of others nothing is waived.
    client.send("john@example.org", &["waived@example.com"], &format!("TLS-Required: No\r\n{MESSAGE}")).await?;
    next(&mut mx).await?;
    client.send("john@example.org", &["usual@example.com"], MESSAGE).await?;
    next(&mut mx).await?;
    world.until_empty().await?;
    let log = world.log(Service::Delivery);
    for (recipient, is_waived) in [("usual@example.com", false), ("waived@example.com", true)] {
        let line = log.lines().find(|line| line.contains("\"delivered\"") && line.contains(recipient));
        let line = line.unwrap_or_default();
        anyhow::ensure!(!line.is_empty() && line.contains("\"tls_waived\":\"dane mta-sts\"") == is_waived, "{log}");
    }
    Ok(())
}

/// The tool has no log that anybody keeps: a worker writes what operators did.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_takes_out_of_the_queue_is_in_the_mail_log_of_a_worker() -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.retry_min", "\"1h\"").set("delivery.retry_max", "\"2h\"");
    let mut world = world.start().await?;
    let _mx = world.mx("example.com", Scenario::default().reply(Stage::Recipient, "450 4.2.0 later")).await?;
    let recipients = ["lisa@example.com", "lea@example.com"];
    client(&world).await?.send("john@example.org", &recipients, MESSAGE).await?;
    let queue = world.queue().await?;
    eventually(SOON, || async {
        let counts = queue.counts().await?;
        anyhow::ensure!((counts.scheduled, counts.leased) == (1, 0), "{counts:?}");
        Ok(())
    })
    .await?;
    let entries = queue.list(&staffetta_queue::Filter::default(), None, 1).await?.entries;
    let id = entries[0].message.id.to_string();
    let mut delete = std::process::Command::new(staffetta_tests::program("staffetta")?);
    let deleted = delete.args(["queue", "delete", &id, "--config"]).arg(world.config_file()).output()?;
    anyhow::ensure!(deleted.status.success(), "{deleted:?}");
    eventually(SOON, || async {
        let log = world.log(Service::Delivery);
        let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_id: Vec<Value> = records.filter(|record| record["qid"] == id.as_str()).collect();
        let named = |event: &str| of_id.iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
        for to in recipients {
            let lines = named("administered");
            let line = lines.iter().find(|record| record["to"] == to);
            anyhow::ensure!(line.is_some_and(|record| record["action"] == "deleted"), "{to}: {log}");
        }
        anyhow::ensure!(named("administered").len() == 2 && named("removed").len() == 1, "{log}");
        Ok(())
    })
    .await
}
