//! The pods of the auth service: every address behind its name, each with a connection of its own.
//!
//! A headless Kubernetes service resolves to one address a pod. [`Pool`] resolves the name again and again, keeps two
//! lazily connected channels an address, one for look-ups and one for logins, probes each with the gRPC health protocol, gives calls to healthy members in
//! turn and repeats a call once on another member when the first could not be reached. Channels reconnect by
//! themselves, and the probe brings a member back as soon as it answers. The probe also asks for the mechanisms: what
//! all healthy members have is what can be offered, whichever of them gets the login.
//!
//! tonic's own balancing is not used: it sends requests to endpoints that are down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use staffetta_proto::auth::v1::GetMechanismsRequest;
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::tls::ClientTls;

/// How often members are probed, and how long a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// The name is resolved, and the TLS files are compared, at every n-th probe.
const PROBES_PER_RESOLVE: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a service can do that nobody has heard of yet, or that does not say.
const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];
/// HTTP/2 pings find dead peers that TCP would take minutes for.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Why the address of the auth service cannot be used. Completes "frontend.auth: …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("\"{0}\" is not of the form http://host:port or https://host:port")]
    Form(String),
    #[error("https:// needs [rpc] ca, certificate and key")]
    NoTls,
    #[error("[rpc] is set, so the address must start with https://")]
    NoEncryption,
    #[error(transparent)]
    Tls(#[from] staffetta_transport::tls::RpcError),
    #[error("cannot make a connection to it: {0}")]
    Endpoint(#[from] tonic::transport::Error),
}

/// Where the auth service is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    origin: Uri,
    host: String,
    port: u16,
    tls: bool,
}

/// See the module.
pub(crate) struct Pool {
    target: Target,
    tls: Option<ClientTls>,
    members: ArcSwap<Vec<Arc<Member>>>,
    turn: AtomicUsize,
    /// What all healthy members can do; while there is none, what the last ones could.
    mechanisms: ArcSwap<Vec<String>>,
}

struct Member {
    address: SocketAddr,
    /// For look-ups and probes.
    channel: Channel,
    /// For logins: however many there are, look-ups go on.
    logins: Channel,
    healthy: AtomicBool,
    /// As it said last.
    mechanisms: ArcSwapOption<Vec<String>>,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(text.to_owned());
        let origin: Uri = text.parse().map_err(|_| form())?;
        let tls = match origin.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(form()),
        };
        let host = origin.host().ok_or_else(form)?.trim_matches(['[', ']']).to_owned();
        let port = origin.port_u16().ok_or_else(form)?;
        Ok(Self { origin, host, port, tls })
    }
}

impl Pool {
    /// Makes the pool, without members until [`Pool::maintain`] runs.
    pub(crate) fn new(target: Target, tls: Option<ClientTls>) -> Result<Self, TargetError> {
        match (target.tls, &tls) {
            (true, None) => return Err(TargetError::NoTls),
            (false, Some(_)) => return Err(TargetError::NoEncryption),
            _ => {}
        }
        Ok(Self {
            target,
            tls,
            members: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            mechanisms: ArcSwap::from_pointee(usual()),
        })
    }

    /// True while at least one member answers its probe.
    pub(crate) fn is_reachable(&self) -> bool {
        self.members.load().iter().any(|member| member.healthy.load(Relaxed))
    }

    /// What a login can be asked for, in the order of preference.
    pub(crate) fn mechanisms(&self) -> Arc<Vec<String>> {
        self.mechanisms.load_full()
    }

    /// Makes one look-up; see the module for the retry. The caller sets the deadline.
    pub(crate) async fn call<T, F>(&self, attempt: impl Fn(AuthServiceClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.call_on(|member| &member.channel, attempt).await
    }

    /// The same for a login, which has connections of its own.
    pub(crate) async fn log_in<T, F>(&self, attempt: impl Fn(AuthServiceClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.call_on(|member| &member.logins, attempt).await
    }

    async fn call_on<T, F>(
        &self,
        channel: fn(&Member) -> &Channel,
        attempt: impl Fn(AuthServiceClient<Channel>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let client = |member: &Member| AuthServiceClient::new(channel(member).clone());
        let first = self.pick(None)?;
        match attempt(client(&first)).await {
            Err(status) if nobody_answered(&status) => {
                first.failed(&status);
                attempt(client(&*self.pick(Some(&first))?)).await
            }
            answer => answer,
        }
    }

    /// The next healthy member; else the next one at all. `not` is taken only if it is alone.
    fn pick(&self, not: Option<&Arc<Member>>) -> Result<Arc<Member>, Status> {
        let members = self.members.load();
        let start = self.turn.fetch_add(1, Relaxed);
        let other = |member: &&Arc<Member>| not.is_none_or(|not| !Arc::ptr_eq(member, not));
        let in_turn = || (0..members.len()).map(|i| &members[start.wrapping_add(i) % members.len()]);
        let healthy = in_turn().filter(other).find(|member| member.healthy.load(Relaxed));
        let member = healthy.or_else(|| in_turn().find(other)).or(not);
        member.cloned().ok_or_else(|| Status::unavailable("no address of the auth service is known"))
    }

    /// Resolves and probes until `shutdown`.
    pub(crate) async fn maintain(&self, shutdown: CancellationToken) {
        let mut round: u32 = 0;
        loop {
            if round.is_multiple_of(PROBES_PER_RESOLVE) || self.members.load().is_empty() {
                self.refresh().await;
            }
            round = round.wrapping_add(1);
            futures_util::future::join_all(self.members.load().iter().map(|member| member.probe())).await;
            self.compare_mechanisms();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PROBE) => {}
            }
        }
    }

    fn compare_mechanisms(&self) {
        let members = self.members.load();
        let healthy = members.iter().filter(|member| member.healthy.load(Relaxed));
        let lists: Vec<Arc<Vec<String>>> = healthy.filter_map(|member| member.mechanisms.load_full()).collect();
        let Some((first, others)) = lists.split_first() else { return };
        let common: Vec<String> =
            first.iter().filter(|name| others.iter().all(|list| list.contains(name))).cloned().collect();
        if !common.is_empty() && common != **self.mechanisms.load() {
            tracing::info!(mechanisms = common.join(" "), "AUTH offers what the auth service can do");
            self.mechanisms.store(Arc::new(common));
        }
    }

    /// Takes the addresses that the name has now; keeps the known members when it cannot be resolved.
    async fn refresh(&self) {
        let renewed = self.tls.as_ref().is_some_and(ClientTls::refresh);
        let lookup = tokio::net::lookup_host((self.target.host.as_str(), self.target.port));
        let mut addresses: Vec<SocketAddr> = match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return tracing::warn!(host = self.target.host, %error, "cannot resolve the auth service"),
            Err(_) => return tracing::warn!(host = self.target.host, "resolving the auth service took too long"),
        };
        addresses.sort_unstable();
        addresses.dedup();
        let old = self.members.load();
        if !renewed && addresses.iter().eq(old.iter().map(|member| &member.address)) {
            return;
        }
        let keep = |address: &SocketAddr| old.iter().find(|m| !renewed && m.address == *address).cloned();
        let members = addresses.into_iter().filter_map(|address| keep(&address).or_else(|| self.member(address)));
        self.members.store(Arc::new(members.collect()));
    }

    fn member(&self, address: SocketAddr) -> Option<Arc<Member>> {
        match self.endpoint(address) {
            Ok(endpoint) => {
                let (channel, logins) = (endpoint.connect_lazy(), endpoint.connect_lazy());
                Some(Arc::new(Member {
                    address,
                    channel,
                    logins,
                    healthy: AtomicBool::new(false),
                    mechanisms: ArcSwapOption::empty(),
                }))
            }
            Err(error) => {
                tracing::error!(%address, %error, "cannot use an address of the auth service");
                None
            }
        }
    }

    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, tonic::transport::Error> {
        let scheme = if self.target.tls { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .origin(self.target.origin.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.config(&self.target.host)),
            None => Ok(endpoint),
        }
    }
}

impl Member {
    fn failed(&self, status: &Status) {
        if self.healthy.swap(false, Relaxed) {
            tracing::warn!(address = %self.address, error = %status, "the auth service does not answer");
        }
    }

    /// A server without the health service still answered.
    async fn probe(&self) {
        let mut client = HealthClient::new(self.channel.clone());
        let check = client.check(HealthCheckRequest { service: String::new() });
        let failure = match tokio::time::timeout(PROBE, check).await {
            Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => None,
            Ok(Ok(_)) => Some(Status::unavailable("it says that it is not serving")),
            Ok(Err(status)) if status.code() == Code::Unimplemented => None,
            Ok(Err(status)) => Some(status),
            Err(_) => Some(Status::deadline_exceeded("the health check took too long")),
        };
        match failure {
            Some(status) => self.failed(&status),
            None => {
                self.ask_for_mechanisms().await;
                if !self.healthy.swap(true, Relaxed) {
                    tracing::info!(address = %self.address, "the auth service answers");
                }
            }
        }
    }

    /// What it said before stays when it does not answer.
    async fn ask_for_mechanisms(&self) {
        let mut client = AuthServiceClient::new(self.channel.clone());
        let list = match tokio::time::timeout(PROBE, client.get_mechanisms(GetMechanismsRequest {})).await {
            Ok(Ok(answer)) => answer.into_inner().mechanisms,
            // Of an older version.
            Ok(Err(status)) if status.code() == Code::Unimplemented => usual(),
            _ => return,
        };
        self.mechanisms.store(Some(Arc::new(list.into_iter().filter(|name| is_mechanism(name)).collect())));
    }
}

fn usual() -> Vec<String> {
    MECHANISMS.map(str::to_owned).into()
}

/// Goes into a reply as it is (RFC 4422 section 3.1).
fn is_mechanism(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=20).contains(&name.len()) && name.bytes().all(is_letter)
}

/// The connection failed before or while the call was made. Every call of the contract may be repeated.
fn nobody_answered(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn targets_need_scheme_host_and_port() {
        for (text, expected) in [
            ("http://127.0.0.1:4250", Some(("127.0.0.1", 4250, false))),
            ("https://auth.mail.svc:4250", Some(("auth.mail.svc", 4250, true))),
            ("http://[::1]:4250", Some(("::1", 4250, false))),
            ("127.0.0.1:4250", None),
            ("ftp://127.0.0.1:1", None),
            ("http://127.0.0.1", None),
            ("", None),
        ] {
            let target = Target::parse(text).ok();
            assert_eq!(target.as_ref().map(|t| (t.host.as_str(), t.port, t.tls)), expected, "{text:?}");
        }
    }

    fn pool(addresses: &[&str]) -> Pool {
        let pool = Pool::new(Target::parse("http://auth:1").unwrap(), None).unwrap();
        let members = addresses.iter().map(|address| pool.member(address.parse().unwrap()).unwrap()).collect();
        pool.members.store(Arc::new(members));
        pool
    }

    #[tokio::test]
    async fn healthy_members_take_turns_and_sick_ones_wait() {
        let pool = pool(&["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
        let members = pool.members.load_full();
        assert!(!pool.is_reachable());
        members[0].healthy.store(true, Relaxed);
        members[2].healthy.store(true, Relaxed);
        let mut picked: Vec<_> = (0..6).map(|_| pool.pick(None).unwrap().address).collect();
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked, [members[0].address, members[2].address]);
        let second = pool.pick(Some(&members[0])).unwrap();
        assert!(Arc::ptr_eq(&second, &members[2]), "a retry goes elsewhere");
        members[2].healthy.store(false, Relaxed);
        let second = pool.pick(Some(&members[0])).unwrap();
        assert!(!Arc::ptr_eq(&second, &members[0]), "even to a sick one");
    }

    #[tokio::test]
    async fn a_member_that_is_alone_gets_the_retry_and_none_is_an_error() {
        let alone = pool(&["192.0.2.1:1"]);
        let member = alone.pick(None).unwrap();
        assert!(Arc::ptr_eq(&alone.pick(Some(&member)).unwrap(), &member));
        assert_eq!(pool(&[]).pick(None).map(drop).unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_call_that_reaches_nobody_is_made_once_more_elsewhere() {
        let dead = staffetta_testkit::ports::Port::reserve().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap().to_string();
        let (_, health) = tonic_health::server::health_reporter();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming);
        tokio::spawn(server);

        let pool = pool(&[&dead.address().to_string(), &live]);
        let ask = |mut client: AuthServiceClient<Channel>| async move {
            client.lookup_domain(staffetta_proto::auth::v1::LookupDomainRequest::default()).await
        };
        for _ in 0..4 {
            pool.members.load().iter().for_each(|member| member.healthy.store(true, Relaxed));
            // The live one serves nothing but health checks: this is its own answer.
            assert_eq!(pool.call(ask).await.unwrap_err().code(), Code::Unimplemented);
        }
        futures_util::future::join_all(pool.members.load().iter().map(|member| member.probe())).await;
        let healthy: Vec<bool> = pool.members.load().iter().map(|member| member.healthy.load(Relaxed)).collect();
        assert_eq!(healthy, [false, true]);
    }
}
