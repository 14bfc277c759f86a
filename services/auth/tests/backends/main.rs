//! The contract of all back ends: one set of cases, each by its name, that SQLite, PostgreSQL, MariaDB and Dovecot pass, all
//! of them real. What only a database has to do is in `database.rs`, what the command line does in `accounts.rs`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod database;
mod dovecot;
mod mariadb;
mod peer;
mod postfixadmin;
mod postgres;
mod sqlite;

use peer::{Database, Peer};

/// Runs cases one after the other, each with its name in the output.
macro_rules! run {
    ($peer:expr; $($module:ident: $($case:ident),+;)+) => {
        $($(
            let begun = std::time::Instant::now();
            eprintln!("{}: {} …", $peer.name(), stringify!($case));
            $module::$case(&mut $peer).await;
            eprintln!("    {:?}", begun.elapsed());
        )+)+
    };
}

/// What every back end does.
async fn passes(mut peer: impl Peer) {
    run! { peer;
        cases: right_passwords_by_every_mechanism, wrong_passwords, unknown_logins, locked_accounts, the_login_as_it_is_stored,
            passwords_in_clear, another_identity, messages_that_make_no_sense, control_characters,
            senders, senders_of_whole_domains, domains_and_recipients, many_at_once, a_back_end_that_is_away;
    }
}

/// What a database does beside.
async fn passes_as_a_database(mut peer: impl Database) {
    run! { peer;
        database: aliases, aliases_that_lead_nowhere, refused_queries, hashes_that_nobody_can_read, limits_of_one_account, rows_with_several_owners;
        postfixadmin: logins, owners, ours, aliases, nothing_is_changed;
    }
    passes(peer).await;
}

#[tokio::test]
async fn sqlite_passes() {
    passes_as_a_database(sqlite::Sqlite::start().await).await;
}

#[tokio::test]
async fn real_postgres_passes() {
    let server = postgres::Postgres::start().await;
    postgres::types_of_operators(&server).await;
    passes_as_a_database(server).await;
}

#[tokio::test]
async fn real_mariadb_passes() {
    let server = mariadb::Mariadb::start().await;
    mariadb::types_of_operators(&server).await;
    mariadb::lenient_collations(&server).await;
    passes_as_a_database(server).await;
}

#[tokio::test]
async fn real_dovecot_passes() {
    passes(dovecot::Peered::start().await).await;
}
