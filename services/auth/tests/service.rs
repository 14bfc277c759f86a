//! The service over gRPC, with SQLite behind it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{BAD, Outcome, World, config, sql};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use staffetta_auth::accounts::{Accounts, State};
use staffetta_auth::{Server, Verdict};
use staffetta_config::{Auth, Config};
use staffetta_proto::auth::v1::auth_service_client::AuthServiceClient;
use staffetta_proto::auth::v1::authenticate_request::{Start, Step};
use staffetta_proto::auth::v1::authenticate_response::{Reason, Step as Reply};
use staffetta_proto::auth::v1::{AuthenticateRequest, LookupDomainRequest};
use staffetta_telemetry as telemetry;
use staffetta_testkit::certs::Authority;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("users.db").display())
}

async fn execute(url: &str, sql: String) {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// A database with john@example.org / summersun.
async fn john(folder: &Path) -> String {
    let url = url(folder);
    let accounts = Accounts::open(&sql(&url)).await.unwrap();
    accounts.add("john@example.org", &"summersun".into()).await.unwrap();
    accounts.close().await;
    url
}

/// What the standard health service says of ours.
async fn health(world: &World) -> ServingStatus {
    let channel = Channel::from_shared(format!("http://{}", world.address)).unwrap().connect_lazy();
    let request = HealthCheckRequest { service: "staffetta.auth.v1.AuthService".to_owned() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status()
}

fn success() -> Outcome {
    Outcome::Success("john@example.org".to_owned())
}

#[tokio::test]
async fn a_login_is_tried_as_a_client_would_try_it_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let insert = "INSERT INTO virtual_users (domain_id, email, password) VALUES";
    execute(
        &url,
        format!(
            "{insert} (1, 'odd@example.org', '{{WHIRLPOOL}}x'), (1, 'barred@example.org', '!x'), (1, 'no@example.org', NULL), \
             (1, 'plain@example.org', '{{PLAIN}}summersun')"
        ),
    )
    .await;
    let config = config("mechanisms = [\"SCRAM-SHA-256\"]", &format!("url = {url:?}")).auth;
    for (login, password, verdict) in [
        ("John@Example.org", "summersun", Verdict::Accepted),
        ("john@example.org", "summersum", Verdict::Refused("wrong password".to_owned())),
        ("nobody@example.org", "summersun", Verdict::Refused("unknown login".to_owned())),
        ("barred@example.org", "summersun", Verdict::Refused("the account is locked".to_owned())),
        ("no@example.org", "summersun", Verdict::Refused("the account has no password".to_owned())),
    ] {
        let trial = staffetta_auth::try_login(&config, login, &password.into()).await.unwrap();
        assert_eq!(trial.verdict, verdict, "{login}");
    }
    let odd = staffetta_auth::try_login(&config, "odd@example.org", &"x".into()).await.unwrap();
    assert!(matches!(odd.verdict, Verdict::Temporary(why) if why.contains("{WHIRLPOOL}")));
    let warnings = staffetta_auth::warnings(&config).await;
    let ends = ["454 4.7.0: 1 × {WHIRLPOOL}", "can use: 1 × PLAIN", "cannot use: 1 × ARGON2ID"];
    assert_eq!(warnings.len(), ends.len(), "{warnings:?}");
    assert!(warnings.iter().zip(ends).all(|(warning, end)| warning.ends_with(end)), "{warnings:?}");
}

/// Who logs in by a token or a certificate needs no password, and must be kept out all the same.
#[tokio::test]
async fn an_account_without_a_password_is_disabled_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    for stored in ["NULL", "''"] {
        execute(&url, format!("UPDATE virtual_users SET password = {stored}")).await;
        let accounts = Accounts::open(&sql(&url)).await.unwrap();
        for (change, state) in [(true, State::Disabled), (false, State::NoPassword)] {
            let address = "john@example.org";
            assert!(if change { accounts.disable(address).await } else { accounts.enable(address).await }.unwrap());
            let (record, _) = accounts.show(address).await.unwrap();
            assert_eq!((record.scheme, record.state), (None, state), "{stored}");
        }
        accounts.close().await;
    }
}

/// Looking for accounts makes no file; a schema of the operator's own is left alone.
#[tokio::test]
async fn nothing_is_made_that_was_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(folder.path());
    let error = Accounts::existing(&sql(&url)).await.unwrap_err().to_string();
    assert!(error.contains("cannot be opened"), "{error}");
    assert!(!folder.path().join("users.db").exists());

    drop(std::fs::File::create(folder.path().join("users.db")).unwrap());
    execute(&url, "CREATE TABLE mailbox (username TEXT, password TEXT)".to_owned()).await;
    let error = Accounts::existing(&sql(&url)).await.unwrap_err().to_string();
    assert!(error.contains("there is no table virtual_users"), "{error}");
    let query = "SELECT username AS login, password FROM mailbox WHERE username = :login";
    let foreign = config("", &format!("url = {url:?}\npassword_query = \"{query}\"")).auth.sql;
    for error in [
        Accounts::open(&foreign).await.unwrap_err(),
        Accounts::existing(&foreign).await.unwrap_err(),
        staffetta_auth::accounts::init(&foreign).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("touches no others"), "{error}");
    }
    execute(&url, "CREATE TABLE virtual_aliases (a INT)".to_owned()).await;
    let error = staffetta_auth::accounts::init(&sql(&url)).await.unwrap_err().to_string();
    assert!(error.contains("only these are there: virtual_aliases"), "{error}");
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master").fetch_all(&mut connection).await.unwrap();
    assert_eq!(tables.len(), 2, "mailbox and virtual_aliases");
}

/// The hashes of everybody's passwords are in it: whoever made it readable for all is told so, and we never do.
#[tokio::test]
async fn a_database_in_a_file_is_its_owners_alone_and_an_open_one_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let file = folder.path().join("users.db");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let config = Auth { sql: sql(&url), ..Config::default().auth };
    assert_eq!(staffetta_auth::warnings(&config).await, Vec::<String>::new());

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    execute(&url, "DROP TABLE virtual_users".to_owned()).await;
    let warnings = staffetta_auth::warnings(&config).await;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.starts_with("auth.sql.url: ") && warning.contains("every user"), "{warning}");
    Accounts::open(&sql(&url)).await.unwrap_err();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "what is there stays as it is");
}

/// The guide's tables, made by hand and filled, are taken as they are.
#[tokio::test]
async fn accounts_are_kept_in_tables_that_were_made_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(folder.path());
    drop(std::fs::File::create(folder.path().join("users.db")).unwrap());
    let guide = "CREATE TABLE virtual_domains (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE virtual_users (id INTEGER PRIMARY KEY, domain_id INT NOT NULL, email TEXT NOT NULL UNIQUE,
            password TEXT NOT NULL, quota INT DEFAULT 0);
        INSERT INTO virtual_domains VALUES (7, 'example.org');
        INSERT INTO virtual_users VALUES (1, 7, 'john@example.org', 'x', 5);";
    execute(&url, guide.to_owned()).await;
    for _ in 0..2 {
        let accounts = Accounts::open(&sql(&url)).await.unwrap();
        accounts.set_password("john@example.org", &"summersun".into()).await.unwrap();
        assert!(accounts.list().await.unwrap().contains(&"john@example.org".to_owned()));
        accounts.close().await;
    }
    let accounts = Accounts::open(&sql(&url)).await.unwrap();
    accounts.add("lisa@example.org", &"moonlight".into()).await.unwrap();
    assert_eq!(accounts.list().await.unwrap(), ["john@example.org", "lisa@example.org"]);
    accounts.add_alias("lisa@example.org", "lisa@other.example", true).await.unwrap();
    accounts.close().await;

    let world = World::start(config("", &format!("url = {url:?}"))).await;
    world.until_ready().await;
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    assert_eq!(world.has_domain("other.example").await, Ok(true), "made for the alias");
    assert_eq!(world.has_recipient("lisa@other.example").await, Ok(true));
    world.stop().await;
}

#[tokio::test]
async fn a_back_end_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(config("", &format!("url = {:?}", url(folder.path())))).await;
    world.until_it_says("503", "unable to open database file; the file of auth.sql.url has to be there").await;
    assert_eq!(health(&world).await, ServingStatus::NotServing);
    assert!(world.http("/livez").await.contains(" 200 "));
    assert_eq!(world.plain("john@example.org", "summersun").await, Outcome::Failure(Reason::Temporary));
    assert_eq!(world.has_domain("example.org").await, Err(Code::Unavailable));
    john(folder.path()).await;
    world.until_ready().await;
    assert_eq!(health(&world).await, ServingStatus::Serving);
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    world.stop().await;
}

#[tokio::test]
async fn a_drain_answers_newcomers_for_its_delay() {
    let folder = tempfile::tempdir().unwrap();
    john(folder.path()).await;
    let world = World::start(config("drain_delay = \"5s\"", &format!("url = {:?}", url(folder.path())))).await;
    world.until_ready().await;
    let began = Instant::now();
    world.begin_to_stop();
    world.until_it_says("503", "draining").await;
    while health(&world).await == ServingStatus::Serving {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Over a connection that is begun now.
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    let address = world.address;
    world.stop().await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// It would keep the pod until the end of its grace.
#[tokio::test]
async fn a_drain_does_not_wait_for_who_leaves_a_challenge_unanswered() {
    let folder = tempfile::tempdir().unwrap();
    john(folder.path()).await;
    let world = World::start(config("", &format!("url = {:?}", url(folder.path())))).await;
    world.until_ready().await;
    let status = world.stop_while_challenged().await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the service ends"));
    world.stop().await;
}

#[tokio::test]
async fn a_verified_credential_is_cached_and_only_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let world = World::start(config("cache_ttl = \"1h\"", &format!("url = {url:?}"))).await;
    assert_eq!(world.plain("john@example.org", "moonlight").await, BAD);
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    let accounts = Accounts::open(&sql(&url)).await.unwrap();
    accounts.set_password("john@example.org", &"moonlight".into()).await.unwrap();
    assert_eq!(world.plain("john@example.org", "summersun").await, success(), "until cache_ttl is over");
    assert_eq!(world.plain("john@example.org", "moonlight").await, success(), "a refusal is not kept");
    world.stop().await;

    let world = World::start(config("cache_ttl = \"0s\"", &format!("url = {url:?}"))).await;
    assert_eq!(world.plain("john@example.org", "summersun").await, BAD, "no cache");
    assert_eq!(world.owns("john@example.org", "john@example.org").await, Ok(true));
    accounts.remove("john@example.org").await.unwrap();
    assert_eq!(world.owns("john@example.org", "john@example.org").await, Ok(false), "none for senders either");
    world.stop().await;
}

/// However often they are used meanwhile: the time runs from the verification.
#[tokio::test]
async fn what_was_verified_or_owned_is_believed_for_cache_ttl_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let accounts = Accounts::open(&sql(&url)).await.unwrap();
    accounts.add("lisa@example.org", &"wintermoon".into()).await.unwrap();
    let world = World::start(config("cache_ttl = \"2s\"", &format!("url = {url:?}"))).await;
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    assert_eq!(world.plain("lisa@example.org", "wintermoon").await, Outcome::Success("lisa@example.org".to_owned()));
    assert_eq!(world.owns("lisa@example.org", "lisa@example.org").await, Ok(true));
    let verified = Instant::now();
    accounts.set_password("john@example.org", &"moonlight".into()).await.unwrap();
    accounts.remove("lisa@example.org").await.unwrap();
    let mut still = 3;
    while still > 0 {
        assert!(verified.elapsed() < Duration::from_secs(10), "{still} are still believed");
        still = usize::from(world.plain("john@example.org", "summersun").await != BAD)
            + usize::from(world.plain("lisa@example.org", "wintermoon").await != BAD)
            + usize::from(world.owns("lisa@example.org", "lisa@example.org").await != Ok(false));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(verified.elapsed() > Duration::from_secs(1), "they were believed for a while");
    assert_eq!(world.plain("john@example.org", "moonlight").await, success());
    world.stop().await;
    accounts.close().await;
}

/// `:domain` is the domain of what is asked about, `:login` who asks.
#[tokio::test]
async fn each_parameter_of_a_query_is_what_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let queries = "password_query = \"SELECT email AS login, password FROM virtual_users WHERE email = :login AND :domain = 'example.org'\"
        sender_query = \"SELECT 'john@example.org' AS login WHERE :domain = 'catch.example' UNION SELECT 'x' WHERE :login = 'x' AND :sender = 's@here.example'\"
        domain_query = \"SELECT 1 WHERE :domain = 'catch.example'\"
        recipient_query = \"SELECT 1 WHERE :domain = 'catch.example' OR :recipient = 'r@here.example'\"
        alias_query = \"SELECT 'x@else.example' AS destination WHERE :recipient = 'a@here.example' OR :local = 'l' AND :domain = 'there.example'\"";
    let text = format!("url = {url:?}\n{queries}").replace("\n        ", "\n");
    let world = World::start(config("cache_ttl = \"0s\"", &text)).await;
    assert_eq!(world.plain("john@example.org", "summersun").await, success());
    for (login, sender, owned) in [
        ("john@example.org", "anybody@catch.example", true),
        ("john@example.org", "john@example.org", false),
        ("john@catch.example", "john@example.org", false),
        ("lisa@catch.example", "anybody@catch.example", false),
        ("x", "s@here.example", true),
        ("s@here.example", "x", false),
    ] {
        assert_eq!(world.owns(login, sender).await, Ok(owned), "{login} {sender}");
    }
    for (recipient, known) in [("a@catch.example", true), ("r@here.example", true), ("b@here.example", false)] {
        assert_eq!(world.has_recipient(recipient).await, Ok(known), "{recipient}");
    }
    for (recipient, leads) in [("a@here.example", true), ("l@there.example", true), ("r@here.example", false)] {
        let expected = leads.then(|| "x@else.example".to_owned()).into_iter().collect();
        assert_eq!(world.destinations(recipient).await, Some(expected), "{recipient}");
    }
    assert_eq!(world.has_domain("catch.example").await, Ok(true));
    assert_eq!(world.has_domain("here.example").await, Ok(false));
    world.stop().await;
}

#[tokio::test]
async fn a_flood_with_one_credential_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let world = Arc::new(World::start(config("cache_ttl = \"1h\"", &format!("url = {url:?}"))).await);
    let sessions: Vec<_> = (0..500)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.plain("john@example.org", "summersun").await })
        })
        .collect();
    for session in sessions {
        assert_eq!(session.await.unwrap(), success());
    }
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn the_first_message_is_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(config("", &format!("url = {:?}", john(folder.path()).await))).await;
    for step in [None, Some(Step::Response(b"\0a\0b"[..].into()))] {
        let requests = tokio_stream::iter([AuthenticateRequest { step }]);
        let mut replies = world.client.clone().authenticate(requests).await.unwrap().into_inner();
        assert_eq!(replies.message().await.unwrap_err().code(), Code::InvalidArgument);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_exchange_is_started_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(config("", &format!("url = {:?}", john(folder.path()).await))).await;
    let start = || Step::Start(Start { mechanism: "LOGIN".to_owned(), ..Start::default() });
    let requests = [start(), start()].map(|step| AuthenticateRequest { step: Some(step) });
    let mut replies = world.client.clone().authenticate(tokio_stream::iter(requests)).await.unwrap().into_inner();
    assert!(matches!(replies.message().await.unwrap().unwrap().step, Some(Reply::Challenge(_))));
    assert_eq!(replies.message().await.unwrap_err().code(), Code::InvalidArgument);
    world.stop().await;
}

#[tokio::test]
async fn an_open_exchange_ends_well_while_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(config("", &format!("url = {:?}", john(folder.path()).await))).await;
    let start = Start { mechanism: "LOGIN".to_owned(), ..Start::default() };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(AuthenticateRequest { step: Some(Step::Start(start)) }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = world.client.clone().authenticate(requests).await.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap().unwrap().step, Some(Reply::Challenge(b"Username:".to_vec())));
    let address = world.address;
    let stopping = tokio::spawn(world.stop());
    for (answer, last) in [("john@example.org", false), ("summersun", true)] {
        sender.send(AuthenticateRequest { step: Some(Step::Response(answer.into())) }).await.unwrap();
        let reply = replies.message().await.unwrap().unwrap().step.unwrap();
        assert_eq!(matches!(reply, Reply::Success(_)), last, "{reply:?}");
    }
    drop((sender, replies));
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn metrics_show_what_happened() {
    let _guard = telemetry::init(telemetry::LogFormat::Json, "error", &["auth"], telemetry::Build::UNKNOWN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let locked = "INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'locked@example.org', NULL FROM virtual_domains";
    execute(&url, locked.to_owned()).await;
    let world = World::start(config("cache_ttl = \"1h\"", &format!("url = {url:?}"))).await;
    world.plain("john@example.org", "summersun").await;
    world.plain("john@example.org", "summersun").await;
    world.plain("john@example.org", "x").await;
    world.plain("nobody@example.org", "x").await;
    world.plain("locked@example.org", "x").await;
    let clear = "INSERT INTO virtual_users (domain_id, email, password) SELECT id, 'clear@example.org', '{CLEARTEXT}x' FROM virtual_domains";
    execute(&url, clear.to_owned()).await;
    for password in ["x", "x", "y"] {
        world.plain("clear@example.org", password).await;
    }
    world.owns("john@example.org", "john@example.org").await.unwrap();
    let metrics = world.http("/metrics").await;
    for line in [
        "staffetta_auth_results_total{mechanism=\"PLAIN\",result=\"success\"} 4",
        "staffetta_auth_results_total{mechanism=\"PLAIN\",result=\"credentials\"} 4",
        "staffetta_auth_results_total{mechanism=\"LOGIN\",result=\"success\"} 0",
        "staffetta_auth_cache_total{result=\"hit\"} 2",
        "staffetta_auth_cache_total{result=\"miss\"} 6",
        // Once each: the second time they were in the cache.
        "staffetta_auth_password_scheme_total{scheme=\"ARGON2ID\"} 1",
        "staffetta_auth_password_scheme_total{scheme=\"PLAIN\"} 1",
        "staffetta_auth_password_scheme_total{scheme=\"SHA512-CRYPT\"} 0",
        // The right password once, the wrong one, and as many for a login without an account or without a password.
        "staffetta_auth_hash_duration_seconds_count 6",
        "staffetta_auth_hash_waiting 0",
        "staffetta_auth_sql_duration_seconds_count{query=\"sender\"} 1",
        "staffetta_auth_backend_up 1",
        "staffetta_grpc_server_handled_total{grpc_service=\"staffetta.auth.v1.AuthService\",grpc_method=\"CheckSender\",grpc_code=\"OK\"} 1",
        "staffetta_grpc_server_handled_total{grpc_service=\"staffetta.auth.v1.AuthService\",grpc_method=\"Authenticate\",grpc_code=\"OK\"} 8",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("john"), "{metrics}");
    world.stop().await;
}

#[tokio::test]
async fn mutual_tls_lets_in_who_has_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let authority = Authority::new(folder.path()).unwrap();
    let (server, client) =
        (authority.leaf("auth", &["localhost"]).unwrap(), authority.leaf("frontend", &["frontend"]).unwrap());
    let mut config = config("", &format!("url = {url:?}"));
    config.rpc.ca = Some(authority.ca());
    config.rpc.certificate = Some(server.certificate);
    config.rpc.key = Some(server.key);
    let world = World::start(config).await;
    let read = |path| std::fs::read(path).unwrap();
    let trust =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority.ca()))).domain_name("localhost");
    let identity = Identity::from_pem(read(client.certificate), read(client.key));
    let ask = async |tls: ClientTlsConfig| {
        let endpoint = Channel::from_shared(format!("https://{}", world.address)).unwrap().tls_config(tls).unwrap();
        let mut client = AuthServiceClient::new(endpoint.connect_lazy());
        client.lookup_domain(LookupDomainRequest { domain: "example.org".to_owned() }).await
    };
    assert!(ask(trust.clone().identity(identity)).await.unwrap().into_inner().known);
    assert!(ask(trust).await.is_err(), "no client certificate");
    assert!(world.has_domain("example.org").await.is_err(), "no TLS");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_work_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = john(folder.path()).await;
    let error = async |config| format!("{:#}", Server::bind(&config).await.err().unwrap());
    let mut wrong = config("", "");
    wrong.auth.sql.url = "oracle://x".into();
    assert!(error(wrong).await.contains("unknown database `oracle`; allowed are sqlite:///path"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wrong = config("", &format!("url = {url:?}"));
    wrong.auth.listen = taken.local_addr().unwrap();
    assert!(error(wrong).await.contains("auth.listen: cannot listen on 127.0.0.1:"));
    let mut wrong = config("", &format!("url = {url:?}"));
    wrong.rpc.ca = Some(folder.path().join("missing.pem"));
    assert!(error(wrong.clone()).await.contains("must be set together"));
    wrong.rpc.certificate = wrong.rpc.ca.clone();
    wrong.rpc.key = wrong.rpc.ca.clone();
    assert!(error(wrong).await.contains("missing.pem"));
}
