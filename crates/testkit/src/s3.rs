//! A server that speaks S3, in this process: it keeps its objects in a folder, and takes no request without a right signature.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
const SECRET_KEY: &str = "secretsecretsecretsecretsecretsecretsecr";

/// Ends when dropped.
pub struct S3Server {
    address: SocketAddr,
    folder: TempDir,
    away: watch::Sender<bool>,
    task: AbortHandle,
}

impl S3Server {
    /// With one empty bucket.
    pub async fn start(bucket: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(bucket))?;
        let files = FileSystem::new(folder.path()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let away = watch::Sender::new(false);
        let mut gone = away.subscribe();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted,
                    changed = gone.changed() => match changed {
                        Ok(()) => {
                            connections.shutdown().await;
                            continue;
                        }
                        Err(_) => return,
                    },
                };
                let Ok((stream, _)) = stream else { return };
                if *gone.borrow() {
                    continue;
                }
                let (service, builder) = (service.clone(), Builder::new(TokioExecutor::new()));
                connections.spawn(async move {
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, folder, away, task: task.abort_handle() })
    }

    /// Connections are closed, those that are open and those that come; or not any more.
    pub fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// What a client has in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let all = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// All objects of a bucket, by their files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn objects(&self, bucket: &str) -> anyhow::Result<Vec<PathBuf>> {
        files(self.folder.path().join(bucket))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All files in a folder, at any depth, in order.
///
/// # Errors
/// It cannot be read.
pub fn files(folder: PathBuf) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            // Deleted meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| folder.display().to_string())?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}
