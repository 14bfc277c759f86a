//! A client that waits for each octet.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use staffetta_mail::QueueId;
use staffetta_testkit::dialog::Peer;
use staffetta_tests::SOON;
use tokio::net::TcpSocket;

use crate::store::Store;

const HOSTNAME: &str = "mail.example.org";

/// Where dialogs are played.
pub(crate) struct Place {
    /// Port 25, and the same with TLS from the start.
    pub(crate) relay: SocketAddr,
    pub(crate) relays: SocketAddr,
    /// 587.
    pub(crate) submission: SocketAddr,
    /// 465.
    pub(crate) submissions: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
    /// Where messages can be looked at; `None`: nowhere.
    pub(crate) store: Option<Store>,
}

/// A client that trusts this authority.
pub(crate) fn trusting(authority: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

pub(crate) struct Wire {
    place: Arc<Place>,
    /// `None` only while TLS is started.
    stream: Option<Stream>,
    input: Vec<u8>,
    /// The ids that the server has told.
    queued: VecDeque<QueueId>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// Connects as `@open` says, from an address that only this number has.
    pub(crate) async fn open(place: Arc<Place>, words: &[String], number: u16) -> anyhow::Result<Self> {
        let (address, encrypted) = match words.first().map(String::as_str) {
            Some("relay") => (place.relay, false),
            Some("relays") => (place.relays, true),
            Some("submission") => (place.submission, false),
            Some("submissions") => (place.submissions, true),
            other => anyhow::bail!("no such listener: {other:?}"),
        };
        let network = match words.get(1).map(String::as_str) {
            Some("stranger") => 8,
            Some("trusted") => 9,
            other => anyhow::bail!("no such client: {other:?}"),
        };
        let [high, low] = number.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, network, high, low), 0)))?;
        let tcp = socket.connect(address).await?.into_std()?;
        tcp.set_nonblocking(false)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SOON))?;
        let stream = Some(Stream::Plain(tcp));
        let mut wire = Self { place, stream, input: Vec::new(), queued: VecDeque::new() };
        if encrypted {
            wire.start_tls().map_err(anyhow::Error::msg)?;
        }
        Ok(wire)
    }

    /// The next line that is here already.
    fn line(&mut self) -> Option<String> {
        let end = self.input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..end + 2);
        if let Some((_, id)) = line.split_once("queued as ").filter(|(front, _)| front.starts_with("250 2.0.0 Ok: ")) {
            self.queued.extend(id.parse::<QueueId>());
        }
        Some(line)
    }

    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("only start_tls takes it")
    }
}

impl Peer for Wire {
    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = match self.stream() {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        sent.map_err(|error| error.to_string())
    }

    fn receive(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(line) = self.line() {
                return Ok(Some(line));
            }
            let mut octets = [0; 4096];
            let read = match self.stream() {
                Stream::Plain(tcp) => tcp.read(&mut octets),
                Stream::Tls(tls) => tls.read(&mut octets),
            };
            match read {
                Ok(0) if self.input.is_empty() => return Ok(None),
                Ok(0) => return Err(format!("the server closed within a line: {:?}", self.input)),
                Ok(n) => self.input.extend_from_slice(&octets[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the server says nothing: {error}")),
            }
        }
    }

    fn unexpected(&mut self) -> Option<String> {
        self.line()
    }

    fn start_tls(&mut self) -> Result<(), String> {
        let Some(Stream::Plain(mut tcp)) = self.stream.take() else { return Err("encrypted already".into()) };
        let name = ServerName::try_from(HOSTNAME).map_err(|error| error.to_string())?;
        let config = Arc::clone(&self.place.tls);
        let mut session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp).map_err(|error| error.to_string())?;
        }
        self.stream = Some(Stream::Tls(Box::new(StreamOwned::new(session, tcp))));
        Ok(())
    }

    fn stored(&mut self) -> Result<Option<Vec<String>>, String> {
        let Some(store) = &self.place.store else { return Ok(None) };
        let id = self.queued.pop_front().ok_or("no message was accepted")?;
        store.lines(id).map(Some).map_err(|error| format!("{error:#}"))
    }
}
