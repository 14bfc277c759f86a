//! MTA-STS (RFC 8461): what a domain says on its web server, from the TXT record to the handshake.

use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use staffetta_mail::Envelope;
use staffetta_testkit::certs::Authority;

use crate::BODY;
use crate::world::mx::{Script, Server, acceptor};
use crate::world::web::Web;
use crate::world::{PATIENCE, World, waiting};

/// A CA that workers trust, a mail server and a web server with its certificates.
pub(crate) struct Scene {
    pub(crate) world: World,
    dir: tempfile::TempDir,
    authority: Authority,
    /// `mx.good.test`, with a good certificate.
    good: Server,
    pub(crate) web: Web,
}

impl Scene {
    /// The web server has certificates for the policies of these domains.
    pub(crate) async fn new(domains: &[&str]) -> anyhow::Result<Self> {
        let (world, dir) = (World::start().await?, tempfile::tempdir()?);
        let authority = Authority::new(dir.path())?;
        let tls = Some(acceptor(&authority.leaf("mx", &["mx.good.test"])?)?);
        let script = Script { extensions: &["STARTTLS"], tls, ..Script::default() };
        let good = Server::start_on("127.0.0.41:0".parse()?, script).await?;
        let hosts: Vec<String> = domains.iter().map(|domain| format!("mta-sts.{domain}")).collect();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let web = Web::start(acceptor(&authority.leaf("web", &names)?)?).await?;
        world.dns.host("mx.good.test", good.ip());
        Ok(Self { world, dir, authority, good, web })
    }

    /// Another mail server at the same port.
    pub(crate) async fn server(&self, last: u8, script: Script) -> anyhow::Result<Server> {
        Server::start_on(SocketAddr::from(([127, 0, 0, last], self.good.port())), script).await
    }

    /// This domain has a policy, which its TXT record announces.
    pub(crate) fn announce(&self, domain: &str, id: &str, lines: &str) {
        let host = format!("mta-sts.{domain}");
        self.world.dns.host(&host, self.web.address().ip());
        self.world.dns.txt(&format!("_mta-sts.{domain}"), &format!("v=STSv1; id={id};"));
        self.web.policy(&host, lines);
    }

    /// Lines of `[delivery]`.
    pub(crate) fn settings(&self) -> String {
        format!(
            "port = {}\nca = \"{}\"\nmta_sts_port = {}\nretry_min = \"1h\"\nretry_max = \"2h\"\n",
            self.good.port(),
            self.authority.ca().display(),
            self.web.address().port(),
        )
    }

    pub(crate) async fn send(&self, domain: &str) -> anyhow::Result<()> {
        self.world.send("john@home.test", &[&format!("a@{domain}")], BODY).await.map(drop)
    }
}

fn recipients(server: &Server) -> Vec<String> {
    let mut got: Vec<_> = server.mails().iter().map(|mail| mail.recipients.join(",")).collect();
    got.sort();
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_domain_says_on_its_web_server_is_obeyed() -> anyhow::Result<()> {
    const DOMAINS: [&str; 8] = [
        "listed.test",
        "star.test",
        "other.test",
        "backup.test",
        "stranger.test",
        "clear.test",
        "trial.test",
        "off.test",
    ];
    let scene = Scene::new(&DOMAINS).await?;
    let elsewhere = tempfile::tempdir()?;
    let foreign = acceptor(&Authority::new(elsewhere.path())?.leaf("mx", &["mx.stranger.test"])?)?;
    let script = Script { extensions: &["STARTTLS"], tls: Some(foreign), ..Script::default() };
    let stranger = scene.server(42, script).await?;
    let clear = scene.server(43, Script::default()).await?;
    let dns = &scene.world.dns;
    dns.host("mx.stranger.test", stranger.ip()).host("mx.clear.test", clear.ip());
    for (domain, mx, lines) in [
        ("listed.test", "mx.good.test", "mode: enforce\nmx: mx.good.test"),
        ("star.test", "mx.good.test", "mode: enforce\nmx: a.test\nmx: *.good.test"),
        ("other.test", "mx.good.test", "mode: enforce\nmx: mx.other.test"),
        ("backup.test", "mx.clear.test", "mode: enforce\nmx: mx.good.test"),
        ("stranger.test", "mx.stranger.test", "mode: enforce\nmx: mx.stranger.test"),
        ("clear.test", "mx.clear.test", "mode: enforce\nmx: mx.clear.test"),
        ("trial.test", "mx.clear.test", "mode: testing\nmx: mx.other.test"),
        ("off.test", "mx.clear.test", "mode: none"),
    ] {
        scene.announce(domain, "a1", lines);
        dns.mx(domain, 10, mx);
        scene.send(domain).await?;
    }
    dns.mx("backup.test", 20, "mx.good.test");
    let worker = scene.world.worker(&scene.settings(), "")?;
    let waiting = waiting(&scene.world.until("at rest", |entries| waiting(entries).len() == 3).await?);
    for (found, expected) in waiting.iter().zip([
        "clear.test: TLS is required, but was not offered by host mx.clear.test[127.0.0.43]",
        "other.test: the MTA-STS policy of other.test does not list mx.good.test",
        "stranger.test: Cannot start TLS: handshake failure with mx.stranger.test[127.0.0.42]: ",
    ]) {
        assert!(found.starts_with(expected), "{found}");
    }
    scene.good.received(3).await?;
    clear.received(2).await?;
    assert_eq!(recipients(&scene.good), ["a@backup.test", "a@listed.test", "a@star.test"]);
    assert!(scene.good.mails().iter().all(|mail| mail.encrypted));
    assert_eq!(recipients(&clear), ["a@off.test", "a@trial.test"]);
    assert!(stranger.mails().is_empty());
    assert_eq!(scene.web.requests("mta-sts.listed.test"), ["/.well-known/mta-sts.txt"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8689_mail_for_which_tls_is_optional_goes_where_other_mail_waits() -> anyhow::Result<()> {
    let scene = Scene::new(&["clear.test", "other.test", "strict.test"]).await?;
    let clear = scene.server(42, Script::default()).await?;
    scene.world.dns.host("mx.clear.test", clear.ip());
    scene.announce("clear.test", "a1", "mode: enforce\nmx: mx.clear.test");
    scene.announce("other.test", "a1", "mode: enforce\nmx: mx.other.test");
    scene.announce("strict.test", "a1", "mode: enforce\nmx: mx.other.test");
    for domain in ["clear.test", "other.test", "strict.test"] {
        scene.world.dns.mx(domain, 10, "mx.clear.test");
        // One that needs what the policy asks for, or more, and behind it in the same claim one that does not.
        let strict = |envelope: &mut Envelope| envelope.require_tls = domain == "strict.test";
        let first = scene.world.send_as(&format!("a@{domain}"), strict).await?;
        let optional = |envelope: &mut Envelope| envelope.tls_optional = true;
        scene.world.send_beside_as(first, &format!("b@{domain}"), optional).await?;
    }
    let worker = scene.world.worker(&scene.settings(), "")?;
    clear.received(3).await?;
    let left = scene.world.until("at rest", |entries| waiting(entries).len() == 3).await?;
    assert_eq!(recipients(&clear), ["b@clear.test", "b@other.test", "b@strict.test"]);
    let left = waiting(&left);
    assert!(left[0].starts_with("clear.test: TLS is required, but was not offered"), "{left:?}");
    for (found, domain) in left[1..].iter().zip(["other.test", "strict.test"]) {
        assert!(found.starts_with(&format!("{domain}: the MTA-STS policy of {domain} does not list")), "{left:?}");
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8461_3_3_what_is_no_policy_asks_for_nothing() -> anyhow::Result<()> {
    const DOMAINS: [&str; 6] = ["moved.test", "html.test", "long.test", "broken.test", "silent.test", "gone.test"];
    let scene = Scene::new(&DOMAINS).await?;
    let clear = scene.server(42, Script::default()).await?;
    let strict = "version: STSv1\nmode: enforce\nmx: mx.other.test\nmax_age: 86400\n";
    // The web server shows no certificate for the last one, and the TXT record of the one before does not come.
    for domain in DOMAINS.into_iter().chain(["foreign.test"]) {
        scene.announce(domain, "a1", "mode: enforce\nmx: mx.other.test");
        scene.world.dns.mx(domain, 10, "mx.clear.test");
    }
    scene.world.dns.host("mx.clear.test", clear.ip()).remove("mta-sts.gone.test").silent("_mta-sts.silent.test");
    scene.web.answer("mta-sts.moved.test", "301 Moved", "text/plain", strict);
    scene.web.answer("mta-sts.html.test", "200 OK", "text/html", strict);
    scene.web.answer("mta-sts.long.test", "200 OK", "text/plain", &(strict.to_owned() + &"x: y\n".repeat(14_000)));
    scene.web.answer("mta-sts.broken.test", "200 OK", "text/plain", "mode: enforce\nmx: mx.other.test\nmax_age: 1\n");
    let worker = scene.world.worker(&scene.settings(), "")?;
    for domain in DOMAINS.into_iter().chain(["foreign.test"]) {
        scene.send(domain).await?;
    }
    clear.received(7).await?;
    scene.world.drained().await?;
    for asked in ["moved", "html", "long", "broken"] {
        let host = format!("mta-sts.{asked}.test");
        assert_eq!(scene.web.requests(&host), ["/.well-known/mta-sts.txt"], "{host}: once, and nowhere else");
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_was_seen_holds_while_it_is_hidden_and_until_there_is_a_newer_one() -> anyhow::Result<()> {
    let scene = Scene::new(&["x.test"]).await?;
    let (dns, record) = (&scene.world.dns, "_mta-sts.x.test");
    let clear = scene.server(42, Script::default()).await?;
    dns.mx("x.test", 10, "mx.good.test").host("mx.clear.test", clear.ip());
    scene.announce("x.test", "a1", "mode: enforce\nmx: mx.good.test");
    // Each worker is a pod that has seen nothing yet.
    for sent in 1..=2 {
        let worker = scene.world.worker(&scene.settings(), "")?;
        scene.send("x.test").await?;
        scene.good.received(sent).await?;
        scene.world.drained().await?;
        worker.stop().await?;
        assert_eq!(scene.web.requests("mta-sts.x.test").len(), 1, "what the cluster keeps is not fetched again");
    }
    // Somebody leads the mail elsewhere, and hides the record, or only the web server.
    dns.remove("x.test").mx("x.test", 10, "mx.clear.test");
    scene.web.answer("mta-sts.x.test", "500 no", "text/plain", "");
    for texts in [None, Some("v=STSv1; id=a2;")] {
        dns.remove(record);
        texts.map(|text| dns.txt(record, text));
        let worker = scene.world.worker(&scene.settings(), "")?;
        scene.send("x.test").await?;
        let entries = scene.world.until("at rest", |entries| !waiting(entries).is_empty()).await?;
        let reason = "x.test: the MTA-STS policy of x.test does not list mx.clear.test";
        assert_eq!(waiting(&entries), [reason], "{texts:?}");
        worker.stop().await?;
        for entry in entries {
            scene.world.queue.delete(entry.message.id).await?;
        }
    }
    // The domain has thought better of it.
    scene.web.policy("mta-sts.x.test", "mode: none");
    let worker = scene.world.worker(&scene.settings(), "")?;
    scene.send("x.test").await?;
    clear.received(1).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_fetched_anew_before_it_runs_out_also_while_its_record_is_hidden() -> anyhow::Result<()> {
    for is_hidden in [false, true] {
        let scene = Scene::new(&["x.test"]).await?;
        scene.announce("x.test", "a1", "mode: enforce\nmx: mx.good.test");
        scene.world.dns.mx("x.test", 10, "mx.good.test");
        if is_hidden {
            scene.world.dns.remove("_mta-sts.x.test");
        }
        // Most of its day is over.
        let (policies, left) = (scene.world.queue.policies(), Duration::from_secs(600));
        let kept = "a1\nversion: STSv1\nmode: enforce\nmx: mx.good.test\nmax_age: 86400\n";
        policies.keep("x.test", kept, left).await?;
        let worker = scene.world.worker(&scene.settings(), "")?;
        scene.send("x.test").await?;
        scene.good.received(1).await?;
        let end = tokio::time::Instant::now() + PATIENCE;
        while policies.recall("x.test").await?.is_none_or(|kept| kept.left <= left) {
            anyhow::ensure!(
                tokio::time::Instant::now() < end,
                "hidden: {is_hidden}: {:?}",
                policies.recall("x.test").await?
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8461_2_dane_has_the_last_word() -> anyhow::Result<()> {
    let scene = Scene::new(&["named.test", "wrong.test"]).await?;
    let (dns, port) = (&scene.world.dns, scene.good.port());
    dns.vouch();
    let leaf = scene.authority.leaf("dane", &["elsewhere.test"])?;
    let script = Script { extensions: &["STARTTLS"], tls: Some(acceptor(&leaf)?), ..Script::default() };
    let pinned = scene.server(42, script).await?;
    dns.host("mx.pinned.test", pinned.ip());
    dns.tlsa(&format!("_{port}._tcp.mx.pinned.test"), [3, 0, 0], &CertificateDer::from_pem_file(&leaf.certificate)?);
    dns.tlsa(&format!("_{port}._tcp.mx.good.test"), [3, 0, 0], &[0x30, 0]);
    // A host that the policy does not name, and DANE vouches for; and the other way round.
    scene.announce("named.test", "a1", "mode: enforce\nmx: mx.other.test");
    scene.announce("wrong.test", "a1", "mode: enforce\nmx: mx.good.test");
    dns.mx("named.test", 10, "mx.pinned.test").mx("wrong.test", 10, "mx.good.test");
    let worker = scene.world.worker_proving("dnssec = \"trust-ad\"", &scene.settings(), "")?;
    scene.send("named.test").await?;
    scene.send("wrong.test").await?;
    pinned.received(1).await?;
    let entries = scene.world.until("at rest", |entries| waiting(entries).len() == 1).await?;
    assert!(waiting(&entries)[0].starts_with("wrong.test: Cannot start TLS: "), "{entries:?}");
    assert!(scene.good.mails().is_empty());
    drop(scene.dir);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_policies_does_not_ask_for_them() -> anyhow::Result<()> {
    for (settings, routed) in [("mta_sts = false\n", false), ("tls = \"none\"\n", false), ("", true)] {
        let scene = Scene::new(&["x.test"]).await?;
        let clear = scene.server(42, Script::default()).await?;
        scene.announce("x.test", "a1", "mode: enforce\nmx: mx.other.test");
        scene.world.dns.mx("x.test", 10, "mx.clear.test").host("mx.clear.test", clear.ip());
        let route = if routed { crate::everything_to(&clear) } else { String::new() };
        let worker = scene.world.worker(&(scene.settings() + settings), &route)?;
        scene.send("x.test").await?;
        clear.received(1).await?;
        assert_eq!(scene.world.dns.asked("", "TXT"), 0, "{settings} {routed}");
        assert!(scene.web.requests("mta-sts.x.test").is_empty());
        worker.stop().await?;
    }
    Ok(())
}
