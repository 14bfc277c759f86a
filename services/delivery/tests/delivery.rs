//! The worker against a real Redis, a fake DNS and scripted mail servers.

mod chunking;
mod company;
mod dane;
mod demands;
mod dkim;
mod form;
mod hops;
mod reload;
mod reports;
mod routes;
mod sites;
mod stages;
mod sts;
mod tls_reports;
mod tokens;
mod verp;
mod world;

use std::time::Duration;

use staffetta_mail::Notify;
use staffetta_queue::{Entry, Filter, Health, Place};
use staffetta_telemetry as telemetry;
use staffetta_testkit::certs::Authority;
use world::mx::{Script, Server, acceptor};
use world::{PATIENCE, World};

const BODY: &[u8] = b"Subject: test\r\n\r\nHello\r\n.dot\r\n";

/// The text of the only message left in the queue once it is a report, delivered to a second server.
async fn report(world: &World, server: &Server) -> anyhow::Result<String> {
    let mails = server.received(1).await?;
    world.drained().await?;
    anyhow::ensure!(mails[0].sender.is_empty(), "not a report: {mails:?}");
    Ok(mails[0].body.clone())
}

/// A route for the sender's domain, so that reports arrive somewhere.
fn home(server: &Server) -> String {
    format!("[[delivery.route]]\ndomain = \"home.test\"\nvia = \"smtp://{}\"\n", server.address())
}

fn everything_to(server: &Server) -> String {
    format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n", server.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_travel_over_few_connections() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    for i in 0..60 {
        world.send("john@home.test", &[&format!("r{i}@d{}.test", i % 3)], BODY).await?;
    }
    let worker = world.worker_via(&server, "destination_concurrency = 2")?;
    let mails = server.received(60).await?;
    world.drained().await?;
    assert_eq!(mails.len(), 60);
    assert!(mails.iter().all(|mail| mail.body.as_bytes() == BODY && mail.sender == "john@home.test"));
    assert!(server.connections() <= 2, "{} connections for one smart host", server.connections());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_gets_from_all_workers_together_no_more_than_its_rate() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (limited, free) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    let route = |domain: &str, server: &Server, rate: &str| {
        format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{}\"\nrate = \"{rate}\"\n", server.address())
    };
    // Two domains behind one server share its rate.
    let routes = route("free.test", &free, "1000/1h") + &route("*", &limited, "5/1h");
    let workers = [world.worker("", &routes)?, world.worker("", &routes)?];
    for round in 1..=2 {
        for index in 0..10 {
            let domain = if index % 2 == 0 { "one.test" } else { "two.test" };
            world.send("john@home.test", &[&format!("r{index}@{domain}")], BODY).await?;
            world.send("john@home.test", &["r@free.test"], BODY).await?;
        }
        // Whatever exceeds the rate has arrived by the time the second ten of the others have.
        free.received(10 * round).await?;
        limited.received(5).await?;
    }
    assert_eq!(limited.mails().len(), 5);
    let waiting = world.entries().await?;
    assert!(waiting.iter().all(|entry| entry.jobs[0].attempts == 0), "waiting is no attempt");
    assert_eq!(waiting.len(), 15);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// Those that hang hold their places; whatever would exceed the limit has connected by the time others have got their mail.
#[tokio::test(flavor = "multi_thread")]
async fn all_workers_together_have_no_more_connections_to_a_destination_than_the_limit() -> anyhow::Result<()> {
    let world = World::start().await?;
    let limited = Server::start(Script { dots: vec!["hang"; 12], ..Script::default() }).await?;
    let free = Server::start(Script::default()).await?;
    let route = |domain: &str, server: &Server, more: &str| {
        format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{}\"\n{more}\n", server.address())
    };
    // Two domains behind one server share its places.
    let routes = route("free.test", &free, "") + &route("*", &limited, "concurrency = 3");
    let workers = [world.worker("", &routes)?, world.worker("", &routes)?];
    for index in 0..12 {
        let domain = if index % 2 == 0 { "one.test" } else { "two.test" };
        world.send("john@home.test", &[&format!("r{index}@{domain}")], BODY).await?;
    }
    limited.crowd(3).await?;
    for round in 1..=4 {
        for _ in 0..10 {
            world.send("john@home.test", &["r@free.test"], BODY).await?;
        }
        free.received(10 * round).await?;
    }
    assert_eq!(limited.peak(), 3);
    for worker in workers {
        worker.kill();
    }
    Ok(())
}

/// A worker that is never idle repeats what it holds; otherwise others would take its places.
#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_busy_worker_stay_its_own() -> anyhow::Result<()> {
    let world = World::start().await?;
    let limited = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    let free = Server::start(Script::default()).await?;
    // Small limits are told, so that each of these connections is a question.
    let routes = format!(
        "[[delivery.route]]\ndomain = \"x.test\"\nvia = \"smtp://{}\"\nconcurrency = 1\n\
         [[delivery.route]]\ndomain = \"*\"\nvia = \"mx\"\n",
        limited.address()
    );
    let settings = format!("lease = \"1s\"\ndestination_concurrency = 2\nport = {}", free.port());
    for index in 0..160 {
        world.dns.host(&format!("d{index}.test"), free.ip());
    }
    let worker = world.worker(&settings, &routes)?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    limited.crowd(1).await?;
    let told = || -> anyhow::Result<bool> {
        Ok(world.tell_redis(&format!("HLEN \"{{C:to {} 1}}\"", limited.address()))?.starts_with(":1"))
    };
    // Each has a connection of its own. After the life of an entry, five seconds, it is there as long as it is repeated.
    let (began, mut is_there) = (tokio::time::Instant::now(), false);
    for index in 0..160 {
        world.send("john@home.test", &[&format!("r@d{index}.test")], BODY).await?;
        tokio::time::sleep(Duration::from_millis(65)).await;
        is_there = began.elapsed() > Duration::from_secs(6) && told()?;
        if is_there {
            break;
        }
    }
    assert!(is_there, "nobody else knows of the connection");
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_dead_worker_come_back() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    let settings = "destination_concurrency = 1\nlease = \"1s\"";
    let first = world.worker_via(&server, settings)?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.crowd(1).await?;
    let second = world.worker_via(&server, settings)?;
    world.send("john@home.test", &["b@x.test"], BODY).await?;
    first.kill();
    // One that is taken over may come twice.
    server.received(2).await?;
    world.drained().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_spent_by_attempts_and_not_by_looking_for_work() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let worker = world.worker_via(&server, "destination_rate = \"12/1h\"")?;
    // One at a time: each claim asks for more tokens than it finds jobs.
    for sent in 1..=12 {
        world.send("john@home.test", &["a@x.test"], BODY).await?;
        server.received(sent).await?;
    }
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_two_domains_goes_to_the_mail_hosts_of_each() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    world.dns.mx("one.test", 10, "mx.one.test").host("mx.one.test", server.ip()).host("two.test", server.ip());
    let worker = world.worker(&format!("port = {}", server.port()), "")?;
    world.send("john@home.test", &["a@one.test", "b@one.test", "c@two.test"], BODY).await?;
    let mails = server.received(2).await?;
    world.drained().await?;
    let mut recipients: Vec<_> = mails.iter().map(|mail| mail.recipients.join(",")).collect();
    recipients.sort();
    assert_eq!(recipients, ["a@one.test,b@one.test", "c@two.test"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mx_record_may_have_an_address_in_the_place_of_a_name() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (server, inbox) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    world.dns.mx("one.test", 10, &server.ip().to_string()).mx("two.test", 10, "192.0.2.1");
    let settings = format!("port = {}\nblocked_networks = [\"192.0.2.0/24\"]", server.port());
    let worker = world.worker(&settings, &home(&inbox))?;
    world.send("john@home.test", &["a@one.test", "b@two.test"], BODY).await?;
    assert_eq!(server.received(1).await?[0].recipients, ["a@one.test"]);
    let report = report(&world, &inbox).await?;
    assert!(report.contains("b@two.test") && report.contains("must not be used"), "{report}");
    worker.stop().await
}

/// So that the next who takes it back knows whether it had been begun.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_over_from_a_dead_worker_says_when_it_begins() -> anyhow::Result<()> {
    let world = World::start().await?;
    // Slow enough that what is said beside the delivery is said before its end, as it is of servers that are far.
    let server = Server::start(Script { dots: vec!["250 ok", "late"], ..Script::default() }).await?;
    for (recipient, said) in [("a@x.test", false), ("b@y.test", true)] {
        world.send("john@home.test", &[recipient], BODY).await?;
        if said {
            world.die_with("y.test").await?;
        }
        let worker = world.worker_via(&server, "")?;
        server.received(1 + usize::from(said)).await?;
        world.drained().await?;
        worker.stop().await?;
        assert_eq!(world.keys("*}sus")?.contains("}sus"), said, "{recipient}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_recipient_is_tried_again_and_a_delivered_one_is_not() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<b@", "450 4.2.0 busy")];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let worker = world.worker_via(&server, "")?;
    world.send("john@home.test", &["a@x.test", "b@x.test"], BODY).await?;
    let deferred = |entries: &[Entry]| {
        entries.first().is_some_and(|e| e.jobs[0].attempts == 1 && matches!(e.jobs[0].place, Place::Waiting(_)))
    };
    let entries = world.until("deferred", deferred).await?;
    assert_eq!(entries[0].jobs[0].recipients, [1]);
    let reason = entries[0].jobs[0].reason.clone().unwrap_or_default();
    assert!(reason.ends_with("said: 450 4.2.0 busy (in reply to RCPT TO command)"), "{reason}");
    let mails = server.received(2).await?;
    assert_eq!((mails[0].recipients.join(","), mails[1].recipients.join(",")), ("a@x.test".into(), "b@x.test".into()));
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_bounces_to_the_sender() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<gone@", "550 5.1.1 no such user")];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    world.send("john@home.test", &["gone@x.test", "here@x.test"], BODY).await?;
    let report = report(&world, &inbox).await?;
    assert_eq!(server.mails()[0].recipients, ["here@x.test"]);
    for text in [
        "To: john@home.test\r\n",
        "report-type=delivery-status",
        "Final-Recipient: rfc822; gone@x.test\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "Remote-MTA: dns; 127.0.0.1\r\n",
        "550 5.1.1 no such user",
    ] {
        assert!(report.contains(text), "{text:?} is not in {report}");
    }
    assert!(!report.contains("here@x.test\r\nAction"), "{report}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_delivers_from_partitions_that_were_added_after_its_start() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let worker = world.worker_via(&server, "")?;
    world.send("", &["first@x.test"], BODY).await?;
    server.received(1).await?;
    world.widen(8).await?;
    // One into each.
    for i in 0..8 {
        world.send("", &[&format!("r{i}@x.test")], BODY).await?;
    }
    server.received(9).await?;
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn far_beyond_maxmemory_a_report_waits_until_there_is_room() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT", "550 5.1.1 no"); 100];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    world.send("john@home.test", &["gone@x.test"], BODY).await?;
    world.send("john@home.test", &["gone@y.test"], &b"0123456789abcdef\r\n".repeat(3_000)).await?;
    world.tell_redis(&format!("SETRANGE other {} x", 40 << 20))?;
    world.tell_redis("CONFIG SET maxmemory 1mb")?;
    while world.queue.health() != Health::Full {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    // A large message makes the room that its report takes.
    assert!(inbox.received(1).await?[0].body.contains("gone@y.test"));
    let entries =
        world.until("one that waits for its report", |all| all.len() == 1 && all[0].jobs[0].attempts > 0).await?;
    let reason = entries[0].jobs[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("report to the sender could not be made"), "{reason}");
    assert_eq!(inbox.mails().len(), 1);
    world.tell_redis("CONFIG SET maxmemory 0")?;
    assert!(inbox.received(2).await?[1].body.contains("gone@x.test"));
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_that_may_be_the_end_of_a_worker_no_other_of_its_kind_is_attempted() -> anyhow::Result<()> {
    let world = World::start().await?;
    let silent = || Server::start(Script { dots: vec!["hang"], ..Script::default() });
    let (first, second, third) = (silent().await?, silent().await?, Server::start(Script::default()).await?);
    let via = |domain: &str, server: &Server| {
        format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{}\"\n", server.address())
    };
    for domain in ["x.test", "y.test"] {
        world.send("john@home.test", &[&format!("a@{domain}")], BODY).await?;
        world.die_with(domain).await?;
        world.die_with(domain).await?;
    }
    world.queue.flush(&Filter::default()).await?;
    let worker = world.worker("", &(via("x.test", &first) + &via("y.test", &second) + &via("z.test", &third)))?;
    let begun = || [&first, &second].map(|server| server.commands().iter().filter(|line| *line == "DATA").count());
    while begun() == [0, 0] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody else is kept waiting.
    world.send("john@home.test", &["a@z.test"], BODY).await?;
    third.received(1).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(begun().iter().sum::<usize>(), 1);
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_answer_to_the_dot_is_an_answer_and_the_content_goes_out_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dots = vec!["250OK", "250\tok", "\r\n250 ok", "I have it\r\n250 ok", "550-x\r\n250 y", "250-x\r\n550 y", "250"];
    let count = dots.len();
    let server = Server::start(Script { dots, ..Script::default() }).await?;
    let worker = world.worker_via(&server, "destination_concurrency = 1")?;
    for i in 0..count {
        world.send("", &[&format!("r{i}@x.test")], BODY).await?;
    }
    world.drained().await?;
    assert_eq!(server.commands().iter().filter(|line| *line == "DATA").count(), count);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_bounces_is_dropped() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { replies: vec![("RCPT", "550 5.1.1 no")], ..Script::default() }).await?;
    let worker = world.worker_via(&server, "")?;
    world.send("", &["gone@x.test"], BODY).await?;
    world.drained().await?;
    assert!(server.mails().is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc7505_null_mx_and_unknown_domains_bounce() -> anyhow::Result<()> {
    let world = World::start().await?;
    let inbox = Server::start(Script::default()).await?;
    world.dns.null_mx("null.test");
    let worker = world.worker("", &home(&inbox))?;
    world.send("john@home.test", &["a@null.test"], BODY).await?;
    let first = report(&world, &inbox).await?;
    assert!(first.contains("Domain null.test does not accept mail (nullMX)"), "{first}");
    assert!(first.contains("Status: 5.1.0\r\n"), "{first}");
    world.send("john@home.test", &["a@unknown.test"], BODY).await?;
    let second = inbox.received(2).await?[1].body.clone();
    assert!(second.contains("Status: 5.4.4\r\n"), "{second}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_networks_are_not_dialled_after_a_look_up() -> anyhow::Result<()> {
    let server = Server::start(Script::default()).await?;
    loopback_is_blocked(&server, server.ip()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv4_address_inside_of_ipv6_is_blocked_as_what_it_stands_for() -> anyhow::Result<()> {
    loopback_is_blocked(&Server::start(Script::default()).await?, "::ffff:127.0.0.1".parse()?).await
}

/// Mail for a host with this address is reported and never reaches the server.
async fn loopback_is_blocked(server: &Server, address: std::net::IpAddr) -> anyhow::Result<()> {
    let world = World::start().await?;
    let inbox = Server::start(Script::default()).await?;
    world.dns.mx("inner.test", 10, "mx.inner.test").host("mx.inner.test", address);
    let settings = format!("port = {}\nblocked_networks = [\"loopback\"]", server.port());
    let worker = world.worker(&settings, &home(&inbox))?;
    world.send("john@home.test", &["a@inner.test"], BODY).await?;
    let report = report(&world, &inbox).await?;
    assert!(report.contains("Status: 5.4.4\r\n") && report.contains("must not be used"), "{report}");
    assert_eq!(server.connections(), 0);
    worker.stop().await
}

/// The name in a greeting would end such a loop, too, one connection later; nothing would where the frontends have another name.
#[tokio::test(flavor = "multi_thread")]
async fn mail_that_a_look_up_leads_to_our_own_listener_is_reported_as_a_loop() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (ours, inbox) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    world.dns.mx("loop.test", 10, "mx.loop.test").host("mx.loop.test", ours.ip());
    let listener = format!(
        "[[frontend.listener]]\nname = \"smtp\"\nbind = \"0.0.0.0:{}\"\nkind = \"relay\"\n{}",
        ours.port(),
        home(&inbox)
    );
    let worker = world.worker(&format!("port = {}", ours.port()), &listener)?;
    world.send("john@home.test", &["a@loop.test", &format!("b@[{}]", ours.ip())], BODY).await?;
    for mail in inbox.received(2).await? {
        let looped = mail.body.contains("Status: 5.4.6\r\n") && mail.body.contains("loops back to myself");
        assert!(looped, "{}", mail.body);
    }
    world.drained().await?;
    assert_eq!(ours.connections(), 0);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_wrote_is_never_the_senders_fault() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.dns.mx("smart.test", 10, "no-address.test");
    let routes = ["smtp://unknown.test", "lmtp://unknown.test", "smtp://smart.test"];
    let route = |(i, via): (usize, &&str)| format!("[[delivery.route]]\ndomain = \"d{i}.test\"\nvia = \"{via}\"\n");
    let worker = world.worker("", &routes.iter().enumerate().map(route).collect::<String>())?;
    world.send("john@home.test", &["a@d0.test", "a@d1.test", "a@d2.test"], BODY).await?;
    let tried = |entries: &[Entry]| entries[0].jobs.len() == 3 && entries[0].jobs.iter().all(|job| job.attempts > 0);
    for job in &world.until("deferred", tried).await?[0].jobs {
        let reason = job.reason.clone().unwrap_or_default();
        assert!(reason.contains("type=A: Host not found"), "{reason}");
        assert_eq!(job.status.map(|status| status.to_string()).as_deref(), Some("4.3.5"), "{reason}");
    }
    assert_eq!(world.entries().await?.len(), 1, "no report");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_addresses_that_lead_nowhere_do_not_hide_the_next_host() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    world.dns.mx("x.test", 10, "first.test").mx("x.test", 20, "second.test").host("second.test", server.ip());
    for i in 1..=5 {
        let dead: std::net::IpAddr = format!("2001:db8::{i}").parse()?;
        world.dns.host("first.test", dead);
    }
    // Where there is IPv6, these connects time out.
    let settings = format!("port = {}\ntimeouts = {{ connect = \"200ms\" }}", server.port());
    let worker = world.worker(&settings, "")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_would_come_back_to_us_bounces() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (server, inbox) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    world.dns.mx("own.test", 10, "relay.test").mx("own.test", 20, "mx.own.test").host("mx.own.test", server.ip());
    let worker = world.worker(&format!("port = {}", server.port()), &home(&inbox))?;
    world.send("john@home.test", &["a@own.test"], BODY).await?;
    let report = report(&world, &inbox).await?;
    assert!(report.contains("Status: 5.4.6\r\n") && report.contains("loops back to myself"), "{report}");
    assert_eq!(server.connections(), 0);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_mail_host_is_tried_when_the_first_is_away() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    // Nobody listens on this address at the server's port.
    let dead: std::net::IpAddr = [127, 0, 0, 9].into();
    world.dns.mx("x.test", 10, "first.test").mx("x.test", 20, "second.test");
    world.dns.host("first.test", dead).host("second.test", server.ip());
    let worker = world.worker(&format!("port = {}", server.port()), "")?;
    let id = world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    assert!(world.queue.entry(id).await?.is_none());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_mail_host_is_tried_when_the_first_talks_and_then_goes() -> anyhow::Result<()> {
    for hello in ["421 4.3.2 going", "250 mx.test\r\n421 4.3.2 going", "250 mx.test"] {
        let world = World::start().await?;
        let second = Server::start(Script::default()).await?;
        let first = std::net::SocketAddr::from(([127, 0, 0, 9], second.port()));
        let first = Server::start_on(first, Script { hello: Some(hello), ..Script::default() }).await?;
        world.dns.mx("x.test", 10, "first.test").mx("x.test", 20, "second.test");
        world.dns.host("first.test", first.ip()).host("second.test", second.ip());
        let settings = format!("port = {}\nretry_min = \"1h\"\nretry_max = \"1h\"", second.port());
        let worker = world.worker(&settings, "")?;
        world.send("john@home.test", &["a@x.test"], BODY).await?;
        second.received(1).await?;
        world.drained().await?;
        assert!(first.connections() >= 1, "{hello:?}");
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_is_tried_once_for_all_partitions_until_it_is_flushed() -> anyhow::Result<()> {
    let world = World::start().await?;
    let busy = Server::start(Script { greeting: Some("421 4.3.2 busy"), ..Script::default() }).await?;
    for i in 0..40 {
        world.send("john@home.test", &[&format!("r{i}@x.test")], BODY).await?;
    }
    let settings = "retry_min = \"1h\"\nretry_max = \"2h\"\ndestination_concurrency = 1";
    let worker = world.worker_via(&busy, settings)?;
    busy.until("first attempt", || busy.connections() >= 1).await?;
    world.at_rest(40).await?;
    assert_eq!(busy.connections(), 1, "one attempt for the four partitions");
    let attempted = world.entries().await?.iter().filter(|entry| entry.jobs[0].attempts > 0).count();
    assert!((1..=10).contains(&attempted), "{attempted} jobs of the one partition that was first");

    world.queue.flush(&Filter::default()).await?;
    busy.until("second attempt", || busy.connections() == 2).await?;
    world.at_rest(40).await?;
    assert_eq!(busy.connections(), 2);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_handshake_is_retried_in_plaintext_on_a_new_connection() -> anyhow::Result<()> {
    let world = World::start().await?;
    let script = Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() };
    let server = Server::start(script.clone()).await?;
    let worker = world.worker_via(&server, "tls = \"may\"\ndestination_concurrency = 1")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    assert_eq!(server.connections(), 2);
    worker.stop().await?;

    let strict = Server::start(script).await?;
    let worker = world.worker_via(&strict, "tls = \"encrypt\"")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let tried = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].attempts >= 1);
    let entries = world.until("deferred", tried).await?;
    assert!(entries[0].jobs[0].reason.clone().unwrap_or_default().starts_with("Cannot start TLS"));
    assert!(strict.mails().is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_remembered_for_may_and_never_used_at_encrypt_or_verify() -> anyhow::Result<()> {
    let world = World::start().await?;
    let script = Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() };
    let server = Server::start(script).await?;
    let route = |domain: &str, level: &str| {
        let via = server.address();
        format!("[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{via}\"\ntls = \"{level}\"\n")
    };
    let routes = route("may.test", "may") + &route("encrypt.test", "encrypt") + &route("verify.test", "verify");
    // Another port of the same host.
    let script = Script { extensions: &["STARTTLS"], broken_tls: true, ..Script::default() };
    let beside = Server::start_on((server.ip(), 0).into(), script).await?;
    let routes =
        format!("{routes}[[delivery.route]]\ndomain = \"beside.test\"\nvia = \"smtp://{}\"\n", beside.address());
    let worker = world.worker("destination_concurrency = 1", &routes)?;
    world.send("john@home.test", &["a@may.test"], BODY).await?;
    world.drained().await?;
    assert_eq!((server.mails().len(), server.connections()), (1, 2), "in TLS, then in the clear");
    world.send("john@home.test", &["a@beside.test"], BODY).await?;
    world.drained().await?;
    assert_eq!((beside.mails().len(), beside.connections()), (1, 1), "in the clear at once");
    for domain in ["encrypt.test", "verify.test"] {
        world.send("john@home.test", &[&format!("a@{domain}")], BODY).await?;
    }
    let tried = |entries: &[Entry]| entries.len() == 2 && entries.iter().all(|e| e.jobs[0].attempts >= 1);
    for entry in world.until("deferred", tried).await? {
        let reason = entry.jobs[0].reason.clone().unwrap_or_default();
        assert!(reason.starts_with("Cannot start TLS"), "{reason}");
    }
    assert_eq!(server.mails().len(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_verify_checks_the_certificate_and_delivery_ca_adds_an_issuer() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new(dir.path())?;
    let tls = |name: &str| acceptor(&authority.leaf(name, &[name])?);
    let script = |tls| Script { extensions: &["STARTTLS"], tls: Some(tls), ..Script::default() };
    let server = Server::start(script(tls("mx.test")?)).await?;
    world.dns.mx("x.test", 10, "mx.test").host("mx.test", server.ip());
    let port = server.port();
    let reason = async |world: &World| {
        let tried = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].reason.is_some());
        anyhow::Ok(world.until("deferred", tried).await?[0].jobs[0].reason.clone().unwrap_or_default())
    };

    let worker = world.worker(&format!("port = {port}\ntls = \"verify\""), "")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let unknown = reason(&world).await?;
    assert!(unknown.starts_with("Cannot start TLS") && unknown.contains("UnknownIssuer"), "{unknown}");
    assert!(server.mails().is_empty());
    worker.stop().await?;

    let ca = authority.ca().display().to_string();
    let trusting = format!("port = {port}\ntls = \"verify\"\nca = \"{ca}\"");
    let worker = world.worker(&trusting, "")?;
    assert!(server.received(1).await?[0].encrypted);
    world.drained().await?;

    // The right issuer, another name: also under a worker that trusts it.
    world.dns.mx("y.test", 10, "other.test").host("other.test", server.ip());
    world.send("john@home.test", &["a@y.test"], BODY).await?;
    let wrong = reason(&world).await?;
    assert!(wrong.starts_with("Cannot start TLS"), "{wrong}");
    assert_eq!(server.mails().len(), 1);
    worker.stop().await?;

    // Without a check the same certificate will do.
    let worker = world.worker(&format!("port = {port}\ntls = \"encrypt\""), "")?;
    assert!(server.received(2).await?[1].encrypted);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_sent_in_tls_and_never_after_a_broken_handshake() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dir = tempfile::tempdir()?;
    let leaf = Authority::new(dir.path())?.leaf("smart.test", &["smart.test"])?;
    let extensions = &["STARTTLS", "AUTH PLAIN"];
    let script = Script { extensions, replies: vec![("AUTH", "235 2.7.0 welcome")], ..Script::default() };
    let broken = Server::start(Script { broken_tls: true, ..script.clone() }).await?;
    let sound = Server::start(Script { tls: Some(acceptor(&leaf)?), ..script }).await?;
    let route = |domain: &str, server: &Server| {
        let via = server.address();
        format!(
            "[[delivery.route]]\ndomain = \"{domain}\"\nvia = \"smtp://{via}\"\ntls = \"may\"\n\
             username = \"john\"\npassword = \"summersun\"\n"
        )
    };
    let worker = world.worker("", &(route("broken.test", &broken) + &route("sound.test", &sound)))?;
    world.send("john@home.test", &["a@sound.test"], BODY).await?;
    assert!(sound.received(1).await?[0].encrypted);
    // \0john\0summersun
    assert!(sound.commands().iter().any(|line| line == "AUTH PLAIN AGpvaG4Ac3VtbWVyc3Vu"), "{:?}", sound.commands());

    world.send("john@home.test", &["a@broken.test"], BODY).await?;
    let tried = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].attempts >= 2);
    let entries = world.until("deferred", tried).await?;
    assert!(entries[0].jobs[0].reason.clone().unwrap_or_default().starts_with("Cannot start TLS"));
    let commands = broken.commands();
    assert!(commands.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{commands:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_come_from_the_source_address() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let worker = world.worker_via(&server, "source_addresses = [\"127.0.0.7\", \"::1\"]")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    assert_eq!(server.clients(), [std::net::IpAddr::from([127, 0, 0, 7])]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_dot_that_drips_is_late_after_its_time() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["drip"], ..Script::default() }).await?;
    let worker = world.worker_via(&server, "timeouts = { final = \"1s\" }")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    // All of it would take nine seconds, each octet far less than one.
    let deferred = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].reason.is_some());
    let entries = world.until("deferred", deferred).await?;
    let reason = entries[0].jobs[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("timed out while sending end of data"), "{reason}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_message_is_returned_with_5_4_7() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { greeting: Some("421 4.3.2 closed"), ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    world.send_with("john@home.test", &["a@x.test"], BODY, Duration::from_secs(4), None).await?;
    let report = report(&world, &inbox).await?;
    assert!(report.contains("Status: 5.4.7\r\n") && report.contains("421 4.3.2 closed"), "{report}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_message_is_announced_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT", "450 4.2.0 later"); 4];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("delay_warning = \"1s\"", &(home(&inbox) + &everything_to(&server)))?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    let notices = inbox.mails();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].body.contains("Action: delayed\r\n"), "{notices:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc3461_success_is_reported_by_us_when_the_server_does_not() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    let notify = Some(Notify { success: true, failure: true, delay: false });
    world.send_with("john@home.test", &["a@x.test"], BODY, Duration::from_secs(60), notify).await?;
    let report = report(&world, &inbox).await?;
    assert!(report.contains("Action: relayed\r\n"), "{report}");
    worker.stop().await
}

/// He may never have heard of the message.
#[tokio::test(flavor = "multi_thread")]
async fn whom_a_stranger_names_as_sender_hears_of_five_failures_and_nothing_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<no@", "550 5.1.1 no"); 8];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    let client = Some("192.0.2.1".parse()?);
    let all = Some(Notify { success: true, failure: true, delay: true });
    world.send_from(client, "yes@x.test", |envelope| envelope.recipients[0].notify = all).await?;
    server.received(1).await?;
    world.drained().await?;
    assert_eq!(inbox.mails().len(), 0, "{:?}", inbox.mails());
    world.send_from(client, "no@x.test", |envelope| envelope.recipients[0].notify = all).await?;
    let report = report(&world, &inbox).await?;
    assert!(report.contains("Action: failed\r\n") && !report.contains("Hello") && !report.contains("Subject: test"));
    for _ in 0..7 {
        world.send_from(client, "no@x.test", |_| {}).await?;
    }
    world.drained().await?;
    assert_eq!(inbox.mails().len(), 5);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn lmtp_settles_each_recipient_by_its_own_answer() -> anyhow::Result<()> {
    let world = World::start().await?;
    let dots = vec!["250 2.0.0 stored", "452 4.2.2 full", "250 2.0.0 stored"];
    let server = Server::start(Script { lmtp: true, dots, ..Script::default() }).await?;
    let route = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"lmtp://{}\"\n", server.address());
    let worker = world.worker("", &route)?;
    world.send("john@home.test", &["a@x.test", "b@x.test"], BODY).await?;
    server.until("second attempt", || server.mails().len() == 2).await?;
    world.drained().await?;
    assert_eq!(server.mails()[1].recipients, ["b@x.test"]);
    assert!(server.commands().iter().any(|command| command.starts_with("LHLO ")));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_sent_in_chunks() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let line = format!("{}\r\n", "x".repeat(76));
    let body = format!("Subject: large\r\n\r\n{}", line.repeat(10_000));
    let worker = world.worker_via(&server, "")?;
    world.send("john@home.test", &["a@x.test"], body.as_bytes()).await?;
    let mails = server.received(1).await?;
    assert!(mails[0].body == body, "{} octets of {}", mails[0].body.len(), body.len());
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_that_were_added_last_are_sent_once_and_first() -> anyhow::Result<()> {
    const FIELD: &str = "X-Added: last\r\n";
    let world = World::start().await?;
    let server =
        Server::start(Script { replies: vec![("RCPT TO:<gone@", "550 5.1.1 no"); 2], ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(home(&inbox) + &everything_to(&server)))?;
    let large = format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(76)).repeat(10_000));
    for (number, body) in [str::from_utf8(BODY)?, &large].into_iter().enumerate() {
        world.send_behind(FIELD.as_bytes(), &["a@x.test"], body.as_bytes()).await?;
        let mails = server.received(number + 1).await?;
        assert!(
            mails[number].body == format!("{FIELD}{body}"),
            "{} octets of {}",
            mails[number].body.len(),
            body.len()
        );
        world.send_behind(FIELD.as_bytes(), &["gone@x.test"], body.as_bytes()).await?;
        let report = inbox.received(number + 1).await?.remove(number).body;
        let (start, _) = body.split_once("\r\n\r\n").unwrap_or_default();
        assert!(report.contains(&format!("\r\n{FIELD}{start}\r\n")), "{report}");
        assert_eq!(report.matches(FIELD).count(), 1, "{report}");
    }
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_replaced_within_its_lease() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    let first = world.worker_via(&server, "lease = \"2s\"")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.until("final dot", || server.dots_left() == 0).await?;
    first.kill();
    let killed = tokio::time::Instant::now();
    let second = world.worker_via(&server, "lease = \"2s\"")?;
    server.received(1).await?;
    assert!(killed.elapsed() < Duration::from_secs(2 + 5 + 2), "{:?}", killed.elapsed());
    world.drained().await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_keeps_its_message_while_the_lease_is_renewed() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    let timeouts = "timeouts = { final = \"6s\" }";
    let worker = world.worker_via(&server, &format!("lease = \"2s\"\n{timeouts}"))?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let deferred = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].attempts == 1);
    let entries = world.until("deferred by its own worker", deferred).await?;
    let reason = entries[0].jobs[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("timed out while sending end of data"), "{reason}");
    assert_eq!(server.mails().len(), 0);
    server.received(1).await?;
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_ready_once_redis_was_there_and_says_when_it_goes() -> anyhow::Result<()> {
    let _log = telemetry::init(telemetry::LogFormat::Json, "info", &["delivery"], telemetry::Build::UNKNOWN)?;
    let mut world = World::start().await?;
    world.redis.kill()?;
    let worker = world.worker("", "")?;
    let reason = worker.readiness("503", "queue: ").await?;
    assert!(reason.starts_with("queue: "), "{reason}");
    world.redis.restart()?;
    assert_eq!(worker.readiness("200", "ok").await?, "ok");
    assert!(worker.metrics().await?.contains("\nstaffetta_dependency_up{dependency=\"redis\"} 1\n"));
    world.redis.kill()?;
    worker.readiness("200", "ok, but queue: ").await?;
    assert!(worker.metrics().await?.contains("\nstaffetta_dependency_up{dependency=\"redis\"} 0\n"));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_has_no_numbers_while_redis_is_away() -> anyhow::Result<()> {
    let _log = telemetry::init(telemetry::LogFormat::Json, "info", &["delivery"], telemetry::Build::UNKNOWN)?;
    let mut world = World::start().await?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let server = Server::start(Script { greeting: Some("421 later"), ..Script::default() }).await?;
    let worker = world.worker_via(&server, "retry_min = \"1h\"\nretry_max = \"1h\"")?;
    worker.shows("\nstaffetta_queue_messages 1\n").await?;
    world.redis.kill()?;
    let oldest = "oldest_message_age_seconds{state=\"scheduled\"}";
    for gone in ["messages", "memory_bytes", "backpressure", "jobs{state=\"scheduled\"}", oldest] {
        worker.hides(&format!("\nstaffetta_queue_{gone} ")).await?;
    }
    world.redis.restart()?;
    worker.shows("\nstaffetta_queue_messages 1\n").await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_counts_as_such() -> anyhow::Result<()> {
    let _log = telemetry::init(telemetry::LogFormat::Json, "info", &["delivery"], telemetry::Build::UNKNOWN)?;
    let world = World::start().await?;
    let script = Script { replies: vec![("RCPT", "550 5.1.1 nobody")], ..Script::default() };
    let server = Server::start(script).await?;
    let worker = world.worker_via(&server, "")?;
    world.send("", &["a@x.test"], BODY).await?;
    worker.shows("\nstaffetta_delivery_attempts_total{stage=\"rcpt\",result=\"failed\"} 1\n").await?;
    worker.shows("\nstaffetta_delivery_attempts_total{stage=\"mail\",result=\"failed\"} 0\n").await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_is_waited_for() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let worker = world.worker_via(&server, "")?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    world.redis.kill()?;
    world.redis.restart()?;
    world.queue.ready(PATIENCE).await?;
    world.send("john@home.test", &["b@x.test"], BODY).await?;
    server.received(2).await?;
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_limit_and_leaves_the_rest_to_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let worker = world.worker_via(&server, "drain_limit = \"1s\"\ntimeouts.final = \"10m\"")?;
    server.until("final dot", || server.dots_left() == 0).await?;
    worker.stop().await?;
    let entries = world.entries().await?;
    assert!(matches!(entries[0].jobs[0].place, Place::Leased(_)), "{entries:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_what_is_sent_and_gives_the_rest_back() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    for i in 0..200 {
        world.send("john@home.test", &[&format!("r{i}@x.test")], BODY).await?;
    }
    let worker = world.worker_via(&server, "destination_concurrency = 1")?;
    server.received(10).await?;
    worker.stop().await?;
    let sent = server.mails().len();
    let entries = world.entries().await?;
    assert_eq!(entries.len() + sent, 200, "every message is sent or queued, none is both");
    assert!(entries.iter().all(|e| matches!(e.jobs[0].place, Place::Waiting(_)) && e.jobs[0].attempts == 0));
    Ok(())
}
