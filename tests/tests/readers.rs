//! Tools that read the logs of Postfix, with ours: fail2ban with the filter that it comes with, and pflogsumm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use staffetta_cli::sink::Scenario;
use staffetta_tests::{Client, Service, World, next};

const MESSAGE: &str = "Subject: hello\r\n\r\nHello Lisa";

fn scenario(text: &str) -> anyhow::Result<Scenario> {
    Scenario::parse(text).map_err(anyhow::Error::msg)
}

/// What a relay has logged that was asked for all that can be counted: 3 messages are accepted; one of them is
/// delivered, one returned, one tried until its life is over; each of these two makes a report that is delivered. A
/// stranger and a wrong password are refused.
async fn log() -> anyhow::Result<(World, PathBuf)> {
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    let world = world.set("log.format", "\"postfix\"").set("log.syslog_name", "\"postfix\"");
    let mut world = world.set("delivery.lifetime", "\"3s\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let gone = "[[rule]]\nstage = \"recipient\"\nreply = \"550 5.1.1 no such user\"\n";
    let _gone = world.mx("example.net", scenario(gone)?).await?;
    let late = "[[rule]]\nstage = \"recipient\"\nreply = \"450 4.2.2 mailbox full\"\n";
    let _late = world.mx("example.edu", scenario(late)?).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    for recipient in ["lisa@example.com", "nobody@example.net", "full@example.edu"] {
        ensure!(client.send("john@example.org", &[recipient], MESSAGE).await?.code == 250);
    }
    ensure!(world.login("john@example.org", "wrong").await.is_err());
    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO client.test", 250).await?;
    let refused = stranger.send("a@example.net", &["b@example.com"], MESSAGE).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("got 554")));
    next(&mut mx).await?;
    for _ in 0..2 {
        next(&mut home).await?;
    }
    world.until_empty().await?;
    // A frontend waits for a transaction that has begun.
    drop((client, stranger));
    for service in [Service::Frontend, Service::Delivery] {
        world.stop(service)?;
    }
    let file = world.folder().join("mail.log");
    fs::write(&file, world.log(Service::Frontend) + &world.log(Service::Delivery))?;
    Ok((world, file))
}

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}; see scripts/setup"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Lines that fail2ban's own filter for Postfix matches in a mode.
fn found(file: &Path, mode: &str) -> anyhow::Result<usize> {
    let mut command = Command::new("fail2ban-regex");
    command.args(["-o", "ip"]).arg(file).arg(format!("postfix[mode={mode}]"));
    Ok(output(command)?.lines().filter(|line| line.starts_with("127.")).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn fail2ban_and_pflogsumm_find_in_our_log_what_they_find_in_that_of_postfix() -> anyhow::Result<()> {
    let (_world, file) = log().await?;
    let text = fs::read_to_string(&file)?;
    for mode in ["auth", "normal"] {
        ensure!(found(&file, mode)? == 1, "{mode}: {} in {text}", found(&file, mode)?);
    }
    // Both, and connections that broke off.
    ensure!(found(&file, "aggressive")? > 2, "{text}");

    let mut command = Command::new("pflogsumm");
    command.arg(&file);
    let summary = output(command)?;
    let total = |name: &str| {
        let line = summary.lines().find_map(|line| {
            let (count, words) = line.trim_start().split_once("   ")?;
            let rest = words.strip_prefix(name)?.trim_start();
            (rest.is_empty() || rest.starts_with('(')).then_some(count)
        });
        line.and_then(|count| count.parse::<u32>().ok())
    };
    for (name, count) in [("received", 3), ("delivered", 3), ("deferred", 1), ("bounced", 1), ("rejected", 1)] {
        ensure!(total(name) == Some(count), "{name} is {:?} and should be {count}: {summary}{text}", total(name));
    }
    // What is delivered has a size only if the line about its sender was found; so for the two reports.
    ensure!(total("bytes delivered") > total("bytes received"), "{summary}{text}");
    let given_up = text.lines().filter(|line| line.contains(", status=expired, returned to sender"));
    ensure!(given_up.count() == 1, "{text}");
    for side in ["TLS connection established from ", "TLS connection established to "] {
        ensure!(text.contains(side), "no {side} in {text}");
    }
    Ok(())
}
