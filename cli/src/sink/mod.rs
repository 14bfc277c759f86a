//! A test MX: real SMTP with STARTTLS that keeps what it gets, or misbehaves as its [`Scenario`] says.
//!
//! It drives the same server core as the frontends, with no policy of its own, so what it cannot do nobody can. Used
//! by `staffetta sink`, by `staffetta up --demo` and by the end-to-end tests.

mod scenario;
mod session;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use bytes::Bytes;
use rustls::ServerConfig;
use staffetta_smtp::server;
use staffetta_transport::listen;
use staffetta_transport::tls::{Certificates, Pair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use scenario::{Action, Rule, Scenario, Stage, StartTls};

use crate::certificate;

/// Messages that wait for [`Sink::received`]; one more is counted by [`Sink::missed`], and the sink says so.
const BACKLOG: usize = 10_000;

/// Connections at a time; the next ones wait in the kernel.
const CONNECTIONS: usize = 2_000;
/// Largest message: it is held in memory.
const LARGEST: u64 = 256 << 20;

/// How a sink is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in greeting and EHLO.
    pub hostname: String,
    /// Certificate chain and key, PEM; without them a self-signed pair is made.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where messages are written, one `.eml` each.
    pub directory: Option<PathBuf>,
    /// What it does wrong.
    pub scenario: Scenario,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hostname: "sink.localhost".to_owned(),
            certificate: None,
            directory: None,
            scenario: Scenario::default(),
        }
    }
}

/// A message that the sink took.
#[derive(Clone, Debug)]
pub struct Received {
    /// The envelope sender; empty for the null path.
    pub sender: String,
    /// The recipients that were accepted.
    pub recipients: Vec<String>,
    /// It came over TLS.
    pub encrypted: bool,
    /// Protocol version and cipher suite, if so.
    pub tls: Option<String>,
    /// The message as received, CRLF line ends.
    pub body: Bytes,
    /// Where it was written.
    pub file: Option<PathBuf>,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from=<{}> to=<{}> size={}", self.sender, self.recipients.join(">,<"), self.body.len())?;
        write!(f, " tls={}", self.tls.as_deref().unwrap_or("none"))?;
        match &self.file {
            Some(file) => write!(f, " file={}", file.display()),
            None => Ok(()),
        }
    }
}

/// A running sink; it ends when dropped.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    messages: mpsc::Receiver<Received>,
    tasks: JoinSet<()>,
}

/// What all sessions of a sink share.
struct Shared {
    core: Arc<server::Settings>,
    tls: Arc<ServerConfig>,
    directory: Option<PathBuf>,
    scenario: Mutex<Scenario>,
    starttls: StartTls,
    messages: mpsc::Sender<Received>,
    accepted: AtomicU64,
    missed: AtomicU64,
    connections: AtomicU64,
    deviations: AtomicU64,
    unique: AtomicU64,
}

impl Sink {
    /// Starts listening.
    ///
    /// # Errors
    /// If the address is taken, the certificate unusable or the directory cannot be made.
    pub async fn start(address: SocketAddr, settings: Settings) -> anyhow::Result<Self> {
        Self::serve(address, settings, CONNECTIONS).await
    }

    async fn serve(address: SocketAddr, settings: Settings, most: usize) -> anyhow::Result<Self> {
        let listener = listen::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        if let Some(directory) = &settings.directory {
            tokio::fs::create_dir_all(directory)
                .await
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let (sender, messages) = mpsc::channel(BACKLOG);
        let core = server::Settings {
            starttls: settings.scenario.starttls != StartTls::Absent,
            banner: "ESMTP Staffetta sink".to_owned(),
            size_limit: LARGEST,
            hop_limit: 0,
            bare_lf: server::BareLf::Reject,
            recipient_limit: 10_000,
            etrn: false,
            hostname: settings.hostname.clone(),
            ..server::Settings::default()
        };
        let shared = Arc::new(Shared {
            core: Arc::new(core),
            tls: tls(&settings)?,
            directory: settings.directory,
            starttls: settings.scenario.starttls,
            scenario: Mutex::new(settings.scenario),
            messages: sender,
            accepted: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            deviations: AtomicU64::new(0),
            unique: AtomicU64::new(u64::from(std::process::id()) << 32),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), most));
        Ok(Self { address, shared, messages, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next message. Cancel safe.
    pub async fn received(&mut self) -> Option<Received> {
        self.messages.recv().await
    }

    /// Messages taken so far.
    pub fn count(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Messages taken, and written if there is a directory, that [`Sink::received`] will not show because whoever
    /// reads them was too slow.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often a rule of the scenario applied so far.
    pub fn deviations(&self) -> u64 {
        self.shared.deviations.load(Ordering::Relaxed)
    }

    /// Lets it run until the process ends.
    pub fn detach(mut self) {
        self.tasks.detach_all();
    }
}

fn tls(settings: &Settings) -> anyhow::Result<Arc<ServerConfig>> {
    let (certificate, key) = match &settings.certificate {
        Some(pair) => pair.clone(),
        None => {
            let folder = tempfile::tempdir().context("cannot make a scratch folder")?;
            let files = certificate::self_signed(folder.path(), &[&settings.hostname, "localhost"])?;
            return server_config(&settings.hostname, files.certificate, files.key);
        }
    };
    server_config(&settings.hostname, certificate, key)
}

fn server_config(name: &str, certificate: PathBuf, key: PathBuf) -> anyhow::Result<Arc<ServerConfig>> {
    let pair = Pair { name: name.to_owned(), certificate, key };
    Ok(Certificates::load(pair, Vec::new())?.server_config(false)?)
}

/// Serves `most` connections at a time.
async fn accept(listener: TcpListener, shared: Arc<Shared>, most: usize) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            (stream, _) = listen::accept(&listener), if sessions.len() < most => {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                sessions.spawn(session::serve(stream, Arc::clone(&shared)));
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;

    async fn is_greeted(stream: &mut TcpStream) -> bool {
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.is_ok() && &greeting == b"220 "
    }

    #[tokio::test]
    async fn connections_above_the_limit_wait_until_one_ends() {
        staffetta_transport::tls::install_provider();
        let sink = Sink::serve("127.0.0.1:0".parse().unwrap(), Settings::default(), 2).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(TcpStream::connect(sink.address()).await.unwrap());
        }
        let mut last = streams.pop().unwrap();
        for stream in &mut streams {
            assert!(is_greeted(stream).await);
        }
        assert!(tokio::time::timeout(Duration::from_millis(200), last.readable()).await.is_err());
        assert_eq!(sink.connections(), 2);
        streams.pop();
        assert!(is_greeted(&mut last).await);
    }
}
