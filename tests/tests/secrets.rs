//! No password and no content is in any log, whatever is switched on and whatever goes wrong.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use staffetta_cli::sink::{Scenario, Stage};
use staffetta_dkim::{Algorithm, Key};
use staffetta_tests::{Client, SOON, Service, World, eventually};

/// John's password, a wrong one, one for a smart host, and content.
const RIGHT: &str = "canary-Wiedehopf-1";
const WRONG: &str = "canary-Neuntoeter-2";
const UPSTREAM: &str = "canary-Kernbeisser-3";
const CONTENT: &str = "canary-Zaunkoenig-4";
const JOHN: &str = "john@example.org";

/// A word as it is, and as it looks inside of base64, wherever it begins.
fn traces(word: &str) -> Vec<String> {
    let inside = (0..3).map(|before| {
        let encoded = BASE64_STANDARD.encode([vec![0; before], word.into()].concat());
        // Only the characters that hold nothing but the word.
        encoded[(before * 8).div_ceil(6)..(before + word.len()) * 8 / 6].to_owned()
    });
    std::iter::once(word.to_owned()).chain(inside).collect()
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Signs John's mail; the lines of its file that are secret.
fn dkim(world: &World) -> anyhow::Result<(String, Vec<String>)> {
    let (_, pem) = Key::generate(Algorithm::Ed25519)?;
    let path = world.folder().join("dkim.pem");
    std::fs::write(&path, pem.as_bytes())?;
    let table =
        format!("[[delivery.dkim]]\ndomain = \"example.org\"\nselector = \"s\"\nkey = \"{}\"\n", path.display());
    Ok((table, pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()))
}

async fn world(format: &str) -> anyhow::Result<(World, Vec<String>)> {
    let world = World::new().await?;
    let (key, secret) = dkim(&world)?;
    let smart_host = format!(
        "[[delivery.route]]\ndomain = \"smart.test\"\nvia = \"smtp://mx1.smart.test:{}\"\n\
         username = \"relay\"\npassword = \"{UPSTREAM}\"\n",
        world.mx_port()
    );
    let world = world.set("log.level", "\"trace\"").set("log.format", format!("{format:?}"));
    let world = world.set("frontend.size_limit", "\"4KiB\"").set("delivery.lifetime", "\"3s\"");
    Ok((world.tables(&smart_host).tables(&key).user(JOHN, RIGHT).await?.start().await?, secret))
}

/// Every way in which a password can be told to us and not be accepted.
async fn passwords(world: &World) -> anyhow::Result<()> {
    let pair = encoded(&format!("\0{JOHN}\0{WRONG}"));
    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    client.expect(&format!("AUTH PLAIN {pair}"), 535).await?;
    client.expect("AUTH PLAIN", 334).await?;
    client.expect(&pair, 535).await?;
    client.expect("AUTH LOGIN", 334).await?;
    client.expect(&encoded(JOHN), 334).await?;
    client.expect(&encoded(WRONG), 535).await?;
    client.expect(&format!("AUTH LOGIN {}", encoded(JOHN)), 334).await?;
    client.expect(&encoded(WRONG), 535).await?;
    client.expect(&format!("AUTH PLAIN {WRONG}"), 501).await?;
    client.expect(&format!("AUTH CRAM-MD5 {}", encoded(WRONG)), 504).await?;
    // A client that does not wait for answers: where AUTH is refused, what follows comes as commands.
    let mut clear = Client::connect(world.smtp()).await?;
    clear.expect("EHLO client.test", 250).await?;
    clear.expect(&format!("AUTH PLAIN {pair}"), 538).await?;
    clear.write(format!("AUTH LOGIN\r\n{}\r\n{}\r\n", encoded(JOHN), encoded(WRONG)).as_bytes()).await?;
    clear.write(b"QUIT\r\n").await?;
    // Refused one by one, until the server has had enough.
    while clear.reply().await.is_ok_and(|reply| reply.code >= 500) {}
    Ok(())
}

/// Content that is accepted, refused, too long, malformed, deferred, bounced, cut off.
async fn contents(world: &World, client: &mut Client) -> anyhow::Result<()> {
    let text = format!("Subject: {CONTENT}\r\nX-Note: {CONTENT}\r\n\r\n{CONTENT}");
    for recipient in ["lisa@takes.test", "lisa@refuses.test", "lisa@defers.test", "lisa@smart.test"] {
        let reply = client.send(JOHN, &[recipient], &text).await?;
        anyhow::ensure!(reply.code == 250, "{recipient}: {}", reply.text());
    }
    let long = format!("{text}{}", format!("\r\n{CONTENT}").repeat(300));
    anyhow::ensure!(client.send(JOHN, &["lisa@takes.test"], &long).await?.code == 552);
    let bare = text.replace("\r\n\r\n", "\r\n\r\n\r");
    anyhow::ensure!(client.send(JOHN, &["lisa@takes.test"], &bare).await?.code == 550);
    let mut client = world.login(JOHN, RIGHT).await?;
    client.expect(&format!("MAIL FROM:<{JOHN}>"), 250).await?;
    client.expect("RCPT TO:<lisa@takes.test>", 250).await?;
    client.expect("DATA", 354).await?;
    client.write(text.as_bytes()).await
}

async fn no_secret_is_logged(format: &str) -> anyhow::Result<()> {
    let (mut world, key) = world(format).await?;
    let smart = world.mx("smart.test", Scenario::default()).await?;
    let mx = world.mx("takes.test", Scenario::default()).await?;
    let _refuses = world.mx("refuses.test", Scenario::default().reply(Stage::End, "550 5.7.1 No thanks")).await?;
    let _defers = world.mx("defers.test", Scenario::default().reply(Stage::End, "451 4.3.0 Not now")).await?;
    let home = world.mx("example.org", Scenario::default()).await?;
    passwords(&world).await.context("passwords")?;
    let mut client = world.login(JOHN, RIGHT).await?;
    contents(&world, &mut client).await.context("contents")?;
    // Refused, expired, and expired because the smart host offers no login.
    eventually(SOON, || async {
        anyhow::ensure!(home.count() == 3 && mx.count() == 1, "{} reports, {} messages", home.count(), mx.count());
        Ok(())
    })
    .await?;
    world.until_empty().await?;
    assert_eq!(smart.count(), 0, "not without the login");
    world.kill(Service::Auth);
    let mut client = Client::connect(world.submission()).await?.start_tls().await?;
    // What was right a moment ago would need no auth service.
    assert_eq!(client.auth(JOHN, WRONG).await?.code, 454);
    client.expect("QUIT", 221).await?;
    world.stop(Service::Frontend)?;
    world.stop(Service::Delivery)?;
    for (service, told) in [
        (Service::Auth, "authentication failed"),
        (Service::Frontend, "454 4.7.0"),
        (Service::Frontend, "552 5.3.4"),
        (Service::Delivery, "Not now"),
        (Service::Delivery, "No thanks"),
    ] {
        let log = world.log(service);
        assert!(log.contains(told), "{service:?} says nothing of {told:?}: {log}");
        for word in [RIGHT, WRONG, UPSTREAM, CONTENT].into_iter().chain(key.iter().map(String::as_str)) {
            for trace in traces(word) {
                let line = log.lines().find(|line| line.contains(&trace));
                assert!(line.is_none(), "{service:?}: {word} in {}", line.unwrap_or_default());
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_of_objects() -> anyhow::Result<()> {
    no_secret_is_logged("json").await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_of_postfix_lines() -> anyhow::Result<()> {
    no_secret_is_logged("postfix").await
}

#[test]
fn a_word_is_found_inside_of_base64() {
    for before in ["", "a", "ab", "\0john@example.org\0"] {
        let text = encoded(&format!("{before}{RIGHT}"));
        assert!(traces(RIGHT).iter().any(|trace| text.contains(trace)), "{before:?}");
    }
}
