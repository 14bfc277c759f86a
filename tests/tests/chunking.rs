//! CHUNKING (RFC 3030) towards servers that have it: Postfix and Exim.

use anyhow::ensure;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, Exim, Kept, Peer, Postfix, SOON, Service, World, eventually};

/// A world whose mail for example.com goes to this port.
async fn world(port: &Port) -> anyhow::Result<World> {
    let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n", port.number());
    World::new().await?.set("delivery.destination_concurrency", "1").tables(&route).start().await
}

/// Bodies, each of which somebody could get wrong.
fn bodies() -> Vec<String> {
    let mut large = String::with_capacity(20 << 20);
    let mut line = 0_u64;
    while large.len() < 20 << 20 {
        let dot = if line.is_multiple_of(2) { "." } else { "-" };
        large.push_str(&format!("{dot}{line:070}\r\n"));
        line += 1;
    }
    let text = |body: &str| body.to_owned();
    vec![
        text(""),
        text(".\r\n..\r\n.x\r\n"),
        text("Gr\u{fc}\u{df}e \u{20ac}\r\n"),
        text("BDAT 0 LAST\r\nQUIT\r\n"),
        large,
    ]
}

/// Sends them all, which go out one behind the other.
async fn send(world: &mut World, bodies: &[String]) -> anyhow::Result<()> {
    world.kill(Service::Delivery);
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    for (number, body) in bodies.iter().enumerate() {
        let text = format!("Subject: number {number}\r\n\r\n{body}").replace("\r\n.", "\r\n..");
        let text = text.strip_suffix("\r\n").unwrap_or(&text);
        let reply = client.send("john@example.org", &["lisa@example.com"], text).await?;
        ensure!(reply.code == 250, "{}", reply.text());
    }
    world.spawn(Service::Delivery)?;
    world.until_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_chunks_and_has_every_octet() -> anyhow::Result<()> {
    let (port, bodies) = (Port::reserve()?, bodies());
    let mut world = world(&port).await?;
    let leaf = world.certificate("mx.example.com")?;
    let rules = "myhostname = mx.example.com\nmydestination = example.com\nlocal_recipient_maps =\n\
                 message_size_limit = 50000000\nqueue_minfree = 0\n";
    let postfix = Postfix::start(&[(&port, String::new())], &leaf, rules)?;
    send(&mut world, &bodies).await?;
    let held = postfix.held()?;
    ensure!(held.len() == bodies.len(), "{} messages on hold: {}", held.len(), postfix.log());
    for (number, body) in bodies.iter().enumerate() {
        let ours = held.iter().find(|message| message.contains(&format!("\nSubject: number {number}\n")));
        let body = body.replace("\r\n", "\n");
        let whole = format!("\n\n{body}*** HEADER EXTRACTED");
        ensure!(
            ours.is_some_and(|message| message.contains(&whole)),
            "{number}: {:.2000}",
            ours.cloned().unwrap_or_default()
        );
    }
    // It counts commands when a connection ends.
    eventually(SOON, || async {
        let log = postfix.log();
        let counts = log.lines().find(|line| line.contains(" bdat=")).unwrap_or_default();
        ensure!(counts.contains(&format!(" mail={} ", bodies.len())) && !log.contains(" data="), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_takes_chunks_and_has_every_octet() -> anyhow::Result<()> {
    let (port, bodies) = (Port::reserve()?, bodies());
    let mut world = world(&port).await?;
    let leaf = world.certificate("mx.example.com")?;
    let exim = Exim::start(&port, &leaf, "")?;
    send(&mut world, &bodies).await?;
    let kept = exim.kept()?;
    let mut kept: Vec<&[u8]> = kept.iter().map(Kept::body).collect();
    let sent: Vec<String> = bodies.iter().map(|body| body.replace("\r\n", "\n")).collect();
    let mut sent: Vec<&[u8]> = sent.iter().map(String::as_bytes).collect();
    kept.sort();
    sent.sort();
    ensure!(kept == sent, "{:?}: {}", kept.iter().map(|body| body.len()).collect::<Vec<_>>(), exim.log());
    // Exim's letter for a message that came so.
    let log = exim.log();
    let came: Vec<&str> = log.lines().filter(|line| line.contains(" <= ")).collect();
    ensure!(came.len() == bodies.len() && came.iter().all(|line| line.contains(" K ")), "{log}");
    Ok(())
}
