//! Who stands in From, and what others learn of where a user is.

use crate::client::Client;
use crate::world::World;

const LOGIN: (&str, &str) = ("AUTH PLAIN AGpvaG5AZXhhbXBsZS5vcmcAc3VtbWVyc3Vu", "235 2.7.0");
const MAIL: (&str, &str) = ("MAIL FROM:<john@example.org>", "250 2.1.0 Ok");
const RCPT: (&str, &str) = ("RCPT TO:<lisa@example.com>", "250 2.1.5 Ok");
const DATA: (&str, &str) = ("DATA", "354 ");

#[tokio::test]
async fn a_login_writes_only_its_own_addresses_into_from() {
    let world = World::start_process("header_from_must_match_login = true", "format = \"postfix\"").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[LOGIN]).await;
    let forged = "553 5.7.1 <ceo@bank.test>: From header rejected: not owned by user john@example.org";
    let unreadable = "550 5.7.1 From header rejected: it cannot be understood";
    for (header, reply) in [
        ("From: ceo@bank.test", forged),
        ("From: John <john@example.org>, The CEO <ceo@bank.test>", forged),
        ("From: john@example.org\r\nFrom: ceo@bank.test", forged),
        ("From: John\r\n <john@example.org>,\r\n\tceo@bank.test", forged),
        ("From: <john@example.org> <ceo@bank.test>", unreadable),
        ("From: the boss", unreadable),
        ("From:", unreadable),
    ] {
        let content = format!("{header}\r\nSubject: x\r\n\r\nx\r\n.");
        client.expect(&[MAIL, RCPT, DATA, (&content, reply)]).await;
    }
    assert!(world.messages().await.is_empty());
    for header in ["From: \"ceo@bank.test\" <john@example.org>", "Subject: without", "Resent-From: ceo@bank.test"] {
        let content = format!("{header}\r\n\r\nFrom: ceo@bank.test\r\n.");
        client.expect(&[MAIL, RCPT, DATA, (&content, "250 2.0.0 Ok: queued as ")]).await;
    }
    // In chunks, the last without a line end.
    client.expect(&[MAIL, RCPT, ("BDAT 17 LAST\r\nFrom: ceo@bank.te", "553 5.7.1 <ceo@bank.te>: From header")]).await;
    assert_eq!(world.messages().await.len(), 3);
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("reason=\"author_not_owned\"") && metrics.contains("reason=\"author_unreadable\""));

    // Who did not log in is nobody's author to be: a trusted network forwards whatever it got.
    let mut trusted = Client::ready(world.relay).await;
    trusted.expect(&[MAIL, RCPT, DATA, ("From: ceo@bank.test\r\n\r\nx\r\n.", "250 2.0.0 Ok: queued as ")]).await;
}

#[tokio::test]
async fn without_the_auth_service_nobody_is_an_author_and_without_the_rule_everybody_is() {
    let world = World::start("header_from_must_match_login = true").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[LOGIN, MAIL, RCPT, DATA]).await;
    world.auth_service.0.cancel();
    let away = "451 4.3.0 <john+x@example.org>: Temporary lookup failure";
    client.expect(&[("From: john+x@example.org\r\n\r\nx\r\n.", away)]).await;
    assert!(world.messages().await.is_empty());

    let world = World::start("").await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[LOGIN, MAIL, RCPT, DATA, ("From: ceo@bank.test\r\n\r\nx\r\n.", "250 2.0.0 Ok")]).await;
}

#[tokio::test]
async fn received_says_of_a_user_what_it_may() {
    for (value, expected) in [
        ("full", "Received: from client.test (unknown [127.0.0.1])\r\n\t(using TLSv1.3 "),
        ("network", "Received: from unknown (unknown [127.0.0.0])\r\n\t(using TLSv1.3 "),
        ("none", "Received: by mail.test (Staffetta) with ESMTPSA id "),
    ] {
        let file = format!("received_client = {value:?}\nreverse_dns = false");
        let world = World::start(&file).await;
        let mut client = Client::encrypted(world.submission, &world.ca).await;
        client.expect(&[LOGIN, MAIL, RCPT, DATA, ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Ok")]).await;
        let (message, body) = world.only_message().await;
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with(expected), "{body}");
        assert!(value == "full" || !body.contains("127.0.0.1"), "{body}");
        // The operator knows in any case.
        assert_eq!(message.origin.client.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.1"));
    }
    let world = World::start("received_client = \"none\"\nreverse_dns = false").await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[MAIL, RCPT, DATA, ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Ok")]).await;
    let (_, body) = world.only_message().await;
    assert!(body.starts_with(b"Received: from client.test (unknown [127.0.0.1])"), "who did not log in is named");
}

#[tokio::test]
async fn errors_and_recipients_beyond_the_limit_are_counted_as_the_file_says() {
    let world = World::start("error_limit = 3\nrecipient_limit = 1\nrecipient_overshoot_limit = 2").await;
    let mut client = Client::ready(world.relay).await;
    client.expect(&[("FOO", "500 "), ("BAR", "500 "), ("BAZ", "500 "), ("NOOP", "421 4.7.0")]).await;
    assert!(client.is_closed().await);
    let (mut client, many) = (Client::ready(world.relay).await, ("RCPT TO:<many@example.com>", "452 4.5.3"));
    client.expect(&[MAIL, RCPT, many, many, many, many, many, ("NOOP", "421 4.7.0")]).await;
}
