//! Senders that become others.

use std::time::Instant;

use staffetta_mail::ReversePath;
use staffetta_queue::{Announcer, Settings, Target};

use crate::AUTH;
use crate::client::Client;
use crate::world::{PATIENCE, World};

const MAPPED: &str = "trusted_networks = [\"127.0.0.9\"]\nrelay_domains = [\"example.com\"]\nverify_recipients = false\n\
    sender_must_match_login = false\n\
    [[frontend.canonical]]\nsender = \"root@web1.lan\"\nbecomes = \"ops@example.org\"\n\
    [[frontend.canonical]]\nsender = \"*@*.lan\"\nbecomes = \"*@example.org\"";

const HEADER: &str = "From: Cron <root@web1.lan>\r\nTo: root@web1.lan\r\nSender: www@web2.lan (app)\r\nX-From: root@web1.lan\r\n\
    Reply-To:\r\n www@web2.lan,\r\n john@example.org\r\nDate: x\r\nMessage-ID: <x@web1.lan>\r\n";
const BECAME: &str = "From: Cron <ops@example.org>\r\nTo: root@web1.lan\r\nSender: www@example.org (app)\r\nX-From: root@web1.lan\r\n\
    Reply-To:\r\n www@example.org,\r\n john@example.org\r\nDate: x\r\nMessage-ID: <x@web1.lan>\r\n";

/// Brings a message of `sender`; what the queue has of it: its sender, and what stands behind our trace field.
async fn bring(client: &mut Client, world: &World, sender: &str, header: &str) -> (ReversePath, String) {
    let mail = format!("MAIL FROM:<{sender}>");
    let content = format!("{header}\r\nFrom: <root@web1.lan>\r\n.");
    client.expect(&[(&mail, "250 "), ("RCPT TO:<b@example.com>", "250 "), ("DATA", "354 "), (&content, "250 ")]).await;
    let (message, body) = world.only_message().await;
    let body = String::from_utf8(body).unwrap();
    let is_next = |line: &&str| !line.starts_with(['R', '\t', ' ']);
    let own = body.split_inclusive("\r\n").skip_while(|line| !is_next(line)).collect();
    (message.envelope.sender.clone(), own)
}

fn sender(text: &str) -> ReversePath {
    ReversePath::Address(text.parse().unwrap())
}

#[tokio::test]
async fn machines_and_logins_of_ours_send_as_whom_they_become_and_strangers_as_they_are() {
    let world = World::start(MAPPED).await;
    let body = "\r\nFrom: <root@web1.lan>\r\n";
    let mut machine = Client::from("127.0.0.9", world.relay).await;
    let mut john = Client::encrypted(world.submission, &world.ca).await;
    john.expect(&[(AUTH, "235 ")]).await;
    for own in [&mut machine, &mut john] {
        let came = bring(own, &world, "ROOT@web1.lan", HEADER).await;
        assert_eq!(came, (sender("ops@example.org"), format!("{BECAME}{body}")));
    }
    let came = bring(&mut machine, &world, "www@web2.lan", "Date: x\r\nMessage-ID: <x>\r\n").await;
    assert_eq!(
        came,
        (sender("www@example.org"), format!("Date: x\r\nMessage-ID: <x>\r\nFrom: www@example.org\r\n{body}"))
    );
    let report = "From: <>, root@web1.lan\r\nDate: x\r\nMessage-ID: <x>\r\n";
    let came = bring(&mut machine, &world, "", report).await;
    assert_eq!(came, (ReversePath::Null, format!("{report}{body}")), "what is not understood stays");

    let mut stranger = Client::ready(world.relay).await;
    let came = bring(&mut stranger, &world, "root@web1.lan", HEADER).await;
    assert_eq!(came, (sender("root@web1.lan"), format!("{HEADER}{body}")));
}

#[tokio::test]
async fn a_field_that_would_have_too_long_a_line_or_be_one_too_many_stays() {
    let world = World::start(MAPPED).await;
    let mut machine = Client::from("127.0.0.9", world.relay).await;
    let rest = "Date: x\r\nMessage-ID: <x@web1.lan>\r\n";
    let wide = format!("From: {}root@web1.lan\r\n{rest}", "a@b.lan, ".repeat(100));
    let (from, content) = bring(&mut machine, &world, "root@web1.lan", &wide).await;
    assert!(from == sender("ops@example.org") && content.starts_with(&wide), "{content}");
    // Each line grows by six octets.
    let field = |domain: &str| format!("From: {}c@d.test\r\n", format!("a@{domain},\r\n ").repeat(1_000));
    let many = format!("{}{rest}", field("b.lan").repeat(12));
    let (_, content) = bring(&mut machine, &world, "root@web1.lan", &many).await;
    let fits = 64 * 1024 / 6_000;
    let expected = format!("{}{}{rest}", field("example.org").repeat(fits), field("b.lan").repeat(12 - fits));
    assert!(content.starts_with(&expected), "{} of {}", content.len(), expected.len());
}

#[tokio::test]
async fn what_the_client_said_is_what_must_belong_to_the_login() {
    let world = World::start(
        "header_from_must_match_login = true\n[[frontend.canonical]]\nsender = \"john@example.org\"\nbecomes = \"ceo@bank.test\"",
    )
    .await;
    let mut john = Client::encrypted(world.submission, &world.ca).await;
    john.expect(&[(AUTH, "235 "), ("MAIL FROM:<ceo@bank.test>", "250 "), ("RCPT TO:<b@example.com>", "553 5.7.1 ")])
        .await;
    john.expect(&[("RSET", "250 ")]).await;
    let own = "From: <john@example.org>\r\nDate: x\r\nMessage-ID: <x>\r\n";
    let (from, content) = bring(&mut john, &world, "john@example.org", own).await;
    assert_eq!(from, sender("ceo@bank.test"));
    assert!(content.starts_with("From: <ceo@bank.test>\r\n"), "{content}");
}

#[tokio::test]
async fn who_becomes_somebody_of_a_domain_that_is_blocked_is_blocked() {
    let world = World::start(MAPPED).await;
    let announcer = Announcer::connect(&Settings::at(world.redis.url())).await.unwrap();
    announcer.block(&Target::domain("example.org").unwrap(), None, "").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut machine = Client::from("127.0.0.9", world.relay).await;
        machine.expect(&[("MAIL FROM:<root@web1.lan>", "250 ")]).await;
        if machine.say("RCPT TO:<b@example.com>").await.starts_with("554 5.7.1 ") {
            break;
        }
        assert!(Instant::now() < deadline, "the sender is not blocked");
    }
    // As whom he is, not as whom others would become.
    let mut stranger = Client::ready(world.relay).await;
    stranger.expect(&[("MAIL FROM:<root@web1.lan>", "250 "), ("RCPT TO:<b@example.com>", "250 ")]).await;
}
