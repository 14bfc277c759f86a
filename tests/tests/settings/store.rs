//! `[redis]` and `[spool]`.

use staffetta_cli::sink::Scenario;
use staffetta_tests::{Reply, SOON, Service, Value, World, eventually, get, next};

use super::{MESSAGE, client};

/// A message as far as it gets: the reply to its final dot, or the first refusal.
async fn last_reply(world: &World) -> anyhow::Result<Reply> {
    let mut client = client(world).await?;
    for line in ["MAIL FROM:<a@example.org>", "RCPT TO:<a@example.com>", "DATA"] {
        let reply = client.command(line).await?;
        if reply.code >= 400 {
            return Ok(reply);
        }
    }
    client.finish(MESSAGE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_has_as_many_partitions_as_the_file_says_and_all_are_used() -> anyhow::Result<()> {
    let mut world = World::new().await?.set("redis.partitions", "4").start().await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    world.kill(Service::Delivery);
    let mut client = client(&world).await?;
    for n in 0..12 {
        let to = format!("r{n}@example.com");
        assert_eq!(client.send("a@example.org", &[&to], MESSAGE).await?.code, 250);
    }
    let mut store = world.store()?;
    assert_eq!(store.ask(&["HGET", "{kq:cfg}", "partitions"])?, Value::Octets(b"4".to_vec()));
    assert_eq!(store.keys("*}ids")?.len(), 4, "{:?}", store.keys("*")?);
    assert_eq!(world.queue().await?.counts().await?.messages, 12);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_name_is_not_touched() -> anyhow::Result<()> {
    let world = World::new().await?.set("redis.name", "\"ours\"").start().await?;
    let mut store = world.store()?;
    assert_eq!(store.ask(&["HGET", "{kq:cfg}", "name"])?, Value::Octets(b"ours".to_vec()));
    store.ask(&["HSET", "{kq:cfg}", "name", "theirs"])?;
    for service in [Service::Frontend, Service::Delivery] {
        let address = world.http(service);
        eventually(SOON, || async move {
            let (answer, text) = get(address, "/readyz").await?;
            anyhow::ensure!(answer == 200 && text.contains("is that of \"theirs\""), "{answer} {text}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_warns_at_its_start_of_what_concerns_it() -> anyhow::Result<()> {
    let world = World::new().await?.set("redis.durability", "\"none\"");
    let listen = format!("\"0.0.0.0:{}\"", world.auth().port());
    let world = world.set("auth.listen", listen).set("frontend.trusted_networks", "[\"0.0.0.0/0\"]").start().await?;
    for service in [Service::Frontend, Service::Auth, Service::Delivery] {
        let log = || world.log(service);
        assert!(log().contains("redis.durability is"), "{service:?}: {}", log());
        for (owner, text) in [(Service::Frontend, "all of 0.0.0.0/0 may"), (Service::Auth, "auth.listen is reachable")]
        {
            assert_eq!(log().contains(text), owner == service, "{service:?}: {}", log());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_synced_file_is_enough_only_when_the_file_says_so() -> anyhow::Result<()> {
    for (durability, code) in [("none", 250), ("managed", 250), ("fsync", 451)] {
        let mut world = World::new().await?.set("redis.durability", format!("{durability:?}")).start().await?;
        world.dns.mx("example.com", 10, "mx.example.com");
        world.kill(Service::Frontend);
        world.store()?.ask(&["CONFIG", "SET", "appendonly", "no"])?;
        world.spawn(Service::Frontend)?;
        let address = world.http(Service::Frontend);
        eventually(SOON, || async move {
            let (answer, text) = get(address, "/readyz").await?;
            anyhow::ensure!((answer == 200) == (code == 250), "{durability}: {answer} {text}");
            Ok(())
        })
        .await?;
        assert_eq!(last_reply(&world).await?.code, code, "{durability}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_refused_above_the_ratio_of_the_file() -> anyhow::Result<()> {
    for (ratio, code) in [("0.95", 250), ("0.01", 452)] {
        let world = World::new().await?.set("redis.max_memory_ratio", ratio).start().await?;
        world.store()?.ask(&["CONFIG", "SET", "maxmemory", "64mb"])?;
        world.dns.mx("example.com", 10, "mx.example.com");
        eventually(SOON, || async {
            let reply = last_reply(&world).await?;
            anyhow::ensure!(reply.code == code, "{ratio}: {}", reply.text());
            Ok(())
        })
        .await?;
        // Before anything is transferred.
        client(&world).await?.expect("MAIL FROM:<a@example.org>", code).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_inline_limit_of_the_file_is_stored_beside_its_record() -> anyhow::Result<()> {
    for (limit, chunks) in [("4KiB", 1), ("1MiB", 0)] {
        let world = World::new().await?.set("spool.inline_limit", format!("{limit:?}"));
        let mut world = world.set("spool.redis_limit", "\"16MiB\"").start().await?;
        world.dns.mx("example.com", 10, "mx.example.com");
        world.kill(Service::Delivery);
        let text = format!("{MESSAGE}{}", "\r\nmore".repeat(5_000));
        assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], &text).await?.code, 250);
        assert_eq!(world.store()?.keys("*}b:*")?.len(), chunks, "{limit}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_takes_less_of_redis_unless_the_file_says_otherwise_and_arrives_as_it_was() -> anyhow::Result<()> {
    for (compression, packed) in [("zstd", true), ("none", false)] {
        let world = World::new().await?.set("spool.compression", format!("{compression:?}"));
        let mut world = world.start().await?;
        let mut mx = world.mx("example.com", Scenario::default()).await?;
        world.kill(Service::Delivery);
        let body: String =
            (0..4_000).map(|line| format!("This is line {line:>5} of a letter without end.\r\n")).collect();
        let text = format!("{MESSAGE}\r\n{body}");
        assert_eq!(client(&world).await?.send("a@example.org", &["a@example.com"], &text).await?.code, 250);
        let mut store = world.store()?;
        let mut octets = 0;
        for key in store.keys("*}b:*")? {
            let Value::Integer(length) = store.ask(&["STRLEN", &key])? else { anyhow::bail!("{key} is no string") };
            octets += length;
        }
        assert_eq!((1..60_000).contains(&octets), packed, "{compression}: {octets} of {}", text.len());
        world.spawn(Service::Delivery)?;
        let received = String::from_utf8(next(&mut mx).await?.body.to_vec())?;
        assert!(received.trim_end().ends_with(body.trim_end()), "{compression}: {} octets", received.len());
    }
    Ok(())
}
