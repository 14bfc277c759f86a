//! What a database does beside, with the operator's own queries.

use staffetta_auth::{Allowance, Server};
use staffetta_config::Mechanism;
use staffetta_proto::auth::v1::Client;
use staffetta_proto::auth::v1::authenticate_response::{Allowance as Said, Limits, Reason};

use crate::common::{BAD, Outcome, World, client, scram};
use crate::peer::Database;

const JOHN: &str = "john@example.org";

enum Query {
    Password,
    Domain,
    Alias,
}

/// Rows in `virtual_aliases`, of our domain.
async fn lead(peer: &impl Database, rows: &[(&str, &str)]) {
    for (source, destination) in rows {
        let (columns, from) = ("domain_id, source, destination", "FROM virtual_domains WHERE name = 'example.org'");
        let row = format!("INSERT INTO virtual_aliases ({columns}) SELECT id, '{source}', '{destination}' {from}");
        peer.execute(&row).await;
    }
}

/// As the guide has them, and virtual(5). Whoever is asked about them asks the database each time.
pub(crate) async fn aliases(peer: &mut impl Database) {
    let world = peer.world().await;
    assert_eq!(world.destinations("team@example.org").await, None);
    lead(
        peer,
        &[
            ("team@example.org", "info@example.org"),
            ("team@example.org", "both@example.org"),
            ("both@example.org", "both@example.org"),
            ("both@example.org", "lisa@example.com"),
            ("lisa@example.org", "lisa@example.org"),
            ("round@example.org", "round2@example.org"),
            ("round2@example.org", "round@example.org"),
            ("round2@example.org", "lisa@example.org"),
            ("@example.org", "lisa@example.org"),
            ("@example.com", "scram@example.org"),
        ],
    )
    .await;
    for (recipient, destinations) in [
        (JOHN, Some(vec![])),
        ("info@example.org", Some(vec![JOHN])),
        ("Info@Example.org", Some(vec![JOHN])),
        ("info+x@example.org", Some(vec!["john+x@example.org"])),
        ("anybody@catch.example", Some(vec![JOHN])),
        ("both@example.org", Some(vec!["both@example.org", "lisa@example.com"])),
        // What leads to a domain that is not ours is not followed there.
        ("team@example.org", Some(vec!["both@example.org", JOHN, "lisa@example.com"])),
        ("lisa@example.org", Some(vec![])),
        ("round@example.org", Some(vec!["lisa@example.org"])),
        // A mailbox goes before the catch-all of its domain.
        ("scram@example.org", Some(vec![])),
        ("john+x@example.org", Some(vec![])),
        ("anybody@example.org", Some(vec!["lisa@example.org"])),
        ("anybody@elsewhere.test", None),
    ] {
        let found = world.destinations(recipient).await.map(sorted);
        assert_eq!(found, destinations.map(|to| sorted(to.into_iter().map(str::to_owned).collect())), "{recipient}");
    }
    peer.execute("DELETE FROM virtual_aliases WHERE source NOT IN ('info@example.org', '@catch.example')").await;
    assert_eq!(world.destinations("team@example.org").await, None);
    world.stop().await;
    let without = peer.world_with("alias_query = \"\"").await;
    assert_eq!(without.destinations("info@example.org").await, Some(vec![]));
    without.stop().await;
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

/// A part of an alias is no alias.
pub(crate) async fn aliases_that_lead_nowhere(peer: &mut impl Database) {
    let world = peer.world().await;
    let names: Vec<String> = (0..=1000).map(|number| format!("{number}@example.com")).collect();
    lead(peer, &[("a@example.org", "b@example.org"), ("b@example.org", "a@example.org"), ("none@x", " , ")]).await;
    for (alias, names) in [("most@example.org", &names[1..]), ("more@example.org", &names)] {
        let rows: Vec<String> = names.chunks(15).map(|some| some.join(",")).collect();
        lead(peer, &rows.iter().map(|row| (alias, row.as_str())).collect::<Vec<_>>()).await;
    }
    for recipient in ["a@example.org", "b@example.org", "none@x", "more@example.org"] {
        assert_eq!(world.destinations(recipient).await, Some(vec!["unending".to_owned()]), "{recipient}");
    }
    assert_eq!(world.destinations("most@example.org").await.map(|to| to.len()), Some(1000));
    peer.execute("DELETE FROM virtual_aliases WHERE source NOT IN ('info@example.org', '@catch.example')").await;
    world.stop().await;
}

/// What the database says to the queries at the start ends the start.
pub(crate) async fn refused_queries(peer: &mut impl Database) {
    staffetta_auth::check(&peer.config("", "").auth).await.unwrap();
    let rows = [
        (Query::Password, "SELECT email, password FROM virtual_users WHERE email = :login", "no column `login`"),
        (
            Query::Password,
            "SELECT email AS login, password FROM users WHERE email = :login",
            "auth.sql.password_query: ",
        ),
        (Query::Domain, "SELEKT 1 WHERE 'a' = :domain", "auth.sql.domain_query: "),
        (Query::Domain, "SELECT 1 WHERE 'a' = :dom", "unknown parameter `:dom`; allowed are :domain"),
        (Query::Alias, "SELECT source FROM virtual_aliases WHERE source = :recipient", "no column `destination`"),
    ];
    for (key, query, expected) in rows {
        let mut config = peer.config("", "");
        match key {
            Query::Password => config.auth.sql.password_query = query.to_owned(),
            Query::Domain => config.auth.sql.domain_query = query.to_owned(),
            Query::Alias => config.auth.sql.alias_query = query.to_owned(),
        }
        let problem = staffetta_auth::check(&config.auth).await.unwrap_err();
        assert!(problem.to_string().contains(expected), "{query}: {problem}");
        // The place in PostgreSQL's own source (MySQL names one in the query), and what makes no table of theirs.
        let is_place = peer.name() == "PostgreSQL" && problem.to_string().contains(" at line ");
        assert!(!is_place && !problem.to_string().contains("user init"), "{query}: {problem}");
        let error = Server::bind(&config).await.err().unwrap();
        assert!(format!("{error:#}").contains(expected), "{query}: {error:#}");
    }
}

/// What is stored may be the right password all the same. (Dovecot, which cannot read it either, says no.)
pub(crate) async fn hashes_that_nobody_can_read(peer: &mut impl Database) {
    let world = peer.world().await;
    assert_eq!(world.plain("unreadable@example.org", "summersun").await, Outcome::Failure(Reason::Temporary));
    world.stop().await;
}

/// Whatever types the columns have, and by every mechanism. Nobody is kept out for one that cannot be read.
pub(crate) async fn limits_of_one_account(peer: &mut impl Database) {
    peer.execute(
        "CREATE TABLE limited (name VARCHAR(99), secret VARCHAR(999), small SMALLINT, usual INTEGER, large BIGINT, \
         words VARCHAR(99), odd REAL)",
    )
    .await;
    let query = |columns: &str| {
        format!(
            "password_query = \"SELECT name AS login, secret AS password, {columns} FROM limited WHERE name = :login\""
        )
    };
    let insert = "INSERT INTO limited VALUES";
    for row in [
        "('john@example.org', '{PLAIN}summersun', 20, 300, 5000000000, '500/1h', 1.5)",
        "('lisa@example.org', '{PLAIN}moonlight', NULL, NULL, NULL, NULL, NULL)",
        "('unlimited@example.org', '{PLAIN}x', -1, 0, 0, 'Unlimited', 0)",
        "('odd@example.org', '{PLAIN}x', 0, 0, -5, 'a lot', 2)",
        "('empty@example.org', '{PLAIN}x', 1, 2, 3, ' ', 4)",
    ] {
        peer.execute(&format!("{insert} {row}")).await;
    }
    let said = |count, period| Some(Said { count, period });
    let hour = 3_600_000;

    let world = peer.world_with(&query("words AS message_limit, usual AS recipient_limit, large AS size_limit")).await;
    let all = Limits { messages: said(500, hour), recipients: said(300, 0), size: Some(5_000_000_000) };
    assert_eq!(world.limits(JOHN, "summersun").await, Some(all));
    let unlimited = Limits { messages: said(0, 0), recipients: None, size: None };
    assert_eq!(world.limits("unlimited@example.org", "x").await, Some(unlimited));
    for (login, password) in [("lisa@example.org", "moonlight"), ("odd@example.org", "x")] {
        assert_eq!(world.limits(login, password).await, None, "{login}");
    }
    let empty = Limits { messages: None, recipients: said(2, 0), size: Some(3) };
    assert_eq!(world.limits("empty@example.org", "x").await, Some(empty));
    assert_eq!(world.plain(JOHN, "x").await, BAD);
    let first = format!("n,,n={JOHN},r=rOprNGfwEbeRWgbNEkqO");
    let proven = world.limits_by("SCRAM-SHA-256", first.as_bytes(), client("192.0.2.1"), scram(JOHN, "summersun"));
    assert_eq!(proven.await, Some(all));
    world.stop().await;
    let mut config = peer.config("", &query("words AS message_limit, usual AS recipient_limit, large AS size_limit"));
    config.auth.mechanisms.push(Mechanism::External);
    let world = World::start(config).await;
    world.until_ready().await;
    let certified = Client { certified: vec![JOHN.to_owned()], ..client("192.0.2.1") };
    assert_eq!(world.limits_by("EXTERNAL", b"", certified, |_| Vec::new()).await, Some(all));
    world.stop().await;

    let world = peer.world_with(&query("small AS message_limit, odd AS recipient_limit, words AS size_limit")).await;
    let small = Limits { messages: said(20, 0), recipients: None, size: None };
    assert_eq!(world.limits(JOHN, "summersun").await, Some(small));
    world.stop().await;

    // Columns of these names only; the size is text, too.
    let world = peer.world_with(&query("usual AS message_limits, '10MiB' AS size_limit")).await;
    let size = Limits { size: Some(10 << 20), ..Limits::default() };
    assert_eq!(world.limits(JOHN, "summersun").await, Some(size));
    world.stop().await;

    kept_with_the_login(peer, &query("words AS message_limit, small AS recipient_limit")).await;
    let config = peer.config("", &query("words AS message_limit, small AS recipient_limit, large AS size_limit")).auth;
    let trial = staffetta_auth::try_login(&config, JOHN, &"summersun".into()).await.unwrap();
    assert_eq!(trial.limits.messages.map(|limit| limit.to_string()).as_deref(), Some("9/1d"));
    assert_eq!(trial.limits.recipients, Some(Allowance::Number(20)));
    assert_eq!(trial.limits.size, Some(5_000_000_000));
}

/// They are as old as the login in the cache, and end with it.
async fn kept_with_the_login(peer: &mut impl Database, query: &str) {
    let world = World::start(peer.config("cache_ttl = \"1h\"", query)).await;
    world.until_ready().await;
    let messages = async || world.limits(JOHN, "summersun").await.and_then(|limits| limits.messages);
    let before = Some(Said { count: 500, period: 3_600_000 });
    assert_eq!(messages().await, before);
    peer.execute("UPDATE limited SET words = '9/1d' WHERE name = 'john@example.org'").await;
    assert_eq!(messages().await, before, "in the cache");
    world.revoke(JOHN).await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while messages().await == before {
        assert!(std::time::Instant::now() < end, "a revocation drops them");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(messages().await, Some(Said { count: 9, period: 86_400_000 }));
    world.stop().await;
}

/// As Postfix's `smtpd_sender_login_maps` have them.
pub(crate) async fn rows_with_several_owners(peer: &mut impl Database) {
    let query = "SELECT 'john@example.org, Lisa@example.org ,,x' AS login WHERE :sender = 'team@example.org'";
    let world = peer.world_with(&format!("sender_query = \"{query}\"")).await;
    for (login, sender, owner) in [
        (JOHN, "team@example.org", (true, true)),
        ("lisa@example.org", "team@example.org", (true, true)),
        ("x", "team@example.org", (true, true)),
        ("example.org", "team@example.org", (false, true)),
        ("", "team@example.org", (false, true)),
        (JOHN, "john@example.org", (false, false)),
    ] {
        assert_eq!(world.owner(login, sender).await, owner, "{login} {sender}");
    }
    world.stop().await;
}
