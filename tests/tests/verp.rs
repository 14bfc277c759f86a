//! What comes back later: bounces of other systems and complaints, by the address that each recipient's mail leaves with.

use anyhow::ensure;
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Sink};
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, Peer, Postfix, SOON, Service, World, eventually, next};

const MESSAGE: &str = "From: News <news@example.org>\r\nSubject: news\r\n\r\nHello";
const VERP: &str = "[[verp]]\nsender = \"news@example.org\"\nkey = \"a key that nobody knows\"\nsuppress = true\n";

/// A world for mail of news@example.org and for what comes back to him, and where that ends.
async fn world(more: &str) -> anyhow::Result<(World, Sink)> {
    let world = World::new().await?.set("delivery.suppress_after", "\"2/1d\"").tables(VERP).tables(more);
    let mut world = world.set("frontend.relay_domains", "[\"example.org\"]").start().await?;
    let home = world.mx("example.org", Scenario::default()).await?;
    Ok((world, home))
}

/// Trusted, and so no stranger.
async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

/// What a service has logged of such events: these fields of its records.
fn told<const N: usize>(world: &World, service: Service, event: &str, fields: [&str; N]) -> Vec<[String; N]> {
    let log = world.log(service);
    let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.filter(|record| record["event"] == event).map(|record| fields.map(|field| text(&record[field]))).collect()
}

fn bounces(world: &World) -> Vec<[String; 4]> {
    told(world, Service::Frontend, "remote_bounce", ["to", "from", "proof", "class"])
}

/// Postfix takes mail for everybody and finds out later that nobody is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_postfix_sends_later_counts_for_the_recipient_it_is_about() -> anyhow::Result<()> {
    let port = Port::reserve()?;
    let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n", port.number());
    let (world, mut home) = world(&route).await?;
    let rules = format!(
        "myhostname = mx.example.com\nmydestination = example.com\nlocal_recipient_maps =\n\
         smtpd_end_of_data_restrictions =\nrelayhost = [127.0.0.1]:{}\n",
        world.smtp().port()
    );
    let postfix = Postfix::start(&[(&port, String::new())], &world.certificate("mx.example.com")?, &rules)?;
    for round in 1..=2 {
        let listed = world.staffetta(&["suppress", "list"])?;
        ensure!(listed.contains("No recipient is suppressed."), "round {round}: {listed}");
        client(&world).await?.send("news@example.org", &["gone@example.com"], MESSAGE).await?;
        let report = next(&mut home).await?;
        ensure!(report.sender.is_empty() && report.recipients == ["news@example.org"], "{report}\n{}", postfix.log());
    }
    eventually(SOON, async || {
        let listed = world.staffetta(&["suppress", "list", "--json"])?;
        ensure!(listed.lines().count() == 1 && listed.contains("gone@example.com"), "{listed}{:?}", bounces(&world));
        ensure!(listed.contains("hard bounces: 550 5.1.1 unknown user"), "{listed}");
        Ok(())
    })
    .await?;
    let expected = ["gone@example.com", "news@example.org", "verp", "bad-mailbox"].map(str::to_owned);
    eventually(SOON, async || {
        ensure!(bounces(&world) == [expected.clone(), expected.clone()], "{:?}", bounces(&world));
        ensure!(world.log(Service::Frontend).contains("\"by\":\"delivery.suppress_after\""));
        Ok(())
    })
    .await?;
    let left = told(&world, Service::Delivery, "delivered", ["to", "from", "mail_from"]);
    let left: Vec<_> = left.iter().filter(|[to, ..]| to == "gone@example.com").collect();
    let is_his = |own: &str| own.starts_with("news+") && own.ends_with("-gone=example.com@example.org");
    ensure!(left.len() == 2 && left.iter().all(|[_, from, own]| from == "news@example.org" && is_his(own)), "{left:?}");
    let log = world.folder().join("staffetta-delivery.log").display().to_string();
    let journey = world.staffetta(&["trace", &left[0][2], "--log", &log])?;
    ensure!(journey.contains("gone@example.com") && journey.contains("left the queue"), "{journey}");
    let metrics = world.metrics(Service::Frontend).await?;
    ensure!(metrics.sum("staffetta_remote_bounces_total", &["class=\"bad-mailbox\"", "proof=\"verp\""]) == 2.0);
    ensure!(metrics.sum("staffetta_report_suppressions_total", &[]) == 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_to_an_address_that_is_made_up_is_logged_and_not_believed() -> anyhow::Result<()> {
    let (world, mut home) = world("").await?;
    let report = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
                  Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n\
                  Final-Recipient: rfc822; lisa@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--";
    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO stranger.test", 250).await?;
    for address in ["news+aaaaaaaaaa-lisa=example.com@example.org", "news@example.org"] {
        for _ in 0..2 {
            stranger.send("", &[address], report).await?;
            ensure!(next(&mut home).await?.recipients == [address]);
        }
    }
    eventually(SOON, async || {
        let all = bounces(&world);
        ensure!(all.len() == 4 && all.iter().all(|it| it[0] == "lisa@example.com" && it[2] == "none"), "{all:?}");
        Ok(())
    })
    .await?;
    ensure!(world.staffetta(&["suppress", "list"])?.contains("No recipient is suppressed."));
    Ok(())
}

/// What a provider sends: who complains is not in it, but for the sender of his mail.
fn complaint(sender: &str) -> String {
    format!(
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nabuse\r\n--b\r\n\
         Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: Provider/1.0\r\nVersion: 1\r\n\
         Original-Mail-From: <{sender}>\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <1@example.org>\r\n\
         \r\nnews\r\n--b--"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn who_complains_is_known_by_the_address_that_the_mail_left_from() -> anyhow::Result<()> {
    let world = World::new().await?.tables(VERP).set("delivery.suppress_complaints", "true");
    let world = world.set("frontend.complaints", "[\"fbl@example.org\"]");
    let mut world = world.set("frontend.relay_domains", "[\"example.org\"]").start().await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    client(&world).await?.send("news@example.org", &["lisa@example.com"], MESSAGE).await?;
    let sender = next(&mut mx).await?.sender;
    let forged = sender.replace("lisa", "john");
    let mut provider = Client::connect(world.smtp()).await?;
    provider.expect("EHLO provider.test", 250).await?;
    for (to, sender) in [("fbl@example.org", &forged), ("other@example.org", &sender), ("FBL@example.org", &sender)] {
        let listed = world.staffetta(&["suppress", "list"])?;
        ensure!(listed.contains("No recipient is suppressed."), "{to}: {listed}");
        provider.send("feedback@provider.test", &[to], &complaint(sender)).await?;
        ensure!(next(&mut home).await?.recipients == [to], "it goes on as ever");
    }
    eventually(SOON, async || {
        let fields = ["to", "from", "proof", "feedback", "user_agent", "message_id"];
        let all = told(&world, Service::Frontend, "complaint", fields);
        let rest = ["abuse", "Provider/1.0", "1@example.org"];
        let made_up = ["", &*forged, "none"];
        let known = ["lisa@example.com", "news@example.org", "verp"];
        ensure!(all.len() == 2 && all.iter().all(|it| it[3..] == rest), "{all:?}");
        ensure!(all[0][..3] == made_up && all[1][..3] == known, "{all:?}");
        let listed = world.staffetta(&["suppress", "list", "--json"])?;
        ensure!(listed.lines().count() == 1 && listed.contains("lisa@example.com"), "{listed}");
        ensure!(listed.contains("complaint: abuse Provider/1.0"), "{listed}");
        ensure!(world.log(Service::Frontend).contains("\"by\":\"delivery.suppress_complaints\""));
        Ok(())
    })
    .await?;
    let metrics = world.metrics(Service::Frontend).await?;
    ensure!(metrics.sum("staffetta_complaints_total", &["type=\"abuse\"", "proof=\"verp\""]) == 1.0);
    ensure!(metrics.sum("staffetta_complaints_total", &["type=\"abuse\"", "proof=\"none\""]) == 1.0);
    ensure!(metrics.sum("staffetta_report_suppressions_total", &[]) == 1.0);
    Ok(())
}
