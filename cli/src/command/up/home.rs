//! The data directory of `staffetta up` without a configuration.
//!
//! It holds `staffetta.toml` (written anew at each start), `users.db`, `tls/`, `redis/` and with `--demo` `sink/`.
//! A lock keeps a second `up` out; the redis-server child ends with this process, however that ends.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::Mode;
use secrecy::ExposeSecret;
use staffetta_config::Config;
use staffetta_queue::server::{LocalServer, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::certificate;
use crate::terminal::say;

/// How long the redis-server of a crashed predecessor may take to end.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// How often it is looked whether redis-server runs; so many times in a row it is started again, if it does not run for so
/// long between them.
const LOOK: Duration = Duration::from_millis(200);
const REVIVALS: u32 = 5;
const CALM: Duration = Duration::from_secs(60);
/// The part of the machine's memory that Redis may use, one in so many; and its least, for a queue that is of any use.
const REDIS_SHARE: usize = 4;
const LEAST_REDIS: usize = 256 << 20;
/// The usual ports, and that of the demonstration's sink.
const PORTS: [u16; 7] = [2525, 2587, 2465, 4250, 9101, 9102, HIGHEST_PORT];
const SINK: u16 = 2526;
/// The highest of the usual ports.
const HIGHEST_PORT: u16 = 9103;

/// The usual ports on loopback, moved up by an offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    offset: u16,
}

impl Ports {
    /// Fails if a port would not fit.
    pub(super) fn new(offset: u16) -> anyhow::Result<Self> {
        if offset > u16::MAX - HIGHEST_PORT {
            bail!("--port-offset {offset} is too large; allowed: 0 to {}", u16::MAX - HIGHEST_PORT);
        }
        Ok(Self { offset })
    }

    /// Fails if some of them are taken, and names all of these.
    fn look(self, demo: bool) -> anyhow::Result<()> {
        let ports = PORTS.iter().chain(demo.then_some(&SINK));
        let addresses = ports.map(|port| self.address(*port)).filter(|address| is_taken(*address));
        let taken: Vec<String> = addresses.map(|address| address.port().to_string()).collect();
        match taken.as_slice() {
            [] => Ok(()),
            [one] => bail!("port {one} is taken; `--port-offset 1000` moves all of them"),
            several => bail!("ports {} are taken; `--port-offset 1000` moves all of them", several.join(", ")),
        }
    }

    fn address(self, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port + self.offset))
    }
}

/// Does somebody listen there?
pub(super) fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// Also where an earlier version, or somebody else, made the directory for all to read.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let only_owner = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    only_owner(folder, 0o700)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            only_owner(&entry.path(), 0o700)?;
        } else if kind.is_file() {
            only_owner(&entry.path(), 0o600)?;
        }
    }
    Ok(())
}

pub(super) struct Home {
    folder: PathBuf,
    ports: Ports,
    redis: LocalServer,
    /// Nothing was there before.
    is_new: bool,
    _lock: File,
}

impl Home {
    /// Takes the directory, starts Redis and writes the configuration.
    pub(super) async fn open(folder: &Path, ports: Ports, demo: bool) -> anyhow::Result<Self> {
        // Accounts and mail are nobody else's business. Redis inherits the mask.
        rustix::process::umask(Mode::from_raw_mode(0o077));
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        make_private(folder).with_context(|| format!("cannot make {} private", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
        let lock = take_lock(&folder)?;
        ports.look(demo)?;
        let certificate = certificate::self_signed(&folder.join("tls"), &["mail.example.org", "localhost"])?;
        let is_new = !folder.join("redis").exists();
        let redis = start_redis(&folder.join("redis")).await?;
        let home = Self { folder, ports, redis, is_new, _lock: lock };
        let text = home.configuration(&certificate, demo);
        fs::write(home.config_file(), text).context("cannot write the configuration")?;
        Ok(home)
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("staffetta.toml")
    }

    /// Makes the queue, if this is the first start. A later one that finds none has lost it, and its services say so.
    pub(super) async fn begin_queue(&self, config: &Config) -> anyhow::Result<()> {
        if self.is_new {
            staffetta_queue::begin(&config.into(), false).await.context("cannot make the queue")?;
        }
        Ok(())
    }

    /// Where the sink keeps what it gets.
    pub(super) fn sink_folder(&self) -> PathBuf {
        self.folder.join("sink")
    }

    /// Where the demo's sink listens.
    pub(super) fn sink_address(&self) -> SocketAddr {
        self.ports.address(SINK)
    }

    /// Looks after Redis: when it ends, by whatever hand, it is started again with its data. Resolves when that is of no use.
    pub(super) async fn keep_redis(&mut self) -> anyhow::Error {
        let mut last = Instant::now();
        let mut in_a_row = 0;
        loop {
            sleep(LOOK).await;
            let end = match self.redis.revive() {
                Ok(None) => continue,
                Ok(Some(end)) => end,
                Err(error) => {
                    return anyhow::Error::new(error).context("redis-server ended and cannot be started again");
                }
            };
            in_a_row = if last.elapsed() > CALM { 1 } else { in_a_row + 1 };
            last = Instant::now();
            if in_a_row > REVIVALS {
                return anyhow::anyhow!("redis-server ends again and again: {end}");
            }
            tracing::warn!(pid = self.redis.pid(), end, "redis-server was started again, with its data");
        }
    }

    /// Stops Redis after everything else.
    pub(super) fn close(self) {
        if let Err(error) = self.redis.stop() {
            tracing::warn!(%error, "redis-server did not stop cleanly");
        }
    }

    /// Says what runs where.
    pub(super) fn describe(&self, config: &Config) {
        say(&format!("Staffetta {} is up.", env!("CARGO_PKG_VERSION")));
        say(&format!("  configuration  {}", self.config_file().display()));
        say(&format!("  queue          redis-server, pid {}, {}", self.redis.pid(), config.redis.url.expose_secret()));
        for listener in &config.frontend.listener {
            say(&format!("  {:<14} {}", listener.name, listener.bind));
        }
        for (name, address) in
            [("frontend", config.frontend.http), ("auth", config.auth.http), ("delivery", config.delivery.http)]
        {
            say(&format!("  {name:<14} http://{address}/readyz"));
        }
        say(&format!("  {:<14} http://{}/metrics", "metrics", config.frontend.http));
    }

    /// A path as a TOML string.
    fn quoted(&self, path: &Path) -> String {
        toml::Value::String(path.to_string_lossy().into_owned()).to_string()
    }

    fn configuration(&self, certificate: &certificate::Files, demo: bool) -> String {
        let certificate_file = self.quoted(&certificate.certificate);
        let key = self.quoted(&certificate.key);
        let redis = toml::Value::String(self.redis.url());
        let users = toml::Value::String(format!("sqlite://{}", self.folder.join("users.db").display()));
        let mut text = format!(
            r#"# Written by `staffetta up` at each start: copy it to make it yours.
hostname = "mail.example.org"

[redis]
url = {redis}
durability = "fsync"

[tls]
certificate = {certificate_file}
key = {key}

[auth]
listen = "{auth}"
http = "{auth_http}"
drain_delay = "0s"

[auth.sql]
url = {users}

[frontend]
http = "{frontend_http}"
auth = "http://{auth}"
drain_delay = "0s"
reject_unknown_recipient_domain = {check_domains}
{postmaster}

[[frontend.listener]]
name = "smtp"
bind = "{smtp}"
kind = "relay"

[[frontend.listener]]
name = "submission"
bind = "{submission}"
kind = "submission"

[[frontend.listener]]
name = "submissions"
bind = "{submissions}"
kind = "submission"
tls = "implicit"

[delivery]
http = "{delivery_http}"
drain_limit = "1m"

[log]
format = "postfix"
level = "warn"
"#,
            check_domains = !demo,
            postmaster = if demo { "postmaster = \"john@example.org\"" } else { "# postmaster = \"you@example.org\"" },
            auth = self.ports.address(4250),
            frontend_http = self.ports.address(9101),
            auth_http = self.ports.address(9102),
            delivery_http = self.ports.address(9103),
            smtp = self.ports.address(2525),
            submission = self.ports.address(2587),
            submissions = self.ports.address(2465),
        );
        if demo {
            text.push_str(&format!(
                "\n# The demonstration: nothing leaves this machine.\n[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n",
                self.sink_address()
            ));
        }
        text
    }
}

/// Without a limit Redis takes mail until the machine has no memory left, and ends; with one, new mail is refused in time
/// (`redis.max_memory_ratio`).
fn memory_for_redis(machine: Option<usize>) -> usize {
    machine.map_or(LEAST_REDIS, |machine| (machine / REDIS_SHARE).max(LEAST_REDIS))
}

/// The server of a crashed predecessor may still be ending.
async fn start_redis(folder: &Path) -> anyhow::Result<LocalServer> {
    let end = Instant::now() + PREDECESSOR;
    let memory = memory_for_redis(staffetta_transport::memory_limit());
    loop {
        let options = Options { port: None, settings: vec![("maxmemory".to_owned(), memory.to_string())] };
        match LocalServer::start_with(folder, options) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome.context("cannot start redis-server"),
        }
    }
}

fn take_lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!("another `staffetta up` runs in {}", folder.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Waits until `/readyz` answers 200 on every endpoint; the error names the first that does not.
pub(super) async fn until_ready(endpoints: &[SocketAddr], limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    for &endpoint in endpoints {
        loop {
            let answer = timeout(Duration::from_secs(2), readiness(endpoint)).await;
            let reason = match answer {
                Ok(Ok(head)) if head.starts_with("HTTP/1.1 200") => break,
                Ok(Ok(head)) => head.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > end {
                bail!("http://{endpoint}/readyz: {reason}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

async fn readiness(endpoint: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_gets_a_quarter_of_the_memory_and_enough() {
        for (machine, expected) in [(Some(8 << 30), 2 << 30), (Some(512 << 20), 256 << 20), (None, 256 << 20)] {
            assert_eq!(memory_for_redis(machine), expected, "{machine:?}");
        }
    }
}
