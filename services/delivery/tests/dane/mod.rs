//! DANE (RFC 7672): what a signed zone says of a host's certificate, from the look-up to the handshake.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use staffetta_telemetry as telemetry;
use staffetta_testkit::certs::Authority;

use crate::BODY;
use crate::world::mx::{Script, Server, acceptor};
use crate::world::{World, waiting};

const FOR_LATER: &str = "retry_min = \"1h\"\nretry_max = \"2h\"\n";

/// The lines of `[dns]` for each way to have answers proven.
fn proven(world: &World, dir: &tempfile::TempDir, mode: &str) -> anyhow::Result<String> {
    if mode == "trust-ad" {
        world.dns.vouch();
        return Ok("dnssec = \"trust-ad\"".to_owned());
    }
    let anchor = dir.path().join("root.key");
    std::fs::write(&anchor, world.dns.sign()?)?;
    Ok(format!("dnssec = \"validate\"\ntrust_anchor = \"{}\"", anchor.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_signed_zone_says_of_a_certificate_is_obeyed() -> anyhow::Result<()> {
    let _log = telemetry::init(telemetry::LogFormat::Json, "info", &["delivery"], telemetry::Build::UNKNOWN)?;
    for mode in ["trust-ad", "validate"] {
        let (world, dir) = (World::start().await?, tempfile::tempdir()?);
        let settings = proven(&world, &dir, mode)?;
        let authority = Authority::new(dir.path())?;
        let leaf = authority.leaf("mx", &["elsewhere.test"])?;
        let certificate = CertificateDer::from_pem_file(&leaf.certificate)?;
        let tls = Script { extensions: &["STARTTLS"], tls: Some(acceptor(&leaf)?), ..Script::default() };
        let server = Server::start_on("127.0.0.41:0".parse()?, tls).await?;
        let port = server.port();
        let on = |last: u8| std::net::SocketAddr::from(([127, 0, 0, last], port));
        let clear = Server::start_on(on(42), Script::default()).await?;
        let broken = Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() };
        let broken = Server::start_on(on(43), broken).await?;
        // Each domain has a host of its name, with a record about this certificate.
        let wrong = [0x30, 0];
        for (domain, server, usage, data) in [
            ("good", &server, 3, &certificate[..]),
            ("wrong", &server, 3, &wrong),
            ("unnamed", &server, 2, &certificate),
            ("unusable", &server, 1, &wrong),
            ("clear", &clear, 3, &certificate),
            ("broken", &broken, 3, &certificate),
            ("late", &server, 3, &certificate),
            ("plain", &server, 3, &wrong),
            ("second", &clear, 3, &certificate),
        ] {
            let host = format!("mx.{domain}.test");
            world.dns.mx(&format!("{domain}.test"), 10, &host).host(&host, server.ip());
            world.dns.tlsa(&format!("_{port}._tcp.{host}"), [usage, 0, 0], data);
        }
        world.dns.unsigned("plain.test").servfail(&format!("_{port}._tcp.mx.late.test"));
        world.dns.mx("second.test", 20, "mx.good.test");
        // A signed host that an unsigned domain names.
        world.dns.mx("loose.plain.test", 10, "mx.wrong.test");
        world.send("john@home.test", &["loose@loose.plain.test"], BODY).await?;
        for domain in ["good", "wrong", "unnamed", "unusable", "clear", "broken", "late", "plain", "second"] {
            world.send("john@home.test", &[&format!("{domain}@{domain}.test")], BODY).await?;
        }
        let worker = world.worker_proving(&settings, &format!("port = {port}\n{FOR_LATER}"), "")?;
        let waiting = waiting(&world.until("at rest", |entries| waiting(entries).len() == 5).await?);
        for (found, expected) in waiting.iter().zip([
            "broken.test: Cannot start TLS: handshake failure with mx.broken.test[127.0.0.43]: ",
            "clear.test: TLS is required, but was not offered by host mx.clear.test[127.0.0.42]",
            &format!("late.test: TLSA lookup error for mx.late.test:{port}: "),
            "unnamed.test: Cannot start TLS: handshake failure with mx.unnamed.test[127.0.0.41]: ",
            "wrong.test: Cannot start TLS: handshake failure with mx.wrong.test[127.0.0.41]: ",
        ]) {
            assert!(found.starts_with(expected), "{mode}: {found}");
        }
        assert!(waiting[4].contains("no TLSA record matches"), "{mode}: {waiting:?}");
        let mails = server.received(5).await?;
        let mut got: Vec<_> = mails.iter().map(|mail| (mail.recipients.join(","), mail.asked_for.clone())).collect();
        got.sort();
        let name = |host: &str| Some(host.to_owned());
        assert_eq!(
            got,
            [
                ("good@good.test".to_owned(), name("mx.good.test")),
                ("loose@loose.plain.test".to_owned(), name("mx.wrong.test")),
                ("plain@plain.test".to_owned(), name("mx.plain.test")),
                ("second@second.test".to_owned(), name("mx.good.test")),
                ("unusable@unusable.test".to_owned(), name("mx.unusable.test")),
            ],
            "{mode}"
        );
        assert!(mails.iter().all(|mail| mail.encrypted), "{mode}: {mails:?}");
        assert!(clear.mails().is_empty() && broken.mails().is_empty(), "{mode}: nothing in the clear");
        let metrics = worker.metrics().await?;
        for line in [
            "staffetta_tls_policy_total{policy=\"dane\",result=\"encrypted\"}",
            "staffetta_tls_policy_total{policy=\"dane\",result=\"failed\"}",
        ] {
            let counted = metrics.lines().find(|found| found.starts_with(line));
            assert!(counted.is_some_and(|found| !found.ends_with(" 0")), "{mode}: {line}: {counted:?}");
        }
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dnssec_and_without_tls_nobody_asks_for_tlsa() -> anyhow::Result<()> {
    for (mode, level) in [("off", "may"), ("trust-ad", "none")] {
        let world = World::start().await?;
        world.dns.vouch();
        let server = Server::start(Script::default()).await?;
        world.dns.mx("x.test", 10, "mx.test").host("mx.test", server.ip());
        world.dns.tlsa(&format!("_{}._tcp.mx.test", server.port()), [3, 1, 1], &[1; 32]);
        let settings = format!("port = {}\ntls = \"{level}\"", server.port());
        let worker = world.worker_proving(&format!("dnssec = \"{mode}\""), &settings, "")?;
        world.send("john@home.test", &["a@x.test"], BODY).await?;
        server.received(1).await?;
        assert_eq!(world.dns.asked("", "TLSA"), 0, "{mode} {level}");
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smart_host_is_known_by_the_name_that_the_operator_gave_it() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let settings = proven(&world, &dir, "validate")?;
    let authority = Authority::new(dir.path())?;
    let leaf = authority.leaf("mx", &["smart.test"])?;
    let tls = Some(acceptor(&leaf)?);
    let server = Server::start(Script { extensions: &["STARTTLS"], tls, ..Script::default() }).await?;
    let ca = CertificateDer::from_pem_file(authority.ca())?;
    let port = server.port();
    world.dns.host("smart.test", server.ip()).host("other.test", server.ip());
    for host in ["smart.test", "other.test"] {
        world.dns.tlsa(&format!("_{port}._tcp.{host}"), [2, 0, 0], &ca);
    }
    let routes = format!(
        "[[delivery.route]]\ndomain = \"a.test\"\nvia = \"smtp://smart.test:{port}\"\n\
         [[delivery.route]]\ndomain = \"b.test\"\nvia = \"smtp://other.test:{port}\"\n"
    );
    let worker = world.worker_proving(&settings, FOR_LATER, &routes)?;
    world.send("john@home.test", &["a@a.test"], BODY).await?;
    world.send("john@home.test", &["b@b.test"], BODY).await?;
    let mail = &server.received(1).await?[0];
    assert_eq!((mail.recipients.join(","), mail.encrypted), ("a@a.test".to_owned(), true));
    assert_eq!(mail.asked_for.as_deref(), Some("smart.test"));
    let entries = world.until("at rest", |entries| waiting(entries).len() == 1).await?;
    assert!(waiting(&entries)[0].starts_with("b.test: Cannot start TLS"), "{entries:?}");
    worker.stop().await
}
