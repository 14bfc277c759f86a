//! What can only be judged over several keys, and what this version does not have.

mod destinations;
mod routes;
mod rules;
mod sources;
mod unmeant;
mod verp;

use std::collections::HashSet;

use ipnet::IpNet;
use secrecy::ExposeSecret;
use staffetta_dkim::Algorithm;
use staffetta_policy::conduct::Step;
use staffetta_policy::routing::Via;
use staffetta_policy::tls::Level;

use crate::files::{dkim_key, open_to_all};
use crate::kind::{Choice, Kind, List};
use crate::reader::Reader;
use crate::table::DEFAULT_REDIS_LIMIT;
use crate::{
    Addresses, Backend, ByteSize, Config, Dkim, DovecotAddress, Durability, ListenerKind, ListenerTls, Mechanism,
    OAuth, Signature,
};

/// Characters of a key that nobody guesses.
const SHORTEST_KEY: usize = 16;

/// Notes everything that does not go together.
pub(crate) fn check(config: &Config, reader: &mut Reader) {
    let mut check = Check { reader };
    queue(config, &mut check);
    rpc(config, &mut check);
    accounts(config, &mut check);
    mechanisms(config, &mut check);
    tokens(config, &mut check);
    certificates(config, &mut check);
    listeners(config, &mut check);
    ladder(config, &mut check);
    delivery(config, &mut check);
    routes::check(config, &mut check);
    destinations::check(config, &mut check);
    rules::check(config, &mut check);
    sources::check(config, &mut check);
    dkim(config, &mut check);
    verp::check(config, &mut check);
    hidden_addresses(config, &mut check);
    traces(config, &mut check);
}

struct Check<'a> {
    reader: &'a mut Reader,
}

impl Check<'_> {
    fn refuse(&mut self, key: &str, what: impl Into<String>, allowed: impl Into<String>) {
        let place = self.reader.place(key);
        self.reader.problem(place, key, what.into(), Some(allowed.into()));
    }

    /// Is something below this path wrong already?
    fn has_found(&self, path: &str) -> bool {
        self.reader.problems.iter().any(|problem| problem.key.starts_with(path))
    }
}

fn queue(config: &Config, check: &mut Check<'_>) {
    let redis = &config.redis;
    match (redis.durability, redis.replicas) {
        (Durability::Replicated, 0) => {
            check.refuse(
                "redis.durability",
                "is \"replicated\" but redis.replicas is 0",
                "redis.replicas from 1 to 16",
            );
        }
        (Durability::Replicated, _) | (_, 0) => {}
        _ => check.refuse("redis.replicas", "has no effect without redis.durability = \"replicated\"", "0"),
    }
    redis_tls(config, check);
    if config.spool.inline_limit > config.spool.redis_limit {
        let limit = format!("up to spool.redis_limit, {}", config.spool.redis_limit);
        check.refuse("spool.inline_limit", "is larger than spool.redis_limit", limit);
    }
    let least = ByteSize(config.frontend.size_limit.0.saturating_mul(2));
    if config.spool.url.is_some() && config.spool.incoming_limit < least {
        let allowed = format!("from {least}, twice frontend.size_limit");
        check.refuse("spool.incoming_limit", "has no room for the largest messages", allowed);
    }
}

fn redis_tls(config: &Config, check: &mut Check<'_>) {
    let redis = &config.redis;
    let pair = [("certificate", &redis.certificate, "key"), ("key", &redis.key, "certificate")];
    if redis.certificate.is_some() != redis.key.is_some()
        && let Some((name, _, other)) = pair.iter().find(|(_, path, _)| path.is_some())
    {
        let what = format!("is set without {other}");
        check.refuse(&format!("redis.{name}"), what, "certificate and key, or none of them");
    }
    let keys = [("ca", &redis.ca), ("certificate", &redis.certificate), ("key", &redis.key)];
    let first = keys.iter().find(|(_, path)| path.is_some());
    if let Some((name, _)) = first
        && !redis.url.expose_secret().starts_with("rediss")
    {
        let allowed = "a redis.url that begins with rediss://, rediss-sentinel:// or rediss-cluster://, or none of ca, \
                       certificate and key";
        check.refuse(&format!("redis.{name}"), "has no effect without TLS", allowed);
    }
}

fn traces(config: &Config, check: &mut Check<'_>) {
    let telemetry = &config.telemetry;
    let is_encrypted = telemetry.otlp_endpoint.as_ref().is_some_and(|url| url.starts_with("https://"));
    if telemetry.otlp_ca.is_some() && !is_encrypted {
        check.refuse("telemetry.otlp_ca", "has no effect without TLS", "an otlp_endpoint that begins with https://");
    }
}

fn rpc(config: &Config, check: &mut Check<'_>) {
    let keys = [("ca", &config.rpc.ca), ("certificate", &config.rpc.certificate), ("key", &config.rpc.key)];
    let missing: Vec<&str> = keys.iter().filter(|(_, path)| path.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() && missing.len() < keys.len() {
        let (first, _) = keys.iter().find(|(_, path)| path.is_some()).unwrap_or(&keys[0]);
        let what = format!("is set without {}", missing.join(" and "));
        check.refuse(&format!("rpc.{first}"), what, "ca, certificate and key, or none of them");
    }
    // The auth service has no use for the key, and may be given a file without it.
    if !check.reader.service.reads("frontend") {
        return;
    }
    let with_tls = config.frontend.auth.starts_with("https://");
    if with_tls && missing.len() == keys.len() {
        check.refuse("frontend.auth", "is https:// without [rpc]", "http://, or [rpc] with its three keys");
    } else if !with_tls && missing.is_empty() {
        check.refuse("frontend.auth", "is http:// although [rpc] is set", "https://");
    }
}

fn accounts(config: &Config, check: &mut Check<'_>) {
    let auth = &config.auth;
    if auth.backend == Backend::Sql && auth.mechanisms.is_empty() {
        check.refuse("auth.mechanisms", "is empty: nobody could log in", List::<Choice<Mechanism>>::allowed());
    }
    if auth.mechanisms.contains(&Mechanism::External) && config.tls.client_ca.is_none() {
        let what = "offers EXTERNAL, and without tls.client_ca no certificate says who a client is";
        check.refuse("auth.mechanisms", what, "a list without EXTERNAL, or tls.client_ca");
    }
    // Frontends may not be told where the database is.
    if !check.reader.service.reads("auth") || auth.backend == Backend::Sql {
        return;
    }
    if config.frontend.relay_domains_from_auth && !auth.has_sql {
        let what = "is true, and auth.backend = \"dovecot\" knows no domains";
        check.refuse("frontend.relay_domains_from_auth", what, "false, or [auth.sql] with its domain_query");
    }
    if check.reader.places.contains_key("auth.sql.password_query") {
        let what = "has no effect with auth.backend = \"dovecot\"";
        check.refuse("auth.sql.password_query", what, "leave it out");
    }
}

fn mechanisms(config: &Config, check: &mut Check<'_>) {
    let mechanisms = &config.auth.mechanisms;
    for (index, mechanism) in mechanisms.iter().enumerate() {
        if mechanisms[..index].contains(mechanism) {
            check.refuse("auth.mechanisms", format!("has \"{mechanism}\" twice"), "each mechanism once");
        }
    }
}

/// How a token is checked, if one may come.
fn tokens(config: &Config, check: &mut Check<'_>) {
    let (auth, oauth) = (&config.auth, &config.auth.oauth);
    let mechanism = auth.mechanisms.iter().find(|mechanism| mechanism.is_oauth());
    match (&oauth.keys, &oauth.introspection, mechanism) {
        (Some(_), Some(_), _) => {
            check.refuse("auth.oauth.introspection", "is set together with auth.oauth.keys", "one of the two");
        }
        (None, None, Some(mechanism)) if auth.backend == Backend::Sql && !check.has_found("auth.oauth.") => {
            let what = format!("has \"{mechanism}\", and nothing says how a token is checked");
            check.refuse("auth.mechanisms", what, "auth.oauth.keys or auth.oauth.introspection beside it");
        }
        (Some(_), None, _) => signed_tokens(oauth, check),
        _ => {}
    }
    // Frontends may not have the file of the secret.
    match (&oauth.client_id, &oauth.client_secret) {
        (Some(_), None) if check.reader.service.reads("auth") => {
            let allowed = "client_secret or client_secret_file";
            check.refuse("auth.oauth.client_id", "is set without a secret", allowed);
        }
        (None, Some(_)) => check.refuse("auth.oauth.client_secret", "is set without a client_id", "client_id"),
        _ => {}
    }
}

/// A good signature says only that the provider made the token, not for whom.
fn signed_tokens(oauth: &OAuth, check: &mut Check<'_>) {
    if oauth.issuer.is_none() {
        check.refuse("auth.oauth.issuer", "is not set, and auth.oauth.keys is", "the `iss` of your provider's tokens");
    }
    if oauth.audience.is_empty() {
        let what = "is empty: a token for any other service would open the account";
        check.refuse("auth.oauth.audience", what, "what the `aud` of a token for this server has");
    }
    if oauth.algorithms.is_empty() {
        let allowed = List::<Choice<Signature>>::allowed();
        check.refuse("auth.oauth.algorithms", "is empty: no token could be good", allowed);
    }
}

fn certificates(config: &Config, check: &mut Check<'_>) {
    let mut names = HashSet::new();
    for (index, row) in config.tls.sni.iter().enumerate() {
        if !names.insert(&row.name) {
            let key = format!("tls.sni[{index}].name");
            check.refuse(&key, format!("{:?} is used twice", row.name), "one certificate for each name");
        }
    }
}

fn listeners(config: &Config, check: &mut Check<'_>) {
    let (mut names, mut binds) = (HashSet::new(), HashSet::new());
    for (index, listener) in config.frontend.listener.iter().enumerate() {
        let key = |name: &str| format!("frontend.listener[{index}].{name}");
        if !names.insert(&listener.name) {
            check.refuse(&key("name"), format!("{:?} is used twice", listener.name), "a name of its own");
        }
        if listener.kind == ListenerKind::Submission && listener.tls == ListenerTls::Off {
            let what = "is \"off\" where kind is \"submission\": without TLS nobody can log in, and no mail is taken";
            check.refuse(&key("tls"), what, "\"starttls\", \"implicit\"");
        }
        if listener.bind.port() != 0 && !binds.insert(listener.bind) {
            check.refuse(
                &key("bind"),
                format!("\"{}\" is used twice", listener.bind),
                "an address and port of its own",
            );
        }
    }
    if config.frontend.listener.is_empty() {
        check.refuse("frontend.listener", "is empty", "at least one [[frontend.listener]]");
    }
}

/// A harder step below a milder one would be taken first.
fn ladder(config: &Config, check: &mut Check<'_>) {
    let ladder = config.frontend.abuse.ladder();
    let Some((lower, upper)) = ladder.misstep() else { return };
    let multiple = |step: Step| ladder.multiples[step as usize];
    let what = format!(
        "is {}, and the milder step {} is {}: the ladder does not ascend",
        multiple(upper),
        lower.name(),
        multiple(lower)
    );
    let allowed = format!("0, or more than frontend.abuse.{}", lower.name());
    check.refuse(&format!("frontend.abuse.{}", upper.name()), what, allowed);
}

fn delivery(config: &Config, check: &mut Check<'_>) {
    let delivery = &config.delivery;
    if delivery.retry_min > delivery.retry_max {
        check.refuse("delivery.retry_min", "is longer than delivery.retry_max", "up to delivery.retry_max");
    }
    if delivery.delay_warning.is_some_and(|warning| warning >= delivery.lifetime) {
        check.refuse("delivery.delay_warning", "is not shorter than delivery.lifetime", "less than delivery.lifetime");
    }
}

fn dkim(config: &Config, check: &mut Check<'_>) {
    let mut names = HashSet::new();
    for (index, row) in config.delivery.dkim.iter().enumerate() {
        if !names.insert((&row.domain, &row.selector)) {
            let what = format!("{:?} is used twice for {}", row.selector, row.domain);
            check.refuse(
                &format!("delivery.dkim[{index}].selector"),
                what,
                "a name of its own for each key of a domain",
            );
        }
    }
}

/// Entries that no sender comes to, since each counts once.
fn idle_canonical(config: &Config) -> impl Iterator<Item = String> {
    let rows = &config.frontend.canonical;
    let covered = |index: usize| rows[..index].iter().any(|earlier| earlier.sender.cover(&rows[index].sender));
    let idle = (0..rows.len()).filter(move |&index| covered(index));
    idle.map(|index| format!("frontend.canonical[{index}]: an earlier entry matches the same senders"))
}

/// Without a key everybody could try addresses out; with one that nobody else has, nobody could follow a message.
fn hidden_addresses(config: &Config, check: &mut Check<'_>) {
    match (config.log.addresses, &config.log.address_key) {
        (Addresses::Hashed, None) if !check.has_found("log.address_key") => {
            check.refuse(
                "log.addresses",
                "is \"hashed\" without a key",
                "log.address_key or log.address_key_file beside it",
            );
        }
        (_, Some(key)) if key.expose_secret().len() < SHORTEST_KEY => {
            check.refuse("log.address_key", "is too short to be a secret", "16 characters or more");
        }
        _ => {}
    }
}

/// What works but is probably not meant.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.hostname.contains('.') {
        let name = &config.hostname;
        warnings.push(format!("hostname is {name:?}, which is not fully qualified: other servers may refuse it"));
    }
    if config.redis.durability == Durability::None {
        warnings.push("redis.durability is \"none\": accepted mail is lost when Redis restarts".to_owned());
    }
    let chosen = config.redis.url.expose_secret().split_once("://").map_or("", |(scheme, _)| scheme);
    let by_others = matches!(chosen, "redis-sentinel" | "rediss-sentinel" | "redis-cluster" | "rediss-cluster");
    if by_others && config.redis.durability == Durability::Fsync {
        let lost = "what only the old primary has is lost when a replica takes its place; set \"replicated\"";
        warnings.push(format!("redis.durability is \"fsync\": {lost}"));
    }
    if config.spool.url.is_none() && config.spool.redis_limit != DEFAULT_REDIS_LIMIT {
        warnings
            .push("spool.redis_limit has no effect without spool.url: bodies of every size stay in Redis".to_owned());
    }
    let default = Config::default();
    let (spool, unset) = (&config.spool, &default.spool);
    for (key, is_set) in [
        ("incoming_limit", spool.incoming_limit != unset.incoming_limit),
        ("offload_after", spool.offload_after != unset.offload_after),
    ] {
        if spool.url.is_none() && is_set {
            warnings.push(format!("spool.{key} has no effect without spool.url"));
        }
    }
    if config.telemetry.otlp_endpoint.is_none() && config.telemetry.sample_ratio != default.telemetry.sample_ratio {
        warnings.push("telemetry.sample_ratio has no effect without telemetry.otlp_endpoint".to_owned());
    }
    warnings.extend(verp::warnings(config));
    let suppresses = config.delivery.suppress_after.is_some() || config.delivery.suppress_complaints;
    if !suppresses && config.delivery.suppress_for != default.delivery.suppress_for {
        warnings.push("delivery.suppress_for has no effect without delivery.suppress_after".to_owned());
    }
    warnings.extend(tls_reports(config));
    warnings.extend(wide_networks(config));
    if config.auth.backend == Backend::Sql && config.auth.has_dovecot {
        warnings.push("[auth.dovecot] has no effect: auth.backend is \"sql\"".to_owned());
    }
    if config.rpc.ca.is_none() && !config.auth.listen.ip().is_loopback() {
        warnings.push("auth.listen is reachable from elsewhere without [rpc]: passwords travel in clear".to_owned());
    }
    if !config.frontend.verify_recipients && !config.frontend.relay_domains.is_empty() {
        let what = "mail for relay_domains is taken unseen, and comes back to whoever is named as its sender";
        warnings.push(format!("frontend.verify_recipients is false: {what}"));
    }
    if let (Backend::Dovecot, DovecotAddress::Tcp { host, .. }) = (config.auth.backend, &config.auth.dovecot.socket)
        && host != "localhost"
        && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    {
        warnings.push("auth.dovecot.socket is TCP to another machine: passwords travel in clear".to_owned());
    }
    let oauth = &config.auth.oauth;
    let offers_tokens = config.auth.backend == Backend::Sql && config.auth.mechanisms.iter().any(|it| it.is_oauth());
    if !offers_tokens && (oauth.keys.is_some() || oauth.introspection.is_some()) {
        let what = "auth.mechanisms, for accounts in a database, has neither OAUTHBEARER nor XOAUTH2";
        warnings.push(format!("[auth.oauth] has no effect: {what}"));
    }
    for (index, route) in config.delivery.route.iter().enumerate() {
        let is_checked = route.tls.unwrap_or(config.delivery.tls) == Level::Verify;
        let is_near = route.via.iter().all(|via| matches!(via, Via::LmtpSocket(_)));
        if route.username.is_some() && !is_checked && !is_near {
            let what = "a login for whoever answers there, whatever the certificate";
            warnings.push(format!("delivery.route[{index}].tls is not \"verify\": {what}"));
        }
    }
    for domain in &config.frontend.relay_domains {
        let mut routes = config.delivery.route.iter().filter(|route| route.domain.matches(domain)).peekable();
        let some = if routes.peek().is_some() { " for all senders" } else { "" };
        if !routes.any(|route| route.sender.is_none() && route.login.is_none()) {
            let what = format!("{domain} has no [[delivery.route]]{some}; its MX records decide");
            warnings.push(format!("frontend.relay_domains: {what}"));
        }
    }
    warnings.extend(routes::unreachable(config));
    warnings.extend(idle_canonical(config));
    warnings.extend(unmeant::warnings(config));
    warnings.extend(keys(config));
    warnings
}

/// Of the DKIM keys that are here to be read.
fn keys(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut algorithms: Vec<(&str, bool)> = Vec::new();
    for (index, Dkim { domain, key: path, .. }) in config.delivery.dkim.iter().enumerate() {
        let Ok(key) = dkim_key(path) else { continue };
        let is_rsa = key.algorithm() == Algorithm::Rsa;
        match algorithms.iter_mut().find(|(known, _)| known == domain) {
            Some((_, any)) => *any |= is_rsa,
            None => algorithms.push((domain, is_rsa)),
        }
        warnings.extend(open_to_all(path).map(|what| format!("delivery.dkim[{index}].key: {what}")));
    }
    for (domain, _) in algorithms.into_iter().filter(|(_, any)| !any) {
        let what = "has no RSA key: to servers that do not know Ed25519 its mail is unsigned";
        warnings.push(format!("delivery.dkim: {domain} {what}"));
    }
    warnings
}

/// A report that nobody has signed is thrown away (RFC 8460 section 3).
fn tls_reports(config: &Config) -> Vec<String> {
    let (report, default) = (&config.delivery.tls_report, Config::default().delivery.tls_report);
    let Some(from) = &report.from else {
        let is_default = (&report.organization, report.period) == (&default.organization, default.period);
        let idle = "delivery.tls_report: there are no reports without \"from\"".to_owned();
        return (!is_default).then_some(idle).into_iter().collect();
    };
    let domain = from.domain_key().unwrap_or_default();
    let signs = |of: &str| of == domain || domain.strip_suffix(of).is_some_and(|above| above.ends_with('.'));
    let unsigned = format!(
        "delivery.tls_report.from: no [[delivery.dkim]] signs for {domain}, and unsigned reports are thrown away where they arrive"
    );
    let is_signed = config.delivery.dkim.iter().any(|row| signs(&row.domain));
    (!is_signed).then_some(unsigned).into_iter().collect()
}

/// Networks that nobody owns whole: whoever is in them relays without a login. What is private everywhere is not meant.
fn wide_networks(config: &Config) -> Vec<String> {
    let is_wide = |network: &&IpNet| match network {
        IpNet::V4(network) => network.prefix_len() < 8,
        IpNet::V6(network) => {
            let first = network.network().segments()[0];
            let is_private = network.prefix_len() >= 7 && (first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80);
            network.prefix_len() < 16 && !is_private
        }
    };
    let wide = config.frontend.trusted_networks.iter().filter(is_wide);
    wide.map(|network| format!("frontend.trusted_networks: all of {network} may send mail to anybody, without a login"))
        .collect()
}
