//! A process that we started: it logs into a file, and ends when its owner is dropped, with all its descendants.
//!
//! Each is the leader of a process group, so that Ctrl-C in a terminal reaches only this program, which then ends them in
//! order: the shell around Postfix' master would be gone first otherwise, and the master nobody's child.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::cpu;

/// How long a process may take for its ordered end; Postfix waits for its children.
const GRACE: Duration = Duration::from_secs(15);
/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(30);

pub(crate) struct Child {
    name: &'static str,
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command` with both its outputs in `directory/name.log`.
    pub(crate) fn start(name: &'static str, directory: &Path, mut command: Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let process = command.spawn().with_context(|| format!("failed to start {:?}", command.get_program()))?;
        Ok(Self { name, process, log })
    }

    /// Takes over a process whose outputs somebody else reads.
    pub(crate) fn adopt(name: &'static str, process: std::process::Child) -> Self {
        Self { name, process, log: PathBuf::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Fails with the end of its log if the process has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}){}", self.name, self.last_words()),
        }
    }

    /// Waits until the process answers on `port` with a line that starts with `greeting`, after `hello` was sent.
    pub(crate) async fn answers(&mut self, port: u16, hello: &str, greeting: &str) -> Result<()> {
        self.wait_until(port, async || first_line(port, hello).await.is_ok_and(|line| line.starts_with(greeting))).await
    }

    /// Waits until the process takes connections on `port`.
    pub(crate) async fn listens(&mut self, port: u16) -> Result<()> {
        self.wait_until(port, async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()).await
    }

    async fn wait_until(&mut self, port: u16, what: impl AsyncFn() -> bool) -> Result<()> {
        let end = Instant::now() + START;
        while Instant::now() < end {
            self.ensure_running()?;
            if timeout(Duration::from_secs(2), what()).await == Ok(true) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not answer on port {port}{}", self.name, self.last_words())
    }

    /// The end of its log, for an error message.
    fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(10).collect();
        lines.iter().rev().fold(String::new(), |all, line| format!("{all}\n    {line}"))
    }

    /// Reaps the process itself first: it counts as living until then.
    fn any_lives(&mut self, family: &[u32]) -> bool {
        let _ = self.process.try_wait();
        family.iter().any(|&pid| cpu::lives(pid))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not the process alone: `postfix start-fg` is a shell, and would leave its master behind.
        let family = cpu::family(self.pid());
        family.iter().for_each(|&pid| signal(pid, Signal::TERM));
        let end = Instant::now() + GRACE;
        while self.any_lives(&family) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        family.iter().filter(|&&pid| cpu::lives(pid)).for_each(|&pid| signal(pid, Signal::KILL));
        // An error means that somebody else reaped it, which is as good.
        let _ = self.process.wait();
    }
}

/// A process that has just ended by itself is no error.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

async fn first_line(port: u16, hello: &str) -> std::io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?);
    stream.write_all(hello.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if hello.is_empty() {
        // An SMTP server; a client that just goes away would be an entry in its log.
        stream.write_all(b"QUIT\r\n").await?;
        stream.read_line(&mut String::new()).await?;
    }
    Ok(line)
}

/// `N` ports of loopback that nobody listens on, all different.
pub(crate) async fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
