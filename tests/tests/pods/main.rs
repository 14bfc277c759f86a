//! deploy/k8s in real pods: podman runs what `kubectl kustomize` renders, with the image of `scripts/image` and under the restrictions
//! that the manifests name. `make test-k8s`; `make test` only compiles it, because it takes minutes and root.

mod cluster;
mod kubelet;
mod podman;
mod projected;
mod upgrade;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use cluster::{Cluster, LOGIN};
use staffetta_tests::{Client, Load, Metrics, SOON, Told, eventually};

/// After this long without another delivery, there is none under way.
const CALM: Duration = Duration::from_secs(5);
/// Longest wait for so much mail.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a changed file may take until it is in use.
const CHANGED: Duration = Duration::from_secs(30);

fn message() -> Arc<str> {
    Arc::from(format!("Subject: pods\r\n\r\n{}", "So it goes.\r\n".repeat(200)))
}

fn load(cluster: &Cluster) -> Load {
    load_of(cluster, &message())
}

fn load_of(cluster: &Cluster, message: &Arc<str>) -> Load {
    let submission = cluster.submission.clone();
    Load::through(4, message, move || {
        let submission = submission.clone();
        async move { submission.connect().await }
    })
}

/// Each message has had its answer, and what was accepted came once.
async fn account(cluster: &Cluster, load: Load) -> anyhow::Result<()> {
    account_of(cluster, load.stop().await?).await
}

async fn account_of(cluster: &Cluster, told: Told) -> anyhow::Result<()> {
    ensure!(told.unknown.is_empty(), "nobody answered to {:?}", told.unknown);
    let verdict = cluster.verdict(told, CALM).await?;
    let kept = cluster.known_of(&verdict.lost).await?;
    verdict.judge(0).context(kept)
}

/// The same, and that is the end.
async fn settle(cluster: Cluster, load: Load) -> anyhow::Result<()> {
    account(&cluster, load).await?;
    cluster.end().await
}

/// What the kernel says of a process.
fn status(pid: u32, key: &str) -> anyhow::Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {key}"))?.split_whitespace().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn the_relay_starts_as_operations_md_says_and_carries_a_message() -> anyhow::Result<()> {
    let mut cluster = Cluster::new().await?;
    // Nobody makes a queue unasked, and nobody is ready without one.
    let early = cluster.run("Deployment", "delivery").await?;
    eventually(SOON, || async {
        let said = early.is_ready().await.map_or_else(|error| error.to_string(), |()| "ready".to_owned());
        ensure!(said.contains("queue"), "{said}");
        Ok(())
    })
    .await?;
    cluster.make_queue().await?;
    cluster.until_ready(&early).await?;
    early.delete().await?;
    for service in ["auth", "frontend", "delivery"] {
        cluster.add(service, "Deployment").await?;
    }

    for service in ["auth", "frontend", "delivery", "redis"] {
        let pod = cluster.of(service).next().context(service)?;
        pod.is_alive().await?;
        let pid = pod.pid().await?;
        for (key, value) in [("Uid", "65532"), ("Gid", "65532"), ("CapEff", "0000000000000000"), ("NoNewPrivs", "1")] {
            ensure!(status(pid, key)? == value, "{service}: {key} is {}", status(pid, key)?);
        }
        ensure!(status(pid, "CapBnd")? == "0000000000000000" && status(pid, "Seccomp")? == "2", "{service}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
        ensure!(mounts.lines().any(|line| line.starts_with("overlay / overlay ro,")), "{service}: {mounts}");
    }
    // There is no shell, and nothing else to run either.
    let frontend = cluster.of("frontend").next().context("no frontend")?;
    ensure!(frontend.exec(&["/bin/sh", "-c", "true"], "").await.is_err(), "there is a shell in the image");
    let said = frontend.exec(&["staffetta", "check", "--service", "frontend"], "").await?;
    ensure!(said.contains("no problem found"), "{said}");

    let client = Client::connect(frontend.at("submission")?).await?;
    let mut client = client.start_tls().await?;
    ensure!(client.auth(LOGIN, "winter").await?.code == 535, "any password is right");
    let load = load(&cluster);
    load.more(1, PATIENCE).await?;
    settle(cluster, load).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn the_overlay_for_development_works_as_readme_md_says() -> anyhow::Result<()> {
    let cluster = Cluster::development().await?;
    let load = load(&cluster);
    load.more(1, PATIENCE).await?;
    settle(cluster, load).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn a_rolling_restart_of_each_service_loses_and_doubles_nothing() -> anyhow::Result<()> {
    replaced_under_load(async |cluster, service| cluster.roll(service).await).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn all_pods_of_a_service_deleted_at_once_under_load_lose_and_double_nothing() -> anyhow::Result<()> {
    replaced_under_load(async |cluster, service| cluster.drain(service).await).await
}

/// Each service in turn, while four clients send.
async fn replaced_under_load(
    replace: impl AsyncFn(&mut Cluster, &'static str) -> anyhow::Result<Duration>,
) -> anyhow::Result<()> {
    let mut cluster = Cluster::relay().await?;
    let load = load(&cluster);
    for service in ["frontend", "auth", "delivery"] {
        load.more(100, PATIENCE).await?;
        let longest = replace(&mut cluster, service).await?;
        say(&format!("{service}: the longest stop took {longest:?}, {} accepted", load.accepted()));
    }
    load.more(100, PATIENCE).await?;
    settle(cluster, load).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-k8s"]
async fn certificates_and_configuration_are_taken_over_in_place() -> anyhow::Result<()> {
    let mut cluster = Cluster::relay().await?;
    let mut before = Vec::new();
    for service in ["frontend", "auth", "delivery"] {
        for pod in cluster.of(service) {
            before.push(pod.pid().await?);
        }
    }
    let load = load(&cluster);
    load.more(20, PATIENCE).await?;

    let shown = |cluster: &Cluster| {
        let submission = cluster.submission.clone();
        async move { submission.connect().await?.certificate().context("no certificate") }
    };
    let old = shown(&cluster).await?;
    let files = cluster.certificate("mail.example.org")?;
    cluster.change_secret("frontend-tls", &files)?;
    // Both frontends in turn, so twice.
    eventually(CHANGED, || async {
        ensure!(shown(&cluster).await? != old && shown(&cluster).await? != old, "the old certificate is shown");
        Ok(())
    })
    .await?;

    // What frontends and auth show to each other.
    for (secret, name) in [("frontend-rpc", "frontend"), ("auth-rpc", "auth")] {
        let files = cluster.certificate(name)?;
        cluster.change_secret(secret, &files)?;
    }

    let name =
        cluster.sources.config_maps.keys().find(|name| name.starts_with("staffetta-")).context("no file")?.clone();
    let mut files = cluster.sources.config_maps[&name].clone();
    let text = String::from_utf8(files["staffetta.toml"].clone())?;
    let text = text.replace("[frontend]\n", "[frontend]\nsize_limit = \"1MiB\"\n");
    files.insert("staffetta.toml".to_owned(), text.clone().into_bytes());
    cluster.change_config_map(&name, &files)?;
    eventually(CHANGED, || async {
        for pod in cluster.of("frontend") {
            let mut client = Client::connect(pod.at("submission")?).await?;
            let reply = client.command("EHLO client.test").await?;
            ensure!(reply.lines.iter().any(|line| line == "SIZE 1048576"), "{reply:?}");
        }
        Ok(())
    })
    .await?;
    // One with a mistake changes nothing, and is said at /metrics.
    files.insert("staffetta.toml".to_owned(), text.replace("1MiB", "one").into_bytes());
    cluster.change_config_map(&name, &files)?;
    for pod in cluster.of("frontend") {
        eventually(CHANGED, || async {
            let page = Metrics::scrape(pod.at("http")?).await?;
            ensure!(page.sum("staffetta_config_last_reload_successful", &[]) == 0.0, "{}: it was taken", pod.name);
            Ok(())
        })
        .await?;
    }
    // Whoever logs in now speaks by the new certificates.
    load.more(100, PATIENCE).await?;
    account(&cluster, load).await?;
    let mut after = Vec::new();
    for service in ["frontend", "auth", "delivery"] {
        for pod in cluster.of(service) {
            after.push(pod.pid().await?);
        }
    }
    ensure!(before == after, "a pod was restarted: {before:?} {after:?}");
    cluster.end().await
}

#[expect(clippy::print_stdout, reason = "the account, for whoever looks at a test")]
fn say(line: &str) {
    println!("{line}");
}
