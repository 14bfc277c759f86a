//! A real Prometheus that is set up as the page about one machine says: what it scrapes, what it makes of the alarms, and what it
//! answers to dashboards and to the questions of the runbook.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Sink, StartTls};
use staffetta_testkit::child::Running;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, SOON, Service, World, eventually, get, next};

const MESSAGE: &str = "Subject: hello\r\n\r\nHello Lisa";
const RECIPIENTS: [&str; 4] = ["lisa@example.com", "lisa@example.info", "nobody@example.net", "full@example.edu"];
const RULES: &str = "../deploy/prometheus/rules.yml";
const DASHBOARD: &str = "../deploy/k8s/components/grafana/staffetta.json";
const RUNBOOK: &str = "../docs/operations.md";

/// Between two looks, where a minute is usual.
const INTERVAL: &str = "200ms";
/// So much later, as for whoever asks, a figure that is taken by the minute has two values.
const LATER: u64 = 150;

/// Runs in the folder of a world, and ends with it.
struct Prometheus {
    port: Port,
    running: Running,
    log: PathBuf,
}

impl Prometheus {
    /// With the block of the page, at the ports of this world.
    fn start(world: &World) -> anyhow::Result<Self> {
        let page = fs::read_to_string("../docs/one-machine.md")?;
        let block = page.split("```yaml\n").find(|block| block.starts_with("scrape_configs:"));
        let mut block = block.and_then(|block| block.split("```").next()).context("no scrape_configs")?.to_owned();
        for (usual, service) in [(9101, Service::Frontend), (9102, Service::Auth), (9103, Service::Delivery)] {
            let usual = format!("127.0.0.1:{usual}");
            ensure!(block.contains(&usual), "{usual} is not scraped: {block}");
            block = block.replace(&usual, &world.http(service).to_string());
        }
        ensure!(block.contains("/etc/prometheus/staffetta.yml"), "{block}");
        let rules = fs::canonicalize(RULES)?.display().to_string();
        let block = block.replace("/etc/prometheus/staffetta.yml", &rules);
        let (folder, port) = (world.folder().join("prometheus"), Port::reserve()?);
        fs::create_dir(&folder)?;
        let (file, log) = (folder.join("prometheus.yml"), folder.join("log"));
        fs::write(&file, format!("global: {{scrape_interval: {INTERVAL}, evaluation_interval: {INTERVAL}}}\n{block}"))?;
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={}", port.address()),
        ];
        let running = Running::start("prometheus", &arguments, &log)?;
        Ok(Self { port, running, log })
    }

    /// The `data` of an answer.
    async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let (code, text) = get(self.port.address(), &format!("/api/v1/{path}")).await?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| format!("{path}: {code} {text}"))?;
        ensure!(code == 200 && answer["status"] == "success", "{path}: {text}");
        Ok(answer["data"].take())
    }

    /// How many series an expression has.
    async fn series(&self, expression: &str, time: u64) -> anyhow::Result<usize> {
        let answer = self.ask(&format!("query?time={time}&query={}", encoded(expression))).await?;
        Ok(answer["result"].as_array().map_or(0, Vec::len))
    }

    /// Waits until it is so; else with what it has logged.
    async fn until(&mut self, check: impl AsyncFn(&Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let this = &*self;
        let outcome = eventually(SOON, || check(this)).await;
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        ensure!(self.running.is_running(), "it has ended: {said}");
        outcome.context(said)
    }
}

/// For a URL.
fn encoded(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(octet).to_string(),
        octet => format!("%{octet:02X}"),
    };
    text.bytes().map(octet).collect()
}

async fn scrapes_all(prometheus: &Prometheus) -> anyhow::Result<()> {
    let targets = prometheus.ask("targets").await?;
    let targets = targets["activeTargets"].as_array().context("no targets")?;
    let good = targets.iter().filter(|target| target["health"] == "up" && target["lastError"] == "");
    ensure!(targets.len() == 3 && good.count() == 3, "{targets:#?}");
    Ok(())
}

async fn has_all_rules(prometheus: &Prometheus) -> anyhow::Result<()> {
    let answer = prometheus.ask("rules").await?;
    let groups = answer["groups"].as_array().context("no groups")?;
    let rules: Vec<&Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let written = fs::read_to_string(RULES)?.matches("- alert: ").count();
    let good = rules.iter().filter(|rule| rule["health"] == "ok" && rule["lastError"].is_null());
    ensure!(rules.len() == written && good.count() == written, "{written} are written: {rules:#?}");
    Ok(())
}

/// Who asks, and what: the panels of the dashboard, and the questions.
fn questions() -> anyhow::Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD)?)?;
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().context("no expression")?.replace("$__rate_interval", "5m");
            all.push((panel["title"].to_string(), text.replace("$namespace", ".*").replace("$provider", ".*")));
        }
    }
    ensure!(all.len() > 30, "only {} panels", all.len());
    let page = fs::read_to_string(RUNBOOK)?;
    let (_, section) = page.split_once("\n### Ten questions\n").context("no questions")?;
    let rows = section.split("\n### ").next().unwrap_or_default().lines().filter(|row| row.contains("? | "));
    for row in rows {
        let (question, rest) = row.split_once(" | ").context("no second column")?;
        // The one about a message has none.
        if let Some(expression) = rest.strip_prefix('`').and_then(|rest| rest.split('`').next()) {
            all.push((question.to_owned(), expression.replace("\\|", "|")));
        }
    }
    Ok(all)
}

/// Who gets mail: somebody who takes it, one who speaks no TLS although he offers it, and some who do not want it.
struct Hosts {
    good: Sink,
    broken: Sink,
    _others: [Sink; 3],
}

impl Hosts {
    async fn start(world: &mut World) -> anyhow::Result<Self> {
        let refusing = |reply: &str| {
            let rule = format!("[[rule]]\nstage = \"recipient\"\nreply = \"{reply}\"\n");
            Scenario::parse(&rule).map_err(anyhow::Error::msg)
        };
        Ok(Self {
            good: world.mx("example.com", Scenario::default()).await?,
            broken: world.mx("example.info", Scenario::default().starttls(StartTls::Broken)).await?,
            _others: [
                world.mx("example.net", refusing("550 5.1.1 no such user")?).await?,
                world.mx("example.edu", refusing("450 4.2.2 mailbox full")?).await?,
                world.mx("example.org", Scenario::default()).await?,
            ],
        })
    }

    /// John writes to all, and as somebody else.
    async fn get_mail(&mut self, client: &mut Client) -> anyhow::Result<()> {
        for recipient in RECIPIENTS {
            ensure!(client.send("john@example.org", &[recipient], MESSAGE).await?.code == 250);
        }
        let forged = client.send("forged@example.org", &["lisa@example.com"], MESSAGE).await;
        ensure!(forged.is_err_and(|error| error.to_string().contains("got 553")));
        client.expect("RSET", 250).await?;
        next(&mut self.good).await?;
        next(&mut self.broken).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_all_and_answers_what_is_asked_of_it() -> anyhow::Result<()> {
    let world = World::new().await?.set("frontend.messages_per_login", format!("\"{}/1h\"", 2 * RECIPIENTS.len()));
    let mut world = world.user("john@example.org", "summersun").await?.start().await?;
    world.store()?.ask(&["CONFIG", "SET", "maxmemory", "1073741824"])?;
    world.staffetta(&["block", "client", "192.0.2.0/24"])?;
    let mut hosts = Hosts::start(&mut world).await?;
    let mut prometheus = Prometheus::start(&world)?;
    prometheus.until(scrapes_all).await?;
    prometheus.until(has_all_rules).await?;

    let mut client = world.login("john@example.org", "summersun").await?;
    hosts.get_mail(&mut client).await?;
    // A counter that appears has not grown yet.
    let has_seen = async |prometheus: &Prometheus| {
        let bounced = "staffetta_provider_deliveries_total{outcome=\"bounced\"} > 0";
        ensure!(prometheus.series(bounced, now()?).await? > 0, "no bounce is seen");
        Ok(())
    };
    prometheus.until(has_seen).await?;
    hosts.get_mail(&mut client).await?;
    let limited = client.send("john@example.org", &["lisa@example.com"], MESSAGE).await;
    ensure!(limited.is_err_and(|error| error.to_string().contains("got 450")));

    let questions = questions()?;
    let has_answers = async |prometheus: &Prometheus| {
        let (mut silent, time) = (Vec::new(), now()? + LATER);
        for (who, expression) in &questions {
            if prometheus.series(expression, time).await? == 0 {
                silent.push(format!("{who}: {expression}"));
            }
        }
        ensure!(silent.is_empty(), "no value for {silent:#?}");
        Ok(())
    };
    prometheus.until(has_answers).await?;
    // Nothing is wrong with this relay: that its queue is new is all that an alarm tells.
    let alarms = prometheus.ask("alerts").await?;
    let firing = alarms["alerts"].as_array().context("no alarms")?.iter().filter(|alarm| alarm["state"] == "firing");
    let names: Vec<&Value> = firing.map(|alarm| &alarm["labels"]["alertname"]).collect();
    ensure!(names.iter().all(|name| **name == "StaffettaQueueCreated"), "{names:?}");
    Ok(())
}

fn now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
