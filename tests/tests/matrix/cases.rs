//! What is asked of each of them.

use std::collections::BTreeSet;
use std::future::ready;
use std::time::Duration;

use anyhow::{Context, ensure};
use staffetta_cli::sink::{Scenario, Sink};
use staffetta_tests::{Client, Kept, SOON, Service, World, eventually, next};

use crate::content::{ensure_same, large, stuffed, treacherous, unix, unquoted};
use crate::hops::{Dsn, Hop, LAST, LATER, NAME, Start, people};

const SENDER: &str = "john@example.org";
/// One of [`people`].
const LISA: &str = "u1@example.com";
/// Octets of a body of which many are sent, one of them while a server is killed.
const MIDDLING: usize = 300 << 10;
/// Until a server that was killed has got everything. A Dovecot waits for the locks that the one before has left in
/// maildirs, for two minutes.
const PATIENCE: Duration = Duration::from_secs(240);

/// A relay, the server that it sends to, and where reports go.
struct Ground {
    world: World,
    hop: Hop,
    home: Sink,
    client: Client,
}

impl Ground {
    async fn new(start: Start) -> anyhow::Result<Self> {
        let world = World::new().await?;
        let hop = start(&world)?;
        let Hop { via, tls, .. } = &hop;
        let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"{via}\"\ntls = \"{tls}\"\n");
        let ca = format!("{:?}", world.ca());
        let world = world.set("delivery.ca", ca).set("delivery.destination_concurrency", "4").tables(&route);
        let mut world = world.start().await?;
        world.dns.host(NAME, [127, 0, 0, 1]);
        let home = world.mx("example.org", Scenario::default()).await?;
        let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
        client.expect("EHLO client.test", 250).await?;
        Ok(Self { world, hop, home, client })
    }

    /// Sends a message with this body, whose lines end with CRLF.
    async fn send(&mut self, recipient: &str, body: &[u8]) -> anyhow::Result<()> {
        self.client.expect(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), 250).await?;
        self.client.expect(&format!("RCPT TO:<{recipient}>"), 250).await?;
        self.client.expect("DATA", 354).await?;
        self.client.write(b"Subject: a body\r\n\r\n").await?;
        self.client.write(&stuffed(body)).await?;
        let reply = self.client.command(".").await?;
        ensure!(reply.code == 250, "{}", reply.text());
        Ok(())
    }

    /// What has come of such a message.
    async fn carry(&mut self, body: &[u8]) -> anyhow::Result<Kept> {
        self.send(LISA, body).await?;
        self.only().await
    }

    /// The only message, once it is there.
    async fn only(&self) -> anyhow::Result<Kept> {
        self.world.until_empty().await.with_context(|| self.logs())?;
        self.until(|mut kept| {
            ensure!(kept.len() == 1, "{} messages: {}", kept.len(), self.logs());
            kept.pop().context("none")
        })
        .await
    }

    /// Waits until the server's store is as it should be: some put mail into boxes later than they take it.
    async fn until<T>(&self, mut judge: impl FnMut(Vec<Kept>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        eventually(SOON, || ready(self.hop.server.kept().and_then(&mut judge))).await
    }

    /// Waits until the worker has logged such an event so often.
    async fn until_logged(&self, event: &str, times: usize) -> anyhow::Result<()> {
        eventually(SOON, || ready((self.logged(event) >= times).then_some(()).with_context(|| self.logs()))).await
    }

    fn logged(&self, event: &str) -> usize {
        self.world.log(Service::Delivery).matches(&format!("\"event\":\"{event}\"")).count()
    }

    fn logs(&self) -> String {
        format!("{}\n{}", self.world.log(Service::Delivery), self.hop.server.log())
    }
}

/// Fifty get it once, the sender hears of the one in the server's words.
pub(crate) async fn of_many_recipients_one_is_refused(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let people: Vec<String> = people().collect();
    let mut named: Vec<&str> = people.iter().map(String::as_str).collect();
    // Not the last one, whose reply ends the commands that travel together.
    named.insert(named.len() / 2, "nobody@example.com");
    let reply = ground.client.send(SENDER, &named, "Subject: many\r\n\r\nhello").await?;
    ensure!(reply.code == 250, "{}", reply.text());

    let report = next(&mut ground.home).await.with_context(|| ground.logs())?;
    let report = String::from_utf8(report.body.to_vec())?;
    ensure!(report.matches("\r\nFinal-Recipient: ").count() == 1, "{report}");
    ensure!(report.contains("\r\nFinal-Recipient: rfc822; nobody@example.com\r\n"), "{report}");
    // What is long goes over several lines.
    let words: Vec<&str> = report.split_whitespace().collect();
    ensure!(words.join(" ").contains(ground.hop.refusal), "{report}");
    ground.world.until_empty().await?;
    let expected: BTreeSet<&String> = people.iter().collect();
    ground
        .until(|kept| {
            let came: Vec<&String> = kept.iter().flat_map(|message| &message.recipients).collect();
            let once = came.len() == people.len() && BTreeSet::from_iter(came.iter().copied()) == expected;
            ensure!(once, "it came to {came:?}: {}", ground.logs());
            // In one transaction: a message of its own has each of them only where each has a box of his own.
            ensure!([1, people.len()].contains(&kept.len()), "{} messages: {}", kept.len(), ground.logs());
            Ok(())
        })
        .await
}

pub(crate) async fn every_octet_arrives(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let body = treacherous();
    let kept = ground.carry(&body).await?;
    ensure_same(kept.body(), &unix(&body))
}

/// RFC 5321 section 4.5.3.1.6 lets servers break what is longer.
pub(crate) async fn long_lines_are_made_short(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let body = [".long ".repeat(1000).as_bytes(), b"\r\nshort\r\n"].concat();
    let kept = ground.carry(&body).await?;
    ensure!(
        kept.content.split(|octet| *octet == b'\n').all(|line| line.len() <= 998),
        "{}",
        String::from_utf8_lossy(&kept.content)
    );
    ensure_same(&unquoted(kept.body())?, &unix(&body))
}

pub(crate) async fn eight_bits_arrive_converted(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let body = treacherous();
    let kept = ground.carry(&body).await?;
    ensure!(kept.content.is_ascii(), "{}", String::from_utf8_lossy(&kept.content));
    ensure_same(&unquoted(kept.body())?, &unix(&body))
}

pub(crate) async fn twenty_mebibytes_arrive_whole(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let body = large(20 << 20);
    let kept = ground.carry(&body).await?;
    ensure_same(kept.body(), &unix(&body))
}

/// RFC 3461.
pub(crate) async fn parameters_of_dsn_are_passed_on_or_answered_for(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let client = &mut ground.client;
    client.expect(&format!("MAIL FROM:<{SENDER}> RET=HDRS ENVID=QQ+2B314159"), 250).await?;
    let asked = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;lisa+2Bx@example.com";
    client.expect(&format!("RCPT TO:<{LATER}> {asked}"), 250).await?;
    client.expect("DATA", 354).await?;
    let reply = client.finish("Subject: asked\r\n\r\nhello").await?;
    ensure!(reply.code == 250, "{}", reply.text());
    match ground.hop.dsn {
        Dsn::Taken(words) => {
            ground.world.until_empty().await.with_context(|| ground.logs())?;
            let envelopes = ground.hop.server.envelopes()?;
            let missing: Vec<&&str> = words.iter().filter(|words| !envelopes.contains(**words)).collect();
            ensure!(missing.is_empty(), "{missing:?} in {envelopes}");
            ensure!(ground.home.count() == 0, "a report that is the next server's to write");
        }
        Dsn::Reported(action) => {
            let report = next(&mut ground.home).await.with_context(|| ground.logs())?;
            let report = String::from_utf8(report.body.to_vec())?;
            for line in [
                &format!("Action: {action}"),
                &format!("Final-Recipient: rfc822; {LATER}"),
                "Original-Recipient: rfc822;lisa+x@example.com",
                "Original-Envelope-Id: QQ+314159",
            ] {
                ensure!(report.contains(&format!("\r\n{line}\r\n")), "no {line} in {report}");
            }
            ground.only().await?;
        }
    }
    Ok(())
}

/// Nothing is lost. What was under way may come twice (RFC 1047).
pub(crate) async fn whatever_is_under_way_when_it_is_killed_arrives(start: Start) -> anyhow::Result<()> {
    let mut ground = Ground::new(start).await?;
    let body = large(MIDDLING);
    ground.world.kill(Service::Delivery);
    for person in people() {
        ground.send(&person, &body).await?;
    }
    ground.world.spawn(Service::Delivery)?;
    ground.until_logged("delivered", 5).await?;
    ground.hop.server.power().kill();
    let before = ground.logged("delivered");
    ensure!(before < people().count(), "all had come before it was killed");
    // One more comes while it is away.
    ground.send(LAST, &body).await?;
    ground.until_logged("deferred", 1).await?;
    ground.hop.server.power().up()?;

    eventually(PATIENCE, || ground.world.until_empty()).await.with_context(|| ground.logs())?;
    let (sent, body) = (people().chain([LAST.to_owned()]).collect::<BTreeSet<_>>(), unix(&body));
    ground
        .until(|kept| {
            // What was cut off in the store of a server had no answer.
            let whole = kept.iter().filter(|message| message.body() == body);
            let came: BTreeSet<String> = whole.flat_map(|message| message.recipients.clone()).collect();
            let lost: Vec<&String> = sent.difference(&came).collect();
            ensure!(lost.is_empty(), "lost: {lost:?}: {}", ground.logs());
            Ok(())
        })
        .await
}
