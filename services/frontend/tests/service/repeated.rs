//! Clients that show the same credentials again and again.

use std::time::Duration;

use staffetta_config::Config;
use staffetta_queue::{Announcer, Rate};

use crate::AUTH;
use crate::auth::MARY;
use crate::client::Client;
use crate::world::World;

const MARY_LOGS_IN: &str = "AUTH PLAIN AG1hcnlAZXhhbXBsZS5vcmcAc3VucmlzZQ==";
const WRONG_MARY: &str = "AUTH PLAIN AG1hcnlAZXhhbXBsZS5vcmcAc3Vuc2V0";
const OWN: (&str, &str) = ("MAIL FROM:<mary@example.org>", "250 ");
const TO_LISA: (&str, &str) = ("RCPT TO:<lisa@example.com>", "250 ");
const AWAY: &str = "454 4.7.0 ";

const LIMITS: &str = "trusted_networks = []\nauth_failures_per_client = \"3/1h\"\nreverse_dns = false";

const LOGIN_LIMITS: &str =
    "trusted_networks = []\nauth_failures_per_client = \"\"\nauth_failures_per_login = \"2/1h\"\nreverse_dns = false";
const LIMITED: &str = "454 4.7.0 Error: too many authentication failures for this user, try again later\r\n";

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

/// Else he would see by the answer which of his guesses is right.
#[tokio::test]
async fn to_a_client_that_has_no_guess_left_what_was_right_looks_like_what_is_wrong() {
    let world = World::start(LIMITS).await;
    for source in ["127.0.0.1", "127.0.0.2"] {
        says(&world, source, MARY_LOGS_IN, "235 2.7.0 ").await;
    }
    for _ in 0..3 {
        says(&world, "127.0.0.1", WRONG_MARY, "535 5.7.8 ").await;
    }
    // The first one already: that there is no token left this pod knows by itself.
    for command in [MARY_LOGS_IN, WRONG_MARY, MARY_LOGS_IN, AUTH] {
        says(&world, "127.0.0.1", command, "421 4.7.0 ").await;
    }
    says_in_steps(&world, "421 4.7.0 ").await;
    says(&world, "127.0.0.2", MARY_LOGS_IN, "235 2.7.0 ").await;
}

#[tokio::test]
async fn guesses_that_other_pods_have_looked_at_are_spent_here_too() {
    let world = World::start(&LIMITS.replace("3/1h", "20/1h")).await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    let rate = Rate { count: 20, per: Duration::from_secs(3600) };
    let other = world.queue().await.guesses(Some(rate), None);
    while other.take(Some("127.0.0.1"), None).await.unwrap().client {}
    for command in [WRONG_MARY, MARY_LOGS_IN] {
        says(&world, "127.0.0.1", command, "421 4.7.0 ").await;
    }
    // A token is there again: he has that one, and none of this pod's own.
    other.settle(Some("127.0.0.1"), None, None).await.unwrap();
    for (command, reply) in [(WRONG_MARY, "535 5.7.8 "), (MARY_LOGS_IN, "421 4.7.0 ")] {
        says(&world, "127.0.0.1", command, reply).await;
    }
    other.settle(Some("127.0.0.1"), None, None).await.unwrap();
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
}

#[tokio::test]
async fn where_a_login_is_used_guesses_from_elsewhere_cost_it_nothing() {
    let world = World::start(LOGIN_LIMITS).await;
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
    for reply in ["535 5.7.8 ", "535 5.7.8 ", LIMITED] {
        says(&world, "127.0.1.1", WRONG_MARY, reply).await;
    }
    world.auth_service.0.cancel();
    says(&world, "127.0.0.1", MARY_LOGS_IN, "235 2.7.0 ").await;
}

/// Of whom nobody knows where he is, he has used no login there.
#[tokio::test]
async fn to_somebody_nameless_the_right_password_of_a_login_without_guesses_looks_like_a_wrong_one() {
    let world = World::start(&format!("xclient_from = [\"127.0.0.9/32\"]\n{LOGIN_LIMITS}")).await;
    let nameless = async |command: &str, reply: &str| {
        let mut client = Client::encrypted_from("127.0.0.9", world.submission, &world.ca).await;
        client.expect(&[("XCLIENT ADDR=[UNAVAILABLE]", "220 "), ("EHLO client.test", "250"), (command, reply)]).await;
    };
    nameless(MARY_LOGS_IN, "235 2.7.0 ").await;
    for command in [WRONG_MARY, WRONG_MARY] {
        nameless(command, "535 5.7.8 ").await;
    }
    for command in [MARY_LOGS_IN, WRONG_MARY, MARY_LOGS_IN] {
        nameless(command, LIMITED).await;
    }
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
