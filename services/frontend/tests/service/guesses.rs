//! Guesses at one user's password, from many addresses.

use crate::client::Client;
use crate::world::World;
use crate::{AUTH, WRONG};

/// John, written otherwise; somebody who does not exist; both with a wrong password.
const WRONG_JOHN: &str = "AUTH PLAIN AEpPSE5ARXhhbXBsZS5vcmcAeA==";
const NOBODY: &str = "AUTH PLAIN AG5vYm9keUBleGFtcGxlLm9yZwB4";
const LIMITED: &str = "454 4.7.0 Error: too many authentication failures for this user, try again later\r\n";

const LIMITS: &str =
    "trusted_networks = []\nauth_failures_per_client = \"\"\nauth_failures_per_login = \"2/1h\"\nreverse_dns = false";

async fn says(world: &World, source: &str, command: &str, reply: &str) {
    let mut client = Client::encrypted_from(source, world.submission, &world.ca).await;
    client.expect(&[(command, reply)]).await;
}

#[tokio::test]
async fn a_login_that_many_guess_at_is_closed_to_strangers_and_open_to_its_owner() {
    let mut world = World::start(LIMITS).await;
    says(&world, "127.0.0.1", AUTH, "235 2.7.0 ").await;
    for (source, command, reply) in [
        ("127.0.1.1", WRONG, "535 5.7.8 "),
        ("127.0.2.1", WRONG_JOHN, "535 5.7.8 "),
        ("127.0.3.1", AUTH, LIMITED),
        ("127.0.1.1", WRONG_JOHN, LIMITED),
        // In the network where he was, a wrong password does not lock him out either.
        ("127.0.0.9", WRONG, "535 5.7.8 "),
        ("127.0.0.9", AUTH, "235 2.7.0 "),
        // Whether there is such a user makes no difference.
        ("127.0.1.1", NOBODY, "535 5.7.8 "),
        ("127.0.2.1", NOBODY, "535 5.7.8 "),
        ("127.0.3.1", NOBODY, LIMITED),
    ] {
        says(&world, source, command, reply).await;
    }
    // The client is not to blame: it may go on.
    let mut other = Client::encrypted_from("127.0.3.1", world.submission, &world.ca).await;
    other.expect(&[(AUTH, LIMITED), ("NOOP", "250 ")]).await;
    // The name of LOGIN is no guess; its password is one.
    let login = [("AUTH LOGIN am9obkBleGFtcGxlLm9yZw==", "334 "), ("c3VtbWVyc3Vu", LIMITED), ("AUTH LOGIN", "334 ")];
    other.expect(&login).await;
    other.expect(&[("am9obkBleGFtcGxlLm9yZw==", "334 "), ("c3VtbWVyc3Vu", LIMITED)]).await;

    world.redis.kill().unwrap();
    world.until_away().await;
    says(&world, "127.0.3.1", AUTH, LIMITED).await;
    says(&world, "127.0.0.9", AUTH, "235 2.7.0 ").await;
}

#[tokio::test]
async fn guesses_at_a_login_at_the_same_time_are_no_more_than_guesses_one_by_one() {
    let world = World::start(&LIMITS.replace("2/1h", "10/1h")).await;
    let sources: Vec<String> = (0..40).map(|n| format!("127.0.{n}.1")).collect();
    let clients = sources.iter().map(|source| Client::encrypted_from(source, world.submission, &world.ca));
    let clients = futures_util::future::join_all(clients).await;
    let replies = futures_util::future::join_all(clients.into_iter().map(async |mut c| c.say(WRONG).await)).await;
    let of = |text: &str| replies.iter().filter(|reply| reply.starts_with(text)).count();
    assert_eq!((of("535"), of(LIMITED)), (10, 30), "{replies:?}");
}

#[tokio::test]
async fn many_good_logins_of_one_user_at_the_same_time_wait_for_each_other() {
    let world = World::start(LIMITS).await;
    let clients = (0..30).map(|_| Client::encrypted_from("127.0.5.1", world.submission, &world.ca));
    let clients = futures_util::future::join_all(clients).await;
    let replies = futures_util::future::join_all(clients.into_iter().map(async |mut c| c.say(AUTH).await)).await;
    assert!(replies.iter().all(|reply| reply.starts_with("235 ")), "{replies:?}");
}

/// Whoever has no guesses left must not use up those of others at a user.
#[tokio::test]
async fn a_client_without_guesses_takes_none_from_the_login() {
    let limits = LIMITS.replace("auth_failures_per_client = \"\"", "auth_failures_per_client = \"1/1h\"");
    let world = World::start(&limits).await;
    says(&world, "127.0.1.1", NOBODY, "535 ").await;
    for _ in 0..5 {
        says(&world, "127.0.1.1", WRONG, "421 4.7.0 ").await;
    }
    says(&world, "127.0.2.1", WRONG, "535 ").await;
    says(&world, "127.0.3.1", AUTH, "235 ").await;
}

#[tokio::test]
async fn a_token_that_is_no_good_is_a_guess_whether_the_client_stays_to_hear_it_or_not() {
    const TOKEN: (&str, &str) = ("AUTH OAUTHBEARER bixhPWpvaG4sAWF1dGg9QmVhcmVyIHgBAQ==", "334 ");
    let file = "trusted_networks = []\nauth_failures_per_client = \"3/1h\"\nreverse_dns = false";
    let mut world = World::start(file).await;
    world.replace_auth(&["OAUTHBEARER"]).await;
    let mut stays = crate::offered(&world, "OAUTHBEARER").await;
    stays.expect(&[TOKEN, ("AQ==", "535 5.7.8 "), TOKEN, ("AQ==", "535 5.7.8 "), TOKEN]).await;
    drop(stays);
    let mut next = crate::offered(&world, "OAUTHBEARER").await;
    next.expect(&[(TOKEN.0, "421 4.7.0 ")]).await;
}
