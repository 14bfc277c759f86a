//! The pages about log and metrics, and the README, against what running services write.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use staffetta_cli::sink::{self, Scenario, Sink};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};

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

/// The blocks of README.md under this heading.
fn blocks_of_readme(heading: &str) -> anyhow::Result<Vec<String>> {
    let readme = fs::read_to_string("../README.md")?;
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).context("no such heading")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    Ok(section.split("```").skip(1).step_by(2).map(str::to_owned).collect())
}

/// A line of a dialog or a log without what is another each time: dates, times, process ids, queue ids, sizes with a date in it.
fn lasting(line: &str, id: &str) -> String {
    let line = line.find("staffetta/").map_or(line, |begin| &line[begin..]).replace(id, "ID");
    let (program, rest) = line.split_once("]: ").unwrap_or(("", &line));
    let program = program.split('[').next().unwrap_or_default();
    let fields = rest.split(", ").map(|field| {
        let figure = ["size=", "delay=", "delays="].into_iter().find(|key| field.starts_with(key));
        figure.unwrap_or(field)
    });
    let rest = fields.collect::<Vec<_>>().join(", ");
    // What the test server says.
    let taken = rest.rsplit_once(" queued as ").and_then(|(before, _)| before.rsplit_once(" Ok: "));
    match taken {
        Some((before, size)) => format!("{program}: {before} Ok: {}", size.trim_start_matches(char::is_numeric)),
        None => format!("{program}: {rest}"),
    }
}

/// Says what the client says in the README and compares what it hears; the queue id of the message, there and here.
async fn play(dialog: &str, client: &mut Client) -> anyhow::Result<[String; 2]> {
    let mut lines = dialog.lines().filter(|line| line.starts_with("C:") || line.starts_with("S: ")).peekable();
    let mut ids = None;
    while lines.peek().is_some() {
        while let Some(said) = lines.next_if(|line| line.starts_with("C:")) {
            client.write(format!("{}\r\n", said.get(3..).unwrap_or_default()).as_bytes()).await?;
        }
        let reply = client.reply().await?;
        for (number, heard) in (1..).zip(&reply.lines) {
            let heard = format!("{}{}{heard}", reply.code, if number < reply.lines.len() { "-" } else { " " });
            let shown = lines.next().and_then(|line| line.strip_prefix("S: ")).unwrap_or_default();
            let id = |line: &str| line.strip_prefix("250 2.0.0 Ok: queued as ").map(str::to_owned);
            match (id(shown), id(&heard)) {
                (Some(there), Some(here)) => ids = Some([there, here]),
                _ => ensure!(shown == heard, "README shows {shown:?}, and {heard:?} is said"),
            }
        }
    }
    ids.context("no message was queued")
}

/// With a client that is called as the README has it, and a route to a test server as in the demonstration.
#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_is_said_and_what_is_logged_of_it() -> anyhow::Result<()> {
    let [dialog, log] = <[String; 2]>::try_from(blocks_of_readme("By hand")?).map_err(|_| anyhow::anyhow!("blocks"))?;
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    let sink = SocketAddr::from(([127, 0, 0, 1], world.mx_port()));
    let route = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{sink}\"\n");
    let world = world.tables(&route).set("log.format", "\"postfix\"");
    let world = world.set("frontend.reject_unknown_recipient_domain", "false").start().await?;
    world.dns.pointer(Ipv4Addr::LOCALHOST, "localhost").host("localhost", Ipv4Addr::LOCALHOST);
    let mut mx = Sink::start(sink, sink::Settings::default()).await?;

    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    let [there, here] = play(&dialog, &mut client).await?;
    next(&mut mx).await?;
    let shown: Vec<String> = log.lines().filter(|line| !line.is_empty()).map(|line| lasting(line, &there)).collect();
    let port = format!("]:{}", sink.port());
    eventually(SOON, || async {
        let logs = [Service::Frontend, Service::Delivery].map(|service| world.log(service).replace(&port, "]:2526"));
        let lines = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(" staffetta/"));
        let logged: Vec<String> = lines.map(|line| lasting(line, &here)).collect();
        ensure!(shown == logged, "README shows {shown:#?}, and logged is {logged:#?} of {logs:#?}");
        Ok(())
    })
    .await
}
