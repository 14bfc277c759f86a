//! One run: everything is started, measured and taken down again.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::cpu;
use crate::load::Load;
use crate::peer::{AUTHORITY, Kind, Peer};
use crate::report::Outcome;
use crate::scenario::{Case, Scenario};
use crate::sink::{Arrival, Log, Sink};
use crate::submission::Clients;
use crate::traffic;

/// What a peer still does after the last message left (removing queue files, logs) belongs to its work.
const BOOKKEEPING: Duration = Duration::from_secs(1);
/// How long to wait for the machine to become quiet before the clock starts.
const QUIET: Duration = Duration::from_secs(20);

pub(crate) async fn once(kind: Kind, load: Load, case: Case, binaries: &Path, keep: bool) -> Result<Outcome> {
    let mut scratch = tempfile::Builder::new()
        .prefix(&format!("staffetta-bench-{kind}-"))
        .tempdir()
        .context("failed to make a scratch directory")?;
    scratch.disable_cleanup(keep);
    // Declared before the peer, so that it outlives the peer's end.
    let mut sink = Sink::start(case, scratch.path()).await?;
    let peer = Peer::start(kind, scratch.path(), &sink, load, case, binaries).await?;
    if keep {
        crate::say(&format!("keeping {}", scratch.path().display()))?;
    }
    wait_until_quiet().await;

    let before = Usage::now(&peer, &sink);
    let arrived_before = sink.count();
    let arriving = case.arriving(load.messages);
    sink.expect(arriving);
    let sent = match (case.scenario, load.login) {
        (Scenario::Relay, None) => load.send(peer.port()).await?,
        (Scenario::Relay, Some(_)) => {
            Clients::new(load, peer.port(), &scratch.path().join(AUTHORITY))?.send(load.sessions).await?
        }
        _ => traffic::send(load, case, peer.port()).await?,
    };
    let last = sink.complete().await?;
    sleep(BOOKKEEPING).await;
    let after = Usage::now(&peer, &sink);
    let log = sink.log();
    ensure_treated(case, &log)?;
    // At full speed it would be the age of the backlog.
    let delays = load.rate.map(|_| delays(case, &sent.accepted, &log.arrivals)).unwrap_or_default();

    let peer_cpu: Vec<_> =
        before.peer.iter().zip(&after.peer).map(|(then, now)| (now.0.to_owned(), now.1 - then.1)).collect();
    let peer_total = peer_cpu.iter().fold(0.0, |total, (_, seconds)| total + seconds);
    let other = after.machine - before.machine - peer_total - sent.cpu_seconds - (after.sink - before.sink);
    let relayed = last.saturating_duration_since(sent.started);
    Ok(Outcome {
        peer: kind,
        load,
        case,
        accepted_per_second: load.messages as f64 / sent.took.as_secs_f64(),
        relayed_per_second: arriving as f64 / relayed.as_secs_f64(),
        login_p99_ms: percentile_ms(&sent.logins, 99),
        connections: (case.scenario != Scenario::Relay).then_some(log.connections),
        delay_median_ms: percentile_ms(&delays, 50),
        delay_p99_ms: percentile_ms(&delays, 99),
        cpu_ms_per_message: peer_total * 1000.0 / load.messages as f64,
        cpu_ms_by_process: peer_cpu
            .into_iter()
            .map(|(name, seconds)| (name, seconds * 1000.0 / load.messages as f64))
            .collect(),
        duplicates: (sink.count() - arrived_before).saturating_sub(arriving),
        other_share: (other / (after.at - before.at).as_secs_f64() / after.cpus).max(0.0),
    })
}

/// A relay that passes mail on without what the case is about would be measured at something else.
fn ensure_treated(case: Case, log: &Log) -> Result<()> {
    let all = |treated: fn(&Arrival) -> bool| log.arrivals.iter().all(treated);
    ensure!(!case.encrypts() || all(|arrival| arrival.encrypted), "mail came in clear");
    ensure!(!case.signs() || all(|arrival| arrival.signed), "mail came without a signature");
    Ok(())
}

/// From the `250` to the first arrival, shortest first; 0 if it arrived before its `250` was read. What goes to the destination
/// that stalls is left out, also when it does not.
fn delays(case: Case, accepted: &[(u64, Duration)], arrivals: &[Arrival]) -> Vec<Duration> {
    let mut first = HashMap::new();
    for arrival in arrivals.iter().filter(|arrival| case.healthy(arrival.number)) {
        first.entry(arrival.number).or_insert(arrival.at);
    }
    let delay = |(number, at): &(u64, Duration)| Some(first.get(number)?.saturating_sub(*at));
    let mut delays: Vec<_> = accepted.iter().filter_map(delay).collect();
    delays.sort_unstable();
    delays
}

/// The smallest value that so many in a hundred do not exceed, of sorted ones, in milliseconds.
fn percentile_ms(sorted: &[Duration], hundredths: usize) -> Option<f64> {
    let value = sorted.get((sorted.len() * hundredths).div_ceil(100).checked_sub(1)?)?;
    Some(value.as_secs_f64() * 1000.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_first_arrivals_at_healthy_destinations() {
        let arrival = |number, ms| Arrival { number, at: Duration::from_millis(ms), encrypted: false, signed: false };
        let case = Scenario::Stall.cases()[0];
        let (healthy, stalling): (Vec<_>, Vec<_>) = (0..100).partition(|&number| case.healthy(number));
        let [early, usual, lost] = healthy[..3] else { unreachable!("nine of ten are healthy") };
        let accepted = [(early, 10), (usual, 20), (lost, 30), (stalling[0], 40)]
            .map(|(number, ms)| (number, Duration::from_millis(ms)));
        let arrivals = [arrival(stalling[0], 99), arrival(usual, 50), arrival(early, 5), arrival(usual, 500)];
        let found = delays(case, &accepted, &arrivals);
        assert_eq!(found, [0, 30].map(Duration::from_millis));
        assert_eq!(percentile_ms(&found, 50), Some(0.0));
        assert_eq!(percentile_ms(&found, 99), Some(30.0));
    }
}
