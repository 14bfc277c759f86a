//! Real programs and libraries that submit mail, on 587 and on 465, with the certificate checked.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use staffetta_cli::sink::{Received, Scenario, Sink};
use staffetta_testkit::tokens::{Signer, jwks};
use staffetta_tests::{Service, World, next};

/// With line ends as editors write them, a line that must be stuffed, and a field that must not leave.
const MESSAGE: &str = "\
From: John <john@example.org>
To: Lisa <lisa@example.com>
Bcc: lisa@example.com
Subject: hello

first
.dot
last
";

/// How a client comes to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    StartTls,
    Implicit,
}

struct Site {
    world: World,
    mx: Sink,
}

impl Site {
    async fn new() -> anyhow::Result<Self> {
        Self::with(World::new().await?).await
    }

    async fn with(world: World) -> anyhow::Result<Self> {
        let mut world = world.user("john@example.org", "summersun").await?.start().await?;
        let mx = world.mx("example.com", Scenario::default()).await?;
        fs::write(world.folder().join("message"), MESSAGE)?;
        Ok(Self { world, mx })
    }

    fn port(&self, way: Way) -> String {
        let address = if way == Way::StartTls { self.world.submission() } else { self.world.submissions() };
        address.port().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.world.folder().join(name).display().to_string()
    }

    /// `--name=/the/authority.pem`, or whatever goes in front.
    fn ca(&self, front: &str) -> String {
        format!("{front}{}", self.world.ca().display())
    }

    /// A client both ways; what arrives is the message.
    async fn submits(&mut self, command: fn(&Self, Way) -> Vec<String>) -> anyhow::Result<()> {
        for way in [Way::StartTls, Way::Implicit] {
            let said = self.run(command(self, way)).await?;
            let output = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            ensure!(said.status.success(), "{way:?}: {output}");
            arrived(&next(&mut self.mx).await?)?;
        }
        Ok(())
    }

    /// Runs it to its end without blocking the test's own servers; the message is its standard input.
    async fn run(&self, words: Vec<String>) -> anyhow::Result<Output> {
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("HOME", self.world.folder()).current_dir(self.world.folder());
        command.stdin(Stdio::from(fs::File::open(self.world.folder().join("message"))?));
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }
}

fn arrived(message: &Received) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&message.body);
    ensure!(message.recipients == ["lisa@example.com"], "{:?}", message.recipients);
    ensure!(text.contains("\r\nSubject: hello\r\n") && text.contains("first\r\n.dot\r\nlast\r\n"), "{text}");
    ensure!(!text.contains("Bcc:"), "{text}");
    ensure!(text.matches('\n').count() == text.matches("\r\n").count(), "{text:?}");
    Ok(())
}

fn words(fixed: &[&str], others: &[String]) -> Vec<String> {
    fixed.iter().map(|word| (*word).to_owned()).chain(others.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_submits() -> anyhow::Result<()> {
    Site::new()
        .await?
        .submits(|site, way| {
            let (tls, mechanism) =
                if way == Way::StartTls { ("--tls", "PLAIN") } else { ("--tls-on-connect", "LOGIN") };
            let server = format!("localhost:{}", site.port(way));
            let data = format!("@{}", site.file("message"));
            words(
                &["swaks", "--from", "john@example.org", "--to", "lisa@example.com", "--auth", mechanism, tls],
                &words(
                    &["--auth-user", "john@example.org", "--auth-password", "summersun", "--tls-verify"],
                    &["--tls-ca-path".into(), site.ca(""), "--server".into(), server, "--data".into(), data],
                ),
            )
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_submits() -> anyhow::Result<()> {
    Site::new()
        .await?
        .submits(|site, way| {
            let scheme = if way == Way::StartTls { "smtp" } else { "smtps" };
            let url = format!("{scheme}://localhost:{}", site.port(way));
            words(
                &["curl", "--silent", "--show-error", "--ssl-reqd", "--mail-from", "john@example.org", "--mail-rcpt"],
                &words(
                    &["lisa@example.com", "--user", "john@example.org:summersun", "--upload-file", "message"],
                    &["--cacert".into(), site.ca(""), "--url".into(), url],
                ),
            )
        })
        .await
}

/// Claims that last for an hour, or ended an hour ago.
fn claims(good: bool) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let exp = if good { now + 3600 } else { now - 3600 };
    Ok(format!(r#"{{"iss":"https://id.example.org","aud":"smtp","exp":{exp},"email":"john@example.org"}}"#))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_submits_with_a_token() -> anyhow::Result<()> {
    // It takes the first that it knows of those that are offered.
    with_tokens("OAUTHBEARER", "< 535 5.7.8 ").await?;
    // Here it hangs up when it is told why.
    with_tokens("XOAUTH2", "< 334 ey").await
}

/// A good one, and one that has expired.
async fn with_tokens(mechanism: &str, refusal: &str) -> anyhow::Result<()> {
    let signer = Signer::ec("k1")?;
    let world = World::new().await?;
    let keys = world.folder().join("jwks.json");
    fs::write(&keys, jwks(&[&signer]))?;
    let world = world
        .set("auth.mechanisms", format!("[\"PLAIN\", {mechanism:?}]"))
        .set("auth.oauth.keys", format!("{:?}", keys.display().to_string()))
        .set("auth.oauth.issuer", "\"https://id.example.org\"")
        .set("auth.oauth.audience", "[\"smtp\"]")
        .set("log.level", "\"trace\"");
    let mut site = Site::with(world).await?;
    for (good, said) in [(true, "< 235 2.7.0 "), (false, refusal)] {
        let token = signer.token(&claims(good)?)?;
        let output = site.run(with_token(&site, &token)).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() == good && text.contains(said), "{mechanism}: {text}");
        ensure!(text.contains(&format!("> AUTH {mechanism}")), "{mechanism}: {text}");
        if good {
            arrived(&next(&mut site.mx).await?)?;
        }
        for service in [Service::Auth, Service::Frontend] {
            ensure!(!site.world.log(service).contains(&token), "{service:?} shows a token");
        }
    }
    ensure!(site.world.log(Service::Auth).contains("the token has expired"), "why it was refused is in the log");
    Ok(())
}

fn with_token(site: &Site, token: &str) -> Vec<String> {
    let url = format!("smtp://localhost:{}", site.port(Way::StartTls));
    words(
        &["curl", "--silent", "--verbose", "--ssl-reqd", "--mail-from", "john@example.org", "--mail-rcpt"],
        &words(
            &["lisa@example.com", "--user", "john@example.org", "--upload-file", "message", "--oauth2-bearer", token],
            &["--cacert".into(), site.ca(""), "--url".into(), url],
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn msmtp_submits() -> anyhow::Result<()> {
    Site::new()
        .await?
        .submits(|site, way| {
            let starttls = if way == Way::StartTls { "--tls-starttls=on" } else { "--tls-starttls=off" };
            words(
                &["msmtp", "--host=localhost", "--tls=on", starttls, "--auth=on", "--user=john@example.org"],
                &words(
                    &["--passwordeval=echo summersun", "--from=john@example.org"],
                    &[site.ca("--tls-trust-file="), format!("--port={}", site.port(way)), "lisa@example.com".into()],
                ),
            )
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn s_nail_submits() -> anyhow::Result<()> {
    Site::new()
        .await?
        .submits(|site, way| {
            let scheme = if way == Way::StartTls { "smtp" } else { "smtps" };
            let starttls = if way == Way::StartTls { "smtp-use-starttls" } else { "nosmtp-use-starttls" };
            let mta = format!("mta={scheme}://john%40example.org:summersun@localhost:{}", site.port(way));
            words(
                &[
                    "s-nail",
                    "-n",
                    "-t",
                    "-S",
                    "v15-compat=yes",
                    "-S",
                    "smtp-auth=login",
                    "-S",
                    "sendwait",
                    "-S",
                    "nosave",
                ],
                &words(
                    &["-S", starttls, "-S", "tls-verify=strict", "-S", "from=john@example.org", "-S"],
                    &[site.ca("tls-ca-file="), "-S".into(), mta],
                ),
            )
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_submits() -> anyhow::Result<()> {
    const SCRIPT: &str = r#"
import email, email.policy, smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3])
message = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP)
way, port = sys.argv[1], int(sys.argv[2])
client = smtplib.SMTP_SSL("localhost", port, context=context) if way == "Implicit" else smtplib.SMTP("localhost", port)
with client:
    if way == "StartTls": client.starttls(context=context)
    client.login("john@example.org", "summersun")
    refused = client.sendmail("john@example.org", ["lisa@example.com"], message.as_bytes(), ["BODY=8BITMIME"], ["NOTIFY=FAILURE"])
    assert not refused, refused
    assert client.noop()[0] == 250 and client.rset()[0] == 250
"#;
    let python =
        |site: &Site, way| words(&["python3", "-c", SCRIPT], &[format!("{way:?}"), site.port(way), site.ca("")]);
    Site::new().await?.submits(python).await
}

#[tokio::test(flavor = "multi_thread")]
async fn perls_net_smtp_submits() -> anyhow::Result<()> {
    const SCRIPT: &str = r#"
use strict; use Net::SMTP;
my ($way, $port, $ca) = @ARGV;
my %tls = (SSL_ca_file => $ca, SSL_verify_mode => 1);
my $client = Net::SMTP->new("localhost", Port => $port, SSL => $way eq "Implicit", Timeout => 20, %tls) or die "connect: $@";
$way eq "Implicit" or $client->starttls(%tls) or die "STARTTLS: $@";
$client->auth("john\@example.org", "summersun") or die "AUTH: " . $client->message;
$client->mail("john\@example.org") or die "MAIL: " . $client->message;
$client->to("lisa\@example.com") or die "RCPT: " . $client->message;
$client->data([<STDIN>]) or die "DATA: " . $client->message;
$client->quit;
"#;
    let perl = |site: &Site, way| words(&["perl", "-e", SCRIPT], &[format!("{way:?}"), site.port(way), site.ca("")]);
    Site::new().await?.submits(perl).await
}
