//! A world for the delivery worker: a real Redis, a fake DNS, scripted mail servers, workers that can be killed.

pub(crate) mod mx;
pub(crate) mod web;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use staffetta_config::{Config, Service};
use staffetta_mail::{Address, Envelope, Notify, QueueId, Recipient, ReversePath};
use staffetta_queue::server::LocalServer;
use staffetta_queue::{Accept, Destination, Entry, Filter, Incoming, Origin, Place, Queue, Settings};
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::ports::Port;
use staffetta_transport::live::Live;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Redis, DNS and a queue to put mail into.
pub(crate) struct World {
    pub(crate) redis: LocalServer,
    pub(crate) dns: FakeDns,
    pub(crate) queue: Queue,
    _dir: tempfile::TempDir,
    _end: DropGuard,
}

/// A worker in a runtime of its own.
pub(crate) struct Worker {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: CancellationToken,
    settings: Sender<Arc<Config>>,
    applied: Receiver<u64>,
    ended: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    http: Port,
}

fn settings(url: String, lease: Duration) -> Settings {
    Settings { partitions: 4, lease, ..Settings::at(url) }
}

/// Of nobody who is known.
fn origin() -> Origin {
    Origin { listener: "test".to_owned(), client: None, helo: "test".to_owned(), login: None, span: None }
}

impl World {
    /// Starts everything but workers.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let redis = LocalServer::start(&dir.path().join("redis"))?;
        let end = CancellationToken::new();
        let queue = Queue::open(settings(redis.url(), Duration::from_secs(120)), end.clone())?;
        queue.ready(PATIENCE).await?;
        Ok(Self { redis, dns: FakeDns::start().await?, queue, _dir: dir, _end: end.drop_guard() })
    }

    /// From now on mail goes into so many partitions.
    pub(crate) async fn widen(&mut self, partitions: u16) -> anyhow::Result<()> {
        let settings = Settings { partitions, ..settings(self.redis.url(), Duration::from_secs(120)) };
        let end = CancellationToken::new();
        self.queue = Queue::open(settings, end.clone())?;
        self._end = end.drop_guard();
        Ok(self.queue.ready(PATIENCE).await?)
    }

    /// A worker claims all mail for a destination, begins what is suspect, and dies; somebody takes it back.
    pub(crate) async fn die_with(&self, destination: &str) -> anyhow::Result<()> {
        let (end, destination) = (CancellationToken::new(), Destination::new(destination));
        let _end = end.clone().drop_guard();
        let dying = Queue::open(settings(self.redis.url(), Duration::from_millis(100)), end)?;
        dying.ready(PATIENCE).await?;
        let (mut claimed, mut taken_back) = (0_u64, 0);
        for partition in 0..dying.partitions() {
            for job in dying.claim(partition, &destination, 100).await? {
                claimed += 1;
                if job.silences > 0 {
                    dying.begin(&job.lease).await?;
                }
            }
        }
        while taken_back < claimed {
            for partition in 0..self.queue.partitions() {
                taken_back += self.queue.reclaim(partition).await?;
            }
        }
        Ok(())
    }

    /// The keys of Redis that match a pattern, as it prints them.
    pub(crate) fn keys(&self, pattern: &str) -> anyhow::Result<String> {
        self.tell_redis(&["KEYS ", pattern].concat())
    }

    /// What Redis answers to a command.
    pub(crate) fn tell_redis(&self, command: &str) -> anyhow::Result<String> {
        use std::io::{Read as _, Write as _};

        let mut stream = std::os::unix::net::UnixStream::connect(self.redis.socket())?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A worker whose `[delivery]` table has these lines besides short times; `routes` follow it.
    pub(crate) fn worker(&self, settings: &str, routes: &str) -> anyhow::Result<Worker> {
        self.worker_proving("", settings, routes)
    }

    /// The same, with these lines in `[dns]`.
    pub(crate) fn worker_proving(&self, dns: &str, settings: &str, routes: &str) -> anyhow::Result<Worker> {
        let http = Port::reserve()?;
        let blocked = if settings.contains("blocked_networks") { "" } else { "blocked_networks = []\n" };
        let retry = if settings.contains("retry_min") { "" } else { "retry_min = \"1s\"\nretry_max = \"1s\"\n" };
        let text = format!(
            "hostname = \"relay.test\"\n\
             [redis]\nurl = \"{}\"\npartitions = 4\n\
             [dns]\nservers = [\"{}\"]\n{dns}\n\
             [delivery]\nhttp = \"{}\"\n{retry}{blocked}{settings}\n{routes}\n",
            self.redis.url(),
            self.dns.address(),
            http.address(),
        );
        Worker::start(Arc::new(Config::parse(&text, "test.toml").map_err(|e| anyhow::anyhow!("{e}"))?), http)
    }

    /// A worker that gives everything to one server.
    pub(crate) fn worker_via(&self, server: &mx::Server, settings: &str) -> anyhow::Result<Worker> {
        let via = format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"smtp://{}\"\n", server.address());
        self.worker(settings, &via)
    }

    /// Queues a message from `sender` (`""`: the null path).
    pub(crate) async fn send(&self, sender: &str, recipients: &[&str], body: &[u8]) -> anyhow::Result<QueueId> {
        self.send_with(sender, recipients, body, Duration::from_secs(3600), None).await
    }

    /// The same, with header fields that were known only at the end.
    pub(crate) async fn send_behind(&self, prefix: &[u8], recipients: &[&str], body: &[u8]) -> anyhow::Result<QueueId> {
        self.put("john@home.test", recipients, body, Duration::from_secs(3600), None, prefix).await
    }

    /// The same, changed before it is queued.
    pub(crate) async fn send_as(&self, recipient: &str, change: impl FnOnce(&mut Envelope)) -> anyhow::Result<QueueId> {
        self.send_from(None, recipient, change).await
    }

    /// The same, brought by this client, who did not log in.
    pub(crate) async fn send_from(
        &self,
        client: Option<IpAddr>,
        recipient: &str,
        change: impl FnOnce(&mut Envelope),
    ) -> anyhow::Result<QueueId> {
        self.fill(self.queue.receive()?, Origin { client, ..origin() }, recipient, change).await
    }

    /// The same, handed in by this login.
    pub(crate) async fn send_of(&self, login: &str, recipient: &str) -> anyhow::Result<QueueId> {
        let origin = Origin { login: Some(login.to_owned()), ..origin() };
        self.fill(self.queue.receive()?, origin, recipient, |_| {}).await
    }

    /// The same, into the partition of another message: who claims that one gets this one, too.
    pub(crate) async fn send_beside(&self, other: QueueId, recipient: &str) -> anyhow::Result<QueueId> {
        self.send_beside_as(other, recipient, |_| {}).await
    }

    pub(crate) async fn send_beside_as(
        &self,
        other: QueueId,
        recipient: &str,
        change: impl FnOnce(&mut Envelope),
    ) -> anyhow::Result<QueueId> {
        let mut incoming = self.queue.receive()?;
        while incoming.id().partition() != other.partition() {
            incoming = self.queue.receive()?;
        }
        self.fill(incoming, origin(), recipient, change).await
    }

    async fn fill(
        &self,
        mut incoming: Incoming,
        origin: Origin,
        recipient: &str,
        change: impl FnOnce(&mut Envelope),
    ) -> anyhow::Result<QueueId> {
        incoming.write(crate::BODY).await?;
        let sender = ReversePath::Address(Address::parse("john@home.test")?);
        let mut envelope = Envelope::new(sender, vec![Recipient::new(Address::parse(recipient)?)]);
        change(&mut envelope);
        Ok(incoming.commit(Accept { envelope, origin, lifetime: Duration::from_secs(3600) }, b"").await?)
    }

    /// The same, with a lifetime and NOTIFY.
    pub(crate) async fn send_with(
        &self,
        sender: &str,
        recipients: &[&str],
        body: &[u8],
        lifetime: Duration,
        notify: Option<Notify>,
    ) -> anyhow::Result<QueueId> {
        self.put(sender, recipients, body, lifetime, notify, b"").await
    }

    async fn put(
        &self,
        sender: &str,
        recipients: &[&str],
        body: &[u8],
        lifetime: Duration,
        notify: Option<Notify>,
        prefix: &[u8],
    ) -> anyhow::Result<QueueId> {
        let mut incoming = self.queue.receive()?;
        incoming.write(body).await?;
        let recipient = |text: &&str| Ok(Recipient { notify, ..Recipient::new(Address::parse(text)?) });
        let sender = if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(Address::parse(sender)?) };
        let envelope = Envelope::new(sender, recipients.iter().map(recipient).collect::<anyhow::Result<_>>()?);
        Ok(incoming.commit(Accept { envelope, origin: origin(), lifetime }, prefix).await?)
    }

    /// Everything in the queue.
    pub(crate) async fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        Ok(self.queue.list(&Filter::default(), None, 1000).await?.entries)
    }

    /// Waits until the queue looks as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&[Entry]) -> bool) -> anyhow::Result<Vec<Entry>> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let entries = self.entries().await?;
            if wanted(&entries) {
                return Ok(entries);
            }
            anyhow::ensure!(tokio::time::Instant::now() < end, "the queue did not become {what}: {entries:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nobody has a job and none is due; then so many wait for their time.
    pub(crate) async fn at_rest(&self, jobs: u64) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let counts = self.queue.counts().await?;
            if counts.ready == 0 && counts.leased == 0 {
                anyhow::ensure!(counts.scheduled == jobs, "{counts:?}");
                return Ok(());
            }
            anyhow::ensure!(tokio::time::Instant::now() < end, "not all rest: {counts:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is queued.
    pub(crate) async fn drained(&self) -> anyhow::Result<()> {
        self.until("empty", <[Entry]>::is_empty).await.map(drop)
    }
}

impl Worker {
    fn start(config: Arc<Config>, http: Port) -> anyhow::Result<Self> {
        staffetta_transport::tls::install_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let shutdown = CancellationToken::new();
        let (settings, live) = Live::channel(config);
        let applied = live.applied();
        let ended = runtime.spawn(staffetta_delivery::run(live, shutdown.clone()));
        Ok(Self { runtime: Some(runtime), shutdown, settings, applied, ended: Some(ended), http })
    }

    /// Changes the configuration as a reload does, by a text of the same kind as [`World::worker`] takes: what waits for a
    /// restart stays. It is in force then.
    pub(crate) async fn change(&self, settings: &str, routes: &str) -> anyhow::Result<()> {
        let text = format!("hostname = \"relay.test\"\n[delivery]\n{settings}\n{routes}\n");
        let new = Config::parse(&text, "test.toml").map_err(|e| anyhow::anyhow!("{e}"))?;
        let mut config = Config::clone(&self.settings.borrow());
        anyhow::ensure!(!config.adopt(&new, Service::Delivery).adopted.is_empty(), "nothing takes effect");
        let mut applied = self.applied.clone();
        let before = *applied.borrow_and_update();
        self.settings.send_replace(Arc::new(config));
        tokio::time::timeout(PATIENCE, applied.wait_for(|times| *times > before)).await??;
        Ok(())
    }

    /// Waits until `/readyz` answers with this code and a text that begins so; the text.
    pub(crate) async fn readiness(&self, code: &str, begin: &str) -> anyhow::Result<String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/readyz").await.unwrap_or_default();
            let text = answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim_end().to_owned();
            if answer.starts_with(&format!("HTTP/1.1 {code} ")) && text.starts_with(begin) {
                return Ok(text);
            }
            anyhow::ensure!(tokio::time::Instant::now() < end, "no {code} {begin}: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/metrics` has this.
    pub(crate) async fn shows(&self, text: &str) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let page = self.metrics().await.unwrap_or_default();
            if page.contains(text) {
                return Ok(());
            }
            anyhow::ensure!(tokio::time::Instant::now() < end, "no {text} in {page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the text is not at `/metrics`.
    pub(crate) async fn hides(&self, text: &str) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let page = self.metrics().await?;
            if !page.contains(text) {
                return Ok(());
            }
            anyhow::ensure!(tokio::time::Instant::now() < end, "{text} in {page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `/metrics`
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        Ok(self.get("/metrics").await?)
    }

    async fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(self.http.address()).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// As SIGTERM does; answers what `run` returned.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        match self.ended.take() {
            Some(ended) => tokio::time::timeout(PATIENCE, ended).await??,
            None => Ok(()),
        }
    }

    /// As SIGKILL does: nothing is finished, nothing is settled.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Of what was attempted: domain and why it waits.
pub(crate) fn waiting(entries: &[Entry]) -> Vec<String> {
    let job = |entry: &Entry| {
        let job = entry.jobs.first()?;
        let attempted = job.attempts > 0 && matches!(job.place, Place::Waiting(_));
        attempted.then(|| format!("{}: {}", job.destination.as_str(), job.reason.clone().unwrap_or_default()))
    };
    let mut waiting: Vec<_> = entries.iter().filter_map(job).collect();
    waiting.sort();
    waiting
}
