//! A frontend with everything around it: Redis, an auth service, certificates, a DNS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use staffetta_config::Config;
use staffetta_queue::server::LocalServer;
use staffetta_queue::{Body, Filter, Message, Queue, Settings};
use staffetta_testkit::certs::Authority;
use staffetta_testkit::child::Running;
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::ports::Port;
use staffetta_transport::live::Live;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::auth;

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) relay: SocketAddr,
    pub(crate) submission: SocketAddr,
    pub(crate) submissions: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) auth: SocketAddr,
    pub(crate) ca: PathBuf,
    pub(crate) redis: LocalServer,
    pub(crate) auth_service: auth::Running,
    pub(crate) shutdown: CancellationToken,
    /// Its configuration, if it runs in this process.
    settings: Option<(Sender<Arc<Config>>, Receiver<u64>)>,
    pub(crate) service: tokio::task::JoinHandle<anyhow::Result<()>>,
    /// Standard output and standard error of a frontend that is a process of its own.
    log: PathBuf,
    _process: Option<Running>,
    pub(crate) dns: FakeDns,
    _ports: Vec<Port>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Starts everything and waits until the frontend is ready. `frontend` goes into the `[frontend]` table, and what
    /// stands behind a line `# smtp` into that of the listener.
    pub(crate) async fn start(frontend: &str) -> Self {
        Self::build(frontend, false, None).await
    }

    /// The same with mutual TLS between frontend and auth service.
    pub(crate) async fn start_with_rpc(frontend: &str) -> Self {
        Self::build(frontend, true, None).await
    }

    /// The same with the frontend as a process of its own, so that its log can be read; `log` is the `[log]` table.
    pub(crate) async fn start_process(frontend: &str, log: &str) -> Self {
        Self::build(frontend, false, Some(log)).await
    }

    async fn build(frontend: &str, rpc: bool, log_table: Option<&str>) -> Self {
        staffetta_transport::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        let leaf = authority.leaf("mail", &["mail.test"]).unwrap();
        let redis = LocalServer::start(&folder.path().join("redis")).unwrap();
        let dns = FakeDns::start().await.unwrap();
        dns.mx("example.com", 10, "mx.example.com").null_mx("null.test").servfail("broken.test");
        let ports: Vec<Port> = (0..5).map(|_| Port::reserve().unwrap()).collect();
        let [relay, submission, submissions, http, auth] = [0, 1, 2, 3, 4].map(|i: usize| ports[i].address());
        let scheme = if rpc { "https" } else { "http" };
        let server = authority.leaf("auth", &["127.0.0.1"]).unwrap();
        let client = authority.leaf("client", &["frontend"]).unwrap();
        let ca = authority.ca();
        let rpc_table = format!("[rpc]\nca = {ca:?}\ncertificate = {:?}\nkey = {:?}\n", client.certificate, client.key);
        let (frontend, smtp) = frontend.split_once("\n# smtp\n").unwrap_or((frontend, ""));
        let text = format!(
            r#"
hostname = "mail.test"
[redis]
url = "{url}"
partitions = 2
[spool]
compression = "none"
[tls]
certificate = "{certificate}"
key = "{key}"
{rpc}{log_table}[dns]
servers = ["{dns}"]
[frontend]
http = "{http}"
auth = "{scheme}://{auth}"
{drain}{frontend}
[[frontend.listener]]
name = "smtp"
bind = "{relay}"
kind = "relay"
{smtp}
[[frontend.listener]]
name = "submission"
bind = "{submission}"
kind = "submission"
[[frontend.listener]]
name = "submissions"
bind = "{submissions}"
kind = "submission"
tls = "implicit"
"#,
            url = redis.url(),
            drain = if frontend.contains("drain_delay") { "" } else { "drain_delay = \"200ms\"\n" },
            rpc = if rpc { rpc_table.as_str() } else { "" },
            log_table = log_table.map(|keys| format!("[log]\n{keys}\n")).unwrap_or_default(),
            certificate = leaf.certificate.display(),
            key = leaf.key.display(),
            dns = dns.address(),
        );
        let auth_service = auth::start(auth, rpc.then_some((&server, ca.as_path())));
        let shutdown = CancellationToken::new();
        let (log, mut process, mut settings) = (folder.path().join("frontend.log"), None, None);
        let service = if log_table.is_some() {
            let file = folder.path().join("staffetta.toml");
            std::fs::write(&file, &text).unwrap();
            let arguments = [std::ffi::OsStr::new("--config"), file.as_os_str()];
            process = Some(Running::start(env!("CARGO_BIN_EXE_staffetta-frontend"), &arguments, &log).unwrap());
            tokio::spawn(std::future::pending())
        } else {
            let config = Arc::new(Config::parse(&text, "test.toml").unwrap());
            let (sender, live) = Live::channel(config);
            settings = Some((sender, live.applied()));
            tokio::spawn(staffetta_frontend::run(live, shutdown.clone()))
        };
        let world = Self {
            relay,
            submission,
            submissions,
            http,
            auth,
            ca,
            redis,
            auth_service,
            shutdown,
            settings,
            service,
            log,
            _process: process,
            dns,
            _ports: ports,
            _folder: folder,
        };
        world.until_ready().await;
        world
    }

    /// The log, once it holds `text`.
    pub(crate) async fn log_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes the configuration as a reload does: what waits for a restart stays. It is in force then.
    pub(crate) async fn change(&self, edit: impl FnOnce(&mut Config)) {
        let (settings, applied) = self.settings.as_ref().unwrap();
        let mut applied = applied.clone();
        let before = *applied.borrow_and_update();
        let mut config = Config::clone(&settings.borrow());
        let mut new = config.clone();
        edit(&mut new);
        assert!(!config.adopt(&new, staffetta_config::Service::Frontend).adopted.is_empty(), "nothing takes effect");
        settings.send_replace(Arc::new(config));
        tokio::time::timeout(PATIENCE, applied.wait_for(|times| *times > before)).await.unwrap().unwrap();
    }

    /// Puts an auth service with these mechanisms in the place of the first one.
    pub(crate) async fn replace_auth(&mut self, mechanisms: &[&str]) {
        self.auth_service.0.cancel();
        (&mut self.auth_service.1).await.unwrap();
        self.auth_service = auth::start_with(self.auth, mechanisms);
    }

    /// Waits until `/readyz` says that nothing is missing.
    pub(crate) async fn until_ready(&self) {
        self.until_it_says("HTTP/1.1 200", "\r\n\r\nok\n").await;
    }

    /// Waits until `/readyz` says that the pod takes mail and misses something; what.
    pub(crate) async fn until_away(&self) -> String {
        self.until_it_says("HTTP/1.1 200", "\r\n\r\nok, but ").await
    }

    /// Waits for an answer of `/readyz` that begins like this and contains this.
    pub(crate) async fn until_it_says(&self, status: &str, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/readyz").await;
            if answer.starts_with(status) && answer.contains(text) {
                return answer;
            }
            assert!(!self.service.is_finished(), "the frontend ended");
            assert!(Instant::now() < deadline, "still: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One GET; empty while nobody listens.
    pub(crate) async fn get(&self, path: &str) -> String {
        let Ok(mut tcp) = TcpStream::connect(self.http).await else { return String::new() };
        tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = tcp.read_to_string(&mut answer).await;
        answer
    }

    /// A second client of the queue, as a worker would be.
    pub(crate) async fn queue(&self) -> Queue {
        self.queue_until(self.shutdown.child_token()).await
    }

    /// One that may outlive the frontend.
    pub(crate) async fn queue_until(&self, end: CancellationToken) -> Queue {
        let settings = Settings { partitions: 2, ..Settings::at(self.redis.url()) };
        let queue = Queue::open(settings, end).unwrap();
        queue.ready(PATIENCE).await.unwrap();
        queue
    }

    /// All queued messages.
    pub(crate) async fn messages(&self) -> Vec<Arc<Message>> {
        let entries = self.queue().await.list(&Filter::default(), None, 1000).await.unwrap().entries;
        entries.into_iter().map(|entry| entry.message).collect()
    }

    /// Claims the only message and returns it with its body.
    pub(crate) async fn only_message(&self) -> (Arc<Message>, Vec<u8>) {
        let queue = self.queue().await;
        for partition in 0..queue.partitions() {
            let Some(destination) = queue.offer(partition, 10).await.unwrap().destinations.pop() else { continue };
            let mut jobs = queue.claim(partition, &destination, 10).await.unwrap();
            assert_eq!(jobs.len(), 1);
            let job = jobs.remove(0);
            let body = match job.body {
                Body::Inline(bytes) => bytes.to_vec(),
                Body::Chunks(chunks) => {
                    let mut body = Vec::new();
                    for index in 0..chunks.count {
                        body.extend_from_slice(&queue.chunk(job.message.id, &chunks, index).await.unwrap());
                    }
                    body
                }
            };
            return (job.message, body);
        }
        panic!("nothing is queued");
    }
}
