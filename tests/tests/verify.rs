//! Recipients of relay domains are checked where their mail goes, before it is taken.

use std::time::{Duration, Instant};

use staffetta_cli::sink::{Action, Scenario, Stage};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};

const MESSAGE: &str = "From: x <x@y.test>\r\nSubject: buy\r\n\r\nbuy";

/// Relays for `backup.test`, which has an MX like that. Strangers come from 127.0.0.1.
async fn world(mx: Scenario) -> anyhow::Result<(World, staffetta_cli::sink::Sink)> {
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    let mut world = world.set("frontend.relay_domains", "[\"backup.test\"]").start().await?;
    let mx = world.mx("backup.test", mx).await?;
    Ok((world, mx))
}

fn no_nobody() -> Scenario {
    Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here").only("nobody@")
}

async fn stranger(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect(world.smtp()).await?;
    client.expect("EHLO stranger.test", 250).await?;
    Ok(client)
}

async fn count(world: &World, family: &str, label: &str) -> anyhow::Result<f64> {
    Ok(world.metrics(Service::Frontend).await?.sum(family, &[label]))
}

const PROBES: &str = "staffetta_recipient_probes_total";
const VERIFICATIONS: &str = "staffetta_recipient_verifications_total";

#[tokio::test(flavor = "multi_thread")]
async fn whom_his_own_server_refuses_is_refused_with_its_words_and_no_forged_sender_hears_of_it() -> anyhow::Result<()>
{
    let (mut world, mut mx) = world(no_nobody()).await?;
    let victim = world.mx("victim.test", Scenario::default()).await?;
    for _ in 0..2 {
        let mut client = stranger(&world).await?;
        client.expect("MAIL FROM:<victim@victim.test> RET=FULL", 250).await?;
        let refused = client.command("RCPT TO:<nobody@backup.test>").await?.text();
        assert_eq!(
            refused,
            "550 5.1.1 <nobody@backup.test>: Recipient address rejected: undeliverable address: host \
             mx1.backup.test[127.0.1.1] said: 550 5.1.1 No such user here (in reply to RCPT TO command)"
        );
        client.expect("DATA", 554).await?;
        client.expect("RSET", 250).await?;
        assert_eq!(client.send("victim@victim.test", &["lisa@backup.test"], MESSAGE).await?.code, 250);
        assert_eq!(next(&mut mx).await?.recipients, ["lisa@backup.test"]);
    }
    world.until_empty().await?;
    assert_eq!((mx.count(), victim.count()), (2, 0));
    assert_eq!(count(&world, PROBES, "result=\"deliverable\"").await?, 1.0);
    assert_eq!(count(&world, PROBES, "result=\"undeliverable\"").await?, 1.0);
    assert_eq!(count(&world, VERIFICATIONS, "source=\"cache\"").await?, 2.0);
    let rejections = "staffetta_smtp_rejections_total";
    assert_eq!(count(&world, rejections, "reason=\"undeliverable\"").await?, 2.0);
    let world = &world;
    eventually(SOON, || async move {
        let log = world.log(Service::Frontend);
        anyhow::ensure!(log.contains("No such user here (in reply to RCPT TO command)"), "{log}");
        Ok(())
    })
    .await
}

/// A mailbox that goes makes one report, and not one for each message until its yes is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_delivery_learns_of_a_recipient_strangers_are_told_at_rcpt() -> anyhow::Result<()> {
    let goes = Scenario::default().reply(Stage::Recipient, "250 2.1.5 Ok").only("gone@").times(1);
    let (mut world, _mx) = world(goes.reply(Stage::Recipient, "550 5.1.1 Gone").only("gone@")).await?;
    let mut victim = world.mx("victim.test", Scenario::default()).await?;
    let mut client = stranger(&world).await?;
    assert_eq!(client.send("victim@victim.test", &["gone@backup.test"], MESSAGE).await?.code, 250);
    assert_eq!(next(&mut victim).await?.recipients, ["victim@victim.test"]);
    client.expect("MAIL FROM:<victim@victim.test>", 250).await?;
    let refused = client.command("RCPT TO:<gone@backup.test>").await?.text();
    assert!(refused.starts_with("550 5.1.1 <gone@backup.test>: ") && refused.contains("550 5.1.1 Gone"), "{refused}");
    world.until_empty().await?;
    assert_eq!(victim.count(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logged_in_or_is_trusted_makes_no_question() -> anyhow::Result<()> {
    let (world, _mx) = world(no_nobody()).await?;
    let mut trusted = Client::connect_from("127.0.0.9", world.smtp()).await?;
    trusted.expect("EHLO x", 250).await?;
    let mut john = world.login("john@example.org", "summersun").await?;
    for client in [&mut trusted, &mut john] {
        client.expect("MAIL FROM:<john@example.org>", 250).await?;
        client.expect("RCPT TO:<nobody@backup.test>", 250).await?;
    }
    let mut stranger = stranger(&world).await?;
    stranger.expect("MAIL FROM:<x@y.test>", 250).await?;
    stranger.expect("RCPT TO:<nobody@elsewhere.test>", 554).await?;
    assert_eq!(count(&world, VERIFICATIONS, "source").await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_puts_off_or_says_nothing_stops_no_mail() -> anyhow::Result<()> {
    let later = Scenario::default().reply(Stage::Recipient, "451 4.7.1 Greylisted").only("later@").times(1);
    let (world, mut mx) = world(later).await?;
    let mut client = stranger(&world).await?;
    assert_eq!(client.send("x@y.test", &["later@backup.test"], MESSAGE).await?.code, 250);
    assert_eq!(next(&mut mx).await?.recipients, ["later@backup.test"]);
    assert_eq!(count(&world, PROBES, "result=\"unknown\"").await?, 1.0);

    drop(mx);
    let silent = Scenario::default().act(Stage::Connect, Action::Stall).times(1);
    let mut world = World::new().await?.set("frontend.relay_domains", "[\"silent.test\"]").start().await?;
    let mut mx = world.mx("silent.test", silent).await?;
    let mut client = stranger(&world).await?;
    let began = Instant::now();
    assert_eq!(client.send("x@y.test", &["a@silent.test"], MESSAGE).await?.code, 250);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let began = Instant::now();
    client.expect("MAIL FROM:<x@y.test>", 250).await?;
    client.expect("RCPT TO:<b@silent.test>", 250).await?;
    assert!(began.elapsed() < Duration::from_secs(2), "the next one waits for nothing: {:?}", began.elapsed());
    assert_eq!(next(&mut mx).await?.recipients, ["a@silent.test"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_check_mail_is_taken_unseen() -> anyhow::Result<()> {
    let world = World::new().await?.set("frontend.relay_domains", "[\"backup.test\"]");
    let mut world = world.set("frontend.verify_recipients", "false").start().await?;
    let _mx = world.mx("backup.test", no_nobody()).await?;
    let mut client = stranger(&world).await?;
    client.expect("MAIL FROM:<>", 250).await?;
    client.expect("RCPT TO:<nobody@backup.test>", 250).await?;
    assert_eq!(count(&world, VERIFICATIONS, "source").await?, 0.0);
    assert!(world.log(Service::Frontend).contains("verify_recipients is false"), "{}", world.log(Service::Frontend));
    Ok(())
}
