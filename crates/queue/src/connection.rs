//! Connections to Redis, each with a supervisor that keeps it alive.
//!
//! A [`Link`] is one physical connection for one role, so that a large body never stands in front of a lease. Its
//! supervisor dials, asks the [`crate::gate`], loads the scripts, and only then publishes the connection; a lost or
//! spoiled one is withdrawn at once and dialled again with back-off. Nothing is ever sent twice from here: whoever sent
//! a command decides what a lost answer means.

use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, PushKind, Value,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::error::Fault;
use crate::live::Live;
use crate::server_check::ServerCheck;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A command that takes longer has an unknown outcome. Far above any stall of a healthy disk.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// Starts the supervisor.
    pub(crate) fn start(dialler: Arc<Dialler>, shutdown: CancellationToken) -> Self {
        let (sender, state) = watch::channel(LinkState::Down("not connected yet".into()));
        tokio::spawn(async move {
            tokio::select! {
                () = supervise(&dialler, &sender) => {}
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
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        self.send(&pipeline).await?.pop().unwrap_or_else(|| Err(Fault::Unknown("no answer".into())))
    }
}

/// Dials, publishes, waits for the end, for ever.
async fn supervise(dialler: &Dialler, state: &watch::Sender<LinkState>) {
    let mut pause = BACK_OFF.0;
    loop {
        match dialler.dial().await {
            Ok(live) => {
                pause = BACK_OFF.0;
                let gone = live.gone();
                state.send_replace(LinkState::Live(live));
                gone.cancelled().await;
                state.send_replace(LinkState::Down("the connection to Redis was lost".into()));
                tracing::debug!("connection to Redis lost");
            }
            Err(reason) => {
                let changed = !matches!(&*state.borrow(), LinkState::Down(old) if **old == *reason);
                if changed {
                    tracing::warn!(%reason, "Redis cannot be used");
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
    client: Client,
    pub(crate) check: ServerCheck,
}

impl Dialler {
    pub(crate) fn new(url: &str, check: ServerCheck) -> Result<Self, Error> {
        let info = parse_url(url)?;
        let client = Client::open(info).map_err(|error| Error::Settings(format!("redis.url: {error}")))?;
        Ok(Self { client, check })
    }

    /// A connection that passed every check.
    async fn dial(&self) -> Result<Live, String> {
        let gone = CancellationToken::new();
        let lost = gone.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(BUFFER)
            .set_push_sender(move |push: redis::PushInfo| -> Result<(), redis::aio::SendError> {
                if push.kind == PushKind::Disconnection {
                    lost.cancel();
                }
                Ok(())
            });
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let live = Live::new(connection.map_err(|error| error.to_string())?, gone);
        self.check.run(&live).await?;
        Ok(live)
    }
}

/// The URL in its forms, with what the defaults of the client library get wrong.
fn parse_url(url: &str) -> Result<ConnectionInfo, Error> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "redis" | "rediss" | "unix" => {}
        "redis-sentinel" | "redis-cluster" => {
            return Err(Error::Settings(format!("redis.url: {scheme}:// is not available in this version")));
        }
        _ => {
            let text = "redis.url: set redis://host:port, rediss://host:port or unix:/path";
            return Err(Error::Settings(text.to_owned()));
        }
    }
    let info = url.into_connection_info().map_err(|error| Error::Settings(format!("redis.url: {error}")))?;
    let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(RESPONSE_TIMEOUT);
    // RESP3 tells of a dead connection without a command being sent.
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn urls_of_the_manual_are_understood() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://user:secret@redis.example:6380/3",
            "rediss://redis.example",
            "unix:/run/redis/redis.sock",
            "unix:///run/redis/redis.sock",
        ] {
            parse_url(url).unwrap();
        }
        let info = parse_url("redis://user:s%40cret@redis.example:6380/3").unwrap();
        assert_eq!((info.redis_settings().db(), info.redis_settings().password()), (3, Some("s@cret")));
        assert!(
            matches!(parse_url("unix:/a/b").unwrap().addr(), redis::ConnectionAddr::Unix(path) if path.ends_with("a/b"))
        );
    }

    #[test]
    fn urls_that_cannot_work_say_so() {
        for (url, text) in [
            ("redis-sentinel://a:26379,b:26379/mymaster", "not available in this version"),
            ("redis-cluster://a,b", "not available in this version"),
            ("http://a", "set redis://"),
            ("", "set redis://"),
            ("redis://a/x", "redis.url"),
        ] {
            let error = parse_url(url).unwrap_err();
            assert!(error.to_string().contains(text), "{url}: {error}");
        }
    }
}
