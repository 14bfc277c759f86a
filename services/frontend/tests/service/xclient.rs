//! XCLIENT: a proxy or a filter says for whom it comes.

use crate::client::{Client, MESSAGE};
use crate::world::World;
use crate::{AUTH, offered};

/// We are the proxy; 192.0.2.0/24 is a network that only XCLIENT can name.
const PROXY: &str = "xclient_from = [\"127.0.0.1/32\"]\ntrusted_networks = [\"192.0.2.0/24\"]\n\
    connections_per_client = 2\nrelay_domains_from_auth = true\nreverse_dns = false";

async fn proxied(attributes: &str, world: &World) -> Client {
    let mut client = Client::ready(world.relay).await;
    client.expect(&[(&format!("XCLIENT {attributes}"), "220 mail.test ESMTP"), ("EHLO client.test", "250-")]).await;
    client
}

#[tokio::test]
async fn the_client_that_is_named_counts_for_policy_limits_log_and_trace() {
    let world = World::start_process(PROXY, "format = \"postfix\"").await;
    let mut trusted = proxied("NAME=in.test ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=[192.0.2.7]", &world).await;
    trusted.expect(MESSAGE).await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.origin.client.unwrap().to_string(), "192.0.2.7");
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("Received: from client.test (in.test [192.0.2.7])\r\n"), "{body}");
    world.log_with("client=in.test[192.0.2.7]").await;

    let stranger = "NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9";
    let mut first = proxied(stranger, &world).await;
    first.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
    world.log_with("NOQUEUE: reject: RCPT from unknown[2001:db8::9]").await;
    let _second = proxied(stranger, &world).await;
    let mut third = Client::ready(world.relay).await;
    third
        .expect(&[(
            &format!("XCLIENT {stranger}"),
            "421 4.7.0 mail.test Error: too many connections from 2001:db8::9\r\n",
        )])
        .await;
    assert!(third.is_closed().await);
    let mut unknown = proxied("ADDR=[UNAVAILABLE]", &world).await;
    unknown.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
}

#[tokio::test]
async fn nobody_else_may_say_it_and_a_client_that_was_named_may_not_name_another() {
    let world = World::start(&PROXY.replace("127.0.0.1/32", "127.0.0.9/32")).await;
    let mut stranger = Client::ready(world.relay).await;
    let ehlo = stranger.say("EHLO x").await;
    assert!(!ehlo.contains("XCLIENT"), "{ehlo}");
    stranger.expect(&[("XCLIENT ADDR=192.0.2.7", "550 5.7.0 Error: insufficient authorization\r\n")]).await;
    let mut proxy = Client::from("127.0.0.9", world.relay).await;
    let ehlo = proxy.say("EHLO x").await;
    assert!(ehlo.contains("XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"), "{ehlo}");
    proxy
        .expect(&[
            ("XCLIENT NAME", "501 5.5.4 "),
            ("XCLIENT ADDR=nonsense", "501 5.5.4 "),
            ("XCLIENT NAME=one.test", "220 "),
            ("XCLIENT ADDR=203.0.113.7", "220 "),
            ("XCLIENT ADDR=192.0.2.7", "550 5.7.0 "),
        ])
        .await;
    let ehlo = proxy.say("EHLO x").await;
    assert!(!ehlo.contains("XCLIENT"), "{ehlo}");
}

#[tokio::test]
async fn a_login_that_was_made_elsewhere_owns_its_senders_and_no_others() {
    let world = World::start(PROXY).await;
    let mut client = proxied("ADDR=203.0.113.7 LOGIN=john@example.org PROTO=ESMTP", &world).await;
    client
        .expect(&[
            ("MAIL FROM:<forged@b.test>", "250 "),
            ("RCPT TO:<b@example.com>", "553 5.7.1 "),
            ("RSET", "250 "),
            ("MAIL FROM:<john@example.org>", "250 "),
            ("XCLIENT ADDR=192.0.2.7", "503 5.5.1 Error: MAIL transaction in progress\r\n"),
            ("RCPT TO:<b@example.com>", "250 "),
            ("DATA", "354 "),
            ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 "),
        ])
        .await;
    let (message, body) = world.only_message().await;
    assert_eq!(message.origin.login.as_deref(), Some("john@example.org"));
    assert!(String::from_utf8(body).unwrap().contains(" with ESMTPA id "));
}

/// What was true of the proxy, or of the client before, is not true of the next.
#[tokio::test]
async fn nothing_of_the_session_before_is_left() {
    let world = World::start(&PROXY.replace("[\"192.0.2.0/24\"]", "[\"127.0.0.0/8\"]")).await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client
        .expect(&[
            (AUTH, "235 "),
            ("XCLIENT ADDR=203.0.113.7", "220 mail.test "),
            ("MAIL FROM:<john@example.org>", "503 5.5.1 "),
            ("EHLO x", "250-"),
            ("MAIL FROM:<john@example.org>", "530 5.7.0 Authentication required\r\n"),
        ])
        .await;
    let mut relay = proxied("ADDR=203.0.113.7", &world).await;
    relay.expect(&[("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
}

/// The channel ends at the proxy.
#[tokio::test]
async fn no_login_is_bound_to_a_channel_that_is_not_the_clients() {
    let mut world = World::start(PROXY).await;
    world.replace_auth(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]).await;
    let mut client = offered(&world, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN").await;
    client.expect(&[("XCLIENT ADDR=203.0.113.7", "220 mail.test ")]).await;
    let ehlo = client.say("EHLO client.test").await;
    assert!(ehlo.contains("AUTH SCRAM-SHA-256 PLAIN\r\n"), "{ehlo}");
    client.expect(&[("AUTH SCRAM-SHA-256-PLUS", "504 5.5.4 ")]).await;
}
