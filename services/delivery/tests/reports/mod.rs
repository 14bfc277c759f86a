//! Reports about internationalised mail (RFC 6533), read by Python's `email`.

use std::process::Command;

use staffetta_mail::{Envelope, Notify, Recipient, Return, ReversePath};
use staffetta_queue::{Accept, Origin};

use crate::home;
use crate::world::mx::{Mail, Script, Server};
use crate::world::{PATIENCE, World};

/// Takes a report apart and prints what it says.
const READER: &str = r#"
import email, email.policy, quopri, sys
def parsed(raw):
    message = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert not message.defects, message.defects
    return message
def inner(part):
    raw = part.get_payload(0).as_bytes()
    return quopri.decodestring(raw) if part["Content-Transfer-Encoding"] == "quoted-printable" else raw
report = parsed(open(sys.argv[1], "rb").read())
words, status, returned = report.get_payload()
about, whom = (parsed(group + b"\r\n\r\n") for group in inner(status).strip().split(b"\r\n\r\n"))
original = parsed(inner(returned))
sys.stdout.reconfigure(encoding="utf-8")
print("report:", report.get_content_type(), report.get_param("report-type"))
print("status:", status.get_content_type())
print("returned:", returned.get_content_type())
print("words:", " ".join(words.get_content().split()))
print("subject:", original["Subject"])
print("body:", original.get_payload().strip())
for name, value in about.items() + whom.items():
    print(f"{name}: {value}")
"#;

/// What Python understands of a report.
fn read(report: &Mail) -> anyhow::Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &report.body)?;
    let output = Command::new("python3").args(["-c", READER]).arg(file.path()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors} {}", report.body);
    Ok(String::from_utf8(output.stdout)?)
}

/// A message with a Subject in UTF-8 to `ü+x@y.test`.
async fn send(world: &World, sender: &str, change: impl FnOnce(&mut Envelope)) -> anyhow::Result<()> {
    let mut incoming = world.queue.receive()?;
    incoming.write("Subject: Gr\u{fc}\u{df}e\r\n\r\nHello\r\n".as_bytes()).await?;
    let to = Recipient {
        notify: Some(Notify { failure: true, ..Notify::default() }),
        orcpt: Some("utf-8;\\x{43F}+2By@x.test".to_owned()),
        ..Recipient::new("\u{fc}+x@y.test".parse()?)
    };
    let mut envelope = Envelope::new(ReversePath::Address(sender.parse()?), vec![to]);
    (envelope.smtputf8, envelope.envid) = (true, Some("one+20two".to_owned()));
    change(&mut envelope);
    let origin = Origin { listener: "test".to_owned(), client: None, helo: "test".to_owned(), login: None, span: None };
    incoming.commit(Accept { envelope, origin, lifetime: PATIENCE * 100 }, b"").await?;
    Ok(())
}

/// A server that takes international mail and knows nobody.
fn unknowing() -> Script {
    Script {
        extensions: &["SMTPUTF8", "8BITMIME", "DSN"],
        replies: vec![("RCPT", "550 5.1.1 \u{43d}\u{435}\u{442}"); 8],
        ..Script::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6533_an_ascii_sender_gets_a_report_that_any_server_takes() -> anyhow::Result<()> {
    let world = World::start().await?;
    // The way back offers neither SMTPUTF8 nor 8BITMIME.
    let (server, inbox) = (Server::start(unknowing()).await?, Server::start(Script::default()).await?);
    world.dns.mx("y.test", 10, "mx.test").host("mx.test", server.ip());
    let worker = world.worker(&format!("port = {}", server.port()), &home(&inbox))?;
    for (number, ret) in [None, Some(Return::Headers)].into_iter().enumerate() {
        send(&world, "john@home.test", |envelope| envelope.ret = ret).await?;
        let report = &inbox.received(number + 1).await?[number];
        assert!(report.body.is_ascii(), "{}", report.body);
        let said = read(report)?;
        for line in [
            "report: multipart/report global-delivery-status\n",
            "status: message/global-delivery-status\n",
            "<\\x{FC}\\x{2B}x@y.test>: host mx.test",
            " 550 5.1.1 \\x{43D}\\x{435}\\x{442} ",
            "Original-Envelope-Id: one two\n",
            "Original-Recipient: utf-8;\\x{43F}\\x{2B}y@x.test\n",
            "Final-Recipient: utf-8; \\x{FC}\\x{2B}x@y.test\n",
            "Diagnostic-Code: smtp; 550 5.1.1 \\x{43D}\\x{435}\\x{442}\n",
            "subject: Gr\u{fc}\u{df}e\n",
            if ret.is_none() { "returned: message/global\n" } else { "returned: message/global-headers\n" },
            if ret.is_none() { "body: Hello\n" } else { "body: \n" },
        ] {
            assert!(said.contains(line), "{line:?} is not in {said}");
        }
    }
    world.drained().await?;
    assert!(!inbox.commands().iter().any(|line| line.contains("SMTPUTF8")), "{:?}", inbox.commands());
    let asked = server.commands();
    assert!(asked.iter().any(|line| line.ends_with(" NOTIFY=FAILURE ORCPT=utf-8;\\x{43F}+2By@x.test")), "{asked:?}");
    assert!(asked.iter().any(|line| line.contains(" RET=HDRS ENVID=one+20two")), "{asked:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc6533_a_sender_in_utf_8_gets_a_report_in_utf_8() -> anyhow::Result<()> {
    let world = World::start().await?;
    let script = Script { extensions: &["SMTPUTF8", "8BITMIME"], ..Script::default() };
    let (server, inbox) = (Server::start(unknowing()).await?, Server::start(script).await?);
    world.dns.mx("y.test", 10, "mx.test").host("mx.test", server.ip());
    let worker = world.worker(&format!("port = {}", server.port()), &home(&inbox))?;
    send(&world, "j\u{fc}rgen@home.test", |_| {}).await?;
    let said = read(&inbox.received(1).await?[0])?;
    for line in [
        "report: multipart/report global-delivery-status\n",
        "returned: message/global\n",
        "<\u{fc}\\x{2B}x@y.test>: host mx.test",
        " 550 5.1.1 \u{43d}\u{435}\u{442} ",
        "Original-Recipient: utf-8;\u{43f}\\x{2B}y@x.test\n",
        "Final-Recipient: utf-8; \u{fc}\\x{2B}x@y.test\n",
        "X-Staffetta-Sender: utf-8; j\u{fc}rgen@home.test\n",
        "Diagnostic-Code: smtp; 550 5.1.1 \\x{43D}\\x{435}\\x{442}\n",
        "subject: Gr\u{fc}\u{df}e\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    world.drained().await?;
    assert!(inbox.commands().iter().any(|line| line.starts_with("MAIL FROM:<>") && line.contains(" SMTPUTF8")));
    worker.stop().await
}
