//! The load of mail clients: each message in a connection of its own, with STARTTLS, AUTH PLAIN and no session resumed, as a
//! thousand different programs would send it. How long AUTH took is noted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cpu;
use crate::load::{DESTINATION, Load, Sent};
use crate::wire::{ask, expect, fill, together};

/// The host name in the relay's certificate.
pub(crate) const HOSTNAME: &str = "relay.bench.test";
/// Who logs in, and with what.
pub(crate) const LOGIN: &str = "john@example.org";
pub(crate) const PASSWORD: &str = "summersun";
/// What Dovecot stores of it: of the same scheme and rounds as `staffetta user add` makes it.
pub(crate) const HASH: &str = "{SHA512-CRYPT}$6$rounds=100000$zYP01usHXGlpYzm/\
    $YRGivtdyHatlMTZpkVl6ZbPuE3vCdMbb11qq0FjVm0BhR5Q9H8LSkV3dtjWxcij7IUkRI3xXgw5dLk5sJPAwQ1";
/// `\0john@example.org\0summersun`
const CREDENTIALS: &str = "AGpvaG5AZXhhbXBsZS5vcmcAc3VtbWVyc3Vu";
/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(60);

/// The load as it comes from mail clients.
pub(crate) struct Clients {
    tls: TlsConnector,
    message: String,
    /// Messages that nobody has begun to send.
    left: AtomicU64,
    port: u16,
}

impl Clients {
    /// `authority`: the PEM file with the relay's certificate authority.
    pub(crate) fn new(load: Load, port: u16, authority: &Path) -> Result<Arc<Self>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(Self {
            tls: Arc::new(config).into(),
            message: fill(format!("From: <{LOGIN}>\r\nTo: <to@{DESTINATION}>\r\nSubject: load\r\n\r\n"), load.size),
            left: AtomicU64::new(load.messages),
            port,
        }))
    }

    /// Sends everything over `sessions` connections at a time.
    ///
    /// # Errors
    /// The first reply that was not expected.
    pub(crate) async fn send(self: Arc<Self>, sessions: u32) -> Result<Sent> {
        let (started, cpu_before) = (Instant::now(), cpu::own());
        let mut logins = together(sessions, || Arc::clone(&self).one_after_another()).await?;
        logins.sort_unstable();
        Ok(Sent {
            started,
            took: started.elapsed(),
            cpu_seconds: cpu::own() - cpu_before,
            logins,
            accepted: Vec::new(),
        })
    }

    async fn one_after_another(self: Arc<Self>) -> Result<Vec<Duration>> {
        let mut logins = Vec::new();
        while self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            let session = tokio::time::timeout(PATIENCE, self.session()).await;
            logins.push(session.context("a session took too long")??);
        }
        Ok(logins)
    }

    /// One message; returns how long AUTH took.
    async fn session(&self) -> Result<Duration> {
        let mut plain = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        expect(&mut plain, "220").await?;
        ask(&mut plain, "EHLO client.bench.test\r\n", "250").await?;
        ask(&mut plain, "STARTTLS\r\n", "220").await?;
        let name = ServerName::try_from(HOSTNAME)?;
        let mut stream = BufReader::new(self.tls.connect(name, plain.into_inner()).await?);
        ask(&mut stream, "EHLO client.bench.test\r\n", "250").await?;
        let asked = Instant::now();
        ask(&mut stream, &format!("AUTH PLAIN {CREDENTIALS}\r\n"), "235").await?;
        let took = asked.elapsed();
        ask(&mut stream, &format!("MAIL FROM:<{LOGIN}>\r\n"), "250").await?;
        ask(&mut stream, &format!("RCPT TO:<to@{DESTINATION}>\r\n"), "250").await?;
        ask(&mut stream, "DATA\r\n", "354").await?;
        ask(&mut stream, &self.message, "250").await?;
        ask(&mut stream, "QUIT\r\n", "221").await?;
        Ok(took)
    }
}
