//! DKIM: what arrives has the signatures that it should have, and they verify.

use std::net::IpAddr;

use staffetta_dkim::{Algorithm, Key, record, record_name};
use staffetta_mail::{Address, Envelope, Recipient, ReversePath};
use staffetta_queue::{Accept, Origin};
use staffetta_testkit::dkim::verify;

use crate::world::World;
use crate::world::mx::{Mail, Script, Server};

/// Key files, and the records that belong to them.
pub(crate) struct Keys {
    dir: tempfile::TempDir,
    tables: String,
    records: Vec<(String, String)>,
}

impl Keys {
    /// Of `domain/selector`; RSA where the selector begins with `r`.
    pub(crate) fn new(names: &[&str]) -> anyhow::Result<Self> {
        let mut keys = Self { dir: tempfile::tempdir()?, tables: String::new(), records: Vec::new() };
        for (number, name) in names.iter().enumerate() {
            let Some((domain, selector)) = name.split_once('/') else { anyhow::bail!("{name}") };
            let algorithm = if selector.starts_with('r') { Algorithm::Rsa } else { Algorithm::Ed25519 };
            let (key, pem) = Key::generate(algorithm)?;
            let path = keys.dir.path().join(format!("{number}.pem"));
            std::fs::write(&path, pem.as_bytes())?;
            keys.tables += &format!(
                "[[delivery.dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = \"{}\"\n",
                path.display()
            );
            keys.records.push((record_name(selector, domain), record(&key)?));
        }
        Ok(keys)
    }

    /// For the configuration.
    pub(crate) fn tables(&self) -> &str {
        &self.tables
    }

    /// Who signed, if all signatures verify.
    pub(crate) fn signers(&self, mail: &Mail) -> anyhow::Result<Vec<String>> {
        let record = |name: &str| self.records.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone());
        let found = verify(mail.body.as_bytes(), record).map_err(|reason| anyhow::anyhow!("{reason}: {mail:?}"))?;
        Ok(found.iter().map(|signature| format!("{}/{}", signature.domain, signature.selector)).collect())
    }
}

/// A route for everything to the server, and the keys behind it.
fn routes(server: &Server, keys: &Keys) -> String {
    format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n{}", server.address(), keys.tables)
}

/// The message that the recipient got.
fn mail_for(server: &Server, recipient: &str) -> anyhow::Result<Mail> {
    let found = server.mails().into_iter().find(|mail| mail.recipients.iter().any(|to| to == recipient));
    found.ok_or_else(|| anyhow::anyhow!("nothing for {recipient}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_of_the_authors_domain_signs_what_arrives() -> anyhow::Result<()> {
    let world = World::start().await?;
    let server = Server::start(Script { extensions: &["8BITMIME"], ..Script::default() }).await?;
    let keys = Keys::new(&["a.test/r1", "a.test/e1", "news.a.test/e2"])?;
    let worker = world.worker("", &routes(&server, &keys))?;
    let received = "Received: from x\r\n\tby y\r\n";
    let (a, news, nobody) = (&["a.test/r1", "a.test/e1"][..], &["news.a.test/e2"][..], &[][..]);
    let long =
        format!("{received}From: j@a.test\r\nTo: x@y.test\r\n\r\n{}", "A line  of text. \r\n.\r\n\r\n".repeat(150_000));
    assert!(long.len() > 3 * 1024 * 1024, "in many chunks");
    let rows = [
        (format!("{received}From: John <j@A.test>\r\nSubject: x\r\n\r\nHello\r\n.dot\r\n"), a),
        (format!("{received}From: \"b, c\"\r\n <j@mail.a.test>\r\n\r\n"), a),
        (format!("{received}From: j@a.test\r\nTo: x@y.test\r\nTo: z@y.test\r\nSubject: \r\n\r\n \r\n\r\n\r\n"), a),
        (format!("{received}From: j@a.test\r\nSubject: Gr\u{fc}\u{df}e\r\n\r\n\u{e9} \u{e9} \t\r\n \r\nend"), a),
        (format!("{received}From: j@a.test\r\n"), a),
        ("DKIM-Signature: v=1; d=x.test; b=AA\r\nFrom: j@a.test\r\n\r\nx\r\n".to_owned(), a),
        (format!("{received}From: j@news.a.test\r\n\r\nx\r\n"), news),
        (format!("{received}From: j@b.test\r\n\r\nx\r\n"), nobody),
        (long, a),
    ];
    for (number, (message, _)) in rows.iter().enumerate() {
        world.send("john@home.test", &[&format!("r{number}@x.test")], message.as_bytes()).await?;
    }
    world.drained().await?;
    for (number, (message, expected)) in rows.iter().enumerate() {
        let mut mail = mail_for(&server, &format!("r{number}@x.test"))?;
        let end = if message.ends_with("\r\n") { "" } else { "\r\n" };
        assert!(mail.body.ends_with(&format!("{message}{end}")), "{number}: the message itself was changed");
        if let Some((ours, rest)) = mail.body.split_once("DKIM-Signature: v=1; d=x.test") {
            // The client's own is no concern of ours.
            mail.body = ours.to_owned() + "X-Other: v=1; d=x.test" + rest;
        }
        assert_eq!(keys.signers(&mail)?, *expected, "{number}");
        let added = mail.body.len() - message.len() - end.len();
        assert_eq!(added == 0, expected.is_empty(), "{number}");
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_in_front_of_a_body_in_chunks_are_signed_with_it() -> anyhow::Result<()> {
    let (world, server) = (World::start().await?, Server::start(Script::default()).await?);
    let keys = Keys::new(&["a.test/e1", "home.test/e1"])?;
    let worker = world.worker("", &routes(&server, &keys))?;
    let text = "text\r\n".repeat(100_000);
    for (recipient, prefix, body) in [
        ("late@x.test", "Received: x\r\nFrom: j@a.test\r\n", format!("Subject: x\r\n\r\n{text}")),
        ("early@x.test", "Received: x\r\n", format!("From: j@a.test\r\n\r\n{text}")),
        ("sender@x.test", "Received: x\r\n", format!("Subject: x\r\n\r\n{text}")),
    ] {
        world.send_behind(prefix.as_bytes(), &[recipient], body.as_bytes()).await?;
    }
    world.drained().await?;
    assert_eq!(keys.signers(&mail_for(&server, "late@x.test")?)?, ["a.test/e1"]);
    assert_eq!(keys.signers(&mail_for(&server, "early@x.test")?)?, ["a.test/e1"]);
    assert_eq!(keys.signers(&mail_for(&server, "sender@x.test")?)?, ["home.test/e1"], "no author: the envelope sender");
    worker.stop().await
}

/// A message brought by a client, or by somebody who logged in.
async fn bring(world: &World, recipient: &str, from: &str, client: &str, login: Option<&str>) -> anyhow::Result<()> {
    let mut incoming = world.queue.receive()?;
    incoming.write(format!("Received: x\r\nFrom: {from}\r\n\r\nx\r\n").as_bytes()).await?;
    let sender = ReversePath::Address(Address::parse("tenant@a.test")?);
    let envelope = Envelope::new(sender, vec![Recipient::new(Address::parse(recipient)?)]);
    let client: Option<IpAddr> = Some(client.parse()?);
    let origin = Origin {
        listener: "test".to_owned(),
        client,
        helo: "test".to_owned(),
        login: login.map(str::to_owned),
        span: None,
    };
    incoming.commit(Accept { envelope, origin, lifetime: crate::PATIENCE }, b"").await?;
    Ok(())
}

/// Else anybody could have his mail signed by naming one of our users as its author, and a login that of its neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_the_signature_of_somebody_else() -> anyhow::Result<()> {
    let (world, server) = (World::start().await?, Server::start(Script::default()).await?);
    let keys = Keys::new(&["a.test/e1", "b.test/e1"])?;
    let worker = world.worker("", &routes(&server, &keys))?;
    let login = Some("tenant@a.test");
    for (recipient, from, client, login) in [
        ("trusted@x.test", "b@b.test", "127.0.0.9", None),
        ("stranger@x.test", "b@b.test", "198.51.100.9", None),
        ("stranger2@x.test", "tenant@a.test", "198.51.100.9", None),
        ("own@x.test", "tenant@a.test", "198.51.100.9", login),
        ("neighbour@x.test", "b@b.test", "198.51.100.9", login),
    ] {
        bring(&world, recipient, from, client, login).await?;
    }
    world.drained().await?;
    for (recipient, expected) in [
        ("trusted@x.test", &["b.test/e1"][..]),
        ("stranger@x.test", &[]),
        ("stranger2@x.test", &[]),
        ("own@x.test", &["a.test/e1"]),
        ("neighbour@x.test", &["a.test/e1"]),
    ] {
        assert_eq!(keys.signers(&mail_for(&server, recipient)?)?, expected, "{recipient}");
    }
    worker.stop().await
}

/// What is told to senders is our own mail, and signed as such.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_signed_for_our_own_name() -> anyhow::Result<()> {
    let replies = vec![("RCPT TO:<gone@", "550 5.1.1 no such user")];
    let (world, server) = (World::start().await?, Server::start(Script { replies, ..Script::default() }).await?);
    let keys = Keys::new(&["relay.test/r1"])?;
    let worker = world.worker("", &routes(&server, &keys))?;
    world.send("john@home.test", &["gone@x.test"], crate::BODY).await?;
    server.received(1).await?;
    world.drained().await?;
    let report = mail_for(&server, "john@home.test")?;
    assert!(report.body.contains("\r\nFrom: MAILER-DAEMON@relay.test "), "{report:?}");
    assert_eq!(keys.signers(&report)?, ["relay.test/r1"]);
    worker.stop().await
}

/// By LMTP as well, and again when the first try failed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_is_signed_again() -> anyhow::Result<()> {
    let script = Script { lmtp: true, dots: vec!["451 4.3.0 later"], ..Script::default() };
    let (world, server) = (World::start().await?, Server::start(script).await?);
    let keys = Keys::new(&["home.test/e1"])?;
    let via = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"lmtp://{}\"\n", server.address());
    let worker = world.worker("", &(via + &keys.tables))?;
    world.send("john@home.test", &["a@x.test"], crate::BODY).await?;
    world.drained().await?;
    let mails = server.mails();
    assert!(!mails.is_empty());
    for mail in mails {
        assert_eq!(keys.signers(&mail)?, ["home.test/e1"]);
    }
    worker.stop().await
}
