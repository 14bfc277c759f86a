//! What documents and manifests say is so. Their examples have tests of their own (`examples`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use staffetta_config::Config;
use staffetta_testkit::child::Running;
use staffetta_tests::{Redis, SOON, eventually, program};

fn root() -> PathBuf {
    PathBuf::from("..")
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("failed to read {path}"))
}

/// A container has no capability, so no port below 1024; the Service maps the mail ports to what the pods listen on.
#[test]
fn the_cluster_listens_where_its_manifests_say() -> anyhow::Result<()> {
    let config = Config::parse(&read("deploy/k8s/base/staffetta.toml")?, "staffetta.toml")?;
    let (frontend, auth) = (read("deploy/k8s/base/frontend.yaml")?, read("deploy/k8s/base/auth.yaml")?);
    let delivery = read("deploy/k8s/base/delivery.yaml")?;
    let listeners = config.frontend.listener.iter().map(|listener| (&frontend, listener.name.as_str(), listener.bind));
    let others = [
        (&frontend, "http", config.frontend.http),
        (&auth, "http", config.auth.http),
        (&auth, "grpc", config.auth.listen),
        (&delivery, "http", config.delivery.http),
    ];
    for (manifest, name, address) in listeners.chain(others) {
        ensure!(address.ip().is_unspecified() && address.port() >= 1024, "{name} would listen on {address}");
        let declared = format!("- name: {name}\n              containerPort: {}\n", address.port());
        ensure!(manifest.contains(&declared), "no manifest declares {name} on port {}", address.port());
    }
    Ok(())
}

/// Before auth starts, its pod in the overlay of the quick start makes the accounts; again, when it is started again.
#[test]
fn the_command_of_the_quick_start_makes_its_accounts() -> anyhow::Result<()> {
    let manifest = read("deploy/k8s/overlays/dev/accounts-on-disk.yaml")?;
    let (_, command) = manifest.split_once("command: [/usr/local/bin/staffetta, ").context("it runs nothing")?;
    let (arguments, _) = command.split_once(']').context("the command has no end")?;
    let folder = tempfile::tempdir()?;
    let (url, accounts) = (folder.path().join("url"), folder.path().join("users.db"));
    fs::write(&url, format!("sqlite://{}\n", accounts.display()))?;
    for _ in 0..2 {
        let mut run = Command::new(program("staffetta")?);
        run.args(arguments.split(", ")).arg("--config").arg(root().join("deploy/k8s/base/staffetta.toml"));
        let output = run.env("STAFFETTA__AUTH__SQL__URL_FILE", &url).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(accounts.exists(), "`staffetta {arguments}` makes no accounts");
    }
    Ok(())
}

/// The script of the pod of Redis, with a password that is no single word.
#[tokio::test]
async fn the_pod_of_redis_takes_any_password() -> anyhow::Result<()> {
    const PASSWORD: &str = r#"one "two" \n #three"#;
    let manifest = read("deploy/k8s/base/redis.yaml")?;
    let (_, rest) = manifest.split_once("          args:\n            - |\n").context("no script")?;
    let script: String =
        rest.lines().take_while(|line| line.starts_with("              ")).map(|l| format!("{l}\n")).collect();
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("redis.conf"), format!("port 0\nunixsocket {}\nsave \"\"\n", path("redis.sock").display()))?;
    fs::write(path("password"), PASSWORD)?;
    let script = script
        .replace("/etc/redis/redis.conf", &path("redis.conf").display().to_string())
        .replace("/run/secrets/redis/password", &path("password").display().to_string())
        .replace("/tmp/redis.conf", &path("all.conf").display().to_string());
    let arguments = ["MEMORY_LIMIT=1073741824", "sh", "-ec", &script];
    let _server = Running::start("env", &arguments, &path("log"))?;
    eventually(SOON, || async {
        let mut redis = Redis::connect(&path("redis.sock"))?;
        ensure!(redis.ask(&["PING"]).is_err(), "it asks for no password");
        redis.ask(&["AUTH", PASSWORD])?;
        redis.ask(&["PING"]).map(|_| ())
    })
    .await
    .with_context(|| fs::read_to_string(path("log")).unwrap_or_default())
}

/// A pod is not killed before its own longest stop is over. Some seconds are for the rest: settling, the last log lines.
#[test]
fn pods_have_the_time_that_their_drains_may_take() -> anyhow::Result<()> {
    const REST: Duration = Duration::from_secs(5);
    let config = Config::parse(&read("deploy/k8s/base/staffetta.toml")?, "staffetta.toml")?;
    let (frontend, auth) = (config.frontend.drain_delay, config.auth.drain_delay);
    let longest = [
        ("frontend", frontend + staffetta_frontend::HARD_STOP),
        ("auth", auth + staffetta_auth::DRAIN),
        ("delivery", config.delivery.drain_limit),
    ];
    let page = read("docs/operations.md")?;
    for (service, stop) in longest {
        let manifest = read(&format!("deploy/k8s/base/{service}.yaml"))?;
        let (_, rest) = manifest.split_once("terminationGracePeriodSeconds: ").context(service)?;
        let seconds = rest.lines().next().unwrap_or_default().trim().parse()?;
        ensure!(
            stop + REST <= Duration::from_secs(seconds),
            "{service} may take {stop:?}, and is killed after {seconds} s"
        );
        ensure!(page.contains(&format!("{service} {seconds} s")), "the runbook does not say: {service} {seconds} s");
    }
    Ok(())
}

/// ARCHITECTURE.md opens with promises, each with tests and the files they are in.
#[test]
fn every_promise_names_tests_that_exist() -> anyhow::Result<()> {
    let page = read("ARCHITECTURE.md")?;
    let promises = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let mut promises_seen = 0;
    for promise in promises {
        let tried_by = promise.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        let files = tried_by.split([' ', '(', ')', ',']).filter(|word| word.contains('/'));
        let sources: String = files.map(read).collect::<anyhow::Result<_>>()?;
        for test in tried_by.split('`').skip(1).step_by(2) {
            ensure!(sources.contains(&format!("fn {test}(")), "there is no {test} where ARCHITECTURE.md says");
        }
        ensure!(!sources.is_empty(), "no test for: {promise}");
        promises_seen += 1;
    }
    ensure!(promises_seen == 8, "{promises_seen} promises");
    Ok(())
}

/// A page that names a file names one that is there.
#[test]
fn files_that_documents_name_are_there() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/specifications.md", "docs/operations.md"] {
        let text = read(page)?;
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.contains("/src/") && !name.contains('<')) {
            if !root().join(name).exists() && !root().join("crates").join(name).exists() {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    ensure!(missing.is_empty(), "not there: {missing:#?}");
    Ok(())
}
