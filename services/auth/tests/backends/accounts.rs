//! What `staffetta user` does with the tables of the guide, in an empty database, which is empty again afterwards but for the
//! domain.

use staffetta_auth::accounts::{self, Accounts, Domain, Record, State};
use staffetta_config::{Auth, Config};

use crate::common::sql;

pub(crate) async fn commands(url: &str) {
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
    domain(&accounts).await;
    assert_eq!(accounts.list().await.unwrap(), ["john@example.org"]);
    accounts.remove("john@example.org").await.unwrap();
    assert_eq!(accounts.list().await.unwrap(), Vec::<String>::new());
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
    assert!(accounts.add_alias("john@example.org", "Sales@Example.org", false).await.unwrap());
    assert!(!accounts.add_alias("john@example.org", "sales@example.org", false).await.unwrap(), "it is there");
    assert_eq!(accounts.show("john@example.org").await.unwrap().1, ["sales@example.org"]);
    let account = accounts.add_alias("john@example.org", "john@example.org", false).await.unwrap_err().to_string();
    assert!(account.contains("is an account itself"), "{account}");
    assert!(accounts.add_alias("lisa@example.org", "info@example.org", false).await.is_err());
    assert!(accounts.add_alias("john@example.org", "info", false).await.is_err());
    let foreign =
        accounts.add_alias("john@example.org", "office@elsewhere.example", false).await.unwrap_err().to_string();
    assert!(foreign.contains("mail to elsewhere.example is not ours"), "{foreign}");
    let ways = [
        ("lisa@elsewhere.example", "sales@example.org"),
        ("sales@example.org", "shop@example.org"),
        ("shop@example.org", "@Example.org"),
    ];
    for (to, alias) in ways {
        assert!(accounts.add_alias(to, alias, false).await.unwrap(), "{alias}");
    }
    let all = accounts.aliases().await.unwrap();
    assert_eq!((all.len(), &all[0]), (4, &("@example.org".to_owned(), "shop@example.org".to_owned())));
    for (to, alias) in ways {
        accounts.remove_alias(to, alias).await.unwrap();
    }
    assert!(accounts.add_alias("john@example.org", "@", false).await.is_err());
    accounts.remove_alias("John@example.org", "sales@example.org").await.unwrap();
    let gone = accounts.remove_alias("john@example.org", "sales@example.org").await.unwrap_err().to_string();
    assert_eq!(gone, "sales@example.org does not lead to john@example.org");
    assert_eq!(accounts.show("john@example.org").await.unwrap().1, Vec::<String>::new());
}

/// Ours while somebody is in it, and as long as one likes.
async fn domain(accounts: &Accounts) {
    let domain = |name: &str, accounts| Domain { name: name.to_owned(), accounts, aliases: 0 };
    assert!(accounts.add_domain(" Empty.Example ").await.unwrap());
    assert!(!accounts.add_domain("empty.example").await.unwrap(), "it is there");
    let both = [domain("empty.example", 0), domain("example.org", 1)];
    assert_eq!(accounts.domains().await.unwrap(), both);
    let used = accounts.remove_domain("example.org").await.unwrap_err().to_string();
    assert!(used.starts_with("example.org has accounts or aliases"), "{used}");
    assert_eq!(accounts.domains().await.unwrap(), both);
    accounts.remove_domain("Empty.example").await.unwrap();
    let gone = accounts.remove_domain("empty.example").await.unwrap_err().to_string();
    assert_eq!(gone, "mail to empty.example is not ours");
    assert!(accounts.add_domain("not a domain").await.is_err());
}

/// Of a user that may only read: what it may not do is the database's to say, once.
pub(crate) async fn a_right_that_is_missing_is_named(url: &str) {
    let accounts = Accounts::existing(&sql(url)).await.unwrap();
    let error = accounts.add("new@example.org", &"summersun".into()).await.unwrap_err();
    accounts.close().await;
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(said.starts_with("the user of auth.sql.url lacks a right: "), "{said}");
    assert_eq!(said.matches(" denied ").count() + said.matches(" readonly ").count(), 1, "{said}");
    assert!(!said.contains(" at line "), "{said}");
}

/// On a server, nothing is made that was not asked for; then all tables are.
pub(crate) async fn tables_are_made_when_they_are_asked_for(url: &str) {
    let error = Accounts::open(&sql(url)).await.unwrap_err().to_string();
    assert!(error.contains("staffetta user init"), "{error}");
    let config = Auth { sql: sql(url), ..Config::default().auth };
    let problem = staffetta_auth::check(&config).await.unwrap_err().to_string();
    assert!(problem.contains("virtual_users") && problem.ends_with("tables of the ISPmail guide"), "{problem}");
    assert!(accounts::init(&sql(url)).await.unwrap());
    assert!(!accounts::init(&sql(url)).await.unwrap(), "they are there");
}
