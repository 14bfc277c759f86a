//! Where the mail goes: Postfix's `smtp-sink`, which counts it, or destinations of our own, which say what came, when.

mod dialog;
mod server;
mod smtp_sink;

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use staffetta_testkit::certs::Authority;
use tokio::time::sleep;

pub(crate) use self::server::{Arrival, Options, serve};
use crate::child::{Child, free_ports};
use crate::cpu;
use crate::scenario::{Case, Scenario};

/// Longest time without one more message until the rest is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time, as two processes on one machine have it: only differences mean anything.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) struct Sink {
    child: Child,
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    messages: u64,
    /// When `messages` last changed.
    at: Option<Instant>,
    /// The count waited for, and when it was reached.
    target: u64,
    reached: Option<Instant>,
    /// What destinations of our own have said since the last [`Sink::expect`].
    log: Log,
}

/// What came to destinations of our own.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) connections: u64,
    /// In the order in which they came.
    pub(crate) arrivals: Vec<Arrival>,
}

impl Seen {
    fn counted(&mut self, messages: u64, now: Instant) {
        self.messages = messages;
        self.at = Some(now);
        if messages >= self.target && self.target > 0 {
            self.reached.get_or_insert(now);
        }
    }
}

impl Sink {
    pub(crate) async fn start(case: Case, scratch: &Path) -> Result<Self> {
        let [port] = free_ports().await?;
        let (name, mut command, follow): (_, _, fn(_, &_)) = match case.scenario {
            Scenario::Relay => ("smtp-sink", smtp_sink::command(port), smtp_sink::follow),
            _ => ("destinations", destinations(port, case, scratch)?, follow),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut process = command.spawn().with_context(|| format!("failed to start {name}"))?;
        let output = process.stdout.take().with_context(|| format!("{name} has no output"))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || follow(output, &shared));
        let mut child = Child::adopt(name, process);
        child.answers(port, "", "220").await?;
        Ok(Self { child, port, seen })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu::seconds(self.child.pid())
    }

    /// Messages received so far.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.seen).messages
    }

    /// From now on, notes the moment at which `more` messages have arrived.
    pub(crate) fn expect(&self, more: u64) {
        let mut seen = lock(&self.seen);
        *seen = Seen { messages: seen.messages, target: seen.messages + more, ..Seen::default() };
    }

    /// Waits for the messages of `expect`; returns when the last of them arrived.
    pub(crate) async fn complete(&mut self) -> Result<Instant> {
        let since = Instant::now();
        loop {
            self.child.ensure_running()?;
            let (reached, at, missing) = {
                let seen = lock(&self.seen);
                (seen.reached, seen.at, seen.target.saturating_sub(seen.messages))
            };
            if let Some(reached) = reached {
                return Ok(reached);
            }
            if at.unwrap_or(since).max(since).elapsed() > PATIENCE {
                bail!("{missing} messages did not arrive");
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What came since `expect`; of `smtp-sink` nothing is known.
    pub(crate) fn log(&self) -> Log {
        lock(&self.seen).log.clone()
    }
}

/// This program again, as the destinations of a case.
fn destinations(port: u16, case: Case, scratch: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("failed to find this program's own path")?);
    command.args(["sink", "--port", &port.to_string(), "--destinations", &case.destinations.to_string()]);
    command.args(["--late", &case.late().as_millis().to_string()]);
    if let Some(stage) = case.stall.and_then(|stage| stage.to_possible_value()) {
        command.args(["--stall", stage.get_name()]);
    }
    if case.encrypts() {
        let leaf = Authority::new(scratch)?.leaf("sink", &["sink.bench.test"])?;
        command.arg("--tls").arg(leaf.certificate).arg(leaf.key);
    }
    Ok(command)
}

/// Reads what destinations of our own say, until they end.
fn follow(output: impl Read, seen: &Mutex<Seen>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Ok(event) = serde_json::from_str(&line) else { continue };
        let mut seen = lock(seen);
        match event {
            server::Event::Connected => seen.log.connections += 1,
            server::Event::Arrived(arrival) => {
                let messages = seen.messages + 1;
                seen.counted(messages, Instant::now());
                seen.log.arrivals.push(arrival);
            }
        }
    }
}

/// What was seen stays usable whatever happened to the other thread.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
