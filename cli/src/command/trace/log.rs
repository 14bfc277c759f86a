//! The records of the mail log that are about some messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use staffetta_mail::QueueId;
use staffetta_queue::same_address;

/// Longer lines are no records.
const LONGEST: usize = 256 * 1024;
/// A report about a report about a report is one too many.
const GENERATIONS: usize = 3;

/// What is looked for.
pub(super) struct Wanted {
    text: String,
    /// Without angle brackets.
    bare: String,
}

/// What was found, by queue id, in order of time.
#[derive(Default)]
pub(super) struct Journeys {
    pub(super) events: BTreeMap<String, Vec<Value>>,
    /// There was more.
    pub(super) is_cut: bool,
    /// Is there any record of a message in the logs?
    pub(super) has_records: bool,
}

impl Wanted {
    pub(super) fn new(text: &str) -> Self {
        let bare = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
        Self { text: text.to_owned(), bare: bare.to_owned() }
    }

    /// The queue id, if it is one.
    pub(super) fn id(&self) -> Option<QueueId> {
        self.text.parse().ok()
    }

    /// The recipient, if it can be one.
    pub(super) fn recipient(&self) -> Option<&str> {
        self.bare.contains('@').then_some(&self.bare)
    }

    /// Is this record about it?
    fn is_meant_by(&self, event: &Value) -> bool {
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let message_id = field("message_id");
        field("qid") == self.text
            || (!message_id.is_empty() && message_id.trim_matches(['<', '>']) == self.bare)
            || self.recipient().is_some_and(|recipient| {
                let hidden = staffetta_telemetry::as_logged(recipient);
                // Who was named, and, behind an alias, who gets it; and the address that only his copy came from (VERP).
                ["to", "orig_to", "mail_from"].map(field).iter().any(|to| same_address(to, recipient) || *to == hidden)
            })
    }
}

/// Reads logs: which messages are meant, then all about them, and about the reports that they have led to.
pub(super) fn read(paths: &[PathBuf], wanted: &Wanted, most: usize) -> anyhow::Result<Journeys> {
    let mut sources = paths.iter().map(|path| source(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut ids: BTreeSet<String> = wanted.id().map(|id| id.to_string()).into_iter().collect();
    let mut journeys = Journeys::default();
    if ids.is_empty() {
        for_each(&mut sources, |_, event| {
            journeys.has_records = true;
            if wanted.is_meant_by(event)
                && let Some(id) = event["qid"].as_str()
            {
                journeys.is_cut |= ids.len() >= most && !ids.contains(id);
                if ids.len() < most {
                    ids.insert(id.to_owned());
                }
            }
        })?;
    }
    for _ in 0..GENERATIONS {
        journeys.events.clear();
        let mut reports = BTreeSet::new();
        for_each(&mut sources, |id, event| {
            journeys.has_records = true;
            if !ids.contains(id) {
                return;
            }
            reports.extend(event["report_qid"].as_str().filter(|id| !ids.contains(*id)).map(str::to_owned));
            journeys.events.entry(id.to_owned()).or_default().push(event.clone());
        })?;
        if reports.is_empty() {
            break;
        }
        ids.extend(reports);
    }
    for events in journeys.events.values_mut() {
        // Times of one form sort as text.
        events.sort_by(|one, other| one["time"].as_str().cmp(&other["time"].as_str()));
    }
    Ok(journeys)
}

/// What can be read again.
fn source(path: &Path) -> anyhow::Result<File> {
    if path != Path::new("-") {
        return File::open(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut copy = tempfile::tempfile().context("cannot keep standard input")?;
    io::copy(&mut io::stdin().lock(), &mut copy).context("cannot keep standard input")?;
    Ok(copy)
}

/// Every record of a message, with its queue id. What is no record is overlooked: a log has other lines, too.
fn for_each(sources: &mut [File], mut visit: impl FnMut(&str, &Value)) -> anyhow::Result<()> {
    for source in sources {
        source.rewind().context("a log must be a file, or standard input (-)")?;
        let mut reader = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).context("cannot read a log")? == 0 {
                break;
            }
            let Some(record) = record(&line) else { continue };
            if let Some(id) = record["qid"].as_str() {
                visit(id, &record);
            }
        }
    }
    Ok(())
}

/// Tools that collect logs put their own words in front of a line.
fn record(line: &[u8]) -> Option<Value> {
    let begin = line.iter().position(|octet| *octet == b'{')?;
    let is_of_a_message = |line: &[u8]| line.windows(6).any(|octets| octets == b"\"qid\":");
    let record = line.get(begin..).filter(|line| line.len() <= LONGEST && is_of_a_message(line))?;
    serde_json::from_slice(record).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LOG: &str = r#"not a record
relay-1 {"time":"2026-11-24T04:00:02.000Z","event":"deferred","qid":"A","to":"lisa@Example.com"}
{"time":"2026-11-24T04:00:01.000Z","event":"accepted","qid":"A","message_id":"<1@example.org>"}
{"time":"2026-11-24T04:00:03.000Z","event":"reported","qid":"A","report_qid":"B"}
{"time":"2026-11-24T04:00:04.000Z","event":"delivered","qid":"B","to":"john@example.org"}
{"time":"2026-11-24T04:00:05.000Z","event":"delivered","qid":"C","to":"lisa@example.com"}
{"time":"2026-11-24T04:00:05.000Z","event":"login"}
{"qid":
"#;

    fn found(what: &str, most: usize) -> (Vec<(String, Vec<String>)>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, LOG).unwrap();
        let journeys = read(&[path], &Wanted::new(what), most).unwrap();
        let names = |events: &Vec<Value>| events.iter().map(|event| event["event"].as_str().unwrap().into()).collect();
        (journeys.events.iter().map(|(id, events)| (id.clone(), names(events))).collect(), journeys.is_cut)
    }

    fn expected(all: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        all.iter().map(|(id, names)| ((*id).to_owned(), texts(names))).collect()
    }

    #[test]
    fn a_message_is_found_by_its_id_and_by_who_gets_it_with_what_came_of_it() {
        let first: (&str, &[&str]) = ("A", &["accepted", "deferred", "reported"]);
        let report: (&str, &[&str]) = ("B", &["delivered"]);
        for what in ["<1@example.org>", "1@example.org"] {
            assert_eq!(found(what, 9), (expected(&[first, report]), false), "{what}");
        }
        let all = expected(&[first, report, ("C", &["delivered"])]);
        assert_eq!(found("lisa@EXAMPLE.com", 9), (all, false));
        assert_eq!(found("lisa@example.com", 1), (expected(&[first, report]), true));
        assert_eq!(found("LISA@example.com", 9), (vec![], false), "who that is only the server knows");
        assert_eq!(found("nobody", 9).0, vec![]);
    }
}
