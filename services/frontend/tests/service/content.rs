//! Content in its less usual forms, and what a client asks for a message: from the wire into the queue.

use std::time::Duration;

use crate::client::Client;
use crate::world::World;

const MAIL: (&str, &str) = ("MAIL FROM:<anna@sender.example>", "250 2.1.0 Ok");
const RCPT: (&str, &str) = ("RCPT TO:<lisa@example.com>", "250 2.1.5 Ok");

#[tokio::test]
async fn bare_lf_is_refused_where_the_file_says_so_but_not_from_everybody() {
    let files = [
        ("", "250 2.0.0 Ok"),
        ("bare_lf = \"reject\"", "550 5.5.2 mail.test Error: bare <LF> received"),
        ("bare_lf = \"reject\"\nbare_lf_from = [\"127.0.0.1\"]", "250 2.0.0 Ok"),
    ];
    for (file, reply) in files {
        let world = World::start(file).await;
        let mut client = Client::ready(world.relay).await;
        client.expect(&[MAIL, RCPT, ("DATA", "354 "), ("Subject: x\n\none\n.\ntwo\r\n.", reply)]).await;
        if reply.starts_with("250") {
            let (_, body) = world.only_message().await;
            let body = String::from_utf8(body).unwrap();
            assert!(body.contains("Subject: x\r\n") && body.ends_with("\r\n\r\none\r\n.\r\ntwo\r\n"), "{body}");
            assert!(!body.replace("\r\n", "").contains(['\r', '\n']), "{body:?}");
        }
    }
}

#[tokio::test]
async fn chunks_become_one_message_and_what_is_not_finished_none() {
    let world = World::start("").await;
    let mut left = Client::ready(world.relay).await;
    left.expect(&[MAIL, RCPT, ("BDAT 6\r\nS: a", "250 2.0.0 Ok: 6 bytes")]).await;
    drop(left);
    let mut client = Client::ready(world.relay).await;
    client.expect(&[MAIL, RCPT, ("BDAT 8\r\nS: nox", "250 2.0.0 Ok: 8 bytes"), ("RSET", "250 2.0.0 Ok")]).await;
    client
        .expect(&[
            MAIL,
            RCPT,
            ("BDAT 14\r\nSubject: yes", "250 2.0.0 Ok: 14 bytes"),
            ("BDAT 11 LAST\r\n\r\n.\r\nno end", "250 2.0.0 Ok: "),
        ])
        .await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.size, body.len() as u64);
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("Subject: yes\r\n") && body.ends_with("\r\n\r\n.\r\nno end\r\n"), "{body}");
}

#[tokio::test]
async fn rfc8689_a_field_of_the_header_makes_tls_optional() {
    let world = World::start("reject_unknown_recipient_domain = false").await;
    let mut client = Client::encrypted(world.relay, &world.ca).await;
    // Before it has looked which formats are read a frontend writes the one that cannot say it.
    for _ in 0..100 {
        client
            .expect(&[
                ("MAIL FROM:<john@sender.example>", "250 2.1.0 Ok"),
                ("RCPT TO:<mary@example.com>", "250 2.1.5 Ok"),
                ("DATA", "354 "),
                ("Subject: x\r\nTLS-Required: No\r\n\r\nx\r\n.", "250 2.0.0 Ok: queued as "),
            ])
            .await;
        let (message, body) = world.only_message().await;
        assert!(String::from_utf8(body).unwrap().contains("TLS-Required: No\r\n"), "the next hop must know");
        if message.envelope.tls_optional {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is not queued as such");
}

#[tokio::test]
async fn what_a_message_asks_of_the_next_hop_is_queued_with_it() {
    let world = World::start("reject_unknown_recipient_domain = false").await;
    let mut client = Client::encrypted(world.relay, &world.ca).await;
    client
        .expect(&[
            ("MAIL FROM:<j\u{fc}rgen@sender.example> SMTPUTF8 REQUIRETLS BODY=8BITMIME", "250 2.1.0 Ok"),
            ("RCPT TO:<pel\u{e9}@B\u{fc}cher.example>", "250 2.1.5 Ok"),
            ("DATA", "354 "),
            ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Ok: queued as "),
        ])
        .await;
    let (message, body) = world.only_message().await;
    let envelope = &message.envelope;
    assert!(envelope.smtputf8 && envelope.require_tls, "{envelope:?}");
    assert_eq!(envelope.sender.as_str(), "j\u{fc}rgen@sender.example");
    assert_eq!(envelope.recipients[0].address.as_str(), "pel\u{e9}@B\u{fc}cher.example");
    assert!(String::from_utf8(body).unwrap().contains(" with UTF8SMTPS id "));
}
