//! Load with an exact account: what each client was told of each message, and what that leaves to be seen at the MX.
//!
//! Every message has one recipient, and no two the same, so the recipient is its name. What was answered `250` must come, what was
//! refused at the final dot must not (RFC 5321 4.2.5); of what has no answer nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use staffetta_cli::sink::Sink;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Client, SOON};

const DOMAIN: &str = "example.com";
/// After a refusal, or without a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// `250`.
    pub accepted: BTreeSet<String>,
    /// `4xx` or `5xx`, at the final dot or before it.
    pub refused: BTreeSet<String>,
    /// The final dot was sent, and nothing came back.
    pub unknown: BTreeSet<String>,
}

/// Senders that go on until they are stopped.
pub struct Load {
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
    senders: Vec<JoinHandle<()>>,
}

/// What comes to a sink, for good.
pub struct Arrivals {
    came: Arc<Mutex<Came>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Came {
    /// Recipients, and how often their message came.
    times: BTreeMap<String, usize>,
    missed: u64,
}

/// What has become of it all.
#[derive(Debug)]
pub struct Verdict {
    told: Told,
    /// Accepted, and did not come.
    pub lost: Vec<String>,
    /// Refused, and came all the same.
    pub though_refused: Vec<String>,
    /// Deliveries beyond the first.
    pub duplicates: usize,
}

impl Load {
    /// So many senders, each with one message after the other, from an address that is trusted.
    pub fn start(relay: SocketAddr, senders: usize, message: &Arc<str>) -> Self {
        Self::through(senders, message, move || async move {
            let mut client = Client::connect_from("127.0.0.9", relay).await?;
            client.expect("EHLO client.test", 250).await?;
            Ok(client)
        })
    }

    /// The same over connections of the caller's, which may send as john@example.org.
    pub fn through<F, C>(senders: usize, message: &Arc<str>, connect: C) -> Self
    where
        C: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<Client>> + Send,
    {
        let (told, stop) = (Arc::<Mutex<Told>>::default(), CancellationToken::new());
        let start = |sender| {
            let (told, stop, message, connect) = (told.clone(), stop.clone(), message.clone(), connect.clone());
            tokio::spawn(async move {
                let mut sent = 0;
                while !stop.is_cancelled() {
                    if let Ok(client) = connect().await {
                        let _ = session(client, sender, &mut sent, &message, &told, &stop).await;
                    }
                    sleep(PAUSE).await;
                }
            })
        };
        let senders = (0..senders).map(start).collect();
        Self { told, stop, senders }
    }

    /// How many were accepted so far.
    pub fn accepted(&self) -> usize {
        lock(&self.told).accepted.len()
    }

    /// Waits until so many more were accepted.
    ///
    /// # Errors
    /// In this time they were not.
    pub async fn more(&self, count: usize, patience: Duration) -> anyhow::Result<()> {
        let (wanted, end) = (self.accepted() + count, Instant::now() + patience);
        while self.accepted() < wanted {
            ensure!(Instant::now() < end, "{} of {wanted} were accepted", self.accepted());
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends it; each sender hears of its last message.
    ///
    /// # Errors
    /// A sender does not end.
    pub async fn stop(self) -> anyhow::Result<Told> {
        self.stop.cancel();
        for sender in self.senders {
            timeout(4 * SOON, sender).await.context("a sender hears nothing")??;
        }
        Ok(lock(&self.told).clone())
    }
}

impl Arrivals {
    /// Reads what comes, as it comes.
    pub fn at(mut sink: Sink) -> Self {
        let came = Arc::<Mutex<Came>>::default();
        let read = came.clone();
        let reader = tokio::spawn(async move {
            while let Some(message) = sink.received().await {
                let mut came = lock(&read);
                came.missed = sink.missed();
                for name in message.recipients {
                    *came.times.entry(name).or_default() += 1;
                }
            }
        });
        Self { came, reader }
    }

    /// Waits until all that was accepted has come and nothing more comes for so long.
    ///
    /// # Errors
    /// The sink has lost something itself.
    pub async fn verdict(&self, told: Told, calm: Duration) -> anyhow::Result<Verdict> {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let (count, missing) = {
                let came = lock(&self.came);
                (came.times.values().sum(), told.accepted.iter().any(|name| !came.times.contains_key(name)))
            };
            if count != seen {
                (seen, since) = (count, Instant::now());
            }
            if since.elapsed() > if missing { SOON.max(calm) } else { calm } {
                break;
            }
            sleep(PAUSE).await;
        }
        let came = lock(&self.came);
        ensure!(came.missed == 0, "{} messages came faster than the test reads them", came.missed);
        Ok(told.compared(&came.times))
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Told {
    /// Set against what came: how often each message did.
    pub fn compared(self, came: &BTreeMap<String, usize>) -> Verdict {
        let lost = self.accepted.iter().filter(|name| !came.contains_key(*name)).cloned().collect();
        let though_refused = self.refused.iter().filter(|name| came.contains_key(*name)).cloned().collect();
        let duplicates = came.values().map(|times| times - 1).sum();
        Verdict { told: self, lost, though_refused, duplicates }
    }
}

impl Verdict {
    /// Is it what was promised? `in_flight`: deliveries whose end nobody can have heard of.
    ///
    /// # Errors
    /// The verdict.
    #[expect(clippy::print_stdout, reason = "the account, for whoever looks at a test")]
    pub fn judge(&self, in_flight: usize) -> anyhow::Result<()> {
        println!("{self} ≤ in flight {in_flight}");
        ensure!(
            self.lost.is_empty() && self.though_refused.is_empty(),
            "{self}: {:?} {:?}",
            self.lost,
            self.though_refused
        );
        ensure!(self.duplicates <= in_flight, "{self}, and {in_flight} were in flight");
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { accepted, refused, unknown } = &self.told;
        let (all, no, none) = (accepted.len(), refused.len(), unknown.len());
        write!(f, "accepted {all} · refused {no} · without an answer {none} · lost {}", self.lost.len())?;
        write!(f, " · delivered though refused {} · duplicates {}", self.though_refused.len(), self.duplicates)
    }
}

/// One connection, as long as it lasts.
async fn session(
    mut client: Client,
    sender: usize,
    sent: &mut usize,
    message: &str,
    told: &Mutex<Told>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        *sent += 1;
        let recipient = format!("s{sender}-{sent}@{DOMAIN}");
        if let Err(error) = client.begin("john@example.org", &[&recipient]).await {
            lock(told).refused.insert(recipient);
            return Err(error);
        }
        let reply = client.finish(message).await;
        let mut told = lock(told);
        match reply {
            Ok(reply) if reply.code == 250 => drop(told.accepted.insert(recipient)),
            Ok(_) => drop(told.refused.insert(recipient)),
            Err(error) => {
                told.unknown.insert(recipient);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
