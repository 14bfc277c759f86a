//! The service on free ports, a client for it, and the answers of a client of SCRAM.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use staffetta_auth::Server;
use staffetta_config::{Config, Sql};
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use staffetta_proto::auth::v1::authenticate_request::{Start, Step};
use staffetta_proto::auth::v1::authenticate_response::{Limits, Reason, Step as Reply};
use staffetta_proto::auth::v1::{
    AuthenticateRequest, AuthenticateResponse, CheckSenderRequest, Client, GetMechanismsRequest, LookupDomainRequest,
    LookupRecipientRequest, LookupRecipientResponse,
};
use staffetta_queue::Announcer;
use staffetta_queue::server::LocalServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// The longest wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success(String),
    Failure(Reason),
}

/// The shorthand for a login that is not accepted.
pub(crate) const BAD: Outcome = Outcome::Failure(Reason::Credentials);

/// A running service and a client of it.
pub(crate) struct World {
    pub(crate) client: AuthServiceClient<Channel>,
    pub(crate) address: std::net::SocketAddr,
    http: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    redis: (LocalServer, tempfile::TempDir),
}

/// A configuration for free ports; `sql` is the text of `[auth.sql]`, without a cache unless `auth` says otherwise.
pub(crate) fn config(auth: &str, sql: &str) -> Config {
    let text = format!("{}{auth}\n[auth.sql]\n{sql}\n", head(auth));
    Config::parse(&text, "test.toml").unwrap()
}

/// What stands above these lines of `[auth]`: a stop waits for nobody unless they say so.
fn head(auth: &str) -> String {
    let drain = if auth.contains("drain_delay") { "" } else { "drain_delay = \"0s\"\n" };
    format!("hostname = \"mail.example.org\"\n[auth]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n{drain}")
}

/// The `[auth.sql]` table of a configuration with this URL.
pub(crate) fn sql(url: &str) -> Sql {
    config("", &format!("url = {url:?}")).auth.sql
}

/// A client at this address, in TLS.
pub(crate) fn client(ip: &str) -> Client {
    Client {
        ip: ip.to_owned(),
        port: 40_000,
        listener: "submission".to_owned(),
        tls: true,
        session: format!("submission-{ip}:40000"),
        local_ip: "192.0.2.25".to_owned(),
        local_port: 587,
        ..Client::default()
    }
}

/// A configuration for free ports with the accounts in Dovecot; `sql` is the text of `[auth.sql]`, if there is one.
pub(crate) fn dovecot(auth: &str, socket: &str, sql: Option<&str>) -> Config {
    let sql = sql.map(|sql| format!("[auth.sql]\n{sql}\n")).unwrap_or_default();
    let head = head(auth);
    let text = format!("{head}backend = \"dovecot\"\n{auth}\n[auth.dovecot]\nsocket = {socket:?}\n{sql}");
    Config::parse(&text, "test.toml").unwrap()
}

impl World {
    /// With a Redis of its own, through which it would hear of revocations.
    pub(crate) async fn start(mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = LocalServer::start(folder.path()).unwrap();
        config.redis.url = redis.url().into();
        let server = Server::bind(&config).await.unwrap();
        let (address, http) = (server.address().unwrap(), server.http_address().unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.serve(shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { client: AuthServiceClient::new(channel), address, http, shutdown, task, redis: (redis, folder) }
    }

    /// What SIGTERM does, without waiting.
    pub(crate) fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Ends the service as SIGTERM does, and waits for it.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Says that what is known of this login may be wrong, as `staffetta user` does.
    pub(crate) async fn revoke(&self, login: &str) {
        let mut config = config("", "");
        config.redis.url = self.redis.0.url().into();
        Announcer::connect(&(&config).into()).await.unwrap().revoke(login).await.unwrap();
    }

    /// One PLAIN exchange.
    pub(crate) async fn plain(&self, login: &str, password: &str) -> Outcome {
        self.exchange("PLAIN", Some(format!("\0{login}\0{password}").as_bytes()), &[]).await
    }

    /// An exchange with prepared answers to the challenges.
    pub(crate) async fn exchange(&self, mechanism: &str, initial: Option<&[u8]>, answers: &[&str]) -> Outcome {
        self.try_exchange(mechanism, initial, answers).await.unwrap()
    }

    pub(crate) async fn try_exchange(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
        answers: &[&str],
    ) -> Result<Outcome, Status> {
        let mut answers = answers.iter();
        let answer = |_: &[u8]| answers.next().unwrap().as_bytes().to_vec();
        self.converse(mechanism, initial, client("192.0.2.1"), answer).await
    }

    /// An exchange of this client, whose answers depend on the challenges.
    pub(crate) async fn converse(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
        client: Client,
        answer: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<Outcome, Status> {
        Ok(match self.speak(mechanism, initial, client, answer).await? {
            Reply::Success(success) => Outcome::Success(success.login),
            Reply::Failure(failure) => Outcome::Failure(failure.reason()),
            Reply::Challenge(_) => unreachable!("it was answered"),
        })
    }

    /// The same, with all that is said at the end.
    pub(crate) async fn speak(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
        client: Client,
        mut answer: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<Reply, Status> {
        let (sender, mut replies) = self.begin(mechanism, initial, client).await?;
        loop {
            let reply = replies.message().await?.unwrap();
            match reply.step.unwrap() {
                Reply::Challenge(text) => {
                    let step = Some(Step::Response(answer(&text).into()));
                    sender.send(AuthenticateRequest { step }).await.unwrap();
                }
                end => return Ok(end),
            }
        }
    }

    /// Begins an exchange. Its replies come when its first message was sent.
    async fn begin(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
        client: Client,
    ) -> Result<(Sender<AuthenticateRequest>, Streaming<AuthenticateResponse>), Status> {
        let start = Start {
            mechanism: mechanism.to_owned(),
            initial_response: initial.map(|octets| octets.to_vec().into()),
            client: Some(client),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(AuthenticateRequest { step: Some(Step::Start(start)) }).await.unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok((sender, self.client.clone().authenticate(requests).await?.into_inner()))
    }

    /// What becomes of an exchange whose client does not answer, when the service ends.
    pub(crate) async fn stop_while_challenged(&self) -> Status {
        let (_sender, mut replies) = self.begin("PLAIN", None, client("192.0.2.1")).await.unwrap();
        let challenge = replies.message().await.unwrap().unwrap().step.unwrap();
        assert!(matches!(challenge, Reply::Challenge(_)), "{challenge:?}");
        self.begin_to_stop();
        tokio::time::timeout(PATIENCE, replies.message()).await.unwrap().unwrap_err()
    }

    /// One SCRAM-SHA-256 exchange.
    pub(crate) async fn scram(&self, login: &str, password: &'static str) -> Outcome {
        let first = format!("n,,n={login},r=rOprNGfwEbeRWgbNEkqO");
        let answers = scram(login, password);
        self.converse("SCRAM-SHA-256", Some(first.as_bytes()), client("192.0.2.1"), answers).await.unwrap()
    }

    /// What a login may send, if anything is said of it.
    pub(crate) async fn limits(&self, login: &str, password: &str) -> Option<Limits> {
        let initial = format!("\0{login}\0{password}");
        self.limits_by("PLAIN", initial.as_bytes(), client("192.0.2.1"), |_| Vec::new()).await
    }

    /// The same by another mechanism.
    pub(crate) async fn limits_by(
        &self,
        mechanism: &str,
        initial: &[u8],
        client: Client,
        answer: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Option<Limits> {
        match self.speak(mechanism, Some(initial), client, answer).await.unwrap() {
            Reply::Success(success) => success.limits,
            end => panic!("{mechanism}: {end:?}"),
        }
    }

    /// May this login use the sender, and does anybody?
    pub(crate) async fn owner(&self, login: &str, sender: &str) -> (bool, bool) {
        let request = CheckSenderRequest { login: login.to_owned(), sender: sender.to_owned() };
        let answer = self.client.clone().check_sender(request).await.unwrap().into_inner();
        (answer.owned, answer.known)
    }

    pub(crate) async fn mechanisms(&self) -> Result<Vec<String>, Code> {
        let answer = self.client.clone().get_mechanisms(GetMechanismsRequest {}).await;
        answer.map(|answer| answer.into_inner().mechanisms).map_err(|status| status.code())
    }

    pub(crate) async fn owns(&self, login: &str, sender: &str) -> Result<bool, Code> {
        let request = CheckSenderRequest { login: login.to_owned(), sender: sender.to_owned() };
        let answer = self.client.clone().check_sender(request).await;
        answer.map(|answer| answer.into_inner().owned).map_err(|status| status.code())
    }

    pub(crate) async fn has_domain(&self, domain: &str) -> Result<bool, Code> {
        let answer = self.client.clone().lookup_domain(LookupDomainRequest { domain: domain.to_owned() }).await;
        answer.map(|answer| answer.into_inner().known).map_err(|status| status.code())
    }

    pub(crate) async fn has_recipient(&self, recipient: &str) -> Result<bool, Code> {
        let request = LookupRecipientRequest { recipient: recipient.to_owned() };
        let answer = self.client.clone().lookup_recipient(request).await;
        answer.map(|answer| answer.into_inner().known).map_err(|status| status.code())
    }

    /// Where its mail goes: `None` if there is no such recipient, nowhere if it is to the address as it is.
    pub(crate) async fn destinations(&self, recipient: &str) -> Option<Vec<String>> {
        let request = LookupRecipientRequest { recipient: recipient.to_owned() };
        let LookupRecipientResponse { known, mut destinations, unending } =
            self.client.clone().lookup_recipient(request).await.unwrap().into_inner();
        assert!(known || destinations.is_empty() && !unending, "{recipient}");
        if unending {
            destinations.push("unending".to_owned());
        }
        known.then_some(destinations)
    }

    /// What the HTTP port answers: the status line and all that follows.
    pub(crate) async fn http(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until `/readyz` says that nothing is missing.
    pub(crate) async fn until_ready(&self) {
        self.until_it_says("200", "\r\n\r\nok\n").await;
    }

    /// Waits until `/readyz` says that the back end went away, which takes nobody's place.
    pub(crate) async fn until_away(&self) {
        self.until_it_says("200", "\r\n\r\nok, but ").await;
    }

    /// Waits for an answer of `/readyz` with this code and this text.
    pub(crate) async fn until_it_says(&self, code: &str, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.http("/readyz").await;
            if answer.split(' ').nth(1) == Some(code) && answer.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The client's side of SCRAM-SHA-256 (RFC 5802): what it answers to each challenge.
pub(crate) fn scram(login: &str, password: &'static str) -> impl FnMut(&[u8]) -> Vec<u8> {
    let login = login.to_owned();
    let mac = |key: &[u8], text: &[u8]| -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    };
    let mut verifier = None::<Vec<u8>>;
    move |challenge| {
        let challenge = std::str::from_utf8(challenge).unwrap();
        if let Some(expected) = verifier.take() {
            assert_eq!(challenge, format!("v={}", STANDARD.encode(expected)), "the server proves itself");
            return Vec::new();
        }
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
        let salt = STANDARD.decode(field("s=")).unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), &salt, field("i=").parse().unwrap(), &mut salted).unwrap();
        let last = format!("c=biws,r={}", field("r="));
        let whole = format!("n={login},r=rOprNGfwEbeRWgbNEkqO,{challenge},{last}");
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(&client_key), whole.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        verifier = Some(mac(&mac(&salted, b"Server Key"), whole.as_bytes()));
        format!("{last},p={}", STANDARD.encode(proof)).into_bytes()
    }
}
