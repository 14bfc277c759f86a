//! What was measured, as a line, as JSON and as a table of medians.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::{Load, Login};
use crate::peer::Kind;
use crate::scenario::{Case, Scenario};

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) peer: Kind,
    pub(crate) load: Load,
    pub(crate) case: Case,
    pub(crate) accepted_per_second: f64,
    pub(crate) relayed_per_second: f64,
    pub(crate) cpu_ms_per_message: f64,
    /// 99 of 100 logins were answered in so many milliseconds.
    pub(crate) login_p99_ms: Option<f64>,
    /// Those that the destinations took; of `smtp-sink` it is not known.
    pub(crate) connections: Option<u64>,
    /// From acceptance to arrival, of messages to destinations beside the one that stalls.
    pub(crate) delay_median_ms: Option<f64>,
    pub(crate) delay_p99_ms: Option<f64>,
    /// Each process that was started, with its descendants.
    pub(crate) cpu_ms_by_process: Vec<(String, f64)>,
    /// Messages that arrived more often than once.
    pub(crate) duplicates: u64,
    /// Share of the machine that went elsewhere meanwhile.
    pub(crate) other_share: f64,
}

/// What the table, and the line of a run, say of it. Where messages come at a given rate, those rates say nothing.
struct Column {
    title: &'static str,
    digits: usize,
    value: fn(&Outcome) -> Option<f64>,
}

const COLUMNS: [Column; 8] = [
    Column { title: "accepted/s", digits: 0, value: |run| run.load.rate.is_none().then_some(run.accepted_per_second) },
    Column { title: "relayed/s", digits: 0, value: |run| run.load.rate.is_none().then_some(run.relayed_per_second) },
    Column { title: "delay median ms", digits: 1, value: |run| run.delay_median_ms },
    Column { title: "delay p99 ms", digits: 1, value: |run| run.delay_p99_ms },
    Column { title: "connections", digits: 0, value: |run| Some(run.connections? as f64) },
    Column { title: "AUTH p99 ms", digits: 1, value: |run| run.login_p99_ms },
    Column { title: "CPU ms/msg", digits: 3, value: |run| Some(run.cpu_ms_per_message) },
    Column { title: "other", digits: 2, value: |run| Some(run.other_share) },
];

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}  {:<18}", self.peer, self.case)?;
        for Column { title, digits, value } in &COLUMNS {
            if let Some(value) = value(self) {
                write!(f, "  {value:>6.digits$} {title}")?;
            }
        }
        if self.cpu_ms_by_process.len() > 1 {
            let parts: Vec<_> = self.cpu_ms_by_process.iter().map(|(name, cpu)| format!("{name} {cpu:.3}")).collect();
            write!(f, "  ({})", parts.join(", "))?;
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
    scenario: Scenario,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(load: Load, scenario: Scenario) -> Self {
        Self { load, scenario, outcomes: Vec::new() }
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Cases and peers in the order of their first run.
    fn rows(&self) -> Vec<(Case, Kind)> {
        let mut rows = Vec::new();
        for outcome in &self.outcomes {
            if !rows.contains(&(outcome.case, outcome.peer)) {
                rows.push((outcome.case, outcome.peer));
            }
        }
        rows
    }

    /// Of the runs of a row that have such a value, sorted.
    fn values(&self, row: (Case, Kind), value: fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        let runs = self.outcomes.iter().filter(|outcome| (outcome.case, outcome.peer) == row);
        let mut values: Vec<_> = runs.filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { messages, size, sessions, reuse, rate, login } = self.load;
        let connections = match login {
            Some(Login::Cached) => "one connection a message with STARTTLS and AUTH, the login cached",
            Some(Login::Uncached) => "one connection a message with STARTTLS and AUTH, the password checked each time",
            None if reuse => "connections reused",
            None => "one connection a message",
        };
        let rate = rate.map_or_else(String::new, |rate| format!(", {rate} messages a second"));
        writeln!(
            f,
            "{messages} messages of {size} octets, {sessions} sessions, {connections}{rate}; median (min–max)\n"
        )?;
        self.write_table(f)?;
        self.scenario.cases().into_iter().try_for_each(|case| self.write_ratios(f, case))
    }
}

impl Report {
    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = COLUMNS
            .iter()
            .filter(|column| self.outcomes.iter().any(|outcome| (column.value)(outcome).is_some()))
            .collect();
        let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
        writeln!(f, "| case | peer | runs | {} |\n|---|---|---{}|", titles.join(" | "), "|---".repeat(titles.len()))?;
        for row in self.rows() {
            let cells = columns.iter().map(|column| spread(&self.values(row, column.value), column.digits));
            let runs = self.outcomes.iter().filter(|outcome| (outcome.case, outcome.peer) == row).count();
            writeln!(f, "| {} | {} | {runs} | {} |", row.0, row.1, cells.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }

    /// Staffetta by Postfix, when both were measured, and as fast as they could.
    fn write_ratios(&self, f: &mut fmt::Formatter<'_>, case: Case) -> fmt::Result {
        if self.load.rate.is_some() {
            return Ok(());
        }
        let ratio = |value: fn(&Outcome) -> Option<f64>| {
            let ours = median(&self.values((case, Kind::Staffetta), value))?;
            let theirs = median(&self.values((case, Kind::Postfix), value))?;
            Some(ours / theirs)
        };
        let accepted = ratio(|outcome| Some(outcome.accepted_per_second));
        let relayed = ratio(|outcome| Some(outcome.relayed_per_second));
        let cpu = ratio(|outcome| Some(outcome.cpu_ms_per_message));
        let (Some(accepted), Some(relayed), Some(cpu)) = (accepted, relayed, cpu) else { return Ok(()) };
        writeln!(
            f,
            "\n{case}: Staffetta accepts {accepted:.1} × and relays {relayed:.1} × as many messages a second as Postfix, \
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

    fn outcome(peer: Kind, load: Load, case: Case, rate: f64) -> Outcome {
        Outcome {
            peer,
            load,
            case,
            accepted_per_second: rate,
            relayed_per_second: rate,
            cpu_ms_per_message: 100.0 / rate,
            login_p99_ms: None,
            connections: None,
            delay_median_ms: load.rate.map(|_| 2.5),
            delay_p99_ms: load.rate.map(|_| 7.5),
            cpu_ms_by_process: Vec::new(),
            duplicates: 0,
            other_share: 0.0,
        }
    }

    const LOAD: Load = Load { messages: 10, size: 5, sessions: 2, reuse: true, rate: None, login: None };

    #[test]
    fn the_table_names_the_ratio_only_when_both_were_measured() {
        let case = Scenario::Relay.cases()[0];
        let mut report = Report::new(LOAD, Scenario::Relay);
        report.add(outcome(Kind::Postfix, LOAD, case, 100.0));
        assert!(!report.to_string().contains('×'));
        report.add(outcome(Kind::Staffetta, LOAD, case, 400.0));
        assert!(report.to_string().contains("relays 4.0 ×"), "{report}");
        assert!(report.to_string().contains("0.25 × the CPU time"), "{report}");
    }

    #[test]
    fn what_comes_at_a_rate_is_judged_by_its_delay() {
        let load = Load { rate: Some(100), ..LOAD };
        let mut report = Report::new(load, Scenario::Stall);
        for case in Scenario::Stall.cases() {
            report.add(outcome(Kind::Postfix, load, case, 100.0));
            report.add(outcome(Kind::Staffetta, load, case, 100.0));
        }
        let text = report.to_string();
        assert!(
            text.contains("| case | peer | runs | delay median ms | delay p99 ms | CPU ms/msg | other |"),
            "{text}"
        );
        assert!(text.contains("| stalls at final dot | staffetta | 1 | 2.5 | 7.5 | 1.000 | 0.00 |"), "{text}");
        assert!(!text.contains('×'), "{text}");
    }
}
