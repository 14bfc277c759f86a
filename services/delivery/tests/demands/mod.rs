//! Messages that demand something of every host that carries them: REQUIRETLS (RFC 8689) and SMTPUTF8 (RFC 6531).

use staffetta_mail::{Envelope, ReversePath};
use staffetta_testkit::certs::Authority;

use crate::world::World;
use crate::world::mx::{Script, Server, acceptor};
use crate::{BODY, home};

/// A server with STARTTLS, a certificate for `mx.test`, and one more extension.
async fn server(authority: &Authority, extensions: &'static [&'static str]) -> anyhow::Result<Server> {
    let tls = Some(acceptor(&authority.leaf("mx.test", &["mx.test"])?)?);
    Server::start(Script { extensions, tls, ..Script::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_demands_tls_is_told_to_a_server_that_proves_itself_and_offers_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(dir.path())?;
    let server = server(&authority, &["STARTTLS", "REQUIRETLS"]).await?;
    world.dns.mx("x.test", 10, "mx.test").host("mx.test", server.ip());
    let ca = authority.ca().display().to_string();
    // A message that demands nothing opens an unverified connection; the demanding one waits for a better one.
    let settings = format!("port = {}\ndestination_concurrency = 1\nca = \"{ca}\"", server.port());
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    world.send_as("b@x.test", |envelope| envelope.require_tls = true).await?;
    let worker = world.worker(&settings, "")?;
    let mails = server.received(2).await?;
    world.drained().await?;
    assert!(mails.iter().all(|mail| mail.encrypted), "{mails:?}");
    let told: Vec<_> = server.commands().into_iter().filter(|line| line.starts_with("MAIL")).collect();
    assert_eq!(told.iter().filter(|line| line.ends_with(" REQUIRETLS")).count(), 1, "{told:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_demands_tls_bounces_where_it_is_not_to_be_had_and_harms_no_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(dir.path())?;
    let inbox = Server::start(Script::default()).await?;
    // In the clear; with a broken handshake; with a certificate that nobody vouches for; with one that is good, without the
    // extension.
    let clear = Server::start(Script::default()).await?;
    let broken = Server::start(Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() }).await?;
    let elsewhere = tempfile::tempdir()?;
    let foreign = Authority::new(elsewhere.path())?;
    let unknown = server(&foreign, &["STARTTLS", "REQUIRETLS"]).await?;
    let without = server(&authority, &["STARTTLS"]).await?;
    let ca = authority.ca().display().to_string();
    for (number, server) in (1..).zip([&clear, &broken, &unknown, &without]) {
        world.dns.mx("x.test", 10, "mx.test").host("mx.test", server.ip());
        // One job that demands it, and behind it in the same claim one that does not.
        let demanding = world.send_as("b@x.test", |envelope| envelope.require_tls = true).await?;
        world.send_beside(demanding, "a@x.test").await?;
        let worker = world.worker(&format!("port = {}\nca = \"{ca}\"", server.port()), &home(&inbox))?;
        let reports = inbox.received(number).await?;
        world.drained().await?;
        assert_eq!(inbox.mails().len(), number, "one report");
        let report = &reports[number - 1].body;
        assert!(report.contains("Status: 5.7.30\r\n") && report.contains("; b@x.test"), "{number}: {report}");
        assert!(!report.contains("Hello"), "the content does not travel back: {report}");
        let mails = server.mails();
        assert!(matches!(&mails[..], [mail] if mail.recipients == ["a@x.test"]), "{number}: {mails:?}");
        worker.stop().await?;
    }
    Ok(())
}

/// The addresses of an internationalised message, as they are written (RFC 6531).
fn in_utf8(envelope: &mut Envelope) {
    envelope.smtputf8 = true;
    envelope.sender = "j\u{fc}rgen@home.test".parse().map_or(ReversePath::Null, ReversePath::Address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_utf8_goes_to_the_next_host_that_takes_it_or_bounces() -> anyhow::Result<()> {
    let world = World::start().await?;
    let script = Script { extensions: &["SMTPUTF8", "8BITMIME"], ..Script::default() };
    let inbox = Server::start(script.clone()).await?;
    let without = Server::start_on("127.0.0.31:0".parse()?, Script::default()).await?;
    let port = without.port();
    let takes = Server::start_on(format!("127.0.0.32:{port}").parse()?, script).await?;
    let idn = "xn--bcher-kva.test";
    world.dns.mx(idn, 10, "mx1.test").mx(idn, 20, "mx2.test").mx("y.test", 10, "mx1.test");
    world.dns.host("mx1.test", without.ip()).host("mx2.test", takes.ip());
    let worker = world.worker(&format!("port = {port}"), &home(&inbox))?;
    world.send_as("\u{43f}\u{43e}\u{447}\u{442}\u{430}@b\u{fc}cher.test", in_utf8).await?;
    let mail = &takes.received(1).await?[0];
    assert_eq!(mail.sender, "j\u{fc}rgen@home.test", "as it was written");
    assert_eq!(mail.recipients, ["\u{43f}\u{43e}\u{447}\u{442}\u{430}@b\u{fc}cher.test"]);
    assert!(takes.commands().iter().any(|line| line.starts_with("MAIL") && line.contains(" SMTPUTF8")));

    world.send_as("\u{fc}@y.test", in_utf8).await?;
    let report = &inbox.received(1).await?[0];
    assert_eq!(report.recipients, ["j\u{fc}rgen@home.test"]);
    assert!(inbox.commands().iter().any(|line| line.starts_with("MAIL FROM:<>") && line.contains(" SMTPUTF8")));
    for field in
        ["Status: 5.6.7", "Final-Recipient: utf-8; \u{fc}@y.test", "X-Staffetta-Sender: utf-8; j\u{fc}rgen@home.test"]
    {
        assert!(report.body.contains(&format!("{field}\r\n")), "{field}: {}", report.body);
    }
    world.drained().await?;
    let said = without.commands();
    assert!(said.iter().any(|line| line.starts_with("EHLO")), "it was asked what it can");
    assert!(!said.iter().any(|line| line.starts_with("MAIL")), "and told nothing: {said:?}");
    worker.stop().await
}
