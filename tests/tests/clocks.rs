//! A frontend or a worker whose clock is six days off: mail goes its way as if nothing were wrong.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use staffetta_cli::sink::{Scenario, Stage};
use staffetta_queue::Filter;
use staffetta_tests::{Client, Service, World, next};

const SIX_DAYS: i64 = 6 * 86_400;
const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Greylisted twice: a worker that believes its own clock gives up at the first 450, or warns of a delay, and its report
/// to the sender is as old as its clock says.
async fn mail_goes_its_way(service: Service, seconds: i64) -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.delay_warning", "\"4h\"").skewed(service, seconds)?;
    let mut world = world.start().await?;
    let later = Scenario::default().reply(Stage::Recipient, "451 4.7.1 Greylisted").times(2);
    let mut mx = world.mx("example.com", later).await?;
    let home = world.mx("example.org", Scenario::default()).await?;
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    client.send("john@example.org", &["lisa@example.com"], MESSAGE).await?;
    for entry in world.queue().await?.list(&Filter::default(), None, 10).await?.entries {
        let message = entry.message;
        assert!(now().abs_diff(message.id.unix_millis()) < 60_000, "{}", message.id);
        assert!(now().abs_diff(message.arrived) < 60_000, "{}", message.arrived);
        let lifetime = Duration::from_millis(message.expires - message.arrived);
        assert_eq!(lifetime, Duration::from_secs(5 * 86_400));
    }
    assert_eq!(next(&mut mx).await?.recipients, ["lisa@example.com"]);
    world.until_empty().await?;
    assert_eq!((mx.count(), home.count()), (1, 0), "the sender hears of nothing");
    // The clock was wrong indeed.
    let output =
        Command::new("date").args(["-u", "+%F", "-d"]).arg(format!("@{}", now() as i64 / 1000 + seconds)).output()?;
    let day = String::from_utf8(output.stdout)?;
    assert!(world.log(service).contains(day.trim()), "no {day} in\n{}", world.log(service));
    let metrics = world.metrics(Service::Delivery).await?;
    assert_eq!(metrics.sum("staffetta_deliveries_total", &["outcome=\"deferred\""]), 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_six_days_ahead_or_behind_gives_nothing_up() -> anyhow::Result<()> {
    mail_goes_its_way(Service::Delivery, SIX_DAYS).await?;
    mail_goes_its_way(Service::Delivery, -SIX_DAYS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_six_days_ahead_or_behind_takes_mail_for_its_whole_life() -> anyhow::Result<()> {
    mail_goes_its_way(Service::Frontend, SIX_DAYS).await?;
    mail_goes_its_way(Service::Frontend, -SIX_DAYS).await
}
