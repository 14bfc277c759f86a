//! `staffetta up --demo`: one message, from a mail client to an MX, shown step by step.
//!
//! The client side is written out line by line because it is meant to be read. Everything else is the real thing: the
//! frontend takes the message, Redis holds it, the delivery worker brings it to the sink with STARTTLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use staffetta_auth::accounts::Accounts;
use staffetta_config::{Config, ListenerKind, ListenerTls};
use staffetta_mail::QueueId;
use staffetta_transport::connect::{TlsClient, Trust};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::home::Home;
use crate::sink::{Received, Settings, Sink};
use crate::terminal::say;

const USER: &str = "john@example.org";
const PASSWORD: &str = "summersun";
const RECIPIENT: &str = "lisa@example.com";
/// For each step.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Demo {
    sink: Sink,
}

impl Demo {
    /// Adds the user and starts the sink.
    pub(super) async fn prepare(home: &Home, accounts: &Accounts) -> anyhow::Result<Self> {
        if !accounts.list().await?.iter().any(|email| email == USER) {
            accounts.add(USER, &SecretString::from(PASSWORD)).await?;
        }
        let settings = Settings { directory: Some(home.sink_folder()), ..Settings::default() };
        let sink = Sink::start(home.sink_address(), settings).await.context("cannot start the sink")?;
        Ok(Self { sink })
    }

    /// Submits one message and follows it; then the sink goes on by itself.
    pub(super) async fn run(mut self, config: &Config) -> anyhow::Result<()> {
        say(&format!("\n1. A mail client submits as {USER}, with STARTTLS and AUTH:"));
        let id = timeout(PATIENCE, submit(config)).await.context("the frontend does not answer")??;
        say(&format!("\n2. The 250 came after Redis had the message on disk: {id}, partition {}.", id.partition()));
        let received = self.follow(id).await?;
        say(&format!("\n3. A delivery worker leased it and relayed it to the MX {}:", self.sink.address()));
        say(&format!("   {received}"));
        if !received.encrypted {
            bail!("the worker did not use STARTTLS");
        }
        if let Some(file) = &received.file {
            say(&format!("\n4. What arrived: {}", file.display()));
            show_header(file)?;
        }
        say(&format!(
            "\nTry it: swaks --server {} --tls --auth PLAIN --auth-user {USER} --auth-password {PASSWORD} \
             --from {USER} --to {RECIPIENT}\n",
            submission(config)?
        ));
        self.sink.detach();
        Ok(())
    }

    /// Mail of an earlier run may still come first.
    async fn follow(&mut self, id: QueueId) -> anyhow::Result<Received> {
        let name = id.to_string();
        timeout(PATIENCE, async {
            loop {
                let received = self.sink.received().await.context("the sink ended")?;
                if contains(&received.body, name.as_bytes()) {
                    return Ok(received);
                }
            }
        })
        .await
        .context("the message did not arrive")?
    }
}

fn submission(config: &Config) -> anyhow::Result<SocketAddr> {
    let mut listeners = config.frontend.listener.iter();
    let found = listeners.find(|l| l.kind == ListenerKind::Submission && l.tls == ListenerTls::Starttls);
    Ok(found.context("no submission listener")?.bind)
}

/// The dialogue of a mail client, printed as it goes.
async fn submit(config: &Config) -> anyhow::Result<QueueId> {
    let stream = TcpStream::connect(submission(config)?).await.context("cannot connect")?;
    let mut clear = Dialogue(BufStream::new(stream));
    clear.expect("220").await?;
    clear.say("EHLO client.example.org").await?;
    clear.expect("250").await?;
    clear.say("STARTTLS").await?;
    clear.expect("220").await?;
    // The demonstration's certificate is self-signed, so there is nothing to verify it against.
    let tls = TlsClient::new(None)?;
    let (stream, ..) = tls.handshake(&Trust::Any, "localhost", clear.0.into_inner(), PATIENCE).await?;
    say("   -- encrypted from here --");

    let mut secret = Dialogue(BufStream::new(stream));
    secret.say("EHLO client.example.org").await?;
    secret.expect("250").await?;
    let credentials = BASE64_STANDARD.encode(format!("{USER}\0{USER}\0{PASSWORD}"));
    secret.send(&format!("AUTH PLAIN {credentials}"), "AUTH PLAIN ****").await?;
    secret.expect("235").await?;
    secret.say(&format!("MAIL FROM:<{USER}>")).await?;
    secret.expect("250").await?;
    secret.say(&format!("RCPT TO:<{RECIPIENT}>")).await?;
    secret.expect("250").await?;
    secret.say("DATA").await?;
    secret.expect("354").await?;
    let header = format!("From: John <{USER}>\r\nTo: Lisa <{RECIPIENT}>\r\nSubject: Staffetta\r\n");
    secret.send(&format!("{header}\r\nThe baton is on its way.\r\n."), "(the message) .").await?;
    let accepted = secret.expect("250").await?;
    secret.say("QUIT").await?;
    secret.expect("221").await?;
    let id = accepted.rsplit(' ').next().unwrap_or_default();
    id.parse().with_context(|| format!("no queue id in \"{accepted}\""))
}

/// One side of an SMTP session, printed.
struct Dialogue<S: AsyncRead + AsyncWrite>(BufStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.send(line, line).await
    }

    /// Sends `line`, shows `shown`.
    async fn send(&mut self, line: &str, shown: &str) -> anyhow::Result<()> {
        say(&format!("   C: {shown}"));
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.0.flush().await?)
    }

    /// Reads a whole reply; its last line.
    async fn expect(&mut self, code: &str) -> anyhow::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                bail!("the frontend closed the connection");
            }
            let line = line.trim_end().to_owned();
            say(&format!("   S: {line}"));
            if !line.starts_with(code) {
                bail!("expected {code}");
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

fn show_header(file: &std::path::Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for line in text.lines().take_while(|line| !line.is_empty()) {
        say(&format!("   {line}"));
    }
    Ok(())
}
