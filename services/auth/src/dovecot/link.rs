//! The one connection to Dovecot that all logins of this process share, made again whenever it ends.
//!
//! Attempts to connect come at growing intervals while nobody asks; a login that comes meanwhile has one made at once, so
//! that logins work again as soon as Dovecot does.
//!
//! A Dovecot that is stopped or reloaded ends, but its auth process stays as long as somebody is connected to it, and
//! goes on with the old configuration. So a connection is replaced when the socket is not the same any more, and now and
//! then for that reason alone. New logins take the new one; the old one ends when its last login has.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use staffetta_config::DovecotAddress;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, LinkError};
use super::desk::{self, Order};
use crate::metrics::Metrics;

/// The shortest time between two attempts to connect, however many logins wait for one.
const FLOOR: Duration = Duration::from_millis(100);

/// The longest while nobody asks.
const CEILING: Duration = Duration::from_secs(5);

/// A connection that ends sooner was no good: the next attempt waits.
const GOOD: Duration = Duration::from_secs(1);

/// How often the socket is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A connection is replaced after this.
const MAX_AGE: Duration = Duration::from_secs(60);

/// What is known of Dovecot.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// What it offered when it was last heard of.
    pub(super) mechanisms: Option<Arc<[String]>>,
    /// Where orders go, while there is a connection.
    pub(super) current: Option<mpsc::UnboundedSender<Order>>,
    /// Why there is none.
    pub(super) problem: Option<LinkError>,
    /// Attempts that failed.
    pub(super) failures: u64,
}

impl State {
    /// Can it be asked?
    pub(super) fn is_up(&self) -> bool {
        self.current.as_ref().is_some_and(|orders| !orders.is_closed())
    }
}

/// The task that keeps it.
pub(super) struct Link {
    pub(super) address: DovecotAddress,
    pub(super) state: watch::Sender<State>,
    /// A login has no connection.
    pub(super) wanted: Arc<Notify>,
    pub(super) metrics: Metrics,
}

/// A connection in use.
struct Used {
    task: JoinHandle<LinkError>,
    since: Instant,
    /// The socket behind which it is.
    socket: Option<Socket>,
}

/// Tells a socket from the one that takes its place under the same name.
#[derive(PartialEq, Eq)]
struct Socket(u64, u64, i64, i64);

/// What became of a connection.
enum End {
    Broken(LinkError),
    /// There is a newer one.
    Replaced(Used),
}

impl Link {
    /// Connects, and again, until nobody asks any more.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.state.closed() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let mut pause = FLOOR;
        loop {
            let started = Instant::now();
            let error = match self.connect().await {
                Ok(used) => self.watch(used).await,
                Err(error) => {
                    self.state.send_modify(|state| state.failures += 1);
                    error
                }
            };
            let was_good = !error.is_permanent() && started.elapsed() >= GOOD && self.state.borrow().current.is_some();
            self.state.send_modify(|state| (state.current, state.problem) = (None, Some(error)));
            if was_good {
                pause = FLOOR;
                continue;
            }
            sleep(FLOOR).await;
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep(pause.saturating_sub(FLOOR)) => {}
            }
            pause = (pause * 2).min(CEILING);
        }
    }

    /// Makes a connection, and the one that new logins take.
    async fn connect(&self) -> Result<Used, LinkError> {
        let socket = self.socket();
        let connection = Connection::open(&self.address).await?;
        self.metrics.dovecot_connected();
        let mechanisms = connection.greeting.mechanisms.clone().into();
        let (current, orders) = mpsc::unbounded_channel();
        let task = tokio::spawn(desk::serve(connection, orders));
        self.state.send_modify(|state| {
            (state.mechanisms, state.current, state.problem) = (Some(mechanisms), Some(current), None);
        });
        Ok(Used { task, since: Instant::now(), socket })
    }

    /// Waits for the end of a connection and of those that take its place.
    async fn watch(&self, mut used: Used) -> LinkError {
        loop {
            match self.watch_one(used).await {
                End::Broken(error) => return error,
                End::Replaced(next) => used = next,
            }
        }
    }

    async fn watch_one(&self, mut used: Used) -> End {
        loop {
            tokio::select! {
                ended = &mut used.task => return End::Broken(ended.unwrap_or(LinkError::Ended)),
                () = sleep(LOOK) => {}
            }
            if used.socket == self.socket() && used.since.elapsed() < MAX_AGE {
                continue;
            }
            tokio::select! {
                ended = &mut used.task => return End::Broken(ended.unwrap_or(LinkError::Ended)),
                next = self.connect() => match next {
                    Ok(next) => return End::Replaced(next),
                    // The old one serves on, as long as it can.
                    Err(error) => {
                        tracing::debug!(%error, "the connection to Dovecot could not be replaced");
                        used.since = Instant::now();
                    }
                },
            }
        }
    }

    fn socket(&self) -> Option<Socket> {
        let DovecotAddress::Unix(path) = &self.address else { return None };
        let file = std::fs::metadata(path).ok()?;
        Some(Socket(file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
    }
}
