//! The Redis under a relay as the pages have it: how it is set up, and how a queue is restored from a copy.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use staffetta_cli::sink::{self, Sink};
use staffetta_testkit::child::Running;
use staffetta_testkit::redis_server::{RedisServer, until};
use staffetta_tests::{Client, Redis, SOON, Service, World, eventually, next, queue_of};

/// The first block of a page in this language behind these words.
fn block(page: &str, behind: &str, language: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(Path::new("..").join(page))?;
    let (_, rest) = text.split_once(behind).with_context(|| format!("{page} does not say: {behind}"))?;
    let (_, rest) = rest.split_once(&format!("```{language}\n")).context("no block")?;
    Ok(rest.split("```").next().unwrap_or_default().to_owned())
}

/// A worker uses it, which makes its queue.
async fn is_fit(folder: &Path, password: Option<&str>) -> anyhow::Result<()> {
    let socket = folder.join("socket");
    eventually(SOON, || async { Redis::connect(&socket).map(drop) }).await?;
    let config = folder.join("staffetta.toml");
    let password = password.map(|password| format!("?pass={password}")).unwrap_or_default();
    fs::write(&config, format!("redis.url = \"unix:{}{password}\"\n", socket.display()))?;
    let counts = queue_of(&config).await?.counts().await?;
    ensure!(counts.messages == 0);
    Ok(())
}

/// Both of them: the file for a system's Redis, and the command.
#[tokio::test]
async fn a_redis_that_is_set_up_as_the_pages_say_is_fit() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (by_file, by_command) = (folder.path().join("file"), folder.path().join("command"));
    fs::create_dir(&by_file)?;
    fs::create_dir(&by_command)?;
    let socket = |folder: &Path| folder.join("socket").display().to_string();

    let lines = block("docs/one-machine.md", "\n## Redis\n", "conf")?;
    let password = lines.lines().find_map(|line| line.strip_prefix("requirepass ")).context("no password")?;
    let file = by_file.join("redis.conf");
    let place = format!("port 0\ndir {}\nunixsocket {}\n", by_file.display(), socket(&by_file));
    fs::write(&file, lines.clone() + &place)?;
    let _by_file = Running::start("redis-server", &[&file], &by_file.join("log"))?;
    is_fit(&by_file, Some(password)).await?;

    let lines = block("docs/operations.md", "\n### On one machine\n", "sh")?;
    let command = lines.lines().find(|line| line.starts_with("redis-server ")).context("no redis-server")?;
    let command = command.replace("--port 6379", &format!("--port 0 --unixsocket {}", socket(&by_command)));
    let command = command.replace("/var/lib/staffetta/redis", &by_command.display().to_string());
    let _by_command = Running::start("sh", &["-c", &format!("exec {command}")], &by_command.join("log"))?;
    is_fit(&by_command, None).await
}

/// A relay with mail for a host that is away.
struct Waiting {
    world: World,
    redis: RedisServer,
    ids: HashSet<String>,
}

const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 77);

impl Waiting {
    async fn start() -> anyhow::Result<Self> {
        let world = World::new().await?;
        let redis = RedisServer::start(&world.folder().join("far"), &[])?;
        let world = world.set("redis.url", format!("\"{}\"", redis.url())).start().await?;
        world.dns.mx("example.com", 10, "mx.example.com").host("mx.example.com", HOST);
        let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
        client.expect("EHLO client.test", 250).await?;
        let mut ids = HashSet::new();
        for n in 0..20 {
            let body = format!("Subject: {n}\r\n\r\n{}", "x".repeat(10_000 * n / 19));
            let accepted = client.send("john@example.org", &["lisa@example.com"], &body).await?;
            ensure!(accepted.code == 250, "{}", accepted.text());
            ids.insert(accepted.text().rsplit(' ').next().unwrap_or_default().to_owned());
        }
        Ok(Self { world, redis, ids })
    }

    /// The host comes, and gets all of it once.
    async fn delivers_all(self) -> anyhow::Result<()> {
        let address = SocketAddr::from((HOST, self.world.mx_port()));
        let mut mx = Sink::start(address, sink::Settings::default()).await?;
        let mut come = HashSet::new();
        while come.len() < self.ids.len() {
            let message = String::from_utf8(next(&mut mx).await?.body.to_vec())?;
            let id = self.ids.iter().find(|id| message.contains(id.as_str())).context("another message")?;
            ensure!(come.insert(id.clone()), "{id} comes twice");
        }
        self.world.until_empty().await?;
        ensure!(mx.count() == u64::try_from(self.ids.len())?, "{} came", mx.count());
        Ok(())
    }
}

/// What the manual says, at this server.
fn back_up(redis: &RedisServer, data: &Path, backup: &Path) -> anyhow::Result<()> {
    let script = block("docs/redis.md", "\n## Backup\n", "sh")?;
    let client = format!("redis-cli -e -p {} ", redis.port().number());
    let script = script.replace("redis-cli ", &client).replace("/data/", &format!("{}/", data.display()));
    let script = script.replace("/backup/", &format!("{}/", backup.display()));
    let output = Command::new("sh").args(["-exc", &script]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The end of the file that grows; a copy that was made while it did may end with half a command.
fn cut_in_the_middle(folder: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "aof") && path.to_string_lossy().contains(".incr.") {
            return Ok(fs::OpenOptions::new().append(true).open(path)?.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nha")?);
        }
    }
    anyhow::bail!("there is no file that grows in {}", folder.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_restored_from_a_copy_of_its_file_as_the_manual_says() -> anyhow::Result<()> {
    let mut waiting = Waiting::start().await?;
    let (data, backup) = (waiting.world.folder().join("far"), waiting.world.folder().join("backup"));
    fs::create_dir(&backup)?;
    back_up(&waiting.redis, &data, &backup)?;
    cut_in_the_middle(&backup.join("appendonlydir"))?;
    // The disk is lost, and services go on by themselves with what is there instead.
    waiting.redis.kill();
    fs::remove_dir_all(data.join("appendonlydir"))?;
    fs::rename(backup.join("appendonlydir"), data.join("appendonlydir"))?;
    waiting.redis.revive()?;
    for service in [Service::Frontend, Service::Auth, Service::Delivery] {
        waiting.world.until_ready(service).await?;
    }
    waiting.delivers_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_restored_from_a_snapshot_as_the_manual_says() -> anyhow::Result<()> {
    let mut waiting = Waiting::start().await?;
    let other = waiting.world.folder().join("other");
    fs::create_dir(&other)?;
    let dump = other.join("dump.rdb").display().to_string();
    waiting.redis.ask(&["--rdb", &dump])?;
    for service in [Service::Frontend, Service::Delivery] {
        waiting.world.kill(service);
    }
    waiting.redis.kill();
    let restored = RedisServer::start(&other, &[("appendonly", "no")])?;
    restored.ask(&["CONFIG", "SET", "appendonly", "yes"])?;
    until("its file is written", || {
        restored.ask(&["INFO", "persistence"]).is_ok_and(|said| said.contains("aof_rewrite_in_progress:0"))
    })?;
    let file = waiting.world.config_file();
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace(&waiting.redis.url(), &restored.url()))?;
    waiting.world.spawn(Service::Delivery)?;
    waiting.world.until_ready(Service::Delivery).await?;
    waiting.delivers_all().await
}
