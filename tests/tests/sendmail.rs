//! `sendmail`, as programs of this machine call it, in front of a relay that runs.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, ensure};
use staffetta_cli::sink::{Action, Scenario, Settings, Sink, Stage};
use staffetta_tests::{SOON, Service, World, next, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Calls it as `name` with these arguments, and gives it a text.
fn call(world: &World, name: &str, arguments: &[&str], text: &str) -> anyhow::Result<Output> {
    Ok(begin(world, name, arguments, text)?.wait_with_output()?)
}

/// The same, without a wait for its end.
fn begin(world: &World, name: &str, arguments: &[&str], text: &str) -> anyhow::Result<Child> {
    let link = world.folder().join(name);
    if !link.exists() {
        symlink(program("staffetta")?, &link)?;
    }
    let mut command = Command::new(&link);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("STAFFETTA_CONFIG").env("STAFFETTA_SENDMAIL_SERVER", world.smtp().to_string());
    let mut child = command.spawn()?;
    // One that has found a mistake in its arguments does not read.
    let _ = child.stdin.take().context("no input")?.write_all(text.as_bytes());
    Ok(child)
}

async fn relay() -> anyhow::Result<World> {
    let world = World::new().await?.set("frontend.trusted_networks", "[\"127.0.0.1/32\"]");
    world.set("frontend.size_limit", "\"4KiB\"").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn php_cron_and_a_config_file_send_a_message_that_is_whole() -> anyhow::Result<()> {
    let mut world = relay().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    // As PHP does, with sendmail_path = "sendmail -t -i" and "-fuser@…" for the fifth parameter of mail().
    let text = "To: Lisa <lisa@example.com>\nBcc: anna@example.com\nSubject: x\n\nhello\n.\nend\n";
    let sent = call(&world, "sendmail", &["-t", "-i", "-fuser@example.org"], text)?;
    ensure!(sent.status.code() == Some(0) && sent.stderr.is_empty() && sent.stdout.is_empty(), "{sent:?}");
    let mail = next(&mut mx).await?;
    assert_eq!((mail.sender.as_str(), mail.recipients.len()), ("user@example.org", 2));
    let body = String::from_utf8(mail.body.to_vec())?;
    ensure!(body.ends_with("\r\n\r\nhello\r\n.\r\nend\r\n"), "{body}");
    for field in
        ["(Staffetta sendmail, from userid ", "\r\nFrom: ", "<user@example.org>\r\n", "\r\nDate: ", "\r\nMessage-ID: <"]
    {
        ensure!(body.contains(field), "{field}: {body}");
    }
    ensure!(!body.contains("Bcc") && !body.contains("anna"), "{body}");

    // As cron does; the text ends with the dot, and the relay is the one of the file.
    let file = world.config_file();
    let file = file.to_str().context("a path")?;
    let arguments = ["sendmail", "-FCronDaemon", "-odi", "-oem", "-f", "root", "-C", file, "-v", "lisa@example.com"];
    let mut cron = Command::new(program("staffetta")?);
    cron.env_remove("STAFFETTA_SENDMAIL_SERVER")
        .env("STAFFETTA_CONFIG", "/nowhere")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut cron = cron.spawn()?;
    cron.stdin.take().context("no input")?.write_all(b"From: root (Cron Daemon)\nSubject: job\n\nout\n.\nlost\n")?;
    let sent = cron.wait_with_output()?;
    let said = String::from_utf8_lossy(&sent.stdout);
    ensure!(
        sent.status.code() == Some(0) && said.contains("lisa@example.com: ") && said.contains("queued as"),
        "{sent:?}"
    );
    let mail = next(&mut mx).await?;
    assert_eq!(
        (mail.sender.as_str(), mail.recipients.as_slice()),
        ("root@mail.example.org", &["lisa@example.com".to_owned()][..])
    );
    let body = String::from_utf8(mail.body.to_vec())?;
    ensure!(body.contains("\r\nFrom: root (Cron Daemon)\r\n") && body.ends_with("\r\n\r\nout\r\n"), "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_told_by_exit_codes() -> anyhow::Result<()> {
    let mut world = relay().await?;
    // What is queued stays there.
    world.kill(Service::Delivery);
    world.dns.mx("example.com", 10, "mx.example.com").servfail("broken.test");
    let text = "Subject: x\n\nx\n";
    let large = format!("{text}{}", "x".repeat(3_900) + "\n");
    for (arguments, text, code, said) in [
        (&["lisa@example.com"][..], text, 0, ""),
        (&[], text, 64, "no recipient"),
        (&["-t"], text, 64, "no recipient"),
        (&["-t"], "To: a b c\n\nx\n", 65, "cannot be understood: To: a b c"),
        (&["-bs"], text, 64, "-bs is not available"),
        (&["-W", "lisa@example.com"], text, 64, "there is no option -W"),
        (&["a b@example.com"], text, 65, "is no address"),
        (&["lisa@example.com"], "Subject: x\n\na\rb\n", 65, "bare <CR>"),
        (&["lisa@nothing.test"], text, 67, "lisa@nothing.test: "),
        (&["lisa@example.com", "lisa@nothing.test"], text, 67, "Domain not found"),
        (&["lisa@broken.test"], text, 75, "450 4.4.3"),
        // What is added makes it too large for the relay, which says it before anything is sent.
        (&["lisa@example.com"], &large, 69, "exceeds size limit 4096"),
        (&["--server", "127.0.0.1:1", "lisa@example.com"], text, 75, "cannot connect to 127.0.0.1:1"),
        (&["--server", "nowhere", "lisa@example.com"], text, 64, "is not host:port"),
        (&["-C", "/nowhere", "lisa@example.com"], text, 74, "/nowhere"),
    ] {
        let output = call(&world, "sendmail", arguments, text)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && complaint.contains(said), "{arguments:?}: {output:?}");
    }
    // Those who were not refused have the message.
    assert_eq!(world.queue().await?.counts().await?.messages, 2);
    let listed = call(&world, "mailq", &["-C", world.config_file().to_str().context("a path")?], "")?;
    ensure!(String::from_utf8_lossy(&listed.stdout).matches("lisa@example.com").count() == 2, "{listed:?}");
    let named = Command::new(world.folder().join("mailq")).env("STAFFETTA_CONFIG", world.config_file()).output()?;
    assert_eq!(named.stdout, listed.stdout, "the environment names the file, too");
    world.stop(Service::Frontend)?;
    let away = call(&world, "sendmail", &["lisa@example.com"], text)?;
    ensure!(away.status.code() == Some(75), "{away:?}");
    fs::remove_file(world.folder().join("mailq"))?;
    Ok(())
}

/// Each way in which a relay can fail, at each step: the caller hears of it, by the code that says whether to try again.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_relay_does_instead_nothing_is_lost_in_silence() -> anyhow::Result<()> {
    let world = relay().await?;
    let drop = |stage| Scenario::default().act(stage, Action::Drop);
    let reply = |stage, text: &str| Scenario::default().reply(stage, text);
    for (scenario, code) in [
        (drop(Stage::Connect), 75),
        (drop(Stage::Mail), 75),
        (drop(Stage::Recipient), 75),
        (drop(Stage::Data), 75),
        // Whether it is there nobody knows; twice is better than not at all.
        (drop(Stage::End), 75),
        (reply(Stage::Connect, "421 4.3.2 Service not available"), 75),
        (reply(Stage::Connect, "554 5.3.2 No SMTP service here"), 69),
        (reply(Stage::Mail, "451 4.3.0 Try again"), 75),
        (reply(Stage::Mail, "550 5.7.1 Not you"), 69),
        (reply(Stage::Recipient, "452 4.2.2 Mailbox full"), 75),
        (reply(Stage::Recipient, "550 5.1.1 No such user"), 67),
        (reply(Stage::Data, "451 4.3.0 Try again"), 75),
        (reply(Stage::Data, "554 5.5.1 No valid recipients"), 69),
        (reply(Stage::End, "452 4.3.1 Insufficient system storage"), 75),
        (reply(Stage::End, "554 5.7.1 Spam"), 69),
        (reply(Stage::End, "550 5.6.0 Lone CR or LF"), 65),
    ] {
        let what = format!("{:?}", scenario.rules);
        let sink = Sink::start("127.0.0.1:0".parse()?, Settings { scenario, ..Settings::default() }).await?;
        let server = sink.address().to_string();
        let sent = tokio::task::block_in_place(|| {
            call(&world, "sendmail", &["--server", &server, "lisa@example.com"], "Subject: x\n\nx\n")
        })?;
        ensure!(sent.status.code() == Some(code) && !sent.stderr.is_empty(), "{what}: {sent:?}");
        ensure!(sink.count() == 0, "{what}: a message was taken");
    }
    Ok(())
}

/// Before the content and behind it: what nobody was told of is left to the caller to try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_frontend_that_dies_in_the_middle_is_a_reason_to_try_again() -> anyhow::Result<()> {
    let mut world = relay().await?;
    let mut mx = world.mx("example.com", Scenario::default()).await?;
    // The message is in the queue when its `250` is said, so it comes twice: that is better than not at all.
    for (word, copies) in [("354 ", 1), ("250 2.0.0 Ok: queued", 2)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?.to_string();
        let caller = begin(&world, "sendmail", &["--server", &server, "lisa@example.com"], "Subject: x\n\nx\n")?;
        let open = until_said(&listener, world.smtp(), word).await?;
        world.kill(Service::Frontend);
        drop(open);
        let sent = tokio::task::block_in_place(|| caller.wait_with_output())?;
        let complaint = String::from_utf8_lossy(&sent.stderr);
        ensure!(sent.status.code() == Some(75) && complaint.contains("lisa@example.com"), "{word}: {sent:?}");

        world.spawn(Service::Frontend)?;
        world.until_ready(Service::Frontend).await?;
        let again = || call(&world, "sendmail", &["lisa@example.com"], "Subject: x\n\nx\n");
        let sent = tokio::task::block_in_place(again)?;
        ensure!(sent.status.code() == Some(0), "{word}: {sent:?}");
        for _ in 0..copies {
            next(&mut mx).await?;
        }
    }
    world.until_empty().await
}

/// Stands between a client and a relay until the relay says this, which the client does not hear. The connections stay as they are.
async fn until_said(listener: &TcpListener, relay: SocketAddr, word: &str) -> anyhow::Result<[TcpStream; 2]> {
    let conversation = async {
        let (mut client, _) = listener.accept().await?;
        let mut server = TcpStream::connect(relay).await?;
        let (mut asked, mut answered) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                length = client.read(&mut asked) => server.write_all(&asked[..length?]).await?,
                length = server.read(&mut answered) => {
                    let answer = &answered[..length?];
                    if String::from_utf8_lossy(answer).contains(word) {
                        return Ok([client, server]);
                    }
                    ensure!(!answer.is_empty(), "the relay hung up before it said {word}");
                    client.write_all(answer).await?;
                }
            }
        }
    };
    timeout(SOON, conversation).await.context("the relay does not say it")?
}
