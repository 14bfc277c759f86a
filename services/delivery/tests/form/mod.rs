//! Content at the edge: what a server gets that does not offer 8BITMIME, and what becomes of long lines. What arrives is read by
//! Python's `email`, and its signatures by dkimpy.

use std::path::PathBuf;
use std::process::Command;

use staffetta_dkim::{Algorithm, Key, record, record_name};

use crate::world::mx::{Mail, Script, Server};
use crate::world::{Worker, World};
use crate::{BODY, home};

/// Compares the parts of two messages, decoded, and verifies the signature of the second.
const READER: &str = r#"
import dkim, email, email.policy, sys
sent, got = (open(path, "rb").read() for path in sys.argv[1:3])
def parts(raw):
    found = []
    for part in email.message_from_bytes(raw, policy=email.policy.SMTP).walk():
        assert not part.defects, part.defects
        if not part.is_multipart():
            text = (part.get_payload(decode=True) or b"").replace(b"\r\n", b"\n")
            found.append((part.get_content_type(), part.get_filename(), text))
    return found
assert parts(sent) == parts(got), (parts(sent), parts(got))
assert all(len(line) <= 998 for line in got.split(b"\r\n")), "a long line"
assert dkim.DKIM(got).verify(dnsfunc=lambda name, timeout=5: sys.argv[3].encode()), "the signature is broken"
"#;

/// The one that `scripts/setup test` has furnished with dkimpy; else the system's.
fn python() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let caches = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let cache = folder("STAFFETTA_CACHE").or_else(|| Some(caches()?.join("staffetta")));
    let ours = cache.map(|cache| cache.join("python/bin/python")).filter(|path| path.exists());
    ours.unwrap_or_else(|| "python3".into())
}

/// A key of `home.test`.
struct Signed {
    dir: tempfile::TempDir,
    key: Key,
}

impl Signed {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (key, pem) = Key::generate(Algorithm::Rsa)?;
        std::fs::write(dir.path().join("key.pem"), pem.as_bytes())?;
        Ok(Self { dir, key })
    }

    /// A worker that signs, and gives everything to the server.
    fn worker(&self, world: &World, server: &Server) -> anyhow::Result<Worker> {
        let path = self.dir.path().join("key.pem");
        let key = format!("[[delivery.dkim]]\ndomain = \"home.test\"\nselector = \"s\"\nkey = {path:?}\n");
        let route = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n", server.address());
        world.worker("", &(key + &route))
    }

    /// Does it arrive as it was sent, when it is decoded, and with a good signature?
    fn same(&self, sent: &str, mail: &Mail) -> anyhow::Result<()> {
        let [before, after] = ["sent", "got"].map(|name| self.dir.path().join(name));
        std::fs::write(&before, sent)?;
        std::fs::write(&after, &mail.body)?;
        assert_eq!(record_name("s", "home.test"), "s._domainkey.home.test");
        let mut command = Command::new(python());
        command.args(["-c", READER]).args([&before, &after]).arg(record(&self.key)?);
        let output = command.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "is dkimpy there? `scripts/setup test` installs it: {errors} {mail:?}"
        );
        Ok(())
    }
}

const FIELDS: &str = "From: john@home.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n";
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";

/// Messages with octets above 127: a text, one in chunks, and parts within parts.
fn eight_bit() -> [String; 3] {
    let line = "Gr\u{fc}\u{df}e = \u{20ac} \t\r\n.\r\n";
    let nested = format!(
        "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--b\r\n{TEXT}{line}\r\n--b\r\n\
         Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\n{TEXT}{line}\r\n\
         --b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=x\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n"
    );
    [format!("{FIELDS}{TEXT}{line}"), format!("{FIELDS}{TEXT}{}", line.repeat(30_000)), format!("{FIELDS}{nested}")]
}

async fn each(world: &World, messages: &[String]) -> anyhow::Result<()> {
    for (number, message) in messages.iter().enumerate() {
        world.send("john@home.test", &[&format!("r{number}@x.test")], message.as_bytes()).await?;
    }
    world.drained().await
}

fn mail_for(server: &Server, number: usize) -> anyhow::Result<Mail> {
    let recipient = format!("r{number}@x.test");
    let found = server.mails().into_iter().find(|mail| mail.recipients.contains(&recipient));
    found.ok_or_else(|| anyhow::anyhow!("nothing for {recipient}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6152_3_a_server_without_8bitmime_gets_seven_bits_and_a_signature_of_them() -> anyhow::Result<()> {
    let (world, server) = (World::start().await?, Server::start(Script::default()).await?);
    let signed = Signed::new()?;
    let worker = signed.worker(&world, &server)?;
    let messages = eight_bit();
    assert!(messages[1].len() > 512 * 1024, "in chunks");
    each(&world, &messages).await?;
    for (number, message) in messages.iter().enumerate() {
        let mail = mail_for(&server, number)?;
        assert!(mail.body.is_ascii(), "{number}: {mail:?}");
        signed.same(message, &mail)?;
    }
    assert!(!server.commands().iter().any(|line| line.contains("BODY=")), "{:?}", server.commands());
    worker.stop().await
}

/// Whatever the client has declared: here, nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_8bitmime_is_told_and_gets_the_very_octets() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: &["8BITMIME"], ..Script::default() }).await?;
    let signed = Signed::new()?;
    let worker = signed.worker(&world, &server)?;
    let messages = eight_bit();
    each(&world, &messages).await?;
    for (number, message) in messages.iter().enumerate() {
        let mail = mail_for(&server, number)?;
        assert!(mail.body.ends_with(message.as_str()), "{number}");
        signed.same(message, &mail)?;
    }
    let told = server.commands().into_iter().filter(|line| line.starts_with("MAIL") && line.contains(" BODY=8BITMIME"));
    assert_eq!(told.count(), messages.len());
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_seven_bits_comes_back_and_nothing_else_does() -> anyhow::Result<()> {
    let (world, server, inbox) =
        (World::start().await?, Server::start(Script::default()).await?, Server::start(Script::default()).await?);
    let route = format!("[[delivery.route]]\ndomain = \"x.test\"\nvia = \"smtp://{}\"\n", server.address());
    let multipart = "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n\u{e9}\r\n--s\r\n\r\nx\r\n--s--\r\n";
    for (number, (message, why)) in [
        (format!("{FIELDS}{multipart}"), "a signed part has octets above 127"),
        (format!("Subject: \u{e9}\r\n{FIELDS}\r\nx\r\n"), "a header field has octets above 127"),
    ]
    .iter()
    .enumerate()
    {
        let bad = world.send("john@home.test", &["bad@x.test"], message.as_bytes()).await?;
        world.send_beside(bad, "good@x.test").await?;
        let worker = world.worker("", &(home(&inbox) + &route))?;
        let reports = inbox.received(number + 1).await?;
        world.drained().await?;
        worker.stop().await?;
        let report = &reports[number].body;
        assert!(report.contains("Status: 5.6.3\r\n") && report.contains(why), "{report}");
    }
    let mails = server.mails();
    assert!(mails.iter().all(|mail| mail.recipients == ["good@x.test"] && mail.body.as_bytes() == BODY), "{mails:?}");
    assert_eq!((mails.len(), inbox.mails().len()), (2, 2), "each of the others once, and a report each");
    Ok(())
}

/// A small message is not even mentioned to a server that cannot have it. A large one is read once what it says of it is heard,
/// and to the second server of this kind it is not mentioned either.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_seven_bits_goes_to_the_next_host_that_takes_eight_or_bounces() -> anyhow::Result<()> {
    let (world, inbox) = (World::start().await?, Server::start(Script::default()).await?);
    let without = Server::start_on("127.0.0.51:0".parse()?, Script::default()).await?;
    let on = |last: u8| std::net::SocketAddr::from(([127, 0, 0, last], without.port()));
    let neither = Server::start_on(on(52), Script::default()).await?;
    let takes = Server::start_on(on(53), Script { extensions: &["8BITMIME"], ..Script::default() }).await?;
    for (name, server) in [("mx1.test", &without), ("mx2.test", &neither), ("mx3.test", &takes)] {
        world.dns.host(name, server.ip());
    }
    world.dns.mx("x.test", 10, "mx1.test").mx("x.test", 20, "mx2.test").mx("x.test", 30, "mx3.test");
    world.dns.mx("y.test", 10, "mx1.test").mx("y.test", 20, "mx2.test");
    let small = format!("Subject: \u{e9}\r\n{FIELDS}\r\nx\r\n");
    let large = format!("Subject: \u{e9}\r\n{FIELDS}\r\n{}", "a line\r\n".repeat(60_000));
    let mut told = Vec::new();
    for (number, message) in [small, large].iter().enumerate() {
        let worker = world.worker(&format!("port = {}", without.port()), &home(&inbox))?;
        world.send("john@home.test", &["a@x.test", "b@x.test"], message.as_bytes()).await?;
        let mail = takes.received(number + 1).await?.remove(number);
        assert_eq!(
            (&mail.body == message, mail.recipients),
            (true, vec!["a@x.test".to_owned(), "b@x.test".to_owned()])
        );
        world.drained().await?;
        assert_eq!(inbox.mails().len(), number, "nobody is told");

        world.send("john@home.test", &["c@y.test"], message.as_bytes()).await?;
        let report = inbox.received(number + 1).await?.remove(number);
        for line in ["Status: 5.6.3\r\n", "; c@y.test\r\n", "a header field has octets above 127"] {
            assert!(report.body.contains(line), "{line}: {}", report.body);
        }
        world.drained().await?;
        worker.stop().await?;
        let mentioned = |server: &Server| server.commands().iter().filter(|line| line.starts_with("MAIL")).count();
        told.push([mentioned(&without), mentioned(&neither)]);
    }
    assert_eq!(told, [[0, 0], [2, 0]], "small, then large");
    assert!(without.mails().is_empty() && neither.mails().is_empty());
    assert_eq!((takes.mails().len(), inbox.mails().len()), (2, 2), "each once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5322_2_1_1_long_lines_leave_as_quoted_printable_and_signed_as_they_leave() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: &["8BITMIME"], ..Script::default() }).await?;
    let signed = Signed::new()?;
    let worker = signed.worker(&world, &server)?;
    let long = "word ".repeat(1_000);
    let messages = [
        format!("{FIELDS}Content-Type: text/plain; charset=us-ascii\r\n\r\n{long}\r\nshort\r\n"),
        format!("{FIELDS}{TEXT}\u{e9} {long}\r\n{}", "short\r\n".repeat(60_000)),
    ];
    each(&world, &messages).await?;
    for (number, message) in messages.iter().enumerate() {
        signed.same(message, &mail_for(&server, number)?)?;
    }
    // The same for all destinations of a message, which share a transaction.
    world.send("john@home.test", &["a@a.test", "b@b.test", "c@c.test"], messages[0].as_bytes()).await?;
    world.drained().await?;
    let mails = server.mails();
    for mail in mails.iter().filter(|mail| !mail.recipients[0].ends_with("@x.test")) {
        signed.same(&messages[0], mail)?;
    }
    assert_eq!(mails.iter().map(|mail| mail.recipients.len()).sum::<usize>(), 5);
    worker.stop().await
}
