//! What was measured, as a line, as JSON and as a table of medians.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::{Load, Login};
use crate::peer::Kind;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) peer: Kind,
    pub(crate) load: Load,
    pub(crate) accepted_per_second: f64,
    pub(crate) relayed_per_second: f64,
    pub(crate) cpu_ms_per_message: f64,
    /// 99 of 100 logins were answered in so many milliseconds.
    pub(crate) login_p99_ms: Option<f64>,
    /// Each process that was started, with its descendants.
    pub(crate) cpu_ms_by_process: Vec<(String, f64)>,
    /// Messages that arrived more often than once.
    pub(crate) duplicates: u64,
    /// Share of the machine that went elsewhere meanwhile.
    pub(crate) other_share: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<9}  {:>6.0} accepted/s  {:>6.0} relayed/s  {:>6.3} CPU ms/msg  {:>3.0} % other",
            self.peer,
            self.accepted_per_second,
            self.relayed_per_second,
            self.cpu_ms_per_message,
            self.other_share * 100.0
        )?;
        if self.cpu_ms_by_process.len() > 1 {
            let parts: Vec<_> = self.cpu_ms_by_process.iter().map(|(name, cpu)| format!("{name} {cpu:.3}")).collect();
            write!(f, "  ({})", parts.join(", "))?;
        }
        if let Some(login) = self.login_p99_ms {
            write!(f, "  AUTH p99 {login:.1} ms")?;
        }
        if self.duplicates > 0 {
            write!(f, "  {} duplicates", self.duplicates)?;
        }
        Ok(())
    }
}

/// Adds a run to a file, one object a line.
pub(crate) fn append(path: &Path, outcome: &Outcome) -> Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    Ok(writeln!(file, "{}", serde_json::to_string(outcome)?)?)
}

/// All runs of one sitting.
pub(crate) struct Report {
    load: Load,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(load: Load) -> Self {
        Self { load, outcomes: Vec::new() }
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// The peers in the order of their first run.
    fn peers(&self) -> Vec<Kind> {
        let mut peers = Vec::new();
        for outcome in &self.outcomes {
            if !peers.contains(&outcome.peer) {
                peers.push(outcome.peer);
            }
        }
        peers
    }

    fn values(&self, peer: Kind, value: fn(&Outcome) -> f64) -> Vec<f64> {
        let mut values: Vec<_> = self.outcomes.iter().filter(|outcome| outcome.peer == peer).map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { messages, size, sessions, reuse, login } = self.load;
        let connections = match login {
            Some(Login::Cached) => "one connection a message with STARTTLS and AUTH, the login cached",
            Some(Login::Uncached) => "one connection a message with STARTTLS and AUTH, the password checked each time",
            None if reuse => "connections reused",
            None => "one connection a message",
        };
        writeln!(f, "{messages} messages of {size} octets, {sessions} sessions, {connections}; median (min–max)\n")?;
        writeln!(f, "| peer | runs | accepted/s | relayed/s | CPU ms/msg | other |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for peer in self.peers() {
            let accepted = self.values(peer, |outcome| outcome.accepted_per_second);
            let relayed = self.values(peer, |outcome| outcome.relayed_per_second);
            let cpu = self.values(peer, |outcome| outcome.cpu_ms_per_message);
            let other = self.values(peer, |outcome| outcome.other_share);
            writeln!(
                f,
                "| {peer} | {} | {} | {} | {} | {} |",
                accepted.len(),
                spread(&accepted, 0),
                spread(&relayed, 0),
                spread(&cpu, 3),
                spread(&other, 2)
            )?;
        }
        self.write_ratios(f)
    }
}

impl Report {
    /// Staffetta by Postfix, when both were measured.
    fn write_ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |value: fn(&Outcome) -> f64| {
            let ours = median(&self.values(Kind::Staffetta, value))?;
            let theirs = median(&self.values(Kind::Postfix, value))?;
            Some(ours / theirs)
        };
        let accepted = ratio(|outcome| outcome.accepted_per_second);
        let relayed = ratio(|outcome| outcome.relayed_per_second);
        let cpu = ratio(|outcome| outcome.cpu_ms_per_message);
        let (Some(accepted), Some(relayed), Some(cpu)) = (accepted, relayed, cpu) else { return Ok(()) };
        writeln!(
            f,
            "\nStaffetta accepts {accepted:.1} × and relays {relayed:.1} × as many messages a second as Postfix, \
             for {cpu:.2} × the CPU time a message."
        )
    }
}

/// The middle of sorted values; of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((upper + lower) / 2.0)
}

/// `median (min–max)`.
fn spread(sorted: &[f64], digits: usize) -> String {
    match (median(sorted), sorted) {
        (Some(median), [min, .., max]) => format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
        (Some(median), _) => format!("{median:.digits$}"),
        (None, _) => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[1.0, 2.0][..], Some(1.5)),
            (&[1.0, 2.0, 9.0][..], Some(2.0)),
            (&[1.0, 2.0, 4.0, 9.0][..], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_table_names_the_ratio_only_when_both_were_measured() {
        let load = Load { messages: 10, size: 5, sessions: 2, reuse: true, login: None };
        let outcome = |peer, rate| Outcome {
            peer,
            load,
            accepted_per_second: rate,
            relayed_per_second: rate,
            cpu_ms_per_message: 100.0 / rate,
            login_p99_ms: None,
            cpu_ms_by_process: Vec::new(),
            duplicates: 0,
            other_share: 0.0,
        };
        let mut report = Report::new(load);
        report.add(outcome(Kind::Postfix, 100.0));
        assert!(!report.to_string().contains('×'));
        report.add(outcome(Kind::Staffetta, 400.0));
        assert!(report.to_string().contains("relays 4.0 ×"), "{report}");
        assert!(report.to_string().contains("0.25 × the CPU time"), "{report}");
    }
}
