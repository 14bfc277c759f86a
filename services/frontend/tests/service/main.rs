//! The frontend as clients see it, over real sockets, with a real Redis behind it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod aliases;
mod allowance;
mod auth;
mod author;
mod canonical;
mod client;
mod content;
mod crowd;
mod guesses;
mod log;
mod names;
mod proxy;
mod reload;
mod repeated;
mod slow;
mod tls;
mod trust;
mod unfinished;
mod verp;
mod world;
mod xclient;

use client::Client;
use staffetta_queue::{Destination, Settlement};
use world::{PATIENCE, World};

/// The reference chapter's string: john@example.org, john@example.org, summersun.
const AUTH: &str = "AUTH PLAIN am9obkBleGFtcGxlLm9yZwBqb2huQGV4YW1wbGUub3JnAHN1bW1lcnN1bg==";
/// A message of john's.
const MESSAGE: [(&str, &str); 4] = [
    ("MAIL FROM:<john@example.org>", "250 "),
    ("RCPT TO:<lisa@example.com>", "250 "),
    ("DATA", "354 "),
    ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 "),
];
const STRANGERS: &str = "trusted_networks = []\nrelay_domains_from_auth = true";

#[tokio::test]
async fn a_stranger_reaches_our_recipients_and_nobody_else() {
    let world = World::start(STRANGERS).await;
    let (mut client, greeting) = Client::connect(world.relay).await;
    assert!(greeting.starts_with("220 mail.test ESMTP"), "{greeting}");
    let ehlo = client.say("EHLO client.test").await;
    for keyword in ["PIPELINING", "SIZE 41943040", "VRFY", "ETRN", "STARTTLS", "8BITMIME"] {
        assert!(ehlo.contains(keyword), "{keyword}: {ehlo}");
    }
    assert!(!ehlo.contains("AUTH"), "{ehlo}");
    client
        .expect(&[
            (AUTH, "538 5.7.11 "),
            ("VRFY lisa@example.com", "554 5.7.1 <lisa@example.com>: Relay access denied\r\n"),
            ("VRFY john@example.org", "252 2.0.0 "),
            ("MAIL FROM:<john@example.org>", "250 2.1.0 Ok"),
            ("RCPT TO:<lisa@example.com>", "554 5.7.1 <lisa@example.com>: Relay access denied\r\n"),
            ("RCPT TO:<nobody@example.org>", "550 5.1.1 <nobody@example.org>: "),
            ("RCPT TO:<john@example.org>", "250 2.1.5 Ok"),
            ("DATA", "354 "),
            ("Subject: hello\r\n\r\nhello\r\n.", "250 2.0.0 Ok: queued as "),
            ("QUIT", "221 2.0.0 Bye\r\n"),
        ])
        .await;
    assert!(client.is_closed().await);
    let (message, body) = world.only_message().await;
    assert_eq!(message.origin.listener, "smtp");
    assert_eq!(message.size, body.len() as u64);
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("Received: from client.test ("), "{body}");
    assert!(body.ends_with("Subject: hello\r\n\r\nhello\r\n"), "nothing is added for a stranger: {body}");
}

#[tokio::test]
async fn submission_is_tls_then_login_then_mail() {
    let world = World::start(STRANGERS).await;
    let mut client = Client::ready(world.submission).await;
    let ehlo = client.say("EHLO client.test").await;
    assert!(ehlo.contains("STARTTLS") && !ehlo.contains("AUTH"), "no login in clear: {ehlo}");
    client
        .expect(&[
            ("MAIL FROM:<john@example.org>", "530 5.7.0 Must issue a STARTTLS command first"),
            (AUTH, "530 5.7.0 Must issue a STARTTLS command first"),
        ])
        .await;

    let mut client = Client::encrypted(world.submission, &world.ca).await;
    let ehlo = client.say("EHLO client.test").await;
    assert!(ehlo.contains("AUTH PLAIN LOGIN") && !ehlo.contains("STARTTLS"), "{ehlo}");
    client
        .expect(&[
            ("MAIL FROM:<john@example.org>", "530 5.7.0 Authentication required"),
            ("AUTH PLAIN AGpvaG4Ad3Jvbmc=", "535 5.7.8 "),
            ("AUTH PLAIN", "334 \r\n"),
            ("*", "501 5.7.0 Authentication aborted"),
            ("AUTH PLAIN", "334 \r\n"),
            (&AUTH["AUTH PLAIN ".len()..], "235 2.7.0 Authentication successful"),
            ("MAIL FROM:<forged@email.address>", "250 2.1.0 Ok"),
            (
                "RCPT TO:<lisa@example.com>",
                "553 5.7.1 <forged@email.address>: Sender address rejected: not owned by user john@example.org\r\n",
            ),
            ("DATA", "554 5.5.1 Error: no valid recipients"),
            ("RSET", "250 2.0.0 Ok"),
            ("MAIL FROM:<john@example.org>", "250 2.1.0 Ok"),
            ("RCPT TO:<x@nodot>", "504 5.5.2 <x@nodot>: Recipient address rejected: need fully-qualified address"),
            ("RCPT TO:<x@nx.test>", "550 5.1.2 <x@nx.test>: Recipient address rejected: Domain not found"),
            ("RCPT TO:<x@null.test>", "556 5.1.10 <x@null.test>: "),
            ("RCPT TO:<x@broken.test>", "450 4.4.3 <x@broken.test>: "),
            ("RCPT TO:<lisa@example.com>", "250 2.1.5 Ok"),
            ("DATA", "354 "),
            ("Bcc: secret@example.com\r\nSubject: hi\r\n\r\n..dot\r\n.", "250 2.0.0 Ok: queued as "),
        ])
        .await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.origin.login.as_deref(), Some("john@example.org"));
    let body = String::from_utf8(body).unwrap();
    let (header, content) = body.split_once("\r\n\r\n").unwrap();
    assert_eq!(content, ".dot\r\n", "stored without dot-stuffing");
    for field in ["Received: ", "\r\nDate: ", "\r\nMessage-ID: <", "\r\nFrom: john@example.org\r\n"] {
        assert!(header.contains(field), "{field:?}: {header}");
    }
    assert!(!header.contains("secret@example.com"), "{header}");
    assert!(header.contains("with ESMTPSA id "), "{header}");
}

#[tokio::test]
async fn implicit_tls_speaks_at_once() {
    let world = World::start(STRANGERS).await;
    let mut client = Client::implicit(world.submissions, &world.ca).await;
    client.expect(&[(AUTH, "235 "), ("MAIL FROM:<>", "250 "), ("RCPT TO:<lisa@example.com>", "250 ")]).await;
}

#[tokio::test]
async fn a_trusted_client_sends_a_pipelined_message_of_many_chunks() {
    let world = World::start("").await;
    let mut client = Client::ready(world.relay).await;
    let line = format!("{}\r\n", "x".repeat(76));
    let content = format!("From: a@b\r\nMessage-ID: <a@b>\r\nDate: now\r\n\r\n{}", line.repeat(20_000));
    client.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@EXAMPLE.com>\r\nDATA\r\n").await;
    for code in ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354 "] {
        assert!(client.reply().await.starts_with(code));
    }
    client.send(&format!("{content}.\r\nQUIT\r\n")).await;
    assert!(client.reply().await.starts_with("250 2.0.0 Ok: queued as "));
    assert!(client.reply().await.starts_with("221 "));
    let (message, body) = world.only_message().await;
    assert_eq!(message.envelope.recipients.len(), 2);
    assert_eq!(message.size, body.len() as u64);
    assert!(body.ends_with(content.as_bytes()), "Date and Message-ID are there already");
}

#[tokio::test]
async fn a_message_that_is_only_a_header_is_completed_and_postmaster_is_ours() {
    let world = World::start("postmaster = \"Postmaster@example.com\"").await;
    let mut client = Client::ready(world.relay).await;
    client
        .expect(&[
            ("MAIL FROM:<a@example.com>", "250 "),
            ("RCPT TO:<Postmaster>", "250 2.1.5 Ok"),
            ("DATA", "354 "),
            ("Subject: only\r\n.", "250 2.0.0 Ok: queued as "),
        ])
        .await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.envelope.recipients[0].address.as_str(), "Postmaster@example.com");
    let body = String::from_utf8(body).unwrap();
    let (header, content) = body.split_once("\r\n\r\n").unwrap();
    assert_eq!(content, "");
    assert!(header.contains("\r\nSubject: only\r\nFrom: a@example.com\r\nDate: "), "{header}");
    assert!(header.ends_with(&format!("\r\nMessage-ID: <{}@mail.test>", message.id)), "{header}");
}

#[tokio::test]
async fn etrn_flushes_for_those_who_may() {
    let world = World::start("relay_domains = [\"backup.test\"]").await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[("ETRN backup.test", "250 Queuing started"), ("ETRN a..b", "501 ")]).await;
    let world = World::start("etrn_networks = []").await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[("ETRN example.com", "459 <example.com>: service unavailable")]).await;
}

#[tokio::test]
async fn an_auth_service_that_is_away_is_a_454_and_comes_back_by_itself() {
    let mut world = World::start(STRANGERS).await;
    world.auth_service.0.cancel();
    (&mut world.auth_service.1).await.unwrap();
    assert!(world.until_away().await.contains("the auth service is not reachable"));
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    let away = "454 4.7.0 Temporary authentication failure: Can't connect to authentication server\r\n";
    client.expect(&[(AUTH, away)]).await;
    let mut relay = Client::ready(world.relay).await;
    relay
        .expect(&[
            ("MAIL FROM:<x@y.test>", "250 "),
            ("RCPT TO:<john@example.org>", "451 4.3.0 <john@example.org>: Temporary lookup failure"),
        ])
        .await;
    world.auth_service = auth::start(world.auth, None);
    world.until_ready().await;
    client.expect(&[(AUTH, "235 2.7.0 ")]).await;
    relay.expect(&[("RCPT TO:<john@example.org>", "250 2.1.5 Ok")]).await;
}

/// A hash that nothing can compare with, or a database that is away: the service is there, and its log says why.
#[tokio::test]
async fn what_the_auth_service_cannot_say_is_not_called_a_lost_connection() {
    let world = World::start(STRANGERS).await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    let undecided = "454 4.7.0 Temporary authentication failure: (reason unavailable)\r\n";
    client.expect(&[("AUTH PLAIN AG9kZEBleGFtcGxlLm9yZwB4", undecided), (AUTH, "235 2.7.0 ")]).await;
}

#[tokio::test]
async fn all_ports_that_are_taken_are_named_at_once() {
    let taken: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [http, smtp, more] = [0, 1, 2].map(|i: usize| taken[i].local_addr().unwrap());
    let listener = |name: &str, bind| {
        format!("[[frontend.listener]]\nname = {name:?}\nbind = \"{bind}\"\nkind = \"relay\"\ntls = \"off\"\n")
    };
    let text = format!("[frontend]\nhttp = \"{http}\"\n{}{}", listener("smtp", smtp), listener("more", more));
    let config = std::sync::Arc::new(staffetta_config::Config::parse(&text, "test.toml").unwrap());
    let error = staffetta_frontend::run(config, tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    let error = format!("{error:#}");
    for (what, address) in [("frontend.http", http), ("listener \"smtp\"", smtp), ("listener \"more\"", more)] {
        assert!(error.contains(&format!("{what}: cannot listen on {address}: ")), "{error}");
    }
}

/// Waits until AUTH offers this, and gives the client that saw it.
async fn offered(world: &World, mechanisms: &str) -> Client {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let mut client = Client::encrypted(world.submission, &world.ca).await;
        let ehlo = client.say("EHLO client.test").await;
        if ehlo.contains(&format!("AUTH {mechanisms}\r\n")) {
            return client;
        }
        assert!(std::time::Instant::now() < deadline, "{ehlo}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn auth_offers_what_the_service_has_and_moves_what_it_says() {
    let mut world = World::start(STRANGERS).await;
    offered(&world, "PLAIN LOGIN").await;
    world.replace_auth(&["SCRAM-SHA-256", "PLAIN", "NOT A NAME"]).await;
    let mut client = offered(&world, "SCRAM-SHA-256 PLAIN").await;
    client
        .expect(&[
            ("AUTH LOGIN", "504 5.5.4 "),
            // hello, who?, *
            ("AUTH SCRAM-SHA-256 aGVsbG8=", "334 d2hvPw==\r\n"),
            ("*", "501 5.7.0 "),
            // hello, who?, eve, it is me
            ("AUTH SCRAM-SHA-256 aGVsbG8=", "334 d2hvPw==\r\n"),
            ("ZXZl", "334 aXQgaXMgbWU=\r\n"),
            ("", "535 5.7.8 "),
            ("AUTH SCRAM-SHA-256 eA==", "504 5.5.4 "),
            // hello, who?, john, it is me
            ("AUTH scram-sha-256 aGVsbG8=", "334 d2hvPw==\r\n"),
            ("am9obg==", "334 aXQgaXMgbWU=\r\n"),
            ("", "235 2.7.0 "),
            ("MAIL FROM:<john@example.org>", "250 "),
        ])
        .await;
    let mut waiting = offered(&world, "SCRAM-SHA-256 PLAIN").await;
    waiting.expect(&[("AUTH SCRAM-SHA-256 aGVsbG8=", "334 ")]).await;
    // One that has begun comes to its end while the service stops. Away, it has what it had.
    world.auth_service.0.cancel();
    waiting.expect(&[("am9obg==", "334 aXQgaXMgbWU=\r\n"), ("", "235 2.7.0 ")]).await;
    (&mut world.auth_service.1).await.unwrap();
    world.until_away().await;
    offered(&world, "SCRAM-SHA-256 PLAIN").await;
    world.auth_service = auth::start(world.auth, None);
    offered(&world, "PLAIN LOGIN").await;
}

#[tokio::test]
async fn mutual_tls_towards_the_auth_service() {
    let world = World::start_with_rpc(STRANGERS).await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(AUTH, "235 2.7.0 "), ("MAIL FROM:<john@example.org>", "250 ")]).await;
}

#[tokio::test]
async fn without_redis_nothing_is_accepted_and_nothing_breaks() {
    let mut world = World::start("").await;
    let mut open = Client::ready(world.relay).await;
    open.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "250 "), ("DATA", "354 ")]).await;
    world.redis.kill().unwrap();
    open.expect(&[("Subject: lost\r\n\r\n.", "451 4.3.0 ")]).await;
    assert!(world.until_away().await.contains("the queue is not writable"));
    let mut client = Client::ready(world.relay).await;
    client.expect(&[("MAIL FROM:<a@b.test>", "451 4.3.0 ")]).await;
    world.redis.restart().unwrap();
    world.until_ready().await;
    client
        .expect(&[
            ("MAIL FROM:<a@b.test>", "250 "),
            ("RCPT TO:<b@example.com>", "250 "),
            ("DATA", "354 "),
            ("Subject: kept\r\n\r\n.", "250 2.0.0 Ok: queued as "),
        ])
        .await;
    assert_eq!(world.messages().await.len(), 1);
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    let mut world = World::start("").await;
    let mut idle = Client::ready(world.relay).await;
    let mut busy = Client::ready(world.relay).await;
    busy.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "250 "), ("DATA", "354 ")]).await;
    busy.send("Subject: last\r\n").await;
    world.shutdown.cancel();
    world.until_it_says("HTTP/1.1 503", "draining").await;
    assert!(idle.reply().await.starts_with("421 4.3.2 mail.test "));
    assert!(idle.is_closed().await);
    busy.send("\r\nbye\r\n.\r\n").await;
    assert!(busy.reply().await.starts_with("250 2.0.0 Ok: queued as "));
    assert!(busy.reply().await.starts_with("421 4.3.2 "));
    (&mut world.service).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(world.relay).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn limits_of_connections_and_patience() {
    let world = World::start("trusted_networks = []\nconnections_per_client = 2\ntimeout = \"1s\"").await;
    let mut first = Client::ready(world.relay).await;
    let _second = Client::ready(world.relay).await;
    let (mut third, refusal) = Client::connect(world.relay).await;
    assert_eq!(refusal, "421 4.7.0 mail.test Error: too many connections from 127.0.0.1\r\n");
    assert!(third.is_closed().await);
    assert_eq!(first.reply().await, "421 4.4.2 mail.test Error: timeout exceeded\r\n");
    assert!(first.is_closed().await);
}

#[tokio::test]
async fn a_tls_handshake_has_no_more_time_than_a_command() {
    let world = World::start("trusted_networks = []\ntimeout = \"1s\"").await;
    let mut mute = tokio::net::TcpStream::connect(world.submissions).await.unwrap();
    let mut promised = Client::ready(world.relay).await;
    promised.expect(&[("STARTTLS", "220 2.0.0 ")]).await;
    let both = async {
        let mut nothing = [0];
        let read = tokio::io::AsyncReadExt::read(&mut mute, &mut nothing).await;
        matches!(read, Ok(0) | Err(_)) && promised.is_closed().await
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(15), both).await.unwrap());
}

/// `john` with a wrong password.
const WRONG: &str = "AUTH PLAIN AGpvaG5AZXhhbXBsZS5vcmcAd2ludGVybW9vbg==";

#[tokio::test]
async fn a_client_that_guesses_passwords_is_sent_away() {
    let mut world = World::start("trusted_networks = []\nauth_failures_per_client = \"2/1h\"").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client
        .expect(&[
            ("AUTH PLAIN AA==", "501 5.5.2 "),
            ("AUTH PLAIN", "334 "),
            ("*", "501 5.7.0 "),
            (WRONG, "535 5.7.8 "),
            (WRONG, "535 5.7.8 "),
            (AUTH, "421 4.7.0 mail.test Error: too many authentication failures\r\n"),
        ])
        .await;
    assert!(client.is_closed().await);
    let mut again = Client::encrypted(world.submission, &world.ca).await;
    again.expect(&[(AUTH, "421 4.7.0 ")]).await;

    world.redis.kill().unwrap();
    world.until_away().await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(AUTH, "421 4.7.0 ")]).await;
    // Without Redis the pod knows its own: whoever did nothing may come in, and has no more guesses than before.
    let mut other = Client::encrypted_from("127.0.0.2", world.submission, &world.ca).await;
    other.expect(&[(AUTH, "235 2.7.0 ")]).await;
    let mut other = Client::encrypted_from("127.0.0.2", world.submission, &world.ca).await;
    other.expect(&[(WRONG, "535 "), (WRONG, "535 "), (AUTH, "421 4.7.0 ")]).await;
}

/// CVE-like: a limit that is looked at before and counted after lets through all that come at once.
#[tokio::test]
async fn guesses_at_the_same_time_are_no_more_than_guesses_one_by_one() {
    let limits = "trusted_networks = []\nauth_failures_per_client = \"10/1h\"\nconnections_per_client = 60";
    let world = World::start(limits).await;
    let clients = (0..50).map(|_| Client::encrypted(world.submission, &world.ca));
    let clients = futures_util::future::join_all(clients).await;
    let replies = futures_util::future::join_all(clients.into_iter().map(async |mut c| c.say(WRONG).await)).await;
    let of = |code: &str| replies.iter().filter(|reply| reply.starts_with(code)).count();
    assert_eq!((of("535"), of("421 4.7.0")), (10, 40), "{replies:?}");
}

#[tokio::test]
async fn many_good_logins_at_the_same_time_wait_for_each_other_and_do_not_count() {
    let limits = "trusted_networks = []\nauth_failures_per_client = \"2/1h\"";
    let world = World::start(limits).await;
    let clients = (0..30).map(|_| Client::encrypted(world.submission, &world.ca));
    let clients = futures_util::future::join_all(clients).await;
    let replies = futures_util::future::join_all(clients.into_iter().map(async |mut c| c.say(AUTH).await)).await;
    assert!(replies.iter().all(|reply| reply.starts_with("235 ")), "{replies:?}");
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(WRONG, "535 "), (WRONG, "535 "), (AUTH, "421 4.7.0 ")]).await;
}

/// A client that has logged in and sent a message.
async fn after_a_message(world: &World) -> Client {
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(AUTH, "235 ")]).await;
    client.expect(&MESSAGE).await;
    client
}

#[tokio::test]
async fn a_login_has_no_more_in_the_queue_than_it_may() {
    let world = World::start("queued_per_login = 2").await;
    let (mail, over) = (MESSAGE[0].0, "452 4.3.1 Error: too much mail of john@example.org is waiting\r\n");
    let (mut client, mut another) = (after_a_message(&world).await, after_a_message(&world).await);
    client.expect(&[(mail, over)]).await;
    another.expect(&[(mail, over), ("NOOP", "250 ")]).await;
    // Nobody logged in: nothing to count by.
    let mut trusted = Client::ready(world.relay).await;
    trusted.expect(&MESSAGE).await;
    // What is over has made room, and is noticed within a second or so.
    let queue = world.queue().await;
    let mut jobs = Vec::new();
    for partition in 0..queue.partitions() {
        jobs.extend(queue.claim(partition, &Destination::new("example.com"), 10).await.unwrap());
    }
    let own = jobs.iter().find(|job| job.message.origin.login.is_some()).unwrap();
    queue.settle(&own.lease, Settlement::Finished { notices: Vec::new() }).await.unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while client.say(mail).await == over {
        assert!(std::time::Instant::now() < end, "there is no room");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    client.expect(&MESSAGE[1..]).await;
    client.expect(&[(mail, over)]).await;
}

#[tokio::test]
async fn a_login_sends_no_more_than_it_may() {
    let mut world = World::start("messages_per_login = \"2/1h\"").await;
    let over = "450 4.7.1 Error: too much mail from john@example.org\r\n";
    let (mut client, mut another) = (after_a_message(&world).await, after_a_message(&world).await);
    for client in [&mut client, &mut another] {
        client.expect(&MESSAGE[..2]).await;
        client.expect(&[("DATA", over), ("RSET", "250 ")]).await;
    }
    // Nobody logged in: nothing to count by.
    let mut trusted = Client::ready(world.relay).await;
    trusted.expect(&MESSAGE).await;
    world.redis.kill().unwrap();
    world.redis.restart().unwrap();
    world.until_ready().await;
    client.expect(&MESSAGE[..2]).await;
    client.expect(&[("DATA", over)]).await;
}

#[tokio::test]
async fn a_full_listener_says_so_and_the_others_are_open() {
    let limits = "trusted_networks = [\"127.0.0.9/32\"]\nconnection_limit = 20\nconnections_per_client = 100";
    let world = World::start(limits).await;
    let mut held = Vec::new();
    for _ in 0..15 {
        held.push(Client::ready(world.relay).await);
    }
    let (_, refusal) = Client::connect(world.relay).await;
    assert_eq!(refusal, "421 4.3.2 mail.test Error: server busy, try again later\r\n");
    for _ in 0..4 {
        held.push(Client::ready(world.submission).await);
    }
    let (_, refusal) = Client::connect(world.submission).await;
    assert!(refusal.starts_with("421 4.3.2 "), "{refusal}");
    held.push(Client::from("127.0.0.9", world.relay).await);
}

#[tokio::test]
async fn a_trusted_client_may_fail_as_often_as_it_likes() {
    let world = World::start("auth_failures_per_client = \"1/1h\"").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(WRONG, "535 "), (WRONG, "535 "), (AUTH, "235 ")]).await;
}
