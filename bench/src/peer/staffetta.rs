//! Staffetta as a cluster has it: three binaries that read one file, and a Redis that syncs every write.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use staffetta_testkit::certs::Leaf;

use super::{Peer, SIGNER, certificate, staffetta};
use crate::child::{Child, free_ports};
use crate::load::{Load, Login};
use crate::scenario::{CONNECTIONS, Case, Scenario, address, domain};
use crate::submission::{HOSTNAME, LOGIN, PASSWORD};

struct Ports {
    smtp: u16,
    redis: u16,
    grpc: u16,
    frontend_http: u16,
    auth_http: u16,
    delivery_http: u16,
}

pub(super) async fn start(scratch: &Path, deliveries: &str, load: Load, binaries: &Path) -> Result<Peer> {
    let [smtp, redis, grpc, frontend_http, auth_http, delivery_http] = free_ports().await?;
    let ports = Ports { smtp, redis, grpc, frontend_http, auth_http, delivery_http };
    let file = scratch.join("staffetta.toml");
    let certificate = load.login.map(|_| certificate(scratch)).transpose()?;
    fs::write(&file, configuration(scratch, &ports, deliveries, load, certificate.as_ref()))?;

    make_accounts(&file, binaries, load.login.is_some())?;

    let mut processes = vec![start_redis(scratch, redis).await?];
    for (name, http) in
        [("staffetta-auth", auth_http), ("staffetta-delivery", delivery_http), ("staffetta-frontend", frontend_http)]
    {
        let mut command = Command::new(binaries.join(name));
        command.arg("--config").arg(&file);
        let mut child =
            Child::start(name, scratch, command).context("build the services first: cargo build --release --bins")?;
        child.answers(http, "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200").await?;
        processes.push(child);
    }
    Ok(Peer { port: smtp, processes, dovecot: None })
}

/// Makes the database that the auth service wants to see, and in it the account of those who log in.
fn make_accounts(file: &Path, binaries: &Path, log_in: bool) -> Result<()> {
    let file = file.to_string_lossy();
    staffetta(binaries, &["user", "init", "--config", &file], "")?;
    if log_in {
        staffetta(binaries, &["user", "add", LOGIN, "--scheme", "SHA512-CRYPT", "--config", &file], PASSWORD)?;
    }
    Ok(())
}

async fn start_redis(scratch: &Path, port: u16) -> Result<Child> {
    let data = scratch.join("redis");
    fs::create_dir(&data)?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "no"]);
    command.args(["--maxmemory-policy", "noeviction", "--maxmemory", "4gb"]).arg("--dir").arg(data);
    let mut child = Child::start("redis-server", scratch, command)?;
    child.answers(port, "PING\r\n", "+PONG").await?;
    Ok(child)
}

/// What `[delivery]` says besides where it listens: everything goes to the sink, and nothing is looked up in DNS.
pub(super) fn deliveries(case: Case, sink: u16, key: Option<&Path>) -> String {
    let mut text = format!("tls = \"{}\"\n", if case.encrypts() { "encrypt" } else { "none" });
    if case.scenario != Scenario::Relay {
        // What stalls shall not hold up the end of a run.
        let _ = writeln!(text, "drain_limit = \"1s\"\ndestination_concurrency = {CONNECTIONS}");
    }
    for destination in 0..case.destinations {
        let pattern = if case.destinations == 1 { "*".to_owned() } else { domain(destination.into()) };
        let server = address(destination);
        let _ = writeln!(text, "\n[[delivery.route]]\ndomain = \"{pattern}\"\nvia = \"smtp://{server}:{sink}\"");
    }
    if let Some(key) = key {
        let (domain, selector) = SIGNER;
        let _ = writeln!(text, "\n[[delivery.dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = {key:?}");
    }
    text
}

/// Relaying for loopback or for whoever logs in; everything else as by default.
fn configuration(scratch: &Path, ports: &Ports, deliveries: &str, load: Load, certificate: Option<&Leaf>) -> String {
    let Ports { smtp, redis, grpc, frontend_http, auth_http, delivery_http } = ports;
    let scratch = scratch.display();
    let clients = load.sessions + 20;
    let cache_ttl = if load.login == Some(Login::Uncached) { "0s" } else { "5m" };
    let (trusted, kind) = if certificate.is_some() {
        ("", "kind = \"submission\"")
    } else {
        ("\"127.0.0.0/8\"", "kind = \"relay\"\ntls = \"off\"")
    };
    let tls = certificate.map_or_else(String::new, |pair| {
        format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", pair.certificate, pair.key)
    });
    format!(
        r#"hostname = "{HOSTNAME}"
{tls}
[redis]
url = "redis://127.0.0.1:{redis}"

[auth]
listen = "127.0.0.1:{grpc}"
http = "127.0.0.1:{auth_http}"
cache_ttl = "{cache_ttl}"

[auth.sql]
url = "sqlite://{scratch}/users.db"

[frontend]
http = "127.0.0.1:{frontend_http}"
auth = "http://127.0.0.1:{grpc}"
trusted_networks = [{trusted}]
reject_unknown_recipient_domain = false
connections_per_client = {clients}

[[frontend.listener]]
name = "smtp"
bind = "127.0.0.1:{smtp}"
{kind}

[delivery]
http = "127.0.0.1:{delivery_http}"
{deliveries}"#
    )
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_services_read() {
        let ports = Ports { smtp: 1, redis: 2, grpc: 3, frontend_http: 4, auth_http: 5, delivery_http: 6 };
        let load = Load { messages: 1, size: 1, sessions: 20, reuse: true, rate: None, login: None };
        let leaf = Leaf { certificate: "/tmp/bench/relay.crt".into(), key: "/tmp/bench/relay.key".into() };
        for (login, leaf) in [(None, None), (Some(Login::Cached), Some(&leaf)), (Some(Login::Uncached), Some(&leaf))] {
            let text = configuration(Path::new("/tmp/bench"), &ports, "", Load { login, ..load }, leaf);
            let config = staffetta_config::Config::parse(&text, "staffetta.toml").expect("it parses");
            assert_eq!(config.frontend.connections_per_client, 40);
            assert_eq!(config.frontend.trusted_networks.is_empty(), login.is_some());
        }
    }

    #[test]
    fn the_deliveries_of_every_case_are_such_too() {
        let ports = Ports { smtp: 1, redis: 2, grpc: 3, frontend_http: 4, auth_http: 5, delivery_http: 6 };
        let load = Load { messages: 1, size: 1, sessions: 20, reuse: true, rate: None, login: None };
        for case in Scenario::value_variants().iter().flat_map(|scenario| scenario.cases()) {
            let key = case.signs().then_some(Path::new("/tmp/bench/dkim.pem"));
            let text = configuration(Path::new("/tmp/bench"), &ports, &deliveries(case, 7, key), load, None);
            let config = staffetta_config::Config::parse(&text, "staffetta.toml").expect("it parses");
            assert_eq!(config.delivery.route.len(), case.destinations as usize, "{case}");
            assert_eq!(config.delivery.dkim.len(), usize::from(case.signs()), "{case}");
        }
    }
}
