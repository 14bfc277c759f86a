//! The service on free ports, a client for it, and the cases that every back end must pass.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use staffetta_auth::accounts::{self, Accounts, Record, State};
use staffetta_auth::{Server, scheme};
use staffetta_config::{Config, Sql};
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use staffetta_proto::auth::v1::authenticate_request::{Start, Step};
use staffetta_proto::auth::v1::authenticate_response::{Reason, Step as Reply};
use staffetta_proto::auth::v1::{
    AuthenticateRequest, CheckSenderRequest, Client, GetMechanismsRequest, LookupDomainRequest, LookupRecipientRequest,
};
use staffetta_queue::Announcer;
use staffetta_queue::server::LocalServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

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
    let text = format!(
        "hostname = \"mail.example.org\"\n[auth]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n{auth}\n[auth.sql]\n{sql}\n"
    );
    Config::parse(&text, "test.toml").unwrap()
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
    let text = format!(
        "hostname = \"mail.example.org\"\n[auth]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nbackend = \"dovecot\"\n{auth}\n\
         [auth.dovecot]\nsocket = {socket:?}\n{sql}"
    );
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
        mut answer: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<Outcome, Status> {
        let start = Start {
            mechanism: mechanism.to_owned(),
            initial_response: initial.map(|octets| octets.to_vec().into()),
            client: Some(client),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.send(AuthenticateRequest { step: Some(Step::Start(start)) }).await.unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut replies = self.client.clone().authenticate(requests).await?.into_inner();
        loop {
            let reply = replies.message().await?.unwrap();
            match reply.step.unwrap() {
                Reply::Challenge(text) => {
                    let step = Some(Step::Response(answer(&text).into()));
                    sender.send(AuthenticateRequest { step }).await.unwrap();
                }
                Reply::Success(success) => return Ok(Outcome::Success(success.login)),
                Reply::Failure(failure) => return Ok(Outcome::Failure(failure.reason())),
            }
        }
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

    /// What the HTTP port answers: the status line and all that follows.
    pub(crate) async fn http(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn until_ready(&self, ready: bool) {
        let status = if ready { " 200 " } else { " 503 " };
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.http("/readyz").await;
            if answer.lines().next().unwrap().contains(status) {
                return;
            }
            assert!(Instant::now() < end, "{answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What every back end must do with the ISPmail tables and the default queries. `execute` runs SQL there as an
/// administrator.
pub(crate) async fn contract(url: &str, execute: impl AsyncFn(String)) {
    accounts(url).await;
    aliases(&execute).await;
    execute("INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'locked@example.org', NULL FROM virtual_domains".to_owned()).await;
    execute("INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'plain@example.org', '{PLAIN}summersun' FROM virtual_domains".to_owned()).await;
    execute("INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'barred@example.org', '{SHA512-CRYPT}!$6$x$y' FROM virtual_domains".to_owned()).await;
    execute("INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'odd@example.org', '{WHIRLPOOL}x' FROM virtual_domains".to_owned()).await;
    let old = scheme::hash("SHA512-CRYPT", &"wintermoon".into()).unwrap();
    execute(format!("INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'old@example.org', '{old}' FROM virtual_domains")).await;

    let world = World::start(config("cache_ttl = \"0s\"", &format!("url = {url:?}"))).await;
    world.until_ready(true).await;
    logins(&world).await;
    // A hash that cannot be read may be right.
    assert_eq!(world.plain("odd@example.org", "summersun").await, Outcome::Failure(Reason::Temporary));
    look_ups(&world).await;
    world.stop().await;
    catch_all(url).await;
    refused_queries(url).await;
}

/// Addresses without an account.
pub(crate) async fn aliases(execute: &impl AsyncFn(String)) {
    execute("INSERT INTO virtual_aliases (domain_id, source, destination) SELECT id, 'info@example.org', 'john@example.org' FROM virtual_domains".to_owned()).await;
    execute("INSERT INTO virtual_aliases (domain_id, source, destination) SELECT id, '@catch.example', 'john@example.org' FROM virtual_domains".to_owned()).await;
}

async fn accounts(url: &str) {
    let accounts = Accounts::open(&sql(url)).await.unwrap();
    assert_eq!(accounts.list().await.unwrap(), Vec::<String>::new());
    accounts.add("John@Example.org", &"first".into()).await.unwrap();
    accounts.add("lisa@example.org", &"moonlight".into()).await.unwrap();
    let error = accounts.add("john@example.org", &"x".into()).await.unwrap_err().to_string();
    assert!(error.starts_with("john@example.org exists already"), "{error}");
    assert_eq!(accounts.list().await.unwrap(), ["john@example.org", "lisa@example.org"]);
    accounts.set_password("john@example.org", &"summersun".into()).await.unwrap();
    accounts.remove("lisa@example.org").await.unwrap();
    assert!(accounts.remove("lisa@example.org").await.unwrap_err().to_string().contains("no account"));
    assert!(accounts.set_password("lisa@example.org", &"x".into()).await.is_err());
    for wrong in ["john", "@example.org", "john@", "jo hn@example.org", ""] {
        assert!(accounts.add(wrong, &"x".into()).await.is_err(), "{wrong}");
    }
    assert!(accounts.add("empty@example.org", &"".into()).await.is_err());
    assert!(accounts.add("nul@example.org", &"a\0b".into()).await.unwrap_err().to_string().contains("NUL"));
    assert!(accounts.set_password("john@example.org", &"a\0b".into()).await.is_err());
    states(&accounts).await;
    alias(&accounts).await;
    assert_eq!(accounts.list().await.unwrap(), ["john@example.org"]);
    accounts.close().await;
}

/// Disabled and enabled again; the password is the one from before.
async fn states(accounts: &Accounts) {
    let record = |state| Record { login: "john@example.org".to_owned(), scheme: Some("ARGON2ID".to_owned()), state };
    assert_eq!(accounts.records().await.unwrap(), [record(State::Enabled)]);
    assert!(!accounts.enable("john@example.org").await.unwrap(), "nothing to do");
    assert!(accounts.disable("John@Example.org").await.unwrap());
    assert!(!accounts.disable("john@example.org").await.unwrap(), "nothing to do");
    assert_eq!(accounts.show("john@example.org").await.unwrap(), (record(State::Disabled), Vec::new()));
    let state = accounts.set_password("john@example.org", &"summersun".into()).await.unwrap();
    assert_eq!(state, State::Disabled, "a new password opens nothing");
    assert_eq!(accounts.records().await.unwrap(), [record(State::Disabled)]);
    assert!(accounts.enable("john@example.org").await.unwrap());
    assert_eq!(accounts.records().await.unwrap(), [record(State::Enabled)]);
    for unknown in ["lisa@example.org", "john%@example.org", "john"] {
        assert!(accounts.disable(unknown).await.is_err(), "{unknown}");
        assert!(accounts.enable(unknown).await.is_err(), "{unknown}");
        assert!(accounts.show(unknown).await.is_err(), "{unknown}");
    }
    let scram = accounts.clone().storing_as("{scram-sha-256}").unwrap();
    scram.set_password("john@example.org", &"summersun".into()).await.unwrap();
    assert_eq!(accounts.show("john@example.org").await.unwrap().0.scheme.as_deref(), Some("SCRAM-SHA-256"));
    accounts.set_password("john@example.org", &"summersun".into()).await.unwrap();
    assert!(accounts.clone().storing_as("ROT13").unwrap_err().to_string().contains("ROT13"));
}

/// Added once, to who is there, and taken away again.
async fn alias(accounts: &Accounts) {
    assert!(accounts.add_alias("john@example.org", "Sales@Example.org").await.unwrap());
    assert!(!accounts.add_alias("john@example.org", "sales@example.org").await.unwrap(), "it is there");
    assert_eq!(accounts.show("john@example.org").await.unwrap().1, ["sales@example.org"]);
    let account = accounts.add_alias("john@example.org", "john@example.org").await.unwrap_err().to_string();
    assert!(account.contains("is an account itself"), "{account}");
    assert!(accounts.add_alias("lisa@example.org", "info@example.org").await.is_err());
    assert!(accounts.add_alias("john@example.org", "info").await.is_err());
    accounts.remove_alias("John@example.org", "sales@example.org").await.unwrap();
    let gone = accounts.remove_alias("john@example.org", "sales@example.org").await.unwrap_err().to_string();
    assert_eq!(gone, "sales@example.org does not lead to john@example.org");
    assert_eq!(accounts.show("john@example.org").await.unwrap().1, Vec::<String>::new());
}

/// On a server, nothing is made that was not asked for; then all tables are.
pub(crate) async fn tables(url: &str) {
    let error = Accounts::open(&sql(url)).await.unwrap_err().to_string();
    assert!(error.contains("staffetta user init"), "{error}");
    assert!(accounts::init(&sql(url)).await.unwrap());
    assert!(!accounts::init(&sql(url)).await.unwrap(), "they are there");
}

/// What every back end says to these logins, wherever it keeps its accounts: john, old, plain, and those who cannot get
/// in.
pub(crate) async fn logins(world: &World) {
    let john = || Outcome::Success("john@example.org".to_owned());
    assert_eq!(world.plain("john@example.org", "summersun").await, john());
    assert_eq!(world.plain("John@Example.ORG", "summersun").await, john(), "as the back end spells it");
    assert_eq!(world.exchange("PLAIN", None, &["\0john@example.org\0summersun"]).await, john());
    assert_eq!(world.exchange("LOGIN", None, &["john@example.org", "summersun"]).await, john());
    assert_eq!(world.exchange("LOGIN", Some(b"john@example.org"), &["summersun"]).await, john());
    assert_eq!(world.plain("old@example.org", "wintermoon").await, Outcome::Success("old@example.org".to_owned()));

    assert_eq!(world.plain("john@example.org", "first").await, BAD);
    assert_eq!(world.plain("john@example.org", "").await, BAD);
    assert_eq!(world.plain("nobody@example.org", "summersun").await, BAD);
    assert_eq!(world.plain("locked@example.org", "summersun").await, BAD);
    assert_eq!(world.plain("' OR ''='", "summersun").await, BAD);
    assert_eq!(world.exchange("PLAIN", Some(b"root\0john@example.org\0summersun"), &[]).await, BAD);
    assert_eq!(world.exchange("PLAIN", Some(b"john"), &[]).await, Outcome::Failure(Reason::Malformed));
    assert_eq!(world.exchange("LOGIN", None, &["", "x"]).await, Outcome::Failure(Reason::Malformed));
    assert_eq!(world.exchange("CRAM-MD5", None, &[]).await, Outcome::Failure(Reason::Mechanism));
    // Plain text, as its prefix says.
    assert_eq!(world.plain("plain@example.org", "summersun").await, Outcome::Success("plain@example.org".to_owned()));
    assert_eq!(world.plain("plain@example.org", "summersum").await, Outcome::Failure(Reason::Credentials));
    // A locked hash is nobody's.
    assert_eq!(world.plain("barred@example.org", "summersun").await, Outcome::Failure(Reason::Credentials));
}

/// What is known of senders, domains and recipients, which are in the database whoever has the accounts.
pub(crate) async fn look_ups(world: &World) {
    let senders = [
        ("john@example.org", "john@example.org", true),
        ("JOHN@example.org", "john@example.org", true),
        ("john@example.org", "John@Example.org", true),
        ("john@example.org", "john+news@example.org", true),
        ("john@example.org", "old@example.org", false),
        ("john@example.org", "lisa@example.com", false),
        ("john@example.org", "@example.org", false),
    ];
    for (login, sender, owned) in senders {
        assert_eq!(world.owns(login, sender).await, Ok(owned), "{login} {sender}");
    }
    assert_eq!(world.owns("john@example.org", "").await, Err(Code::InvalidArgument));
    let long = format!("{}@example.org", "x".repeat(1100));
    assert_eq!(world.owns("john@example.org", &long).await, Err(Code::InvalidArgument));
    assert_eq!(world.has_recipient(&long).await, Err(Code::InvalidArgument));
    for (domain, known) in [("example.org", true), ("Example.ORG", true), ("example.com", false), ("org", false)] {
        assert_eq!(world.has_domain(domain).await, Ok(known), "{domain}");
    }
    let recipients = [
        ("john@example.org", true),
        ("JOHN@example.org", true),
        ("john+list@example.org", true),
        ("info@example.org", true),
        ("anybody@catch.example", true),
        ("nobody@example.org", false),
        ("postmaster", false),
    ];
    for (recipient, known) in recipients {
        assert_eq!(world.has_recipient(recipient).await, Ok(known), "{recipient}");
    }
}

/// A sender query of the operator's own: whole domains, more than one owner, a parameter used twice.
async fn catch_all(url: &str) {
    let query = "SELECT destination AS login FROM virtual_aliases WHERE source = :sender OR (source = :sender AND source = ':no')";
    let world = World::start(config("", &format!("url = {url:?}\nsender_query = \"{query}\""))).await;
    assert_eq!(world.owns("john@example.org", "sales@catch.example").await, Ok(true));
    assert_eq!(world.owns("old@example.org", "sales@catch.example").await, Ok(false));
    assert_eq!(world.owns("john@example.org", "john@example.org").await, Ok(false));
    world.stop().await;
}

/// What the database says to the queries at the start ends the start.
async fn refused_queries(url: &str) {
    staffetta_auth::check(&config("", &format!("url = {url:?}")).auth).await.unwrap();
    let rows = [
        (Query::Password, "SELECT email, password FROM virtual_users WHERE email = :login", "no column `login`"),
        (
            Query::Password,
            "SELECT email AS login, password FROM users WHERE email = :login",
            "auth.sql.password_query: ",
        ),
        (Query::Domain, "SELEKT 1 WHERE 'a' = :domain", "auth.sql.domain_query: "),
        (Query::Domain, "SELECT 1 WHERE 'a' = :dom", "unknown parameter `:dom`; allowed are :domain"),
    ];
    for (key, query, expected) in rows {
        let mut config = config("", &format!("url = {url:?}"));
        match key {
            Query::Password => config.auth.sql.password_query = query.to_owned(),
            Query::Domain => config.auth.sql.domain_query = query.to_owned(),
        }
        let problem = staffetta_auth::check(&config.auth).await.unwrap_err();
        assert!(problem.to_string().contains(expected), "{query}: {problem}");
        let error = Server::bind(&config).await.err().unwrap();
        assert!(format!("{error:#}").contains(expected), "{query}: {error:#}");
    }
}

enum Query {
    Password,
    Domain,
}

/// The back end goes away and comes back: temporary failures, not ready, and recovery without a restart.
pub(crate) async fn outage(url: &str, stop: impl AsyncFnOnce(), start: impl AsyncFnOnce()) {
    let world = Arc::new(World::start(config("cache_ttl = \"1h\"", &format!("url = {url:?}"))).await);
    let john = || Outcome::Success("john@example.org".to_owned());
    world.until_ready(true).await;
    assert_eq!(world.plain("john@example.org", "summersun").await, john());
    stop().await;
    assert_eq!(world.plain("old@example.org", "wintermoon").await, Outcome::Failure(Reason::Temporary));
    assert_eq!(world.owns("john@example.org", "john@example.org").await, Err(Code::Unavailable));
    assert_eq!(world.has_domain("example.org").await, Err(Code::Unavailable));
    assert_eq!(world.plain("john@example.org", "summersun").await, john(), "known from before");
    world.until_ready(false).await;
    start().await;
    world.until_ready(true).await;
    assert_eq!(world.plain("old@example.org", "wintermoon").await, Outcome::Success("old@example.org".to_owned()));
    assert_eq!(world.owns("john@example.org", "john@example.org").await, Ok(true));
    Arc::into_inner(world).unwrap().stop().await;
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
