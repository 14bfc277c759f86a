//! Another configuration comes into force while the worker runs.

use std::time::{Duration, Instant};

use staffetta_queue::{Announcer, Entry, Settings, Target};
use staffetta_testkit::certs::Authority;

use crate::BODY;
use crate::world::mx::{Script, Server, acceptor};
use crate::world::{PATIENCE, World, waiting};

/// One attempt, as far as a test waits for it.
const FOR_LATER: &str = "retry_min = \"1h\"\nretry_max = \"2h\"";

fn to(server: &Server, more: &str) -> String {
    format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n{more}\n", server.address())
}

async fn server(replies: Vec<(&'static str, &'static str)>) -> anyhow::Result<Server> {
    Server::start(Script { replies, ..Script::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_takes_the_way_of_now_and_shows_the_password_of_now() -> anyhow::Result<()> {
    let (world, dir) = (World::start().await?, tempfile::tempdir()?);
    let tls = Some(acceptor(&Authority::new(dir.path())?.leaf("smart.test", &["smart.test"])?)?);
    let (extensions, replies) = (&["AUTH PLAIN"], vec![("AUTH", "235 2.7.0 hello"), ("AUTH", "235 2.7.0 hello")]);
    let smart = Server::start(Script { tls, wrapped: true, extensions, replies, ..Script::default() }).await?;
    let old = Server::start(Script::default()).await?;
    let worker = world.worker_via(&old, FOR_LATER)?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    old.received(1).await?;
    for (count, password, shown) in [(1, "summersun", "AGpvaG4Ac3VtbWVyc3Vu"), (2, "winter", "AGpvaG4Ad2ludGVy")] {
        let login = format!("tls = \"may\"\nusername = \"john\"\npassword = \"{password}\"");
        worker.change(FOR_LATER, &to(&smart, &login).replace("smtp://", "smtps://")).await?;
        // Whoever has the old one in hand may still send one.
        world.drained().await?;
        world.send("john@home.test", &["b@x.test"], BODY).await?;
        assert_eq!(smart.received(count).await?[count - 1].login, Some(format!("AUTH PLAIN {shown}")));
    }
    assert_eq!(old.mails().len(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_have_ways_of_their_own_and_lose_them_again() -> anyhow::Result<()> {
    let (world, all, johns) = (World::start().await?, server(vec![]).await?, server(vec![]).await?);
    let worker = world.worker_via(&all, FOR_LATER)?;
    let own = to(&johns, "sender = \"john@home.test\"") + &to(&all, "");
    for (routes, to_all, to_john) in [(own.as_str(), 1, 1), (&to(&all, ""), 3, 1), (&own, 4, 2)] {
        worker.change(FOR_LATER, routes).await?;
        for sender in ["john@home.test", "lisa@home.test"] {
            world.send(sender, &["a@x.test"], BODY).await?;
        }
        world.drained().await?;
        assert_eq!((all.mails().len(), johns.mails().len()), (to_all, to_john), "{routes}");
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_now_is_tried_again_and_told_of_as_it_should_be_now() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = server(vec![("MAIL", "450 4.2.0 later"), ("MAIL", "450 4.2.0 later")]).await?;
    let worker = world.worker_via(&server, FOR_LATER)?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    world.until("deferred", |entries: &[Entry]| waiting(entries).len() == 1).await?;
    worker.change("retry_min = \"1s\"\nretry_max = \"1s\"\ndelay_warning = \"1ms\"", &to(&server, "")).await?;
    world.send("john@home.test", &["b@x.test"], BODY).await?;
    let mails = server.received(2).await?;
    let told: Vec<_> = mails.iter().map(|mail| (mail.sender.as_str(), mail.recipients[0].as_str())).collect();
    assert!(told.contains(&("", "john@home.test")) && told.contains(&("john@home.test", "b@x.test")), "{told:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_lives_as_long_as_mail_does_now() -> anyhow::Result<()> {
    let (world, server) = (World::start().await?, server(vec![("RCPT", "550 5.1.1 nobody")]).await?);
    let nowhere = "[[delivery.route]]\ndomain = \"home.test\"\nvia = \"smtp://127.0.0.1:1\"\n".to_owned();
    let worker = world.worker(FOR_LATER, &(nowhere.clone() + &to(&server, "")))?;
    worker.change(&format!("{FOR_LATER}\nlifetime = \"3h\""), &(nowhere + &to(&server, ""))).await?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let left = world
        .until("a report", |entries| entries.iter().any(|entry| entry.message.envelope.sender.as_str() == ""))
        .await?;
    let report = left.iter().find(|entry| entry.message.envelope.sender.as_str() == "").map(|entry| &entry.message);
    assert_eq!(report.map(|message| message.expires - message.arrived), Some(3 * 3_600_000));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_the_time_and_asks_for_the_encryption_of_now() -> anyhow::Result<()> {
    let (world, clear) = (World::start().await?, server(vec![]).await?);
    let silent = Server::start(Script { greeting: Some(""), ..Script::default() }).await?;
    let worker = world.worker(&format!("{FOR_LATER}\ntimeouts.greeting = \"1h\""), &to(&silent, ""))?;
    worker.change(&format!("{FOR_LATER}\ntimeouts.greeting = \"100ms\"\ntls = \"encrypt\""), &to(&silent, "")).await?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    let reasons = waiting(&world.until("deferred", |entries: &[Entry]| waiting(entries).len() == 1).await?);
    assert!(reasons[0].contains("timed out"), "{reasons:?}");
    worker.change(&format!("{FOR_LATER}\ntls = \"encrypt\""), &to(&clear, "")).await?;
    world.send("john@home.test", &["b@y.test"], BODY).await?;
    let reasons = waiting(&world.until("deferred", |entries: &[Entry]| waiting(entries).len() == 2).await?);
    assert!(reasons.iter().any(|reason| reason.contains("TLS")), "{reasons:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_hop_gets_as_much_at_a_time_as_it_may_now() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { dots: vec!["hang"], ..Script::default() }).await?;
    let worker = world.worker(&format!("{FOR_LATER}\ndestination_concurrency = 1"), &to(&server, ""))?;
    world.send("john@home.test", &["a@x.test"], BODY).await?;
    server.until("final dot", || server.dots_left() == 0).await?;
    worker
        .change(&format!("{FOR_LATER}\ndestination_concurrency = 5\ndestination_rate = \"1/1h\""), &to(&server, ""))
        .await?;
    world.send("john@home.test", &["b@x.test"], BODY).await?;
    server.received(1).await?;
    worker.change(&format!("{FOR_LATER}\ndestination_concurrency = 5\ndrain_limit = \"1s\""), &to(&server, "")).await?;
    world.send("john@home.test", &["c@x.test"], BODY).await?;
    server.received(2).await?;
    // One is under way for ten minutes more; it is cut off.
    worker.stop().await
}

/// The mail host of two domains.
fn shared(world: &World, server: &Server) -> String {
    for domain in ["a.test", "b.test"] {
        world.dns.mx(domain, 10, "mx.shared.test");
    }
    world.dns.host("mx.shared.test", server.ip());
    format!("{FOR_LATER}\nport = {}", server.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_destinations_are_those_of_now() -> anyhow::Result<()> {
    let (world, server) = (World::start().await?, server(vec![]).await?);
    let settings = shared(&world, &server);
    let worker = world.worker(&settings, "")?;
    world.send("john@home.test", &["r@a.test"], BODY).await?;
    server.received(1).await?;
    let pool = "[[delivery.source]]\npool = \"usual\"\naddress = \"127.0.0.13\"\nhostname = \"out.test\"\n";
    let strict = "[[delivery.destination]]\nmx = [\"*.shared.test\"]\ntls = \"encrypt\"\n";
    worker.change(&format!("{settings}\ndefault_source = \"usual\""), &format!("{pool}{strict}")).await?;
    world.send("john@home.test", &["s@a.test"], BODY).await?;
    let entries = world.until("one that waits", |entries: &[Entry]| waiting(entries).len() == 1).await?;
    assert!(waiting(&entries)[0].contains("TLS is required"), "{:?}", waiting(&entries));
    assert_eq!(server.clients().last().map(ToString::to_string).as_deref(), Some("127.0.0.13"));
    assert!(server.commands().contains(&"EHLO out.test".to_owned()), "{:?}", server.commands());

    // An address whose days are over long ago, until there are more of them than have passed.
    let new = pool.replace("hostname", "warm_up = \"1990-01-01\"\nhostname");
    let few = format!("{settings}\ndefault_source = \"usual\"\nwarm_up_days = [1]");
    worker.change(&few, &new).await?;
    let sent = server.mails().len();
    world.send("john@home.test", &["t@a.test"], BODY).await?;
    server.received(sent + 1).await?;
    let ones = vec!["1"; 40_000].join(", ");
    worker.change(&few.replace("[1]", &format!("[{ones}]")), &new).await?;
    for n in 0..3 {
        world.send("john@home.test", &[&format!("u{n}@a.test")], BODY).await?;
    }
    let spent = |entries: &[Entry]| waiting(entries).iter().any(|why| why.contains("the pool usual has no address"));
    world.until("one that waits", spent).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_servers_is_what_the_rules_of_now_say() -> anyhow::Result<()> {
    let tss = ("MAIL", "421 4.7.0 [TSS04] deferred");
    let replies = vec![tss, tss, tss, ("MAIL", "450 4.7.1 come back"), tss, tss, tss];
    let (world, server) = (World::start().await?, server(replies).await?);
    let settings = shared(&world, &server);
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    let suspended = async || anyhow::Ok(announcer.blocks().await?.0.into_iter().map(|(_, block)| block.reason).next());
    let until_suspended = async || {
        let end = Instant::now() + PATIENCE;
        loop {
            match suspended().await? {
                Some(reason) => return anyhow::Ok(reason),
                None => anyhow::ensure!(Instant::now() < end, "nothing is suspended: {:?}", server.commands()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let worker = world.worker(&format!("{settings}\nknown_rules = false"), "")?;
    for n in 0..3 {
        world.send("john@home.test", &[&format!("r{n}@a.test")], BODY).await?;
        world.until("deferred", |entries: &[Entry]| waiting(entries).len() == n + 1).await?;
    }
    assert_eq!(suspended().await?, None);
    let rule = "[[delivery.rule]]\nreply = 'come back'\ntimes = \"1/1m\"\nsuspend = \"1h\"\n";
    worker.change(&settings, rule).await?;
    world.send("john@home.test", &["s@a.test"], BODY).await?;
    assert_eq!(until_suspended().await?, "450 4.7.1 come back");
    announcer.unblock(&Target::destination("mx.shared.test")?).await?;
    for n in 0..3 {
        world.send("john@home.test", &[&format!("r{n}@b.test")], BODY).await?;
    }
    assert_eq!(until_suspended().await?, "421 4.7.0 [TSS04] deferred");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_good_is_suppressed_as_the_file_says_now() -> anyhow::Result<()> {
    let replies = vec![("RCPT", "550 5.1.1 no such user"); 4];
    let (world, server) = (World::start().await?, server(replies).await?);
    let settings = shared(&world, &server);
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    let worker = world.worker(&settings, "")?;
    let ours = "127.0.0.1".parse().ok();
    for (more, life) in [("", None), ("\nsuppress_after = \"1/1d\"\nsuppress_for = \"1h\"", Some(3_600_000))] {
        if life.is_some() {
            worker.change(&format!("{settings}{more}"), "").await?;
        }
        world.send_from(ours, "gone@a.test", |_| {}).await?;
        world.drained().await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let blocks = announcer.blocks().await?.0;
            let found = blocks.first().and_then(|(_, block)| Some(block.until? - block.since));
            if found == life {
                break;
            }
            anyhow::ensure!(found.is_none() && Instant::now() < end, "{found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    worker.stop().await
}
