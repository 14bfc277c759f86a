//! A Redis server on loopback: it dies, stands still, fills its disk, and comes back on what it has there.
//!
//! `redis-cli` does the talking, so that what is tested is not tested by itself. Everything here blocks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use crate::child::Running;
use crate::ports::Port;

/// For what takes a second, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server; killed when dropped.
pub struct RedisServer {
    folder: PathBuf,
    port: Port,
    settings: Vec<(String, String)>,
    environment: Vec<OsString>,
    running: Running,
}

impl RedisServer {
    /// Starts one that syncs its file before each answer, and waits until it answers. `settings`: as in `redis.conf`; they win.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(folder, settings, Vec::new())
    }

    /// The same, with these `NAME=value` in its environment.
    pub fn start_in(folder: &Path, settings: &[(&str, &str)], environment: Vec<OsString>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = Port::reserve()?;
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let running = launch(folder, &port, &settings, &environment)?;
        let server = Self { folder: folder.to_owned(), port, settings, environment, running };
        server.until_it_answers()?;
        Ok(server)
    }

    /// For `redis.url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Its address.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Asks it, in words of `redis-cli`.
    pub fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        ask(&self.port, words)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.running.signal(signal)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.running.kill();
    }

    /// Has it ended?
    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// Starts it again on what it has on its disk.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.running = launch(&self.folder, &self.port, &self.settings, &self.environment)?;
        self.until_it_answers()
    }

    /// The same, with these `NAME=value` in its environment from now on.
    pub fn revive_in(&mut self, environment: Vec<OsString>) -> anyhow::Result<()> {
        self.environment = environment;
        self.revive()
    }

    fn until_it_answers(&self) -> anyhow::Result<()> {
        until("a server answers", || self.ask(&["PING"]).is_ok_and(|said| said == "PONG"))
    }
}

/// A Sentinel whose word is enough; killed when dropped.
pub struct Sentinel {
    port: Port,
    _running: Running,
}

impl Sentinel {
    /// Starts one that watches the primary at this port of loopback, under the name `mail`. `more`: lines of its configuration.
    pub fn start(folder: &Path, primary: u16, more: &str) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let file = folder.join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor mail 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds mail 1500\nsentinel failover-timeout mail 3000\n{more}",
            port.number(),
            folder.display()
        );
        std::fs::write(&file, text)?;
        let arguments = [file.into_os_string(), "--sentinel".into()];
        let running = Running::start("redis-server", &arguments, &folder.join("sentinel.log"))?;
        Ok(Self { port, _running: running })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port of the primary, if it answers.
    pub fn primary(&self) -> Option<u16> {
        let said = ask(&self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mail"]).ok()?;
        said.lines().nth(1)?.parse().ok()
    }

    /// How many replicas it knows.
    pub fn replicas(&self) -> usize {
        let said = ask(&self.port, &["SENTINEL", "REPLICAS", "mail"]).unwrap_or_default();
        said.lines().filter(|line| *line == "runid").count()
    }
}

/// Asks a server or a Sentinel; one that stands still does not answer.
pub(crate) fn ask(port: &Port, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("timeout");
    command.args(["5", "redis-cli", "-e", "-p", &port.number().to_string()]).args(words).stdin(Stdio::null());
    let output = command.output().context("cannot run redis-cli")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    ensure!(output.status.success(), "{words:?} at port {}: {said}", port.number());
    Ok(said)
}

/// Waits until it is so.
pub fn until(what: &str, good: impl Fn() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !good() {
        ensure!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn launch(
    folder: &Path,
    port: &Port,
    settings: &[(String, String)],
    environment: &[OsString],
) -> anyhow::Result<Running> {
    let port = port.number().to_string();
    let mut arguments = environment.to_vec();
    arguments.extend(["redis-server".into(), "--dir".into(), folder.into()]);
    let more = settings.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in [("port", &*port)].into_iter().chain(DEFAULTS).chain(more) {
        arguments.extend([format!("--{name}").into(), value.into()]);
    }
    // It becomes the server, and keeps its process id.
    Running::start("env", &arguments, &folder.join("redis.log"))
}

const DEFAULTS: [(&str, &str); 8] = [
    ("bind", "127.0.0.1"),
    ("save", ""),
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("maxmemory-policy", "noeviction"),
    ("repl-diskless-sync-delay", "0"),
    ("repl-ping-replica-period", "1"),
    ("daemonize", "no"),
];
