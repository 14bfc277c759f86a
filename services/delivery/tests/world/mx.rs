//! A mail server that does as a script says. Line by line, no extensions beyond what the script announces.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use staffetta_testkit::certs::Leaf;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// In the clear, or in TLS.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The server's end of a connection.
type Wire = BufReader<Box<dyn Io>>;

/// What is special about a server. The default takes everything, with PIPELINING.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// Instead of `220`; `""`: say nothing; `"drop"`: close.
    pub(crate) greeting: Option<&'static str>,
    /// Instead of the answer to EHLO and LHLO, and then the end of the connection.
    pub(crate) hello: Option<&'static str>,
    /// Living connections after which others are greeted with `421`.
    pub(crate) most: Option<usize>,
    /// Connections that are greeted with `421` at first.
    pub(crate) refused: usize,
    /// Messages of a connection after which MAIL is answered with `421`.
    pub(crate) ration: Option<usize>,
    /// More EHLO lines: `STARTTLS`, `DSN`.
    pub(crate) extensions: &'static [&'static str],
    /// Answers to the first commands with this beginning (`""`: to an empty line), then what is usual. `""`: close. `"hang"`: say nothing.
    pub(crate) replies: Vec<(&'static str, &'static str)>,
    /// Answers to final dots and last chunks, in order; then `250`. `""`: close without an answer. `"hang"`: say nothing.
    /// `"drip"`: an octet of the answer now and then. `"late"`: take it after five seconds.
    pub(crate) dots: Vec<&'static str>,
    /// Only LMTP: one answer a recipient.
    pub(crate) lmtp: bool,
    /// Say nothing any more to an RCPT behind which there is another command already.
    pub(crate) stalls: bool,
    /// After `220` to STARTTLS, send what is no TLS.
    pub(crate) broken_tls: bool,
    /// STARTTLS leads to TLS with this certificate, made by [`acceptor`].
    pub(crate) tls: Option<TlsAcceptor>,
    /// And so does the connection itself, before the greeting.
    pub(crate) wrapped: bool,
}

/// Where connections come from.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Box<dyn Io>, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Some(client.ip())))
            }
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

/// TLS with this certificate.
pub(crate) fn acceptor(leaf: &Leaf) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&leaf.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&leaf.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a server received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) body: String,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
    /// In TLS.
    pub(crate) encrypted: bool,
    /// The name in SNI.
    pub(crate) asked_for: Option<String>,
    /// The AUTH command of its connection.
    pub(crate) login: Option<String>,
}

#[derive(Default)]
struct State {
    replies: Vec<(&'static str, &'static str)>,
    dots: VecDeque<&'static str>,
    mails: Vec<Mail>,
    commands: Vec<String>,
    connections: usize,
    living: usize,
    peak: usize,
    clients: Vec<IpAddr>,
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Listens on a free port of loopback.
    pub(crate) async fn start(script: Script) -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    pub(crate) async fn start_on(address: SocketAddr, script: Script) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self::serve(listener.local_addr()?, Listener::Tcp(listener), script))
    }

    /// Behind a unix socket.
    pub(crate) fn start_at(path: &Path, script: Script) -> anyhow::Result<Self> {
        let listener = Listener::Unix(UnixListener::bind(path)?);
        Ok(Self::serve(([0, 0, 0, 0], 0).into(), listener, script))
    }

    fn serve(address: SocketAddr, listener: Listener, script: Script) -> Self {
        let state = Arc::new(Mutex::new(State {
            replies: script.replies.clone(),
            dots: script.dots.iter().copied().collect(),
            ..State::default()
        }));
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, client)) = listener.accept().await {
                let number = {
                    let mut state = lock(&shared);
                    state.clients.extend(client);
                    state.connections += 1;
                    state.connections - 1
                };
                connections.spawn(talk(stream, script.clone(), shared.clone(), number));
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        lock(&self.state).mails.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        lock(&self.state).connections
    }

    /// Most connections at a time.
    pub(crate) fn peak(&self) -> usize {
        lock(&self.state).peak
    }

    /// Connections that there are now.
    pub(crate) fn living(&self) -> usize {
        lock(&self.state).living
    }

    /// From now on the peak is that of what comes.
    pub(crate) fn forget_peak(&self) {
        let mut state = lock(&self.state);
        state.peak = state.living;
    }

    /// Waits until there have been so many connections at a time.
    pub(crate) async fn crowd(&self, count: usize) -> anyhow::Result<()> {
        self.until("connections", || self.peak() >= count).await
    }

    /// Who has connected.
    pub(crate) fn clients(&self) -> Vec<IpAddr> {
        lock(&self.state).clients.clone()
    }

    /// Command lines of all connections as they came.
    pub(crate) fn commands(&self) -> Vec<String> {
        lock(&self.state).commands.clone()
    }

    /// Answers of the script for final dots that no dot has met yet.
    pub(crate) fn dots_left(&self) -> usize {
        lock(&self.state).dots.len()
    }

    /// Waits until it has so many mails.
    pub(crate) async fn received(&self, count: usize) -> anyhow::Result<Vec<Mail>> {
        self.until("mails", || self.mails().len() >= count).await?;
        Ok(self.mails())
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn() -> bool) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + super::PATIENCE;
        while !wanted() {
            anyhow::ensure!(tokio::time::Instant::now() < end, "no {what} in time: {:#?}", self.commands());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn talk(stream: Box<dyn Io>, script: Script, state: Arc<Mutex<State>>, number: usize) {
    let mut stream: Wire = BufReader::new(stream);
    let enough = number < script.refused || script.most.is_some_and(|most| lock(&state).living >= most);
    if enough {
        let _ = say(&mut stream, "421 4.7.0 too many connections").await;
        return;
    }
    {
        let mut state = lock(&state);
        state.living += 1;
        state.peak = state.peak.max(state.living);
    }
    converse(stream, script, state.clone(), number).await;
    lock(&state).living -= 1;
}

async fn converse(mut stream: Wire, script: Script, state: Arc<Mutex<State>>, number: usize) {
    let mut mail = Mail { connection: number, ..Mail::default() };
    let (mut begun, mut chunks) = (0, Vec::new());
    if let Some(tls) = script.tls.as_ref().filter(|_| script.wrapped) {
        let Ok(encrypted) = tls.accept(stream.into_inner()).await else { return };
        mail.encrypted = true;
        stream = BufReader::new(Box::new(encrypted));
    }
    match script.greeting {
        Some("") => std::future::pending().await,
        Some("drop") => return,
        greeting => drop(say(&mut stream, greeting.unwrap_or("220 mx.test ESMTP")).await),
    }
    let mut line = String::new();
    loop {
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return;
        }
        let command = line.trim_end().to_owned();
        lock(&state).commands.push(command.clone());
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if script.stalls && verb == "RCPT" && !stream.buffer().is_empty() {
            return std::future::pending().await;
        }
        begun += usize::from(verb == "MAIL");
        if script.ration.is_some_and(|ration| begun > ration) {
            let _ = say(&mut stream, "421 4.7.0 enough").await;
            return;
        }
        // The answer to a chunk comes behind it.
        let answer = if verb == "BDAT" { None } else { scripted(&state, &command) };
        if let Some(reply) = answer {
            // What it says may not be understood; it has taken what it has not refused.
            if !reply.starts_with(['4', '5']) {
                remember(&mut mail, &command);
            }
            if !obey(&mut stream, reply).await {
                return;
            }
            continue;
        }
        let done = match verb.as_str() {
            "EHLO" | "LHLO" if script.hello.is_some() => {
                let _ = say(&mut stream, script.hello.unwrap_or_default()).await;
                return;
            }
            "EHLO" | "LHLO" => say(&mut stream, &hello(&script)).await,
            "STARTTLS" => {
                let _ = say(&mut stream, "220 go").await;
                if let Some(tls) = &script.tls {
                    let Ok(encrypted) = tls.accept(stream.into_inner()).await else { return };
                    mail.asked_for = encrypted.get_ref().1.server_name().map(str::to_owned);
                    mail.encrypted = true;
                    stream = BufReader::new(Box::new(encrypted));
                    continue;
                }
                if script.broken_tls {
                    // After the ClientHello: before it, this would be an injection.
                    let _ = stream.fill_buf().await;
                    let _ = say(&mut stream, "what is TLS?").await;
                }
                return;
            }
            "DATA" if mail.recipients.is_empty() => say(&mut stream, "554 no valid recipients").await,
            "DATA" => {
                let _ = say(&mut stream, "354 go ahead").await;
                let Some(body) = content(&mut stream).await else { return };
                mail.body = body;
                if !end_of_data(&mut stream, &script, &state, &mut mail).await {
                    return;
                }
                Ok(())
            }
            "BDAT" => {
                let Some(last) = chunk(&mut stream, &command, &mut chunks).await else { return };
                match scripted(&state, &command) {
                    Some("") => return,
                    Some(reply) => say(&mut stream, reply).await,
                    None if mail.recipients.is_empty() => say(&mut stream, "503 5.5.1 no recipients").await,
                    None if !last => say(&mut stream, "250 2.0.0 more").await,
                    None => {
                        mail.body = String::from_utf8_lossy(&std::mem::take(&mut chunks)).into_owned();
                        if !end_of_data(&mut stream, &script, &state, &mut mail).await {
                            return;
                        }
                        Ok(())
                    }
                }
            }
            "QUIT" => {
                let _ = say(&mut stream, "221 bye").await;
                return;
            }
            _ => {
                remember(&mut mail, &command);
                say(&mut stream, "250 ok").await
            }
        };
        if done.is_err() {
            return;
        }
    }
}

/// Says what the script wants. False: the connection is to be closed.
async fn obey(stream: &mut Wire, reply: &str) -> bool {
    match reply {
        "" => false,
        "hang" => std::future::pending().await,
        reply => say(stream, reply).await.is_ok(),
    }
}

fn hello(script: &Script) -> String {
    let mut reply = "250-mx.test".to_owned();
    for extension in script.extensions {
        reply += &format!("\r\n250-{extension}");
    }
    reply + "\r\n250 PIPELINING"
}

/// The first answer of the script for this command.
fn scripted(state: &Mutex<State>, command: &str) -> Option<&'static str> {
    let mut state = lock(state);
    let is_meant = |start: &str| if start.is_empty() { command.is_empty() } else { command.starts_with(start) };
    let at = state.replies.iter().position(|(start, _)| is_meant(start))?;
    Some(state.replies.remove(at).1)
}

fn remember(mail: &mut Mail, command: &str) {
    let path = command.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
    match (command.get(..4), path) {
        (Some("MAIL"), Some(path)) => {
            mail.sender = path;
            mail.recipients.clear();
        }
        (Some("RCPT"), Some(path)) => mail.recipients.push(path),
        (Some("AUTH"), None) => mail.login = Some(command.to_owned()),
        _ => {}
    }
}

/// Up to the final dot, dots removed.
async fn content(stream: &mut Wire) -> Option<String> {
    let mut body = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return None;
        }
        if line == ".\r\n" {
            return Some(body);
        }
        body += line.strip_prefix('.').unwrap_or(&line);
    }
}

/// The octets of a chunk (RFC 3030); is it the last?
async fn chunk(stream: &mut Wire, command: &str, chunks: &mut Vec<u8>) -> Option<bool> {
    let mut words = command.split(' ').skip(1);
    let mut octets = vec![0; words.next()?.parse().ok()?];
    stream.read_exact(&mut octets).await.ok()?;
    chunks.append(&mut octets);
    Some(words.next() == Some("LAST"))
}

/// False: the connection is to be closed.
async fn end_of_data(stream: &mut Wire, script: &Script, state: &Mutex<State>, mail: &mut Mail) -> bool {
    for _ in 0..if script.lmtp { mail.recipients.len() } else { 1 } {
        let reply = lock(state).dots.pop_front().unwrap_or("250 2.0.0 taken");
        match reply {
            "" => return false,
            "hang" => std::future::pending().await,
            "late" => {
                tokio::time::sleep(Duration::from_secs(5)).await;
                lock(state).mails.push(mail.clone());
                return false;
            }
            "drip" => {
                for octet in "250 2.0.0 it takes its time\r\n".bytes() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    if stream.get_mut().write_all(&[octet]).await.is_err() {
                        return false;
                    }
                }
            }
            reply => {
                if say(stream, reply).await.is_err() {
                    return false;
                }
                if reply.starts_with('2') {
                    let mut state = lock(state);
                    if !script.lmtp || state.mails.last() != Some(mail) {
                        state.mails.push(mail.clone());
                    }
                }
            }
        }
    }
    mail.recipients.clear();
    true
}

async fn say(stream: &mut Wire, reply: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await
}
