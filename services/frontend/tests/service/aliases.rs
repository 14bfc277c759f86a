//! Recipients that lead to others.

use std::time::{Duration, Instant};

use staffetta_queue::{Announcer, Filter, Settings, Target};

use crate::STRANGERS;
use crate::client::Client;
use crate::world::World;

const MAIL: (&str, &str) = ("MAIL FROM:<x@y.test>", "250 2.1.0");
const CONTENT: [(&str, &str); 2] = [("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 ")];

/// How many recipients the only message has.
async fn queued(world: &World) -> usize {
    let queue = world.queue().await;
    let mut entries = queue.list(&Filter::default(), None, 10).await.unwrap().entries;
    assert_eq!(entries.len(), 1);
    let message = entries.remove(0).message;
    queue.delete(message.id).await.unwrap();
    message.envelope.recipients.len()
}

/// Any alias can be written to; what is too many together goes in two messages.
#[tokio::test]
async fn a_message_has_no_more_recipients_behind_aliases_than_fit() {
    let world = World::start(&format!("{STRANGERS}\nrecipient_limit = 100")).await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[MAIL, ("RCPT TO:<all1000@example.org>", "250 2.1.5"), CONTENT[0], CONTENT[1]]).await;
    assert_eq!(queued(&world).await, 1000);
    client
        .expect(&[
            MAIL,
            ("RCPT TO:<all999@example.org>", "250 2.1.5 Ok\r\n"),
            ("RCPT TO:<john@example.org>", "250 2.1.5 Ok\r\n"),
            ("RCPT TO:<all1@example.org>", "452 4.5.3 "),
            ("RCPT TO:<all999@example.org>", "250 2.1.5 Ok\r\n"),
        ])
        .await;
    client.expect(&CONTENT).await;
    assert_eq!(queued(&world).await, 1000);
    // Nothing is left of a message that was given up.
    client.expect(&[MAIL, ("RCPT TO:<all999@example.org>", "250 ")]).await;
    client.send("RSET\r\nMAIL FROM:<x@y.test>\r\n").await;
    assert_eq!([client.reply().await, client.reply().await], ["250 2.0.0 Ok\r\n", "250 2.1.0 Ok\r\n"]);
    client.expect(&[("RCPT TO:<john@example.org>", "250 "), ("RCPT TO:<all500@example.org>", "250 ")]).await;
    client.expect(&CONTENT).await;
    assert_eq!(queued(&world).await, 501);
}

#[tokio::test]
async fn an_alias_that_cannot_be_followed_is_refused_for_now() {
    let world = World::start_process(STRANGERS, "level = \"error\"").await;
    let mut client = Client::ready(world.relay).await;
    for alias in ["round@example.org", "pipe@example.org"] {
        let refused = format!("451 4.6.0 <{alias}>: Recipient address rejected: Alias expansion error\r\n");
        client.expect(&[MAIL, (&format!("RCPT TO:<{alias}>"), &refused), ("RSET", "250 ")]).await;
    }
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("code=\"451\",reason=\"alias_unusable\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn nobody_reaches_a_blocked_domain_by_an_alias() {
    let world = World::start(STRANGERS).await;
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await.unwrap();
    announcer.block(&Target::domain("member.test").unwrap(), None, "").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut client = Client::ready(world.relay).await;
    client.expect(&[MAIL]).await;
    loop {
        let reply = client.say("RCPT TO:<all2@example.org>").await;
        if reply.starts_with("554 5.7.1 <all2@example.org>: ") {
            break;
        }
        assert!(Instant::now() < deadline, "{reply}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.expect(&[("RCPT TO:<john@example.org>", "250 ")]).await;
}
