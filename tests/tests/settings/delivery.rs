//! `[delivery]`.

use std::time::{Duration, Instant};

use staffetta_cli::sink::{Action, Scenario, Stage};
use staffetta_tests::{Hand, SOON, Service, Visit, World, eventually};

use super::{MESSAGE, client};

/// With one time limit of a second, and all others minutes long, the client leaves soon after the server fell silent there.
async fn gives_up_soon(key: &'static str, stage: &str) -> anyhow::Result<()> {
    let mut world = World::new().await?.set(key, "\"1s\"").start().await?;
    let hand = world.hand("example.com").await?;
    // More than the buffers between the two hold.
    let text = if stage == "transfer" { format!("{MESSAGE}{}", "\r\nmore".repeat(2_000_000)) } else { MESSAGE.into() };
    let reply = client(&world).await?.send("a@example.org", &["a@example.com"], &text).await?;
    anyhow::ensure!(reply.code == 250, "{}", reply.text());
    let silent = silent_at(&hand, stage).await?;
    let since = Instant::now();
    if stage == "tls" {
        // The next try is one in clear.
        let again = hand.accept_within(Duration::from_secs(15)).await?;
        anyhow::ensure!(again.is_some(), "{key}: not given up");
        return Ok(());
    }
    eventually(SOON, || async {
        let metrics = world.metrics(Service::Delivery).await?;
        let deferred = metrics.sum("staffetta_deliveries_total", &["outcome=\"deferred\""]);
        anyhow::ensure!(deferred > 0.0, "{key}: not given up: {}", world.log(Service::Delivery));
        Ok(())
    })
    .await?;
    anyhow::ensure!(since.elapsed() < Duration::from_secs(15), "{key}: {:?}", since.elapsed());
    drop(silent);
    Ok(())
}

/// Talks up to this stage, and then no more.
async fn silent_at(hand: &Hand, stage: &str) -> anyhow::Result<Visit> {
    let mut visit = hand.accept().await?;
    if stage == "greeting" {
        return Ok(visit);
    }
    visit.say("220 mx.test").await?;
    while let Some(line) = visit.line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let (here, reply) = match verb {
            "EHLO" => ("helo", if stage == "tls" { "250-mx.test\r\n250 STARTTLS" } else { "250 mx.test" }),
            "STARTTLS" => ("tls", ""),
            "MAIL" => ("mail", "250 ok"),
            "RCPT" => ("rcpt", "250 ok"),
            "DATA" => ("data", "354 go on"),
            "." => ("final", "250 taken"),
            _ => continue,
        };
        if here == stage {
            break;
        }
        visit.say(reply).await?;
        if here == "data" && stage == "transfer" {
            break;
        }
    }
    Ok(visit)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_delivery_has_its_own_time() -> anyhow::Result<()> {
    tokio::try_join!(
        gives_up_soon("delivery.timeouts.greeting", "greeting"),
        gives_up_soon("delivery.timeouts.helo", "helo"),
        gives_up_soon("delivery.timeouts.tls", "tls"),
        gives_up_soon("delivery.timeouts.mail", "mail"),
    )?;
    tokio::try_join!(
        gives_up_soon("delivery.timeouts.rcpt", "rcpt"),
        gives_up_soon("delivery.timeouts.data", "data"),
        gives_up_soon("delivery.timeouts.transfer", "transfer"),
        gives_up_soon("delivery.timeouts.final", "final"),
    )?;
    Ok(())
}

/// The queue of connections that nobody has accepted is full: further ones get no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_its_time_too() -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.timeouts.connect", "\"1s\"").start().await?;
    let address = std::net::SocketAddr::from(([127, 0, 1, 77], world.mx_port()));
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(address)?;
    let _listener = socket.listen(0)?;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let connect = tokio::net::TcpStream::connect(address);
        if let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), connect).await {
            waiting.push(stream?);
        }
    }
    assert!(waiting.len() < 4, "the system takes them all");
    world.dns.mx("example.com", 10, "mx.example.com").host("mx.example.com", address.ip());
    assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], MESSAGE).await?.code, 250);
    eventually(Duration::from_secs(15), || async {
        let metrics = world.metrics(Service::Delivery).await?;
        let deferred = metrics.sum("staffetta_deliveries_total", &["outcome=\"deferred\""]);
        anyhow::ensure!(deferred > 0.0, "not given up: {}", world.log(Service::Delivery));
        Ok(())
    })
    .await
}

/// Silent servers, and the most connections that are open to them at a time.
async fn most_connections(world: World, domains: &[&str], messages: usize) -> anyhow::Result<Vec<u64>> {
    let mut world = world.start().await?;
    let mut sinks = Vec::new();
    for domain in domains {
        sinks.push(world.mx(domain, Scenario::default().act(Stage::Mail, Action::Stall)).await?);
    }
    let mut client = client(&world).await?;
    for n in 0..messages {
        for domain in domains {
            assert_eq!(client.send("a@example.org", &[&format!("r{n}@{domain}")], MESSAGE).await?.code, 250);
        }
    }
    // As many as will come: no more for a second.
    let count = || sinks.iter().map(|sink| sink.connections()).collect::<Vec<_>>();
    let (mut seen, mut since) = (count(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if count() != seen || count().iter().sum::<u64>() == 0 {
            (seen, since) = (count(), Instant::now());
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_as_many_as_the_file_says() -> anyhow::Result<()> {
    let world = World::new().await?.set("delivery.concurrency", "2");
    let seen = most_connections(world, &["a.test", "b.test", "c.test", "d.test"], 5).await?;
    assert!((1..=2).contains(&seen.iter().sum::<u64>()), "{seen:?}");
    let world = World::new().await?.set("delivery.concurrency", "40");
    let seen = most_connections(world, &["a.test", "b.test", "c.test", "d.test"], 5).await?;
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_has_as_many_connections_as_the_file_says() -> anyhow::Result<()> {
    let few = World::new().await?.set("delivery.destination_concurrency", "3");
    assert_eq!(most_connections(few, &["a.test", "b.test"], 12).await?, [3, 3]);
    let many = World::new().await?.set("delivery.destination_concurrency", "8");
    let seen = most_connections(many, &["a.test"], 40).await?;
    assert!((4..=8).contains(&seen[0]), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_as_many_connections_as_it_says_and_others_have_those_of_the_file() -> anyhow::Result<()> {
    let narrow = "[[delivery.route]]\ndomain = \"narrow.test\"\nvia = \"mx\"\nconcurrency = 2\n";
    let world = World::new().await?.tables(narrow).set("delivery.destination_concurrency", "4");
    assert_eq!(most_connections(world, &["narrow.test", "usual.test"], 20).await?, [2, 4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_a_level_of_its_own() -> anyhow::Result<()> {
    let world = World::new().await?;
    let route = |domain: &str, more: &str| format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"mx\"\n{more}\n");
    let tables = route("strict.test", "tls = \"encrypt\"") + &route("*.open.test", "tls = \"none\"");
    let mut world = world.tables(&tables).set("delivery.retry_max", "\"1s\"").start().await?;
    let clear = Scenario::default().starttls(staffetta_cli::sink::StartTls::Absent);
    let strict = world.mx("strict.test", clear).await?;
    let mut open = world.mx("x.open.test", Scenario::default()).await?;
    let mut usual = world.mx("usual.test", Scenario::default()).await?;
    let mut client = client(&world).await?;
    for domain in ["strict.test", "x.open.test", "usual.test"] {
        assert_eq!(client.send("a@example.org", &[&format!("a@{domain}")], MESSAGE).await?.code, 250);
    }
    assert!(!staffetta_tests::next(&mut open).await?.encrypted, "none");
    assert!(staffetta_tests::next(&mut usual).await?.encrypted, "may");
    eventually(SOON, || async {
        let log = world.log(Service::Delivery);
        anyhow::ensure!(log.contains("TLS is required"), "{log}");
        Ok(())
    })
    .await?;
    assert_eq!(strict.count(), 0, "encrypt");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_get_so_many_messages_as_the_file_says() -> anyhow::Result<()> {
    let routes = "[[delivery.route]]\ndomain = \"fast.test\"\nvia = \"mx\"\nrate = \"1000/1h\"\n";
    let mut world = World::new().await?.tables(routes).set("delivery.destination_rate", "\"3/1h\"").start().await?;
    let usual = world.mx("usual.test", Scenario::default()).await?;
    let fast = world.mx("fast.test", Scenario::default()).await?;
    let mut client = client(&world).await?;
    // The second round arrives when the first would have: what is held back is not only late.
    for round in 1..=2 {
        for _ in 0..6 {
            for domain in ["usual.test", "fast.test"] {
                assert_eq!(client.send("a@example.org", &[&format!("a@{domain}")], MESSAGE).await?.code, 250);
            }
        }
        eventually(SOON, || async {
            anyhow::ensure!(fast.count() == 6 * round && usual.count() >= 3, "{} {}", fast.count(), usual.count());
            Ok(())
        })
        .await?;
    }
    assert_eq!(usual.count(), 3);
    Ok(())
}

/// With the whole range between the two bounds, the second wait of a message is longer; with one bound it is not.
#[tokio::test(flavor = "multi_thread")]
async fn waits_stay_within_their_bounds() -> anyhow::Result<()> {
    for (least, most, attempts) in [("100ms", "300ms", 8.0..1e9), ("20s", "40s", 1.0..2.0)] {
        let world = World::new().await?.set("delivery.retry_min", format!("{least:?}"));
        let mut world = world.set("delivery.retry_max", format!("{most:?}")).start().await?;
        let _mx = world.mx("example.com", Scenario::default().reply(Stage::Recipient, "450 4.2.0 later")).await?;
        let sent = Instant::now();
        assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], MESSAGE).await?.code, 250);
        let mut deferred = 0.0;
        while sent.elapsed() < Duration::from_secs(6) && deferred < 8.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let metrics = world.metrics(Service::Delivery).await?;
            deferred = metrics.sum("staffetta_deliveries_total", &["outcome=\"deferred\""]);
        }
        assert!(attempts.contains(&deferred), "{least}: {deferred} attempts");
    }
    Ok(())
}
