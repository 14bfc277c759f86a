//! How much a login may send.

use std::time::{Duration, Instant};

use staffetta_queue::Rate;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::world::World;
use crate::{AUTH, STRANGERS};

const JOHN: &str = "john@example.org";
const MAIL: (&str, &str) = ("MAIL FROM:<john@example.org>", "250 2.1.0");
const RCPT: (&str, &str) = ("RCPT TO:<lisa@example.com>", "250 2.1.5");
const OVER: (&str, &str) =
    ("RCPT TO:<lisa@example.com>", "450 4.7.1 Error: too many recipients from john@example.org\r\n");
const CONTENT: [(&str, &str); 2] = [("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 ")];
/// A hundredth of it is a block; none comes back while a test runs.
const RATE: Rate = Rate { count: 6_400, per: Duration::from_hours(100 * 24) };
const BLOCK: u32 = 100;

async fn log_in(world: &World) -> Client {
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(AUTH, "235 ")]).await;
    client
}

/// What another pod could take.
async fn left(world: &World) -> u32 {
    let limiter = world.queue().await.limiter("recipient", RATE);
    let tokens = limiter.acquire(JOHN, u32::MAX).await.unwrap().tokens;
    limiter.give_back(JOHN, tokens).await.unwrap();
    tokens
}

#[tokio::test]
async fn a_login_names_no_more_recipients_than_it_may() {
    let world = World::start_process("recipients_per_login = \"4/1h\"\nerror_limit = 3", "level = \"error\"").await;
    let mut client = log_in(&world).await;
    client.expect(&[MAIL, RCPT, ("RCPT TO:<nobody@null.test>", "556 "), RCPT]).await;
    client.expect(&[("VRFY lisa@example.com", "252 ")]).await;
    client.expect(&CONTENT).await;
    let mut another = log_in(&world).await;
    // One beyond the limit is no error, and the message goes to those before.
    another.expect(&[MAIL, RCPT, RCPT, OVER, OVER, OVER, OVER]).await;
    another.expect(&CONTENT).await;
    client.expect(&[MAIL, OVER, ("DATA", "554 5.5.1 ")]).await;
    let mut trusted = Client::ready(world.relay).await;
    trusted.expect(&[MAIL, RCPT, RCPT, RCPT, RCPT, RCPT]).await;
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("staffetta_rate_limited_total{scope=\"recipient\"} 5\n"), "{metrics}");
    assert!(metrics.contains("code=\"450\",reason=\"recipients_per_login\"} 5\n"), "{metrics}");
}

#[tokio::test]
async fn without_redis_a_pod_counts_what_it_has_granted() {
    let mut world = World::start_process("recipients_per_login = \"4/1h\"", "level = \"error\"").await;
    let mut client = log_in(&world).await;
    client.expect(&[MAIL, RCPT, RCPT]).await;
    world.redis.kill().unwrap();
    client.expect(&[RCPT, RCPT, OVER]).await;
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("staffetta_rate_limit_unavailable_total{scope=\"recipient\"} 3\n"), "{metrics}");
}

#[tokio::test]
async fn many_recipients_cost_few_questions_and_what_is_not_needed_goes_back() {
    let world = World::start("recipients_per_login = \"6400/100d\"\nrecipient_limit = 2000").await;
    let mut client = log_in(&world).await;
    client.expect(&[MAIL]).await;
    for taken in [BLOCK, 2 * BLOCK] {
        client.expect(&[RCPT]).await;
        assert_eq!(left(&world).await, RATE.count - taken, "a block with the first");
        for _ in 1..BLOCK {
            client.expect(&[RCPT]).await;
        }
        assert_eq!(left(&world).await, RATE.count - taken, "and none before the last of it");
    }
    client.expect(&[RCPT]).await;
    let (used, deadline) = (2 * BLOCK + 1, Instant::now() + Duration::from_secs(20));
    while left(&world).await != RATE.count - used {
        assert!(Instant::now() < deadline, "the rest of a block goes back when it has rested: {}", left(&world).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.expect(&[RCPT]).await;
    assert_eq!(left(&world).await, RATE.count - used - BLOCK);
    client.expect(&[("RSET", "250 ")]).await;
    let queue = world.queue_until(CancellationToken::new()).await;
    world.shutdown.cancel();
    world.service.await.unwrap().unwrap();
    let back = queue.limiter("recipient", RATE).acquire(JOHN, u32::MAX).await.unwrap();
    assert_eq!(back.tokens, RATE.count - used - 1, "at the end of the service all of it goes back");
}

#[tokio::test]
async fn those_who_did_not_log_in_are_not_counted() {
    let world = World::start(&format!("{STRANGERS}\nrecipients_per_login = \"1/1h\"")).await;
    let mut client = Client::ready(world.relay).await;
    let own = ("RCPT TO:<john@example.org>", "250 2.1.5");
    client.expect(&[("MAIL FROM:<a@b.test>", "250 "), own, own, own]).await;
}

const LISA: (&str, &str) = ("AUTH PLAIN AGxpc2FAZXhhbXBsZS5vcmcAbW9vbmxpZ2h0", "235 ");

/// Three messages, six recipients, 2,000 octets.
#[tokio::test]
async fn what_is_said_of_an_account_goes_before_the_file() {
    let world = World::start("messages_per_login = \"1/1h\"\nrecipients_per_login = \"100/1h\"").await;
    let mut lisa = Client::encrypted(world.submission, &world.ca).await;
    assert!(lisa.say("EHLO client.test").await.contains("SIZE 41943040\r\n"), "before it is known who comes");
    lisa.expect(&[LISA]).await;
    assert!(lisa.say("EHLO client.test").await.contains("SIZE 2000\r\n"));
    let large =
        format!("Subject: x\r\n\r\n{}\r\n.", "x".repeat(900) + "\r\n" + &"y".repeat(900) + "\r\n" + &"z".repeat(900));
    let mail = ("MAIL FROM:<lisa@example.org>", "250 ");
    lisa.expect(&[("MAIL FROM:<lisa@example.org> SIZE=2001", "552 5.3.4 ")]).await;
    lisa.expect(&[mail, RCPT, ("DATA", "354 "), (&large, "552 5.3.4 ")]).await;
    lisa.expect(&[mail, RCPT, RCPT]).await;
    lisa.expect(&CONTENT).await;
    lisa.expect(&[("MAIL FROM:<lisa@example.org> SIZE=2000", "250 "), RCPT, RCPT]).await;
    lisa.expect(&CONTENT).await;
    lisa.expect(&[mail, RCPT, ("DATA", "450 4.7.1 Error: too much mail from lisa@example.org\r\n")]).await;
    lisa.expect(&[("RCPT TO:<b@example.com>", "450 4.7.1 Error: too many recipients from lisa@example.org\r\n")]).await;
    // The configuration's hold for everybody else.
    let mut john = log_in(&world).await;
    assert!(john.say("EHLO client.test").await.contains("SIZE 41943040\r\n"));
    john.expect(&[MAIL, RCPT, ("DATA", "354 "), (&large, "250 ")]).await;
    john.expect(&[MAIL, RCPT, ("DATA", "450 4.7.1 Error: too much mail from john@example.org\r\n")]).await;
}

#[tokio::test]
async fn limits_of_an_account_end_with_its_login() {
    let world = World::start("xclient_from = [\"127.0.0.1/32\"]").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[LISA]).await;
    assert!(client.say("EHLO client.test").await.contains("SIZE 2000\r\n"));
    client.expect(&[("XCLIENT LOGIN=john@example.org", "220 ")]).await;
    assert!(client.say("EHLO client.test").await.contains("SIZE 41943040\r\n"));
    client.expect(&[MAIL, RCPT, RCPT, RCPT, RCPT, RCPT, RCPT]).await;
}
