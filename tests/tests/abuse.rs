//! A stolen password: what the login does is counted over all pods, told of, and answered by the steps of the ladder.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Stage};
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, Metrics, SOON, Service, World, eventually, next};

const JOHN: &str = "john@example.org";
const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

/// Two frontends and a worker.
struct Cluster {
    world: World,
    frontends: [SocketAddr; 2],
    second_http: SocketAddr,
    _ports: Vec<Port>,
}

impl Cluster {
    /// Not shortly before a full hour: what is counted begins anew then.
    async fn start(world: World) -> anyhow::Result<Self> {
        let mut world = world.user(JOHN, "summersun").await?.start().await?;
        let queue = world.queue().await?;
        while queue.now() % 3_600_000 > 3_510_000 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let ports = (0..4).map(|_| Port::reserve()).collect::<Result<Vec<_>, _>>()?;
        let [smtp, submission, submissions, second_http] = [0, 1, 2, 3].map(|index: usize| ports[index].address());
        let changes = [(world.smtp(), smtp), (world.submission(), submission), (world.submissions(), submissions)];
        world.another(Service::Frontend, second_http, &changes).await?;
        let frontends = [world.submission(), submission];
        Ok(Self { world, frontends, second_http, _ports: ports })
    }

    async fn login(&self, frontend: usize) -> anyhow::Result<Client> {
        self.login_from("127.0.0.1", frontend).await
    }

    async fn login_from(&self, source: &str, frontend: usize) -> anyhow::Result<Client> {
        let mut client = Client::connect_from(source, self.frontends[frontend]).await?.start_tls().await?;
        let reply = client.auth(JOHN, "summersun").await?;
        ensure!(reply.code == 235, "{}", reply.text());
        Ok(client)
    }

    /// What the command says with `--json`.
    fn objects(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let said = self.world.staffetta(&[arguments, &["--json"]].concat())?;
        said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The lines about logins in the logs of all pods, as (signal, step, count).
    fn told(&self) -> anyhow::Result<Vec<(String, String, u64)>> {
        let mut told = Vec::new();
        for file in std::fs::read_dir(self.world.folder())? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read_to_string(path)?;
            for line in text.lines().filter(|line| line.contains("\"event\":\"login_over_threshold\"")) {
                let event: Value = serde_json::from_str(line)?;
                ensure!(event["login"] == JOHN && event["level"] == "warn" && event["threshold"].is_u64(), "{line}");
                let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                told.push((text("signal"), text("step"), event["count"].as_u64().context("no count")?));
            }
        }
        Ok(told)
    }

    /// Waits until a step has been told of, by exactly one line; at which count.
    async fn until_told(&self, signal: &str, step: &str) -> anyhow::Result<u64> {
        let lines = || {
            let mut told = self.told()?;
            told.retain(|(of, taken, _)| of == signal && taken == step);
            Ok::<_, anyhow::Error>(told)
        };
        eventually(SOON, async || {
            ensure!(!lines()?.is_empty(), "no line of {signal} {step}: {:?}", self.told()?);
            Ok(())
        })
        .await?;
        let lines = lines()?;
        ensure!(lines.len() == 1, "{lines:?}");
        Ok(lines[0].2)
    }

    /// The sum over both frontends and the worker.
    async fn steps(&self, labels: &[&str]) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for http in [self.world.http(Service::Frontend), self.second_http, self.world.http(Service::Delivery)] {
            sum += Metrics::scrape(http).await?.sum("staffetta_login_steps_total", labels);
        }
        Ok(sum)
    }

    /// The login's deliveries that are held.
    async fn held(&self) -> anyhow::Result<u64> {
        Ok(self.world.queue().await?.counts().await?.held)
    }
}

async fn send(client: &mut Client, to: &[&str]) -> anyhow::Result<()> {
    let reply = client.send(JOHN, to, MESSAGE).await?;
    ensure!(reply.code == 250, "{}", reply.text());
    Ok(())
}

fn nothing_watched(world: World) -> World {
    [
        "frontend.abuse.messages",
        "frontend.abuse.recipients",
        "frontend.abuse.domains",
        "frontend.abuse.bounces",
        "frontend.abuse.unknown_recipients",
        "frontend.abuse.new_networks",
    ]
    .into_iter()
    .fold(world, |world, key| world.set(key, "0"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_sends_too_much_is_told_of_then_slow_then_held() -> anyhow::Result<()> {
    let world = nothing_watched(World::new().await?).set("frontend.abuse.messages", "2");
    let world = world.set("frontend.abuse.slow", "2").set("frontend.abuse.hold", "3");
    let world = world.set("frontend.queued_per_login", "100");
    let mut cluster = Cluster::start(world).await?;
    let mut mx = cluster.world.mx("example.com", Scenario::default()).await?;
    cluster.world.dns.mx("example.net", 10, "mx.example.net");
    let (mut here, mut there) = (cluster.login(0).await?, cluster.login(1).await?);
    // Neither has seen two.
    send(&mut here, &["lisa@example.com"]).await?;
    send(&mut there, &["lisa@example.com"]).await?;
    ensure!(cluster.until_told("messages", "notify").await? == 2);
    send(&mut here, &["lisa@example.com"]).await?;
    send(&mut here, &["lisa@example.com"]).await?;
    ensure!(cluster.until_told("messages", "slow").await? == 4);

    // What is pipelined before MAIL does not wait with it, nor does anybody else.
    eventually(SOON, async || {
        let mut client = cluster.login(0).await?;
        let began = Instant::now();
        client.write(format!("RSET\r\nMAIL FROM:<{JOHN}>\r\nRCPT TO:<lisa@example.com>\r\n").as_bytes()).await?;
        let mut times = Vec::new();
        for _ in 0..3 {
            let reply = client.reply().await?;
            ensure!(reply.code == 250, "{}", reply.text());
            times.push(began.elapsed());
        }
        ensure!(times[1] >= Duration::from_secs(2), "MAIL was answered after {:?}", times[1]);
        ensure!(times[1] - times[0] >= Duration::from_secs(1), "{times:?}");
        Ok(())
    })
    .await?;
    let slowed = cluster.world.metrics(Service::Frontend).await?.sum("staffetta_smtp_slowed_total", &[]);
    ensure!(slowed >= 1.0, "{slowed}");

    send(&mut there, &["lisa@example.com"]).await?;
    send(&mut there, &["lisa@example.com"]).await?;
    ensure!(cluster.until_told("messages", "hold").await? == 6);
    for _ in 0..6 {
        ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
    }
    cluster.world.until_empty().await?;
    // The pod that saw it holds at once; the other one when it has heard of what the login did there.
    send(&mut there, &["lisa@example.com", "lea@example.net"]).await?;
    ensure!(cluster.held().await? == 2);
    let listed = cluster.objects(&["queue", "list", "--login", "JOHN@example.org"])?;
    ensure!(listed.len() == 1 && listed[0].to_string().contains("held"), "{listed:?}");
    ensure!(mx.missed() == 0 && mx.count() == 6, "nothing of it was delivered");
    send(&mut here, &["lisa@example.com"]).await?;
    eventually(SOON, async || {
        let before = cluster.held().await?;
        send(&mut cluster.login(0).await?, &["lisa@example.com"]).await?;
        ensure!(cluster.held().await? == before + 1, "it is not held here");
        Ok(())
    })
    .await?;

    eventually(SOON, async || {
        let top = cluster.objects(&["login", "top", "--by", "messages", "--limit", "5"])?;
        ensure!(top.len() == 1 && top[0]["login"] == JOHN, "{top:?}");
        ensure!(top[0]["messages"].as_u64() >= Some(8) && top[0]["domains"] == 2, "{top:?}");
        Ok(())
    })
    .await?;
    ensure!(cluster.objects(&["login", "top", "--hour", "last"])?.is_empty());
    let text = cluster.world.staffetta(&["login", "top"])?;
    ensure!(text.contains(JOHN) && text.contains("messages:hold"), "{text}");
    let shown = cluster.world.staffetta(&["login", "show", "John@Example.ORG"])?;
    ensure!(shown.contains("notify slow hold") && shown.contains("not blocked"), "{shown}");
    let messages = cluster.world.queue().await?.counts().await?.messages;
    ensure!(shown.contains(&format!("{messages} of 100 messages in the queue")), "{shown}");
    let shown = &cluster.objects(&["login", "show", JOHN])?[0];
    ensure!(shown["thresholds"]["messages"] == 2 && shown["now"]["steps"][2]["step"] == "hold", "{shown}");
    ensure!(shown["last"]["messages"] == 0 && shown["blocked"].is_null(), "{shown}");

    ensure!(cluster.steps(&["signal=\"messages\""]).await? == 3.0);
    ensure!(cluster.steps(&[]).await? == 3.0, "nothing else is watched");
    eventually(SOON, async || {
        for http in [cluster.world.http(Service::Frontend), cluster.second_http] {
            let over = Metrics::scrape(http).await?.sum("staffetta_logins_over_threshold", &["signal=\"messages\""]);
            ensure!(over == 1.0, "{over}");
        }
        Ok(())
    })
    .await?;
    let held = cluster.held().await?;
    let released = cluster.objects(&["queue", "release", "--login", JOHN])?;
    ensure!(released[0]["released"] == held, "{released:?}");
    ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"], "what is released is delivered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_comes_to_its_block_is_thrown_out_until_it_is_over() -> anyhow::Result<()> {
    let world = nothing_watched(World::new().await?).set("frontend.abuse.recipients", "4");
    let world = world.set("frontend.abuse.notify", "0").set("frontend.abuse.block", "1");
    let cluster = Cluster::start(world.set("frontend.abuse.block_for", "\"5s\"")).await?;
    // Nobody is at its host.
    cluster.world.dns.mx("example.com", 10, "mx.example.com").host("mx.example.com", [127, 0, 1, 99]);
    let (mut here, mut there) = (cluster.login(0).await?, cluster.login(1).await?);
    send(&mut here, &["a@example.com", "b@example.com"]).await?;
    send(&mut there, &["c@example.com"]).await?;
    ensure!(cluster.told()?.is_empty());
    send(&mut there, &["d@example.com", "e@example.com"]).await?;
    for client in [&mut here, &mut there] {
        let end = Instant::now() + SOON;
        while client.command("NOOP").await?.code != 421 {
            ensure!(Instant::now() < end, "its session goes on");
        }
    }
    ensure!(cluster.until_told("recipients", "block").await? == 5);
    let block = cluster.world.store()?.ask(&["HGET", "{R}blocks", &format!("login {JOHN}")])?;
    let staffetta_tests::Value::Octets(block) = block else { anyhow::bail!("{block:?}") };
    let block = String::from_utf8(block)?;
    ensure!(block.ends_with(" abuse: recipients is 5 in an hour, the threshold 4"), "{block}");
    eventually(SOON, async || {
        let held = cluster.held().await?;
        ensure!(held == 3, "{held} of its deliveries are held");
        Ok(())
    })
    .await?;
    // It ends by itself, its mail stays held.
    eventually(SOON, async || cluster.login(1).await.map(drop)).await?;
    ensure!(cluster.held().await? == 3);
    ensure!(cluster.steps(&["step=\"block\"", "signal=\"recipients\""]).await? == 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_comes_back_is_counted_by_workers_and_acted_on_by_frontends() -> anyhow::Result<()> {
    let world = nothing_watched(World::new().await?).set("frontend.abuse.bounces", "3");
    let world = world.set("frontend.abuse.unknown_recipients", "2").set("frontend.abuse.hold", "2");
    let mut cluster = Cluster::start(world).await?;
    let unknown = Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here").only("nobody");
    let spam = unknown.reply(Stage::Recipient, "550 5.7.1 We do not want this").only("spam");
    let _mx = cluster.world.mx("example.com", spam).await?;
    let _home = cluster.world.mx("example.org", Scenario::default()).await?;
    let mut john = cluster.login(0).await?;
    send(&mut john, &["nobody1@example.com", "lisa@example.com", "spam@example.com"]).await?;
    cluster.world.until_empty().await?;
    send(&mut john, &["nobody2@example.com"]).await?;
    ensure!(cluster.until_told("unknown_recipients", "notify").await? == 2);
    ensure!(cluster.until_told("bounces", "notify").await? == 3);
    let log = cluster.world.log(Service::Delivery);
    ensure!(log.contains("login_over_threshold"), "the worker has seen it");
    let top = cluster.objects(&["login", "top", "--by", "unknown"])?;
    ensure!(top[0]["unknown_recipients"] == 2 && top[0]["bounces"] == 3, "{top:?}");

    for number in 3..6 {
        send(&mut john, &[&format!("nobody{number}@example.com")]).await?;
        cluster.world.until_empty().await?;
    }
    ensure!(cluster.until_told("unknown_recipients", "hold").await? >= 4);
    // The frontend hears of it by its own next message.
    eventually(SOON, async || {
        send(&mut cluster.login(1).await?, &["lisa@example.com"]).await?;
        ensure!(cluster.held().await? > 0, "nothing is held");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_networks_and_many_domains_are_told_of() -> anyhow::Result<()> {
    let world = nothing_watched(World::new().await?).set("frontend.abuse.new_networks", "3");
    let cluster = Cluster::start(world.set("frontend.abuse.domains", "3").set("frontend.abuse.notify", "1")).await?;
    for (number, source) in ["127.0.1.1", "127.0.1.2", "127.0.2.1", "127.0.1.3"].into_iter().enumerate() {
        cluster.login_from(source, number % 2).await?;
    }
    // A network that is trusted says nothing of who is behind it.
    cluster.login_from("127.0.0.9", 0).await?;
    eventually(SOON, async || {
        let top = cluster.objects(&["login", "top", "--by", "networks"])?;
        ensure!(top.first().is_some_and(|login| login["new_networks"] == 2), "{top:?}");
        Ok(())
    })
    .await?;
    ensure!(cluster.told()?.is_empty());
    let mut john = cluster.login_from("127.0.3.1", 1).await?;
    ensure!(cluster.until_told("new_networks", "notify").await? == 3);
    for domain in ["a.test", "b.test", "c.test"] {
        cluster.world.dns.mx(domain, 10, "mx.example.com");
    }
    send(&mut john, &["x@a.test", "y@A.TEST", "x@b.test"]).await?;
    send(&mut cluster.login(0).await?, &["x@b.test", "x@c.test"]).await?;
    ensure!(cluster.until_told("domains", "notify").await? == 3);
    ensure!(cluster.told()?.len() == 2, "{:?}", cluster.told()?);
    Ok(())
}
