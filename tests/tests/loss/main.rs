//! Something is lost in the middle: a chunk, a lease, the head of a message, a connection, a replica, Redis, a process.
//! Nothing partial is sent, nothing that was accepted is lost, nothing that was refused arrives.

mod chunk;
mod lease;
mod mx;
mod process;
mod store;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use staffetta_cli::sink::Sink;
use staffetta_queue::{Entry, Filter};
use staffetta_tests::{Client, SOON, World, next};
use tokio::time::{Duration, Instant, sleep};

const MESSAGE: &str = "From: John <john@example.org>\r\nSubject: hello\r\n\r\nHello";
/// A header, and three chunks of content.
const CHUNKS: usize = 3;

/// A message of three chunks in which each line differs from all others.
fn large() -> String {
    let mut text = "From: John <john@example.org>\r\nSubject: large\r\n\r\n".to_owned();
    for line in 0..9_000 {
        text.push_str(&format!("line {line} of a letter that does not fit into one part of the store.\r\n"));
    }
    text
}

/// What stands below the header, to which the relay adds.
fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end())
}

/// A session of a trusted client.
async fn client(world: &World) -> anyhow::Result<Client> {
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    Ok(client)
}

/// Has one message accepted; its queue id.
async fn accepted(world: &World, recipient: &str, message: &str) -> anyhow::Result<String> {
    let reply = client(world).await?.send("john@example.org", &[recipient], message).await?;
    ensure!(reply.code == 250, "{}", reply.text());
    Ok(reply.text().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// Waits until each message in the queue is as wanted.
async fn until_each(world: &World, count: usize, wanted: impl Fn(&Entry) -> bool) -> anyhow::Result<Vec<Entry>> {
    let queue = world.queue().await?;
    let mut found = Vec::new();
    let end = Instant::now() + SOON;
    while found.is_empty() {
        let entries = queue.list(&Filter::default(), None, 1000).await?.entries;
        if entries.len() == count && entries.iter().all(&wanted) {
            found = entries;
        } else {
            ensure!(Instant::now() < end, "{entries:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(found)
}

/// How often each recipient got its message, once so many messages have come.
async fn ledger(sink: &mut Sink, messages: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut ledger = BTreeMap::new();
    for so_far in 0..messages {
        let received = next(sink).await.with_context(|| format!("after {so_far} of {messages}: {ledger:?}"))?;
        for recipient in received.recipients {
            *ledger.entry(recipient).or_default() += 1;
        }
    }
    Ok(ledger)
}

/// Each of these recipients once, and nobody else.
fn once(recipients: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    recipients.into_iter().map(|recipient| (recipient, 1)).collect()
}
