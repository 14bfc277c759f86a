//! The report, for people and for programs.

use serde_json::{Value, json};
use staffetta_config::{Config, Dnssec, Route};
use staffetta_policy::classify::{Failure, classify};
use staffetta_policy::mx::Proof;
use staffetta_policy::routing::{Pattern, Via};
use staffetta_policy::tls::{Level, Security, Trust};
use staffetta_smtp::client::Tls;
use staffetta_transport::hop::Target;

use super::{Report, Way};

/// One line after the other.
pub(super) fn lines(config: &Config, report: &Report) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", report.domain, target(report)), format!("  {}", route(config, report))];
    lines.push(format!("  TLS level {}{}", level(report.hop.level), login(report)));
    if matches!(report.hop.key.target, Target::Domain(_)) {
        lines.push(format!("DNS: {}", proof(config, report)));
        lines.push(format!("MTA-STS: {}", policy(config, report)));
    }
    for stop in &report.survey.stops {
        let found = match &stop.found {
            Ok(addresses) if addresses.is_empty() => "no address".to_owned(),
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(failure) => format!("passed by: {}", reason(report, failure)),
        };
        lines.push(format!("{:>6} {}: {found}", stop.preference, stop.name));
    }
    match &report.survey.plan {
        Ok(_) => {
            lines.push("A delivery would try, in this order:".to_owned());
            lines.extend(report.ways.iter().enumerate().map(|(index, way)| numbered(report, index + 1, way)));
        }
        Err(failure) => lines.push(format!("A delivery would end: {}", ending(report, failure))),
    }
    if report.survey.plan.is_ok() && !report.is_deliverable() {
        lines.push("It would be deferred: no host may be used now.".to_owned());
    }
    lines
}

fn numbered(report: &Report, number: usize, way: &Way) -> String {
    let peer = format!("{}[{}]:{}", way.candidate.host, way.candidate.address.ip(), way.candidate.address.port());
    let asked = match &way.security {
        Ok(security) => format!("{} ({})", demand(security, way), security.label),
        Err(failure) => format!("not used now: {}", reason(report, failure)),
    };
    format!("{number:>6}. {peer}  {asked}")
}

/// What the host must do.
fn demand(security: &Security, way: &Way) -> String {
    match (security.starttls, &security.trust) {
        (Tls::Off, _) => "no TLS".to_owned(),
        (Tls::IfOffered, _) => "TLS if offered; plaintext if not, or if it fails".to_owned(),
        (Tls::Required, Trust::Any) => "TLS required; the certificate is not checked".to_owned(),
        (Tls::Required, Trust::WebPki { name }) => format!("TLS required; a certificate for {name} from a trusted CA"),
        (Tls::Required, Trust::Dane(pins)) => {
            let records: Vec<_> = pins.records.iter().map(|record| format!("[{record}]")).collect();
            let port = way.candidate.address.port();
            format!("TLS required; a certificate that matches at _{port}._tcp.{}: {}", pins.base, records.join(" "))
        }
    }
}

fn target(report: &Report) -> String {
    let protocol = report.hop.protocol_name();
    match &report.hop.key.target {
        Target::Host { host, port } => format!("by {protocol} to {host}, port {port}, without a look-up of MX records"),
        Target::Domain(_) => format!("by {protocol} to its mail hosts"),
        Target::Literal(ip) => format!("by {protocol} to {ip}"),
    }
}

fn chosen<'a>(config: &'a Config, report: &Report) -> Option<&'a Route> {
    config.delivery.route.get(report.route?)
}

fn route(config: &Config, report: &Report) -> String {
    match chosen(config, report) {
        Some(route) => format!("route: domain = \"{}\", via = \"{}\"", pattern(&route.domain), via(&route.via)),
        None => "route: none is for it, so MX".to_owned(),
    }
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(name) => name.clone(),
        Pattern::Subdomains(parent) => format!("*.{parent}"),
        Pattern::Any => "*".to_owned(),
    }
}

fn via(via: &Via) -> String {
    let at =
        |host: &str, port: u16| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match via {
        Via::Mx => "mx".to_owned(),
        Via::Smtp { host, port } => format!("smtp://{}", at(host, *port)),
        Via::Lmtp { host, port } => format!("lmtp://{}", at(host, *port)),
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::May => "may",
        Level::Encrypt => "encrypt",
        Level::Verify => "verify",
    }
}

fn login(report: &Report) -> &'static str {
    if report.hop.credentials.is_some() { ", with a login" } else { "" }
}

const fn dnssec(config: &Config) -> &'static str {
    match config.dns.dnssec {
        Dnssec::Off => "off",
        Dnssec::Validate => "validate",
        Dnssec::TrustAd => "trust-ad",
    }
}

fn proof(config: &Config, report: &Report) -> String {
    let said = if report.survey.proof == Proof::Secure { "proven" } else { "not proven, so no DANE" };
    format!("{said} (dns.dnssec = \"{}\")", dnssec(config))
}

fn policy(config: &Config, report: &Report) -> String {
    let finding = &report.survey.policy;
    let problem = finding.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
    match &finding.policy {
        _ if !config.delivery.mta_sts => "not looked for (delivery.mta_sts = false)".to_owned(),
        _ if report.hop.level == Level::None && report.hop.credentials.is_none() => {
            "not looked for, as TLS is not used".to_owned()
        }
        Some(policy) => format!(
            "{}, id {}, max_age {}: {}{problem}",
            policy.mode.as_str(),
            finding.id.as_deref().unwrap_or_default(),
            policy.max_age,
            policy.hosts.join(" ")
        ),
        None => format!("no policy{problem}"),
    }
}

fn reason(report: &Report, failure: &Failure) -> String {
    classify(failure, &report.domain).text
}

fn ending(report: &Report, failure: &Failure) -> String {
    let verdict = classify(failure, &report.domain);
    let what = if verdict.status.is_permanent() { "bounced" } else { "deferred" };
    format!("{what}, {} {}", verdict.status, verdict.text)
}

/// One object. Keys are added, never changed.
pub(super) fn json(config: &Config, report: &Report) -> Value {
    let stops = report.survey.stops.iter().map(|stop| {
        json!({
            "preference": stop.preference,
            "host": &*stop.name,
            "addresses": stop.found.as_ref().map(|found| found.iter().map(ToString::to_string).collect()).unwrap_or_else(|_| Vec::new()),
            "problem": stop.found.as_ref().err().map(|failure| reason(report, failure)),
        })
    });
    let ways = report.ways.iter().map(|way| way_in_json(report, way));
    let finding = &report.survey.policy;
    let sts = finding.policy.as_ref().map(|policy| {
        json!({ "mode": policy.mode.as_str(), "id": finding.id, "max_age": policy.max_age, "mx": policy.hosts })
    });
    let verdict = report.survey.plan.as_ref().err().map(|failure| classify(failure, &report.domain));
    json!({
        "domain": report.domain,
        "deliverable": report.is_deliverable(),
        "protocol": report.hop.protocol_name(),
        "route": chosen(config, report).map(|route| json!({ "domain": pattern(&route.domain), "via": via(&route.via) })),
        "tls": level(report.hop.level),
        "login": report.hop.credentials.is_some(),
        "dnssec": dnssec(config),
        "proven": report.survey.proof == Proof::Secure,
        "mta_sts": sts,
        "mta_sts_problem": finding.problem,
        "hosts": stops.collect::<Vec<_>>(),
        "attempts": ways.collect::<Vec<_>>(),
        "status": verdict.as_ref().map(|verdict| verdict.status.to_string()),
        "problem": verdict.map(|verdict| verdict.text),
    })
}

fn way_in_json(report: &Report, way: &Way) -> Value {
    let security = way.security.as_ref().ok();
    let (trust, name, tlsa) = match security.map(|security| &security.trust) {
        Some(Trust::WebPki { name }) => ("web", Some(name.to_string()), Vec::new()),
        Some(Trust::Dane(pins)) => {
            ("dane", Some(pins.base.to_string()), pins.records.iter().map(ToString::to_string).collect())
        }
        Some(Trust::Any) | None => ("none", None, Vec::new()),
    };
    let starttls = security.map(|security| match security.starttls {
        Tls::Off => "off",
        Tls::IfOffered => "if offered",
        Tls::Required => "required",
    });
    json!({
        "host": &*way.candidate.host,
        "address": way.candidate.address.ip().to_string(),
        "port": way.candidate.address.port(),
        "policy": security.map(|security| security.label.as_str()),
        "starttls": starttls,
        "certificate": trust,
        "name": name,
        "tlsa": tlsa,
        "problem": way.security.as_ref().err().map(|failure| reason(report, failure)),
    })
}
