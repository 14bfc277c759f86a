//! For tests that need the inside of the queue: a server, and processes that use it.

use std::sync::Arc;
use std::time::Duration;

use staffetta_mail::{Envelope, QueueId, Recipient, ReversePath};
use tokio_util::sync::CancellationToken;

use crate::server::LocalServer;
use crate::shared::{Process, Shared};
use crate::{Accept, Compression, EnqueueError, Health, Incoming, Origin, Settings};

pub(crate) struct Server {
    settings: Settings,
    server: LocalServer,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = LocalServer::start(dir.path()).unwrap();
        let settings = settings(server.url());
        Self { settings, server, _dir: dir }
    }

    /// One more, which compresses bodies.
    pub(crate) async fn open_packing(&self) -> Arc<Shared> {
        let settings = Settings { compression: Compression::Zstd, ..self.settings.clone() };
        open(&settings, Process::TODAY).await
    }

    /// One more, with a store.
    pub(crate) async fn open_with_store(&self, folder: &std::path::Path) -> Arc<Shared> {
        let spool = Some(format!("file://{}", folder.display()));
        open(&Settings { spool, ..self.settings.clone() }, Process::TODAY).await
    }

    /// One more process.
    pub(crate) async fn open(&self, process: Process) -> Arc<Shared> {
        open(&self.settings, process).await
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.server.pid());
    }
}

/// Sends a process a signal, such as `-STOP`.
pub(crate) fn signal(name: &str, pid: u32) {
    assert!(std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// A process on a server that is there.
pub(crate) async fn open(settings: &Settings, process: Process) -> Arc<Shared> {
    let shared = Shared::open_as(settings.clone(), CancellationToken::new(), process).unwrap();
    while shared.health() != Health::Ready || shared.home().admin.trouble().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared
}

pub(crate) fn settings(url: String) -> Settings {
    let compression = Compression::None;
    Settings { partitions: 2, lease: Duration::from_secs(60), compression, ..Settings::at(url) }
}

pub(crate) fn accept(recipients: &[&str]) -> Accept {
    Accept {
        envelope: Envelope::new(
            ReversePath::Null,
            recipients.iter().map(|text| Recipient::new(text.parse().unwrap())).collect(),
        ),
        origin: Origin { listener: "smtp".into(), client: None, helo: String::new(), login: None, span: None },
        lifetime: Duration::from_secs(3_600),
    }
}

pub(crate) async fn put(shared: &Arc<Shared>, recipients: &[&str]) -> Result<QueueId, EnqueueError> {
    let mut incoming = Incoming::new(shared.clone(), None)?;
    incoming.write(b"body").await?;
    incoming.commit(accept(recipients), b"").await
}
