//! A message for many domains through one server.

use staffetta_queue::Entry;

use crate::BODY;
use crate::world::mx::{Mail, Script, Server};
use crate::world::{World, waiting};

const FOR_LATER: &str = "retry_min = \"1h\"\nretry_max = \"2h\"";

/// In so many domains.
fn recipients(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}@d{number}.test")).collect()
}

async fn send(world: &World, count: usize) -> anyhow::Result<()> {
    let recipients = recipients(count);
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    world.send("john@home.test", &recipients, BODY).await.map(drop)
}

/// Recipients of these, sorted.
fn everybody(mails: &[Mail]) -> Vec<String> {
    let mut all: Vec<_> = mails.iter().flat_map(|mail| mail.recipients.clone()).collect();
    all.sort();
    all
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_domains_behind_one_server_get_one_transaction() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    send(&world, 50).await?;
    let worker = world.worker_via(&server, "")?;
    world.until("empty", <[Entry]>::is_empty).await?;
    let mails = server.mails();
    assert_eq!(everybody(&mails), sorted(recipients(50)));
    assert_eq!(mails.len(), 1, "{:?}", mails.iter().map(|mail| mail.recipients.len()).collect::<Vec<_>>());
    // More than fifty are parted, and nobody is forgotten.
    send(&world, 120).await?;
    world.until("empty", <[Entry]>::is_empty).await?;
    let mails = server.mails().split_off(1);
    assert_eq!(everybody(&mails), sorted(recipients(120)));
    assert!(
        mails.iter().all(|mail| mail.recipients.len() <= 100) && mails.len() < 20,
        "{:?}",
        mails.iter().map(|mail| mail.recipients.len()).collect::<Vec<_>>()
    );
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_refused_is_reported_alone_and_one_who_is_put_off_waits_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let replies = vec![("RCPT TO:<r3@", "550 5.1.1 nobody"), ("RCPT TO:<r7@", "450 4.2.0 later")];
    let server = Server::start(Script { replies, ..Script::default() }).await?;
    send(&world, 50).await?;
    let worker = world.worker_via(&server, FOR_LATER)?;
    let one_waits = |entries: &[Entry]| entries.len() == 1 && entries[0].jobs.len() == 1;
    let entries = world.until("waiting for one", one_waits).await?;
    assert!(waiting(&entries)[0].starts_with("d7.test: host"), "{:?}", waiting(&entries));
    let mails = server.received(2).await?;
    let (reports, sent): (Vec<_>, Vec<_>) = mails.into_iter().partition(|mail| mail.sender.is_empty());
    assert_eq!((sent.len(), sent[0].recipients.len(), reports.len()), (1, 48, 1));
    assert_eq!(reports[0].recipients, ["john@home.test"]);
    let told = &reports[0].body;
    assert!(told.contains("r3@d3.test") && !told.contains("r7@d7.test") && !told.contains("r4@d4.test"), "{told}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_settled_by_a_worker_that_died_is_tried_again_and_nothing_else() -> anyhow::Result<()> {
    let world = World::start().await?;
    // The second transaction is never answered.
    let server = Server::start(Script { dots: vec!["250 ok", "hang"], ..Script::default() }).await?;
    send(&world, 120).await?;
    let settings = "lease = \"5s\"\ndestination_concurrency = 1";
    let worker = world.worker_via(&server, settings)?;
    server.until("second content", || server.dots_left() == 0).await?;
    let settled = server.mails()[0].recipients.len();
    let rest_is_left = |entries: &[Entry]| entries.len() == 1 && entries[0].jobs.len() == 120 - settled;
    world.until("settled as far as it was answered", rest_is_left).await?;
    worker.kill();
    let second = world.worker_via(&server, settings)?;
    world.until("empty", <[Entry]>::is_empty).await?;
    assert_eq!(everybody(&server.mails()), sorted(recipients(120)), "each once, as far as the server has said");
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_for_the_hosts_of_its_own_domains_is_not_put_together() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    for number in 0..5 {
        world.dns.mx(&format!("d{number}.test"), 10, "mx.test");
    }
    world.dns.host("mx.test", server.ip());
    send(&world, 5).await?;
    let worker = world.worker(&format!("port = {}", server.port()), "")?;
    world.until("empty", <[Entry]>::is_empty).await?;
    assert_eq!(server.mails().len(), 5);
    worker.stop().await
}

/// Several connections are at work then, and each may have begun with a part of a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_such_messages_is_put_together_as_well() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script::default()).await?;
    let worker = world.worker_via(&server, "")?;
    for _ in 0..40 {
        send(&world, 50).await?;
    }
    world.until("empty", <[Entry]>::is_empty).await?;
    let mails = server.mails();
    assert_eq!(everybody(&mails).len(), 40 * 50);
    assert!(mails.len() < 40 * 10, "{}", mails.len());
    worker.stop().await
}
