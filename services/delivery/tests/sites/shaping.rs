//! Destinations that rest, because of what their servers say, or by an operator's word.

use std::time::Duration;

use staffetta_policy::shaping::{Rule, pattern};
use staffetta_queue::{Announcer, Curb, Entry, Place, Settings, Target};

use super::{port, served};
use crate::world::mx::{Script, Server};
use crate::world::{PATIENCE, World, waiting};
use crate::{BODY, home};

fn refusing(reply: &'static str, times: usize) -> Script {
    Script { replies: vec![("MAIL", reply); times], ..Script::default() }
}

/// What is suspended now, and why.
pub(super) async fn suspended(world: &World) -> anyhow::Result<Vec<(String, String)>> {
    let blocks = Announcer::connect(&Settings::at(world.redis.url())).await?.blocks().await?.0;
    Ok(blocks.into_iter().map(|(target, block)| (target.to_string(), block.reason)).collect())
}

/// Waits until something is.
async fn until_suspended(world: &World, server: &Server) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    while suspended(world).await?.is_empty() {
        let connections = server.connections();
        anyhow::ensure!(tokio::time::Instant::now() < end, "nothing is suspended after {connections} connections");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// By an operator, until he takes it back.
pub(super) async fn suspend(world: &World, target: Target) -> anyhow::Result<()> {
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    anyhow::ensure!(announcer.block(&target, None, "they have asked us to").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_such_replies_all_domains_of_the_hosts_are_left_alone() -> anyhow::Result<()> {
    for (host, why) in [
        ("mx.shared.test", "421 4.7.0 [TSS04] Messages temporarily deferred"),
        ("mx.l.google.com", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail"),
    ] {
        are_left_alone(host, why).await?;
    }
    Ok(())
}

async fn are_left_alone(host: &str, why: &'static str) -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(refusing(why, 100)).await?;
    for n in 0..20 {
        let domain = format!("d{n}.test");
        served(&world, &[&domain], host, &server);
        for n in 0..5 {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let settings = "destination_concurrency = 2\nretry_min = \"1h\"\nretry_max = \"1h\"";
    let worker = world.worker(&port(&server, settings), "")?;
    until_suspended(&world, &server).await?;
    assert_eq!(suspended(&world).await?, [(format!("destination {host}"), why.to_owned())]);
    world.at_rest(100).await?;
    // Without the rule there are 100; how many begin before the word of the third is round depends on the machine.
    assert!(server.connections() <= 40, "{} connections", server.connections());
    let untouched = world.entries().await?.iter().filter(|entry| entry.jobs[0].attempts == 0).count();
    assert!(untouched >= 50, "no attempt is counted: {untouched}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_one_pool_of_addresses_stops_no_mail_of_another() -> anyhow::Result<()> {
    const POOLS: &str = "[[delivery.source]]\npool = \"news\"\naddress = \"127.0.0.11\"\n\
                         [[delivery.source]]\npool = \"usual\"\naddress = \"127.0.0.13\"\n\
                         [[delivery.route]]\nsender = \"news@home.test\"\nvia = \"mx\"\nsource = \"news\"\n";
    let world = World::start().await?;
    let replies = vec![("MAIL FROM:<news@home.test>", "421 4.7.0 [TSS04] Messages temporarily deferred"); 100];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    for n in 0..20 {
        world.send("news@home.test", &[&format!("r{n}@a.test")], BODY).await?;
    }
    let settings = "default_source = \"usual\"\ndestination_concurrency = 1\nretry_min = \"1h\"\nretry_max = \"1h\"";
    let worker = world.worker(&port(&server, settings), POOLS)?;
    until_suspended(&world, &server).await?;
    world.at_rest(20).await?;
    let rests: Vec<_> = suspended(&world).await?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(rests, ["destination mx.shared.test from news"]);
    world.send("john@home.test", &["lisa@a.test"], BODY).await?;
    assert_eq!(server.received(1).await?[0].sender, "john@home.test");
    assert!(server.mails().iter().all(|mail| mail.sender != "news@home.test"));
    // An operator means all of it.
    suspend(&world, Target::destination("mx.shared.test")?).await?;
    world.send("john@home.test", &["lisa@a.test"], BODY).await?;
    world.at_rest(21).await?;
    assert_eq!(server.mails().len(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_stops_the_mail_of_a_pool_by_any_name_of_its_destination() -> anyhow::Result<()> {
    const POOL: &str = "[[delivery.source]]\npool = \"usual\"\naddress = \"127.0.0.13\"\n";
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    for name in ["a.test from Usual", "*.b.test from usual", "mx1.c.test from usual", "d.test from news"] {
        suspend(&world, Target::destination(name)?).await?;
    }
    for domain in ["a.test", "b.test", "c.test", "d.test"] {
        for n in 1..=2 {
            served(&world, &[domain], &format!("mx{n}.{domain}"), &server);
        }
        world.send("john@home.test", &[&format!("lisa@{domain}")], BODY).await?;
    }
    let worker = world.worker(&port(&server, "default_source = \"usual\""), POOL)?;
    assert_eq!(server.received(1).await?[0].recipients, ["lisa@d.test"]);
    world.at_rest(3).await?;
    assert_eq!(server.mails().len(), 1);
    worker.stop().await
}

/// The second such reply suspends: of this rule, wherever it stands, and not after an operator has resumed.
#[tokio::test(flavor = "multi_thread")]
async fn replies_are_counted_for_a_rule_and_not_for_its_place_and_until_an_operator_resumes() -> anyhow::Result<()> {
    const BUSY: &str = "[[delivery.rule]]\nreply = 'busy'\ntimes = \"2/1h\"\n";
    const NEVER: &str = "[[delivery.rule]]\nreply = 'never'\ntimes = \"2/1h\"\n";
    let world = World::start().await?;
    let replies = ["450 busy", "450 never", "450 busy", "450 busy"].map(|reply| ("MAIL", reply)).to_vec();
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    served(&world, &["a.test"], "mx.a.test", &server);
    let settings = port(&server, "retry_min = \"1h\"\nretry_max = \"1h\"");
    let both = format!("{NEVER}{BUSY}");
    for (sent, (rules, resumes)) in [(BUSY, false), (&both, true), (BUSY, false)].into_iter().enumerate() {
        assert!(suspended(&world).await?.is_empty(), "after {sent} replies");
        let worker = world.worker(&settings, rules)?;
        world.send("john@home.test", &[&format!("r{sent}@a.test")], BODY).await?;
        world.until("refused", |entries| waiting(entries).len() == sent + 1).await?;
        // It counts before it ends.
        worker.stop().await?;
        if resumes {
            let config = staffetta_config::Config::parse(&format!("[delivery]\n{settings}\n{rules}"), "t.toml")?;
            staffetta_delivery::forget_replies(&world.queue, &config.delivery, "mx.a.test").await?;
        }
    }
    assert!(suspended(&world).await?.is_empty(), "resumed between the two");
    let worker = world.worker(&settings, BUSY)?;
    world.send("john@home.test", &["last@a.test"], BODY).await?;
    until_suspended(&world, &server).await?;
    assert_eq!(suspended(&world).await?, [("destination mx.a.test".to_owned(), "450 busy".to_owned())]);
    worker.stop().await
}

/// A domain that names other mail hosts each time somebody asks has none suspended but those that have spoken.
#[tokio::test(flavor = "multi_thread")]
async fn a_domain_speaks_for_nobody_elses_mail_hosts() -> anyhow::Result<()> {
    let world = World::start().await?;
    let evil = Server::start(refusing("450 4.7.1 too fast", 100)).await?;
    let big = Server::start_on(([127, 0, 0, 2], evil.port()).into(), Script::default()).await?;
    served(&world, &["big.test"], "mx.big.test", &big);
    served(&world, &["evil.test"], "mx.evil.test", &evil);
    // To know the destination; the attempt asks again.
    world.dns.mx_once("evil.test", "mx.big.test");
    world.send("john@home.test", &["lisa@evil.test"], BODY).await?;
    let rule = "[[delivery.rule]]\nreply = 'too fast'\ntimes = \"1/1m\"\n";
    let worker = world.worker(&port(&evil, ""), rule)?;
    until_suspended(&world, &evil).await?;
    let rests: Vec<_> = suspended(&world).await?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(rests, ["destination mx.evil.test"]);
    world.send("john@home.test", &["lisa@big.test"], BODY).await?;
    big.received(1).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_the_file_says_what_is_too_much_and_for_how_long() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(refusing("450 4.7.1 you are Too Fast for us", 2)).await?;
    served(&world, &["a.test", "b.test"], "mx.shared.test", &server);
    for n in 0..10 {
        for domain in ["a.test", "b.test"] {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let rule = "[[delivery.rule]]\nmx = [\"*.shared.test\"]\nreply = 'too fast'\ntimes = \"2/1m\"\nsuspend = \"3s\"\n";
    let worker = world.worker(&port(&server, "destination_concurrency = 1"), rule)?;
    let began = std::time::Instant::now();
    let mails = server.received(20).await?;
    world.drained().await?;
    assert_eq!(mails.len(), 20, "all of it, once it is over");
    assert!(began.elapsed() >= Duration::from_secs(2), "nothing rested");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_the_known_rules_goes_on() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(refusing("421 4.7.0 [TSS04] Messages temporarily deferred", 6)).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    for n in 0..10 {
        world.send("john@home.test", &[&format!("r{n}@a.test")], BODY).await?;
    }
    let worker = world.worker(&port(&server, "known_rules = false"), "")?;
    server.received(10).await?;
    assert!(suspended(&world).await?.is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_mail_is_late_while_its_destination_rests_hears_of_it_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (server, sender) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    served(&world, &["a.test"], "mx.shared.test", &server);
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    let (target, life) = (Target::destination("mx.shared.test")?, Duration::from_secs(600));
    anyhow::ensure!(announcer.block(&target, Some(life), "they have asked us to").await?);
    world.send("john@home.test", &["late@a.test"], BODY).await?;
    world.send("", &["late@a.test"], BODY).await?;
    let settings = "delay_warning = \"1ms\"\nretry_min = \"1h\"\nretry_max = \"1h\"";
    let worker = world.worker(&port(&server, settings), &home(&sender))?;
    let report = sender.received(1).await?.remove(0).body;
    assert!(report.contains("Action: delayed") && report.contains("they have asked us to"), "{report}");
    world.at_rest(2).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let soon = (now + life).as_millis();
    // Somebody may look at one once more before its destination is known to rest.
    let waits = |entry: &Entry| matches!(entry.jobs[0].place, Place::Waiting(until) if u128::from(until) <= soon);
    world.until("waiting for the end, and no longer", |entries| entries.iter().all(waits)).await?;
    assert_eq!((server.connections(), sender.connections()), (0, 1));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_too_old_while_its_destination_rests_goes_back_to_its_sender() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (server, sender) = (Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    served(&world, &["a.test"], "mx.shared.test", &server);
    suspend(&world, Target::destination("*.Shared.test")?).await?;
    world.send_with("john@home.test", &["old@a.test"], BODY, Duration::from_millis(1), None).await?;
    world.send("john@home.test", &["young@a.test"], BODY).await?;
    let worker = world.worker(&port(&server, ""), &home(&sender))?;
    let report = sender.received(1).await?.remove(0).body;
    assert!(report.contains("old@a.test") && report.contains("they have asked us to"), "{report}");
    world.at_rest(1).await?;
    let left = world.entries().await?;
    assert_eq!((left.len(), left[0].jobs[0].attempts), (1, 0));
    assert_eq!(server.connections(), 0);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_sorted_by_its_sender_rests_too() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    suspend(&world, Target::destination("a.test")?).await?;
    let route = format!("[[delivery.route]]\nsender = \"*@home.test\"\nvia = \"smtp://{}\"\n", server.address());
    for domain in ["a.test", "b.test"] {
        for n in 0..5 {
            world.send("john@home.test", &[&format!("r{n}@{domain}")], BODY).await?;
        }
    }
    let worker = world.worker("", &route)?;
    server.received(5).await?;
    world.at_rest(5).await?;
    assert!(server.mails().iter().all(|mail| mail.recipients[0].contains("b.test")), "{:?}", server.mails());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_of_many_recipients_is_called_is_no_word_of_the_server() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT", "450 4.2.0 [TS01]: mailbox busy"); 3 * 102];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    let mut recipients: Vec<String> = (0..101).map(|n| format!("r{n}@a.test")).collect();
    recipients.push("\"[TS01]\"@a.test".to_owned());
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    for _ in 0..3 {
        world.send("john@home.test", &recipients, BODY).await?;
    }
    let worker = world.worker(&port(&server, "retry_min = \"1h\"\nretry_max = \"1h\""), "")?;
    world.until("deferred", |entries| waiting(entries).len() == 3).await?;
    world.send("john@home.test", &["good@a.test"], BODY).await?;
    server.received(1).await?;
    assert!(suspended(&world).await?.is_empty());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_find_connections_too_many_get_fewer_for_a_while() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(refusing("421 4.3.2 too many connections for you", 3)).await?;
    served(&world, &["a.test", "b.test"], "mx.shared.test", &server);
    let send = async |count: usize| {
        for n in 0..count {
            world.send("john@home.test", &[&format!("r{n}@{}.test", ["a", "b"][n % 2])], BODY).await?;
        }
        anyhow::Ok(())
    };
    let rule = "[[delivery.rule]]\nreply = 'too many connections'\ntimes = \"3/1m\"\n\
                action = \"fewer\"\nconnections = 1\nfor = \"1h\"\n";
    let settings = "destination_concurrency = 6\nretry_min = \"1s\"\nretry_max = \"1s\"";
    let worker = world.worker(&port(&server, settings), rule)?;
    // None of those that are open is ever without work.
    let end = tokio::time::Instant::now() + PATIENCE;
    while suspended(&world).await?.is_empty() || server.living() > 1 {
        send(20).await?;
        anyhow::ensure!(tokio::time::Instant::now() < end, "{} connections", server.living());
    }
    let said = "421 4.3.2 too many connections for you".to_owned();
    assert_eq!(suspended(&world).await?, [("fewer mx.shared.test".to_owned(), said)]);
    assert!(server.peak() > 1, "there were more");
    server.forget_peak();
    send(100).await?;
    world.drained().await?;
    assert_eq!(server.peak(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_makes_what_holds_already_stricter_and_never_looser() -> anyhow::Result<()> {
    let hour = Duration::from_secs(3_600);
    for (held, why) in [(2, "451 4.7.0 slow down"), (1, "too many")] {
        let world = World::start().await?;
        let server = Server::start(refusing("451 4.7.0 slow down", 1)).await?;
        served(&world, &["a.test"], "mx.shared.test", &server);
        world.queue.curb("mx.shared.test", Curb::Connections(held), hour, "too many").await?;
        let rule = format!(
            "[[delivery.rule]]\nreply = 'slow down'\ntimes = \"1/1m\"\naction = \"fewer\"\nconnections = {}\nfor = \"1h\"\n",
            3 - held
        );
        let worker = world.worker(&port(&server, "retry_min = \"1s\"\nretry_max = \"1s\""), &rule)?;
        world.send("john@home.test", &["r@a.test"], BODY).await?;
        server.received(1).await?;
        worker.stop().await?;
        assert_eq!(suspended(&world).await?, [("fewer mx.shared.test".to_owned(), why.to_owned())]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_open_end_where_there_may_be_fewer_now() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    let worker = world.worker(&port(&server, "destination_concurrency = 4"), "")?;
    let end = tokio::time::Instant::now() + PATIENCE;
    let (mut crowded, hour) = (false, Duration::from_secs(3_600));
    while !crowded || server.living() > 1 {
        if !crowded && server.living() > 2 {
            crowded = world.queue.curb("mx.shared.test", Curb::Connections(1), hour, "too many").await?;
        }
        // None of those that are open is ever without work.
        for n in 0..20 {
            world.send("john@home.test", &[&format!("r{n}@a.test")], BODY).await?;
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "{} connections, {crowded}", server.living());
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_find_messages_too_many_get_them_slowly_until_an_operator_ends_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(refusing("450 4.7.1 slow down", 2)).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    world.send("john@home.test", &["first@a.test"], BODY).await?;
    world.send("john@home.test", &["second@a.test"], BODY).await?;
    let rule = "[[delivery.rule]]\nreply = 'slow down'\ntimes = \"2/1m\"\naction = \"slow\"\nrate = \"2/1h\"\n";
    let settings = port(&server, "retry_min = \"1h\"\nretry_max = \"1h\"");
    let worker = world.worker(&settings, rule)?;
    world.until("deferred", |entries| waiting(entries).len() == 2).await?;
    let end = tokio::time::Instant::now() + PATIENCE;
    while suspended(&world).await?.is_empty() {
        anyhow::ensure!(tokio::time::Instant::now() < end, "it is not slow");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let said = "450 4.7.1 slow down".to_owned();
    assert_eq!(suspended(&world).await?, [("slow mx.shared.test".to_owned(), said)]);
    // One that begins now knows it as well.
    worker.stop().await?;
    let worker = world.worker(&settings, rule)?;
    for n in 0..6 {
        world.send("john@home.test", &[&format!("r{n}@a.test")], BODY).await?;
    }
    server.received(2).await?;
    let untouched = |entries: &[Entry]| entries.iter().filter(|entry| entry.jobs[0].attempts == 0).count();
    assert_eq!((server.mails().len(), untouched(&world.entries().await?)), (2, 4), "the others wait, unattempted");
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    assert!(announcer.unblock(&Target::destination("mx.shared.test")?).await?);
    server.received(6).await?;
    worker.stop().await
}

const NEVER: &str = "450 4.7.1 we will never take this";
const GIVES_UP: &str = "[[delivery.rule]]\nreply = '^4\\d\\d .*never take'\naction = \"bounce\"\nfor = \"1h\"\n";

/// Waits until something bounces by a rule.
async fn until_final(world: &World) -> anyhow::Result<String> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let [(name, reason)] = &suspended(world).await?[..] {
            anyhow::ensure!(reason == NEVER, "{name}: {reason}");
            return Ok(name.clone());
        }
        anyhow::ensure!(tokio::time::Instant::now() < end, "nothing is final");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_such_replies_further_ones_are_final_for_whoever_meets_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut replies = vec![("MAIL FROM:<busy@home.test>", "450 4.2.0 busy"); 9];
    replies.extend(vec![("MAIL FROM:<john@home.test>", NEVER); 99]);
    let (server, sender) =
        (Server::start(Script { replies, ..Script::default() }).await?, Server::start(Script::default()).await?);
    let other = Server::start_on(([127, 0, 0, 4], server.port()).into(), refusing(NEVER, 1)).await?;
    served(&world, &["a.test", "b.test"], "mx.shared.test", &server);
    served(&world, &["c.test"], "mx.other.test", &other);
    let settings = port(&server, "retry_min = \"1h\"\nretry_max = \"1h\"");
    let tables = format!("{GIVES_UP}{}", home(&sender));
    let worker = world.worker(&settings, &tables)?;
    // One at a time: of the last of three it is not known yet that it is.
    for (count, to) in ["r1@a.test", "r2@b.test", "r3@a.test"].into_iter().enumerate() {
        anyhow::ensure!(suspended(&world).await?.is_empty(), "{count} are enough");
        world.send("john@home.test", &[to], BODY).await?;
        world.until("deferred", |entries| waiting(entries).len() == count + 1).await?;
    }
    let name = until_final(&world).await?;
    assert!(name.starts_with("bounce mx.shared.test by "), "{name}");
    // One that begins now knows it as well.
    worker.stop().await?;
    let worker = world.worker(&settings, &tables)?;
    for to in ["r4@a.test", "r5@b.test"] {
        world.send("john@home.test", &[to], BODY).await?;
    }
    for mail in sender.received(2).await? {
        let given_up =
            [NEVER, "final by delivery.rule[0]", "Status: 5.7.1"].iter().all(|part| mail.body.contains(part));
        assert!(given_up, "{}", mail.body);
    }
    // Nothing else is: what a rule is not for, what the servers take, and what other servers say.
    world.send("busy@home.test", &["r6@a.test"], BODY).await?;
    world.send("lisa@home.test", &["r7@a.test"], BODY).await?;
    world.send("john@home.test", &["r8@c.test"], BODY).await?;
    world.until("deferred", |entries| waiting(entries).len() == 5).await?;
    assert_eq!(server.received(1).await?[0].sender, "lisa@home.test");
    // An operator ends it.
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    let (ours, _) = announcer.blocks().await?.0.remove(0);
    worker.stop().await?;
    assert!(announcer.unblock(&ours).await?);
    let worker = world.worker(&settings, &tables)?;
    world.send("john@home.test", &["r9@a.test"], BODY).await?;
    world.until("deferred", |entries| waiting(entries).len() == 6).await?;
    assert_eq!(sender.mails().len(), 2);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_replies_are_final_each_makes_that_longer_until_it_is_over() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (server, sender) = (Server::start(refusing(NEVER, 9)).await?, Server::start(Script::default()).await?);
    served(&world, &["a.test"], "mx.shared.test", &server);
    let (reply, settings) = (r"^4\d\d .*never take", port(&server, "retry_min = \"1h\"\nretry_max = \"1h\""));
    let rule = Rule::new(String::new(), Default::default(), pattern(reply).map_err(anyhow::Error::msg)?);
    // Never so many: what is final is so because it was said already.
    let tables = format!("{}times = \"99/10m\"\n{}", GIVES_UP, home(&sender));
    let say =
        async |life| world.queue.make_final("mx.shared.test", &rule.key, Duration::from_millis(life), NEVER).await;
    anyhow::ensure!(say(1).await?);
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await?;
    while !announcer.blocks().await?.0.is_empty() {}
    let worker = world.worker(&settings, &tables)?;
    world.send("john@home.test", &["early@a.test"], BODY).await?;
    world.until("deferred", |entries| waiting(entries).len() == 1).await?;
    worker.stop().await?;
    anyhow::ensure!(say(60_000).await?);
    let worker = world.worker(&settings, &tables)?;
    world.send("john@home.test", &["late@a.test"], BODY).await?;
    assert!(sender.received(1).await?[0].body.contains("late@a.test"));
    let end = tokio::time::Instant::now() + PATIENCE;
    let lasts = async || {
        let (blocks, now) = announcer.blocks().await?;
        anyhow::Ok(blocks[0].1.until.unwrap_or(0) - now)
    };
    while lasts().await? < 3_000_000 {
        anyhow::ensure!(tokio::time::Instant::now() < end, "it is no longer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_bounces_at_once_notes_nothing_and_each_recipient_has_its_own_fate() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (never, greylisted) = (("RCPT TO:<gone@a.test>", NEVER), ("RCPT TO:<new@a.test>", "450 4.2.0 greylisted"));
    let server = Server::start(Script { replies: vec![never, greylisted], ..Script::default() }).await?;
    let sender = Server::start(Script::default()).await?;
    served(&world, &["a.test"], "mx.shared.test", &server);
    let rule = GIVES_UP.replace("for = \"1h\"", "times = \"1/1m\"");
    let settings = port(&server, "retry_min = \"1h\"\nretry_max = \"1h\"");
    let worker = world.worker(&settings, &format!("{rule}{}", home(&sender)))?;
    world.send("john@home.test", &["gone@a.test", "new@a.test", "lisa@a.test"], BODY).await?;
    assert_eq!(server.received(1).await?[0].recipients.len(), 1);
    let report = sender.received(1).await?.remove(0).body;
    assert!(report.contains("gone@a.test") && report.contains(NEVER) && !report.contains("greylisted"), "{report}");
    world.until("deferred", |entries| waiting(entries).len() == 1).await?;
    assert!(suspended(&world).await?.is_empty());
    worker.stop().await
}
