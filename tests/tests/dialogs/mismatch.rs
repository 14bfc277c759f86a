//! `sender_must_match_login` under the names of Postfix, and what a real Postfix says with the same name to the same client.

use std::sync::Arc;

use staffetta_testkit::certs::Authority;
use staffetta_testkit::dialog::Peer;
use staffetta_tests::{Service, World};

use crate::reference;
use crate::wire::{self, Place, Wire};

/// John's password; `None`: nobody logs in.
const JOHN: Option<&str> = Some("AUTH PLAIN AGpvaG5AZXhhbXBsZS5vcmcAc3VtbWVyc3Vu");
const NOT_OWNED: &str = "Sender address rejected: not owned by user john@example.org";
const NOT_LOGGED_IN: &str = "Sender address rejected: not logged in";

/// The setting; who logs in; a sender of his own, of another's, of nobody's, and what is said to them: "" is yes.
type Row = (&'static str, Option<&'static str>, [&'static str; 3]);
const ROWS: &[Row] = &[
    ("reject_sender_login_mismatch", JOHN, ["", NOT_OWNED, NOT_OWNED]),
    ("reject_sender_login_mismatch", None, [NOT_LOGGED_IN, NOT_LOGGED_IN, ""]),
    (AUTHENTICATED, JOHN, ["", NOT_OWNED, NOT_OWNED]),
    (AUTHENTICATED, None, ["", "", ""]),
    (UNAUTHENTICATED, JOHN, ["", "", ""]),
    (UNAUTHENTICATED, None, [NOT_LOGGED_IN, NOT_LOGGED_IN, ""]),
];
const AUTHENTICATED: &str = "reject_authenticated_sender_login_mismatch";
const UNAUTHENTICATED: &str = "reject_unauthenticated_sender_login_mismatch";
const SENDERS: [&str; 3] = ["john@example.org", "lisa@example.org", "nobody@example.org"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_of_postfix_means_what_it_means_there() -> anyhow::Result<()> {
    for name in ["reject_sender_login_mismatch", AUTHENTICATED, UNAUTHENTICATED] {
        let (folder, place) = (tempfile::tempdir()?, ours(&format!("{name:?}")).await?);
        let authority = Authority::new(folder.path())?;
        let leaf = authority.leaf("relay", &["mail.example.org"])?;
        let (postfix, reference) = reference::start(&leaf, &authority.ca(), name)?;
        let (places, mut number) = ([(Arc::new(place.1), "staffetta"), (Arc::new(reference), "postfix")], 0);
        for (_, login, expected) in ROWS.iter().filter(|row| row.0 == name) {
            for (place, who) in &places {
                for client in ["stranger", "trusted"] {
                    number += 1;
                    let answers = ask(Arc::clone(place), client, *login, number).await?;
                    let said = |text: &&str| if text.is_empty() { String::new() } else { (*text).to_owned() };
                    assert_eq!(answers, expected.each_ref().map(said), "{who} {name} {login:?} {client}");
                }
            }
        }
        drop((postfix, place.0));
    }
    Ok(())
}

/// The old words: a login owns what it names, who did not log in names whom he likes; or nobody is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn true_and_false_are_what_they_were() -> anyhow::Result<()> {
    let yes = || String::new();
    for (word, expected) in
        [("true", [yes(), NOT_OWNED.to_owned(), NOT_OWNED.to_owned()]), ("false", [(); 3].map(|()| yes()))]
    {
        let (_world, place) = ours(word).await?;
        let place = Arc::new(place);
        assert_eq!(ask(Arc::clone(&place), "stranger", JOHN, 1).await?, expected, "{word}");
        assert_eq!(ask(place, "stranger", None, 2).await?, [(); 3].map(|()| yes()), "{word}");
    }
    Ok(())
}

async fn ours(setting: &str) -> anyhow::Result<(World, Place)> {
    let world = World::new()
        .await?
        .set("frontend.sender_must_match_login", setting)
        .set("frontend.relay_domains_from_auth", "true")
        .set("frontend.trusted_networks", "[\"127.9.0.0/16\"]")
        .user("john@example.org", "summersun")
        .await?
        .user("lisa@example.org", "winterrain")
        .await?;
    let mut world = world.start().await?;
    world.kill(Service::Delivery);
    let place = Place {
        relay: world.smtp(),
        relays: world.smtp(),
        submission: world.submission(),
        submissions: world.submissions(),
        tls: wire::trusting(&world.ca())?,
        store: None,
    };
    Ok((world, place))
}

/// What the recipient of a message from each of the senders is told on port 25, without code and sender.
async fn ask(place: Arc<Place>, client: &str, login: Option<&'static str>, number: u16) -> anyhow::Result<[String; 3]> {
    let opening = ["relay".to_owned(), client.to_owned()];
    let mut wire = Wire::open(place, &opening, number).await?;
    let answers = tokio::task::spawn_blocking(move || {
        let mut say = |line: &str| exchange(&mut wire, line);
        say("")?;
        say("EHLO mx.example.net")?;
        if let Some(login) = login {
            say("STARTTLS")?;
            say("EHLO mx.example.net")?;
            let welcome = say(login)?;
            assert!(welcome.starts_with("235 "), "{welcome}");
        }
        let mut judged = |sender: &str| -> Result<String, String> {
            say(&format!("MAIL FROM:<{sender}>"))?;
            let answer = say("RCPT TO:<lisa@example.org>")?;
            say("RSET")?;
            let refused = answer.strip_prefix(&format!("553 5.7.1 <{sender}>: "));
            assert!(refused.is_some() || answer.starts_with("250 "), "{answer}");
            Ok(refused.unwrap_or_default().to_owned())
        };
        Ok::<_, String>([judged(SENDERS[0])?, judged(SENDERS[1])?, judged(SENDERS[2])?])
    });
    answers.await?.map_err(anyhow::Error::msg)
}

/// Says a line, if there is one, and gives the last one of the reply. After STARTTLS the handshake follows.
fn exchange(wire: &mut Wire, line: &str) -> Result<String, String> {
    if !line.is_empty() {
        wire.send(format!("{line}\r\n").as_bytes())?;
    }
    let last = loop {
        let reply = wire.receive()?.ok_or("the server has gone")?;
        if reply.as_bytes().get(3) == Some(&b' ') {
            break reply;
        }
    };
    if line == "STARTTLS" {
        wire.start_tls()?;
    }
    Ok(last)
}
