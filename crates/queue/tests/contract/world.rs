//! A queue on a server of its own, and short words for what tests do with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use staffetta_mail::{Envelope, QueueId, Recipient, ReversePath, Status};
use staffetta_queue::server::{LocalServer, Options};
use staffetta_queue::{
    Accept, Compression, Destination, EnqueueError, Filter, Job, Notice, Origin, Queue, Settings, Settled, Settlement,
};
use staffetta_testkit::s3::files;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) queue: Queue,
    pub(crate) server: LocalServer,
    pub(crate) settings: Settings,
    shutdown: CancellationToken,
    _dir: TempDir,
}

/// The settings of nearly all tests: what they put in takes as much of Redis as it is large.
pub(crate) fn settings(url: String) -> Settings {
    let compression = Compression::None;
    Settings { partitions: 4, lease: Duration::from_secs(60), compression, ..Settings::at(url) }
}

pub(crate) async fn world() -> World {
    world_with(&[], |_| {}).await
}

/// With settings for redis-server and changes to the queue's own.
pub(crate) async fn world_with(server: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> World {
    let settings = server.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    world_on(Options { port: None, settings }, |_| {}, change).await
}

/// On a node of a Redis Cluster that has all slots: it refuses whatever touches two slots at once.
pub(crate) async fn cluster_world(server: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> World {
    let [port, bus] = [free_port(), free_port()];
    let bus = bus.to_string();
    let cluster = [("cluster-enabled", "yes"), ("cluster-port", &bus)];
    let settings = cluster.iter().chain(server).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options { port: Some(port), settings: settings.collect() };
    world_on(options, take_all_slots, change).await
}

fn take_all_slots(server: &LocalServer) {
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec(&mut redis).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while !redis::cmd("CLUSTER").arg("INFO").query::<String>(&mut redis).unwrap().contains("cluster_state:ok") {
        assert!(Instant::now() < end, "the cluster does not come up");
        std::thread::yield_now();
    }
}

/// Files of bodies in the store `spool` below a folder, marks left out.
pub(crate) fn bodies(folder: &TempDir) -> Vec<PathBuf> {
    let mut files = files(folder.path().join("spool")).unwrap();
    files.retain(|path| !path.to_string_lossy().contains("/mark-"));
    files
}

/// Lines of text, no two alike.
pub(crate) fn text(size: usize) -> Vec<u8> {
    let mut text: Vec<u8> = (0_u64..).take(size / 40 + 1).flat_map(|n| format!("{n:0>37} \r\n").into_bytes()).collect();
    text.truncate(size);
    text
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn world_on(options: Options, prepare: impl FnOnce(&LocalServer), change: impl FnOnce(&mut Settings)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let server = LocalServer::start_with(dir.path(), options).unwrap();
    prepare(&server);
    let mut settings = settings(server.url());
    change(&mut settings);
    let shutdown = CancellationToken::new();
    let queue = Queue::open(settings.clone(), shutdown.clone()).unwrap();
    queue.ready(Duration::from_secs(10)).await.unwrap();
    World { queue, server, settings, shutdown, _dir: dir }
}

impl World {
    /// A second process on the same server.
    pub(crate) async fn another(&self) -> Queue {
        let queue = Queue::open(self.settings.clone(), self.shutdown.child_token()).unwrap();
        queue.ready(Duration::from_secs(10)).await.unwrap();
        queue
    }

    /// A connection without the queue.
    pub(crate) fn redis(&self) -> redis::Connection {
        redis::Client::open(self.server.url()).unwrap().get_connection().unwrap()
    }

    pub(crate) async fn put(&self, recipients: &[&str], body: &[u8]) -> QueueId {
        put(&self.queue, recipients, body).await.unwrap()
    }

    /// All due jobs of a destination.
    pub(crate) async fn claim(&self, destination: &str) -> Vec<Job> {
        claim(&self.queue, destination).await
    }

    /// The only job of a destination.
    pub(crate) async fn claim_one(&self, destination: &str) -> Job {
        let mut jobs = self.claim(destination).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// The same, due or not, by a worker that begins it.
    pub(crate) async fn attempt(&self, destination: &str) -> Job {
        self.queue.flush(&Filter::default()).await.unwrap();
        let job = self.claim_one(destination).await;
        if job.silences > 0 {
            assert!(self.queue.begin(&job.lease).await.unwrap());
        }
        job
    }

    pub(crate) async fn finish(&self, job: &Job) -> Settled {
        self.queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() }).await.unwrap()
    }

    pub(crate) async fn defer(&self, job: &Job, after: Duration) -> Settled {
        self.queue.settle(&job.lease, deferred(job.recipients.clone(), after)).await.unwrap()
    }

    /// What every worker does every few seconds.
    pub(crate) async fn keep_house(&self) {
        for partition in 0..self.queue.partitions() {
            self.queue.reclaim(partition).await.unwrap();
        }
    }

    pub(crate) fn keys(&self, pattern: &str) -> Vec<String> {
        redis::cmd("KEYS").arg(pattern).query(&mut self.redis()).unwrap()
    }

    /// What waits to be deleted, with when.
    pub(crate) fn garbage(&self) -> Vec<(String, f64)> {
        let entries = |key: &String| -> Vec<(String, f64)> {
            redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES").query(&mut self.redis()).unwrap()
        };
        self.keys("*}gc").iter().flat_map(entries).collect()
    }

    /// Makes what is in the garbage sets due, and reaps until nothing is left.
    pub(crate) async fn reap(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.garbage().is_empty() {
            assert!(Instant::now() < end, "{:?}", self.garbage());
            for key in self.keys("*}gc") {
                let names: Vec<String> =
                    redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query(&mut self.redis()).unwrap();
                for name in names {
                    redis::cmd("ZADD").arg(&key).arg("XX").arg(1).arg(name).exec(&mut self.redis()).unwrap();
                }
            }
            self.keep_house().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All keys but the identity and the tombstones: what a queue without mail must not have.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.redis()).unwrap();
        keys.retain(|key| {
            !key.ends_with("}id")
                && !key.ends_with("}op")
                && !key.ends_with("}sus")
                && !key.ends_with("cfg}")
                && !key.contains("}x:")
                && key != "{kq:cfg}readers"
        });
        // The number of jobs beyond the first: 0 again.
        keys.retain(|key| {
            let zero = || redis::cmd("GET").arg(key).query::<i64>(&mut self.redis()).unwrap() == 0;
            !(key.ends_with("}n") && zero())
        });
        keys
    }
}

pub(crate) async fn put(queue: &Queue, recipients: &[&str], body: &[u8]) -> Result<QueueId, EnqueueError> {
    let mut incoming = queue.receive()?;
    incoming.write(body).await?;
    incoming.commit(accept(recipients), b"").await
}

pub(crate) async fn claim(queue: &Queue, destination: &str) -> Vec<Job> {
    let mut jobs = Vec::new();
    for partition in 0..queue.partitions() {
        jobs.extend(queue.claim(partition, &Destination::new(destination), 100).await.unwrap());
    }
    jobs
}

pub(crate) fn accept(recipients: &[&str]) -> Accept {
    Accept {
        envelope: Envelope::new(
            ReversePath::Address("sender@example.org".parse().unwrap()),
            recipients.iter().map(|text| Recipient::new(text.parse().unwrap())).collect(),
        ),
        origin: Origin {
            listener: "smtp".into(),
            client: None,
            helo: "client.example".into(),
            login: None,
            span: None,
        },
        lifetime: Duration::from_secs(3_600),
    }
}

pub(crate) fn deferred(remaining: Vec<u32>, after: Duration) -> Settlement {
    Settlement::Deferred {
        remaining,
        after,
        reason: "450 4.2.0 later".into(),
        status: Status::new(4, 2, 0),
        back_off: None,
        notices: Vec::new(),
        delay_noticed: false,
        held: false,
    }
}

pub(crate) fn notice(body: &'static [u8]) -> Notice {
    let mut accept = accept(&["sender@example.org"]);
    accept.envelope.sender = ReversePath::Null;
    accept.origin.listener = "bounce".into();
    Notice { accept, body: body.into() }
}
