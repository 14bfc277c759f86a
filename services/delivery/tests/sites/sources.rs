//! Pools of addresses: where connections come from, and under which name.

use std::collections::BTreeMap;

use staffetta_delivery::spent_on;
use staffetta_policy::source::{Source, WarmUp, day_of};
use staffetta_queue::{Entry, Target};

use super::shaping::suspend;
use super::{port, served};
use crate::BODY;
use crate::world::mx::{Mail, Script, Server};
use crate::world::{World, waiting};

const POOLS: &str = "[[delivery.source]]\npool = \"news\"\naddress = \"127.0.0.11\"\nhostname = \"out1.test\"\n\
                     [[delivery.source]]\npool = \"news\"\naddress = \"127.0.0.12\"\nhostname = \"out2.test\"\nweight = 2\n\
                     [[delivery.source]]\npool = \"usual\"\naddress = \"127.0.0.13\"\n\
                     [[delivery.route]]\ndomain = \"news.test\"\nvia = \"mx\"\nsource = \"news\"\n\
                     [[delivery.destination]]\ndomain = [\"news.test\"]\nmessages_per_connection = 1\n";

/// How many connections came from each address.
fn origins(server: &Server) -> BTreeMap<String, usize> {
    let mut origins = BTreeMap::new();
    server.clients().iter().for_each(|client| *origins.entry(client.to_string()).or_default() += 1);
    origins
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_come_from_the_addresses_of_the_pool_and_give_their_names() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["news.test", "other.test"], "mx.shared.test", &server);
    for n in 0..40 {
        world.send("john@home.test", &[&format!("r{n}@news.test")], BODY).await?;
    }
    world.send("john@home.test", &["r@other.test"], BODY).await?;
    let worker = world.worker(&port(&server, "default_source = \"usual\""), POOLS)?;
    server.received(41).await?;
    let origins = origins(&server);
    let of = |address: &str| origins.get(address).copied().unwrap_or_default();
    assert_eq!((origins.len(), of("127.0.0.13")), (3, 1), "{origins:?}");
    // One in three and two in three: the chance that it is not so with forty is one in thousands of millions.
    assert!(of("127.0.0.11") > 0 && of("127.0.0.12") > 0 && of("127.0.0.11") + of("127.0.0.12") == 40, "{origins:?}");
    let greeted = |name: &str| server.commands().iter().filter(|command| **command == format!("EHLO {name}")).count();
    assert_eq!(greeted("out1.test"), of("127.0.0.11"));
    assert_eq!(greeted("out2.test"), of("127.0.0.12"));
    assert_eq!(greeted("relay.test"), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_address_that_the_machine_lacks_the_others_of_its_pool_stand() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["news.test", "none.test"], "mx.shared.test", &server);
    for n in 0..20 {
        world.send("john@home.test", &[&format!("r{n}@news.test")], BODY).await?;
    }
    let pools = POOLS.replace("127.0.0.12", "198.51.100.77").replace("weight = 2", "weight = 50")
        + "[[delivery.source]]\npool = \"away\"\naddress = \"198.51.100.78\"\n\
           [[delivery.route]]\ndomain = \"none.test\"\nvia = \"mx\"\nsource = \"away\"\n";
    let worker = world.worker(&port(&server, "retry_min = \"1h\"\nretry_max = \"1h\""), &pools)?;
    server.received(20).await?;
    assert!(origins(&server).into_keys().eq(["127.0.0.11"]), "{:?}", origins(&server));
    world.send("john@home.test", &["r@none.test"], BODY).await?;
    let entries = world.until("one that waits", |entries| waiting(entries).len() == 1).await?;
    let why = waiting(&entries).remove(0);
    assert!(why.contains("the pool away has no address") && why.contains("does not have all of them"), "{why}");
    worker.stop().await
}

/// The address .11, new since yesterday, so that the day may end meanwhile.
fn warmed_up() -> anyhow::Result<String> {
    let yesterday = std::process::Command::new("date").args(["-u", "-d", "yesterday", "+%F"]).output()?;
    let yesterday = String::from_utf8(yesterday.stdout)?;
    let new = format!("hostname = \"out1.test\"\nwarm_up = \"{}\"", yesterday.trim());
    Ok(POOLS.replace("hostname = \"out1.test\"", &new).replace("connection = 1\n", "connection = 3\n"))
}

/// What the address .11 has used of what it may send, today or on the day that has begun meanwhile.
async fn spent(world: &World, today: u32) -> usize {
    let warm_up = Some(WarmUp { begins: today - 1, days: [5, 23, 23].into() });
    let source = Source { address: [127, 0, 0, 11].into(), hostname: None, weight: 1, warm_up };
    let mut spent = 0;
    for day in [today, today + 1] {
        spent += spent_on(day, &source, &world.queue).await.unwrap_or_default() as usize;
    }
    spent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_sends_no_more_than_it_may_today_and_others_send_the_rest() -> anyhow::Result<()> {
    let world = World::start().await?;
    let today = day_of(world.queue.now());
    let server = Server::start(Script::default()).await?;
    served(&world, &["news.test"], "mx.shared.test", &server);
    for n in 0..60 {
        world.send("john@home.test", &[&format!("r{n}@news.test")], BODY).await?;
    }
    let days = "warm_up_days = [5, 23, 23]";
    let workers =
        [world.worker(&port(&server, days), &warmed_up()?)?, world.worker(&port(&server, days), &warmed_up()?)?];
    server.received(60).await?;
    let from_new = || {
        let clients = server.clients();
        let of_new = |mail: &&Mail| clients[mail.connection].to_string() == "127.0.0.11";
        server.mails().iter().filter(of_new).count()
    };
    assert!((1..=23).contains(&from_new()), "{}", from_new());
    for worker in workers {
        worker.stop().await?;
    }
    assert_eq!(spent(&world, today).await, from_new(), "each of them was taken from what it may send");
    // With that address alone the rest waits.
    suspend(&world, Target::source("127.0.0.12")?).await?;
    for n in 0..40 {
        world.send("john@home.test", &[&format!("s{n}@news.test")], BODY).await?;
    }
    let worker = world.worker(&port(&server, days), &warmed_up()?)?;
    let of =
        |entries: &[Entry]| waiting(entries).into_iter().filter(|why| why.contains("has no address for it")).count();
    world.until("what is too much waits", |entries| of(entries) > 0).await?;
    assert!(from_new() <= 23 && server.mails().len() < 100, "{}", from_new());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_takes_nothing_of_what_a_new_address_may_send() -> anyhow::Result<()> {
    let world = World::start().await?;
    let good = Server::start(Script::default()).await?;
    let mute = Script { greeting: Some(""), ..Script::default() };
    let mute = Server::start_on(([127, 0, 0, 30], good.port()).into(), mute).await?;
    served(&world, &["mute.test"], "mx.mute.test", &mute);
    served(&world, &["news.test"], "mx.shared.test", &good);
    let pool = warmed_up()?;
    let new = &pool[..pool.rfind("[[delivery.source]]\npool = \"news\"").unwrap_or_default()];
    let settings = port(&good, "default_source = \"news\"\nwarm_up_days = [5, 1, 1]");
    let worker = world.worker(&settings, new)?;
    world.send("john@home.test", &["r@mute.test"], BODY).await?;
    mute.until("a connection that waits for a greeting", || mute.connections() > 0).await?;
    world.send("john@home.test", &["r@news.test"], BODY).await?;
    assert_eq!(good.received(1).await?[0].recipients, ["r@news.test"]);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_out_sends_nothing_and_without_any_mail_waits() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    served(&world, &["news.test"], "mx.shared.test", &server);
    suspend(&world, Target::source("127.0.0.11")?).await?;
    for n in 0..20 {
        world.send("john@home.test", &[&format!("r{n}@news.test")], BODY).await?;
    }
    let worker = world.worker(&port(&server, ""), POOLS)?;
    server.received(20).await?;
    assert_eq!(origins(&server).into_keys().collect::<Vec<_>>(), ["127.0.0.12"]);
    worker.stop().await?;
    suspend(&world, Target::source("127.0.0.12")?).await?;
    world.send("john@home.test", &["r@news.test"], BODY).await?;
    let worker = world.worker(&port(&server, ""), POOLS)?;
    let entries = world.until("one that waits", |entries| waiting(entries).len() == 1).await?;
    let why = waiting(&entries).remove(0);
    assert!(why.contains("the pool news has no address for it that may be used"), "{why}");
    assert_eq!(server.mails().len(), 20);
    worker.stop().await
}
