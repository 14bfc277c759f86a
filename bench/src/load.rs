//! The load: Postfix's `smtp-source`, which sends its messages as fast as they are taken.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tokio::process::Command;

use crate::cpu;

/// Who sends it, unless somebody logs in.
pub(crate) const SENDER: &str = "from@client.bench.test";
/// The domain that every message goes to, where there is only one.
pub(crate) const DESTINATION: &str = "dest.bench.test";

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    /// Octets of a message.
    pub(crate) size: u64,
    pub(crate) sessions: u32,
    /// Many messages over one connection.
    pub(crate) reuse: bool,
    /// Messages a second, instead of as many as are taken.
    pub(crate) rate: Option<u32>,
    /// The load comes from mail clients that log in, see [`crate::submission`].
    pub(crate) login: Option<Login>,
}

/// Whether the relay may remember that a password was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Login {
    Cached,
    Uncached,
}

pub(crate) struct Sent {
    pub(crate) started: Instant,
    pub(crate) took: Duration,
    pub(crate) cpu_seconds: f64,
    /// How long each AUTH took, shortest first.
    pub(crate) logins: Vec<Duration>,
    /// When each message had its `250`, by its number, see [`crate::sink::now`]; only of [`crate::traffic`].
    pub(crate) accepted: Vec<(u64, Duration)>,
}

impl Load {
    /// Sends everything to `port`; returns when each message has its `250`, fails when one was refused.
    pub(crate) async fn send(&self, port: u16) -> Result<Sent> {
        let mut command = Command::new("smtp-source");
        // -N: no two recipients are the same
        command.args(["-N", "-M", "client.bench.test", "-f", SENDER, "-t"]);
        command.arg(format!("to@{DESTINATION}"));
        command.args(["-s", &self.sessions.to_string(), "-l", &self.size.to_string()]);
        command.args(["-m", &self.messages.to_string()]);
        if self.reuse {
            command.arg("-d");
        }
        command.arg(format!("127.0.0.1:{port}")).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let cpu_before = cpu::of_ended_children();
        let started = Instant::now();
        let output = command.output().await.context("failed to start smtp-source")?;
        let took = started.elapsed();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "smtp-source failed ({}): {}", output.status, complaint.trim());
        let cpu_seconds = cpu::of_ended_children() - cpu_before;
        Ok(Sent { started, took, cpu_seconds, logins: Vec::new(), accepted: Vec::new() })
    }
}
