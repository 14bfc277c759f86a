//! Who may send what: the relay chapter's scenarios, and what else a relay must refuse.

use staffetta_cli::sink::Scenario;
use staffetta_tests::{Client, SOON, Service, World, eventually, next};

/// The chapter's AUTH PLAIN line: john@example.org, john@example.org, summersun.
const CHAPTER_AUTH: &str = "AUTH PLAIN am9obkBleGFtcGxlLm9yZwBqb2huQGV4YW1wbGUub3JnAHN1bW1lcnN1bg==";

async fn world() -> anyhow::Result<World> {
    World::new().await?.user("john@example.org", "summersun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chapters_walk_on_port_25() -> anyhow::Result<()> {
    let world = world().await?.start().await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    let mut clear = Client::connect(world.smtp()).await?;
    let ehlo = clear.expect("ehlo example.com", 250).await?;
    for keyword in ["PIPELINING", "SIZE", "VRFY", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN"] {
        assert!(ehlo.offers(keyword), "{keyword} is missing: {ehlo:?}");
    }
    assert!(!ehlo.offers("AUTH"));
    let refused = clear.command(CHAPTER_AUTH).await?;
    assert_eq!(refused.text(), "538 5.7.11 Encryption required for requested authentication mechanism");
    clear.expect("MAIL FROM:<john@example.org>", 250).await?;
    let denied = clear.command("RCPT TO:<lisa@example.com>").await?;
    assert_eq!(denied.text(), "554 5.7.1 <lisa@example.com>: Relay access denied");
    clear.expect("RSET", 250).await?;

    let mut secret = clear.start_tls().await?;
    let ehlo = secret.expect("ehlo example.com", 250).await?;
    assert!(ehlo.lines.iter().any(|line| line == "AUTH PLAIN LOGIN"), "{ehlo:?}");
    assert!(!ehlo.offers("STARTTLS"));
    assert_eq!(secret.command(CHAPTER_AUTH).await?.text(), "235 2.7.0 Authentication successful");
    secret.expect("MAIL FROM:<john@example.org>", 250).await?;
    secret.expect("RCPT TO:<lisa@example.com>", 250).await?;
    assert_eq!(secret.command("QUIT").await?.text(), "221 2.0.0 Bye");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn submission_wants_tls_then_a_login_then_ones_own_sender() -> anyhow::Result<()> {
    let world = world().await?.start().await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    let mut clear = Client::connect(world.submission()).await?;
    clear.expect("EHLO x", 250).await?;
    assert_eq!(clear.command("MAIL FROM:<a@b.c>").await?.text(), "530 5.7.0 Must issue a STARTTLS command first");
    let mut client = clear.start_tls().await?;
    assert_eq!(client.command("MAIL FROM:<a@b.c>").await?.text(), "530 5.7.0 Authentication required");
    assert_eq!(client.auth("john@example.org", "wrong").await?.code, 535);
    assert_eq!(client.auth("nobody@example.org", "summersun").await?.code, 535);
    assert_eq!(client.command("AUTH PLAIN !!!").await?.text().get(..9), Some("501 5.5.2"));
    assert_eq!(client.command("AUTH CRAM-MD5").await?.text().get(..9), Some("504 5.5.4"));
    assert_eq!(client.auth("john@example.org", "summersun").await?.code, 235);

    client.expect("MAIL FROM:<forged@email.address>", 250).await?;
    assert_eq!(
        client.command("RCPT TO:<lisa@example.com>").await?.text(),
        "553 5.7.1 <forged@email.address>: Sender address rejected: not owned by user john@example.org"
    );
    let world = &world;
    eventually(SOON, || async move {
        let log = world.log(Service::Frontend);
        anyhow::ensure!(log.contains("553 5.7.1 <forged@email.address>"), "{log}");
        anyhow::ensure!(!log.contains("summersun"), "a password is in the log");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_guesses_passwords_is_sent_away_and_counted() -> anyhow::Result<()> {
    let world = world().await?.set("frontend.auth_failures_per_client", "\"2/1h\"").start().await?;
    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    for _ in 0..2 {
        assert_eq!(client.auth("john@example.org", "wrong").await?.code, 535);
    }
    let limited = client.auth("john@example.org", "summersun").await?;
    assert_eq!(limited.text(), "421 4.7.0 mail.example.org Error: too many authentication failures");
    assert!(client.command("NOOP").await.is_err(), "the connection is closed");
    let metrics = world.metrics(Service::Frontend).await?;
    assert_eq!(metrics.sum("staffetta_rate_limited_total", &["scope=\"auth\""]), 1.0);
    assert_eq!(metrics.sum("staffetta_smtp_auth_total", &["result=\"limited\""]), 1.0);
    assert_eq!(metrics.sum("staffetta_smtp_auth_total", &["result=\"failed\""]), 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_must_exist_in_dns() -> anyhow::Result<()> {
    let world = world().await?.start().await?;
    world.dns.null_mx("nomail.test").servfail("broken.test").host("plain.test", [127, 0, 0, 5]);
    let mut client = world.login("john@example.org", "summersun").await?;
    client.expect("MAIL FROM:<john@example.org>", 250).await?;
    for (recipient, reply) in [
        ("x@nodot", "504 5.5.2 <x@nodot>: Recipient address rejected: need fully-qualified address"),
        ("x@nothing.test", "550 5.1.2 <x@nothing.test>: Recipient address rejected: Domain not found"),
    ] {
        assert_eq!(client.command(&format!("RCPT TO:<{recipient}>")).await?.text(), reply);
    }
    let nomail = client.command("RCPT TO:<x@nomail.test>").await?.text();
    assert!(nomail.starts_with("556 5.1.10 <x@nomail.test>:"), "{nomail}");
    let broken = client.command("RCPT TO:<x@broken.test>").await?.text();
    assert!(broken.starts_with("450 4.4.3 <x@broken.test>:"), "{broken}");
    client.expect("RCPT TO:<x@plain.test>", 250).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_network_relays_without_a_login() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut webmail = Client::connect_from("127.0.0.9", world.smtp()).await?;
    webmail.expect("HELO webmail", 250).await?;
    let accepted = webmail.send("anyone@anywhere.test", &["lisa@example.com"], "Subject: x\r\n\r\nx").await?;
    assert_eq!(accepted.code, 250);
    assert_eq!(next(&mut mx).await?.sender, "anyone@anywhere.test");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_domains_take_mail_from_strangers_and_know_their_recipients() -> anyhow::Result<()> {
    let mut world = world().await?.set("frontend.relay_domains_from_auth", "true").start().await?;
    let mut mx = world.mx("example.org", Scenario::default()).await?;
    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO stranger.test", 250).await?;
    stranger.expect("MAIL FROM:<someone@else.test>", 250).await?;
    let unknown = stranger.command("RCPT TO:<nobody@example.org>").await?.text();
    assert!(unknown.starts_with("550 5.1.1 <nobody@example.org>:"), "{unknown}");
    stranger.expect("RSET", 250).await?;
    let accepted = stranger.send("someone@else.test", &["john@example.org"], "Subject: x\r\n\r\nx").await?;
    assert_eq!(accepted.code, 250);
    assert_eq!(next(&mut mx).await?.recipients, ["john@example.org"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_auth_service_logins_wait_and_then_work_again() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    world.kill(Service::Auth);
    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    assert_eq!(client.auth("john@example.org", "summersun").await?.text().get(..9), Some("454 4.7.0"));
    world.spawn(Service::Auth)?;
    world.until_ready(Service::Auth).await?;
    let world = &world;
    eventually(SOON, || async move { world.login("john@example.org", "summersun").await.map(drop) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn smuggled_line_ends_end_no_message() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO x", 250).await?;
    let smuggled = "Subject: x\r\n\r\nx\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<lisa@example.com>";
    // A bare LF is made CRLF; the dot behind it is content, here and at the next hop.
    assert_eq!(client.send("a@example.org", &["lisa@example.com"], smuggled).await?.code, 250);
    let received = String::from_utf8(next(&mut mx).await?.body.to_vec())?;
    assert!(received.contains("\r\nx\r\n.\r\nMAIL FROM:<evil@example.org>\r\n"), "{received}");
    let reply = client.send("a@example.org", &["lisa@example.com"], &smuggled.replace("x\n.", "x\r.")).await?;
    assert_eq!(reply.text().get(..9), Some("550 5.5.2"), "{reply:?}");
    assert_eq!(client.send("a@example.org", &["lisa@example.com"], "Subject: y\r\n\r\nhonest").await?.code, 250);
    let received = next(&mut mx).await?;
    assert!(String::from_utf8(received.body.to_vec())?.contains("honest"));
    world.until_empty().await?;
    assert_eq!(mx.count(), 2);
    Ok(())
}
