//! SCRAM-SHA-256 with the accounts in a database.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{BAD, Outcome, World, client, config, sql};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use staffetta_auth::accounts::Accounts;
use staffetta_auth::scheme;
use staffetta_proto::auth::v1::authenticate_response::Reason;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// A database with these accounts, and their stored passwords.
async fn accounts(folder: &tempfile::TempDir, rows: &[(&str, &str)]) -> String {
    let url = format!("sqlite://{}", folder.path().join("users.db").display());
    let accounts = Accounts::open(&sql(&url)).await.unwrap();
    accounts.add("john@example.org", &"moonlight".into()).await.unwrap();
    accounts.close().await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for (login, stored) in rows {
        let row = format!("INSERT INTO virtual_users (domain_id, email, password) VALUES (1, '{login}', '{stored}')");
        sqlx::raw_sql(AssertSqlSafe(row)).execute(&mut connection).await.unwrap();
    }
    url
}

async fn start(url: &str, auth: &str) -> World {
    let world = World::start(config(&format!("cache_ttl = \"0s\"\n{auth}"), &format!("url = {url:?}"))).await;
    world.until_ready().await;
    world
}

const OFFERED: &str = "mechanisms = [\"SCRAM-SHA-256\", \"PLAIN\"]";

/// What the service says of this login: salt and iterations.
async fn shown(world: &World, login: &str) -> String {
    let mut seen = String::new();
    let first = format!("n,,n={login},r={NONCE}");
    let answer = |challenge: &[u8]| {
        seen = std::str::from_utf8(challenge).unwrap().split_once(',').unwrap().1.to_owned();
        b"no".to_vec()
    };
    let outcome = world.converse("SCRAM-SHA-256", Some(first.as_bytes()), client("192.0.2.1"), answer).await.unwrap();
    assert_eq!(outcome, Outcome::Failure(Reason::Malformed));
    seen
}

#[tokio::test]
async fn a_proof_is_as_good_as_the_password_where_the_stored_string_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let scram = scheme::hash("SCRAM-SHA-256", &"summersun".into()).unwrap();
    let locked = scram.replacen('}', "}!", 1);
    let rows = [
        ("scram@example.org", &scram[..]),
        ("plain@example.org", "{PLAIN}summersun"),
        ("locked@example.org", &locked),
        ("broken@example.org", "{SCRAM-SHA-256}4096,x"),
    ];
    let url = accounts(&folder, &rows).await;
    let world = start(&url, OFFERED).await;
    assert_eq!(world.mechanisms().await.unwrap(), ["SCRAM-SHA-256", "PLAIN"]);
    for known in ["scram@example.org", "plain@example.org"] {
        assert_eq!(world.scram(known, "summersun").await, Outcome::Success(known.to_owned()));
        assert_eq!(world.scram(known, "summersum").await, BAD, "{known}");
        assert_eq!(world.plain(known, "summersun").await, Outcome::Success(known.to_owned()));
    }
    // As the back end spells it.
    assert_eq!(world.scram("Scram@Example.ORG", "summersun").await, Outcome::Success("scram@example.org".to_owned()));
    for unknown in ["john@example.org", "locked@example.org", "nobody@example.org"] {
        assert_eq!(world.scram(unknown, "moonlight").await, BAD, "{unknown}");
    }
    let broken = world.scram("broken@example.org", "summersun").await;
    assert_eq!(broken, Outcome::Failure(Reason::Temporary));
    assert_eq!(world.exchange("LOGIN", None, &[]).await, Outcome::Failure(Reason::Mechanism), "it is not offered");
    world.stop().await;
}

#[tokio::test]
async fn a_login_that_does_not_exist_looks_like_most_that_do_from_the_first_question_on() {
    let folder = tempfile::tempdir().unwrap();
    let few = scheme::hash("SCRAM-SHA-256", &"summersun".into()).unwrap();
    let many = few.replacen("}100000,", "}20000,", 1);
    assert_ne!(few, many);
    let rows = [("few@example.org", &few[..]), ("many@example.org", &many), ("more@example.org", &many)];
    let url = accounts(&folder, &rows).await;
    let auth = format!("{OFFERED}\nscram_secret = \"the same on both\"");
    let (one, two) = (start(&url, &auth).await, start(&url, &auth).await);
    for unknown in ["nobody@example.org", "john@example.org"] {
        let seen = shown(&one, unknown).await;
        assert!(shown(&one, "few@example.org").await.ends_with(",i=100000"));
        assert_eq!(shown(&one, unknown).await, seen, "each time");
        assert_eq!(shown(&two, unknown).await, seen, "on each pod");
        assert_eq!(shown(&one, &unknown.to_uppercase()).await, seen, "however it is spelt");
        let known = shown(&one, "many@example.org").await;
        assert_eq!(seen.len(), known.len(), "{seen} {known}");
        assert!(seen.ends_with(",i=20000") && known.ends_with(",i=20000"), "{seen} {known}");
    }
    assert_ne!(shown(&one, "nobody@example.org").await, shown(&one, "noone@example.org").await);
    let other = start(&url, &format!("{OFFERED}\nscram_secret = \"another\"")).await;
    assert_ne!(shown(&other, "nobody@example.org").await, shown(&one, "nobody@example.org").await);
    for world in [one, two, other] {
        world.stop().await;
    }
}

#[tokio::test]
async fn scram_is_offered_when_it_is_asked_for_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let url = accounts(&folder, &[("plain@example.org", "{PLAIN}summersun")]).await;
    let world = start(&url, "").await;
    assert_eq!(world.mechanisms().await.unwrap(), ["PLAIN", "LOGIN"]);
    let first = format!("n,,n=plain@example.org,r={NONCE}");
    let refused = world.exchange("SCRAM-SHA-256", Some(first.as_bytes()), &[]).await;
    assert_eq!(refused, Outcome::Failure(Reason::Mechanism));
    world.stop().await;
}
