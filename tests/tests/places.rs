//! Limits give back what they gave, however its holder ends: afterwards every gauge says zero, and all places can be
//! taken at the same time.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use staffetta_cli::sink::{Action, Scenario, Stage, StartTls};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const PLACES: usize = 12;
const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";

/// Says this without listening, and hangs up; the greeting that nobody has read makes it a reset.
async fn rude(address: std::net::SocketAddr, text: &[u8]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text).await?;
    stream.flush().await?;
    Ok(())
}

async fn open(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect(world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    client.expect("MAIL FROM:<john@example.org>", 250).await?;
    client.expect("RCPT TO:<lisa@example.com>", 250).await?;
    Ok(client)
}

/// Each way in which a client can leave.
async fn leave_in_every_way(world: &World) -> anyhow::Result<()> {
    let hello = b"EHLO client.test\r\n".to_vec();
    for text in [vec![], hello.clone(), b"EHLO half".to_vec(), [&hello[..], b"STARTTLS\r\n\x16\x03\x01"].concat()] {
        rude(world.smtp(), &text).await?;
        rude(world.submission(), &text).await?;
        rude(world.submissions(), &text).await?;
    }
    rude(world.submissions(), b"\x16\x03\x01\x02\x00\x01\x00").await?;
    let whole = format!("EHLO x\r\nMAIL FROM:<j@x.test>\r\nRCPT TO:<lisa@example.com>\r\nDATA\r\n{MESSAGE}\r\n.\r\n");
    rude(world.smtp(), whole.as_bytes()).await?;
    // In the middle of the content, with a part of it stored already.
    let large = format!("{MESSAGE}\r\n{}", format!("{}\r\n", "x".repeat(998)).repeat(400));
    rude(world.smtp(), whole.replace(&format!("{MESSAGE}\r\n.\r\n"), &large).as_bytes()).await?;
    let mut client = open(world).await?;
    client.expect("DATA", 354).await?;
    client.write(large.as_bytes()).await?;
    drop(client);
    let mut client = open(world).await?;
    client.expect("DATA", 354).await?;
    client.write(format!("{large}.\r\n").as_bytes()).await?;
    drop(client);
    drop(open(world).await?);
    // In the middle of a login, and while its password is being checked.
    let secret = async || Client::connect(world.submission()).await?.start_tls().await;
    let mut client = secret().await?;
    client.expect("AUTH LOGIN", 334).await?;
    drop(client);
    for (n, password) in ["right", "wrong"].into_iter().enumerate() {
        let response = BASE64_STANDARD.encode(format!("\0john@example.org\0{password}{n}"));
        secret().await?.write(format!("AUTH PLAIN {response}\r\n").as_bytes()).await?;
    }
    // As one should.
    Client::connect(world.smtp()).await?.expect("QUIT", 221).await?;
    Ok(())
}

/// Some ten seconds: who talks nonsense is answered slowly, and then no more.
async fn be_thrown_out(world: &World) -> anyhow::Result<()> {
    let mut client = open(world).await?;
    while client.command("NONSENSE").await.is_ok_and(|reply| reply.code != 421) {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_end_in_every_way_leave_nothing_behind_in_the_frontend() -> anyhow::Result<()> {
    let world = World::new().await?.set("frontend.connection_limit", (PLACES + 1).to_string());
    let world = world.set("frontend.connections_per_client", PLACES.to_string());
    let world = world.set("frontend.relay_domains", "[\"example.com\"]").set("frontend.trusted_networks", "[]");
    let world = world.set("frontend.auth_failures_per_client", "\"\"");
    let mut world = world.user("john@example.org", "right0").await?.start().await?;
    let _mx = world.mx("example.com", Scenario::default()).await?;
    let thrown_out = be_thrown_out(&world);
    let left = async {
        let mut rounds = 0;
        while rounds < PLACES {
            // Those who left may still be counted for a moment, and the next one is refused.
            match leave_in_every_way(&world).await {
                Ok(()) => rounds += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(thrown_out, left)?;
    until_nobody(&world).await?;
    let mut all = Vec::new();
    for _ in 0..PLACES {
        all.push(Client::connect(world.smtp()).await?);
    }
    assert!(Client::connect(world.smtp()).await.is_err(), "one more than there are places");
    for client in &mut all {
        client.expect("EHLO client.test", 250).await?;
        assert_eq!(client.send("john@x.test", &["lisa@example.com"], MESSAGE).await?.code, 250);
    }
    drop(all);
    until_nobody(&world).await?;
    assert_eq!(world.login("john@example.org", "right0").await?.command("NOOP").await?.code, 250);
    world.until_empty().await
}

async fn until_nobody(world: &World) -> anyhow::Result<()> {
    eventually(SOON, || async {
        let frontend = world.metrics(Service::Frontend).await?;
        let active = frontend.sum("staffetta_smtp_connections_active", &[]);
        let waiting = world.metrics(Service::Auth).await?.sum("staffetta_auth_hash_waiting", &[]);
        anyhow::ensure!(active == 0.0 && waiting == 0.0, "{active} connections, {waiting} wait for a hash");
        Ok(())
    })
    .await
}

/// With records this large, four jobs are all that a worker has memory for, and with these windows two connections are
/// all that a destination gets: if any of the ends of an attempt kept one of either, mail would come to a stop.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_end_in_every_way_leave_nothing_behind_in_the_worker() -> anyhow::Result<()> {
    let ends = [
        ("connect", Scenario::default().act(Stage::Connect, Action::Drop).times(3)),
        ("greeting", Scenario::default().reply(Stage::Connect, "421 4.3.2 later").times(3)),
        ("stall", Scenario::default().act(Stage::Connect, Action::Stall).times(2)),
        ("tls", Scenario::default().starttls(StartTls::Broken)),
        ("mail", Scenario::default().reply(Stage::Mail, "421 4.3.2 later").times(5)),
        ("mail-drop", Scenario::default().act(Stage::Mail, Action::Drop).times(3)),
        ("rcpt", Scenario::default().reply(Stage::Recipient, "450 4.2.0 later").times(6)),
        ("rcpt-no", Scenario::default().reply(Stage::Recipient, "550 5.1.1 no").only("r1@").times(1)),
        ("data", Scenario::default().act(Stage::Data, Action::Drop).times(3)),
        ("data-stall", Scenario::default().act(Stage::Data, Action::Stall).times(1)),
        ("dot", Scenario::default().reply(Stage::End, "451 4.3.0 later").times(6)),
        ("dot-421", Scenario::default().reply(Stage::End, "421 4.3.2 later").times(3)),
    ];
    let world = World::new().await?.set("spool.inline_limit", "\"16MiB\"").set("spool.redis_limit", "\"16MiB\"");
    let world = world.set("delivery.destination_concurrency", "2").set("delivery.concurrency", "4");
    // The sinks take chunks, so whoever is silent at "data" is so in place of the last answer.
    let world = world.set("delivery.timeouts.greeting", "\"1s\"").set("delivery.timeouts.final", "\"5s\"");
    let mut world = world.set("delivery.retry_max", "\"1s\"").start().await?;
    let _home = world.mx("example.org", Scenario::default()).await?;
    let mut sinks = Vec::new();
    for (name, scenario) in ends {
        let domain = format!("{name}.test");
        sinks.push((name, world.mx(&domain, scenario).await?));
    }
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    for n in 0..8 {
        for (name, _) in &sinks {
            let recipient = format!("r{n}@{name}.test");
            assert_eq!(client.send("john@example.org", &[&recipient], MESSAGE).await?.code, 250);
        }
    }
    let queue = world.queue().await?;
    eventually(SOON * 3, || async {
        let counts = queue.counts().await?;
        anyhow::ensure!(counts.messages == 0, "{counts:?}: {}", world.log(Service::Delivery));
        Ok(())
    })
    .await?;
    for (name, sink) in &sinks {
        assert_eq!(sink.count(), if *name == "rcpt-no" { 7 } else { 8 }, "{name}");
    }
    eventually(SOON, || async {
        let active = world.metrics(Service::Delivery).await?.sum("staffetta_delivery_connections_active", &[]);
        anyhow::ensure!(active == 0.0, "{active} connections");
        Ok(())
    })
    .await?;
    // And the windows are open: as many connections as are allowed, at the same time.
    let mut last = world.mx("last.test", Scenario::default()).await?;
    for n in 0..20 {
        assert_eq!(client.send("john@example.org", &[&format!("r{n}@last.test")], MESSAGE).await?.code, 250);
    }
    for _ in 0..20 {
        next(&mut last).await?;
    }
    world.until_empty().await
}
