//! Places, trust, and messages that broke in the middle.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::world::World;
use crate::{AUTH, STRANGERS};

/// A webmail's account that was taken over must not send as somebody else, only because it speaks from inside.
#[tokio::test]
async fn a_login_from_a_trusted_network_is_asked_about_its_sender() {
    let world = World::start("").await;
    let mut client = Client::encrypted(world.relay, &world.ca).await;
    client
        .expect(&[
            (AUTH, "235 2.7.0 "),
            ("MAIL FROM:<forged@email.address>", "250 2.1.0 Ok"),
            (
                "RCPT TO:<lisa@example.com>",
                "553 5.7.1 <forged@email.address>: Sender address rejected: not owned by user john@example.org\r\n",
            ),
            ("RSET", "250 "),
            ("MAIL FROM:<john@example.org>", "250 2.1.0 Ok"),
            ("RCPT TO:<lisa@example.com>", "250 2.1.5 Ok"),
        ])
        .await;
}

/// Refused clients hold no place, and whoever leaves gives one back: as often as it takes to use up any limit.
#[tokio::test]
async fn places_come_back() {
    let world = World::start("trusted_networks = []\nconnections_per_client = 2\nconnection_limit = 3").await;
    for _ in 0..4 {
        let mut inside = [place(&world).await, place(&world).await];
        for _ in 0..4 {
            let (mut third, refusal) = Client::connect(world.relay).await;
            assert!(refusal.starts_with("421 4.7.0 "), "{refusal}");
            assert!(third.is_closed().await);
        }
        for client in &mut inside {
            client.expect(&[("QUIT", "221 ")]).await;
        }
    }
}

/// The next place: a server gives one back when it has seen the client's end of the connection.
async fn place(world: &World) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (client, greeting) = Client::connect(world.relay).await;
        if greeting.starts_with("220 ") {
            return client;
        }
        assert!(Instant::now() < deadline, "no place comes back: {greeting}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Redis was away while a part of the body should have been stored, and is back before the dot: a 250 would be one for
/// a message with a hole.
#[tokio::test]
async fn a_message_with_a_hole_is_a_451() {
    let mut world = World::start(STRANGERS).await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[("MAIL FROM:<x@y.test>", "250 "), ("RCPT TO:<john@example.org>", "250 "), ("DATA", "354 ")]).await;
    world.redis.kill().unwrap();
    let line = format!("{}\r\n", "x".repeat(1022));
    // More than all buffers on the way hold: it is taken only after the first chunk was given up.
    client.send(&format!("Subject: hole\r\n\r\n{}", line.repeat(20 * 1024))).await;
    world.redis.restart().unwrap();
    world.until_ready().await;
    client.expect(&[("the end\r\n.", "451 4.3.0 ")]).await;
    assert!(world.messages().await.is_empty());
}

/// Those who begin a login and fall silent take nothing from those who finish theirs, nor from look-ups.
#[tokio::test]
async fn silent_logins_hold_nothing_of_the_auth_service() {
    let world = World::start("trusted_networks = []\nrelay_domains_from_auth = true").await;
    let mut silent = Vec::new();
    for mechanism in ["AUTH LOGIN", "AUTH PLAIN", "AUTH LOGIN am9obkBleGFtcGxlLm9yZw=="] {
        for _ in 0..crate::auth::STREAMS {
            let mut client = Client::encrypted(world.submission, &world.ca).await;
            client.expect(&[(mechanism, "334 ")]).await;
            silent.push(client);
        }
    }
    let mut honest = Client::encrypted(world.submission, &world.ca).await;
    honest.expect(&[(AUTH, "235 2.7.0 "), ("MAIL FROM:<john@example.org>", "250 ")]).await;
    honest.expect(&[("RCPT TO:<john@example.org>", "250 ")]).await;
    let mut user = Client::encrypted(world.submission, &world.ca).await;
    user.expect(&[
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        ("am9obkBleGFtcGxlLm9yZw==", "334 UGFzc3dvcmQ6"),
        ("c3VtbWVyc3Vu", "235 2.7.0 "),
    ])
    .await;
    world.until_ready().await;
}

/// Mechanisms of several steps hold a stream of the auth service. Look-ups and health have a connection of their own.
#[tokio::test]
async fn logins_that_hold_every_stream_leave_look_ups_alone() {
    let mut world = World::start("trusted_networks = []\nrelay_domains_from_auth = true").await;
    world.replace_auth(&["SCRAM-SHA-256"]).await;
    let mut silent = Vec::new();
    for _ in 0..crate::auth::STREAMS {
        let mut client = crate::offered(&world, "SCRAM-SHA-256").await;
        client.expect(&[("AUTH SCRAM-SHA-256 aGVsbG8=", "334 ")]).await;
        silent.push(client);
    }
    let mut stranger = Client::ready(world.relay).await;
    stranger.expect(&[("MAIL FROM:<x@y.test>", "250 "), ("RCPT TO:<john@example.org>", "250 ")]).await;
    world.until_ready().await;
}
