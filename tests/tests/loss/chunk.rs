//! A part of the content is gone from the store.

use std::collections::HashMap;

use staffetta_cli::sink::{Scenario, Stage};
use staffetta_dkim::{Algorithm, Key};
use staffetta_tests::{SOON, Service, World, eventually, next};

use super::{CHUNKS, accepted, body, large, until_each};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_chunk_is_gone_waits_and_no_part_of_it_is_delivered() -> anyhow::Result<()> {
    waits_for_its_chunk(World::new().await?, false).await
}

/// Content that is signed is read twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_chunk_is_gone_waits_for_its_signature_too() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (_, pem) = Key::generate(Algorithm::Ed25519)?;
    let path = world.folder().join("dkim.pem");
    std::fs::write(&path, pem.as_bytes())?;
    let key = path.display();
    let table = format!("[[delivery.dkim]]\ndomain = \"example.org\"\nselector = \"s\"\nkey = \"{key}\"\n");
    waits_for_its_chunk(world.tables(&table), true).await
}

async fn waits_for_its_chunk(world: World, signed: bool) -> anyhow::Result<()> {
    let mut world = world.start().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    world.kill(Service::Delivery);
    let mut lost = HashMap::new();
    for chunk in 0..CHUNKS {
        let id = accepted(&world, &format!("c{chunk}@example.com"), &large()).await?;
        let keys = world.store()?.keys(&format!("*b:{id}:*"))?;
        assert_eq!(keys.len(), CHUNKS);
        lost.insert(keys[chunk].clone(), world.store()?.take(&keys[chunk])?);
    }
    world.spawn(Service::Delivery)?;
    let tried = |entry: &staffetta_queue::Entry| entry.jobs[0].attempts >= 2;
    for entry in until_each(&world, CHUNKS, tried).await? {
        let reason = entry.jobs[0].reason.clone().unwrap_or_default();
        assert!(reason.contains("could not be read"), "{reason}");
    }
    assert_eq!(mx.count(), 0, "nothing partial, nothing empty");
    assert!(
        world.log(Service::Delivery).contains("the content could not be read from the queue"),
        "the operator is told"
    );

    for (key, octets) in lost {
        world.store()?.ask(&[b"SET", key.as_bytes(), &octets])?;
    }
    for _ in 0..CHUNKS {
        let received = next(&mut mx).await?;
        let text = String::from_utf8(received.body.to_vec())?;
        assert!(body(&text) == body(&large()), "{} octets", text.len());
        assert_eq!(text.starts_with("DKIM-Signature:"), signed);
    }
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_about_content_that_is_gone_is_made_without_it() -> anyhow::Result<()> {
    let mut world = World::new().await?.start().await?;
    let refuse = Scenario::default().reply(Stage::Recipient, "550 5.1.1 No such user here");
    let mx = world.mx("example.com", refuse).await?;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    world.kill(Service::Delivery);
    let id = accepted(&world, "nobody@example.com", &large()).await?;
    let head = world.store()?.keys(&format!("*b:{id}:0"))?;
    world.store()?.take(&head[0])?;
    world.spawn(Service::Delivery)?;
    let report = next(&mut home).await?;
    assert_eq!((report.sender.as_str(), report.recipients.as_slice()), ("", &["john@example.org".to_owned()][..]));
    let text = String::from_utf8(report.body.to_vec())?;
    for part in ["Final-Recipient: rfc822; nobody@example.com", "Action: failed", "550 5.1.1 No such user here"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("line 1 of a letter"), "{text}");
    world.until_empty().await?;
    assert_eq!(mx.count(), 0);
    eventually(SOON, || async {
        anyhow::ensure!(world.store()?.keys(&format!("*{id}*"))?.iter().all(|key| key.contains("}x:")), "remains");
        Ok(())
    })
    .await
}
