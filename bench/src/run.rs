//! One run: everything is started, measured and taken down again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::cpu;
use crate::load::Load;
use crate::peer::{AUTHORITY, Kind, Peer};
use crate::report::Outcome;
use crate::sink::Sink;
use crate::submission::Clients;

/// What a peer still does after the last message left (removing queue files, logs) belongs to its work.
const BOOKKEEPING: Duration = Duration::from_secs(1);
/// How long to wait for the machine to become quiet before the clock starts.
const QUIET: Duration = Duration::from_secs(20);

pub(crate) async fn once(kind: Kind, load: Load, binaries: &Path, keep: bool) -> Result<Outcome> {
    let mut scratch = tempfile::Builder::new()
        .prefix(&format!("staffetta-bench-{kind}-"))
        .tempdir()
        .context("failed to make a scratch directory")?;
    scratch.disable_cleanup(keep);
    // Declared before the peer, so that it outlives the peer's end.
    let mut sink = Sink::start().await?;
    let peer = Peer::start(kind, scratch.path(), &sink, load, binaries).await?;
    if keep {
        crate::say(&format!("keeping {}", scratch.path().display()))?;
    }
    wait_until_quiet().await;

    let before = Usage::now(&peer, &sink);
    let arrived_before = sink.count();
    sink.expect(load.messages);
    let sent = match load.login {
        None => load.send(peer.port()).await?,
        Some(_) => Clients::new(load, peer.port(), &scratch.path().join(AUTHORITY))?.send(load.sessions).await?,
    };
    let last = sink.complete().await?;
    sleep(BOOKKEEPING).await;
    let after = Usage::now(&peer, &sink);

    let peer_cpu: Vec<_> =
        before.peer.iter().zip(&after.peer).map(|(then, now)| (now.0.to_owned(), now.1 - then.1)).collect();
    let peer_total = peer_cpu.iter().fold(0.0, |total, (_, seconds)| total + seconds);
    let other = after.machine - before.machine - peer_total - sent.cpu_seconds - (after.sink - before.sink);
    let relayed = last.saturating_duration_since(sent.started);
    Ok(Outcome {
        peer: kind,
        load,
        accepted_per_second: load.messages as f64 / sent.took.as_secs_f64(),
        relayed_per_second: load.messages as f64 / relayed.as_secs_f64(),
        login_p99_ms: percentile(&sent.logins, 99).map(|took| took.as_secs_f64() * 1000.0),
        cpu_ms_per_message: peer_total * 1000.0 / load.messages as f64,
        cpu_ms_by_process: peer_cpu
            .into_iter()
            .map(|(name, seconds)| (name, seconds * 1000.0 / load.messages as f64))
            .collect(),
        duplicates: (sink.count() - arrived_before).saturating_sub(load.messages),
        other_share: (other / (after.at - before.at).as_secs_f64() / after.cpus).max(0.0),
    })
}

/// The smallest value that so many in a hundred do not exceed, of sorted ones.
fn percentile(sorted: &[Duration], hundredths: usize) -> Option<Duration> {
    sorted.get((sorted.len() * hundredths).div_ceil(100).checked_sub(1)?).copied()
}

/// CPU seconds so far.
struct Usage {
    at: Instant,
    peer: Vec<(&'static str, f64)>,
    sink: f64,
    machine: f64,
    cpus: f64,
}

impl Usage {
    fn now(peer: &Peer, sink: &Sink) -> Self {
        let (machine, cpus) = cpu::machine();
        Self { at: Instant::now(), peer: peer.cpu_seconds(), sink: sink.cpu_seconds(), machine, cpus }
    }
}

/// Until less than a tenth of the machine was busy for a second, or `QUIET` has passed.
async fn wait_until_quiet() {
    let end = Instant::now() + QUIET;
    while Instant::now() < end {
        let (before, cpus) = cpu::machine();
        sleep(Duration::from_secs(1)).await;
        if cpu::machine().0 - before < 0.1 * cpus {
            return;
        }
    }
}
