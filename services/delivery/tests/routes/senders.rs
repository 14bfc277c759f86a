//! Mail of one domain that goes several ways, by its sender.

use std::time::Duration;

use staffetta_queue::{Entry, Place};
use staffetta_testkit::certs::Authority;

use super::FOR_LATER;
use crate::world::mx::{Script, Server, acceptor};
use crate::world::{PATIENCE, World};
use crate::{BODY, everything_to};

const BULK: &str = "bulk@news.test";
const JOHN: &str = "john@home.test";

fn route(sender: &str, server: &Server, more: &str) -> String {
    format!("[[delivery.route]]\nsender = \"{sender}\"\nvia = \"smtp://{}\"\n{more}\n", server.address())
}

fn senders(server: &Server) -> Vec<String> {
    let mut senders: Vec<_> = server.mails().into_iter().map(|mail| mail.sender).collect();
    senders.sort();
    senders.dedup();
    senders
}

/// So many of each sender, in turn.
async fn send(world: &World, senders: &[&str], count: usize) -> anyhow::Result<()> {
    for n in 0..count {
        for sender in senders {
            world.send(sender, &[&format!("r{n}@x.test")], BODY).await?;
        }
    }
    Ok(())
}

async fn none_is_leased(world: &World) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while world.queue.counts().await?.leased > 0 {
        anyhow::ensure!(tokio::time::Instant::now() < end, "{:?}", world.queue.counts().await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_one_domain_goes_by_its_sender_with_the_login_of_its_route_only() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let tls = Some(acceptor(&Authority::new(dir.path())?.leaf("smart.test", &["smart.test"])?)?);
    let (extensions, replies) = (&["STARTTLS", "AUTH PLAIN"], vec![("AUTH", "235 2.7.0 welcome"); 100]);
    let smart = Server::start(Script { tls, extensions, replies, ..Script::default() }).await?;
    let rest = Server::start(Script::default()).await?;
    // The third has no login at the same server, and TLS all the same.
    let routes = route("*@news.test", &smart, "username = \"one\"\npassword = \"first\"")
        + &route("Two@shop.test", &smart, "username = \"two\"\npassword = \"second\"")
        + &route("three@shop.test", &smart, "")
        + &everything_to(&rest);
    let worker = world.worker("", &routes)?;
    send(&world, &[BULK, "two@shop.test", "three@shop.test", "four@shop.test", JOHN, ""], 40).await?;
    let (known, others) = (smart.received(120).await?, rest.received(120).await?);
    world.drained().await?;
    assert_eq!((known.len(), others.len()), (120, 120), "each once");
    assert_eq!(senders(&rest), ["", "four@shop.test", JOHN]);
    for mail in &known {
        let login = match mail.sender.as_str() {
            // \0one\0first and \0two\0second
            BULK => Some("AUTH PLAIN AG9uZQBmaXJzdA=="),
            "two@shop.test" => Some("AUTH PLAIN AHR3bwBzZWNvbmQ="),
            "three@shop.test" => None,
            other => panic!("{other} has no route to it"),
        };
        assert!(mail.encrypted && mail.login.as_deref() == login, "{mail:?}");
    }
    assert!(others.iter().all(|mail| mail.login.is_none()));
    let connections = [&smart, &rest].map(Server::connections);
    assert!(connections[0] <= 60 && connections[1] <= 20, "connections are used again: {connections:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_a_login_goes_by_its_route_from_the_addresses_of_its_pool() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (bulk, rest) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    let pool = "[[delivery.source]]\npool = \"bulk\"\naddress = \"127.0.0.11\"\n";
    let route =
        format!("[[delivery.route]]\nlogin = \"newsletter\"\nvia = \"smtp://{}\"\nsource = \"bulk\"\n", bulk.address());
    let worker = world.worker("", &(route + &everything_to(&rest) + pool))?;
    // All of them have one sender.
    for (login, recipient) in [("Newsletter", "a@x.test"), ("john", "b@x.test"), ("newsletter", "c@x.test")] {
        world.send_of(login, recipient).await?;
    }
    world.send(JOHN, &["d@x.test"], BODY).await?;
    world.drained().await?;
    let to = |server: &Server| {
        let mut to: Vec<_> = server.mails().into_iter().map(|mail| mail.recipients.join(",")).collect();
        to.sort();
        to
    };
    assert_eq!(
        (to(&bulk), to(&rest)),
        (vec!["a@x.test".into(), "c@x.test".into()], vec!["b@x.test".into(), "d@x.test".into()])
    );
    assert!(bulk.clients().iter().all(|client| client.to_string() == "127.0.0.11"), "{:?}", bulk.clients());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_of_one_sender_that_is_down_stops_no_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let down = Server::start(Script { greeting: Some("421 4.3.2 closed"), ..Script::default() }).await?;
    let up = Server::start(Script::default()).await?;
    // More than one look finds.
    send(&world, &[BULK], 150).await?;
    send(&world, &[JOHN], 5).await?;
    let worker = world.worker(FOR_LATER, &(route("*@news.test", &down, "") + &everything_to(&up)))?;
    up.received(5).await?;
    // It is also there for those that come later.
    send(&world, &[BULK, JOHN], 5).await?;
    up.received(10).await?;
    assert_eq!((senders(&up), up.mails().len()), (vec![JOHN.to_owned()], 10));
    let entries =
        world.until("one attempt", |entries: &[Entry]| entries.iter().any(|entry| entry.jobs[0].attempts > 0)).await?;
    assert_eq!(entries.len(), 155);
    none_is_leased(&world).await?;
    let rests = |entry: &Entry| entry.jobs[0].rests;
    assert!(!world.entries().await?.iter().any(rests), "the destination itself does not rest");
    assert!(down.connections() <= 5, "{} for all of it", down.connections());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_of_one_sender_that_says_nothing_stops_no_other() -> anyhow::Result<()> {
    let world = World::start().await?;
    let silent = Server::start(Script { greeting: Some(""), ..Script::default() }).await?;
    let up = Server::start(Script::default()).await?;
    send(&world, &[BULK], 300).await?;
    send(&world, &[JOHN], 5).await?;
    let worker = world.worker(FOR_LATER, &(route("*@news.test", &silent, "") + &everything_to(&up)))?;
    up.received(5).await?;
    assert_eq!(senders(&up), [JOHN]);
    assert!(world.entries().await?.iter().all(|entry| entry.jobs[0].attempts == 0), "waiting is no attempt");
    worker.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_a_place_is_delivered_when_there_is_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (slow, up) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    send(&world, &[BULK, JOHN], 400).await?;
    let worker = world.worker("", &(route("*@news.test", &slow, "concurrency = 1") + &everything_to(&up)))?;
    slow.received(400).await?;
    up.received(400).await?;
    world.drained().await?;
    assert_eq!((slow.mails().len(), up.mails().len(), slow.connections()), (400, 400, 1), "each once");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_of_one_senders_route_holds_for_his_mail_only() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (limited, up) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    send(&world, &[BULK], 60).await?;
    send(&world, &[JOHN], 20).await?;
    let worker = world.worker("", &(route(BULK, &limited, "rate = \"3/1h\"") + &everything_to(&up)))?;
    up.received(20).await?;
    limited.received(3).await?;
    send(&world, &[JOHN], 20).await?;
    up.received(40).await?;
    let waiting = world.until("only what must wait", |entries| entries.len() == 57).await?;
    assert!(waiting.iter().all(|entry| entry.jobs[0].attempts == 0), "waiting is no attempt");
    assert_eq!(limited.mails().len(), 3);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_come_soon_are_waited_for() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (limited, up) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    send(&world, &[BULK, JOHN], 60).await?;
    let worker = world.worker("", &(route(BULK, &limited, "rate = \"20/1s\"") + &everything_to(&up)))?;
    up.received(60).await?;
    limited.received(60).await?;
    world.drained().await?;
    assert_eq!((limited.mails().len(), up.mails().len()), (60, 60), "each once");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_may_have_a_way_of_their_own() -> anyhow::Result<()> {
    let world = World::start().await?;
    let refusing = Script { replies: vec![("RCPT TO:<gone@", "550 5.1.1 unknown")], ..Script::default() };
    let (server, reports) = (Server::start(refusing).await?, Server::start(Script::default()).await?);
    let worker = world.worker("", &(route("<>", &reports, "") + &everything_to(&server)))?;
    world.send(JOHN, &["gone@home.test"], BODY).await?;
    let mails = reports.received(1).await?;
    world.drained().await?;
    assert_eq!((mails[0].sender.as_str(), mails[0].recipients.join(",").as_str()), ("", JOHN));
    assert!(server.mails().is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_leaves_nothing_sorted_behind() -> anyhow::Result<()> {
    let world = World::start().await?;
    let silent = || Server::start(Script { greeting: Some(""), ..Script::default() });
    let (one, two) = (silent().await?, silent().await?);
    send(&world, &[BULK, JOHN], 40).await?;
    let worker = world.worker("", &(route("*@news.test", &one, "") + &everything_to(&two)))?;
    one.until("both are waited for", || one.connections() + two.connections() >= 2).await?;
    let end = tokio::time::Instant::now() + PATIENCE;
    while world.queue.counts().await?.leased < 20 {
        anyhow::ensure!(tokio::time::Instant::now() < end, "{:?}", world.queue.counts().await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await?;
    let entries = world.entries().await?;
    let free = |entry: &Entry| matches!(entry.jobs[0].place, Place::Waiting(_)) && entry.jobs[0].attempts == 0;
    assert!(entries.len() == 80 && entries.iter().all(free), "{entries:#?}");
    Ok(())
}
