//! What stands around the services: names, servers, the life of certificates. None of it is a mistake of the file, and it
//! may be there tomorrow: each line is a warning, which begins with the key that it is about.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use staffetta_config::{Config, Finding};
use staffetta_policy::routing::Via;
use staffetta_policy::source::day_of;
use staffetta_telemetry::spans;
use staffetta_transport::dns::{DnsSettings, MailDomain, Resolver};
use staffetta_transport::launch;
use staffetta_transport::tls::Leaf;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::PATIENCE;

/// Servers that are tried; the rest of a long list is like its beginning.
const MOST: usize = 64;
/// How long before its end a certificate should have been renewed: Let's Encrypt's clients do it 30 days before.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Does the name with which we greet lead anywhere? Many servers look.
pub(super) async fn hostname(config: &Config) -> Vec<String> {
    let Some(resolver) = resolver(config) else { return Vec::new() };
    let host = &config.hostname;
    let problem = match timeout(PATIENCE, resolver.addresses(host)).await {
        Ok(Ok(found)) if !found.data.is_empty() => return Vec::new(),
        Ok(Ok(_)) => "has no address in the DNS: other servers may refuse it".to_owned(),
        // What is wrong with the DNS itself is a finding of its own.
        Ok(Err(error)) => format!("cannot be looked up: {error}"),
        Err(_) => "cannot be looked up in time".to_owned(),
    };
    vec![format!("hostname: {host} {problem}")]
}

/// Can all services listen on one machine? Elsewhere each has its ports for itself.
pub(super) fn ports(config: &Config) -> Vec<String> {
    let listeners = config.frontend.listener.iter().enumerate();
    let mut taken: Vec<_> =
        listeners.map(|(index, listener)| (format!("frontend.listener[{index}].bind"), listener.bind)).collect();
    let mut lines = Vec::new();
    for (key, bind) in [
        ("frontend.http", config.frontend.http),
        ("auth.listen", config.auth.listen),
        ("auth.http", config.auth.http),
        ("delivery.http", config.delivery.http),
    ] {
        if let Some((first, _)) = taken.iter().find(|(_, other)| exclude(bind, *other)) {
            lines.push(format!("{key}: {bind} is taken by {first}, where both services are on one machine"));
        }
        taken.push((key.to_owned(), bind));
    }
    lines
}

/// Can only one of the two be listened on?
fn exclude(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let is_wide = (a.is_unspecified() || b.is_unspecified()) && a.is_ipv4() == b.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (a == b || is_wide)
}

/// Does anybody answer where the frontends ask?
pub(super) async fn auth(config: &Config) -> Vec<String> {
    let url = &config.frontend.auth;
    let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/');
    let problem = match timeout(PATIENCE, TcpStream::connect(authority)).await {
        Ok(Ok(_)) => return Vec::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    vec![format!("frontend.auth: nobody answers at {url}: {problem}")]
}

/// Does a collector take spans? Mail does without one.
pub(super) async fn collector(config: &Config) -> Vec<String> {
    let Some(settings) = launch::traces(config).ok().flatten() else { return Vec::new() };
    let problem = match timeout(PATIENCE, spans::reach(&settings)).await {
        Ok(outcome) => outcome.err(),
        Err(_) => Some("no answer".to_owned()),
    };
    let endpoint = &settings.endpoint;
    let over_http = endpoint.trim_end_matches('/').ends_with(":4318");
    let hint =
        if over_http { "; 4318 is where collectors take OTLP over HTTP, and over gRPC mostly at 4317" } else { "" };
    let line = |problem| format!("telemetry.otlp_endpoint: nobody takes spans at {endpoint}: {problem}{hint}");
    problem.map(line).into_iter().collect()
}

/// The next hops that routes name, every one of a list, by the resolver that deliveries use.
pub(super) async fn routes(config: &Config) -> Vec<String> {
    let Some(resolver) = resolver(config) else { return Vec::new() };
    let routes = config.delivery.route.iter().enumerate();
    let ways = routes.flat_map(|(index, route)| route.via.iter().map(move |via| (index, via)));
    let tried = ways.take(MOST).map(async |(index, via)| {
        let problem = match timeout(PATIENCE, reach(&resolver, via)).await {
            Ok(outcome) => outcome.err()?,
            Err(_) => "no answer".to_owned(),
        };
        Some(format!("delivery.route[{index}].via: {}: {problem}", place(via)))
    });
    join_all(tried).await.into_iter().flatten().collect()
}

/// What a line names: without the scheme, where that says nothing.
fn place(via: &Via) -> String {
    match via {
        Via::Smtp { host, port, .. } | Via::Lmtp { host, port } => format!("{host}:{port}"),
        Via::Mx | Via::MxOf(_) | Via::LmtpSocket(_) => via.to_string(),
    }
}

async fn reach(resolver: &Resolver, via: &Via) -> Result<(), String> {
    match via {
        Via::Mx => Ok(()),
        Via::MxOf(name) => match resolver.mail_domain(name).await.map_err(|error| error.to_string())?.data {
            MailDomain::Hosts(_) => Ok(()),
            MailDomain::NullMx => Err("takes no mail".to_owned()),
            MailDomain::NotFound => Err("has no mail hosts".to_owned()),
        },
        Via::Smtp { host, port, .. } | Via::Lmtp { host, port } => dial(resolver, host, *port).await,
        Via::LmtpSocket(path) => UnixStream::connect(path).await.map(drop).map_err(|error| error.to_string()),
    }
}

async fn dial(resolver: &Resolver, host: &str, port: u16) -> Result<(), String> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver.addresses(host).await.map_err(|error| error.to_string())?.data,
    };
    let mut problem = "has no address".to_owned();
    for address in addresses {
        match TcpStream::connect((address, port)).await {
            Ok(_) => return Ok(()),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

fn resolver(config: &Config) -> Option<Resolver> {
    Resolver::new(&DnsSettings::from(&config.dns)).ok()
}

/// Pools of which no address sends today, for all are new and begin later.
pub(super) fn pools(config: &Config) -> Vec<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    pools_on(day_of(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)), config)
}

/// Addresses to send from that this machine does not have. Another one may.
pub(super) fn sources(config: &Config) -> Vec<String> {
    let sources = config.delivery.source.iter().enumerate();
    let missing = sources.filter_map(|(index, source)| {
        let problem = UdpSocket::bind((source.address, 0)).err()?;
        let at = source.address;
        Some(format!("delivery.source[{index}].address: {at} is no address to send from on this machine: {problem}"))
    });
    missing.take(MOST).collect()
}

fn pools_on(today: u32, config: &Config) -> Vec<String> {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    for source in &config.delivery.source {
        let begins = source.warm_up.unwrap_or_default();
        first.entry(&source.pool).and_modify(|first| *first = begins.min(*first)).or_insert(begins);
    }
    let later = first.into_iter().filter(|(_, first)| *first > today);
    later
        .map(|(pool, first)| format!("delivery.source: no address of the pool {pool} sends for {} days", first - today))
        .collect()
}

/// What clients will say of the certificates. One that has expired is no warning any more.
pub(super) fn certificates(config: &Config) -> (Vec<Finding>, Vec<String>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut findings, mut warnings) = (Vec::new(), Vec::new());
    for (index, pair) in staffetta_frontend::pairs(config).iter().enumerate() {
        // A pair that cannot be read is named by whoever loads them all.
        let Ok(Leaf { not_after, carries_name }) = pair.leaf() else { continue };
        let key = if index == 0 { "tls.certificate" } else { "tls.sni" };
        let shown = pair.certificate.display();
        let left = u64::try_from(not_after).unwrap_or_default().saturating_sub(now.as_secs());
        if left == 0 {
            findings.push(Finding::new(key, format!("{shown} has expired"), "a certificate that is valid today"));
        } else if left < SOON.as_secs() {
            warnings.push(format!("{key}: {shown} expires in {} days", left / (24 * 3600)));
        }
        if !carries_name {
            warnings.push(format!("{key}: {shown} does not carry the name {}", pair.name));
        }
    }
    (findings, warnings)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A certificate for `mail.test` that ends in so many days.
    fn checked(days: i64) -> (Vec<Finding>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["mail.test".to_owned()]).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let span = day * u32::try_from(days.unsigned_abs()).unwrap();
        // An hour more: the test takes a moment.
        let end = if days < 0 { now.checked_sub(span).unwrap() } else { now + span + day / 24 };
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
        let certificate = params.self_signed(&key).unwrap();
        let (chain, secret) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        let text = format!("hostname = \"mail.test\"\n[tls]\ncertificate = {chain:?}\nkey = {secret:?}\n");
        certificates(&Config::parse(&text, "t.toml").unwrap())
    }

    #[test]
    fn two_services_with_one_port_are_told_of() {
        let told = |text: &str| ports(&Config::parse(text, "t.toml").unwrap());
        assert_eq!(told(""), Vec::<String>::new());
        let where_both = "where both services are on one machine";
        assert_eq!(
            told(
                "[delivery]\nhttp = \"127.0.0.1:9101\"\n[auth]\nlisten = \"0.0.0.0:587\"\n[frontend]\nhttp = \"0.0.0.0:9101\"\n"
            ),
            [
                format!("auth.listen: 0.0.0.0:587 is taken by frontend.listener[1].bind, {where_both}"),
                format!("delivery.http: 127.0.0.1:9101 is taken by frontend.http, {where_both}"),
            ]
        );
        // Any free one; and one of another family.
        let free = "[delivery]\nhttp = \"127.0.0.1:0\"\n[auth]\nhttp = \"127.0.0.1:0\"\nlisten = \"[::]:9101\"\n";
        assert_eq!(told(free), Vec::<String>::new());
    }

    #[test]
    fn a_pool_is_told_of_of_which_no_address_sends_yet() {
        let source = |pool, more| format!("[[delivery.source]]\npool = \"{pool}\"\naddress = \"192.0.2.1\"\n{more}");
        let later = "warm_up = \"1970-01-11\"\n";
        let told = |rows: [String; 2]| pools_on(0, &Config::parse(&rows.concat(), "t.toml").unwrap());
        let line = "delivery.source: no address of the pool a sends for 10 days";
        assert_eq!(told([source("a", later), source("b", "")]), [line]);
        let also = source("a", "").replace("192.0.2.1", "192.0.2.2");
        assert_eq!(told([source("a", later), also]), Vec::<String>::new());
    }

    #[test]
    fn a_certificate_is_told_of_before_it_expires_and_refused_after() {
        staffetta_transport::tls::install_provider();
        assert_eq!(checked(15), (vec![], vec![]));
        let (findings, warnings) = checked(5);
        assert!(
            findings.is_empty() && warnings.len() == 1 && warnings[0].ends_with("expires in 5 days"),
            "{warnings:?}"
        );
        let (findings, warnings) = checked(-1);
        assert!(warnings.is_empty() && findings.len() == 1, "{findings:?} {warnings:?}");
    }
}
