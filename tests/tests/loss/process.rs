//! The frontend is killed around the final dot.

use std::collections::BTreeSet;

use staffetta_cli::sink::Scenario;
use staffetta_tests::{Client, Service, World};

use super::{MESSAGE, client, large, ledger, once};

/// Up to the answer to DATA, and then all but the final dot.
async fn before_the_dot(world: &World, recipient: &str, message: &str) -> anyhow::Result<Client> {
    let mut client = client(world).await?;
    client.expect("MAIL FROM:<john@example.org>", 250).await?;
    client.expect(&format!("RCPT TO:<{recipient}>"), 250).await?;
    client.expect("DATA", 354).await?;
    client.write(message.as_bytes()).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_killed_around_the_dot_leaves_exactly_what_it_promised() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    world.kill(Service::Delivery);
    let mut promised = BTreeSet::new();
    for round in 0..4 {
        let message = if round % 2 == 0 { MESSAGE.to_owned() } else { large() };
        // Some are in the middle of their content, others hear 250 and then the frontend dies at once.
        let mut open = Vec::new();
        for n in 0..5 {
            open.push(before_the_dot(&world, &format!("open{round}-{n}@example.com"), &message).await?);
        }
        for n in 0..5 {
            let recipient = format!("done{round}-{n}@example.com");
            let mut client = before_the_dot(&world, &recipient, &message).await?;
            client.write(b"\r\n.\r\n").await?;
            assert_eq!(client.reply().await?.code, 250);
            promised.insert(recipient);
        }
        world.kill(Service::Frontend);
        for mut client in open {
            // It may be told so by a reset.
            let _ = client.write(b"\r\n.\r\n").await;
            assert!(client.reply().await.is_err());
        }
        world.spawn(Service::Frontend)?;
        world.until_ready(Service::Frontend).await?;
    }
    assert_eq!(world.queue().await?.counts().await?.messages as usize, promised.len());
    world.spawn(Service::Delivery)?;
    assert_eq!(ledger(&mut mx, promised.len()).await?, once(promised.iter().cloned()));
    world.until_empty().await?;
    assert_eq!(mx.count() as usize, promised.len());
    Ok(())
}

/// The dots are on their way when the frontend dies: whoever heard 250 is in the ledger once; whoever did not, once or
/// not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_killed_while_it_answers_dots_doubles_nothing() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    let (mut promised, mut open) = (BTreeSet::new(), Vec::new());
    for n in 0..40 {
        let recipient = format!("r{n}@example.com");
        open.push((before_the_dot(&world, &recipient, MESSAGE).await?, recipient));
    }
    for (client, _) in &mut open {
        client.write(b"\r\n.\r\n").await?;
    }
    world.kill(Service::Frontend);
    for (mut client, recipient) in open {
        if client.reply().await.is_ok_and(|reply| reply.code == 250) {
            promised.insert(recipient);
        }
    }
    world.until_empty().await?;
    let came = mx.count() as usize;
    let ledger = ledger(&mut mx, came).await?;
    assert!(ledger.values().all(|times| *times == 1), "{ledger:?}");
    assert!(promised.iter().all(|recipient| ledger.contains_key(recipient)), "{promised:?} {ledger:?}");
    Ok(())
}
