//! Clients that show the same credentials again and again.

use staffetta_config::Config;
use staffetta_queue::Announcer;

use crate::auth::MARY;
use crate::client::Client;
use crate::world::World;
use crate::{AUTH, WRONG};

const MARY_LOGS_IN: &str = "AUTH PLAIN AG1hcnlAZXhhbXBsZS5vcmcAc3VucmlzZQ==";
const WRONG_MARY: &str = "AUTH PLAIN AG1hcnlAZXhhbXBsZS5vcmcAc3Vuc2V0";
const OWN: (&str, &str) = ("MAIL FROM:<mary@example.org>", "250 ");
const TO_LISA: (&str, &str) = ("RCPT TO:<lisa@example.com>", "250 ");
const AWAY: &str = "454 4.7.0 ";

const LIMITS: &str = "trusted_networks = []\nauth_failures_per_client = \"3/1h\"\nreverse_dns = false";

async fn says(world: &World, source: &str, command: &str, reply: &str) {
    let mut client = Client::encrypted_from(source, world.submission, &world.ca).await;
    client.expect(&[(command, reply)]).await;
}

async fn says_in_steps(world: &World, reply: &str) {
    let mut client = Client::encrypted_from("127.0.0.1", world.submission, &world.ca).await;
    let name = ("bWFyeUBleGFtcGxlLm9yZw==", "334 ");
    client.expect(&[("AUTH LOGIN", "334 "), name, ("c3VucmlzZQ==", reply)]).await;
}

#[tokio::test]
async fn credentials_that_were_right_need_no_question_and_all_others_do() {
    let world = World::start(LIMITS).await;
    says(&world, "127.0.0.1", AUTH, "235 2.7.0 ").await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    says_in_steps(&world, "235 2.7.0 ").await;
    let mut client = Client::encrypted_from("127.0.0.1", world.submission, &world.ca).await;
    client.expect(&[(MARY_LOGS_IN, "235 "), OWN, TO_LISA]).await;
    world.auth_service.0.cancel();
    for (source, command, reply) in [
        ("127.0.0.1", MARY_LOGS_IN, "235 2.7.0 "),
        ("127.0.0.1", WRONG_MARY, AWAY),
        ("127.0.0.2", MARY_LOGS_IN, AWAY),
        // Of him the service did not say it.
        ("127.0.0.1", AUTH, AWAY),
    ] {
        says(&world, source, command, reply).await;
    }
    says_in_steps(&world, "235 2.7.0 ").await;

    // What it is worth is the same; other senders than before are asked about.
    let mut client = Client::encrypted_from("127.0.0.1", world.submission, &world.ca).await;
    client.expect(&[(MARY_LOGS_IN, "235 "), ("AUTH PLAIN", "503 "), OWN, TO_LISA, ("RSET", "250 ")]).await;
    client.expect(&[("MAIL FROM:<john@example.org>", "250 "), ("RCPT TO:<lisa@example.com>", "451 ")]).await;
}

#[tokio::test]
async fn a_client_that_has_no_guess_left_may_come_again_with_what_was_right() {
    let world = World::start(LIMITS).await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    for reply in ["535 5.7.8 ", "535 5.7.8 ", "535 5.7.8 ", "421 4.7.0 "] {
        says(&world, "127.0.0.1", WRONG, reply).await;
    }
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    says(&world, "127.0.0.1", AUTH, "421 4.7.0 ").await;
    says(&world, "127.0.0.1", WRONG_MARY, "421 4.7.0 ").await;
}

#[tokio::test]
async fn what_was_revoked_is_asked_about_again_and_so_is_everything_while_nobody_can_tell() {
    let mut world = World::start(LIMITS).await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    world.auth_service.0.cancel();
    let text = format!("hostname = \"a.example\"\nredis.url = {:?}\n", world.redis.url());
    let announcer = Announcer::connect(&(&Config::parse(&text, "t").unwrap()).into()).await.unwrap();
    // A session ends when its pod has heard of it.
    let mut session = Client::encrypted_from("127.0.0.1", world.submission, &world.ca).await;
    session.expect(&[(MARY_LOGS_IN, "235 2.7.0 ")]).await;
    announcer.revoke(MARY.0).await.unwrap();
    while session.say("NOOP").await.starts_with("250 ") {}
    says(&world, "127.0.0.1", MARY_LOGS_IN, AWAY).await;

    world.replace_auth(&["PLAIN"]).await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    world.auth_service.0.cancel();
    world.redis.kill().unwrap();
    world.until_away().await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, AWAY).await;
}
