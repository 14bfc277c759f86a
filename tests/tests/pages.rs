//! The pages about log and metrics against what running services write.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use staffetta_cli::sink::Scenario;
use staffetta_tests::{Client, Service, World, next};

const MESSAGE: &str = "Subject: hello\r\n\r\nHello Lisa";
const SERVICES: [Service; 3] = [Service::Auth, Service::Frontend, Service::Delivery];

fn page(name: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("../docs/{name}")).with_context(|| format!("failed to read {name}"))
}

/// A relay that has delivered a message, returned another, refused a third and a login.
async fn busy() -> anyhow::Result<World> {
    let mut world = World::new().await?.user("john@example.org", "summersun").await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let refusal = "[[rule]]\nstage = \"recipient\"\nreply = \"550 5.1.1 no such user\"\n";
    let _refusing = world.mx("example.net", Scenario::parse(refusal).map_err(anyhow::Error::msg)?).await?;
    let _home = world.mx("example.org", Scenario::default()).await?;
    let mut client = world.login("john@example.org", "summersun").await?;
    for recipient in ["lisa@example.com", "nobody@example.net"] {
        ensure!(client.send("john@example.org", &[recipient], MESSAGE).await?.code == 250);
    }
    let forged = client.send("forged@example.org", &["lisa@example.com"], MESSAGE).await;
    ensure!(forged.is_err_and(|error| error.to_string().contains("got 553")));
    ensure!(world.login("john@example.org", "wrong").await.is_err());
    next(&mut mx).await?;
    world.until_empty().await?;
    Ok(world)
}

/// Names of the labels of a series.
fn labels(series: &str) -> BTreeSet<&str> {
    let Some((_, rest)) = series.split_once('{') else { return BTreeSet::new() };
    rest.split("\"").step_by(2).filter_map(|part| part.trim_start_matches(',').strip_suffix('=')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_and_every_record_of_a_running_relay_is_in_its_page() -> anyhow::Result<()> {
    let world = busy().await?;
    let page_of_metrics = page("metrics.md")?;
    for service in SERVICES {
        let text = world.metrics(service).await?.0;
        let mut row = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, about) = rest.split_once(' ').context("no help")?;
                row = page_of_metrics.lines().find(|row| row.starts_with(&format!("| `{name}` |"))).unwrap_or_default();
                ensure!(row.ends_with(&format!(" | {about} |")), "{service:?}: {line} is not in the page: {row}");
            } else if !line.starts_with('#') {
                for label in labels(line).into_iter().filter(|label| *label != "le") {
                    ensure!(
                        row.contains(&format!("`{label}`")),
                        "{service:?}: the label {label} of {line} is not in {row}"
                    );
                }
            }
        }
    }
    records(&world)
}

fn records(world: &World) -> anyhow::Result<()> {
    let page_of_log = page("log.md")?;
    let mut seen = BTreeSet::new();
    for service in SERVICES {
        for line in world.log(service).lines() {
            let record: Map<String, Value> = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let event = record.get("event").and_then(Value::as_str).with_context(|| line.to_owned())?;
            let named = record.get("service").and_then(Value::as_str);
            ensure!(named.is_some_and(|name| format!("{service:?}").to_lowercase() == name), "{line}");
            for key in ["time", "level", "pod"] {
                ensure!(record.contains_key(key), "no {key} in {line}");
            }
            seen.insert(event.to_owned());
            if event == "diagnostic" {
                ensure!(record.contains_key("message") && record.contains_key("target"), "{line}");
                continue;
            }
            let (_, section) =
                page_of_log.split_once(&format!("\n### `{event}`\n")).with_context(|| line.to_owned())?;
            let section = section.split("\n### ").next().unwrap_or_default();
            for key in record.keys().filter(|key| !["time", "level", "event", "pod", "service"].contains(&key.as_str()))
            {
                ensure!(section.contains(&format!("`{key}`")), "{key} of {line} is not in the page");
            }
        }
    }
    for event in
        ["diagnostic", "accepted", "rejected", "login", "login_failed", "delivered", "bounced", "reported", "removed"]
    {
        ensure!(seen.contains(event), "no {event} among {seen:?}");
    }
    Ok(())
}

#[test]
fn the_schemes_of_passwords_in_the_reference_are_those_that_are_taken() -> anyhow::Result<()> {
    let page = page("configuration.md")?;
    let (_, section) = page.split_once("### `auth.sql.password_query`").context("no section")?;
    let section = section.split("\n### ").next().unwrap_or_default();
    let told: BTreeSet<&str> =
        section.split('`').filter_map(|word| word.strip_prefix('{')?.strip_suffix('}')).collect();
    let taken: BTreeSet<&str> = staffetta_auth::scheme::names().chain(["PLAIN"]).collect();
    ensure!(told == taken, "told: {told:?}, taken: {taken:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_a_submission_port_offers() -> anyhow::Result<()> {
    let world = World::new().await?.start().await?;
    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    let offered = client.expect("EHLO example.com", 250).await?;
    let readme = fs::read_to_string("../README.md")?;
    let (_, shown) = readme.split_once("\nC: EHLO example.com\n").context("no EHLO")?;
    let shown: Vec<&str> = shown.lines().map_while(|line| line.strip_prefix("S: 250")?.get(1..)).skip(1).collect();
    let offered: Vec<&str> = offered.lines.iter().skip(1).map(String::as_str).collect();
    ensure!(shown == offered, "shown: {shown:?}, offered: {offered:?}");
    Ok(())
}
