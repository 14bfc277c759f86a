//! Reports on TLS (RFC 8460): from sessions with hosts of every kind to what their domains are told.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use staffetta_testkit::certs::Authority;

use crate::dkim::Keys;
use crate::sts::Scene;
use crate::world::PATIENCE;
use crate::world::mx::{Mail, Script, acceptor};

/// Long enough that what is sent at once is mostly told at once.
const REPORTING: &str =
    "[delivery.tls_report]\nfrom = \"tls@relay.test\"\norganization = \"Relay & Co.\"\nperiod = \"3s\"\n";

/// The JSON in a message, and the name of its file.
fn opened(mail: &Mail) -> anyhow::Result<(String, Value)> {
    let (head, rest) = mail.body.split_once("application/tlsrpt+gzip").unwrap_or_default();
    assert!(head.contains("Content-Type: multipart/report; report-type=\"tlsrpt\";"), "{head}");
    let (fields, content) = rest.split_once("\r\n\r\n").unwrap_or_default();
    let name = fields.split('"').nth(1).unwrap_or_default().to_owned();
    let (content, _) = content.split_once("--").unwrap_or_default();
    let content: String = content.split_whitespace().collect();
    Ok((name, unpacked(&STANDARD.decode(content)?)?))
}

fn unpacked(file: &[u8]) -> anyhow::Result<Value> {
    let mut json = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut json)?;
    Ok(serde_json::from_str(&json)?)
}

/// `domain type result` (`good` if nothing was wrong), and how many sessions, over all reports.
fn told(reports: &[Value]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for policy in reports.iter().filter_map(|report| report["policies"].as_array()).flatten() {
        let of = &policy["policy"];
        let name = [&of["policy-domain"], &of["policy-type"]].map(|text| text.as_str().unwrap_or_default()).join(" ");
        let good = policy["summary"]["total-successful-session-count"].as_u64().unwrap_or_default();
        let details = policy["failure-details"].as_array().into_iter().flatten().map(|detail| {
            let result = detail["result-type"].as_str().unwrap_or_default();
            (format!("{name} {result}"), detail["failed-session-count"].as_u64().unwrap_or_default())
        });
        let good = (good > 0).then(|| (format!("{name} good"), good));
        for (name, count) in good.into_iter().chain(details) {
            *all.entry(name).or_default() += count;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_asks_is_told_how_the_tls_of_its_mail_went() -> anyhow::Result<()> {
    const DOMAINS: [&str; 6] =
        ["good.test", "other.test", "stranger.test", "trial.test", "unlisted.test", "broken.test"];
    let scene = Scene::new(&DOMAINS).await?;
    let dns = &scene.world.dns;
    let elsewhere = tempfile::tempdir()?;
    let foreign = acceptor(&Authority::new(elsewhere.path())?.leaf("mx", &["mx.stranger.test"])?)?;
    let script = Script { extensions: &["STARTTLS"], tls: Some(foreign), ..Script::default() };
    let stranger = scene.server(42, script).await?;
    let clear = scene.server(43, Script::default()).await?;
    let inbox = scene.server(44, Script::default()).await?;
    dns.host("mx.stranger.test", stranger.ip()).host("mx.clear.test", clear.ip());
    dns.mx("inbox.test", 10, "mx.inbox.test").host("mx.inbox.test", inbox.ip());
    for (domain, lines) in [
        ("good.test", "mode: enforce\nmx: mx.good.test"),
        ("other.test", "mode: enforce\nmx: mx.other.test"),
        ("stranger.test", "mode: enforce\nmx: mx.stranger.test"),
        ("trial.test", "mode: testing\nmx: mx.stranger.test"),
        ("unlisted.test", "mode: testing\nmx: mx.other.test"),
        ("broken.test", "mode: whatever"),
    ] {
        scene.announce(domain, "a1", lines);
    }
    for (domain, host) in [
        ("good.test", "mx.good.test"),
        ("other.test", "mx.good.test"),
        ("stranger.test", "mx.stranger.test"),
        ("trial.test", "mx.stranger.test"),
        ("unlisted.test", "mx.good.test"),
        ("broken.test", "mx.stranger.test"),
        ("none.test", "mx.stranger.test"),
        ("clear.test", "mx.clear.test"),
        ("mute.test", "mx.clear.test"),
    ] {
        dns.mx(domain, 10, host);
        if domain != "mute.test" {
            dns.txt(&format!("_smtp._tls.{domain}"), "v=TLSRPTv1; rua=mailto:reports@inbox.test");
        }
        scene.send(domain).await?;
    }
    let keys = Keys::new(&["relay.test/ed"])?;
    let worker = scene.world.worker(&scene.settings(), &format!("{}{REPORTING}", keys.tables()))?;
    let expected: BTreeMap<String, u64> = [
        "broken.test no-policy-found good",
        "broken.test sts sts-policy-invalid",
        "clear.test no-policy-found starttls-not-supported",
        "good.test sts good",
        "none.test no-policy-found good",
        "other.test sts validation-failure",
        "stranger.test sts certificate-not-trusted",
        "trial.test sts certificate-not-trusted",
        "unlisted.test sts validation-failure",
    ]
    .map(|name| (name.to_owned(), 1))
    .into();
    let reports =
        || inbox.mails().iter().map(|mail| opened(mail).map(|(_, json)| json)).collect::<anyhow::Result<Vec<_>>>();
    eventually("all is told", || Ok(told(&reports()?).len() == expected.len())).await?;
    assert_eq!(told(&reports()?), expected);

    let mails = inbox.mails();
    for mail in &mails {
        assert_eq!(
            (mail.sender.as_str(), &mail.recipients[..]),
            ("tls@relay.test", &["reports@inbox.test".to_owned()][..])
        );
        assert_eq!(keys.signers(mail)?, ["relay.test/ed"]);
        assert!(mail.body.contains("TLS-Report-Submitter: relay.test\r\n"), "{}", mail.body);
    }
    let (name, report) = opened(mails.iter().find(|mail| mail.body.contains("trial.test")).unwrap_or(&mails[0]))?;
    let file: Vec<&str> = name.split('!').collect();
    assert_eq!((file[0], file[1], file.len()), ("relay.test", "trial.test", 4), "{name}");
    assert_eq!(report["organization-name"], "Relay & Co.");
    assert_eq!(report["contact-info"], "tls@relay.test");
    let policy = &report["policies"][0];
    assert_eq!(policy["policy"]["policy-string"][1], "mode: testing");
    assert_eq!(policy["policy"]["mx-host"][0], "mx.stranger.test");
    let failure = &policy["failure-details"][0];
    assert_eq!(failure["receiving-mx-hostname"], "mx.stranger.test");
    assert_eq!(failure["receiving-ip"], "127.0.0.42");
    assert!(stranger.mails().iter().any(|mail| mail.recipients == ["a@trial.test"]), "it was delivered all the same");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_goes_to_the_first_that_takes_it_and_is_tried_again() -> anyhow::Result<()> {
    let scene = Scene::new(&["reports.test"]).await?;
    let (dns, web) = (&scene.world.dns, &scene.web);
    let clear = scene.server(43, Script::default()).await?;
    dns.mx("a.test", 10, "mx.clear.test").host("mx.clear.test", clear.ip());
    // The certificate of the web server is for this name.
    dns.host("mta-sts.reports.test", web.address().ip());
    let place = |path: &str| format!("mta-sts.reports.test:{}/{path}", web.address().port());
    let [first, second] = ["first", "second"].map(place);
    dns.txt("_smtp._tls.a.test", &format!("v=TLSRPTv1; rua=https://{first},https://{second}"));
    scene.send("a.test").await?;
    let worker = scene.world.worker(&scene.settings(), REPORTING)?;
    eventually("both are asked again and again", || Ok(web.posts(&second).len() > 1)).await?;
    web.take_posts_at(&second);
    eventually("it is told", || Ok(!scene.world.keys("{T:}*")?.contains("{T:}"))).await?;
    let posts = web.posts(&second);
    let report = unpacked(&posts[0])?;
    assert_eq!(told(&[report]), [("a.test no-policy-found starttls-not-supported".to_owned(), 1)].into());
    assert!(posts.iter().chain(&web.posts(&first)).all(|post| *post == posts[0]), "always the same");
    assert!(web.posts(&first).len() >= posts.len(), "the one is asked before the other");
    worker.stop().await
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_so()? {
        anyhow::ensure!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
