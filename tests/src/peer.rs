//! What real mail servers have in common when they are the next hop: each keeps what it takes, and can be killed.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use staffetta_testkit::child::Running;
use staffetta_testkit::ports::Port;

use crate::SOON;

const PAUSE: Duration = Duration::from_millis(20);

/// A mail server in a scratch folder; it ends with it.
pub trait Peer: Send {
    /// The messages in its own store. Of one with many recipients it may have a copy for each.
    ///
    /// # Errors
    /// If they cannot be read.
    fn kept(&self) -> anyhow::Result<Vec<Kept>>;

    /// What it has written down of envelopes beside the recipients, in its own words.
    ///
    /// # Errors
    /// If it cannot be read.
    fn envelopes(&self) -> anyhow::Result<String> {
        Ok(String::new())
    }

    /// What it has logged.
    fn log(&self) -> String;

    /// What kills it and starts it again.
    fn power(&mut self) -> &mut dyn Power;
}

/// A server's processes.
pub trait Power {
    /// Kills them all at once, as a power cut would.
    fn kill(&mut self);

    /// Starts the server after [`Power::kill`], with what it had stored.
    ///
    /// # Errors
    /// With its log, if it does not start.
    fn up(&mut self) -> anyhow::Result<()>;
}

/// A message in the store of a peer.
#[derive(Debug)]
pub struct Kept {
    /// Whom it is for.
    pub recipients: Vec<String>,
    /// Header and body, with line ends of Unix.
    pub content: Vec<u8>,
}

impl Kept {
    /// What comes behind the first empty line.
    pub fn body(&self) -> &[u8] {
        let end = self.content.windows(2).position(|pair| pair == b"\n\n");
        end.and_then(|end| self.content.get(end + 2..)).unwrap_or_default()
    }
}

/// The messages that have come to maildirs, each named by the local part of its owner at example.com.
pub(crate) fn maildirs(folder: &Path) -> anyhow::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for maildir in fs::read_dir(folder)? {
        let maildir = maildir?;
        let recipient = format!("{}@example.com", maildir.file_name().to_string_lossy());
        // It is made with the first message.
        for file in fs::read_dir(maildir.path().join("new")).into_iter().flatten() {
            kept.push(Kept { recipients: vec![recipient.clone()], content: fs::read(file?.path())? });
        }
    }
    Ok(kept)
}

/// Where `scripts/setup` has unpacked something.
pub(crate) fn unpacked(path: &str, setup: &str) -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let cache = folder("STAFFETTA_CACHE").or_else(|| Some(caches()?.join("staffetta")));
    let program = cache.map(|cache| cache.join(path)).filter(|path| path.exists());
    program.with_context(|| format!("no {path}: `scripts/setup {setup}` brings it"))
}

/// A server whose processes, however many it starts, are in a namespace of their own and end together. What it mounts
/// nobody else sees.
pub(crate) struct Daemon {
    script: String,
    log: PathBuf,
    ports: Vec<u16>,
    running: Option<Running>,
}

impl Daemon {
    /// Starts it with a script of `sh`, as root, and waits until it listens on these ports.
    pub(crate) fn start(script: &str, log: PathBuf, ports: &[&Port]) -> anyhow::Result<Self> {
        // The shell stays, as the process whose end is that of all others.
        let script = format!("set -e\n{script}\nexit 1");
        let ports = ports.iter().map(|port| port.number()).collect();
        let mut daemon = Self { script, log, ports, running: None };
        daemon.up()?;
        Ok(daemon)
    }

    /// What it wrote to its output since it started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Power for Daemon {
    fn kill(&mut self) {
        self.running = None;
        // The kernel closes what they had open.
        let end = Instant::now() + SOON;
        while self.ports.iter().any(|port| is_open(*port)) && Instant::now() < end {
            std::thread::sleep(PAUSE);
        }
    }

    fn up(&mut self) -> anyhow::Result<()> {
        let apart = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c", &self.script];
        let mut running = Running::start("unshare", &apart, &self.log)?;
        let end = Instant::now() + SOON;
        while !self.ports.iter().all(|port| is_open(*port)) {
            ensure!(Instant::now() < end && running.is_running(), "no answer: {}", self.log());
            std::thread::sleep(PAUSE);
        }
        self.running = Some(running);
        Ok(())
    }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
