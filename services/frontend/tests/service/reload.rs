//! Another configuration comes into force while the service runs: for whoever comes next.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use staffetta_config::{BareLf, ByteSize, Canonical, ClientShown, Config, Rate, SenderLogin};
use staffetta_policy::canonical::Becomes;
use staffetta_policy::routing::Senders;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::client::{Client, MESSAGE};
use crate::world::World;
use crate::{AUTH, WRONG};

const PATIENCE: Duration = Duration::from_secs(20);
const MAIL: (&str, &str) = ("MAIL FROM:<a@b.test>", "250 ");
const RCPT: (&str, &str) = ("RCPT TO:<b@example.com>", "250 ");
const DATA: (&str, &str) = ("DATA", "354 ");
const OWN: (&str, &str) = ("MAIL FROM:<john@example.org>", "250 ");

/// Changes the configuration, and waits until new sessions hear of it: all that is swapped is swapped before that.
async fn change(world: &World, edit: impl FnOnce(&mut Config)) {
    let mut size = 0;
    world
        .change(|config| {
            edit(config);
            config.frontend.size_limit.0 += 1;
            size = config.frontend.size_limit.0;
        })
        .await;
    let deadline = Instant::now() + PATIENCE;
    // Nobody has a limit on this port, whatever the change was.
    while !Client::implicit(world.submissions, &world.ca)
        .await
        .say("EHLO x")
        .await
        .contains(&format!("SIZE {size}\r\n"))
    {
        assert!(Instant::now() < deadline, "no new session has the new settings");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn nets(text: &str) -> Vec<ipnet::IpNet> {
    vec![text.parse().unwrap()]
}

const fn one_an_hour() -> Option<Rate> {
    Some(Rate { count: 1, per: Duration::from_secs(3_600) })
}

#[tokio::test]
async fn a_new_session_is_told_what_holds_now_and_one_that_is_open_goes_on_as_it_began() {
    let world = World::start("").await;
    let mut old = Client::ready(world.relay).await;
    change(&world, |config| {
        let frontend = &mut config.frontend;
        frontend.size_limit = ByteSize(2_047);
        (frontend.recipient_limit, frontend.recipient_overshoot_limit, frontend.error_limit) = (1, 0, 2);
        (frontend.enable_vrfy, frontend.bare_lf) = (false, BareLf::Reject);
        frontend.bare_lf_from = nets("127.0.0.7/32");
    })
    .await;
    let bare = |reply| ("Subject: x\r\n\r\none\ntwo\r\n.", reply);
    old.expect(&[("VRFY lisa@example.com", "252 "), MAIL, RCPT, RCPT, DATA, bare("250 2.0.0")]).await;
    let mut new = Client::ready(world.relay).await;
    assert!(new.say("EHLO x").await.contains("SIZE 2048\r\n"));
    new.expect(&[("MAIL FROM:<a@b.test> SIZE=2049", "552 "), MAIL, RCPT, DATA, bare("550 5.5.2")]).await;
    let mut new = Client::ready(world.relay).await;
    new.expect(&[MAIL, RCPT, ("RCPT TO:<c@example.com>", "452 "), ("VRFY x@example.com", "502 "), ("NOOP", "421 ")])
        .await;
    let mut excepted = Client::from("127.0.0.7", world.relay).await;
    excepted.expect(&[MAIL, RCPT, DATA, bare("250 2.0.0")]).await;
}

#[tokio::test]
async fn networks_have_the_rights_that_they_have_now() {
    let world = World::start("trusted_networks = []\netrn_networks = []\nreverse_dns = false").await;
    let mut stranger = Client::ready(world.relay).await;
    stranger.expect(&[("ETRN example.com", "459 "), MAIL, ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
    assert!(!stranger.say("EHLO x").await.contains("XCLIENT"));
    change(&world, |config| {
        let frontend = &mut config.frontend;
        (frontend.trusted_networks, frontend.etrn_networks) = (nets("127.0.0.1/32"), nets("127.0.0.1/32"));
        (frontend.xclient_from, frontend.proxy_from) = (nets("127.0.0.1/32"), nets("127.0.0.6/32"));
    })
    .await;
    let mut trusted = Client::ready(world.relay).await;
    assert!(trusted.say("EHLO x").await.contains("XCLIENT"));
    trusted.expect(&[("ETRN example.com", "250 ")]).await;
    trusted.expect(MESSAGE).await;
    let mut brought =
        Client::behind_from("127.0.0.6", b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", world.relay).await;
    brought.expect(&[MAIL, ("RCPT TO:<b@example.com>", "554 5.7.1 ")]).await;
}

#[tokio::test]
async fn recipients_and_senders_are_judged_by_the_rules_of_now() {
    let world = World::start("trusted_networks = [\"127.0.0.9\"]").await;
    let mut stranger = Client::ready(world.relay).await;
    stranger.expect(&[MAIL, ("RCPT TO:<x@ours.test>", "554 "), ("RCPT TO:<postmaster>", "550 5.1.1 ")]).await;
    let mut john = Client::encrypted(world.submission, &world.ca).await;
    john.expect(&[(AUTH, "235 "), MAIL, ("RCPT TO:<b@example.com>", "553 5.7.1 "), ("RSET", "250 ")]).await;
    john.expect(&[OWN, ("RCPT TO:<x@nx.test>", "550 5.1.2 "), ("RSET", "250 ")]).await;
    change(&world, |config| {
        let frontend = &mut config.frontend;
        (frontend.relay_domains, frontend.verify_recipients) = (vec!["ours.test".to_owned()], false);
        frontend.postmaster = Some("admin@example.com".parse().unwrap());
        (frontend.sender_must_match_login, frontend.reject_unknown_recipient_domain) = (SenderLogin::Off, false);
        (frontend.header_from_must_match_login, frontend.received_client) = (true, ClientShown::None);
        let [sender, becomes] = ["john@example.org", "ops@example.org"].map(|text| text.parse().unwrap());
        frontend.canonical = vec![Canonical { sender: Senders::Address(sender), becomes: Becomes::Address(becomes) }];
    })
    .await;
    // Also in a session that is open: it is the recipient that is new.
    stranger.expect(&[("RCPT TO:<postmaster>", "250 "), ("RCPT TO:<x@ours.test>", "250 ")]).await;
    john.expect(&[MAIL, ("RCPT TO:<x@nx.test>", "250 "), DATA, ("From: <ceo@bank.test>\r\n\r\nx\r\n.", "553 5.7.1 ")])
        .await;
    john.expect(&[OWN, RCPT, DATA, ("From: <john@example.org>\r\n\r\nx\r\n.", "250 ")]).await;
    let (message, body) = world.only_message().await;
    assert!(body.starts_with(b"Received: by mail.test"), "{}", String::from_utf8_lossy(&body));
    assert_eq!(message.envelope.sender.as_str(), "ops@example.org");
}

/// A server that knows nobody.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (read, mut write) = tcp.into_split();
            let mut lines = BufReader::new(read).lines();
            let _ = write.write_all(b"220 nobody.test\r\n").await;
            while let Ok(Some(line)) = lines.next_line().await {
                let reply = if line.starts_with("RCPT") { "550 5.1.1 nobody is here\r\n" } else { "250 ok\r\n" };
                let _ = write.write_all(reply.as_bytes()).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn recipients_are_asked_about_where_their_mail_goes_now() {
    let world = World::start("trusted_networks = []\nrelay_domains = [\"ours.test\"]\nverify_recipients = false").await;
    let mut stranger = Client::ready(world.relay).await;
    stranger.expect(&[MAIL, ("RCPT TO:<x@ours.test>", "250 ")]).await;
    let route = format!("[[delivery.route]]\ndomain = \"ours.test\"\nvia = \"smtp://{}\"\n", nobody().await);
    let routes = Config::parse(&format!("hostname = \"mail.test\"\n{route}"), "t").unwrap().delivery.route;
    change(&world, |config| (config.frontend.verify_recipients, config.delivery.route) = (true, routes)).await;
    stranger.expect(&[("RCPT TO:<x@ours.test>", "550 5.1.1 ")]).await;
}

/// Connects again and again, until it is answered by this.
async fn until_greeted(world: &World, greeting: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, said) = Client::connect(world.relay).await;
        if said.starts_with(greeting) {
            return;
        }
        assert!(Instant::now() < deadline, "still {said:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn places_and_guesses_are_as_many_as_there_are_now() {
    let world = World::start("trusted_networks = []\nauth_failures_per_login = \"\"").await;
    let first = Client::ready(world.relay).await;
    world.change(|config| config.frontend.connections_per_client = 1).await;
    until_greeted(&world, "421 4.7.0 mail.test Error: too many connections from").await;
    world.change(|config| (config.frontend.connections_per_client, config.frontend.connection_limit) = (50, 1)).await;
    until_greeted(&world, "421 4.3.2 ").await;
    world.change(|config| config.frontend.connection_limit = 100).await;
    until_greeted(&world, "220 ").await;
    drop(first);
    change(&world, |config| config.frontend.auth_failures_per_client = one_an_hour()).await;
    let mut client = Client::encrypted(world.submission, &world.ca).await;
    client.expect(&[(WRONG, "535 "), (WRONG, "421 4.7.0 ")]).await;
    change(&world, |config| {
        config.frontend.auth_failures_per_client = None;
        config.frontend.auth_failures_per_login = one_an_hour();
    })
    .await;
    let mut client = Client::encrypted_from("127.0.1.3", world.submission, &world.ca).await;
    client.expect(&[(WRONG, "535 ")]).await;
    let mut client = Client::encrypted_from("127.0.2.3", world.submission, &world.ca).await;
    client.expect(&[(WRONG, "454 4.7.0 Error: too many authentication failures for this user")]).await;
}

#[tokio::test]
async fn a_login_may_send_what_it_may_now() {
    let world = World::start("").await;
    let mut john = Client::encrypted(world.submission, &world.ca).await;
    john.expect(&[(AUTH, "235 "), OWN, RCPT, RCPT, ("RSET", "250 ")]).await;
    change(&world, |config| config.frontend.recipients_per_login = one_an_hour()).await;
    john.expect(&[OWN, RCPT, ("RCPT TO:<c@example.com>", "450 4.7.1 Error: too many recipients"), ("RSET", "250 ")])
        .await;
    change(&world, |config| {
        (config.frontend.recipients_per_login, config.frontend.messages_per_login) = (None, one_an_hour());
    })
    .await;
    let content = ("Subject: x\r\n\r\nx\r\n.", "250 ");
    john.expect(&[OWN, RCPT, DATA, content, OWN, RCPT, ("DATA", "450 4.7.1 ")]).await;
    change(&world, |config| {
        (config.frontend.queued_per_login, config.frontend.messages_per_login) = (Some(1), None);
    })
    .await;
    // What was accepted before does not count.
    john.expect(&[("RSET", "250 "), OWN, RCPT, DATA, content, (OWN.0, "452 4.3.1 ")]).await;
}

#[tokio::test]
async fn a_drain_takes_as_long_as_it_should_now() {
    let mut world = World::start("drain_delay = \"1h\"").await;
    change(&world, |config| config.frontend.drain_delay = Duration::ZERO).await;
    world.shutdown.cancel();
    tokio::time::timeout(PATIENCE, &mut world.service).await.unwrap().unwrap().unwrap();
}
