//! The Dovecot back end: a client of Dovecot's auth protocol, as Postfix is one (`smtpd_sasl_type = dovecot`).
//!
//! Dovecot speaks SASL itself, so that messages of the mechanisms are moved and not understood. [`Relay`] is one
//! exchange; [`Dovecot`] is the connection that all exchanges of the process share (`link`), on which requests are told
//! apart by their ids (`desk`, `requests`) and written as lines (`wire`). Each answer is waited for [`DEADLINE`] at most. No
//! answer, for whatever reason, means that nobody knows.

mod connection;
mod desk;
mod handshake;
mod link;
mod relay;
mod requests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use staffetta_config::DovecotAddress;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use self::connection::{Connection, LinkError};
use self::desk::Order;
use self::link::{Link, State};
pub(crate) use self::relay::{Relay, Told};
use self::requests::{Answer, Ids, Trouble};
use crate::BackendProblem;
use crate::metrics::Metrics;

/// The longest wait for what Dovecot says to one message, everything included. Of LOGIN, name and password are one.
const DEADLINE: Duration = Duration::from_secs(5);

/// Messages that wait for Dovecot's answer; more wait for a place, which is part of their time.
const MAX_WAITING: usize = 1024;

/// Exchanges in which Dovecot waits for the client. Fewer than there are exchanges at all (`service`), so that clients
/// which begin one and fall silent leave room for others.
const MAX_OPEN: usize = 2048;

/// Why Dovecot cannot be asked now.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Unavailable {
    problem: String,
    permanent: bool,
}

impl Unavailable {
    /// The operator has to change something; waiting does not help.
    pub(crate) fn is_permanent(&self) -> bool {
        self.permanent
    }
}

impl From<Unavailable> for BackendProblem {
    fn from(error: Unavailable) -> Self {
        Self { key: KEY, problem: error.problem }
    }
}

impl From<&LinkError> for Unavailable {
    fn from(error: &LinkError) -> Self {
        Self { problem: error.to_string(), permanent: error.is_permanent() }
    }
}

/// Where the operator has to look.
const KEY: &str = "auth.dovecot.socket";

/// A way to Dovecot. Cheap to clone; the connection ends with the last one.
#[derive(Clone)]
pub(crate) struct Dovecot {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    ids: Arc<Ids>,
    waiting: Arc<Semaphore>,
    open: Arc<Semaphore>,
    metrics: Metrics,
}

impl Dovecot {
    /// Begins to connect. Must be called inside a tokio runtime.
    pub(crate) fn new(address: DovecotAddress, metrics: Metrics) -> Self {
        let (told, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        tokio::spawn(Link { address, state: told, wanted: Arc::clone(&wanted), metrics: metrics.clone() }.run());
        Self {
            state,
            wanted,
            ids: Arc::new(Ids::from(1)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            open: Arc::new(Semaphore::new(MAX_OPEN)),
            metrics,
        }
    }

    /// Connects once, hears the greeting, and hangs up.
    pub(crate) async fn check(address: &DovecotAddress) -> Result<(), Unavailable> {
        Connection::open(address).await.map(drop).map_err(|error| (&error).into())
    }

    /// What it offers, or offered when it was last there; `None` as long as it never was.
    pub(crate) fn mechanisms(&self) -> Option<Arc<[String]>> {
        self.state.borrow().mechanisms.clone()
    }

    /// Is it there? Waits for the first attempt to connect.
    pub(crate) async fn probe(&self) -> Result<(), Unavailable> {
        let late = || Unavailable { problem: Trouble::Late.to_string(), permanent: false };
        let mut state = self.state.clone();
        let known = state.wait_for(|state| state.is_up() || state.problem.is_some());
        let state = tokio::time::timeout(DEADLINE, known).await.map_err(|_| late())?.map_err(|_| late())?;
        state.problem.as_ref().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Asks Dovecot. A connection that ends before it has answered is no answer, and often an old one: the question is
    /// put once more on the next.
    async fn begin(
        &self,
        mechanism: &str,
        request: Zeroizing<Vec<u8>>,
        until: Instant,
    ) -> Result<(Login, Answer), Trouble> {
        let request = Arc::new(request);
        match self.begin_once(mechanism, &request, until).await {
            Err(Trouble::Lost) => self.begin_once(mechanism, &request, until).await,
            outcome => outcome,
        }
    }

    async fn begin_once(
        &self,
        mechanism: &str,
        request: &Arc<Zeroizing<Vec<u8>>>,
        until: Instant,
    ) -> Result<(Login, Answer), Trouble> {
        let orders = self.connected(until).await?;
        let login = Login { id: self.ids.next(), orders, dovecot: self.clone(), is_over: false };
        let (mechanism, request) = (mechanism.to_owned(), Arc::clone(request));
        login.ask(until, |id, waiting| Order::Begin { id, mechanism, request, waiting }).await
    }

    /// Where orders go. Without a connection, one attempt to make it is waited for.
    async fn connected(&self, until: Instant) -> Result<mpsc::UnboundedSender<Order>, Trouble> {
        let away = || Trouble::Away("shutting down".to_owned());
        let mut state = self.state.clone();
        let failures = state.borrow().failures;
        if !state.borrow().is_up() {
            self.wanted.notify_one();
        }
        let known = state.wait_for(|state| state.is_up() || state.failures != failures);
        let state = timeout_at(until, known).await.map_err(|_| Trouble::Late)?.map_err(|_| away())?;
        let why = || state.problem.as_ref().map_or_else(away, |error| Trouble::Away(error.to_string()));
        state.current.clone().ok_or_else(why)
    }

    async fn place(&self, until: Instant) -> Result<SemaphorePermit<'_>, Trouble> {
        let permit = timeout_at(until, self.waiting.acquire()).await;
        permit.map_err(|_| Trouble::Busy)?.map_err(|_| Trouble::Busy)
    }
}

/// A request that Dovecot has open; given up when it is dropped.
struct Login {
    id: u32,
    /// To the connection on which it was begun.
    orders: mpsc::UnboundedSender<Order>,
    dovecot: Dovecot,
    is_over: bool,
}

impl Login {
    /// Gives the client's answer to the last challenge.
    async fn go_on(self, octets: &[u8], until: Instant) -> Result<(Self, Answer), Trouble> {
        let line = wire::answer(self.id, octets);
        self.ask(until, |id, waiting| Order::GoOn { id, line, waiting }).await
    }

    async fn ask(
        mut self,
        until: Instant,
        order: impl FnOnce(u32, oneshot::Sender<requests::Reply>) -> Order,
    ) -> Result<(Self, Answer), Trouble> {
        let dovecot = self.dovecot.clone();
        let _place = dovecot.place(until).await?;
        let (waiting, reply) = oneshot::channel();
        let asked = Instant::now();
        self.orders.send(order(self.id, waiting)).map_err(|_| Trouble::Lost)?;
        let reply = timeout_at(until, reply).await.map_err(|_| Trouble::Late)?.unwrap_or(Err(Trouble::Lost))?;
        self.dovecot.metrics.dovecot_answered(asked.elapsed());
        self.is_over = !matches!(reply, Answer::Challenge(_));
        Ok((self, reply))
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if !self.is_over {
            // Without a connection there is nothing to give up.
            let _ = self.orders.send(Order::Cancel { id: self.id });
        }
    }
}
