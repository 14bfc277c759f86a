//! What comes of a message, and what its sender is told, whatever a mail host does at whatever stage: a table, all of it in one
//! world at once. And how far a message goes from host to host.

mod hosts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use staffetta_queue::{Entry, Place};

use crate::world::World;
use crate::world::mx::{Mail, Script, Server};
use crate::{BODY, home};

/// What becomes of those at whom the fault is.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The host takes them, in this attempt.
    Taken,
    /// The next host does.
    Passed,
    /// They wait for their next time, because of this. Nobody is told.
    Deferred(&'static str),
    /// The sender is told that they have this status.
    Bounced(&'static str),
}

use End::{Bounced, Deferred, Passed, Taken};

/// What is no reply of SMTP.
const GARBAGE: &str = "\u{1}\u{ff}hello, what";

/// Stage, what the host does there (`drop`, `hang`, or what it says), what comes of it without and with another host.
const ROWS: &[(&str, &str, End, End)] = &[
    ("connect", "refused", Deferred("Connection refused"), Passed),
    ("greeting", "451 4.3.0 later", Deferred("refused to talk to me: 451 4.3.0 later"), Passed),
    ("greeting", "421 4.3.2 closing", Deferred("refused to talk to me: 421 4.3.2 closing"), Passed),
    // It speaks of the host, not of the mail.
    ("greeting", "554 5.7.1 never", Deferred("refused to talk to me: 554 5.7.1 never"), Passed),
    ("greeting", "drop", Deferred("lost connection with * while receiving the initial server greeting"), Passed),
    ("greeting", "hang", Deferred("timed out while receiving the initial server greeting"), Passed),
    ("greeting", GARBAGE, Deferred("malformed reply while receiving the initial server greeting"), Passed),
    ("EHLO", "451 4.3.0 later", Deferred("refused to talk to me: 451 4.3.0 later"), Passed),
    ("EHLO", "421 4.3.2 closing", Deferred("refused to talk to me: 421 4.3.2 closing"), Passed),
    // HELO is the answer.
    ("EHLO", "554 5.7.1 never", Taken, Taken),
    ("HELO", "554 5.7.1 never", Bounced("5.7.1"), Passed),
    ("EHLO", "drop", Deferred("lost connection with * while performing the EHLO handshake"), Passed),
    ("EHLO", "hang", Deferred("timed out while performing the EHLO handshake"), Passed),
    // What has no code is passed over, and an answer waited for.
    ("EHLO", GARBAGE, Deferred("timed out while performing the EHLO handshake"), Passed),
    // Where TLS is an offer, mail goes without.
    ("STARTTLS", "454 4.7.0 later", Taken, Taken),
    ("STARTTLS", "554 5.7.1 never", Taken, Taken),
    ("STARTTLS", "421 4.3.2 closing", Deferred("refused to start TLS: 421 4.3.2 closing"), Passed),
    ("STARTTLS", "drop", Taken, Taken),
    ("STARTTLS", "hang", Taken, Taken),
    ("STARTTLS", GARBAGE, Taken, Taken),
    ("MAIL", "451 4.3.0 later", Deferred("said: 451 4.3.0 later (in reply to MAIL FROM command)"), Passed),
    ("MAIL", "421 4.3.2 closing", Deferred("said: 421 4.3.2 closing (in reply to MAIL FROM command)"), Passed),
    ("MAIL", "554 5.7.1 never", Bounced("5.7.1"), Bounced("5.7.1")),
    ("MAIL", "drop", Deferred("lost connection with * while sending MAIL FROM"), Passed),
    ("MAIL", "hang", Deferred("timed out while sending MAIL FROM"), Passed),
    // The answers to what came behind it are one too few.
    ("MAIL", GARBAGE, Deferred("protocol error with *: reply out of order while sending RCPT TO"), Passed),
    ("RCPT", "451 4.3.0 later", Deferred("said: 451 4.3.0 later (in reply to RCPT TO command)"), Passed),
    ("RCPT", "421 4.3.2 closing", Deferred("said: 421 4.3.2 closing (in reply to RCPT TO command)"), Passed),
    ("RCPT", "554 5.7.1 never", Bounced("5.7.1"), Bounced("5.7.1")),
    ("RCPT", "drop", Deferred("lost connection with * while sending RCPT TO"), Passed),
    ("RCPT", "hang", Deferred("timed out while sending RCPT TO"), Passed),
    ("RCPT", GARBAGE, Deferred("protocol error with *: reply out of order while sending RCPT TO"), Passed),
    ("DATA", "451 4.3.0 later", Deferred("said: 451 4.3.0 later (in reply to DATA command)"), Passed),
    ("DATA", "421 4.3.2 closing", Deferred("said: 421 4.3.2 closing (in reply to DATA command)"), Passed),
    ("DATA", "554 5.7.1 never", Bounced("5.7.1"), Bounced("5.7.1")),
    ("DATA", "drop", Deferred("lost connection with * while sending DATA command"), Passed),
    ("DATA", "hang", Deferred("timed out while sending DATA command"), Passed),
    ("DATA", GARBAGE, Deferred("timed out while sending DATA command"), Passed),
    ("dot", "451 4.3.0 later", Deferred("said: 451 4.3.0 later (in reply to end of DATA command)"), Passed),
    ("dot", "421 4.3.2 closing", Deferred("said: 421 4.3.2 closing (in reply to end of DATA command)"), Passed),
    ("dot", "554 5.7.1 never", Bounced("5.7.1"), Bounced("5.7.1")),
    // The host may have it: no other one is given it at once.
    ("dot", "drop", Deferred("lost connection with * while sending end of data"), Deferred("sending end of data")),
    ("dot", "hang", Deferred("timed out while sending end of data"), Deferred("sending end of data")),
    ("dot", GARBAGE, Deferred("timed out while sending end of data"), Deferred("sending end of data")),
    // It has said its word.
    ("QUIT", "451 4.3.0 later", Taken, Taken),
    ("QUIT", "554 5.7.1 never", Taken, Taken),
    ("QUIT", "drop", Taken, Taken),
    ("QUIT", "hang", Taken, Taken),
    ("QUIT", GARBAGE, Taken, Taken),
];

/// Each step has time enough for a busy machine.
const TIMES: &str = "timeouts = { connect = \"3s\", greeting = \"3s\", tls = \"3s\", helo = \"3s\", mail = \"3s\", rcpt = \"3s\", \
                     data = \"3s\", transfer = \"3s\", final = \"3s\" }\nretry_min = \"1h\"\nretry_max = \"1h\"";

/// In milliseconds; the schedule says an hour.
const HALF_AN_HOUR: u64 = 1_800_000;

/// A row, for so many recipients, with another host or without.
struct Cell {
    number: usize,
    stage: &'static str,
    fault: &'static str,
    end: End,
    recipients: &'static [&'static str],
    /// It has not, where nobody listens.
    host: Option<Server>,
}

impl Cell {
    fn domain(&self) -> String {
        format!("c{}.test", self.number)
    }

    fn addresses(&self, locals: &[&str]) -> Vec<String> {
        locals.iter().map(|local| format!("{local}@{}", self.domain())).collect()
    }

    /// A word about one recipient is not about the others.
    fn is_about_one(&self) -> bool {
        self.stage == "RCPT" && self.fault.starts_with(['4', '5']) && !self.fault.starts_with("421")
    }

    /// At whom the fault is, and the others.
    fn parts(&self) -> (Vec<String>, Vec<String>) {
        let is_meant = |local: &&&str| !self.is_about_one() || **local == "one";
        let (meant, others): (Vec<&str>, Vec<&str>) = self.recipients.iter().partition(|local| is_meant(local));
        (self.addresses(&meant), self.addresses(&others))
    }
}

fn script(stage: &str, fault: &'static str, recipients: usize) -> Script {
    let word = if fault == "drop" { "" } else { fault };
    let plain = Script::default();
    match stage {
        "greeting" => Script { greeting: Some(if fault == "hang" { "" } else { fault }), ..plain },
        "HELO" => Script { replies: vec![("EHLO", fault), ("HELO", fault)], ..plain },
        "STARTTLS" => Script { extensions: &["STARTTLS"], replies: vec![("STARTTLS", word)], ..plain },
        // Whoever refuses the sender takes no recipients.
        "MAIL" if fault.starts_with(['4', '5']) => {
            let mut replies = vec![("MAIL", word)];
            replies.extend(vec![("RCPT", "503 5.5.1 need MAIL"); recipients]);
            Script { replies, ..plain }
        }
        "RCPT" => Script { replies: vec![("RCPT TO:<one@", word)], ..plain },
        "dot" => Script { dots: vec![word], ..plain },
        "EHLO" => Script { replies: vec![("EHLO", word)], ..plain },
        "MAIL" => Script { replies: vec![("MAIL", word)], ..plain },
        "DATA" => Script { replies: vec![("DATA", word)], ..plain },
        _ => Script { replies: vec![("QUIT", word)], ..plain },
    }
}

/// All that has come to an end, and where.
struct Scene {
    reports: Vec<Mail>,
    backup: Vec<Mail>,
    entries: Vec<Entry>,
}

impl Scene {
    /// What is not as the table says.
    fn judge(&self, cell: &Cell) -> String {
        let (meant, others) = cell.parts();
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let mut passed = taken.clone();
        let host = cell.host.as_ref().map(Server::mails).unwrap_or_default();
        host.into_iter().flat_map(|mail| mail.recipients).for_each(|it| *taken.entry(it).or_default() += 1);
        let here = |address: &String| address.ends_with(&format!("@{}", cell.domain()));
        let backup = self.backup.iter().flat_map(|mail| &mail.recipients).filter(|address| here(address));
        backup.for_each(|it| *passed.entry(it.clone()).or_default() += 1);
        let once = |addresses: &[String]| addresses.iter().map(|it| (it.clone(), 1)).collect::<BTreeMap<_, _>>();
        let (expected, elsewhere) = match cell.end {
            Taken => (once(&[meant.clone(), others].concat()), BTreeMap::new()),
            Passed => (once(&others), once(&meant)),
            Deferred(_) | Bounced(_) => (once(&others), BTreeMap::new()),
        };
        let mut wrong = String::new();
        if (&taken, &passed) != (&expected, &elsewhere) {
            let _ = write!(wrong, " its host took {taken:?}, the other {passed:?};");
        }
        self.judge_queue(cell, meant.len(), &mut wrong);
        self.judge_report(cell, &meant, &mut wrong);
        wrong
    }

    fn judge_queue(&self, cell: &Cell, count: usize, wrong: &mut String) {
        let jobs = self.entries.iter().flat_map(|entry| entry.jobs.iter().map(|job| (entry.message.arrived, job)));
        let jobs: Vec<_> = jobs.filter(|(_, job)| job.destination.as_str() == cell.domain()).collect();
        let fits = match (cell.end, &jobs[..]) {
            (Deferred(why), [(arrived, job)]) => {
                let has_time = matches!(job.place, Place::Waiting(at) if at > arrived + HALF_AN_HOUR);
                let is_why = is_said(why, job.reason.as_deref().unwrap_or_default());
                is_why && has_time && job.attempts == 1 && job.recipients.len() == count
            }
            (Deferred(_), _) => false,
            (_, jobs) => jobs.is_empty(),
        };
        if !fits {
            let _ = write!(wrong, " queued is {jobs:?};");
        }
    }

    fn judge_report(&self, cell: &Cell, meant: &[String], wrong: &mut String) {
        let sender = format!("s{}@home.test", cell.number);
        let reports: Vec<_> = self.reports.iter().filter(|mail| mail.recipients.contains(&sender)).collect();
        let fits = match (cell.end, &reports[..]) {
            (Bounced(status), [report]) => {
                let about = |address: &String| report.body.contains(&format!("Final-Recipient: rfc822; {address}\r\n"));
                let count = |text: &str| report.body.matches(text).count();
                meant.iter().all(about)
                    && count("Final-Recipient: ") == meant.len()
                    && count(&format!("Status: {status}\r\n")) == meant.len()
                    && count("Action: failed\r\n") == meant.len()
            }
            (Bounced(_), _) => false,
            (_, reports) => reports.is_empty(),
        };
        if !fits {
            let _ = write!(wrong, " reported is {reports:?};");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_host_does_at_whatever_stage_has_one_end() -> anyhow::Result<()> {
    let (world, inbox) = (World::start().await?, Server::start(Script::default()).await?);
    let backup = Server::start_on("127.8.255.1:0".parse()?, Script::default()).await?;
    let mut cells = Vec::new();
    for &(stage, fault, alone, beside) in ROWS {
        for recipients in [&["one"][..], &["two", "one", "three"]] {
            for (end, has_other) in [(alone, false), (beside, true)] {
                let number = cells.len();
                let at = SocketAddr::from(([127, 8, number as u8 / 100, number as u8 % 100 + 1], backup.port()));
                let script = script(stage, fault, recipients.len());
                let host = if stage == "connect" { None } else { Some(Server::start_on(at, script).await?) };
                let cell = Cell { number, stage, fault, end, recipients, host };
                let (domain, name) = (cell.domain(), format!("mx.c{number}.test"));
                world.dns.mx(&domain, 10, &name).host(&name, at.ip());
                if has_other {
                    let name = format!("other.c{number}.test");
                    world.dns.mx(&domain, 20, &name).host(&name, backup.ip());
                }
                let addresses = cell.addresses(recipients);
                let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
                world.send(&format!("s{number}@home.test"), &addresses, BODY).await?;
                cells.push(cell);
            }
        }
    }
    let worker = world.worker(&format!("port = {}\n{TIMES}", backup.port()), &home(&inbox))?;
    let waiting = cells.iter().filter(|cell| matches!(cell.end, Deferred(_))).count();
    world.until("at rest", |entries| entries.len() == waiting && entries.iter().all(is_attempted)).await?;
    let scene = Scene { reports: inbox.mails(), backup: backup.mails(), entries: world.entries().await? };
    // Now all say goodbye.
    worker.stop().await?;
    let mut wrong: Vec<String> = Vec::new();
    for cell in &cells {
        if let Some(host) = cell.host.as_ref().filter(|_| cell.stage == "QUIT") {
            host.until("QUIT", || host.commands().iter().any(|line| line == "QUIT")).await?;
        }
        let found = scene.judge(cell);
        if !found.is_empty() {
            let Cell { stage, fault, end, recipients, .. } = cell;
            wrong.push(format!("{stage} {fault:?}, {} recipients, {end:?}:{found}", recipients.len()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    Ok(())
}

/// Has it these parts, which `*` separates, one after the other?
fn is_said(parts: &str, text: &str) -> bool {
    let behind = |rest: &str, part: &str| rest.split_once(part).map(|(_, rest)| rest.to_owned());
    parts.split('*').try_fold(text.to_owned(), |rest, part| behind(&rest, part)).is_some()
}

fn is_attempted(entry: &Entry) -> bool {
    entry.jobs.iter().all(|job| job.attempts > 0)
}
