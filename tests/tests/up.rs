//! `staffetta up`: the whole cluster in one process, and the tools beside it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use staffetta_testkit::child::Running;
use staffetta_tests::{SOON, Service, World, eventually, get, program};

/// Adds to every port, so that a relay of the developer's own is left alone.
const OFFSET: u16 = 11_000;

fn up(data: &Path, log: &Path) -> anyhow::Result<Running> {
    up_with(&["--demo"], OFFSET, data, log)
}

fn up_with(more: &[&str], offset: u16, data: &Path, log: &Path) -> anyhow::Result<Running> {
    let offset = offset.to_string();
    let arguments = [&["up"], more, &["--port-offset", &offset, "--data"]].concat();
    let mut arguments: Vec<_> = arguments.iter().map(std::ffi::OsStr::new).collect();
    arguments.push(data.as_os_str());
    Running::start(program("staffetta")?, &arguments, log)
}

async fn until_ready(log: &Path) -> anyhow::Result<String> {
    eventually(SOON, || async {
        let said = std::fs::read_to_string(log)?;
        ensure!(said.contains("Ready."), "{said}");
        Ok(())
    })
    .await?;
    Ok(std::fs::read_to_string(log)?)
}

fn staffetta(data: &Path, arguments: &[&str], input: &str) -> anyhow::Result<(Option<i32>, String)> {
    let mut child = Command::new(program("staffetta")?)
        .args(arguments)
        .arg("--config")
        .arg(data.join("staffetta.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), said))
}

fn redis_pid(said: &str) -> anyhow::Result<u32> {
    let rest = said.split("redis-server, pid ").nth(1).context("no pid")?;
    Ok(rest.split(',').next().context("no pid")?.parse()?)
}

/// What the last EHLO of a dialog is answered with.
fn extensions(dialog: &str) -> anyhow::Result<Vec<&str>> {
    let (_, answer) = dialog.rsplit_once("C: EHLO ").context("no EHLO")?;
    Ok(answer.lines().skip(1).map(str::trim).take_while(|line| line.starts_with("S: 250")).collect())
}

/// Accounts, mail and keys are the owner's, whatever the umask.
fn assert_private(folder: &Path) -> anyhow::Result<()> {
    let mode = |path: &Path| anyhow::Ok(std::fs::symlink_metadata(path)?.permissions().mode() & 0o077);
    ensure!(mode(folder)? == 0, "{} is open", folder.display());
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        ensure!(mode(&path)? == 0, "{} is open", path.display());
        if path.is_dir() {
            assert_private(&path)?;
        }
    }
    Ok(())
}

async fn until_gone(pid: u32) -> anyhow::Result<()> {
    eventually(SOON, || async {
        ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "redis-server {pid} still runs");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_runs_twice_and_cleans_up_after_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let log = folder.path().join("log");

    // Left behind by a version that let everybody in.
    std::fs::create_dir_all(&data)?;
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755))?;
    let mut first = up(&data, &log)?;
    let said = until_ready(&log).await?;
    for part in ["S: 235 2.7.0 Authentication successful", "queued as", "TLSv1.3", "Received: from"] {
        ensure!(said.contains(part), "no {part:?} in\n{said}");
    }
    ensure!(!said.contains("summersun\0"), "a password is shown");
    ensure!(extensions(&said)? == extensions(include_str!("../../README.md"))?, "README promises another list");
    ensure!(std::fs::read_dir(data.join("sink"))?.count() == 1, "no .eml");

    assert_private(&data)?;

    // A second one on the same directory is refused.
    let refused = folder.path().join("refused");
    let mut second = up(&data, &refused)?;
    ensure!(second.wait(SOON)? == Some(1));
    ensure!(std::fs::read_to_string(&refused)?.contains("another `staffetta up` runs"));

    tools(&data)?;

    // SIGTERM, as Ctrl-C: everything ends, Redis too.
    let redis = redis_pid(&said)?;
    first.signal(Signal::TERM)?;
    ensure!(first.wait(SOON)? == Some(0), "{}", std::fs::read_to_string(&log)?);
    until_gone(redis).await?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(said.trim_end().ends_with("Stopped.") && !said.contains("WARN"), "{said}");

    // Again; and this time it crashes.
    let mut again = up(&data, &log)?;
    let said = until_ready(&log).await?;
    ensure!(std::fs::read_dir(data.join("sink"))?.count() == 2, "{said}");
    again.kill();
    until_gone(redis_pid(&said)?).await
}

/// All of them at once, before anything is started, with the way out.
#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_taken_are_named_with_the_way_to_others() -> anyhow::Result<()> {
    const ELSEWHERE: u16 = OFFSET + 3_000;
    let folder = tempfile::tempdir()?;
    let _taken = [2587, 9102].map(|port| std::net::TcpListener::bind(("127.0.0.1", port + ELSEWHERE)));
    let log = folder.path().join("log");
    let mut refused = up_with(&["--demo"], ELSEWHERE, &folder.path().join("data"), &log)?;
    ensure!(refused.wait(SOON)? == Some(1));
    let said = std::fs::read_to_string(&log)?;
    let ports = format!("ports {}, {} are taken; `--port-offset 1000`", 2587 + ELSEWHERE, 9102 + ELSEWHERE);
    ensure!(said.contains(&ports) && said.lines().count() == 1, "{said}");
    Ok(())
}

/// Without a demonstration: there are no accounts yet, and it can be stopped at any time.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_comes_up_and_stops_when_told() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let offset = OFFSET + 1000;

    // Before it is ready: as soon as the configuration is written.
    let mut early = up_with(&[], offset, &data, &log)?;
    eventually(SOON, || async {
        ensure!(data.join("staffetta.toml").exists());
        Ok(())
    })
    .await?;
    early.signal(Signal::INT)?;
    ensure!(early.wait(SOON)? == Some(0), "{}", std::fs::read_to_string(&log)?);
    std::fs::remove_dir_all(&data)?;

    let mut cluster = up_with(&[], offset, &data, &log)?;
    let said = until_ready(&log).await?;
    let (code, users) = staffetta(&data, &["user", "list"], "")?;
    ensure!(code == Some(0) && users.is_empty(), "{users}");

    // Redis is killed: it comes back with its data.
    let redis = redis_pid(&said)?;
    let created = summary(&data)?;
    kill_process(Pid::from_raw(redis.cast_signed()).context("no pid")?, Signal::KILL)?;
    eventually(SOON, || async {
        let said = std::fs::read_to_string(&log)?;
        ensure!(said.contains("redis-server was started again, with its data") && said.contains("signal: 9"), "{said}");
        ensure!(summary(&data)? == created);
        Ok(())
    })
    .await?;
    let said = std::fs::read_to_string(&log)?;
    let revived = said.rsplit(" pid=").next().and_then(|rest| rest.split_whitespace().next()).context("no pid")?;
    cluster.signal(Signal::INT)?;
    ensure!(cluster.wait(SOON)? == Some(0), "{}", std::fs::read_to_string(&log)?);
    until_gone(revived.parse()?).await
}

/// Each series once, and what the alarms look for.
async fn one_page_of_metrics(world: &World) -> anyhow::Result<()> {
    let page = world.metrics(Service::Frontend).await?;
    for service in ["frontend", "auth", "delivery"] {
        let label = format!("service=\"{service}\"");
        ensure!(page.sum("staffetta_build_info", &[&label]) == 1.0, "{service}: {}", page.0);
    }
    for service in [Service::Auth, Service::Delivery] {
        let (code, text) = get(world.http(service), "/metrics").await?;
        ensure!(code == 200 && text.starts_with("# ") && text.contains("frontend.http"), "{code} {text}");
    }
    Ok(())
}

/// Clients that come during the drain of the frontend can still log in.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_configuration_metrics_are_one_page_and_auth_outlives_the_frontend() -> anyhow::Result<()> {
    let world = World::new().await?.set("frontend.drain_delay", "\"5s\"").user("john@example.org", "summersun").await?;
    let log = world.folder().join("up.log");
    let arguments: [std::ffi::OsString; 3] = ["up".into(), "--config".into(), world.config_file().into()];
    let mut cluster = Running::start(program("staffetta")?, &arguments, &log)?;
    for service in [Service::Auth, Service::Frontend, Service::Delivery] {
        world.until_ready(service).await?;
    }
    one_page_of_metrics(&world).await?;
    // A second one says why not, and takes nothing.
    let log_of_second = world.folder().join("second.log");
    let mut second = Running::start(program("staffetta")?, &arguments, &log_of_second)?;
    ensure!(second.wait(SOON)? == Some(1));
    let said = std::fs::read_to_string(&log_of_second)?;
    ensure!(said.contains("somebody listens there already: auth.listen 127."), "{said}");
    ensure!(said.contains(&format!("submission {}", world.submission())) && said.lines().count() == 1, "{said}");
    cluster.signal(Signal::TERM)?;
    eventually(SOON, || async {
        let (code, text) = get(world.http(Service::Frontend), "/readyz").await?;
        ensure!(code == 503 && text.contains("draining"), "{code} {text}");
        Ok(())
    })
    .await?;
    let (code, text) = get(world.http(Service::Auth), "/readyz").await?;
    ensure!(code == 200, "{code} {text}");
    world.login("john@example.org", "summersun").await?;
    ensure!(cluster.wait(SOON)? == Some(0), "{}", std::fs::read_to_string(&log)?);
    Ok(())
}

/// What is queued, and since when there is a queue.
fn summary(data: &Path) -> anyhow::Result<String> {
    let (code, said) = staffetta(data, &["queue", "summary"], "")?;
    ensure!(code == Some(0) && said.contains("since"), "{said}");
    Ok(said)
}

fn tools(data: &Path) -> anyhow::Result<()> {
    let run = |arguments: &[&str], input: &str| staffetta(data, arguments, input);
    let (code, said) = run(&["user", "add", "ann@example.org"], "secret-of-ann\n")?;
    ensure!(code == Some(0) && said == "ann@example.org is added\n", "{said}");
    let (code, said) = run(&["user", "add", "ann@example.org"], "secret-of-ann\n")?;
    ensure!(code == Some(1) && said.contains("ann@example.org"), "{said}");
    let (_, said) = run(&["user", "list"], "")?;
    ensure!(said == "ann@example.org\njohn@example.org\n", "{said}");
    let (code, said) = run(&["user", "password", "ann@example.org"], "another\n")?;
    ensure!(code == Some(0) && said == "ann@example.org has a new password\n", "{said}");
    let (code, said) = run(&["user", "password", "ann@example.org"], "nul\0l\n")?;
    ensure!(code == Some(1) && said.contains("NUL"), "{said}");
    let (code, said) = run(&["user", "alias", "ann@example.org", "info@example.org"], "")?;
    ensure!(code == Some(0), "{said}");
    let (code, said) = run(&["user", "aliases"], "")?;
    ensure!(code == Some(0) && said == "info@example.org leads to ann@example.org\n", "{said}");
    let (code, said) = run(&["user", "domain", "list"], "")?;
    ensure!(code == Some(0) && said == "example.org  accounts: 2, aliases: 1\n", "{said}");
    let (code, said) = run(&["user", "domain", "remove", "example.org"], "")?;
    ensure!(code == Some(1) && said.contains("example.org has accounts or aliases"), "{said}");
    let (code, said) = run(&["user", "disable", "ann@example.org"], "")?;
    ensure!(code == Some(0) && said == "ann@example.org is disabled\n", "{said}");
    let (_, said) = run(&["user", "show", "--json", "ann@example.org"], "")?;
    let shown: serde_json::Value = serde_json::from_str(&said)?;
    let expected = serde_json::json!({
        "login": "ann@example.org", "state": "disabled", "scheme": "ARGON2ID", "aliases": ["info@example.org"]
    });
    ensure!(shown == expected, "{said}");
    let (code, said) = run(&["auth", "test", "ann@example.org"], "another\n")?;
    ensure!(code == Some(1) && said.contains("refused: the account is locked"), "{said}");
    let (code, said) = run(&["user", "enable", "ann@example.org"], "")?;
    ensure!(code == Some(0), "{said}");
    let (code, said) = run(&["auth", "test", "Ann@example.org"], "another\n")?;
    ensure!(code == Some(0) && said == "ann@example.org: accepted (stored as ARGON2ID)\n", "{said}");
    let (code, said) = run(&["auth", "test", "--json", "ann@example.org"], "other\n")?;
    let tried: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(code == Some(1) && tried["result"] == "refused" && tried["detail"] == "wrong password", "{said}");
    let (code, said) = run(&["auth", "test", "nobody@example.org"], "other\n")?;
    ensure!(code == Some(1) && said == "nobody@example.org: refused: unknown login\n", "{said}");
    let (_, said) = run(&["user", "list", "--json"], "")?;
    let listed: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(listed[0]["login"] == "ann@example.org" && listed[0]["state"] == "enabled", "{said}");
    let (code, said) = run(&["user", "remove", "ann@example.org"], "")?;
    ensure!(code == Some(0), "{said}");
    let (code, said) = run(&["user", "remove", "ann@example.org"], "")?;
    ensure!(code == Some(1), "{said}");
    let (code, said) = run(&["queue", "list"], "")?;
    ensure!(code == Some(0) && said.contains("The queue is empty."), "{said}");
    let (code, said) = run(&["queue", "show", "0000000000000000"], "")?;
    ensure!(code == Some(1) && said.contains("no such message"), "{said}");
    let (code, said) = run(&["check"], "")?;
    ensure!(code == Some(0) && !said.contains("warning: auth.sql"), "{said}");
    if said.contains("summersun") {
        bail!("a password is shown");
    }
    Ok(())
}
