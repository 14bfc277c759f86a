//! Clients that begin much and end nothing: what they may take, and what is left to others.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::world::World;

/// A stranger to every relay port, with a domain that takes his mail.
const OPEN: &str =
    "trusted_networks = []\nrelay_domains = [\"ours.test\"]\nsize_limit = \"1MiB\"\nverify_recipients = false";
const MAIL: (&str, &str) = ("MAIL FROM:<anna@sender.example>", "250 2.1.0 Ok");
const RCPT: (&str, &str) = ("RCPT TO:<lisa@ours.test>", "250 2.1.5 Ok");

/// A message of 600 kB without its end.
async fn unfinished(world: &World) -> Client {
    let mut client = Client::ready(world.relay).await;
    client.expect(&[MAIL, RCPT, ("DATA", "354 ")]).await;
    client.send(&format!("Subject: x\r\n\r\n{}", format!("{}\r\n", "x".repeat(998)).repeat(600))).await;
    client
}

/// The first line of Redis' answer to a command.
fn redis(world: &World, command: &str) -> String {
    let mut stream = UnixStream::connect(world.redis.socket()).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn chunks(world: &World) -> usize {
    redis(world, "KEYS *}b:*").trim_start_matches('*').parse().unwrap()
}

#[tokio::test]
async fn a_client_that_ends_nothing_is_refused_and_its_room_is_free_when_it_hangs_up() {
    let world = World::start(OPEN).await;
    // Room for some 24 MB beyond what Redis uses by itself: half of it for unfinished messages, of that an eighth for
    // each client, which is less than two messages.
    assert_eq!(redis(&world, "CONFIG SET maxmemory 32mb"), "+OK");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(unfinished(&world).await);
    }
    // Each has a word for the end of its message, and the session goes on.
    let (mut good, mut refused) = (0, 0);
    let mut last = clients.split_off(3);
    for client in &mut last {
        let reply = client.say(".").await;
        match reply.get(..9) {
            Some("250 2.0.0") => good += 1,
            Some("452 4.3.1") => refused += 1,
            _ => panic!("{reply}"),
        }
        client.expect(&[("NOOP", "250 2.0.0 Ok")]).await;
    }
    assert!(refused >= 1, "{good} were taken");
    let queued = chunks(&world);
    drop(clients);
    let end = Instant::now() + Duration::from_secs(20);
    while chunks(&world) > 3 * good {
        assert!(Instant::now() < end, "{} of {queued} chunks stay", chunks(&world));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut honest = unfinished(&world).await;
    honest.expect(&[(".", "250 2.0.0 Ok: queued as ")]).await;
}

#[tokio::test]
async fn an_envelope_is_bounded_and_forgotten_with_its_transaction() {
    let world = World::start(&format!("{OPEN}\nrecipient_limit = 65535")).await;
    let mut client = Client::ready(world.relay).await;
    // As large as a message may be.
    let rcpt = format!("RCPT TO:<lisa@ours.test> ORCPT=rfc822;{}", "o".repeat(490));
    for _ in 0..2 {
        client.expect(&[MAIL]).await;
        let mut taken = 0;
        let refused = loop {
            let reply = client.say(&rcpt).await;
            if !reply.starts_with("250 ") {
                break reply;
            }
            taken += 1;
            assert!(taken < 3_000);
        };
        assert!(refused.starts_with("452 4.3.1 "), "{refused}");
        assert!(taken > 1_000, "{taken}");
        client.expect(&[("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Ok: queued as ")]).await;
    }
}
