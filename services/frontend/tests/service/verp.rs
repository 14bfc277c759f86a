//! Mail for addresses that senders have for one recipient.

use std::time::Instant;

use staffetta_config::Config;
use staffetta_mail::{Address, ReversePath};
use staffetta_queue::Filter;

use crate::STRANGERS;
use crate::client::Client;
use crate::world::{PATIENCE, World};

const VERP: &str = "[[verp]]\nsender = \"*@example.org\"\nkey = \"a key that nobody knows\"\nsuppress = true\n";
const MAIL: (&str, &str) = ("MAIL FROM:<>", "250 2.1.0");

/// As whom this sender writes to lisa@example.com.
fn own(sender: &str) -> String {
    own_for(sender, "lisa@example.com")
}

fn own_for(sender: &str, recipient: &str) -> String {
    let sender: Address = sender.parse().unwrap();
    let verp = Config::parse(VERP, "verp.toml").unwrap().verp();
    let signer = verp.signer(&ReversePath::Address(sender.clone())).unwrap();
    signer.sender_for(&sender, &recipient.parse().unwrap()).unwrap().into()
}

fn rcpt(address: &str) -> String {
    format!("RCPT TO:<{address}>")
}

#[tokio::test]
async fn what_comes_back_is_the_senders_and_what_is_made_up_is_nobodys() {
    let world = World::start(&format!("{STRANGERS}\n{VERP}")).await;
    let mut server = Client::ready(world.relay).await;
    let (john, nobody) = (own("john@example.org"), own("nobody@example.org"));
    let forged = john.replace("lisa", "lisb");
    let refused = |address: &str| format!("550 5.1.1 <{address}>: ");
    server.expect(&[MAIL, (&rcpt(&forged), &refused(&forged)), (&rcpt(&nobody), &refused(&nobody))]).await;
    server.expect(&[(&rcpt(&john), "250 2.1.5 "), (&rcpt("john@example.org"), "250 2.1.5 ")]).await;
    server.expect(&[("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 ")]).await;
    let (message, _) = world.only_message().await;
    let [to] = &message.envelope.recipients[..] else { panic!("{:?}", message.envelope) };
    let orcpt = format!("rfc822;{}", john.replace('+', "+2B").replace('=', "+3D"));
    assert_eq!((to.address.as_str(), to.orcpt.as_deref()), ("john@example.org", Some(&*orcpt)));
}

#[tokio::test]
async fn a_sender_that_is_an_alias_gets_what_comes_back_where_it_leads() {
    let world = World::start(&format!("{STRANGERS}\n{VERP}")).await;
    let mut server = Client::ready(world.relay).await;
    let all = own("all3@example.org");
    let told = format!("{} ORCPT=rfc822;all3@example.org", rcpt(&all));
    server.expect(&[MAIL, (&told, "250 2.1.5 "), (&rcpt("all3@example.org"), "250 2.1.5 ")]).await;
    server.expect(&[("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 ")]).await;
    let messages = world.messages().await;
    let recipients = &messages[0].envelope.recipients;
    assert_eq!((messages.len(), recipients.len()), (1, 3));
    let as_told = |to: &staffetta_mail::Recipient| to.orcpt.as_deref() == Some("rfc822;all3@example.org");
    assert!(recipients.iter().all(as_told), "{recipients:?}");
}

#[tokio::test]
async fn complaints_are_heard_and_suppress_as_the_file_says_now() {
    let ours = "trusted_networks = [\"127.0.0.9\"]\nrelay_domains_from_auth = true";
    let world = World::start(&format!("{ours}\n{VERP}")).await;
    let mut provider = Client::ready(world.relay).await;
    for recipient in ["lisa@example.com", "mary@example.com"] {
        let sender = own_for("john@example.org", recipient);
        let complaint = format!(
            "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\
             Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
             Original-Mail-From: <{sender}>\r\n--b--\r\n."
        );
        provider.expect(&[MAIL, ("RCPT TO:<john@example.org>", "250 "), ("DATA", "354 "), (&complaint, "250 ")]).await;
        let heard = |config: &mut Config| {
            config.frontend.complaints = vec!["john@example.org".parse().unwrap()];
            config.delivery.suppress_complaints = true;
        };
        if recipient.starts_with("lisa") {
            world.change(heard).await;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::from("127.0.0.9", world.relay).await;
        client.expect(&[MAIL]).await;
        let reply = client.say("RCPT TO:<mary@example.com>").await;
        if reply.starts_with("550 5.7.1 ") {
            return client.expect(&[("RCPT TO:<lisa@example.com>", "250 ")]).await;
        }
        assert!(Instant::now() < deadline, "{reply}");
    }
}

/// What a system behind ours says of `about`, to `to`, who is named so many times, in one case and in another.
async fn report(client: &mut Client, to: &str, about: &str, times: usize) {
    client.expect(&[MAIL]).await;
    for time in 0..times {
        let written = if time % 2 == 0 { to.to_owned() } else { to.replace("once", "ONCE") };
        client.expect(&[(&rcpt(&written), "250 2.1.5 ")]).await;
    }
    let report = format!(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n\
         Final-Recipient: rfc822; {about}\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--\r\n."
    );
    client.expect(&[("DATA", "354 "), (&report, "250 2.0.0 ")]).await;
}

async fn until_suppressed(world: &World, recipient: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::from("127.0.0.9", world.relay).await;
        client.expect(&[MAIL]).await;
        let reply = client.say(&rcpt(recipient)).await;
        if reply.starts_with("550 5.7.1 ") {
            return;
        }
        assert!(Instant::now() < deadline, "{reply}");
    }
}

#[tokio::test]
async fn a_report_counts_once_and_is_about_nobody_else_and_counts_only_where_its_sender_may_suppress() {
    for (suppress, suppressed) in [("true", true), ("false", false)] {
        let verp = VERP.replace("suppress = true", &format!("suppress = {suppress}"));
        let rule = "[delivery]\nsuppress_after = \"2/1d\"\n";
        let world =
            World::start(&format!("trusted_networks = [\"127.0.0.9\"]\nrelay_domains_from_auth = true\n{rule}{verp}"))
                .await;
        let mut server = Client::ready(world.relay).await;
        for (to, about, times) in [
            ("once@example.com", "once@example.com", 3),
            ("group@example.com", "member@example.com", 1),
            ("group@example.com", "member@example.com", 1),
            ("gone@example.com", "Gone@example.com", 1),
            ("gone@example.com", "gone@example.com", 1),
        ] {
            report(&mut server, &own_for("john@example.org", to), about, times).await;
        }
        if suppressed {
            until_suppressed(&world, "gone@example.com").await;
        }
        let mut client = Client::from("127.0.0.9", world.relay).await;
        client.expect(&[MAIL]).await;
        for other in ["once@example.com", "group@example.com", "member@example.com"] {
            client.expect(&[(&rcpt(other), "250 ")]).await;
        }
        if !suppressed {
            client.expect(&[("RCPT TO:<gone@example.com>", "250 ")]).await;
        }
    }
}

#[tokio::test]
async fn who_has_senders_for_each_recipient_has_deliveries_for_each() {
    let world = World::start(&format!("trusted_networks = [\"127.0.0.9\"]\n{VERP}")).await;
    let mut client = Client::from("127.0.0.9", world.relay).await;
    for (sender, jobs) in [("john@example.org", 2), ("john@example.net", 1)] {
        let mail = format!("MAIL FROM:<{sender}>");
        client
            .expect(&[(&mail, "250 "), ("RCPT TO:<a@example.com>", "250 "), ("RCPT TO:<b@example.com>", "250 ")])
            .await;
        client.expect(&[("DATA", "354 "), ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 ")]).await;
        let entries = world.queue().await.list(&Filter::default(), None, 10).await.unwrap().entries;
        let entry = entries.iter().find(|entry| entry.message.envelope.sender.as_str() == sender).unwrap();
        assert_eq!(entry.jobs.len(), jobs, "{sender}");
    }
}
