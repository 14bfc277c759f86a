//! Next hops that limit, ration, stall or are down: what one of them does is no other's trouble.

use std::time::Duration;

use staffetta_mail::Notify;
use staffetta_queue::{Entry, Filter, Place};
use staffetta_telemetry as telemetry;

use crate::world::World;
use crate::world::mx::{Script, Server};
use crate::{BODY, everything_to};

fn never_deferred(entries: &[Entry]) -> bool {
    entries.iter().all(|entry| entry.jobs.iter().all(|job| job.attempts == 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_three_connections_gets_all_its_mail_through_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { most: Some(3), ..Script::default() }).await?;
    for i in 0..60 {
        world.send("john@home.test", &[&format!("r{i}@x.test")], BODY).await?;
    }
    let worker = world.worker_via(&server, "retry_min = \"1h\"\nretry_max = \"2h\"")?;
    server.received(60).await?;
    world.drained().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_connections_with_421_after_three_messages_defers_none() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { ration: Some(3), ..Script::default() }).await?;
    for i in 0..30 {
        world.send("john@home.test", &[&format!("r{i}@x.test")], BODY).await?;
    }
    let worker = world.worker_via(&server, "retry_min = \"1h\"\nretry_max = \"2h\"")?;
    let mails = server.received(30).await?;
    world.drained().await?;
    assert_eq!(mails.len(), 30, "each once");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_smart_host_is_asked_once_for_all_its_domains() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { greeting: Some("421 4.3.2 closed"), ..Script::default() }).await?;
    for i in 0..40 {
        world.send("john@home.test", &[&format!("r@d{i}.test")], BODY).await?;
    }
    let worker = world.worker_via(&server, "retry_min = \"1h\"\nretry_max = \"2h\"")?;
    let parked = |entries: &[Entry]| {
        let later = |e: &Entry| matches!(e.jobs[0].place, Place::Waiting(_));
        entries.len() == 40 && entries.iter().all(later) && entries.iter().any(|e| e.jobs[0].attempts > 0)
    };
    world.until("parked", parked).await?;
    world.at_rest(40).await?;
    assert_eq!(server.connections(), 1, "one for the forty domains");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_success_releases_all_domains_of_a_smart_host() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { refused: 1, ..Script::default() }).await?;
    for i in 0..40 {
        world.send("john@home.test", &[&format!("r@d{i}.test")], BODY).await?;
    }
    // Without a success all rest for an hour.
    let worker = world.worker_via(&server, "retry_min = \"1h\"\nretry_max = \"2h\"\n")?;
    server.until("first attempt", || server.connections() >= 1).await?;
    world.at_rest(40).await?;
    assert!(server.mails().is_empty(), "the first connection is refused");
    // An operator has one of those tried that were not.
    let entries = world.entries().await?;
    let unattempted = entries.iter().find(|entry| entry.jobs[0].attempts == 0).map(|entry| &entry.jobs[0]);
    let destination = unattempted.map(|job| job.destination.clone());
    world.queue.flush(&Filter { destination, ..Filter::default() }).await?;
    server.received(39).await?;
    // The one that was attempted waits for its own next time.
    let attempted = |entries: &[Entry]| entries.len() == 1 && entries[0].jobs[0].attempts == 1;
    world.until("empty but for one", attempted).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_a_hanging_dot_is_carried_by_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    for i in 0..40 {
        world.send("john@home.test", &[&format!("r{i}@x.test")], BODY).await?;
    }
    let worker = world.worker_via(&server, "")?;
    // One hangs with the server; the two that were handed to its session behind it are taken back.
    server.received(39).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(25);
    while world.queue.counts().await?.leased > 1 {
        anyhow::ensure!(tokio::time::Instant::now() < end, "{:?}", world.queue.counts().await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(never_deferred(&world.entries().await?));
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_servers_leave_connections_to_the_others() -> anyhow::Result<()> {
    let world = World::start().await?;
    let silent = Server::start(Script { greeting: Some(""), ..Script::default() }).await?;
    let good = Server::start(Script::default()).await?;
    let mut routes = String::new();
    for i in 0..10 {
        // Each address of loopback is a hop of its own.
        let via = format!("127.0.0.{}:{}", 20 + i, silent.port());
        routes += &format!("[[delivery.route]]\ndomain = \"silent{i}.test\"\nvia = \"smtp://{via}\"\n");
    }
    let everywhere =
        Server::start_on(([0, 0, 0, 0], 0).into(), Script { greeting: Some(""), ..Script::default() }).await?;
    let routes = routes.replace(&silent.port().to_string(), &everywhere.port().to_string()) + &everything_to(&good);
    for i in 0..10 {
        for j in 0..8 {
            world.send("john@home.test", &[&format!("r{j}@silent{i}.test")], BODY).await?;
        }
    }
    let worker = world.worker("concurrency = 20", &routes)?;
    everywhere.until("ten silent ones", || everywhere.connections() >= 10).await?;
    let began = tokio::time::Instant::now();
    for i in 0..30 {
        world.send("john@home.test", &[&format!("r{i}@good{}.test", i % 3)], BODY).await?;
    }
    good.received(30).await?;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(everywhere.connections(), 10, "one for each that has not greeted");
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_silent_servers_than_connections_do_not_keep_out_one_that_was_never_asked() -> anyhow::Result<()> {
    let world = World::start().await?;
    let silent = Server::start_on(([0, 0, 0, 0], 0).into(), Script { greeting: Some(""), ..Script::default() }).await?;
    let good = Server::start(Script::default()).await?;
    let mut routes = String::new();
    for i in 0..6 {
        // Each address of loopback is a hop of its own.
        let via = format!("127.0.0.{}:{}", 20 + i, silent.port());
        routes += &format!("[[delivery.route]]\ndomain = \"silent{i}.test\"\nvia = \"smtp://{via}\"\n");
        world.send("john@home.test", &[&format!("r@silent{i}.test")], BODY).await?;
    }
    let worker = world.worker("concurrency = 4", &(routes + &everything_to(&good)))?;
    silent.until("three silent ones", || silent.connections() >= 3).await?;
    world.send("john@home.test", &["r@good.test"], BODY).await?;
    let began = tokio::time::Instant::now();
    good.received(1).await?;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(never_deferred(&world.entries().await?), "what was given up counts against no message");
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_late_answer_to_the_dot_the_remote_is_given_its_time() -> anyhow::Result<()> {
    // It says nothing in time, or answers too late. Whoever takes the content and hangs up has made up its mind: the next
    // try is as soon as after any other failure, and counted as well.
    let _log = telemetry::init(telemetry::LogFormat::Json, "info", &["delivery"], telemetry::Build::UNKNOWN)?;
    for (count, (dot, taken, waits)) in (1..).zip([("hang", 0, true), ("late", 1, true), ("", 0, false)]) {
        let world = World::start().await?;
        let server = Server::start(Script { dots: vec![dot], ..Script::default() }).await?;
        let worker = world.worker_via(&server, "timeouts = { final = \"3s\" }")?;
        world.send("john@home.test", &["a@x.test"], BODY).await?;
        let deferred = |entries: &[Entry]| entries.first().is_some_and(|e| e.jobs[0].attempts == 1);
        world.until("deferred", deferred).await?;
        let deferred = tokio::time::Instant::now();
        let metrics = worker.metrics().await?;
        let counted = metrics.lines().find(|line| line.starts_with("staffetta_possible_duplicates_total"));
        assert!(counted.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{dot:?}: {counted:?}");
        server.received(taken + 1).await?;
        let waited = deferred.elapsed().as_millis();
        assert_eq!(waited >= 2500, waits, "{dot:?}: {waited} ms");
        world.drained().await?;
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn success_and_failure_of_one_attempt_are_both_reported_and_both_final() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<gone@", "550 5.1.1 no such user")];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    let inbox = Server::start(Script::default()).await?;
    let worker = world.worker("", &(crate::home(&inbox) + &everything_to(&server)))?;
    let notify = Some(Notify { success: true, failure: true, delay: false });
    world.send_with("john@home.test", &["here@x.test", "gone@x.test"], BODY, Duration::from_secs(60), notify).await?;
    let mut reports: Vec<_> = inbox.received(2).await?.into_iter().map(|mail| mail.body).collect();
    world.drained().await?;
    reports.sort_by_key(|body| body.contains("Action: failed\r\n"));
    assert!(reports[0].contains("Action: relayed\r\n") && reports[0].contains("here@x.test"), "{reports:?}");
    assert!(reports[1].contains("Final-Recipient: rfc822; gone@x.test\r\n"), "{reports:?}");
    let asked = server.commands().iter().filter(|line| line.starts_with("RCPT TO:<gone@")).count();
    assert_eq!((asked, server.mails().len()), (1, 1), "a final result stays final");
    worker.stop().await
}
