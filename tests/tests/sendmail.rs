//! `sendmail`, as programs of this machine call it, in front of a relay that runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use staffetta_cli::sink::Scenario;
use staffetta_tests::{Service, World, next, program};

/// Calls it as `name` with these arguments, and gives it a text.
fn call(world: &World, name: &str, arguments: &[&str], text: &str) -> anyhow::Result<Output> {
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
    Ok(child.wait_with_output()?)
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
    cron.args(arguments).env_remove("STAFFETTA_SENDMAIL_SERVER").stdin(Stdio::piped()).stdout(Stdio::piped());
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
    world.stop(Service::Frontend)?;
    let away = call(&world, "sendmail", &["lisa@example.com"], text)?;
    ensure!(away.status.code() == Some(75), "{away:?}");
    fs::remove_file(world.folder().join("mailq"))?;
    Ok(())
}
