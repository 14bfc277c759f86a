//! Plays `tests/dialogs/*.smtp` on the real frontend, over TCP and TLS. The same files are played on the core of the
//! session by `crates/smtp/tests/dialogs.rs`, which tells what `@open` and the people mean.
//!
//! Beside the text this proves that octets arrive as they were sent: what a stored message must have is compared with
//! what lies in Redis, without the fields that the relay puts in itself.
#![expect(clippy::expect_used, reason = "tests")]

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use staffetta_mail::QueueId;
use staffetta_queue::{Body, Destination, Job, Queue};
use staffetta_testkit::dialog::{Dialog, Peer};
use staffetta_tests::{SOON, Service, World};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

const HOSTNAME: &str = "mail.example.org";
/// Whom `@open` lets connect.
const STRANGER: &str = "127.0.0.1";
const TRUSTED: &str = "127.0.0.9";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_dialog_goes_as_written_on_the_wire() -> anyhow::Result<()> {
    let mut world = World::new()
        .await?
        .set("frontend.size_limit", "10240000")
        .set("frontend.relay_domains_from_auth", "true")
        .set("frontend.etrn_networks", format!("[\"{TRUSTED}/32\"]"))
        .user("john@example.org", "summersun")
        .await?
        .user("lisa@example.org", "winterrain")
        .await?
        .start()
        .await?;
    world.dns.mx("example.com", 10, "mx.example.com");
    // A domain that dialogs write in U-labels.
    world.dns.mx("xn--fsqu00a.example", 10, "mx.example.com");
    // What is queued stays where it is.
    world.kill(Service::Delivery);

    let site = Arc::new(Site::new(&world).await?);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogs");
    let mut playing = Vec::new();
    for (path, dialog) in Dialog::in_folder(&folder)? {
        let wire = Wire::open(Arc::clone(&site), &dialog.opening).await?;
        playing.push((path, tokio::task::spawn_blocking(move || dialog.play(&mut { wire }))));
    }
    for (path, outcome) in playing {
        let outcome = outcome.await?.map_err(|error| error.to_string());
        assert_eq!(outcome, Ok(()), "{}\n{}", path.display(), world.log(Service::Frontend));
    }
    Ok(())
}

/// What all dialogs have in common.
struct Site {
    smtp: SocketAddr,
    submission: SocketAddr,
    submissions: SocketAddr,
    tls: Arc<ClientConfig>,
    queue: Queue,
    /// What was claimed and not yet looked at.
    claimed: Mutex<HashMap<QueueId, Job>>,
    runtime: Handle,
}

impl Site {
    async fn new(world: &World) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(world.ca())?)?;
        Ok(Self {
            smtp: world.smtp(),
            submission: world.submission(),
            submissions: world.submissions(),
            tls: Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()),
            queue: world.queue().await?,
            claimed: Mutex::default(),
            runtime: Handle::current(),
        })
    }

    /// The message, claimed as a worker would.
    async fn message(&self, id: QueueId) -> anyhow::Result<Job> {
        let mut claimed = self.claimed.lock().await;
        let entry = self.queue.entry(id).await?.with_context(|| format!("{id} is not queued"))?;
        let destinations =
            entry.message.envelope.recipients.iter().map(|recipient| Destination::of(&recipient.address));
        for destination in destinations {
            let jobs = self.queue.claim(id.partition(), &destination, 100).await?;
            claimed.extend(jobs.into_iter().map(|job| (job.message.id, job)));
        }
        claimed.remove(&id).with_context(|| format!("{id} cannot be claimed"))
    }
}

/// A client that waits for each octet.
struct Wire {
    site: Arc<Site>,
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
    async fn open(site: Arc<Site>, words: &[String]) -> anyhow::Result<Self> {
        let (address, encrypted) = match words.first().map(String::as_str) {
            Some("relay") => (site.smtp, false),
            Some("submission") => (site.submission, false),
            Some("submissions") => (site.submissions, true),
            other => anyhow::bail!("no such listener: {other:?}"),
        };
        let source = match words.get(1).map(String::as_str) {
            Some("stranger") => STRANGER,
            Some("trusted") => TRUSTED,
            other => anyhow::bail!("no such client: {other:?}"),
        };
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse()?, 0))?;
        let tcp = socket.connect(address).await?.into_std()?;
        tcp.set_nonblocking(false)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SOON))?;
        let mut wire = Self { site, stream: Some(Stream::Plain(tcp)), input: Vec::new(), queued: VecDeque::new() };
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
            self.queued.push_back(id.parse().expect("a queue id"));
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
        let config = Arc::clone(&self.site.tls);
        let mut session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp).map_err(|error| error.to_string())?;
        }
        self.stream = Some(Stream::Tls(Box::new(StreamOwned::new(session, tcp))));
        Ok(())
    }

    fn stored(&mut self) -> Result<Vec<String>, String> {
        let id = self.queued.pop_front().ok_or("no message was accepted")?;
        let job = self.site.runtime.block_on(self.site.message(id)).map_err(|error| format!("{error:#}"))?;
        let Body::Inline(body) = &job.body else { return Err("dialogs have short messages".into()) };
        let envelope = &job.message.envelope;
        let to: Vec<_> = envelope.recipients.iter().map(|recipient| format!("<{}>", recipient.address)).collect();
        let mut lines = vec![format!("from=<{}> to={}", envelope.sender, to.join(","))];
        let text = String::from_utf8_lossy(body);
        lines.extend(without_our_fields(&text, id)?.into_iter().map(str::to_owned));
        Ok(lines)
    }
}

/// The lines of a message as its author wrote them. A trace field must be there; Date, Message-ID and From may
/// be added.
fn without_our_fields(text: &str, id: QueueId) -> Result<Vec<&str>, String> {
    let mut lines = text.split_terminator("\r\n").peekable();
    if !lines.next().is_some_and(|line| line.starts_with("Received: from ")) {
        return Err(format!("no trace field: {text:?}"));
    }
    while lines.next_if(|line| line.starts_with([' ', '\t'])).is_some() {}
    let message_id = format!("Message-ID: <{id}@{HOSTNAME}>");
    Ok(lines.filter(|line| *line != message_id && !line.starts_with("Date: ") && !line.starts_with("From: ")).collect())
}
