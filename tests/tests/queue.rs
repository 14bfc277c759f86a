//! `staffetta queue` on a real Redis: what an operator sees, and what he does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use staffetta_cli::sink::{Scenario, Stage};
use staffetta_mail::{Envelope, QueueId, Recipient, ReversePath, Status};
use staffetta_queue::server::LocalServer;
use staffetta_queue::{Accept, Body, Destination, Job, Object, Origin, Queue, Settlement};
use staffetta_tests::{Client, SOON, World, eventually, program, queue_of};
use tempfile::TempDir;

struct Desk {
    queue: Queue,
    config: PathBuf,
    redis: LocalServer,
    _folder: TempDir,
}

/// Exit code, standard output, standard error.
type Said = (Option<i32>, String, String);

impl Desk {
    async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = LocalServer::start(&folder.path().join("redis"))?;
        let config = folder.path().join("staffetta.toml");
        fs::write(&config, format!("redis.url = \"{}\"\nredis.partitions = 2\n", redis.url()))?;
        let queue = queue_of(&config).await?;
        Ok(Self { queue, config, redis, _folder: folder })
    }

    async fn put(&self, sender: &str, login: Option<&str>, to: &[&str], content: &[u8]) -> anyhow::Result<QueueId> {
        self.put_behind(b"", sender, login, to, content).await
    }

    async fn put_behind(
        &self,
        prefix: &[u8],
        sender: &str,
        login: Option<&str>,
        to: &[&str],
        content: &[u8],
    ) -> anyhow::Result<QueueId> {
        let mut recipients = Vec::new();
        for recipient in to {
            recipients.push(Recipient::new(recipient.parse()?));
        }
        let sender = if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(sender.parse()?) };
        let mut incoming = self.queue.receive()?;
        incoming.write(content).await?;
        let envelope = Envelope::new(sender, recipients);
        let origin = Origin {
            listener: "submission".into(),
            client: None,
            helo: "client.example".into(),
            login: login.map(Into::into),
            span: None,
        };
        let id = incoming.commit(Accept { envelope, origin, lifetime: Duration::from_secs(3_600) }, prefix).await?;
        // The next one is younger.
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(id)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = Command::new(program("staffetta")?);
        command.arg("queue").args(arguments).arg("--config").arg(&self.config);
        let output = command.stdin(std::process::Stdio::null()).output().context("cannot run staffetta")?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// Standard output of what must succeed.
    fn says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (code, said, complained) = self.run(arguments)?;
        ensure!(code == Some(0) && complained.is_empty(), "{arguments:?}: {code:?} {said} {complained}");
        Ok(said)
    }

    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let said = self.says(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&said).with_context(|| format!("{arguments:?}: {said}"))
    }

    /// The ids that a selection lists.
    fn listed(&self, selection: &[&str]) -> anyhow::Result<Vec<String>> {
        let said = self.says(&[&["list", "--json"], selection].concat())?;
        let ids =
            said.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["queue_id"].as_str().map(Into::into)));
        Ok(ids.collect::<anyhow::Result<Vec<Option<String>>>>()?.into_iter().flatten().collect())
    }

    async fn claim(&self, destination: &str) -> anyhow::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for partition in 0..2 {
            jobs.extend(self.queue.claim(partition, &Destination::new(destination), 100).await?);
        }
        Ok(jobs)
    }
}

const CONTENT: &[u8] = b"Received: from client.example\r\nSubject: hello\r\n\r\nHello,\r\n\r\nworld\r\n";

#[tokio::test]
async fn selections_find_what_they_say() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let to = ["lisa@x.example", "lea@y.example"];
    let anna = desk.put("anna@here.example", Some("anna"), &to, CONTENT).await?.to_string();
    let bounce = desk.put("", None, &["anna@x.example"], CONTENT).await?.to_string();
    for (selection, found) in [
        (&[][..], vec![&anna, &bounce]),
        (&["--domain", "X.example"], vec![&anna, &bounce]),
        (&["--domain", "y.example"], vec![&anna]),
        (&["--recipient", "anna@x.example"], vec![&bounce]),
        (&["--recipient", "lisa@y.example"], vec![]),
        (&["--sender", "<>"], vec![&bounce]),
        (&["--sender", "anna@here.example", "--domain", "z.example"], vec![]),
        (&["--sender", "@HERE.example"], vec![&anna]),
        (&["--sender", "*@here.example"], vec![&anna]),
        (&["--sender", "@ere.example"], vec![]),
        (&["--sender", "anna@Here.example"], vec![&anna]),
        (&["--id", &bounce], vec![&bounce]),
        (&["--id", &bounce, "--domain", "y.example"], vec![]),
        (&["--login", "anna"], vec![&anna]),
        (&["--older-than", "1h"], vec![]),
        (&["--older-than", "0s"], vec![&anna, &bounce]),
    ] {
        assert_eq!(desk.listed(selection)?.iter().collect::<Vec<_>>(), found, "{selection:?}");
    }
    let text = desk.says(&["list", "--login", "anna"])?;
    assert!(text.contains("lisa@x.example") && text.contains("-- 1 KiB in 1 messages."), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_queue_begins_where_an_operator_says_so() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    fs::write(&desk.config, fs::read_to_string(&desk.config)? + "redis.create = false\n")?;
    assert_eq!(desk.says(&["init"])?, "The queue \"staffetta\" is there already.\n");
    let mut redis = UnixStream::connect(desk.redis.socket())?;
    redis.write_all(b"FLUSHALL\r\n")?;
    BufReader::new(redis).lines().next().context("no answer")??;
    let (code, _, complained) = desk.run(&["summary"])?;
    assert!(code == Some(1) && complained.contains("there is no queue in this Redis"), "{complained}");
    let (code, said, complained) = desk.run(&["init"])?;
    assert_eq!((code, said.as_str()), (Some(0), "The queue \"staffetta\" begins, empty.\n"));
    assert!(complained.contains("`staffetta queue init --accept-loss`"), "services knew another one: {complained}");
    assert!(desk.says(&["summary"])?.contains("Messages"));
    assert_eq!(desk.says(&["init", "--accept-loss"])?, "The queue \"staffetta\" is there already.\n");
    Ok(())
}

#[tokio::test]
async fn a_hold_a_release_and_a_flush_do_what_they_say_and_no_more() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let id = desk.put("a@here.example", None, &["lisa@x.example", "lea@y.example"], CONTENT).await?;
    let text = id.to_string();
    let said = desk.says(&["hold", "--domain", "x.example", "--dry-run"])?;
    assert_eq!(said, format!("would hold {text} to x.example\n1 delivery would be held\n"));
    assert_eq!(desk.queue.counts().await?.held, 0, "only said");
    assert_eq!(desk.json(&["hold", "--domain", "x.example"])?["held"], 1);
    assert!(desk.claim("x.example").await?.is_empty());
    assert!(desk.says(&["show", &text])?.contains("x.example: held\n"));
    assert_eq!(desk.json(&["flush", "--domain", "x.example"])?["flushed"], 0, "what an operator holds stays");

    // Of a message that is named, it is told.
    let (_, _, complained) = desk.run(&["flush", &text])?;
    assert!(complained.contains(&format!("1 delivery is held and stays so: use `staffetta queue release {text}`")));
    let (code, _, complained) = desk.run(&["hold", "--domain", "x.example"])?;
    assert!(code == Some(0) && complained.contains("1 delivery was held already"), "{complained}");

    let job = desk.claim("y.example").await?.remove(0);
    let (code, said, complained) = desk.run(&["hold", &text])?;
    assert_eq!((code, said.as_str()), (Some(1), "0 deliveries are held\n"));
    assert!(complained.contains("1 delivery is under way"), "{complained}");
    let later = Settlement::Deferred {
        remaining: vec![1],
        after: Duration::from_secs(600),
        reason: "450 4.2.0 later".into(),
        status: Status::new(4, 2, 0),
        back_off: None,
        notices: Vec::new(),
        delay_noticed: false,
        held: false,
    };
    desk.queue.settle(&job.lease, later).await?;
    let (code, said, _) = desk.run(&["flush", &text, "--dry-run"])?;
    assert!(code == Some(0) && said.contains("1 delivery would be due now"), "{said}");
    assert!(desk.claim("y.example").await?.is_empty());
    let (code, said, complained) = desk.run(&["flush", &text])?;
    assert_eq!((code, said.as_str()), (Some(0), "1 delivery is due now\n"), "{complained}");
    assert_eq!(desk.claim("y.example").await?.len(), 1);

    // The other is with a worker now: nothing is left to be flushed.
    let (code, said, _) = desk.run(&["flush", &text])?;
    assert_eq!((code, said.as_str()), (Some(1), "0 deliveries are due now\n"));
    assert!(desk.says(&["release", "--all", "--dry-run"])?.contains("1 held delivery would be due now"));
    assert_eq!(desk.json(&["release", &text])?["released"], 1);
    assert_eq!(desk.claim("x.example").await?.len(), 1);
    // What was done, and nothing else, is noted for the mail log.
    let noted = desk.queue.acts(0).await?.into_iter().map(|act| match act.object {
        Object::Selection { selection, deliveries } => format!("{} {deliveries} {selection}", act.verb),
        other => format!("{other:?}"),
    });
    let all = ["held 1 --domain x.example".to_owned(), format!("flushed 1 {text}"), format!("released 1 {text}")];
    assert_eq!(noted.collect::<Vec<_>>(), all);
    for verb in ["hold", "release", "flush", "delete", "show", "cat"] {
        let (code, said, complained) = desk.run(&[verb, "0000000000000000"])?;
        assert_eq!(code, Some(1), "{verb}: {said}");
        assert!(complained.contains("0000000000000000: no such message"), "{verb}: {complained}");
    }
    Ok(())
}

#[tokio::test]
async fn a_selection_is_deleted_only_when_somebody_says_so() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let both = desk.put("a@here.example", None, &["lisa@x.example", "lea@y.example"], CONTENT).await?.to_string();
    let crowd = desk.put("a@here.example", None, &["lisa@x.example", "leo@x.example"], CONTENT).await?.to_string();
    let (code, _, complained) = desk.run(&["delete", "--domain", "x.example"])?;
    assert_eq!(code, Some(2));
    assert!(complained.contains("--yes"), "{complained}");
    let said = desk.says(&["delete", "--domain", "x.example", "--dry-run"])?;
    assert_eq!(
        said,
        format!("would delete {both}\nwould delete {crowd}\n2 messages would lose the recipients that are meant\n")
    );
    assert_eq!(desk.listed(&[])?.len(), 2);

    // By recipient: the delivery of one message has another recipient, who must not lose it.
    let said = desk.says(&["delete", "--recipient", "lisa@x.example", "--dry-run"])?;
    assert_eq!(
        said,
        format!("would delete {both}\nwould delete {crowd}\n2 messages would lose the recipients that are meant\n")
    );
    let parts = "2 messages: the recipients that are meant are deleted\n";
    assert_eq!(desk.says(&["delete", "--recipient", "lisa@x.example", "--yes"])?, parts);
    let rest = desk.json(&["show", &both])?;
    assert_eq!(rest["jobs"][0]["destination"], "y.example", "only the delivery that was meant");
    assert_eq!(rest["jobs"].as_array().map(Vec::len), Some(1));
    let rest = desk.json(&["show", &crowd])?;
    assert_eq!(rest["jobs"][0]["recipients"], serde_json::json!(["leo@x.example"]), "only whom was meant");

    assert_eq!(desk.json(&["delete", "--domain", "x.example", "--yes"])?["deleted"], 1);
    assert_eq!(desk.listed(&[])?, std::slice::from_ref(&both));
    assert_eq!(desk.says(&["delete", &both])?, "1 message deleted\n", "an id is no selection");
    let (code, said, complained) = desk.run(&["delete", "--id", &both, "--yes"])?;
    assert_eq!((code, said.as_str()), (Some(1), "0 messages deleted\n"), "{complained}");
    assert!(complained.contains(&format!("{both}: no such message")), "{complained}");
    assert_eq!(desk.says(&["list"])?.lines().last(), Some("The queue is empty."));
    assert_eq!(desk.says(&["list", "--domain", "x.example"])?.lines().last(), Some("No message matches."));
    Ok(())
}

#[tokio::test]
async fn without_redis_the_file_and_the_address_are_named_and_no_password() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let port = staffetta_testkit::ports::Port::reserve()?;
    fs::write(&desk.config, format!("redis.url = \"redis://:hushhush@{}\"\n", port.address()))?;
    let (code, _, complained) = desk.run(&["list"])?;
    assert_eq!(code, Some(1));
    for part in [desk.config.to_str().context("path")?, &port.address().to_string(), "redis.url", "staffetta check"] {
        assert!(complained.contains(part), "{part}: {complained}");
    }
    assert!(!complained.contains("hushhush"), "{complained}");
    Ok(())
}

/// Waiting, held and large mail; the rest of a message goes on.
#[tokio::test]
async fn what_is_bounced_ends_with_a_report_to_its_sender() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let large = [CONTENT, "a line of a long letter\r\n".repeat(30_000).as_bytes()].concat();
    let both = desk.put("a@here.example", None, &["lisa@x.example", "bob@y.example"], &large).await?.to_string();
    let silent = desk.put("", None, &["lisa@x.example"], CONTENT).await?.to_string();
    desk.says(&["hold", &both])?;
    let (code, _, complained) = desk.run(&["bounce", "--domain", "x.example"])?;
    assert!(code == Some(2) && complained.contains("--yes"), "{complained}");
    assert!(
        desk.says(&["bounce", "--domain", "x.example", "--dry-run"])?.contains(&format!("would bounce {both} to x"))
    );
    assert_eq!(desk.says(&["bounce", "--domain", "X.example", "--yes"])?, "2 deliveries bounced\n");
    let shown = desk.json(&["show", &both])?;
    assert_eq!(
        (shown["jobs"][0]["destination"].as_str(), shown["jobs"][0]["state"].as_str()),
        (Some("y.example"), Some("held"))
    );
    assert!(shown["jobs"][1].is_null(), "{shown}");
    let (code, _, _) = desk.run(&["show", &silent])?;
    assert_eq!(code, Some(1), "nobody is told of mail from nobody");
    let reports = desk.claim("here.example").await?;
    assert_eq!(reports.len(), 1);
    let Body::Inline(report) = &reports[0].body else { anyhow::bail!("a large report") };
    let report = String::from_utf8(report.to_vec())?;
    for text in
        ["Final-Recipient: rfc822; lisa@x.example", "Action: failed", "Status: 5.3.0", "the administrator", "Subject: "]
    {
        assert!(report.contains(text), "{text:?} is not in {report}");
    }
    assert!(!report.contains("bob@y.example"), "{report}");
    assert_eq!(reports[0].message.envelope.sender, ReversePath::Null);
    // Somebody has it.
    let taken = desk.put("a@here.example", None, &["lisa@x.example"], CONTENT).await?.to_string();
    let _job = desk.claim("x.example").await?;
    let (code, _, complained) = desk.run(&["bounce", &taken])?;
    assert!(code == Some(1) && complained.contains("is being delivered"), "{complained}");
    // The mail log hears of it.
    let mut acts = Vec::new();
    for partition in 0..desk.queue.partitions() {
        acts.extend(desk.queue.acts(partition).await?);
    }
    let noted = acts.iter().filter_map(|act| match &act.object {
        Object::Mail { id, ended, recipients } => Some((id.to_string(), &*act.verb, *ended, recipients.join(","))),
        Object::Selection { .. } | Object::Target { .. } => None,
    });
    let mut noted: Vec<_> = noted.collect();
    noted.sort_by_key(|(_, _, ended, _)| *ended);
    let lisa = || "lisa@x.example".to_owned();
    assert_eq!(noted, [(both, "bounced", false, lisa()), (silent, "bounced", true, lisa())]);
    Ok(())
}

/// One of three of a delivery is bounced, another held; while it is under way nobody takes it apart.
#[tokio::test]
async fn a_selection_by_recipient_leaves_the_others_of_a_delivery_alone() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let three = ["lisa@x.example", "leo@x.example", "lea@x.example"];
    let id = desk.put("a@here.example", None, &three, CONTENT).await?.to_string();
    assert_eq!(desk.says(&["bounce", "--recipient", "leo@x.example", "--yes"])?, "1 delivery bounced\n");
    assert_eq!(desk.says(&["hold", "--recipient", "lea@X.example"])?, "1 delivery is held\n");
    let shown = desk.json(&["show", &id])?;
    let state = |job: usize| (shown["jobs"][job]["state"].clone(), shown["jobs"][job]["recipients"].clone());
    assert_eq!(state(0), ("waiting".into(), serde_json::json!(["lisa@x.example"])), "{shown}");
    assert_eq!(state(1), ("held".into(), serde_json::json!(["lea@x.example"])), "{shown}");
    let reports = desk.claim("here.example").await?;
    let Some(Body::Inline(report)) = reports.first().map(|job| &job.body) else { anyhow::bail!("no report") };
    let report = String::from_utf8(report.to_vec())?;
    assert!(report.contains("leo@x.example") && !report.contains("lisa@") && !report.contains("lea@"), "{report}");

    let busy = desk.put("a@here.example", None, &["lisa@z.example", "leo@z.example"], CONTENT).await?.to_string();
    let jobs = desk.claim("z.example").await?;
    for verb in ["delete", "bounce"] {
        let (code, _, complained) = desk.run(&[verb, "--recipient", "leo@z.example", "--yes"])?;
        assert_eq!(code, Some(1), "{verb}");
        assert!(complained.contains(&busy) && complained.contains("is being delivered"), "{verb}: {complained}");
    }
    assert_eq!(jobs[0].recipients, [0, 1]);
    Ok(())
}

#[tokio::test]
async fn a_bounced_message_of_a_stranger_tells_its_sender_nothing_that_the_stranger_wrote() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let recipient = Recipient { orcpt: Some("rfc822;WRITTEN".into()), ..Recipient::new("lisa@x.example".parse()?) };
    let envelope = Envelope {
        envid: Some("WRITTEN".into()),
        ..Envelope::new(ReversePath::Address("victim@here.example".parse()?), vec![recipient])
    };
    let origin = Origin {
        listener: "smtp".into(),
        client: Some("198.51.100.9".parse()?),
        helo: "WRITTEN.example".into(),
        login: None,
        span: None,
    };
    let mut incoming = desk.queue.receive()?;
    incoming.write(b"Subject: WRITTEN\r\n\r\nWRITTEN\r\n").await?;
    let id = incoming.commit(Accept { envelope, origin, lifetime: Duration::from_secs(3_600) }, b"").await?.to_string();
    assert_eq!(desk.says(&["bounce", &id])?, "1 delivery bounced\n");
    let reports = desk.claim("here.example").await?;
    let Some(Body::Inline(report)) = reports.first().map(|job| &job.body) else { anyhow::bail!("no report") };
    let report = String::from_utf8(report.to_vec())?;
    assert!(report.contains("Final-Recipient: rfc822; lisa@x.example") && !report.contains("WRITTEN"), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_bounced_message_that_demanded_tls_comes_back_without_its_content_and_by_any_way() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let sender = ReversePath::Address("a@here.example".parse()?);
    let recipients = vec![Recipient::new("lisa@x.example".parse()?)];
    let envelope = Envelope { require_tls: true, ..Envelope::new(sender, recipients) };
    let origin =
        Origin { listener: "submission".into(), client: None, helo: "c".into(), login: Some("a".into()), span: None };
    let mut incoming = desk.queue.receive()?;
    incoming.write(CONTENT).await?;
    let id = incoming.commit(Accept { envelope, origin, lifetime: Duration::from_secs(3_600) }, b"").await?.to_string();
    assert_eq!(desk.says(&["bounce", &id])?, "1 delivery bounced\n");
    let reports = desk.claim("here.example").await?;
    let Some(Body::Inline(report)) = reports.first().map(|job| &job.body) else { anyhow::bail!("no report") };
    let report = String::from_utf8(report.to_vec())?;
    assert!(report.contains("Subject: ") && !report.contains("Hello"), "{report}");
    assert!(!reports[0].message.envelope.require_tls);
    Ok(())
}

#[tokio::test]
async fn cat_prints_what_is_stored() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let small = desk.put("a@here.example", None, &["lisa@x.example"], CONTENT).await?.to_string();
    let content = String::from_utf8(CONTENT.to_vec())?;
    let (header, body) = content.split_at(content.find("Hello").unwrap_or_default());
    assert_eq!(desk.says(&["cat", &small])?, content);
    assert_eq!(desk.says(&["cat", "-H", &small])?, header);
    assert_eq!(desk.says(&["cat", "--body", &small])?, body);
    assert_eq!(desk.json(&["cat", &small])?["content"], content.as_str());
    let long = [header.as_bytes(), "a line of a long letter\r\n".repeat(30_000).as_bytes()].concat();
    let large = desk.put("a@here.example", None, &["lisa@x.example"], &long).await?.to_string();
    assert_eq!(desk.says(&["cat", &large])?.as_bytes(), long);
    assert_eq!(desk.says(&["cat", "-H", &large])?, header);
    // Header fields that were known only at the end.
    let added = "X-Added: last\r\n";
    for content in [CONTENT, &long] {
        let id =
            desk.put_behind(added.as_bytes(), "a@here.example", None, &["lisa@x.example"], content).await?.to_string();
        assert_eq!(desk.says(&["cat", &id])?.as_bytes(), [added.as_bytes(), content].concat());
        assert_eq!(desk.says(&["cat", "-H", &id])?, format!("{added}{header}"));
        assert!(desk.says(&["show", &id])?.contains(&(added.len() + content.len()).to_string()));
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_shown_with_where_it_came_from() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let id = desk.put("john@example.org", Some("john@example.org"), &["a@x.example"], CONTENT).await?.to_string();
    let shown = desk.says(&["show", &id])?;
    ensure!(shown.contains("  came in at submission, login john@example.org; tried until 20"), "{shown}");
    let unknown = desk.put("", None, &["a@x.example"], CONTENT).await?.to_string();
    ensure!(desk.says(&["show", &unknown])?.contains("  came in at submission; tried until"));
    ensure!(!desk.says(&["list"])?.contains("came in at"), "a list is short");
    ensure!(desk.listed(&["--recipient", "@X.example"])?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn shape_and_summary_count_what_is_there() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    assert!(desk.says(&["summary"])?.contains("Oldest message         none"));
    desk.put("a@here.example", None, &["lisa@x.example", "leo@x.example", "lea@y.example"], CONTENT).await?;
    desk.put("a@here.example", Some("anna"), &["lisa@x.example"], CONTENT).await?;
    desk.json(&["hold", "--domain", "y.example"])?;
    let shape = desk.json(&["shape"])?;
    assert_eq!((&shape["total"]["total"], &shape["total"]["ages"][0]), (&4.into(), &4.into()), "{shape}");
    let rows = shape["destinations"].as_array().context("no destinations")?;
    let rows: Vec<_> = rows.iter().map(|row| (row["destination"].as_str(), row["total"].as_u64())).collect();
    assert_eq!(rows, [(Some("x.example"), Some(3)), (Some("y.example"), Some(1))]);
    let text = desk.says(&["shape", "--login", "anna"])?;
    assert!(text.lines().count() == 3 && text.contains("1280+"), "{text}");

    let summary = desk.json(&["summary"])?;
    for (name, count) in
        [("messages", 2), ("ready", 2), ("scheduled", 0), ("leased", 0), ("held", 1), ("partitions", 2)]
    {
        assert_eq!(summary[name], count, "{name}: {summary}");
    }
    assert!(summary["created"].is_string() && summary["oldest"].is_string(), "{summary}");
    let text = desk.says(&["summary"])?;
    assert!(text.contains("Messages               2") && text.lines().count() < 25, "{text}");
    Ok(())
}

/// What somebody breaks with a Redis client is told, put right, and then in order.
#[tokio::test]
async fn a_delivery_that_is_nowhere_is_found_and_waits_again() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let id = desk.put("a@here.example", None, &["lisa@x.example"], CONTENT).await?.to_string();
    desk.put("a@here.example", None, &["lisa@y.example"], CONTENT).await?;
    assert_eq!(desk.says(&["verify"])?, "-- 2 messages, 2 open deliveries. Everything is in its place.\n");
    let mut redis = staffetta_tests::Redis::connect(desk.redis.socket())?;
    let waiting = redis.keys("*}w:x.example")?.pop().context("nothing waits")?;
    redis.ask(&["DEL", &waiting])?;

    let (code, said, _) = desk.run(&["verify"])?;
    let line = format!("{id}: a delivery is in no queue: x.example\n");
    assert!(code == Some(1) && said.contains(&line) && said.contains("2 out of place; --repair"), "{code:?} {said}");
    let (code, said, _) = desk.run(&["verify", "--json"])?;
    let lines: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let nowhere = lines.iter().find(|line| line["finding"] == "nowhere").context("not found")?;
    assert!(code == Some(1) && nowhere["id"] == *id && nowhere["mended"] == false, "{nowhere}");
    assert_eq!((&lines[lines.len() - 1]["findings"], &lines[lines.len() - 1]["mended"]), (&2.into(), &0.into()));

    let said = desk.says(&["verify", "--repair"])?;
    assert!(said.contains("(now it waits, and is due)") && said.contains(" put right."), "{said}");
    assert!(desk.says(&["verify"])?.contains("Everything is in its place."));
    assert_eq!(desk.claim("x.example").await?.len(), 1);
    Ok(())
}

/// As an old tool meets the mail of a newer program.
#[tokio::test]
async fn an_unreadable_message_is_shown_and_deleted_and_blinds_nothing() -> anyhow::Result<()> {
    let desk = Desk::new().await?;
    let bad = desk.put("a@here.example", None, &["lisa@x.example"], CONTENT).await?.to_string();
    let good = desk.put("a@here.example", None, &["lisa@x.example"], CONTENT).await?.to_string();
    desk.spoil(&bad)?;
    let text = desk.says(&["list"])?;
    let line = text.lines().find(|line| line.starts_with(&bad)).context("it is not listed")?;
    assert!(line.contains("unreadable: format 127"), "{line}");
    assert_eq!(desk.listed(&[])?, [bad.clone(), good.clone()]);
    assert!(desk.json(&["show", &bad])?["unreadable"].is_string());
    let (code, _, complained) = desk.run(&["cat", &bad])?;
    assert!(code == Some(1) && complained.contains("cannot be read"), "{complained}");
    let (code, _, complained) = desk.run(&["hold", "--all"])?;
    assert!(code == Some(1) && complained.contains("1 message cannot be read"), "{complained}");
    assert_eq!(desk.says(&["delete", "--sender", "a@here.example", "--yes"])?, "1 message deleted\n");
    assert_eq!(desk.says(&["delete", &bad])?, "1 message deleted\n");
    assert_eq!(desk.queue.counts().await?.messages, 0);
    Ok(())
}

impl Desk {
    /// Overwrites the version of a record.
    fn spoil(&self, id: &str) -> anyhow::Result<()> {
        let mut redis = UnixStream::connect(self.redis.socket())?;
        redis.write_all(format!("KEYS *}}m:{id}\r\n").as_bytes())?;
        let mut answer = BufReader::new(redis.try_clone()?).lines();
        let key = answer.by_ref().nth(2).context("no answer")??;
        redis.write_all(format!("SETRANGE {key} 0 \u{7f}\r\n").as_bytes())?;
        answer.next().context("no answer")??;
        Ok(())
    }
}

/// Whatever shows mail that waits for servers that are suspended, or get less, says so.
#[tokio::test(flavor = "multi_thread")]
async fn mail_for_what_is_suspended_or_slow_says_why_it_waits() -> anyhow::Result<()> {
    let slow = "[[delivery.rule]]\nreply = 'later'\ntimes = \"1/1m\"\naction = \"slow\"\nrate = \"1/1h\"\n";
    let mut world = World::new().await?.tables(slow).start().await?;
    let mx = world.mx("example.com", Scenario::default()).await?;
    let other = world.mx("example.net", Scenario::default().reply(Stage::Recipient, "451 4.7.1 later")).await?;
    let config = world.config_file();
    let run = |arguments: &[&str]| -> anyhow::Result<Said> {
        let mut command = Command::new(program("staffetta")?);
        let output = command.args(arguments).arg("--config").arg(&config).output()?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let (code, said, _) = run(&["queue", "summary"])?;
    ensure!(code == Some(0) && said.contains("Suspended destinations 0\n"), "{said}");
    let (code, _, said) = run(&["destination", "suspend", "mx1.example.com", "--for", "2h", "--reason", "busy"])?;
    ensure!(code == Some(0), "{said}");

    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    client.send("john@example.org", &["lisa@example.com", "lisa@example.net"], "Subject: hello\r\n\r\nHello").await?;
    eventually(SOON, || async {
        let (_, said, _) = run(&["queue", "list"])?;
        ensure!(said.contains("(suspended: mx1.example.com, since "), "{said}");
        ensure!(said.contains(", for 2 h more: busy)") || said.contains(", for 1 h 59 min more: busy)"), "{said}");
        ensure!(said.matches("suspended").count() == 1, "{said}");
        ensure!(said.matches("(its servers have asked for less, slow: since ").count() == 1, "{said}");
        Ok(())
    })
    .await?;
    let (_, said, _) = run(&["queue", "list", "--json"])?;
    let entry: Value = serde_json::from_str(&said)?;
    for job in entry["jobs"].as_array().context("no jobs")? {
        let is_suspended = job["destination"] == "example.com";
        ensure!(job["suspended"].is_string() == is_suspended, "{job}");
        ensure!(job["curbs"].as_array().map(Vec::len) == Some(usize::from(!is_suspended)), "{job}");
    }
    let (_, said, _) = run(&["queue", "summary"])?;
    ensure!(said.contains("Slowed destinations    1\n"), "{said}");
    let (_, said, _) = run(&["queue", "summary", "--json"])?;
    let counts: Value = serde_json::from_str(&said)?;
    ensure!(counts["suspended_destinations"] == 1 && counts["curbed_destinations"] == 1, "{said}");
    let (_, _, said) = run(&["queue", "flush"])?;
    ensure!(
        said.contains("1 destination is suspended, and its mail stays: see `staffetta destination list`"),
        "{said}"
    );
    ensure!(mx.count() == 0 && other.count() == 0);
    Ok(())
}
