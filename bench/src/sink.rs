//! The destination: Postfix's `smtp-sink`, which takes everything and counts it.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use crate::child::{Child, free_ports};
use crate::cpu;

/// Longest time without one more message until the rest is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Sink {
    child: Child,
    port: u16,
    counter: Arc<Mutex<Counter>>,
}

#[derive(Default)]
struct Counter {
    messages: u64,
    /// When `messages` last changed.
    at: Option<Instant>,
    /// The count waited for, and when it was reached.
    target: u64,
    reached: Option<Instant>,
}

impl Sink {
    pub(crate) async fn start() -> Result<Self> {
        let [port] = free_ports().await?;
        let mut command = Command::new("smtp-sink");
        command.args(["-c", "-m", "2000"]);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        command.args([format!("127.0.0.1:{port}"), "4096".to_owned()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().context("failed to start smtp-sink")?;
        let output = process.stdout.take().context("smtp-sink has no output")?;
        let counter = Arc::new(Mutex::new(Counter::default()));
        let shared = Arc::clone(&counter);
        std::thread::spawn(move || follow(output, &shared));
        let mut child = Child::adopt("smtp-sink", process);
        child.answers(port, "", "220").await?;
        Ok(Self { child, port, counter })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu::seconds(self.child.pid())
    }

    /// Messages received so far.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.counter).messages
    }

    /// From now on, notes the moment at which `more` messages have arrived.
    pub(crate) fn expect(&self, more: u64) {
        let mut counter = lock(&self.counter);
        counter.target = counter.messages + more;
        counter.reached = None;
        counter.at = None;
    }

    /// Waits for the messages of `expect`; returns when the last of them arrived.
    pub(crate) async fn complete(&mut self) -> Result<Instant> {
        let since = Instant::now();
        loop {
            self.child.ensure_running()?;
            let (reached, at, missing) = {
                let counter = lock(&self.counter);
                (counter.reached, counter.at, counter.target.saturating_sub(counter.messages))
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
}

/// Reads the running counters, `sess=3 quit=1 mesg=17` and a carriage return each time, until smtp-sink ends.
fn follow(mut output: impl Read, counter: &Mutex<Counter>) {
    let mut tail = Vec::new();
    let mut chunk = [0; 65_536];
    while let Ok(length @ 1..) = output.read(&mut chunk) {
        let now = Instant::now();
        tail.extend_from_slice(&chunk[..length]);
        let Some(messages) = last_count(&tail) else { continue };
        tail.drain(..tail.len().saturating_sub(200));
        let mut counter = lock(counter);
        counter.messages = messages;
        counter.at = Some(now);
        if messages >= counter.target && counter.target > 0 {
            counter.reached.get_or_insert(now);
        }
    }
}

/// The number in the last complete counter line.
fn last_count(output: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(output);
    let complete = &text[..text.rfind('\r')?];
    let (_, rest) = complete.rsplit_once("mesg=")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// The counter stays usable whatever happened to the other thread.
fn lock(counter: &Mutex<Counter>) -> MutexGuard<'_, Counter> {
    counter.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complete_line_counts() {
        for (output, count) in [
            ("", None),
            ("sess=1 quit=0 mesg=1", None),
            ("sess=1 quit=0 mesg=1\r", Some(1)),
            ("sess=1 quit=0 mesg=1\rsess=1 quit=0 mesg=27\r", Some(27)),
            ("sess=1 quit=0 mesg=27\rsess=1 quit=0 mesg=2", Some(27)),
        ] {
            assert_eq!(last_count(output.as_bytes()), count, "{output:?}");
        }
    }

    #[test]
    fn the_moment_of_the_target_is_kept() {
        let counter = Mutex::new(Counter { target: 2, ..Counter::default() });
        follow(&b"sess=1 quit=0 mesg=1\r"[..], &counter);
        assert!(lock(&counter).reached.is_none());
        follow(&b"sess=1 quit=0 mesg=2\rsess=1 quit=0 mesg=3\r"[..], &counter);
        assert!(lock(&counter).reached.is_some());
        assert_eq!(lock(&counter).messages, 3);
    }
}
