//! Destinations of our own: a process beside this one, so that its CPU time is counted apart, with a server for each
//! destination. It takes everything and says on its standard output what came, when; it can encrypt, be late and stall.

use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::dialog::{Behaviour, Dialog, Next};
use crate::scenario::{Stage, address};

/// A connection on loopback is there at once, or not at all.
const CONNECTED: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long)]
    pub(crate) destinations: u32,
    /// Milliseconds between what is read and its answer.
    #[arg(long)]
    pub(crate) late: u64,
    /// Where the last destination stops answering.
    #[arg(long, value_enum)]
    pub(crate) stall: Option<Stage>,
    /// A certificate and its key, PEM: STARTTLS is offered.
    #[arg(long, num_args = 2)]
    pub(crate) tls: Vec<PathBuf>,
}

/// A line of its output, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    Connected,
    Arrived(Arrival),
}

/// A message that has its `250`, or has it as soon as that is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    /// See [`super::now`].
    pub(crate) at: Duration,
    pub(crate) encrypted: bool,
    /// There is a DKIM-Signature.
    pub(crate) signed: bool,
}

/// Serves until it is killed, or whoever started it ends.
pub(crate) async fn serve(options: &Options) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // A listener a destination, and the connections.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .context("failed to raise the limit of files")?;
    let usual = Behaviour { late: Duration::from_millis(options.late), stall: None, tls: acceptor(&options.tls)? };
    let mut listeners = Vec::new();
    let healthy = options.destinations - u32::from(options.stall.is_some());
    for destination in 0..healthy {
        listeners.push(TcpListener::bind((address(destination), options.port)).await?);
    }
    let mut servers = JoinSet::new();
    if let Some(stage) = options.stall {
        let last = SocketAddr::from((address(healthy), options.port));
        servers.spawn(stall(last, Behaviour { stall: Some(stage), ..usual.clone() }));
    }
    listeners.into_iter().for_each(|listener| {
        servers.spawn(accept(listener, usual.clone()));
    });
    servers.join_next().await.context("there is no destination")??
}

fn acceptor(files: &[PathBuf]) -> Result<Option<TlsAcceptor>> {
    let [certificate, key] = files else { return Ok(None) };
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Some(Arc::new(config).into()))
}

/// The destination that stops answering.
async fn stall(address: SocketAddr, behaviour: Behaviour) -> Result<()> {
    if behaviour.stall != Some(Stage::Connect) {
        return accept(TcpListener::bind(address).await?, behaviour).await;
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let _full = socket.listen(0)?;
    // Nobody takes these out of its queue, and once that is full, the system answers no more.
    let mut queued = Vec::new();
    while let Ok(connected) = timeout(CONNECTED, TcpStream::connect(address)).await {
        queued.push(connected?);
    }
    pending().await
}

async fn accept(listener: TcpListener, behaviour: Behaviour) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tell(&Event::Connected)?;
        let behaviour = behaviour.clone();
        // A client that goes away in the middle is its own affair: what it did not send has not arrived.
        tokio::spawn(async move { converse(stream, &behaviour).await });
    }
}

pub(super) fn tell(event: &Event) -> Result<()> {
    let line = serde_json::to_string(event)?;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

async fn converse(stream: TcpStream, behaviour: &Behaviour) -> Result<()> {
    let mut clear = Dialog::new(stream, behaviour, false);
    clear.reply(Some(Stage::Greeting), "220 sink.bench.test ESMTP").await?;
    if let (Next::StartTls, Some(tls)) = (clear.run().await?, &behaviour.tls) {
        let stream = tls.accept(clear.stream.into_inner()).await?;
        Dialog::new(stream, behaviour, true).run().await?;
    }
    Ok(())
}
