//! Connections to Redis, each with a supervisor that keeps it alive.
//!
//! A [`Link`] is one physical connection for one role, so that a large body never stands in front of a lease. Its
//! supervisor dials, asks the [`crate::gate`], loads the scripts, and only then publishes the connection; a lost or
//! spoiled one is withdrawn at once and dialled again with back-off. Nothing is ever sent twice from here: whoever sent
//! a command decides what a lost answer means.

use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, Pipeline, PushKind, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::cluster::Cluster;
use crate::error::{Fault, Trouble};
use crate::live::{Live, alone, only};
use crate::outage::Witness;
use crate::server_check::{Need, ServerCheck};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A command that takes longer has an unknown outcome. Far above any stall of a healthy disk.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Requests that may wait inside the connection.
const BUFFER: usize = 1_000;

/// A supervised connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    state: watch::Receiver<LinkState>,
}

#[derive(Clone)]
enum LinkState {
    Live(Live),
    Down(Arc<str>),
}

impl Link {
    /// Starts the supervisor. `need`: what the server must be.
    pub(crate) fn start(dialler: Arc<Dialler>, need: Need, shutdown: CancellationToken) -> Self {
        let (sender, state) = watch::channel(LinkState::Down("not connected yet".into()));
        tokio::spawn(async move {
            tokio::select! {
                () = supervise(&dialler, need, &sender) => {}
                () = shutdown.cancelled() => {}
            }
            sender.send_replace(LinkState::Down("shutting down".into()));
        });
        Self { state }
    }

    /// The connection, or why there is none.
    pub(crate) fn live(&self) -> Result<Live, Fault> {
        match &*self.state.borrow() {
            LinkState::Live(live) => Ok(live.clone()),
            LinkState::Down(reason) => Err(Fault::Refused(reason.to_string())),
        }
    }

    /// Why there is no connection.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            LinkState::Live(_) => None,
            LinkState::Down(reason) => Some(reason.clone()),
        }
    }

    /// Lets the connection go and makes another: this one does not lead to the right server any longer. What was sent is answered
    /// all the same.
    pub(crate) fn renew(&self) {
        if let Ok(live) = self.live() {
            live.gone().cancel();
        }
    }

    /// Waits until there is a connection.
    pub(crate) async fn wait(&self) {
        let mut state = self.state.clone();
        if state.wait_for(|state| matches!(state, LinkState::Live(_))).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends commands in one write; one answer for each.
    pub(crate) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        self.live()?.send(pipeline).await
    }

    /// Sends one command.
    pub(crate) async fn ask(&self, command: redis::Cmd) -> Result<Value, Fault> {
        only(self.send(&alone(command)).await?)
    }
}

/// Dials, publishes, waits for the end, for ever.
async fn supervise(dialler: &Dialler, need: Need, state: &watch::Sender<LinkState>) {
    let mut pause = BACK_OFF.0;
    let mut witness = dialler.witness();
    loop {
        match dialler.dial(need).await {
            Ok(live) => {
                pause = BACK_OFF.0;
                let gone = live.gone();
                state.send_replace(LinkState::Live(live));
                witness.found();
                gone.cancelled().await;
                state.send_replace(LinkState::Down("the connection to Redis was lost".into()));
                tracing::debug!("connection to Redis lost");
            }
            Err(trouble) => {
                witness.lost(&trouble);
                let reason = String::from(trouble);
                let changed = !matches!(&*state.borrow(), LinkState::Down(old) if **old == *reason);
                if changed {
                    state.send_replace(LinkState::Down(reason.into()));
                }
                // Spread, so that many pods do not come back in step.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = BACK_OFF.1.min(pause * 2);
            }
        }
    }
}

/// Knows the way to Redis and what to ask of it.
pub(crate) struct Dialler {
    address: Address,
    pub(crate) check: ServerCheck,
}

impl Dialler {
    pub(crate) fn new(address: Address, check: ServerCheck) -> Self {
        Self { address, check }
    }

    /// Of what becomes of connections and checks.
    pub(crate) fn witness(&self) -> Witness {
        Witness::of(&self.address)
    }

    /// A connection that passed every check.
    async fn dial(&self, need: Need) -> Result<Live, Trouble> {
        let (place, live) = open_named(&self.address, RESPONSE_TIMEOUT).await?;
        let verdict = self.check.run(&live, need).await.map_err(|reason| live.complaint(reason));
        verdict.map_err(|trouble| match self.address.cluster() {
            None => trouble.behind(&self.address),
            Some(_) => trouble.behind(place),
        })?;
        Ok(live)
    }
}

/// A connection of which nothing is known but that somebody answers; `patience` is for each answer. The error names the
/// place, without the login.
pub(crate) async fn open(address: &Address, patience: Duration) -> Result<Live, Trouble> {
    open_named(address, patience).await.map(|(_, live)| live)
}

/// The same, and the place to which it leads.
pub(crate) async fn open_named(address: &Address, patience: Duration) -> Result<(String, Live), Trouble> {
    let client = tokio::time::timeout(RESPONSE_TIMEOUT, address.primary()).await;
    let nobody = |_| Trouble::Away(format!("{address}: nobody who knows the primary answers in time"));
    let client = client.map_err(nobody)??;
    let place = client.get_connection_info().addr().to_string();
    match connect(&client, patience, address.cluster().cloned()).await {
        Ok(live) => Ok((place, live)),
        Err(trouble) => Err(trouble.behind(place)),
    }
}

/// The same, to this place. The error does not name it. `cluster` hears of slots that are elsewhere.
pub(crate) async fn connect(
    client: &Client,
    patience: Duration,
    cluster: Option<Arc<Cluster>>,
) -> Result<Live, Trouble> {
    let gone = CancellationToken::new();
    let lost = gone.clone();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(patience))
        .set_pipeline_buffer_size(BUFFER)
        .set_push_sender(move |push: redis::PushInfo| -> Result<(), redis::aio::SendError> {
            if push.kind == PushKind::Disconnection {
                lost.cancel();
            }
            Ok(())
        });
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    Ok(Live::new(connection.map_err(|error| trouble(&error))?, gone, cluster))
}

/// Why no connection came about.
pub(crate) fn trouble(error: &redis::RedisError) -> Trouble {
    if error.is_connection_dropped() || error.is_connection_refusal() || error.is_timeout() {
        return Trouble::Away(error.to_string());
    }
    Trouble::Wrong(cause(error))
}

/// What Redis says against a login is about its protocol; an operator has to look at the URL.
fn cause(error: &redis::RedisError) -> String {
    match error.code() {
        Some("NOAUTH") => "it wants a password: put it into redis.url, or into the file of redis.url_file".to_owned(),
        Some("WRONGPASS") => "it does not know the user and the password of redis.url (or redis.url_file)".to_owned(),
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            format!("it does not take the login of redis.url (or redis.url_file): {error}")
        }
        _ => with_hint(&error.to_string()),
    }
}

/// What is wrong with TLS has a key of its own.
fn with_hint(error: &str) -> String {
    let key = if error.contains("UnknownIssuer") {
        "; set redis.ca to the certificate of its authority"
    } else if error.contains("UnknownCA") {
        "; it does not know who has signed redis.certificate"
    } else if error.contains("CertificateRequired") || error.contains("certificate required") {
        "; it asks for redis.certificate and redis.key"
    } else {
        ""
    };
    format!("{error}{key}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::server::LocalServer;

    #[tokio::test]
    async fn who_is_away_or_wants_a_password_is_named_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let server = LocalServer::start(&folder.path().join("redis")).unwrap();
        let trouble = async |url: &str| {
            let outcome = open(&Address::parse(&Settings::at(url)).unwrap(), CONNECT_TIMEOUT).await;
            outcome.map(drop).unwrap_err().to_string()
        };
        // Nobody listens on a port that was given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = trouble(&format!("redis://john:hush@127.0.0.1:{port}/1")).await;
        assert!(away.starts_with(&format!("127.0.0.1:{port}: ")) && !away.contains("hush"), "{away}");

        let url = server.url();
        let live = open(&Address::parse(&Settings::at(&url)).unwrap(), CONNECT_TIMEOUT).await.unwrap();
        let mut command = redis::cmd("CONFIG");
        command.arg(&["SET", "requirepass", "summersun"]);
        live.ask(command).await.unwrap();
        let place = url.trim_start_matches("unix:").trim_start_matches("//");
        for (url, says) in [(url.clone(), "it wants a password"), (format!("{url}?pass=hush"), "it does not")] {
            let said = trouble(&url).await;
            assert!(said.starts_with(&format!("{place}: {says}")) && !said.contains("HELLO"), "{said}");
            assert!(said.contains("redis.url_file") && !said.contains("hush"), "{said}");
        }
    }
}
