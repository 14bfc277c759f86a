//! Others that take their time: the DNS, the auth service. A client waits once, and gets what is ready before.

use std::time::{Duration, Instant};

use crate::auth::SLOW;
use crate::client::Client;
use crate::world::World;
use crate::{AUTH, STRANGERS};

/// What is ready comes at once: long before anybody gives up.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The longest wait for a server that says nothing, and something for a busy machine.
const ONE_WAIT: Duration = Duration::from_secs(7);

/// Sends the group; says what was answered, and when: each reply, in seconds after the group.
async fn replies(client: &mut Client, group: &[&str]) -> Vec<(String, Duration)> {
    let began = Instant::now();
    client.send(&group.iter().map(|line| format!("{line}\r\n")).collect::<String>()).await;
    let mut replies = Vec::new();
    for _ in group {
        let reply = client.reply().await;
        replies.push((reply.chars().take(9).collect(), began.elapsed()));
    }
    replies
}

fn codes(replies: &[(String, Duration)]) -> Vec<&str> {
    replies.iter().map(|(code, _)| code.as_str()).collect()
}

#[tokio::test]
async fn a_dns_that_is_silent_costs_a_group_one_wait_and_the_next_group_none() {
    let world = World::start("").await;
    world.dns.silent("mute.test").silent("deaf.test").silent("dumb.test");
    let mut client = Client::ready(world.relay).await;
    let group = [
        "MAIL FROM:<john@example.org>",
        "RCPT TO:<a@example.com>",
        "RCPT TO:<b@mute.test>",
        "RCPT TO:<c@deaf.test>",
        "RCPT TO:<d@mute.test>",
        "RCPT TO:<e@dumb.test>",
        "RCPT TO:<f@example.com>",
        "RSET",
    ];
    let (good, late) = ("250 2.1.5", "450 4.4.3");
    let expected = ["250 2.1.0", good, late, late, late, late, good, "250 2.0.0"];
    let first = replies(&mut client, &group).await;
    assert_eq!(codes(&first), expected, "{first:?}");
    assert!(first[1].1 < AT_ONCE, "the replies that are ready do not wait: {first:?}");
    assert!(first[7].1 > AT_ONCE && first[7].1 < ONE_WAIT, "one wait for all: {first:?}");
    let second = replies(&mut client, &group).await;
    assert_eq!(codes(&second), expected, "{second:?}");
    assert!(second[7].1 < AT_ONCE, "silence is remembered: {second:?}");
    let mut other = Client::ready(world.relay).await;
    let third = replies(&mut other, &group[..3]).await;
    assert_eq!(codes(&third), expected[..3], "{third:?}");
    assert!(third[2].1 < AT_ONCE, "for all sessions: {third:?}");
}

#[tokio::test]
async fn a_slow_auth_service_is_asked_for_a_whole_group_at_once() {
    let world = World::start(STRANGERS).await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(AUTH, "235 ")]).await;
    let recipients: Vec<String> = (0..10).map(|number| format!("RCPT TO:<slow{number}@example.org>")).collect();
    let mut group = vec!["MAIL FROM:<john@example.org>", "RCPT TO:<john@example.org>"];
    group.extend(recipients.iter().map(String::as_str));
    let replies = replies(&mut client, &group).await;
    assert!(codes(&replies)[1..].iter().all(|code| *code == "250 2.1.5"), "{replies:?}");
    assert!(replies[1].1 < SLOW, "the replies that are ready do not wait: {replies:?}");
    // It serves eight at a time on a connection.
    assert!(replies[11].1 < 5 * SLOW, "{replies:?}");
}

/// A stranger's group is not multiplied, and does not wait for each of its recipients either.
#[tokio::test]
async fn an_auth_service_that_is_silent_costs_a_stranger_one_wait() {
    let world = World::start(STRANGERS).await;
    let mut client = Client::ready(world.relay).await;
    let group = [
        "MAIL FROM:<x@example.net>",
        "RCPT TO:<john@example.org>",
        "RCPT TO:<mute1@example.org>",
        "RCPT TO:<mute2@example.org>",
        "RCPT TO:<mute3@example.org>",
    ];
    let replies = replies(&mut client, &group).await;
    assert_eq!(codes(&replies)[1..], ["250 2.1.5", "451 4.3.0", "451 4.3.0", "451 4.3.0"], "{replies:?}");
    assert!(replies[1].1 < AT_ONCE && replies[4].1 < ONE_WAIT, "{replies:?}");
    let mut other = Client::ready(world.relay).await;
    other.expect(&[("MAIL FROM:<x@example.net>", "250 "), ("RCPT TO:<john@example.org>", "250 ")]).await;
}
