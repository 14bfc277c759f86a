//! `staffetta user`: the accounts of the SQL back end.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use staffetta_auth::accounts::{self, AccountError, Accounts, Record, State};
use staffetta_auth::scheme;
use staffetta_config::{Backend, Config, Mechanism, Service};
use staffetta_telemetry::printable;

use crate::arguments::{Alias, ConfigFile, Domain, NewPassword, OneUser, Shown, User, Users};
use crate::command::block;
use crate::terminal::{complain, read_password, say};

pub(super) async fn run(user: User) -> anyhow::Result<ExitCode> {
    match user {
        User::Init(file) => init(&file).await?,
        User::Add(new) => add(&new).await?,
        User::Remove(one) => remove(&one).await?,
        User::List(users) => list(&users).await?,
        User::Show(shown) => show(&shown).await?,
        User::Password(new) => password(&new).await?,
        User::Alias(alias) => redirect(&alias).await?,
        User::Aliases(users) => aliases(&users).await?,
        User::Domain(command) => domain(&command).await?,
        User::Disable(one) => {
            let config = config(&one.file)?;
            let is_new = Accounts::existing(&config.auth.sql).await?.disable(&one.email).await?;
            note(is_new, &one.email, "is disabled already");
            revoke(&config, &one.email, "the account is disabled").await?;
            done(is_new, &one.email, "is disabled");
        }
        User::Enable(one) => {
            let is_new = existing(&one.file).await?.enable(&one.email).await?;
            note(is_new, &one.email, "was not disabled");
            done(is_new, &one.email, "is enabled");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn init(file: &ConfigFile) -> anyhow::Result<()> {
    let made = accounts::init(&config(file)?.auth.sql).await?;
    say(if made { "made virtual_domains, virtual_users and virtual_aliases" } else { "the tables are there already" });
    Ok(())
}

async fn add(new: &NewPassword) -> anyhow::Result<()> {
    let config = config(&new.user.file)?;
    let accounts = storing(Accounts::open(&config.auth.sql).await?, new, &config)?;
    accounts.add(&new.user.email, &read_password("Password: ")?).await?;
    done(true, &new.user.email, "is added");
    Ok(())
}

/// One that is gone already is told all the same: the time before, nobody may have been reached.
async fn remove(one: &OneUser) -> anyhow::Result<()> {
    let config = config(&one.file)?;
    let removed = Accounts::existing(&config.auth.sql).await?.remove(&one.email).await;
    if matches!(removed, Ok(()) | Err(AccountError::Unknown(_))) {
        revoke(&config, &one.email, "the account is removed").await?;
    }
    removed?;
    done(true, &one.email, "is removed");
    Ok(())
}

async fn password(new: &NewPassword) -> anyhow::Result<()> {
    let config = config(&new.user.file)?;
    let accounts = storing(Accounts::existing(&config.auth.sql).await?, new, &config)?;
    let state = accounts.set_password(&new.user.email, &read_password("New password: ")?).await?;
    note(state != State::Disabled, &new.user.email, "is still disabled");
    revoke(&config, &new.user.email, "the password is changed").await?;
    done(true, &new.user.email, "has a new password");
    Ok(())
}

/// Where SCRAM is offered, a password under any other scheme would be refused by it.
fn storing(accounts: Accounts, new: &NewPassword, config: &Config) -> anyhow::Result<Accounts> {
    let usual = if config.auth.mechanisms.iter().any(|mechanism| mechanism.is_scram()) {
        Mechanism::ScramSha256.name()
    } else {
        scheme::DEFAULT
    };
    let name = new.scheme.as_deref().unwrap_or(usual);
    super::hash::warn_if_weak(name);
    Ok(accounts.storing_as(name)?)
}

async fn list(users: &Users) -> anyhow::Result<()> {
    let records = existing(&users.file).await?.records().await?;
    if users.json {
        say(&records.iter().map(in_json).collect::<serde_json::Value>().to_string());
    } else {
        records.iter().for_each(|record| say(&printable(&record.login)));
    }
    Ok(())
}

async fn show(shown: &Shown) -> anyhow::Result<()> {
    let (record, aliases) = existing(&shown.user.file).await?.show(&shown.user.email).await?;
    if shown.json {
        let mut object = in_json(&record);
        object["aliases"] = json!(aliases);
        say(&object.to_string());
        return Ok(());
    }
    say(&format!("login: {}", printable(&record.login)));
    say(&format!("state: {}", record.state.name()));
    say(&format!("password: {}", printable(record.scheme.as_deref().unwrap_or("none"))));
    aliases.iter().for_each(|alias| say(&format!("alias: {}", printable(alias))));
    Ok(())
}

fn in_json(record: &Record) -> serde_json::Value {
    json!({"login": record.login, "state": record.state.name(), "scheme": record.scheme})
}

async fn redirect(alias: &Alias) -> anyhow::Result<()> {
    let accounts = existing(&alias.file).await?;
    if alias.remove {
        accounts.remove_alias(&alias.email, &alias.alias).await?;
        done(true, &alias.alias, &format!("leads to {} no more", alias.email));
    } else {
        let is_new = accounts.add_alias(&alias.email, &alias.alias, alias.new_domain).await?;
        note(is_new, &alias.alias, "leads there already");
        done(is_new, &alias.alias, &format!("leads to {}", alias.email));
    }
    Ok(())
}

async fn aliases(users: &Users) -> anyhow::Result<()> {
    let aliases = existing(&users.file).await?.aliases().await?;
    if users.json {
        let pairs = aliases.iter().map(|(alias, leads_to)| json!({"alias": alias, "leads_to": leads_to}));
        say(&pairs.collect::<serde_json::Value>().to_string());
    } else {
        aliases.iter().for_each(|(alias, leads_to)| say(&printable(&format!("{alias} leads to {leads_to}"))));
    }
    Ok(())
}

async fn domain(command: &Domain) -> anyhow::Result<()> {
    match command {
        Domain::List(users) => {
            let domains = existing(&users.file).await?.domains().await?;
            if users.json {
                let each = domains.iter().map(
                    |domain| json!({"domain": domain.name, "accounts": domain.accounts, "aliases": domain.aliases}),
                );
                say(&each.collect::<serde_json::Value>().to_string());
            } else {
                let line =
                    |d: &accounts::Domain| format!("{}  accounts: {}, aliases: {}", d.name, d.accounts, d.aliases);
                domains.iter().for_each(|domain| say(&printable(&line(domain))));
            }
        }
        Domain::Add(one) => {
            let is_new = Accounts::open(&config(&one.file)?.auth.sql).await?.add_domain(&one.name).await?;
            note(is_new, &one.name, "is ours already");
            done(is_new, &one.name, "is ours");
        }
        Domain::Remove(one) => {
            existing(&one.file).await?.remove_domain(&one.name).await?;
            done(true, &one.name, "is ours no more");
        }
    }
    Ok(())
}

/// Nothing is wrong, but nothing was to do, or something else than one might think.
fn note(is_usual: bool, address: &str, what: &str) {
    if !is_usual {
        complain(&format!("note: {address} {what}"));
    }
}

/// What has changed; nothing where nothing was to do.
fn done(is_new: bool, address: &str, what: &str) {
    if is_new {
        say(&printable(&format!("{address} {what}")));
    }
}

fn config(file: &ConfigFile) -> anyhow::Result<Config> {
    let config = file.load(Service::Auth)?;
    anyhow::ensure!(config.auth.backend == Backend::Sql, "auth.backend is \"dovecot\": Dovecot keeps these accounts");
    Ok(config)
}

async fn existing(file: &ConfigFile) -> anyhow::Result<Accounts> {
    Ok(Accounts::existing(&config(file)?.auth.sql).await?)
}

/// Tells the services, so that the old password is of no use at once and open sessions end. `done` is what cannot be taken
/// back if they cannot be told.
async fn revoke(config: &Config, login: &str, done: &str) -> anyhow::Result<()> {
    let told = async { block::announcer(config).await?.revoke(login).await.map_err(anyhow::Error::from) };
    told.await.with_context(|| {
        format!(
            "{done}, but the running services could not be told: they may take what they knew for auth.cache_ttl more, \
             and open sessions go on. Do it again when Redis is back"
        )
    })
}
