//! The way of a message from a mail client to the MX, through all three services.

use staffetta_cli::sink::Scenario;
use staffetta_tests::{Client, SOON, Service, World, eventually, next, program};

const MESSAGE: &str =
    "From: John <john@example.org>\r\nTo: lisa@example.com\r\nSubject: hello\r\n\r\nHello Lisa\r\n.. dots";

async fn world() -> anyhow::Result<World> {
    World::new().await?.user("john@example.org", "summersun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_relayed_to_the_mx_over_tls() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    let stuffed = MESSAGE.replace("\r\n..", "\r\n...");
    let accepted = client.send("john@example.org", &["lisa@example.com"], &stuffed).await?;
    assert_eq!(accepted.code, 250);
    let id = accepted.text().strip_prefix("250 2.0.0 Ok: queued as ").map(str::to_owned);
    let id = id.ok_or_else(|| anyhow::anyhow!("unexpected: {}", accepted.text()))?;

    let received = next(&mut mx).await?;
    assert!(received.encrypted);
    assert_eq!(
        (received.sender.as_str(), received.recipients.as_slice()),
        ("john@example.org", &["lisa@example.com".to_owned()][..])
    );
    let text = String::from_utf8(received.body.to_vec())?;
    assert!(text.starts_with("Received: from client.test"), "{text}");
    assert!(text.contains(&id) && text.contains("ESMTPSA"), "{text}");
    assert!(text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: <"), "{text}");
    assert!(text.ends_with("\r\n\r\nHello Lisa\r\n.. dots\r\n"), "{text}");

    world.until_empty().await?;
    let frontend = world.metrics(Service::Frontend).await?;
    assert_eq!(frontend.sum("staffetta_messages_accepted_total", &["listener=\"submission\""]), 1.0);
    assert_eq!(frontend.sum("staffetta_smtp_auth_total", &["result=\"success\""]), 1.0);
    for (command, class, n) in [("RCPT", 2, 1.0), ("DATA", 3, 1.0), ("END-OF-MESSAGE", 2, 1.0), ("RCPT", 5, 0.0)] {
        let labels = [format!("command=\"{command}\""), format!("code_class=\"{class}\"")];
        let count = frontend.sum("staffetta_smtp_commands_total", &labels.each_ref().map(String::as_str));
        assert_eq!(count, n, "{command} {class}");
    }
    let delivery = world.metrics(Service::Delivery).await?;
    assert_eq!(delivery.sum("staffetta_deliveries_total", &["outcome=\"delivered\""]), 1.0);
    assert!(world.log(Service::Delivery).contains(&id));
    let log = world.log(Service::Frontend);
    let accepted = log.lines().find(|line| line.contains("\"event\":\"accepted\"") && line.contains(&id));
    assert!(accepted.is_some_and(|line| line.contains("\"sasl_username\":\"john@example.org\"")), "{log}");
    Ok(())
}

/// From the logs of all services, and from the queue for what waits still.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_become_of_a_message_is_told_word_by_word() -> anyhow::Result<()> {
    let mut world = world().await?.set("delivery.source_addresses", "[\"127.0.0.1\"]");
    let (com, org) = (world.hand("example.com").await?, world.hand("example.org").await?);
    let world = world.start().await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    let content = format!("Message-ID: <42@home.test>\r\n{MESSAGE}");
    let accepted = client.send("john@example.org", &["lisa@example.com"], &content).await?;
    let id = accepted.text().rsplit(' ').next().unwrap_or_default().to_owned();
    let mut visit = com.accept().await?;
    visit.until_data().await?;
    visit.say("354 go on").await?;
    visit.content().await?;
    visit.say("554 5.7.1 we do not want this").await?;
    let mut visit = org.accept().await?;
    visit.until_data().await?;
    visit.say("354 go on").await?;
    visit.content().await?;
    visit.say("451 4.3.0 later").await?;
    let queue = &world.queue().await?;
    eventually(SOON, || async {
        let counts = queue.counts().await?;
        anyhow::ensure!(counts.scheduled == 1, "{counts:?}");
        Ok(())
    })
    .await?;

    let trace = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let mut command = std::process::Command::new(program("staffetta")?);
        command.arg("trace").args(arguments).arg("--config").arg(world.config_file());
        let output = command.output()?;
        Ok((output.status.success(), String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?))
    };
    let logs = ["staffetta-frontend.log", "staffetta-delivery.log"].map(|name| world.folder().join(name));
    let logs = logs.map(|path| path.display().to_string());
    let logs = ["--log", &logs[1], "--log", &logs[0]];
    for what in [&*id, "<42@home.test>", "lisa@EXAMPLE.com"] {
        let (found, text) = trace(&[&[what][..], &logs].concat())?;
        let told = [
            "accepted from <john@example.org>",
            "554 5.7.1 we do not want this",
            "its sender is told",
            "left the queue",
        ];
        let places: Vec<_> = told.iter().map(|words| text.find(words)).collect();
        assert!(found && places.iter().all(Option::is_some) && places.is_sorted(), "{what}: {places:?} {text}");
        assert!(text.contains("] from 127.0.0.1: ") && text.contains("(policy-related)"), "{what}: {text}");
        assert!(text.contains("not in the queue") && text.contains("451 4.3.0 later"), "{what}: {text}");
        assert!(text.contains("in the queue:") && text.contains("waiting until"), "its report waits: {text}");
    }
    let (found, text) = trace(&["john@example.org", "--json"])?;
    let waits: serde_json::Value = serde_json::from_str(&text)?;
    assert!(found && waits["jobs"][0]["state"] == "waiting", "without a log: {text}");
    let (found, text) = trace(&["nobody@example.com"])?;
    assert!(!found && text.contains("nothing of it is in the queue; what has left it is in the mail log"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_implicit_tls() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = Client::connect_tls(world.submissions()).await?;
    assert_eq!(client.auth("john@example.org", "summersun").await?.code, 235);
    assert_eq!(client.send("john@example.org", &["lisa@example.com"], MESSAGE).await?.code, 250);
    assert_eq!(next(&mut mx).await?.recipients, ["lisa@example.com"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_reaches_all_its_destinations_once() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut com = world.mx("example.com", Scenario::default()).await?;
    let mut net = world.mx("example.net", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    let recipients = ["a@example.com", "b@example.net", "c@example.com"];
    assert_eq!(client.send("john@example.org", &recipients, MESSAGE).await?.code, 250);
    assert_eq!(next(&mut com).await?.recipients, ["a@example.com", "c@example.com"]);
    assert_eq!(next(&mut net).await?.recipients, ["b@example.net"]);
    world.until_empty().await?;
    assert_eq!((com.count(), net.count()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_arrives_octet_for_octet() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    let mut body = String::from(
        "From: john@example.org\r\nSubject: large\r\nDate: Tue, 24 Nov 2026 04:17:27 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n",
    );
    for line in 0..60_000 {
        body.push_str(&format!("{line:060}\r\n"));
    }
    assert_eq!(client.send("john@example.org", &["lisa@example.com"], body.trim_end()).await?.code, 250);
    let received = String::from_utf8(next(&mut mx).await?.body.to_vec())?;
    assert!(received.ends_with(&body), "{} octets came, {} went", received.len(), body.len());
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_and_promtool_is_content() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    client.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    next(&mut mx).await?;
    for service in [Service::Auth, Service::Frontend, Service::Delivery] {
        let address = world.http(service);
        assert_eq!(staffetta_tests::get(address, "/livez").await?.0, 200);
        let metrics = world.metrics(service).await?.0;
        let file = world.folder().join("metrics.txt");
        std::fs::write(&file, &metrics)?;
        let check = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::fs::File::open(&file)?)
            .output()?;
        let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success() && said.trim().is_empty(), "{service:?}: {said}");
    }
    Ok(())
}
