//! Destinations: domains with the same mail hosts, and what the configuration says of hosts and domains.

mod hard_bounces;
mod shaping;
mod sources;

use std::collections::HashMap;
use std::time::Duration;

use staffetta_queue::{Rate, Target};

use crate::BODY;
use crate::world::mx::{Script, Server};
use crate::world::{World, waiting};

/// The mail host of these domains is this server, under this name.
fn served(world: &World, domains: &[&str], host: &str, server: &Server) {
    for domain in domains {
        world.dns.mx(domain, 10, host);
    }
    world.dns.host(host, server.ip());
}

fn port(server: &Server, settings: &str) -> String {
    format!("port = {}\n{settings}", server.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_with_the_same_hosts_have_the_places_of_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let domains: Vec<String> = (0..12).map(|n| format!("d{n}.test")).collect();
    for domain in &domains {
        served(&world, &[domain], "mx.shared.test", &server);
        for n in 0..8 {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let worker = world.worker(&port(&server, "destination_concurrency = 3"), "")?;
    let mails = server.received(96).await?;
    world.drained().await?;
    assert_eq!(mails.len(), 96, "each once");
    assert!(server.peak() <= 3, "{} at a time", server.peak());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_offers_is_ignored_where_the_file_says_so() -> anyhow::Result<()> {
    ignored_for_told_test(|_| {
        "[[delivery.destination]]\nmx = [\"mx.told.test\"]\nignore_extensions = [\"CHUNKING\", \"8BITMIME\"]\n"
            .to_owned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_servers_of_a_route_offer_is_ignored_where_the_route_says_so() -> anyhow::Result<()> {
    ignored_for_told_test(|server| {
        let via = format!("smtp://{}", server.address());
        let route = |domain: &str| format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"{via}\"\n");
        let ignoring = "ignore_extensions = [\"CHUNKING\", \"8BITMIME\"]\n";
        format!("{}{ignoring}{}", route("told.test"), route("other.test"))
    })
    .await
}

/// Mail to `told.test` goes without CHUNKING and 8BITMIME with this in the file, and that to `other.test` with both.
async fn ignored_for_told_test(tables: impl FnOnce(&Server) -> String) -> anyhow::Result<()> {
    const OFFERS: &[&str] = &["PIPELINING", "8BITMIME", "CHUNKING"];
    let world = World::start().await?;
    let server = Server::start(Script { extensions: OFFERS, ..Script::default() }).await?;
    served(&world, &["told.test"], "mx.told.test", &server);
    served(&world, &["other.test"], "mx.other.test", &server);
    let worker = world.worker(&port(&server, ""), &tables(&server))?;
    let content = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\u{e9}\r\n".as_bytes();
    for (count, (domain, verb, parameter, body)) in
        [("told.test", "DATA", "", "=C3=A9"), ("other.test", "BDAT", " BODY=8BITMIME", "\u{e9}")]
            .into_iter()
            .enumerate()
    {
        world.send("john@home.test", &[&format!("a@{domain}")], content).await?;
        let mail = &server.received(count + 1).await?[count];
        assert!(mail.body.ends_with(&format!("{body}\r\n")), "{domain}: {}", mail.body);
        let said = server.commands();
        let with = |start: &str| said.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(with(verb), 1, "{domain}: {said:?}");
        assert_eq!(said.iter().filter(|line| line.contains(" BODY=")).count(), usize::from(!parameter.is_empty()));
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_place_gets_it_before_the_others_have_finished() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["much.test", "l0.test", "l1.test", "l2.test"], "mx.shared.test", &server);
    for n in 0..900 {
        world.send("john@home.test", &[&format!("r{n}@much.test")], BODY).await?;
    }
    for n in 0..3 {
        world.send("john@home.test", &[&format!("r@l{n}.test")], BODY).await?;
    }
    let worker = world.worker(&port(&server, "destination_concurrency = 1"), "")?;
    let mails = server.received(903).await?;
    let last = mails.iter().rposition(|mail| !mail.recipients[0].contains("much.test"));
    assert!(last.is_some_and(|last| last < 880), "{last:?}");
    let connections = server.connections();
    assert!(connections < 20, "turns are not for a message or two: {connections} connections");
    assert_eq!(server.peak(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_of_a_provider_are_treated_as_its_table_says() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (provider, other) = (Server::start(Script::default()).await?, "127.0.0.2");
    let other =
        Server::start_on((other.parse::<std::net::IpAddr>()?, provider.port()).into(), Script::default()).await?;
    served(&world, &["a.test"], "mx1.big.test", &provider);
    served(&world, &["b.test"], "mx2.mail.big.test", &provider);
    // One of its hosts is not the provider's.
    served(&world, &["c.test"], "mx3.big.test", &other);
    world.dns.mx("c.test", 20, "backup.small.test");
    for n in 0..30 {
        for domain in ["a.test", "b.test", "c.test"] {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let table = "[[delivery.destination]]\nmx = [\"*.big.test\"]\nconcurrency = 2\nmessages_per_connection = 3\n";
    let worker = world.worker(&port(&provider, "destination_concurrency = 1"), table)?;
    let (mails, others) = (provider.received(60).await?, other.received(30).await?);
    assert_eq!(provider.peak(), 2);
    let most = |mails: &[crate::world::mx::Mail]| {
        let mut each: HashMap<usize, usize> = HashMap::new();
        mails.iter().for_each(|mail| *each.entry(mail.connection).or_default() += 1);
        each.into_values().max()
    };
    assert_eq!(most(&mails), Some(3));
    assert!(other.peak() == 1 && most(&others) > Some(3), "{} {:?}", other.peak(), most(&others));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_domains_of_a_table_share_its_rate() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["a.test", "b.test"], "mx.shared.test", &server);
    served(&world, &["free.test"], "mx.free.test", &server);
    for n in 0..8 {
        for domain in ["a.test", "b.test", "free.test"] {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let table = "[[delivery.destination]]\ndomain = [\"a.test\", \"b.test\"]\nrate = \"5/1h\"\n";
    let worker = world.worker(&port(&server, ""), table)?;
    // The last of those that are free have as long a way as the sixth of the others would have.
    let mails = server.received(13).await?;
    world.send("john@home.test", &["last@free.test"], BODY).await?;
    server.received(14).await?;
    let limited = mails.iter().filter(|mail| !mail.recipients[0].contains("free.test")).count();
    assert_eq!((limited, world.entries().await?.len()), (5, 11));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_its_hosts_says_how_much_encryption_a_domain_needs() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["a.test"], "mx.strict.test", &server);
    served(&world, &["b.test"], "mx.usual.test", &server);
    served(&world, &["c.test"], "mx.c.test", &server);
    let tables = "[[delivery.destination]]\nmx = [\"*.strict.test\"]\ntls = \"encrypt\"\n\
                  [[delivery.destination]]\ndomain = [\"c.test\"]\ntls = \"encrypt\"\n\
                  [[delivery.route]]\ndomain = \"c.test\"\nvia = \"mx\"\ntls = \"none\"\n";
    for domain in ["a.test", "b.test", "c.test"] {
        world.send("john@home.test", &[&format!("r@{domain}")], BODY).await?;
    }
    let worker = world.worker(&port(&server, "retry_min = \"1h\"\nretry_max = \"1h\""), tables)?;
    let entries = world.until("one that waits", |entries| waiting(entries).len() == 1).await?;
    let why = waiting(&entries).remove(0);
    assert!(why.starts_with("a.test: TLS is required"), "{why}");
    server.received(2).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_for_its_hosts_holds_for_a_domain_whose_answer_is_late() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    shaping::suspend(&world, Target::destination("*.rest.test")?).await?;
    for domain in ["a.test", "b.test"] {
        world.dns.silent(domain);
        world.send("john@home.test", &[&format!("r@{domain}")], BODY).await?;
    }
    let table = "[[delivery.destination]]\nmx = [\"*.strict.test\"]\ntls = \"encrypt\"\n";
    let worker = world.worker(&port(&server, "retry_min = \"1h\"\nretry_max = \"1h\""), table)?;
    server.until("questions", || ["a.test", "b.test"].iter().all(|name| world.dns.asked(name, "MX") > 0)).await?;
    // Nobody waits longer to know the destination, and everybody for the attempt.
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    for (domain, host) in [("a.test", "mx.strict.test"), ("b.test", "mx.rest.test")] {
        world.dns.remove(domain);
        served(&world, &[domain], host, &server);
    }
    let entries = world.until("waiting", |entries| waiting(entries).len() == 2).await?;
    let why = waiting(&entries);
    assert!(why[0].starts_with("a.test: TLS is required"), "{why:?}");
    assert!(why[1].starts_with("b.test: ") && why[1].contains("they have asked us to"), "{why:?}");
    assert!(server.mails().is_empty() && server.commands().iter().all(|line| !line.starts_with("MAIL")));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stalls_at_commands_that_come_together_gets_them_one_by_one_from_every_worker() -> anyhow::Result<()>
{
    let world = World::start().await?;
    let server = Server::start(Script { stalls: true, ..Script::default() }).await?;
    served(&world, &["a.test", "b.test"], "mx.shared.test", &server);
    let settings = port(&server, "retry_min = \"1s\"\nretry_max = \"1s\"\ntimeouts = { rcpt = \"1s\" }");
    let worker = world.worker(&settings, "")?;
    world.send("john@home.test", &["first@a.test"], BODY).await?;
    server.received(1).await?;
    assert_eq!(server.connections(), 2, "the first stalls, and the next does not");
    worker.stop().await?;
    let why = "conversation timed out while sending RCPT TO";
    let known = shaping::suspended(&world).await?;
    assert_eq!(known, [(format!("unpipelined {}", server.ip()), why.to_owned())]);
    let worker = world.worker(&settings, "")?;
    world.send("john@home.test", &["second@b.test"], BODY).await?;
    server.received(2).await?;
    assert_eq!(server.connections(), 3);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_tls_broken_under_one_name_of_a_host_takes_it_from_no_other_name() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() }).await?;
    served(&world, &["a.test"], "mx.shop.test", &server);
    served(&world, &["b.test"], "mx.evil.test", &server);
    let worker = world.worker(&port(&server, "destination_concurrency = 1"), "")?;
    for (count, (domain, connections)) in [("b.test", 2), ("b.test", 3), ("a.test", 5)].into_iter().enumerate() {
        world.send("john@home.test", &[&format!("r@{domain}")], BODY).await?;
        server.received(count + 1).await?;
        world.drained().await?;
        // A connection may stay open for what comes next.
        assert!(server.connections() <= connections, "{domain}: {} connections", server.connections());
    }
    let asked = server.commands().iter().filter(|line| *line == "STARTTLS").count();
    assert_eq!(asked, 2, "once for each name: {:?}", server.commands());
    worker.stop().await
}

/// What is remembered of a host after one attempt with it, where this step may take a second.
async fn remembered(world: &World, script: Script, step: &str) -> anyhow::Result<Vec<(String, String)>> {
    let server = Server::start(script).await?;
    served(world, &["a.test"], "mx.shared.test", &server);
    let settings = format!("retry_min = \"1h\"\nretry_max = \"1h\"\ntimeouts = {{ {step} = \"1s\" }}");
    let worker = world.worker(&port(&server, &settings), "")?;
    world.send("john@home.test", &["first@a.test"], BODY).await?;
    world.until("deferred", |entries| waiting(entries).len() == 1).await?;
    worker.stop().await?;
    shaping::suspended(world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_thousand_hosts_a_day_are_remembered_for_their_stalls() -> anyhow::Result<()> {
    let world = World::start().await?;
    let a_day = Rate { count: 1_000, per: Duration::from_secs(86_400) };
    assert_eq!(world.queue.limiter("stalls", a_day).acquire("hosts", 1_000).await?.tokens, 1_000);
    assert!(remembered(&world, Script { stalls: true, ..Script::default() }, "rcpt").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_slow_to_answer_a_single_command_is_not_to_blame_for_pipelining() -> anyhow::Result<()> {
    let world = World::start().await?;
    assert!(remembered(&world, Script { greeting: Some(""), ..Script::default() }, "greeting").await?.is_empty());
    Ok(())
}
