//! `auth.sql.schema = "postfixadmin"`: its tables as it makes them, as far as they are read.

use staffetta_auth::accounts::{self, Accounts};
use staffetta_config::Config;

use crate::common::{BAD, Outcome, World};
use crate::peer::Database;

const SCHEMA: &str = "schema = \"postfixadmin\"";

fn is(login: &str) -> Outcome {
    Outcome::Success(login.to_owned())
}

async fn world(peer: &impl Database) -> World {
    peer.world_with(SCHEMA).await
}

/// Makes the tables and fills them. `active` is what a yes is there: PostgreSQL has truth, the others numbers.
async fn fill(peer: &impl Database) {
    let (kind, yes, no) = match peer.name() {
        "PostgreSQL" => ("BOOLEAN", "TRUE", "FALSE"),
        _ => ("TINYINT(1)", "1", "0"),
    };
    for table in [
        "domain (domain VARCHAR(255) NOT NULL PRIMARY KEY, description VARCHAR(255), active",
        "mailbox (username VARCHAR(255) NOT NULL PRIMARY KEY, password VARCHAR(255) NOT NULL, local_part VARCHAR(255), domain VARCHAR(255), active",
        "alias (address VARCHAR(255) NOT NULL PRIMARY KEY, goto TEXT NOT NULL, domain VARCHAR(255), active",
        "alias_domain (alias_domain VARCHAR(255) NOT NULL PRIMARY KEY, target_domain VARCHAR(255), active",
    ] {
        peer.execute(&format!("CREATE TABLE {table} {kind} NOT NULL)")).await;
    }
    let insert = async |table: &str, rows: &[(&str, bool)]| {
        for (values, active) in rows {
            let active = if *active { yes } else { no };
            peer.execute(&format!("INSERT INTO {table} VALUES ({values}, {active})")).await;
        }
    };
    insert("domain", &[("'ALL', ''", true), ("'pa.test', ''", true), ("'closed.test', ''", false)]).await;
    let mailbox =
        |local: &str, domain: &str| format!("'{local}@{domain}', '{{PLAIN}}summersun', '{local}', '{domain}'");
    for (local, domain, active) in [
        ("john", "pa.test", true),
        ("lisa", "pa.test", true),
        ("gone", "pa.test", false),
        ("john", "closed.test", true),
        ("j_hn", "pa.test", true),
    ] {
        insert("mailbox", &[(mailbox(local, domain).as_str(), active)]).await;
        let alias = format!("'{local}@{domain}', '{local}@{domain}', '{domain}'");
        insert("alias", &[(alias.as_str(), active)]).await;
    }
    insert(
        "alias",
        &[
            ("'team@pa.test', 'john@pa.test,lisa@pa.test,elsewhere@example.com', 'pa.test'", true),
            ("'old@pa.test', 'john@pa.test', 'pa.test'", false),
            ("'info@closed.test', 'john@pa.test', 'closed.test'", true),
            ("'@catch.pa.test', 'lisa@pa.test', 'pa.test'", true),
        ],
    )
    .await;
    insert(
        "alias_domain",
        &[("'also.test', 'pa.test'", true), ("'was.test', 'pa.test'", false), ("'shut.test', 'closed.test'", true)],
    )
    .await;
}

/// Rows that are not active let nobody in.
pub(crate) async fn logins(peer: &mut impl Database) {
    fill(peer).await;
    let world = world(peer).await;
    for (login, outcome) in [
        ("john@pa.test", is("john@pa.test")),
        ("John@PA.test", is("john@pa.test")),
        ("gone@pa.test", BAD),
        ("john@closed.test", BAD),
        ("john@also.test", BAD),
        ("team@pa.test", BAD),
        ("john", BAD),
    ] {
        assert_eq!(world.plain(login, "summersun").await, outcome, "{login}");
    }
    assert_eq!(world.plain("john@pa.test", "moonlight").await, BAD);
    world.stop().await;
}

/// The mailbox, active aliases that lead to it, and both in alias domains.
pub(crate) async fn owners(peer: &mut impl Database) {
    let world = world(peer).await;
    let (own, others, nobodys) = ((true, true), (false, true), (false, false));
    for (login, sender, owner) in [
        ("john@pa.test", "john@pa.test", own),
        ("john@pa.test", "john+tag@pa.test", own),
        ("john@pa.test", "team@pa.test", own),
        ("john@pa.test", "Team+x@PA.test", own),
        ("lisa@pa.test", "team@pa.test", own),
        ("john@pa.test", "john@also.test", own),
        ("lisa@pa.test", "team@also.test", own),
        ("lisa@pa.test", "anybody@catch.pa.test", own),
        ("john@pa.test", "lisa@pa.test", others),
        ("lisa@pa.test", "john@also.test", others),
        ("ohn@pa.test", "team@pa.test", others),
        ("john@pa.test", "j_hn@pa.test", others),
        ("j_hn@pa.test", "john@pa.test", others),
        ("john@pa.test", "old@pa.test", nobodys),
        ("gone@pa.test", "gone@pa.test", nobodys),
        ("john@pa.test", "info@closed.test", nobodys),
        ("john@closed.test", "john@closed.test", nobodys),
        ("john@pa.test", "john@was.test", nobodys),
        ("john@closed.test", "john@shut.test", nobodys),
        ("john@pa.test", "nobody@pa.test", nobodys),
    ] {
        assert_eq!(world.owner(login, sender).await, owner, "{login} {sender}");
    }
    world.stop().await;
}

/// Domains and recipients; what is not active is not there.
pub(crate) async fn ours(peer: &mut impl Database) {
    let world = world(peer).await;
    for (domain, known) in [
        ("pa.test", true),
        ("PA.test", true),
        ("also.test", true),
        ("closed.test", false),
        ("was.test", false),
        ("shut.test", false),
        ("ALL", false),
        ("other.test", false),
    ] {
        assert_eq!(world.has_domain(domain).await, Ok(known), "{domain}");
    }
    for (recipient, known) in [
        ("john@pa.test", true),
        ("john+tag@pa.test", true),
        ("team@pa.test", true),
        ("lisa@also.test", true),
        ("team@also.test", true),
        ("x@catch.pa.test", true),
        ("gone@pa.test", false),
        ("old@pa.test", false),
        ("nobody@pa.test", false),
        ("nobody@also.test", false),
        ("john@closed.test", false),
        ("info@closed.test", false),
        ("john@was.test", false),
        ("john@shut.test", false),
    ] {
        assert_eq!(world.has_recipient(recipient).await, Ok(known), "{recipient}");
    }
    world.stop().await;
}

/// `goto` names several; by the name of an alias domain, as by its own.
pub(crate) async fn aliases(peer: &mut impl Database) {
    let world = world(peer).await;
    let team = ["elsewhere@example.com", "john@pa.test", "lisa@pa.test"];
    for (recipient, destinations) in [
        ("john@pa.test", Some(&[][..])),
        ("John+x@PA.test", Some(&[])),
        ("team@pa.test", Some(&team[..])),
        ("team@also.test", Some(&team)),
        ("john@also.test", Some(&["john@pa.test"])),
        ("john+x@also.test", Some(&["john+x@pa.test"])),
        ("x@catch.pa.test", Some(&["lisa@pa.test"])),
        ("old@pa.test", None),
        ("info@closed.test", None),
        ("john@was.test", None),
    ] {
        let found = world.destinations(recipient).await.map(|mut found| {
            found.sort();
            found
        });
        assert_eq!(
            found.as_deref(),
            destinations.map(|to| to.iter().map(|to| (*to).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{recipient}"
        );
    }
    world.stop().await;
    // Of tables of his own the schema knows nothing.
    let own = "recipient_query = \"SELECT 1 WHERE :recipient = 'team@pa.test'\"";
    let world = peer.world_with(&format!("{SCHEMA}\n{own}")).await;
    assert_eq!(world.destinations("team@pa.test").await, Some(vec![]));
    world.stop().await;
}

/// `staffetta user` does not know the half of it. A query of the operator's own goes before the schema's.
pub(crate) async fn nothing_is_changed(peer: &mut impl Database) {
    let config: Config = peer.config("", SCHEMA);
    staffetta_auth::check(&config.auth).await.unwrap();
    for error in [
        Accounts::open(&config.auth.sql).await.unwrap_err(),
        Accounts::existing(&config.auth.sql).await.unwrap_err(),
        accounts::init(&config.auth.sql).await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("changed in PostfixAdmin") && text.contains("touches none of its tables"), "{text}");
    }
    let own = "domain_query = \"SELECT 1 WHERE :domain = 'other.test'\"";
    let world = peer.world_with(&format!("{SCHEMA}\n{own}")).await;
    assert_eq!(world.has_domain("other.test").await, Ok(true));
    assert_eq!(world.has_domain("pa.test").await, Ok(false));
    assert_eq!(world.has_recipient("john@pa.test").await, Ok(true));
    world.stop().await;
}
