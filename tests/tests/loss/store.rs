//! Redis or its replica goes away while mail comes in.

use rustix::process::{Pid, Signal, kill_process};
use staffetta_cli::sink::Scenario;
use staffetta_queue::server::LocalServer;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, SOON, Service, Value, World, eventually, next};

use super::{MESSAGE, accepted, client, large};

async fn until_taken(world: &World, recipient: &str) -> anyhow::Result<()> {
    eventually(SOON, || async { accepted(world, recipient, MESSAGE).await.map(drop) }).await
}

fn signal(server: &LocalServer, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(server.pid().cast_signed()).ok_or_else(|| anyhow::anyhow!("no process"))?;
    Ok(kill_process(pid, signal)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_in_mid_body_and_back_before_the_dot_is_a_451() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let text = large();
    let (front, back) = text.split_at(text.len() / 2);
    let mut clients: Vec<Client> = Vec::new();
    for n in 0..5 {
        let mut client = client(&world).await?;
        client.expect("MAIL FROM:<john@example.org>", 250).await?;
        client.expect(&format!("RCPT TO:<lost{n}@example.com>"), 250).await?;
        client.expect("DATA", 354).await?;
        client.write(front.as_bytes()).await?;
        clients.push(client);
    }
    // The part that is stored already survives the restart: only what follows is lost.
    eventually(SOON, || async {
        anyhow::ensure!(world.store()?.keys("*}b:*:0")?.len() == 5, "the first parts are not stored");
        Ok(())
    })
    .await?;
    world.redis.kill()?;
    for client in &mut clients {
        client.write(back.as_bytes()).await?;
    }
    until_frontend_says(&world, "ok, but the queue").await?;
    world.redis.restart()?;
    until_frontend_says(&world, "ok\n").await?;
    for client in &mut clients {
        client.write(b"\r\n.\r\n").await?;
        let reply = client.reply().await?;
        assert_eq!(reply.code, 451, "{}", reply.text());
    }
    // The sessions go on, and what they bring now is taken.
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client.send("john@example.org", &[&format!("kept{n}@example.com")], &text).await?;
        assert_eq!(reply.code, 250, "{}", reply.text());
    }
    for _ in 0..5 {
        let received = next(&mut mx).await?;
        assert!(received.recipients[0].starts_with("kept"), "{:?}", received.recipients);
        assert!(received.body.len() > text.len());
    }
    world.until_empty().await?;
    assert_eq!(mx.count(), 5);
    Ok(())
}

/// Waits until `/readyz` says so, and that mail is taken.
async fn until_frontend_says(world: &World, begin: &str) -> anyhow::Result<()> {
    let address = world.http(Service::Frontend);
    eventually(SOON, || async move {
        let (answer, text) = staffetta_tests::get(address, "/readyz").await?;
        anyhow::ensure!(answer == 200 && text.starts_with(begin), "{answer} {text}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_word_of_its_replica_nothing_is_accepted() -> anyhow::Result<()> {
    let world = World::new().await?.set("redis.durability", "\"replicated\"").set("redis.replicas", "1");
    let port = Port::reserve()?;
    world.store()?.ask(&["CONFIG", "SET", "port", &port.number().to_string()])?;
    let replica = LocalServer::start(&world.folder().join("replica"))?;
    let mut other = staffetta_tests::Redis::connect(replica.socket())?;
    other.ask(&["REPLICAOF", "127.0.0.1", &port.number().to_string()])?;
    let mut world = world.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    until_taken(&world, "first@example.com").await?;
    assert_eq!(next(&mut mx).await?.recipients, ["first@example.com"]);
    world.until_empty().await?;
    world.kill(Service::Delivery);

    signal(&replica, Signal::STOP)?;
    let refused = client(&world).await?.send("john@example.org", &["lost@example.com"], MESSAGE).await;
    signal(&replica, Signal::CONT)?;
    let refused = refused?;
    assert_eq!(refused.code, 451, "{}", refused.text());
    until_taken(&world, "second@example.com").await?;
    // The record of what was refused goes by itself in two minutes, if it came so far.
    let Value::List(keys) = other.ask(&["KEYS", "*}m:*"])? else { anyhow::bail!("no list") };
    let mut kept = Vec::new();
    for key in keys {
        let Value::Octets(key) = key else { anyhow::bail!("no key") };
        let key = String::from_utf8(key)?;
        if other.ask(&["PTTL", &key])? == Value::Integer(-1) {
            kept.push(key);
        }
    }
    assert_eq!(kept.len(), 1, "what was accepted, and that only, is on the replica for good: {kept:?}");
    world.spawn(Service::Delivery)?;
    assert_eq!(next(&mut mx).await?.recipients, ["second@example.com"]);
    world.until_empty().await?;
    assert_eq!(mx.count(), 2);
    Ok(())
}
