//! A mail client that does as it is told, line by line.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::HandshakeKind;
use staffetta_transport::connect::{Stream, TlsClient, Trust};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// A reply of the server, all lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The lines without code and separator.
    pub lines: Vec<String>,
}

impl Reply {
    /// Code and last line.
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.last().map_or("", String::as_str))
    }

    /// Does the EHLO reply offer this keyword?
    pub fn offers(&self, keyword: &str) -> bool {
        self.lines.iter().skip(1).any(|line| line.split(' ').next() == Some(keyword))
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<Stream>,
}

impl Client {
    /// Connects from `source`, an address of 127.0.0.0/8 that plays a stranger, and reads the greeting.
    ///
    /// # Errors
    /// If nobody listens or the greeting is not 220.
    pub async fn connect_from(source: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse()?, 0))?;
        Self::greet(socket.connect(address).await?).await
    }

    /// Connects from 127.0.0.1.
    ///
    /// # Errors
    /// As [`Client::connect_from`].
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Self::greet(TcpStream::connect(address).await?).await
    }

    async fn greet(stream: TcpStream) -> anyhow::Result<Self> {
        let mut client = Self { stream: BufReader::new(Stream::Plain(stream)) };
        let greeting = client.reply().await?;
        if greeting.code != 220 {
            bail!("greeting: {}", greeting.text());
        }
        Ok(client)
    }

    /// Sends one line and reads the reply.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn command(&mut self, line: &str) -> anyhow::Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// Sends one line and expects a code.
    ///
    /// # Errors
    /// If the code is another one.
    pub async fn expect(&mut self, line: &str, code: u16) -> anyhow::Result<Reply> {
        let reply = self.command(line).await?;
        if reply.code != code {
            bail!("{line}: expected {code}, got {}", reply.text());
        }
        Ok(reply)
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn write(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(data).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// If the connection ends or what comes is no reply.
    pub async fn reply(&mut self) -> anyhow::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                bail!("the server closed the connection");
            }
            let line = line.strip_suffix("\r\n").with_context(|| format!("no CRLF: {line:?}"))?;
            let code = line.get(..3).and_then(|c| c.parse().ok()).with_context(|| format!("no code: {line}"))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// EHLO, STARTTLS, EHLO.
    ///
    /// # Errors
    /// If any step is refused.
    pub async fn start_tls(mut self) -> anyhow::Result<Self> {
        self.expect("EHLO client.test", 250).await?;
        self.expect("STARTTLS", 220).await?;
        let mut client = Self::wrap(self.stream.into_inner()).await?;
        client.expect("EHLO client.test", 250).await?;
        Ok(client)
    }

    /// Connects to an implicit-TLS port.
    ///
    /// # Errors
    /// If the handshake fails or the greeting is not 220.
    pub async fn connect_tls(address: SocketAddr) -> anyhow::Result<Self> {
        Self::greet_tls(Self::wrap(Stream::Plain(TcpStream::connect(address).await?)).await?).await
    }

    /// The same with a TLS client of the caller's.
    ///
    /// # Errors
    /// As [`Client::connect_tls`].
    pub async fn connect_with(tls: &TlsConnector, address: SocketAddr) -> anyhow::Result<Self> {
        let stream = tls.connect("localhost".try_into()?, TcpStream::connect(address).await?).await?;
        Self::greet_tls(Self { stream: BufReader::new(Stream::Tls(Box::new(stream))) }).await
    }

    /// The certificate that the server has shown, as DER.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Stream::Tls(stream) = self.stream.get_ref() else { return None };
        stream.get_ref().1.peer_certificates()?.first().map(|certificate| certificate.to_vec())
    }

    /// Was the TLS session one that this client had before?
    pub fn is_resumed(&self) -> bool {
        let Stream::Tls(stream) = self.stream.get_ref() else { return false };
        stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    async fn greet_tls(mut client: Self) -> anyhow::Result<Self> {
        if client.reply().await?.code != 220 {
            bail!("no greeting");
        }
        client.expect("EHLO client.test", 250).await?;
        Ok(client)
    }

    async fn wrap(stream: Stream) -> anyhow::Result<Self> {
        let Stream::Plain(stream) = stream else { bail!("encrypted already") };
        let (stream, ..) = TlsClient::new(None)?.handshake(&Trust::Any, "localhost", stream, crate::SOON).await?;
        Ok(Self { stream: BufReader::new(Stream::Tls(Box::new(stream))) })
    }

    /// AUTH PLAIN.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn auth(&mut self, login: &str, password: &str) -> anyhow::Result<Reply> {
        let message = BASE64_STANDARD.encode(format!("\0{login}\0{password}"));
        self.command(&format!("AUTH PLAIN {message}")).await
    }

    /// One whole transaction; the reply to the final dot. `body` has CRLF line ends and needs no dot-stuffing.
    ///
    /// # Errors
    /// If any step before is refused.
    pub async fn send(&mut self, from: &str, to: &[&str], body: &str) -> anyhow::Result<Reply> {
        self.begin(from, to).await?;
        self.finish(body).await
    }

    /// Up to the answer to DATA.
    ///
    /// # Errors
    /// If any step is refused.
    pub async fn begin(&mut self, from: &str, to: &[&str]) -> anyhow::Result<()> {
        self.expect(&format!("MAIL FROM:<{from}>"), 250).await?;
        for recipient in to {
            self.expect(&format!("RCPT TO:<{recipient}>"), 250).await?;
        }
        self.expect("DATA", 354).await.map(drop)
    }

    /// The content with its final dot; the reply to that.
    ///
    /// # Errors
    /// If there is none.
    pub async fn finish(&mut self, body: &str) -> anyhow::Result<Reply> {
        self.write(format!("{body}\r\n.\r\n").as_bytes()).await?;
        self.reply().await
    }
}
