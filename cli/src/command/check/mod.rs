//! `staffetta check`: the configuration, and whatever it names tried for real.
//!
//! Everything is tried that the service needs, so that one run shows all that is wrong; each finding points at the key that
//! names the culprit. What may be right and yet will be regretted, or is not there just now, is a warning.

mod around;

use std::process::ExitCode;
use std::time::Duration;

use staffetta_config::{Backend, Config, Examined, Finding, Service};
use staffetta_delivery::Closed;
use staffetta_queue::{Queue, Revocations, Settings, StoreTrouble};
use staffetta_transport::connect::TlsClient;
use staffetta_transport::dns::{DnsSettings, Resolver, SetupError};
use staffetta_transport::tls::Clients;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::dkim::unpublished;
use crate::arguments::Check;
use crate::terminal::{self, counted, say, warnings};

/// How long each part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same of an object store, which is tried again by itself.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(check: &Check) -> anyhow::Result<ExitCode> {
    let path = check.file.path();
    let service = check.service.map_or(Service::All, Into::into);
    let examined = Config::examine(&path, service)?;
    let config = &examined.config;
    let warn_each = |lines: Vec<String>| lines.iter().for_each(|line| warn(&examined, line));
    warn_each(examined.warnings());
    warn_each(examined.exposed());
    warn_each(around::pools(config));
    let meant = |one| service == Service::All || service == one;
    let (frontend, auth, delivery) = (meant(Service::Frontend), meant(Service::Auth), meant(Service::Delivery));
    let sound = |used: bool, table: &str| used && examined.is_sound(table);
    let dns = sound(frontend || delivery, "dns");
    if sound(frontend, "frontend.postmaster") && examined.is_sound("delivery.route") {
        warn_each(config.postmaster_refused().into_iter().collect());
    }
    if service == Service::All {
        warn_each(around::ports(config));
    }
    // What is misspelt cannot be tried; the rest is, so that one run shows everything.
    let (redis, store, sql, tokens, given, names, (), (), (), (), (), (), ()) = tokio::join!(
        try_if(examined.is_sound("redis"), try_redis(&examined)),
        try_if(sound(frontend || delivery, "spool"), try_store(&examined)),
        try_if(sound(auth, "auth"), try_accounts(config)),
        try_if(sound(auth, "auth"), try_tokens(config)),
        async {
            let sound = dns && sound(delivery, "delivery") && examined.is_sound("redis");
            if sound { try_logins(&examined).await } else { Vec::new() }
        },
        try_if(dns, try_dns(config)),
        warn_of_redis(&examined, examined.is_sound("redis")),
        warn_of_keys(&examined, dns && delivery),
        warn_of_accounts(&examined, sound(auth, "auth")),
        warn_if(&examined, dns && examined.is_sound("hostname"), around::hostname(config)),
        warn_if(&examined, examined.is_sound("telemetry"), around::collector(config)),
        warn_if(&examined, sound(frontend, "frontend.auth"), around::auth(config)),
        warn_if(&examined, dns && sound(delivery, "delivery.route"), around::routes(config)),
    );
    let certificates = sound(frontend, "tls").then(|| try_certificates(config)).flatten();
    let clients = sound(frontend, "tls").then(|| try_client_ca(config)).flatten();
    let ca = sound(delivery, "delivery.ca").then(|| try_ca(config)).flatten();
    let (expired, soon) = if sound(frontend, "tls") { around::certificates(config) } else { Default::default() };
    warn_each(soon);
    if sound(delivery, "delivery.source") {
        warn_each(around::sources(config));
    }
    let tried = [redis, store, sql, tokens, names, certificates, clients, ca];
    examined.conclude(tried.into_iter().flatten().chain(given).chain(expired).collect())?;
    let but = match warnings() {
        0 => String::new(),
        n => format!(", but {}", counted(n, "warning", "warnings")),
    };
    say(&format!("{}: no problem found{but}", path.display()));
    Ok(ExitCode::SUCCESS)
}

async fn try_if(sound: bool, trial: impl Future<Output = Option<Finding>>) -> Option<Finding> {
    if sound { trial.await } else { None }
}

async fn warn_if(examined: &Examined, sound: bool, trial: impl Future<Output = Vec<String>>) {
    if sound {
        trial.await.iter().for_each(|line| warn(examined, line));
    }
}

/// The line begins with its key.
fn warn(examined: &Examined, line: &str) {
    terminal::warn(&examined.place_of(line), line);
}

/// The durability gate, as every service applies it.
async fn try_redis(examined: &Examined) -> Option<Finding> {
    let config = &examined.config;
    let problem = match timeout(PATIENCE, staffetta_queue::exists(&config.into())).await {
        Ok(Ok(true)) => Revocations::try_following(&config.into()).await.err()?.to_string(),
        Ok(Ok(false)) if config.redis.create => {
            warn(
                examined,
                "redis.url: there is no queue in this Redis yet: the service that starts first makes it, empty",
            );
            return None;
        }
        Ok(Ok(false)) => {
            let problem = "there is no queue in this Redis: if it is not new, its data is gone".to_owned();
            let allowed = "a Redis with its queue; in a new one `staffetta queue init` makes it";
            return Some(Finding::new("redis.url", problem, allowed));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "Redis does not answer".to_owned(),
    };
    Some(Finding::new("redis.url", problem, "a Redis or Valkey server that keeps what redis.durability promises"))
}

/// An object is put, read and deleted; then it must be the store that the queue uses, if it uses one.
async fn try_store(examined: &Examined) -> Option<Finding> {
    let config = &examined.config;
    let settings = Settings::from(config).only_looking();
    let tried = async {
        staffetta_queue::try_store(&settings).await?;
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        match Queue::open(settings, stop) {
            // A Redis that cannot be asked is named by [`try_redis`].
            Ok(queue) if queue.ready(PATIENCE).await.is_ok() => staffetta_queue::compare_store(&queue).await,
            _ => Ok(()),
        }
    };
    let problem = match timeout(STORE_PATIENCE, tried).await {
        Ok(Ok(())) => return None,
        Ok(Err(StoreTrouble::Doubtful(what))) => {
            warn(examined, &format!("spool.url: {what}"));
            return None;
        }
        Ok(Err(StoreTrouble::Unfit(problem))) => problem,
        Err(_) => "the store does not answer".to_owned(),
    };
    Some(Finding::new(
        "spool.url",
        problem,
        "a directory or a bucket in which objects can be written, read and deleted",
    ))
}

/// Dovecot's socket, if the accounts are there; the database, its tables, and the operator's queries.
async fn try_accounts(config: &Config) -> Option<Finding> {
    const DOVECOT: &str = "auth.dovecot.socket";
    let (key, error) = match timeout(2 * PATIENCE, staffetta_auth::check(&config.auth)).await {
        Ok(outcome) => outcome.err().map(|problem| (problem.key, problem.problem))?,
        Err(_) => match config.auth.backend {
            Backend::Sql => ("auth.sql.url", "the database does not answer".to_owned()),
            Backend::Dovecot => (DOVECOT, "the back end does not answer".to_owned()),
        },
    };
    let allowed = match key {
        DOVECOT => "the socket of a running Dovecot's auth-client listener, for which this process has the rights",
        _ => "a reachable SQLite, PostgreSQL, MySQL or MariaDB database that the queries fit",
    };
    Some(Finding::new(key, error, allowed))
}

/// The keys of the identity provider, or whether it answers a question about a token.
async fn try_tokens(config: &Config) -> Option<Finding> {
    let problem = staffetta_auth::check_tokens(&config.auth).await.err()?;
    let allowed = match problem.key {
        "auth.oauth.keys" => "a JWKS with keys for signatures, in a file or on a web server",
        "auth.oauth.introspection" => "an endpoint that answers questions about tokens to client_id and client_secret",
        _ => "a PEM bundle of certificates",
    };
    Some(Finding::new(problem.key, problem.problem, allowed))
}

/// What routes log in with: a token for each that needs one, and then all are shown to their servers. What is granted is kept for the
/// workers: a refresh token may be good once.
async fn try_logins(examined: &Examined) -> Vec<Finding> {
    let config = &examined.config;
    if config.delivery.route.iter().all(|route| route.username.is_none()) {
        return Vec::new();
    }
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    // What is wrong with Redis, with the bundle, or with name servers, is named by others.
    let Ok(queue) = Queue::open(Settings::from(config).only_looking(), stop) else { return Vec::new() };
    let Ok(trial) = staffetta_delivery::Trial::new(config, &queue) else { return Vec::new() };
    // A token that is kept nowhere may have cost the refresh token that it was got with.
    let can_keep = queue.ready(PATIENCE).await.is_ok();
    if !can_keep && config.delivery.route.iter().any(|route| route.refresh_token.is_some()) {
        return Vec::new();
    }
    let findings = |problems: Vec<(usize, String)>, key: &str, allowed| -> Vec<Finding> {
        let finding = |(index, why)| Finding::new(format!("delivery.route[{index}].{key}"), why, allowed);
        problems.into_iter().map(finding).collect()
    };
    let denied = trial.tokens().await;
    if !denied.is_empty() {
        let allowed = "an endpoint that gives tokens for client_id, client_secret or refresh_token, and scope";
        return findings(denied, "token_url", allowed);
    }
    let mut refused = Vec::new();
    for (index, closed) in trial.logins().await {
        match closed {
            Closed::Refused(words) => refused.push((index, format!("is refused by {words}"))),
            Closed::Untried(why) => {
                warn(examined, &format!("delivery.route[{index}].username: the login was not tried: {why}"));
            }
        }
    }
    findings(refused, "username", "a name that its server lets in, with its password or token")
}

/// Any answer will do, also that the name does not exist.
async fn try_dns(config: &Config) -> Option<Finding> {
    let error = match Resolver::new(&DnsSettings::from(&config.dns)) {
        Ok(resolver) => match timeout(PATIENCE, resolver.mail_domain(&config.hostname)).await {
            Ok(answer) => answer.err()?.to_string(),
            Err(_) => "no server answers".to_owned(),
        },
        Err(error @ SetupError::TrustAnchor { .. }) => {
            return Some(Finding::new("dns.trust_anchor", error.to_string(), "a file of DNSKEY records"));
        }
        Err(error) => error.to_string(),
    };
    Some(Finding::new("dns.servers", error, "reachable DNS servers, such as \"127.0.0.1:53\""))
}

/// What a server should be told before it is full. One that does not answer is named by [`try_redis`].
async fn warn_of_redis(examined: &Examined, sound: bool) {
    let config = &examined.config;
    if !sound {
        return;
    }
    if let Ok(Ok(lines)) =
        timeout(PATIENCE, staffetta_queue::advice(&config.into(), config.frontend.size_limit.0)).await
    {
        lines.iter().for_each(|line| warn(examined, &format!("redis.url: {line}")));
    }
}

/// A DKIM key that the DNS does not have is no mistake of the file; its record may be on its way.
async fn warn_of_keys(examined: &Examined, sound: bool) {
    let config = &examined.config;
    if !sound || config.delivery.dkim.is_empty() {
        return;
    }
    match timeout(PATIENCE, unpublished(config)).await {
        Ok(lines) => lines.iter().for_each(|line| warn(examined, &format!("delivery.dkim: {line}"))),
        Err(_) => warn(examined, "delivery.dkim: the records cannot be looked up in time"),
    }
}

/// Passwords that nobody can use, or everybody. A database that does not answer is named by [`try_accounts`].
async fn warn_of_accounts(examined: &Examined, sound: bool) {
    let config = &examined.config;
    if !sound || config.auth.backend != Backend::Sql {
        return;
    }
    match timeout(2 * PATIENCE, staffetta_auth::warnings(&config.auth)).await {
        Ok(lines) => lines.iter().for_each(|line| warn(examined, line)),
        Err(_) => warn(examined, "auth.sql: the accounts cannot be counted in time"),
    }
}

/// The pairs, as the frontend reads them.
fn try_certificates(config: &Config) -> Option<Finding> {
    let error = staffetta_frontend::certificates(config).err()?;
    Some(Finding::new(
        "tls.certificate",
        format!("{error:#}"),
        "a PEM chain, leaf first, and the key that belongs to it",
    ))
}

fn try_client_ca(config: &Config) -> Option<Finding> {
    let error = Clients::load(config.tls.client_ca.clone()).err()?;
    Some(Finding::new("tls.client_ca", error.to_string(), "a PEM bundle of certificates"))
}

fn try_ca(config: &Config) -> Option<Finding> {
    let error = TlsClient::new(config.delivery.ca.as_deref()).err()?;
    Some(Finding::new("delivery.ca", error.to_string(), "a PEM bundle of certificates"))
}
