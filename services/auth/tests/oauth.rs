//! OAUTHBEARER and XOAUTH2 with the accounts in a database: an identity provider in TLS, of the test's own, that gives keys
//! and says what it thinks of tokens.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{BAD, Outcome, World, client, config, sql};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use staffetta_auth::Server;
use staffetta_auth::accounts::Accounts;
use staffetta_config::Config;
use staffetta_proto::auth::v1::authenticate_response::Reason;
use staffetta_telemetry as telemetry;
use staffetta_testkit::certs::Authority;
use staffetta_testkit::tokens::{Provider, Signer, jwks};
use tokio_rustls::TlsAcceptor;

const TEMPORARY: Outcome = Outcome::Failure(Reason::Temporary);
const JOHN: &str = "john@example.org";
const KEYS: &str = "/realm/keys";
const INTROSPECT: &str = "/realm/introspect";
const OFFERED: &str = "mechanisms = [\"OAUTHBEARER\", \"XOAUTH2\", \"PLAIN\"]";

/// Accounts, and a provider with its CA.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
    provider: Provider,
    url: String,
}

impl Scene {
    /// John has a password, "token" has none, "locked" is locked.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("users.db").display());
        let accounts = Accounts::open(&sql(&url)).await.unwrap();
        accounts.add(JOHN, &"summersun".into()).await.unwrap();
        accounts.close().await;
        let scene = Self {
            authority: Authority::new(folder.path()).unwrap(),
            provider: provider(folder.path(), 0).await,
            folder,
            url,
        };
        let insert = "INSERT INTO virtual_users (domain_id, email, password) VALUES";
        scene.execute(&format!("{insert} (1, 'token@example.org', NULL), (1, 'locked@example.org', '!x')")).await;
        scene
    }

    async fn execute(&self, sql: &str) {
        let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    fn at(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.provider.address().port())
    }

    /// With these lines in `[auth]` and in `[auth.oauth]`.
    fn config(&self, auth: &str, oauth: &str) -> Config {
        let ca = self.folder.path().join("provider/ca.pem");
        let issuer = "issuer = \"https://id.example.org/realm\"\naudience = [\"smtp\", \"mail\"]";
        config(
            &format!("{OFFERED}\n{auth}"),
            &format!("url = {:?}\n[auth.oauth]\nca = {ca:?}\n{issuer}\n{oauth}", self.url),
        )
    }

    /// By the keys on the provider's web server.
    fn by_keys(&self, auth: &str, oauth: &str) -> Config {
        self.config(auth, &format!("keys = {:?}\n{oauth}", self.at(KEYS)))
    }

    /// By what the provider says.
    fn by_introspection(&self, auth: &str) -> Config {
        let secret = "client_id = \"staffetta\"\nclient_secret = \"se cret\"";
        self.config(auth, &format!("introspection = {:?}\n{secret}", self.at(INTROSPECT)))
    }

    fn gives(&self, signers: &[&Signer]) {
        self.provider.answer(KEYS, "200 OK", &jwks(signers));
    }

    fn says(&self, claims: &Value) {
        self.provider.answer(INTROSPECT, "200 OK", &claims.to_string());
    }

    fn asked(&self) -> usize {
        self.provider.asked().len()
    }
}

/// A provider whose certificate is of an authority of its own.
async fn provider(folder: &std::path::Path, port: u16) -> Provider {
    let folder = folder.join("provider");
    std::fs::create_dir_all(&folder).unwrap();
    let leaf = Authority::new(&folder).unwrap().leaf("id", &["localhost"]).unwrap();
    let chain = CertificateDer::pem_file_iter(&leaf.certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&leaf.key).unwrap();
    let library = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(library)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Provider::start(([127, 0, 0, 1], port).into(), TlsAcceptor::from(Arc::new(tls))).await.unwrap()
}

async fn start(config: Config) -> World {
    let world = World::start(config).await;
    world.until_ready().await;
    world
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token of John's, with these in their place.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example.org/realm", "aud": ["web", "smtp"], "exp": now() + 600, "email": JOHN, "sub": "4711",
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

fn token(signer: &Signer, changes: &Value) -> String {
    signer.token(&claims(changes).to_string()).unwrap()
}

/// Shows a token; what the client is told before it is refused goes into the second part.
async fn show(world: &World, mechanism: &str, message: &str) -> (Outcome, Option<Value>) {
    let mut told = None;
    let answer = |challenge: &[u8]| {
        assert!(told.is_none(), "one challenge is enough");
        told = Some(serde_json::from_slice(challenge).unwrap());
        b"\x01".to_vec()
    };
    let outcome = world.converse(mechanism, Some(message.as_bytes()), client("192.0.2.1"), answer).await.unwrap();
    (outcome, told)
}

async fn bearer(world: &World, token: &str) -> Outcome {
    show(world, "OAUTHBEARER", &format!("n,,\x01auth=Bearer {token}\x01\x01")).await.0
}

fn is(login: &str) -> Outcome {
    Outcome::Success(login.to_owned())
}

#[tokio::test]
async fn a_token_that_the_provider_has_signed_opens_the_account_that_it_names() {
    let scene = Scene::new().await;
    let signers = [Signer::rsa("r1").unwrap(), Signer::ec("e1").unwrap(), Signer::ed25519("d1").unwrap()];
    scene.gives(&[&signers[0], &signers[1], &signers[2]]);
    let world = start(scene.by_keys("cache_ttl = \"0s\"", "scope = \"mail.send\"")).await;
    assert_eq!(world.mechanisms().await.unwrap(), ["OAUTHBEARER", "XOAUTH2", "PLAIN"]);
    let with_scope = |changes: Value| {
        let mut changes = changes;
        changes["scope"] = json!("openid mail.send");
        changes
    };
    for signer in &signers {
        assert_eq!(bearer(&world, &token(signer, &with_scope(json!({})))).await, is(JOHN));
    }
    let signer = &signers[1];
    let good = token(signer, &with_scope(json!({"email": "John@Example.ORG"})));
    assert_eq!(bearer(&world, &good).await, is(JOHN), "as the back end spells it");
    for (mechanism, message) in [
        ("OAUTHBEARER", format!("n,a=JOHN@example.org,\x01host=mail\x01port=587\x01auth=Bearer {good}\x01\x01")),
        ("XOAUTH2", format!("user=john@example.org\x01auth=Bearer {good}\x01\x01")),
    ] {
        assert_eq!(show(&world, mechanism, &message).await, (is(JOHN), None));
        let other = message.replace("john@", "token@").replace("JOHN@", "token@");
        assert_eq!(show(&world, mechanism, &other).await.0, BAD, "{mechanism}: somebody else");
        let answers: [&str; 1] = [&message];
        assert_eq!(
            world.exchange(mechanism, None, &answers).await,
            is(JOHN),
            "{mechanism}: without an initial response"
        );
    }
    for (email, outcome) in
        [("token@example.org", is("token@example.org")), ("locked@example.org", BAD), ("nobody@example.org", BAD)]
    {
        assert_eq!(bearer(&world, &token(signer, &with_scope(json!({ "email": email })))).await, outcome, "{email}");
    }
    for changes in [
        json!({"exp": now() - 61}),
        json!({"exp": null}),
        json!({"nbf": now() + 120}),
        json!({"iss": "https://id.example.org/other"}),
        json!({"aud": "web"}),
        json!({"email": null}),
        json!({"email_verified": false}),
    ] {
        assert_eq!(bearer(&world, &token(signer, &with_scope(changes.clone()))).await, BAD, "{changes}");
    }
    let hint = "https://id.example.org/realm/.well-known/openid-configuration";
    let poor = format!("n,,\x01auth=Bearer {}\x01\x01", token(signer, &json!({})));
    let told = json!({"status": "insufficient_scope", "scope": "mail.send", "openid-configuration": hint});
    assert_eq!(show(&world, "OAUTHBEARER", &poor).await, (BAD, Some(told)));
    let none = "n,a=john@example.org,\x01host=mail\x01port=587\x01auth=\x01\x01";
    let told = json!({"status": "invalid_token", "scope": "mail.send", "openid-configuration": hint});
    assert_eq!(show(&world, "OAUTHBEARER", none).await, (BAD, Some(told)));
    let told = json!({"status": "401", "schemes": "bearer", "scope": "mail.send"});
    let expired = token(signer, &with_scope(json!({"exp": 1})));
    let message = format!("user=john@example.org\x01auth=Bearer {expired}\x01\x01");
    assert_eq!(show(&world, "XOAUTH2", &message).await, (BAD, Some(told)));
    assert_eq!(world.exchange("OAUTHBEARER", Some(b"john"), &[]).await, Outcome::Failure(Reason::Malformed));
    assert_eq!(world.plain(JOHN, "summersun").await, is(JOHN));
    assert_eq!(world.plain("token@example.org", "").await, BAD, "no password is no password");
    world.stop().await;
}

#[tokio::test]
async fn what_a_token_says_of_its_own_signature_is_not_believed() {
    let scene = Scene::new().await;
    let (rsa, ec, stranger) = (Signer::rsa("r1").unwrap(), Signer::ec("e1").unwrap(), Signer::ec("e1").unwrap());
    scene.gives(&[&rsa, &ec]);
    let world = start(scene.by_keys("cache_ttl = \"0s\"", "algorithms = [\"ES256\"]")).await;
    let claims = claims(&json!({})).to_string();
    let with = |signer: &Signer, header: &str| signer.token_with(header, &claims).unwrap();
    let good = with(&ec, r#"{"alg":"ES256","kid":"e1","typ":"JWT"}"#);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let (_, other) = token(&ec, &json!({"email": "token@example.org"}))
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let other = other.split_once('.').unwrap().0.to_owned();
    assert_eq!(bearer(&world, &good).await, is(JOHN));
    assert_eq!(bearer(&world, &with(&ec, r#"{"alg":"ES256"}"#)).await, is(JOHN), "a token need not name its key");
    for (token, why) in [
        (with(&stranger, r#"{"alg":"ES256","kid":"e1"}"#), "by another key"),
        (with(&stranger, r#"{"alg":"ES256"}"#), "by another key, which it does not name"),
        (with(&rsa, r#"{"alg":"RS256","kid":"r1"}"#), "an algorithm that is not allowed"),
        (with(&rsa, r#"{"alg":"ES256","kid":"r1"}"#), "a key that is for another"),
        (with(&ec, r#"{"alg":"none","kid":"e1"}"#), "none"),
        (with(&ec, r#"{"alg":"None"}"#), "None"),
        (with(&ec, r#"{"alg":"HS256","kid":"e1"}"#), "the public key as a secret"),
        (with(&ec, r#"{"kid":"e1"}"#), "no algorithm"),
        (with(&ec, r#"{"alg":"ES256","kid":"e1","crit":["exp"]}"#), "an extension"),
        (with(&ec, r#"{"alg":"ES256","kid":"e1","crit":null}"#), "extensions that are none"),
        (with(&ec, r#"{"alg":"ES256","kid":"e1","typ":"logout+jwt"}"#), "of another kind"),
        (format!("{signed}."), "no signature"),
        (signed.to_owned(), "two parts"),
        (format!("{good}.x"), "four parts"),
        (format!("{header}.{other}.{signature}"), "other claims"),
        ("x".to_owned(), "no JWT"),
    ] {
        assert_eq!(bearer(&world, &token).await, BAD, "{why}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_claim_of_the_file_is_the_login() {
    let scene = Scene::new().await;
    let signer = Signer::ec("k1").unwrap();
    scene.gives(&[&signer]);
    let world = start(scene.by_keys("cache_ttl = \"0s\"", "login_claim = \"upn\"")).await;
    assert_eq!(bearer(&world, &token(&signer, &json!({"upn": "token@example.org"}))).await, is("token@example.org"));
    assert_eq!(bearer(&world, &token(&signer, &json!({}))).await, BAD);
    world.stop().await;
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_one_that_is_new() {
    let scene = Scene::new().await;
    let (old, new, forged) = (Signer::ec("k1").unwrap(), Signer::ec("k2").unwrap(), Signer::ec("k3").unwrap());
    scene.gives(&[&old]);
    let world = start(scene.by_keys("cache_ttl = \"0s\"", "")).await;
    for _ in 0..3 {
        assert_eq!(bearer(&world, &token(&old, &json!({}))).await, is(JOHN));
    }
    assert_eq!(scene.asked(), 1);
    scene.gives(&[&new]);
    assert_eq!(bearer(&world, &token(&new, &json!({}))).await, is(JOHN));
    assert_eq!(bearer(&world, &token(&old, &json!({}))).await, BAD, "it was taken back");
    assert_eq!(scene.asked(), 2);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(bearer(&world, &token(&forged, &json!({}))).await, BAD);
    }
    // One in two seconds, however many ask.
    assert!(scene.asked() <= 3 + (begun.elapsed().as_secs() / 2) as usize, "{}", scene.asked());
    world.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_no_refusal() {
    let scene = Scene::new().await;
    let signer = Signer::ec("k1").unwrap();
    // Whom a certificate of another authority does not convince.
    let mut distrustful = scene.by_keys("", "");
    distrustful.auth.oauth.ca = Some(scene.authority.ca());
    let world = start(distrustful).await;
    scene.gives(&[&signer]);
    assert_eq!(bearer(&world, &token(&signer, &json!({}))).await, TEMPORARY);
    assert_eq!(world.plain(JOHN, "summersun").await, is(JOHN), "passwords go on working");
    world.stop().await;
    let long = format!("{{\"keys\":[],\"x\":{:?}}}", "x".repeat(300_000));
    for (status, body) in [("503 Sorry", "{}"), ("302 Found", "{}"), ("200 OK", "<html>"), ("200 OK", long.as_str())] {
        scene.provider.answer(KEYS, status, body);
        let world = start(scene.by_keys("cache_ttl = \"0s\"", "")).await;
        assert_eq!(bearer(&world, &token(&signer, &json!({}))).await, TEMPORARY, "{status} {body:.20}");
        scene.gives(&[&signer]);
        // Not before it has rested.
        let end = Instant::now() + Duration::from_secs(30);
        while bearer(&world, &token(&signer, &json!({}))).await != is(JOHN) {
            assert!(Instant::now() < end, "{status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // A key that nobody can ask for may be a new one.
        scene.provider.answer(KEYS, "503 Sorry", "");
        let unknown = token(&Signer::ec("k9").unwrap(), &json!({}));
        assert_eq!(bearer(&world, &unknown).await, TEMPORARY);
        assert_eq!(bearer(&world, &unknown).await, TEMPORARY);
        assert_eq!(bearer(&world, &token(&signer, &json!({}))).await, is(JOHN), "what is known stays known");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_and_a_broken_one_is_not_used() {
    let scene = Scene::new().await;
    let (old, new) = (Signer::ec("k1").unwrap(), Signer::ec("k2").unwrap());
    let path = scene.folder.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let config = scene.config("cache_ttl = \"0s\"", &format!("keys = {path:?}"));
    let world = start(config.clone()).await;
    assert_eq!(bearer(&world, &token(&old, &json!({}))).await, is(JOHN));
    std::fs::write(&path, jwks(&[&old, &new])).unwrap();
    assert_eq!(bearer(&world, &token(&new, &json!({}))).await, is(JOHN), "at once");
    std::fs::write(&path, "{\"keys\": [").unwrap();
    assert_eq!(bearer(&world, &token(&new, &json!({}))).await, is(JOHN));
    world.stop().await;

    let error = Server::bind(&config).await.err().unwrap();
    assert!(format!("{error:#}").contains("auth.oauth.keys: the keys cannot be used: this is no JWKS"), "{error:#}");
}

#[tokio::test]
async fn the_provider_says_whether_a_token_is_good() {
    let scene = Scene::new().await;
    let world = start(scene.by_introspection("cache_ttl = \"0s\"")).await;
    scene.says(&json!({"active": true, "email": JOHN}));
    assert_eq!(bearer(&world, "opaque+/~token==").await, is(JOHN), "it need not say more");
    let asked = scene.provider.asked().remove(0);
    assert_eq!(asked.line, format!("POST {INTROSPECT}"));
    assert_eq!(asked.authorization, "Basic c3RhZmZldHRhOnNlJTIwY3JldA==");
    assert_eq!(asked.body, "token_type_hint=access_token&token=opaque%2B%2F~token%3D%3D");
    let active = |changes: Value| {
        let mut answer = claims(&changes);
        answer["active"] = json!(true);
        answer
    };
    for (answer, outcome) in [
        (active(json!({})), is(JOHN)),
        (active(json!({"email": "token@example.org"})), is("token@example.org")),
        (active(json!({"email": "locked@example.org"})), BAD),
        (active(json!({"email": "nobody@example.org"})), BAD),
        (active(json!({"email": null})), BAD),
        (active(json!({"aud": "web"})), BAD),
        (active(json!({"iss": "https://elsewhere.example.org"})), BAD),
        (active(json!({"exp": now() - 61})), BAD),
        (json!({"active": false, "email": JOHN}), BAD),
        (json!({"email": JOHN}), TEMPORARY),
        (json!({"active": "true", "email": JOHN}), TEMPORARY),
        (json!([]), TEMPORARY),
    ] {
        scene.says(&answer);
        assert_eq!(bearer(&world, "opaque").await, outcome, "{answer}");
    }
    for status in ["401 Unauthorized", "500 Sorry", "302 Found", "204 No Content"] {
        scene.provider.answer(INTROSPECT, status, &active(json!({})).to_string());
        assert_eq!(bearer(&world, "opaque").await, TEMPORARY, "{status}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_the_provider_said_is_kept_no_longer_than_the_token_and_not_beyond_a_revocation() {
    let scene = Scene::new().await;
    let world = start(scene.by_introspection("cache_ttl = \"1h\"")).await;
    let login = async |token: &str| (bearer(&world, token).await, scene.asked());
    scene.says(&json!({"active": true, "email": JOHN, "exp": now() + 600}));
    assert_eq!(login("one").await, (is(JOHN), 1));
    assert_eq!(login("one").await, (is(JOHN), 1), "kept");
    assert_eq!(login("two").await, (is(JOHN), 2), "each token for itself");
    let other = format!("n,a=token@example.org,\x01auth=Bearer {}\x01\x01", "one");
    assert_eq!(show(&world, "OAUTHBEARER", &other).await.0, BAD, "also when it is kept");
    assert_eq!(world.plain("bearer", "one").await, BAD, "it is no password");
    scene.says(&json!({"active": true, "email": JOHN, "exp": now() - 10}));
    assert_eq!(login("three").await, (is(JOHN), 3), "in its leeway");
    assert_eq!(login("three").await, (is(JOHN), 4), "it has ended and is asked about each time");

    scene.says(&json!({"active": false}));
    assert_eq!(login("one").await, (is(JOHN), 4), "nobody has said that it ended");
    world.revoke(JOHN).await;
    let end = Instant::now() + Duration::from_secs(10);
    while bearer(&world, "one").await != BAD {
        assert!(Instant::now() < end, "a revoked login is asked anew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_check_says_what_is_wrong_with_keys_and_provider() {
    let scene = Scene::new().await;
    let signer = Signer::ec("k1").unwrap();
    let check = async |config: &Config| {
        staffetta_auth::check_tokens(&config.auth).await.err().map_or_else(String::new, |problem| problem.to_string())
    };
    let by_keys = scene.by_keys("", "");
    assert!(check(&by_keys).await.ends_with("the web server says 404 Not Found"), "{}", check(&by_keys).await);
    scene.provider.answer(KEYS, "200 OK", "{\"keys\": []}");
    assert!(check(&by_keys).await.starts_with("auth.oauth.keys: the keys cannot be used: of 0 keys, none"));
    scene.gives(&[&signer]);
    assert_eq!(check(&by_keys).await, "");
    let mut distrustful = by_keys.clone();
    distrustful.auth.oauth.ca = None;
    assert!(check(&distrustful).await.contains("handshake failure"), "{}", check(&distrustful).await);
    distrustful.auth.oauth.ca = Some(scene.folder.path().join("none.pem"));
    assert!(check(&distrustful).await.starts_with("auth.oauth.ca: read the CA bundle"));
    let missing = scene.config("", "keys = \"/nowhere/jwks.json\"");
    assert!(check(&missing).await.starts_with("auth.oauth.keys: /nowhere/jwks.json cannot be read: "));

    let by_introspection = scene.by_introspection("");
    scene.provider.answer(INTROSPECT, "401 Unauthorized", "");
    let refused = check(&by_introspection).await;
    assert_eq!(refused, "auth.oauth.introspection: the web server says 401 Unauthorized");
    scene.says(&json!({"active": false}));
    assert_eq!(check(&by_introspection).await, "");
    let mut nobody = missing;
    nobody.auth.mechanisms = vec![staffetta_config::Mechanism::Plain];
    assert_eq!(check(&nobody).await, "", "without the mechanisms nothing is asked");
}

/// Also from the cache.
#[tokio::test]
async fn a_token_brings_the_limits_of_its_account() {
    let scene = Scene::new().await;
    scene.says(&json!({"active": true, "email": JOHN, "exp": now() + 600}));
    let mut config = scene.by_introspection("cache_ttl = \"1h\"");
    let query = "SELECT email AS login, password, '7/1h' AS message_limit FROM virtual_users WHERE email = :login";
    query.clone_into(&mut config.auth.sql.password_query);
    let world = start(config).await;
    for _ in 0..2 {
        let message = b"n,,\x01auth=Bearer one\x01\x01";
        let limits = world.limits_by("OAUTHBEARER", message, client("192.0.2.1"), |_| Vec::new()).await.unwrap();
        assert_eq!(limits.messages.map(|limit| (limit.count, limit.period)), Some((7, 3_600_000)));
    }
    assert_eq!(scene.asked(), 1);
    world.stop().await;
}

#[tokio::test]
async fn metrics_show_what_the_provider_was_asked() {
    let _guard = telemetry::init(telemetry::LogFormat::Json, "error", &["auth"], telemetry::Build::UNKNOWN).unwrap();
    let scene = Scene::new().await;
    scene.says(&json!({"active": true, "username": JOHN, "email": JOHN, "exp": now() + 600}));
    let world = start(scene.by_introspection("cache_ttl = \"1h\"")).await;
    let asked = async |result: &str| {
        let metrics = world.http("/metrics").await;
        let line = format!("staffetta_auth_provider_requests_total{{result=\"{result}\"}} ");
        metrics.lines().find_map(|each| each.strip_prefix(&line)).unwrap().to_owned()
    };
    assert_eq!((asked("answered").await, asked("failed").await), ("0".to_owned(), "0".to_owned()), "from the start");
    assert_eq!(bearer(&world, "one").await, is(JOHN));
    assert_eq!(bearer(&world, "one").await, is(JOHN));
    assert_eq!(
        (asked("answered").await, asked("failed").await),
        ("1".to_owned(), "0".to_owned()),
        "the second was kept"
    );
    scene.provider.answer(INTROSPECT, "503 Sorry", "");
    assert_eq!(bearer(&world, "two").await, TEMPORARY);
    assert_eq!((asked("answered").await, asked("failed").await), ("1".to_owned(), "1".to_owned()));
    let metrics = world.http("/metrics").await;
    assert!(
        metrics.contains("staffetta_auth_results_total{mechanism=\"OAUTHBEARER\",result=\"success\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("staffetta_auth_results_total{mechanism=\"OAUTHBEARER\",result=\"temporary\"} 1"),
        "{metrics}"
    );
    assert!(!metrics.contains("john"), "{metrics}");
    world.stop().await;
}
