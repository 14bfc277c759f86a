//! Load generator and side-by-side comparison with Postfix.
//!
//! One run is: a peer in a scratch directory, a load in front of it and a destination behind it, all on loopback. Load and
//! destination are Postfix's `smtp-source` and `smtp-sink`, or, in the scenarios that have to know what became of each message
//! ([`scenario`]), our own ([`traffic`], [`sink`]). Runs are interleaved (every repetition goes once through all cases and
//! peers), because absolute figures drift between minutes while ratios inside one sitting do not. The table holds medians:
//!
//! - accepted/s: messages over the time until the load ended, that is, until each had its `250`;
//! - relayed/s: messages over the time from the same start until the destination had the last one;
//! - connections: those that the destinations took;
//! - delay: from the `250` that the load read to the final dot that a destination read, in milliseconds, the load coming at
//!   a rate that both peers can keep up with, so that it is not the age of a backlog;
//! - CPU ms/msg: user and system time of all processes of the peer, children that have ended included ([`cpu`]);
//! - AUTH p99: with `--login`, in how many milliseconds 99 of 100 logins were answered;
//! - other: the share of the machine that neither the peer nor the load nor the sink took. A run with much of it is
//!   worth little.
//!
//! Staffetta is its three binaries and a `redis-server` with `appendfsync always`; Postfix is a private instance, with a
//! private Dovecot if there are logins to check, and a private OpenDKIM if there is mail to sign.

mod child;
mod cpu;
mod load;
mod peer;
mod report;
mod run;
mod scenario;
mod sink;
mod submission;
mod traffic;
mod wire;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Load, Login};
use crate::peer::Kind;
use crate::report::Report;
use crate::scenario::Scenario;

/// Measures Staffetta beside Postfix on this machine.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_enum, default_value = "relay")]
    scenario: Scenario,
    /// Messages a second, with `--scenario stall`.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Measure only these peers; can be given several times. "ceiling" is the load straight into the sink.
    #[arg(long, value_enum, default_values = ["staffetta", "postfix"])]
    only: Vec<Kind>,
    /// Messages a run.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Size of a message in octets.
    #[arg(long, default_value_t = 5 * 1024)]
    size: u64,
    /// Concurrent SMTP sessions of the load.
    #[arg(long, default_value_t = 20)]
    sessions: u32,
    /// A new connection for every message, instead of as many messages over one as the load has.
    #[arg(long)]
    no_reuse: bool,
    /// Each message from a mail client of its own, with STARTTLS and AUTH PLAIN; Postfix asks a Dovecot.
    #[arg(long, value_enum)]
    login: Option<Login>,
    /// Runs of each peer.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Where the staffetta-* binaries are; by default beside this one.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Append each run as one line of JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keep the scratch directories with configurations and logs.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program starts of itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// The destinations of a run.
    #[command(hide = true)]
    Sink(sink::Options),
}

impl Arguments {
    fn load(&self) -> Load {
        Load {
            messages: self.messages,
            size: self.size,
            sessions: self.sessions,
            reuse: !self.no_reuse,
            rate: (self.scenario == Scenario::Stall).then_some(self.rate),
            login: self.login,
        }
    }

    fn binaries(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.binaries {
            return Ok(directory.clone());
        }
        let own = std::env::current_exe().context("failed to find this program's own path")?;
        Ok(own.parent().context("this program has no directory")?.to_owned())
    }
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "staffetta-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(Part::Sink(options)) = &arguments.part {
        return runtime.block_on(sink::serve(options));
    }
    let alone = arguments.login.is_some() || arguments.no_reuse || arguments.only.contains(&Kind::Ceiling);
    let other = arguments.scenario != Scenario::Relay;
    ensure!(!(alone && other), "--login, --no-reuse and --only ceiling are for --scenario relay");
    let ceiling = arguments.login.is_some() && arguments.only.contains(&Kind::Ceiling);
    ensure!(!ceiling, "--login cannot be used with --only ceiling: nobody would check it");
    let positive = arguments.messages > 0 && arguments.sessions > 0 && arguments.rate > 0;
    ensure!(positive, "--messages, --sessions and --rate must be positive");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the campaign ends its processes and removes its directories.
        tokio::select! {
            done = campaign(arguments) => done,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn campaign(arguments: &Arguments) -> Result<()> {
    let load = arguments.load();
    let binaries = arguments.binaries()?;
    let cases = arguments.scenario.cases();
    let rows: Vec<_> = cases.iter().flat_map(|&case| arguments.only.iter().map(move |&kind| (case, kind))).collect();
    let mut report = Report::new(load, arguments.scenario);
    for repetition in 1..=arguments.repetitions {
        for &(case, kind) in &rows {
            let outcome = run::once(kind, load, case, &binaries, arguments.keep).await;
            let about = || format!("failed to measure {kind} ({case}, repetition {repetition})");
            let outcome = outcome.with_context(about)?;
            say(&format!("{repetition}/{}  {outcome}", arguments.repetitions))?;
            if let Some(path) = &arguments.json {
                report::append(path, &outcome)?;
            }
            report.add(outcome);
        }
    }
    say(&format!("\n{report}"))
}

/// Writes one line to standard output, at once.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
