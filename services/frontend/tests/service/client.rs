//! A client that says a line and reads a reply.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A message that is taken.
pub(crate) const MESSAGE: &[(&str, &str)] = &[
    ("MAIL FROM:<a@b.test>", "250 "),
    ("RCPT TO:<b@example.com>", "250 "),
    ("DATA", "354 "),
    ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 "),
];

pub(crate) struct Client {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and reads the greeting.
    pub(crate) async fn connect(address: SocketAddr) -> (Self, String) {
        let mut client = Self { io: Box::new(TcpStream::connect(address).await.unwrap()), buffer: Vec::new() };
        let greeting = client.reply().await;
        (client, greeting)
    }

    /// Connects from this address of ours, reads the greeting and says EHLO.
    pub(crate) async fn from(source: &str, address: SocketAddr) -> Self {
        let mut client = Self { io: Box::new(connect_from(source, address).await), buffer: Vec::new() };
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 mail.test ESMTP"), "{greeting}");
        client.say("EHLO client.test").await;
        client
    }

    /// The same behind a PROXY header.
    pub(crate) async fn behind_from(source: &str, header: &[u8], address: SocketAddr) -> Self {
        let mut tcp = connect_from(source, address).await;
        tcp.write_all(header).await.unwrap();
        let mut client = Self { io: Box::new(tcp), buffer: Vec::new() };
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 mail.test ESMTP"), "{greeting}");
        client.say("EHLO client.test").await;
        client
    }

    /// Connects, checks the greeting and says EHLO.
    pub(crate) async fn ready(address: SocketAddr) -> Self {
        let (mut client, greeting) = Self::connect(address).await;
        assert!(greeting.starts_with("220 mail.test ESMTP"), "{greeting}");
        client.say("EHLO client.test").await;
        client
    }

    /// TLS at once, as on port 465; the handshake waits for the server.
    pub(crate) async fn implicit(address: SocketAddr, ca: &Path) -> Self {
        let io = connect_tls(TcpStream::connect(address).await.unwrap(), ca).await;
        let mut client = Self { io: Box::new(io), buffer: Vec::new() };
        assert!(client.reply().await.starts_with("220 "));
        client.say("EHLO client.test").await;
        client
    }

    /// Connects and sends these octets before anything is heard.
    pub(crate) fn early(address: SocketAddr, octets: &[u8]) -> Self {
        Self { io: Box::new(early(address, octets)), buffer: Vec::new() }
    }

    /// A PROXY header, then TLS at once.
    pub(crate) async fn implicit_behind(header: &[u8], address: SocketAddr, ca: &Path) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(header).await.unwrap();
        let mut client = Self { io: Box::new(connect_tls(tcp, ca).await), buffer: Vec::new() };
        assert!(client.reply().await.starts_with("220 "));
        client.say("EHLO client.test").await;
        client
    }

    /// A connection under STARTTLS with EHLO said again.
    pub(crate) async fn encrypted(address: SocketAddr, ca: &Path) -> Self {
        Self::encrypted_behind(b"", address, ca).await
    }

    /// The same behind a PROXY header.
    pub(crate) async fn encrypted_behind(header: &[u8], address: SocketAddr, ca: &Path) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(header).await.unwrap();
        Self::start_tls(tcp, ca).await
    }

    /// The same from this address of ours.
    pub(crate) async fn encrypted_from(source: &str, address: SocketAddr, ca: &Path) -> Self {
        Self::start_tls(connect_from(source, address).await, ca).await
    }

    async fn start_tls(mut tcp: TcpStream, ca: &Path) -> Self {
        let mut buffer = Vec::new();
        read_reply(&mut tcp, &mut buffer).await;
        tcp.write_all(b"EHLO client.test\r\n").await.unwrap();
        read_reply(&mut tcp, &mut buffer).await;
        tcp.write_all(b"STARTTLS\r\n").await.unwrap();
        assert_eq!(read_reply(&mut tcp, &mut buffer).await, "220 2.0.0 Ready to start TLS\r\n");
        let mut client = Self { io: Box::new(connect_tls(tcp, ca).await), buffer };
        client.say("EHLO client.test").await;
        client
    }

    /// Sends a line, returns the reply.
    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Sends as it is.
    pub(crate) async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// The next reply with all its lines.
    pub(crate) async fn reply(&mut self) -> String {
        read_reply(&mut self.io, &mut self.buffer).await
    }

    /// Expects these beginnings of replies, in order.
    pub(crate) async fn expect(&mut self, steps: &[(&str, &str)]) {
        for (line, expected) in steps {
            let reply = self.say(line).await;
            assert!(reply.starts_with(expected), "{line:?}: {reply:?} instead of {expected:?}");
        }
    }

    /// True once the server has closed the connection.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = [0; 64];
        !matches!(self.io.read(&mut rest).await, Ok(n) if n > 0)
    }
}

async fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

/// A connection with octets on it. Not a moment passes in between: a server in this process cannot be faster.
pub(crate) fn early(address: SocketAddr, octets: &[u8]) -> TcpStream {
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    tcp.write_all(octets).unwrap();
    tcp.set_nonblocking(true).unwrap();
    TcpStream::from_std(tcp).unwrap()
}

async fn connect_tls(tcp: TcpStream, ca: &Path) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("mail.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// A reply ends with the line that has a blank after its code; an empty string means that the connection ended.
async fn read_reply(io: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = end_of_reply(buffer) {
            return String::from_utf8(buffer.drain(..end).collect()).unwrap();
        }
        if !matches!(io.read_buf(buffer).await, Ok(n) if n > 0) {
            return String::from_utf8(std::mem::take(buffer)).unwrap();
        }
    }
}

fn end_of_reply(buffer: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in buffer.split_inclusive(|&b| b == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && line.get(3) == Some(&b' ') {
            return Some(end);
        }
    }
    None
}
