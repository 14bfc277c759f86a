//! An upgrade from the programs of `scripts/earlier`, and the way back of workers: each build has mail in Redis that waits, and
//! there is load all the time. docs/operations.md, "Upgrades, and back", is what it holds to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use staffetta_tests::{Metrics, eventually};

use crate::cluster::{Build, Cluster, LOGIN, PASSWORD};
use crate::{PATIENCE, account_of, load_of, say};

/// Those of the workers that are gone count for half a minute.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// More than four pieces of a body.
const LARGE: usize = 2_000_000;
const BLOCKED: &str = "mary@example.org";

/// What waits: for a host that is away, until [`Cluster::open`].
struct Waiting {
    domain: &'static str,
    recipients: Vec<String>,
}

impl Waiting {
    /// Leaves mail for a domain: small, large, for several recipients and domains, and one that an operator holds.
    async fn leave(cluster: &Cluster, domain: &'static str) -> anyhow::Result<Self> {
        cluster.close(domain)?;
        let at = |name: &str| format!("{name}@{domain}");
        let elsewhere = format!("{domain}@example.com");
        let messages = [
            (vec![at("small")], message("small", 100)),
            (vec![at("large")], message("large", LARGE)),
            (vec![at("one"), at("two"), elsewhere], message("several", 50_000)),
            (vec![at("held")], message("held", 100)),
        ];
        let mut client = cluster.submission.connect().await?;
        for (recipients, message) in &messages {
            let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
            let reply = client.send(LOGIN, &recipients, message).await?;
            ensure!(reply.code == 250, "{}", reply.text());
        }
        eventually(PATIENCE, || async {
            // The destination rests after each, and whoever is next may be one that was tried before.
            cluster.staffetta(&["queue", "flush", "--domain", domain]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let listed = cluster.staffetta(&["queue", "list", "--domain", domain]).await?;
            ensure!(listed.matches("refused").count() >= 2, "not tried yet: {listed}");
            Ok(())
        })
        .await?;
        cluster.staffetta(&["queue", "hold", "--recipient", &at("held")]).await?;
        Ok(Self { domain, recipients: messages.into_iter().flat_map(|(recipients, _)| recipients).collect() })
    }

    /// The host is there again, and the operator lets go.
    async fn let_go(&self, cluster: &Cluster) -> anyhow::Result<()> {
        cluster.open(self.domain)?;
        cluster.staffetta(&["queue", "release", "--domain", self.domain]).await.map(drop)
    }

    /// Waits until all of it has come, but what these workers cannot read.
    async fn come(&self, cluster: &Cluster, but: &[&str]) -> anyhow::Result<()> {
        let (last, but) =
            (tokio::time::Instant::now() + PATIENCE, but.iter().map(|name| format!("{name}@{}", self.domain)));
        let but: Vec<String> = but.collect();
        loop {
            // A host that was away is not asked again at once.
            cluster.staffetta(&["queue", "flush", "--domain", self.domain]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let came = cluster.came().await?;
            let missing: Vec<&String> = self.recipients.iter().filter(|name| !came.contains_key(*name)).collect();
            if missing.iter().all(|name| but.contains(name)) {
                ensure!(missing.len() == but.len(), "came, though nobody can read it: {but:?} without {missing:?}");
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < last,
                "{missing:?} do not come: {}",
                cluster.staffetta(&["queue", "list"]).await?
            );
        }
    }
}

fn message(subject: &str, octets: usize) -> Arc<str> {
    let line = "So it goes.\r\n";
    Arc::from(format!("Subject: {subject}\r\n\r\n{}", line.repeat(octets / line.len())))
}

/// Each body above the inline limit of a new message is a frame that workers of before cannot read.
async fn until_packed(cluster: &Cluster) -> anyhow::Result<()> {
    eventually(FORGOTTEN, || async {
        for pod in cluster.of("frontend") {
            let log = pod.diagnostics().await?;
            let said = log.lines().rfind(|line| line.contains("what every worker can read") && line.contains("zstd"));
            ensure!(said.is_some_and(|line| line.contains("true")), "{}: {said:?}", pod.name);
        }
        Ok(())
    })
    .await
}

/// Jobs that workers have left to newer ones.
async fn unreadable(cluster: &Cluster) -> anyhow::Result<f64> {
    let mut jobs = 0.0;
    for pod in cluster.of("delivery") {
        jobs += Metrics::scrape(pod.at("http")?).await?.sum("staffetta_queue_unreadable_total", &[]);
    }
    Ok(jobs)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn pods_of_an_earlier_build_are_rolled_to_this_one_and_workers_back_under_load() -> anyhow::Result<()> {
    if std::env::var_os("STAFFETTA_EARLIER").is_none_or(|folder| folder.is_empty()) {
        complain("no upgrade is tried: there are no programs of before, see scripts/earlier");
        return Ok(());
    }
    let mut cluster = Cluster::relay_of(Build::Earlier).await?;
    let auth = cluster.of("auth").next().ok_or_else(|| anyhow::anyhow!("no auth"))?;
    auth.exec(&["staffetta", "user", "add", BLOCKED], PASSWORD).await?;
    cluster.staffetta(&["block", "login", BLOCKED]).await?;
    // Its host is there, and the operator says no.
    cluster.close("stopped.example")?;
    cluster.staffetta(&["destination", "suspend", "stopped.example", "--reason", "asked to"]).await?;
    let (forth, back) =
        (Waiting::leave(&cluster, "forth.example").await?, Waiting::leave(&cluster, "back.example").await?);
    let mut client = cluster.submission.connect().await?;
    let stopped = "stopped@stopped.example".to_owned();
    cluster.open("stopped.example")?;
    ensure!(client.send(LOGIN, &[&stopped], &message("stopped", 100)).await?.code == 250);

    // Above the inline limit, so that a build which is rolled meets what the other one makes of bodies.
    let load = load_of(&cluster, &message("load", 40_000));
    cluster.build = Build::Present;
    for service in ["frontend", "auth", "delivery"] {
        load.more(60, PATIENCE).await?;
        let longest = cluster.roll(service).await?;
        say(&format!("{service}: the longest stop of those of before took {longest:?}, {} accepted", load.accepted()));
    }
    load.more(60, PATIENCE).await?;
    forth.let_go(&cluster).await?;
    forth.come(&cluster, &[]).await?;
    let frontend = cluster.of("frontend").next().ok_or_else(|| anyhow::anyhow!("no frontend"))?;
    let mut other = staffetta_tests::Client::connect(frontend.at("submission")?).await?.start_tls().await?;
    let reply = other.auth(BLOCKED, PASSWORD).await?;
    ensure!(reply.code != 235, "{BLOCKED} is blocked no longer: {}", reply.text());
    let listed = cluster.staffetta(&["destination", "list"]).await?;
    ensure!(listed.contains("stopped.example") && listed.contains("asked to"), "{listed}");
    ensure!(!cluster.came().await?.contains_key(&stopped), "what is suspended has come");
    ensure!(unreadable(&cluster).await? == 0.0, "this build cannot read what was before");

    until_packed(&cluster).await?;
    let new = Waiting::leave(&cluster, "new.example").await?;
    cluster.build = Build::Earlier;
    let longest = cluster.roll("delivery").await?;
    say(&format!("back: the longest stop took {longest:?}, {} accepted", load.accepted()));
    load.more(60, PATIENCE).await?;
    back.let_go(&cluster).await?;
    back.come(&cluster, &[]).await?;
    new.let_go(&cluster).await?;
    new.come(&cluster, &["large", "one", "two"]).await?;
    ensure!(unreadable(&cluster).await? > 0.0, "nobody has met what he cannot read");
    cluster.staffetta(&["destination", "resume", "stopped.example"]).await?;

    cluster.build = Build::Present;
    let longest = cluster.roll("delivery").await?;
    say(&format!("forth again: the longest stop took {longest:?}, {} accepted", load.accepted()));
    new.come(&cluster, &[]).await?;
    // Among the load, too, was what those of before could not read; it would be looked at again in a minute.
    cluster.staffetta(&["queue", "flush", "--all"]).await?;
    load.more(60, PATIENCE).await?;
    let mut told = load.stop().await?;
    for waiting in [forth, back, new] {
        told.accepted.extend(waiting.recipients);
    }
    told.accepted.insert(stopped);
    account_of(&cluster, told).await?;
    let verified = cluster.staffetta(&["queue", "verify"]).await?;
    say(&verified);
    cluster.end().await
}

#[expect(clippy::print_stderr, reason = "a test that is left out")]
fn complain(line: &str) {
    eprintln!("{line}");
}
