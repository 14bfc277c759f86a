//! `[frontend]`, `[tls]`, `[log]` and `hostname`.

use std::time::{Duration, Instant};

use staffetta_cli::sink::{Rule, Scenario, Stage};
use staffetta_tests::{Client, SOON, Service, World, eventually, get};
use staffetta_transport::connect::{TlsClient, Trust};

use super::{MESSAGE, client};

#[tokio::test(flavor = "multi_thread")]
async fn hostname_is_the_name_in_greeting_and_trace() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("hostname", "\"other.example.net\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let mut client = client(&world).await?;
    let hello = client.expect("HELO x", 250).await?;
    assert!(hello.text().contains("other.example.net"), "{hello:?}");
    assert_eq!(client.send("a@example.org", &["lisa@example.com"], MESSAGE).await?.code, 250);
    let text = String::from_utf8(staffetta_tests::next(&mut mx).await?.body.to_vec())?;
    assert!(text.contains("by other.example.net"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_message_are_those_of_the_file() -> anyhow::Result<()> {
    let world = World::new().await?.set("frontend.size_limit", "\"2KiB\"").set("frontend.recipient_limit", "2");
    let world = world.start().await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    let mut client = client(&world).await?;
    let ehlo = client.expect("EHLO x", 250).await?;
    assert!(ehlo.lines.iter().any(|line| line == "SIZE 2048"), "{ehlo:?}");
    client.expect("MAIL FROM:<a@example.org> SIZE=2049", 552).await?;
    client.expect("MAIL FROM:<a@example.org>", 250).await?;
    client.expect("RCPT TO:<a@example.com>", 250).await?;
    client.expect("RCPT TO:<b@example.com>", 250).await?;
    client.expect("RCPT TO:<c@example.com>", 452).await?;
    client.expect("RSET", 250).await?;
    let long = format!("{MESSAGE}{}", "\r\nmore".repeat(400));
    assert_eq!(client.send("a@example.org", &["a@example.com"], &long).await?.code, 552);
    assert_eq!(client.send("a@example.org", &["a@example.com"], MESSAGE).await?.code, 250);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_sent_is_said_by_the_file() -> anyhow::Result<()> {
    let world = World::new().await?.user("john@example.org", "summersun").await?;
    let world = world.set("frontend.reject_unknown_recipient_domain", "false");
    let world = world.set("frontend.sender_must_match_login", "false").set("frontend.enable_vrfy", "false");
    let world =
        world.set("frontend.relay_domains", "[\"ours.test\"]").set("frontend.etrn_networks", "[\"127.0.0.8/32\"]");
    let world = world.start().await?;
    // Nobody listens there, so nobody says no to x@ours.test.
    world.dns.host("ours.test", [127, 0, 0, 5]);
    let mut john = world.login("john@example.org", "summersun").await?;
    assert_eq!(john.send("forged@email.address", &["x@nothing.test"], MESSAGE).await?.code, 250);
    let mut stranger = Client::connect(world.smtp()).await?;
    let ehlo = stranger.expect("EHLO x", 250).await?;
    assert!(!ehlo.offers("VRFY"), "{ehlo:?}");
    stranger.expect("VRFY <x@ours.test>", 502).await?;
    assert_eq!(stranger.send("a@b.test", &["x@ours.test"], MESSAGE).await?.code, 250);
    stranger.expect("MAIL FROM:<a@b.test>", 250).await?;
    stranger.expect("RCPT TO:<x@theirs.test>", 554).await?;
    stranger.expect("RSET", 250).await?;
    stranger.expect("ETRN ours.test", 459).await?;
    let mut may = Client::connect_from("127.0.0.8", world.smtp()).await?;
    may.expect("EHLO x", 250).await?;
    may.expect("ETRN ours.test", 250).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_for_the_postmaster_goes_where_the_file_says() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("frontend.postmaster", "\"admin@example.com\"").start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    assert_eq!(client(&world).await?.send("a@example.org", &["postmaster"], MESSAGE).await?.code, 250);
    assert_eq!(staffetta_tests::next(&mut mx).await?.recipients, ["admin@example.com"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_tls_offers_none() -> anyhow::Result<()> {
    let port = staffetta_testkit::ports::Port::reserve()?;
    let inside = format!("{{ name = \"inside\", bind = \"{}\", kind = \"relay\", tls = \"off\" }}", port.address());
    let world = World::new().await?.listener(&inside).start().await?;
    let mut client = Client::connect_from("127.0.0.9", port.address()).await?;
    let ehlo = client.expect("EHLO x", 250).await?;
    assert!(!ehlo.offers("STARTTLS") && !ehlo.offers("AUTH"), "{ehlo:?}");
    let metrics = world.metrics(Service::Frontend).await?;
    assert_eq!(metrics.sum("staffetta_smtp_connections_total", &["listener=\"inside\""]), 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_a_limit_of_its_own() -> anyhow::Result<()> {
    let port = staffetta_testkit::ports::Port::reserve()?;
    let small =
        format!("{{ name = \"small\", bind = \"{}\", kind = \"relay\", connection_limit = 2 }}", port.address());
    let world = World::new().await?.listener(&small).start().await?;
    let _inside = (Client::connect(port.address()).await?, Client::connect(port.address()).await?);
    let refused = Client::connect(port.address()).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("421"), "{refused}");
    Client::connect(world.smtp()).await?.expect("EHLO x", 250).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_a_name_gets_its_certificate() -> anyhow::Result<()> {
    let world = World::new().await?;
    let leaf = world.certificate("second.example.net")?;
    let sni = format!(
        "[[tls.sni]]\nname = \"second.example.net\"\ncertificate = {:?}\nkey = {:?}\n",
        leaf.certificate, leaf.key
    );
    let world = world.tables(&sni).start().await?;
    let tls = TlsClient::new(Some(&world.ca()))?;
    let shake = async |name: &str| {
        let stream = tokio::net::TcpStream::connect(world.submissions()).await?;
        let trust = Trust::WebPki { name: name.into() };
        anyhow::Ok(tls.handshake(&trust, name, stream, SOON).await.map(drop).map_err(|error| error.to_string()))
    };
    assert_eq!(shake("mail.example.org").await?, Ok(()), "[tls]");
    assert_eq!(shake("second.example.net").await?, Ok(()), "[[tls.sni]]");
    assert!(shake("third.example.net").await?.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_new_clients_in_for_its_delay() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("frontend.drain_delay", "\"3s\"").start().await?;
    let (smtp, http) = (world.smtp(), world.http(Service::Frontend));
    let began = Instant::now();
    let stop = tokio::task::spawn_blocking(move || world.stop(Service::Frontend).map(|()| world));
    eventually(SOON, || async move {
        let (code, text) = get(http, "/readyz").await?;
        anyhow::ensure!(code == 503 && text.contains("draining"), "{code} {text}");
        Ok(())
    })
    .await?;
    Client::connect(smtp).await?.expect("EHLO x", 250).await?;
    stop.await??;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(Client::connect(smtp).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_relay_that_is_called_postfix_is_one_of_postfix() -> anyhow::Result<()> {
    let world = World::new().await?.set("log.format", "\"postfix\"").set("log.syslog_name", "\"postfix\"");
    let mut world = world.start().await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], MESSAGE).await?.code, 250);
    world.stop(Service::Frontend)?;
    let log = world.log(Service::Frontend);
    for part in [" postfix/smtpd[", " postfix/qmgr["] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    assert!(!log.contains(" staffetta/"), "{log}");
    Ok(())
}

/// What stands before `@example.com` in the first place where that is.
fn hash_in(log: &str) -> String {
    log.split_once("@example.com")
        .map(|(before, _)| before[before.len().saturating_sub(12)..].to_owned())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_nobody_if_the_file_says_so_and_a_message_can_be_followed_all_the_same() -> anyhow::Result<()> {
    for format in ["json", "postfix"] {
        let world = World::new().await?.user("john@example.org", "summersun").await?;
        let world = world.set("log.format", format!("{format:?}")).set("log.level", "\"debug\"");
        let world = world.set("log.addresses", "\"hashed\"").set("log.address_key", "\"a long text for tests\"");
        let mut world = world.start().await?;
        let reply = Some("550 5.1.1 <lisa@example.com>: no lisa@example.com here".to_owned());
        let rule = Rule { stage: Stage::Recipient, pattern: None, times: None, reply, action: None };
        let _mx = world.mx("example.com", Scenario { rules: vec![rule], ..Scenario::default() }).await?;
        let mut john = world.login("john@example.org", "summersun").await?;
        assert_eq!(john.send("john@example.org", &["lisa@example.com"], MESSAGE).await?.code, 250);
        john.expect("MAIL FROM:<anna@example.net>", 250).await?;
        john.expect("RCPT TO:<bob@example.net>", 553).await?;
        // The report is to john; it comes back, or waits: example.org has no host.
        world.dns.null_mx("example.org");
        eventually(SOON, || async {
            anyhow::ensure!(world.log(Service::Delivery).contains("550 5.1.1 <"), "{}", world.log(Service::Delivery));
            Ok(())
        })
        .await?;
        let logs = [Service::Auth, Service::Frontend, Service::Delivery].map(|service| world.log(service));
        for name in ["john@", "lisa@", "anna@", "bob@", "john"] {
            assert!(logs.iter().all(|log| !log.contains(name)), "{format}: {name}: {logs:?}");
        }
        let hash = hash_in(&logs[2]);
        assert!(hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{format}: {hash}: {}", logs[2]);
        assert_eq!(logs[2].matches(&format!("{hash}@example.com")).count(), logs[2].matches("@example.com").count());
        if format == "json" {
            let log = world.folder().join("staffetta-delivery.log");
            let mut trace = std::process::Command::new(staffetta_tests::program("staffetta")?);
            trace.args(["trace", "lisa@example.com", "--log"]).arg(log).arg("--config").arg(world.config_file());
            let output = trace.output()?;
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.contains(&hash), "{output:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_format_and_the_level_of_the_file() -> anyhow::Result<()> {
    for (format, level, line, connects) in [
        ("json", "info", "\"event\":\"accepted\"", false),
        ("postfix", "info", "/smtpd[", false),
        ("json", "debug", "\"event\":\"accepted\"", true),
    ] {
        let world = World::new().await?.set("log.format", format!("{format:?}")).set("log.level", format!("{level:?}"));
        let mut world = world.start().await?;
        world.dns.mx("example.com", 10, "mx.example.com");
        assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], MESSAGE).await?.code, 250);
        world.stop(Service::Frontend)?;
        let log = world.log(Service::Frontend);
        assert!(log.contains(line), "{format}: {log}");
        let told = log.contains("\"event\":\"connected\"");
        assert_eq!(told, connects, "{format} {level}: {log}");
    }
    Ok(())
}
