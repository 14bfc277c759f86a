//! Mail for addresses that senders have for one recipient.

use staffetta_config::Config;
use staffetta_mail::{Address, ReversePath};

use crate::STRANGERS;
use crate::client::Client;
use crate::world::World;

const VERP: &str = "[[verp]]\nsender = \"*@example.org\"\nkey = \"a key that nobody knows\"\n";
const MAIL: (&str, &str) = ("MAIL FROM:<>", "250 2.1.0");

/// As whom this sender writes to lisa@example.com.
fn own(sender: &str) -> String {
    let sender: Address = sender.parse().unwrap();
    let verp = Config::parse(VERP, "verp.toml").unwrap().verp();
    let signer = verp.signer(&ReversePath::Address(sender.clone())).unwrap();
    signer.sender_for(&sender, &"lisa@example.com".parse().unwrap()).unwrap().into()
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
