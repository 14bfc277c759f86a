//! Measures the queue alone: enqueues, then claims and settlements, with the CPU time of both sides.
//!
//! `cargo run -p staffetta-queue --example throughput -- [messages] [committers] [body octets] [destinations] [cluster]`
//!
//! The last one, 1, takes a Redis Cluster of three primaries instead of one server.
#![expect(clippy::print_stdout, reason = "it is a report")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use staffetta_mail::{Envelope, Recipient, ReversePath};
use staffetta_queue::server::{LocalServer, Options};
use staffetta_queue::{Accept, Origin, Queue, Settings, Settlement};
use staffetta_testkit::redis_cluster::RedisCluster;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy)]
struct Plan {
    messages: usize,
    committers: usize,
    octets: usize,
    destinations: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| arguments.next().transpose().map(|value| value.unwrap_or(default));
    let plan = Plan { messages: next(20_000)?, committers: next(20)?, octets: next(5 * 1024)?, destinations: next(1)? };
    let store = Store::start(next(0)? == 1)?;
    let server = store.pids();
    let settings = Settings::at(store.url());
    let shutdown = CancellationToken::new();
    let queue = Queue::open(settings, shutdown.clone())?;
    queue.ready(Duration::from_secs(5)).await?;

    measure("enqueue", plan.messages, &server, enqueue_all(&queue, plan)).await?;
    let used = queue.counts().await?.memory.0;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    println!(
        "memory: {} octets a message with its body",
        queue.counts().await?.memory.0.max(used) / plan.messages as u64
    );
    measure("claim + settle", plan.messages, &server, settle_all(&queue, plan.messages)).await?;
    let both = async {
        let (enqueued, settled) = tokio::join!(enqueue_all(&queue, plan), settle_all(&queue, plan.messages));
        enqueued.and(settled)
    };
    measure("both at once", plan.messages, &server, both).await?;
    shutdown.cancel();
    Ok(())
}

enum Store {
    One { server: LocalServer, _dir: tempfile::TempDir },
    Three(RedisCluster),
}

impl Store {
    fn start(cluster: bool) -> Result<Self> {
        if cluster {
            return Ok(Self::Three(RedisCluster::start(false, &[])?));
        }
        let dir = tempfile::tempdir_in(".")?;
        Ok(Self::One { server: LocalServer::start_with(dir.path(), Options::default())?, _dir: dir })
    }

    fn url(&self) -> String {
        match self {
            Self::One { server, .. } => server.url(),
            Self::Three(cluster) => cluster.url(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::One { server, .. } => vec![server.pid()],
            Self::Three(cluster) => cluster.pids(),
        }
    }
}

async fn enqueue_all(queue: &Queue, plan: Plan) -> Result<()> {
    let body: Arc<[u8]> = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"
        .iter()
        .copied()
        .cycle()
        .take(plan.octets)
        .collect();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..plan.committers {
        let (queue, body, next) = (queue.clone(), body.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.messages {
                    return Ok(());
                }
                let mut incoming = queue.receive()?;
                incoming.write(&body).await?;
                incoming.commit(accept(number % plan.destinations)?, b"").await?;
            }
        });
    }
    join(tasks).await
}

async fn settle_all(queue: &Queue, messages: usize) -> Result<()> {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..queue.partitions() {
        let (queue, done) = (queue.clone(), done.clone());
        tasks.spawn(async move {
            while done.load(Ordering::Relaxed) < messages {
                let offer = queue.offer(partition, 50).await?;
                if offer.destinations.is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                for destination in offer.destinations {
                    let jobs = queue.claim(partition, &destination, 50).await?;
                    let settle = |job: staffetta_queue::Job| {
                        let queue = queue.clone();
                        async move { queue.settle(&job.lease, Settlement::Finished { notices: Vec::new() }).await.map(drop) }
                    };
                    let count = jobs.len();
                    futures_util::future::try_join_all(jobs.into_iter().map(settle)).await?;
                    done.fetch_add(count, Ordering::Relaxed);
                }
            }
            Ok(())
        });
    }
    join(tasks).await
}

async fn join(mut tasks: tokio::task::JoinSet<Result<()>>) -> Result<()> {
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    Ok(())
}

fn accept(destination: usize) -> Result<Accept> {
    let recipient = Recipient::new(format!("someone@d{destination}.example.com").parse()?);
    Ok(Accept {
        envelope: Envelope::new(ReversePath::Address("sender@example.org".parse()?), vec![recipient]),
        origin: Origin {
            listener: "smtp".into(),
            client: Some([192, 0, 2, 1].into()),
            helo: "client.example.org".into(),
            login: None,
            span: None,
        },
        lifetime: Duration::from_secs(432_000),
    })
}

async fn measure(name: &str, messages: usize, servers: &[u32], work: impl Future<Output = Result<()>>) -> Result<()> {
    let of_servers = || servers.iter().map(|pid| cpu(&pid.to_string())).sum::<Result<f64>>();
    let (start, server_before, own_before) = (Instant::now(), of_servers()?, cpu("self")?);
    work.await?;
    let (server_after, own_after) = (of_servers()?, cpu("self")?);
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a report")]
    let count = messages as f64;
    println!(
        "{name}: {:.0}/s, CPU per message: redis-server {:.1} us, client {:.1} us",
        count / seconds,
        (server_after - server_before) * 1e6 / count,
        (own_after - own_before) * 1e6 / count,
    );
    Ok(())
}

/// CPU seconds of a process, from /proc: user and system time in hundredths.
fn cpu(pid: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
