//! `staffetta user`: the accounts of the SQL back end.

use std::process::ExitCode;

use staffetta_auth::accounts::Accounts;
use staffetta_config::{Backend, Service};

use crate::arguments::{ConfigFile, User};
use crate::terminal;

pub(super) async fn run(user: User) -> anyhow::Result<ExitCode> {
    match user {
        User::Add(one) => {
            let accounts = open(&one.file).await?;
            let password = terminal::read_password("Password: ")?;
            accounts.add(&one.email, &password).await?;
        }
        User::Remove(one) => open(&one.file).await?.remove(&one.email).await?,
        User::Password(one) => {
            let accounts = open(&one.file).await?;
            let password = terminal::read_password("New password: ")?;
            accounts.set_password(&one.email, &password).await?;
        }
        User::List(file) => {
            for email in open(&file).await?.list().await? {
                terminal::say(&staffetta_telemetry::printable(&email));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(file: &ConfigFile) -> anyhow::Result<Accounts> {
    let config = file.load(Service::Auth)?;
    anyhow::ensure!(config.auth.backend == Backend::Sql, "auth.backend is \"dovecot\": Dovecot keeps these accounts");
    Ok(Accounts::open(&config.auth.sql).await?)
}
