//! Real programs at the other end: Python, which reads what we write, and Postfix as the MX. Those that submit are in
//! `clients.rs`.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, bail, ensure};
use staffetta_cli::sink::Scenario;
use staffetta_testkit::certs::Leaf;
use staffetta_testkit::dovecot::Dovecot;
use staffetta_testkit::ports::Port;
use staffetta_tests::{Client, Peer, Postfix, SOON, Service, World, eventually, next};

async fn world() -> anyhow::Result<World> {
    World::new().await?.user("john@example.org", "summersun").await
}

/// Runs a client to its end without blocking the test's own servers.
async fn run(mut command: Command) -> anyhow::Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

#[tokio::test(flavor = "multi_thread")]
async fn smtplib_submits_and_python_understands_the_report() -> anyhow::Result<()> {
    let mut world = world().await?.start().await?;
    let refuse = staffetta_cli::sink::Stage::Recipient;
    let mut home = world.mx("example.org", Scenario::default()).await?;
    let _mx = world.mx("example.com", Scenario::default().reply(refuse, "550 5.1.1 <nobody>: unknown")).await?;
    let script = r#"
import smtplib, ssl, sys
from email.message import EmailMessage
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
message = EmailMessage()
message["From"], message["To"], message["Subject"] = "john@example.org", "nobody@example.com", "Grüße"
message.set_content("Über allen Gipfeln\n.\nist Ruh\n")
with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as client:
    client.starttls(context=context)
    client.login("john@example.org", "summersun")
    client.send_message(message)
"#;
    let mut python = Command::new("python3");
    python.args(["-c", script, &world.submission().port().to_string()]);
    let output = run(python).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report = next(&mut home).await?;
    let file = world.folder().join("report.eml");
    fs::write(&file, &report.body)?;
    let script = r#"
import sys, email, email.policy
message = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
assert message.get_content_type() == "multipart/report", message.get_content_type()
assert message["Auto-Submitted"] == "auto-replied"
human, status, original = message.iter_parts()
assert human.get_content_type() == "text/plain"
assert status.get_content_type() == "message/delivery-status"
about, recipient = status.get_payload()
assert about["Reporting-MTA"].startswith("dns;"), about.as_string()
assert recipient["Final-Recipient"] == "rfc822; nobody@example.com", recipient.as_string()
assert recipient["Action"] == "failed" and recipient["Status"] == "5.1.1"
assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers")
def walk(part):
    assert not part.defects, part.defects
    if part.is_multipart():
        for child in part.get_payload(): walk(child)
walk(message)
"#;
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(&file);
    let output = run(python).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.until_empty().await
}

/// A Postfix that takes all mail for example.com but nobody's.
fn postfix_mx(port: &Port, leaf: &Leaf) -> anyhow::Result<Postfix> {
    let rules = "myhostname = mx.example.com\nmydestination = example.com\nlocal_recipient_maps =\n\
                 mynetworks = 127.0.0.254/32\nsmtpd_recipient_restrictions = check_recipient_access inline:{{ \
                 nobody@example.com = REJECT unknown here }}, permit_auth_destination, reject\n\
                 smtpd_forbid_bare_newline = yes\nsmtpd_forbid_unauth_pipelining = yes\n";
    Postfix::start(&[(port, String::new())], leaf, rules)
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_as_the_mx_takes_mail_over_starttls() -> anyhow::Result<()> {
    let port = Port::reserve()?;
    let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n", port.number());
    let mut world = World::new().await?.tables(&route).start().await?;
    let leaf = world.certificate("mx.example.com")?;
    let postfix = postfix_mx(&port, &leaf)?;
    let mut home = world.mx("example.org", Scenario::default()).await?;

    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    for n in 0..20 {
        let body = format!("Subject: number {n}\r\n\r\nfor Postfix\r\n..leading dot");
        client.send("john@example.org", &[&format!("u{n}@example.com")], &body).await?;
    }
    client.send("john@example.org", &["nobody@example.com"], "Subject: x\r\n\r\nx").await?;
    let report = String::from_utf8(next(&mut home).await?.body.to_vec())?;
    assert!(report.contains("unknown here"), "{report}");
    world.until_empty().await.with_context(|| postfix.log())?;

    let held = postfix.held()?;
    if held.len() != 20 {
        bail!("{} messages on hold: {}", held.len(), postfix.log());
    }
    for message in &held {
        assert!(message.contains("using TLSv1.3") && message.contains("\n.leading dot"), "{message}");
    }
    Ok(())
}

/// A failed login does not make the next one wait.
const NO_PENALTY: &str = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}";

#[tokio::test(flavor = "multi_thread")]
async fn postfix_as_the_smart_host_takes_a_login_without_seeing_the_password_if_it_can() -> anyhow::Result<()> {
    // Of a hash there is no SCRAM; Dovecot offers it all the same.
    let hashed = "{SHA256}XD3JqG8hnaiYvapXzkcbfAOhuVxX1S9GVOt3fBh1omA=";
    for (mechanisms, password, method) in [
        ("scram-sha-256", "{PLAIN}summersun", "SCRAM-SHA-256"),
        ("plain scram-sha-256", "{PLAIN}summersun", "SCRAM-SHA-256"),
        ("plain scram-sha-256", hashed, "PLAIN"),
    ] {
        let port = Port::reserve()?;
        let route = format!(
            "[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n\
             username = \"john@example.org\"\npassword = \"summersun\"\n",
            port.number()
        );
        let world = World::new().await?.tables(&route).start().await?;
        let leaf = world.certificate("smart.example.net")?;
        let dovecot = Dovecot::start(mechanisms, &[&format!("john@example.org:{password}")], NO_PENALTY)?;
        let rules = format!(
            "myhostname = smart.example.net\nmydestination = example.com\nlocal_recipient_maps =\n\
             mynetworks = 127.0.0.254/32\nsmtpd_tls_auth_only = yes\nsmtpd_sasl_auth_enable = yes\nsmtpd_timeout = 1s\n\
             smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n\
             smtpd_recipient_restrictions = permit_sasl_authenticated, reject\n",
            dovecot.socket().display()
        );
        let postfix = Postfix::start(&[(&port, String::new())], &leaf, &rules)?;
        let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
        client.expect("EHLO client.test", 250).await?;
        for count in [1, 2] {
            client.send("john@example.org", &["lisa@example.com"], "Subject: x\r\n\r\nx").await?;
            world.until_empty().await.with_context(|| postfix.log())?;
            eventually(SOON, || async {
                ensure!(postfix.log().matches("disconnect from localhost").count() == count, "{}", postfix.log());
                Ok(())
            })
            .await?;
        }
        let log = postfix.log();
        let used = log.matches(&format!("sasl_method={method}, sasl_username=john@example.org")).count();
        // The second time it is known whose password is no use to SCRAM.
        let refused = log.matches("SASL SCRAM-SHA-256 authentication failed").count();
        ensure!((used, refused) == (2, usize::from(method == "PLAIN")), "{log}");
        ensure!(postfix.held()?.len() == 2, "{log}");
    }
    Ok(())
}

/// Our own frontend offers SCRAM with channel binding as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_a_relay_of_ours_is_tied_to_its_connection() -> anyhow::Result<()> {
    let smart = World::new().await?.set("auth.mechanisms", "[\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-256\", \"PLAIN\"]");
    let mut smart = smart.scram_user("john@example.org", "summersun").await?.start().await?;
    let mut mx = smart.mx("example.com", Scenario::default()).await?;
    let route = format!(
        "[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://{}\"\n\
         username = \"john@example.org\"\npassword = \"summersun\"\n",
        smart.submission()
    );
    let world = World::new().await?.tables(&route).start().await?;
    let mut client = Client::connect_from("127.0.0.9", world.smtp()).await?;
    client.expect("EHLO client.test", 250).await?;
    client.send("john@example.org", &["lisa@example.com"], "Subject: x\r\n\r\nx").await?;
    world.until_empty().await?;
    next(&mut mx).await?;
    let log = smart.log(Service::Frontend);
    ensure!(log.contains("\"sasl_method\":\"SCRAM-SHA-256-PLUS\""), "{log}");
    Ok(())
}

/// What `staffetta check` says of a route to this server with John's name, and whether it is content.
async fn checked(smart: &World, password: &str, more: &str) -> anyhow::Result<(bool, String)> {
    let route = format!(
        "[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://{}\"\n\
         username = \"john@example.org\"\npassword = \"{password}\"\n{more}",
        smart.submission()
    );
    let world = World::new().await?.user("lisa@example.org", "x").await?.tables(&route).start().await?;
    let mut check = Command::new(staffetta_tests::program("staffetta")?);
    check.args(["check", "--config"]).arg(world.config_file());
    let output = run(check).await?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_logs_in_where_routes_do() -> anyhow::Result<()> {
    let smart = World::new().await?.user("john@example.org", "summersun").await?.start().await?;
    for (password, refused) in [("summersun", false), ("wintermoon", true)] {
        let (content, said) = checked(&smart, password, "").await?;
        ensure!(content != refused, "{said}");
        let wrong = "delivery.route[0].username: is refused by 127.0.0.1[127.0.0.1]: server said: 535 5.7.8 ";
        ensure!(said.contains(wrong) == refused && !said.contains(password), "{said}");
        ensure!(!said.contains("not tried"), "{said}");
    }
    let (content, said) = checked(&smart, "summersun", "tls = \"verify\"\n").await?;
    ensure!(content && said.contains("delivery.route[0].username: the login was not tried: "), "{said}");
    ensure!(said.contains("certificate"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_as_the_next_hop_is_asked_about_strangers_recipients() -> anyhow::Result<()> {
    let port = Port::reserve()?;
    let route = format!("[[delivery.route]]\ndomain = \"example.com\"\nvia = \"smtp://127.0.0.1:{}\"\n", port.number());
    let world = World::new().await?.set("frontend.relay_domains", "[\"example.com\"]").tables(&route).start().await?;
    let leaf = world.certificate("mx.example.com")?;
    let postfix = postfix_mx(&port, &leaf)?;
    let mut stranger = Client::connect(world.smtp()).await?;
    stranger.expect("EHLO stranger.test", 250).await?;
    stranger.expect("MAIL FROM:<victim@example.org>", 250).await?;
    let refused = stranger.command("RCPT TO:<nobody@example.com>").await?.text();
    assert_eq!(
        refused,
        "550 5.1.1 <nobody@example.com>: Recipient address rejected: undeliverable address: host \
         127.0.0.1[127.0.0.1] said: 554 5.7.1 <nobody@example.com>: Recipient address rejected: unknown here (in reply \
         to RCPT TO command)"
    );
    stranger.expect("RCPT TO:<lisa@example.com>", 250).await?;
    stranger.expect("RCPT TO:<lisa@example.com>", 250).await?;
    stranger.expect("RSET", 250).await?;
    // Two questions came, in TLS, each to its orderly end, and no message.
    eventually(SOON, || async {
        let log = postfix.log();
        let ends = log.lines().filter(|line| line.contains("disconnect from") && line.contains("starttls=1"));
        let ends: Vec<&str> = ends.collect();
        ensure!(ends.len() == 2, "{log}");
        ensure!(ends.iter().all(|end| end.contains("quit=1") && !end.contains("data")), "{log}");
        Ok(())
    })
    .await?;
    assert!(!postfix.log().contains("lost connection after RCPT"), "{}", postfix.log());
    assert!(postfix.held()?.is_empty(), "{}", postfix.log());
    Ok(())
}
