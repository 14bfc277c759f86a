//! The report, for people and for programs.

use serde_json::{Value, json};
use staffetta_config::{Config, Dnssec, Route};
use staffetta_mail::ReversePath;
use staffetta_policy::classify::{Endpoint, Failure, classify};
use staffetta_policy::mx::Proof;
use staffetta_policy::routing::Via;
use staffetta_policy::tls::{Level, Security, Trust};
use staffetta_smtp::client::Tls;
use staffetta_telemetry::printable;
use staffetta_transport::hop::{Login, Target};
use staffetta_transport::itinerary::Survey;

use super::{Origin, Report, Way};

/// One line after the other.
pub(super) fn lines(config: &Config, report: &Report) -> Vec<String> {
    let protocol = report.hop.protocol_name();
    let targets: Vec<String> = report.hop.key.targets.iter().map(target).collect();
    let mut lines = vec![
        format!("{}: by {protocol} {}", report.domain, targets.join("; else ")),
        format!("  {}", route(config, report)),
    ];
    if let Some(sender) = &report.canonical {
        lines.push(format!("  of <{}>, whom frontend.canonical makes of the sender", sender.as_str()));
    }
    if report.verp {
        lines.push("  each recipient gets it from an envelope sender of his own (verp)".to_owned());
    }
    if report.others {
        lines.push("  mail of some senders or logins goes another way: --sender and --login tell which".to_owned());
    }
    lines.push(format!("  TLS level {}{}", level(report.hop.level), login(report)));
    lines.push(format!("  limits of {}: {}", report.hop.account(), limits(report)));
    lines.extend(report.curbs.iter().map(|curb| printable(&format!("  {}", curb.text))));
    lines.extend(sources(report));
    lines.extend(report.barred.iter().map(|barred| printable(&format!("  stopped before: {}", barred.text))));
    if let Some(suspended) = &report.suspended {
        lines.push(printable(&format!("  suspended, its mail waits: {suspended}")));
    }
    let others = report.suspended_for_others.iter();
    lines.extend(others.map(|what| printable(&format!("  suspended for other mail, from one pool: {what}"))));
    report.surveys.iter().for_each(|survey| lines.extend(found(config, report, survey)));
    lines.extend(wishes(config, report).map(|wishes| printable(&format!("TLSRPT: {wishes}"))));
    match &report.plan {
        Ok(_) => {
            lines.push("A delivery would try, in this order:".to_owned());
            lines.extend(report.ways.iter().enumerate().map(|(index, way)| numbered(report, index + 1, way)));
        }
        Err(failure) => lines.push(format!("A delivery would end: {}", ending(report, failure))),
    }
    if report.plan.is_ok() && !report.is_deliverable() {
        lines.push("It would be deferred: no host may be used now.".to_owned());
    }
    lines
}

/// Which of our addresses it leaves from.
fn sources(report: &Report) -> Option<String> {
    let each = report.sources.iter().map(|Origin { source, is_out, today, spent }| {
        let name = source.hostname.as_deref().map(|name| format!(" as {name}")).unwrap_or_default();
        let spent = spent.map(|spent| format!("{spent} of ")).unwrap_or_default();
        let new = today.map(|messages| format!(" (new: {spent}{messages} messages today)")).unwrap_or_default();
        format!("{}{name}{new}{}", source.address, if *is_out { " (suspended)" } else { "" })
    });
    let each: Vec<_> = each.collect();
    let pool = report.hop.pool.as_ref().map(|pool| format!("{}, ", pool.name)).unwrap_or_default();
    (!each.is_empty()).then(|| format!("  from {pool}one of {}", each.join(", ")))
}

/// What was found on one way; of several each under its name.
fn found(config: &Config, report: &Report, survey: &Survey) -> Vec<String> {
    let mut lines = Vec::new();
    if report.hop.key.targets.len() > 1 && !survey.stops.is_empty() {
        lines.push(format!("{}:", survey.target.name()));
    }
    if is_by_mx(survey) {
        lines.push(format!("DNS: {}", proof(config, survey)));
        lines.push(format!("MTA-STS: {}", policy(config, report, survey)));
    }
    for stop in &survey.stops {
        let found = match &stop.found {
            Ok(addresses) if addresses.is_empty() => "no address".to_owned(),
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(failure) => format!("passed by: {}", reason(report, failure)),
        };
        lines.push(format!("{:>6} {}: {found}", stop.preference, stop.name));
    }
    if survey.is_last && report.hop.key.targets.len() > report.surveys.len() {
        lines
            .push("  nothing behind it is tried: it takes no mail, or this system is one of its mail hosts".to_owned());
    }
    lines
}

const fn is_by_mx(survey: &Survey) -> bool {
    matches!(survey.target, Target::Domain(_) | Target::MailHosts(_))
}

fn numbered(report: &Report, number: usize, way: &Way) -> String {
    let port = way.candidate.endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
    let peer = format!("{}{port}", way.candidate.peer());
    let asked = match &way.security {
        Ok(security) => format!("{} ({})", demand(security, way), security.label),
        Err(failure) => format!("not used now: {}", reason(report, failure)),
    };
    let lock_step = way.lock_step.as_ref().map(|why| format!("; commands one by one, {why}")).unwrap_or_default();
    printable(&format!("{number:>6}. {peer}  {asked}{lock_step}"))
}

/// What the host must do.
fn demand(security: &Security, way: &Way) -> String {
    let how = match security.starttls {
        Tls::Off => return "no TLS".to_owned(),
        Tls::IfOffered => return "TLS if offered; plaintext if not, or if it fails".to_owned(),
        Tls::Required => "TLS required",
        Tls::Implicit => "TLS from the first octet",
    };
    match &security.trust {
        Trust::Any | Trust::Judged { .. } => format!("{how}; the certificate is not checked"),
        Trust::WebPki { name } => format!("{how}; a certificate for {name} from a trusted CA"),
        Trust::Dane(pins) => {
            let records: Vec<_> = pins.records.iter().map(|record| format!("[{record}]")).collect();
            let port = way.candidate.endpoint.port().unwrap_or_default();
            format!("{how}; a certificate that matches at _{port}._tcp.{}: {}", pins.base, records.join(" "))
        }
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Host { host, port, .. } => format!("to {host}, port {port}, without a look-up of MX records"),
        Target::Socket(path) => format!("through the unix socket {path}"),
        Target::Domain(_) => "to its mail hosts".to_owned(),
        Target::MailHosts(name) => format!("to the mail hosts of {name}"),
        Target::Literal(ip) => format!("to {ip}"),
    }
}

fn chosen<'a>(config: &'a Config, report: &Report) -> Option<&'a Route> {
    config.delivery.route.get(report.route?)
}

fn route(config: &Config, report: &Report) -> String {
    match chosen(config, report) {
        Some(route) => {
            let sender = route.sender.as_ref().map(|sender| format!(", sender = \"{sender}\"")).unwrap_or_default();
            let login = route.login.as_ref().map(|login| format!(", login = \"{login}\"")).unwrap_or_default();
            format!("route: domain = \"{}\"{sender}{login}, via = {}", route.domain, via(&route.via))
        }
        None => "route: none is for it, so MX".to_owned(),
    }
}

/// As in the file.
fn via(ways: &[Via]) -> String {
    let ways: Vec<String> = ways.iter().map(|via| format!("\"{via}\"")).collect();
    if ways.len() == 1 { ways.concat() } else { format!("[{}]", ways.join(", ")) }
}

/// What its destination may have at a time.
fn limits(report: &Report) -> String {
    let hop = &report.hop;
    let rate = hop.rate.map_or_else(|| "no rate".to_owned(), |rate| rate.to_string());
    let each = messages(report).map(|messages| format!(", {messages} messages each")).unwrap_or_default();
    let ignored = ignored(report);
    let unused = if ignored.is_empty() { String::new() } else { format!("; not used: {}", ignored.join(", ")) };
    format!("{} connections{each}, {rate}{unused}", hop.concurrency)
}

/// What its servers may offer and is not used, by configuration.
fn ignored(report: &Report) -> Vec<&'static str> {
    report.hop.ignored().iter().map(|keyword| keyword.as_str()).collect()
}

/// Who is told of the TLS of its mail.
fn wishes(config: &Config, report: &Report) -> Option<String> {
    Some(match report.wishes.as_ref()? {
        Err(error) => format!("nobody can say who wants reports: {error}"),
        Ok(wishes) if wishes.is_empty() => "nobody wants reports".to_owned(),
        Ok(wishes) => {
            let names: Vec<_> = wishes.iter().map(ToString::to_string).collect();
            let sent = if config.delivery.tls_report.from.is_some() {
                ""
            } else {
                "; none are sent without delivery.tls_report.from"
            };
            format!("{} would have reports{sent}", names.join(", "))
        }
    })
}

fn messages(report: &Report) -> Option<u32> {
    report.hop.site.as_ref()?.messages
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::May => "may",
        Level::Encrypt => "encrypt",
        Level::Verify => "verify",
    }
}

/// What the servers are shown, and never the secret itself.
fn login(report: &Report) -> String {
    let Some((kind, name)) = login_with(report) else { return String::new() };
    format!(", with a login: {name}, {kind}")
}

fn login_with(report: &Report) -> Option<(&'static str, &str)> {
    Some(match report.hop.login.as_ref()? {
        Login::Password(credentials) => ("password", &credentials.username),
        Login::Token(account) => ("token", account.username()),
    })
}

const fn dnssec(config: &Config) -> &'static str {
    match config.dns.dnssec {
        Dnssec::Off => "off",
        Dnssec::Validate => "validate",
        Dnssec::TrustAd => "trust-ad",
    }
}

fn proof(config: &Config, survey: &Survey) -> String {
    let said = if survey.proof == Proof::Secure { "proven" } else { "not proven, so no DANE" };
    format!("{said} (dns.dnssec = \"{}\")", dnssec(config))
}

fn policy(config: &Config, report: &Report, survey: &Survey) -> String {
    let finding = &survey.policy;
    let problem = finding.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
    match &finding.policy {
        _ if !config.delivery.mta_sts => "not looked for (delivery.mta_sts = false)".to_owned(),
        _ if report.hop.level == Level::None && report.hop.login.is_none() => {
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
    let stops = report.surveys.iter().flat_map(|survey| &survey.stops).map(|stop| {
        json!({
            "preference": stop.preference,
            "host": &*stop.name,
            "addresses": stop.found.as_ref().map(|found| found.iter().map(ToString::to_string).collect()).unwrap_or_else(|_| Vec::new()),
            "problem": stop.found.as_ref().err().map(|failure| reason(report, failure)),
        })
    });
    let ways = report.ways.iter().map(|way| way_in_json(report, way));
    let by_mx = report.surveys.iter().find(|survey| is_by_mx(survey));
    let finding = by_mx.map(|survey| survey.policy.clone()).unwrap_or_default();
    let sts = finding.policy.as_ref().map(|policy| {
        json!({ "mode": policy.mode.as_str(), "id": finding.id, "max_age": policy.max_age, "mx": policy.hosts })
    });
    let verdict = report.plan.as_ref().err().map(|failure| classify(failure, &report.domain));
    json!({
        "domain": report.domain,
        "deliverable": report.is_deliverable(),
        "protocol": report.hop.protocol_name(),
        "route": chosen(config, report).map(route_in_json),
        "depends_on_sender": report.others,
        "canonical_sender": report.canonical.as_ref().map(ReversePath::as_str),
        "verp": report.verp,
        "tls": level(report.hop.level),
        "destination": {
            "name": report.hop.account(),
            "concurrency": report.hop.concurrency,
            "rate": report.hop.rate.map(|rate| rate.to_string()),
            "messages_per_connection": messages(report),
            "ignore_extensions": ignored(report),
        },
        "curbs": report.curbs.iter().map(|curb| &curb.json).collect::<Vec<_>>(),
        "stopped": report.barred.iter().map(|barred| &barred.json).collect::<Vec<_>>(),
        "suspended": report.suspended,
        "suspended_for_other_pools": report.suspended_for_others,
        "source": report.hop.pool.as_ref().map(|pool| &*pool.name),
        "addresses": report.sources.iter().map(source_in_json).collect::<Vec<_>>(),
        "login": report.hop.login.is_some(),
        "login_with": login_with(report).map(|(kind, _)| kind),
        "login_name": login_with(report).map(|(_, name)| name),
        "dnssec": dnssec(config),
        "proven": by_mx.is_some_and(|survey| survey.proof == Proof::Secure),
        "mta_sts": sts,
        "mta_sts_problem": finding.problem,
        "tls_reports": report.wishes.as_ref().and_then(|wishes| {
            Some(wishes.as_ref().ok()?.iter().map(ToString::to_string).collect::<Vec<_>>())
        }),
        "hosts": stops.collect::<Vec<_>>(),
        "attempts": ways.collect::<Vec<_>>(),
        "status": verdict.as_ref().map(|verdict| verdict.status.to_string()),
        "problem": verdict.map(|verdict| verdict.text),
    })
}

/// `via` is a text, or an array of several.
fn route_in_json(route: &Route) -> Value {
    let ways: Vec<String> = route.via.iter().map(ToString::to_string).collect();
    let via = if let [only] = &ways[..] { json!(only) } else { json!(ways) };
    let sender = route.sender.as_ref().map(ToString::to_string);
    json!({ "domain": route.domain.to_string(), "sender": sender, "login": route.login, "via": via })
}

fn source_in_json(Origin { source, is_out, today, spent }: &Origin) -> Value {
    json!({
        "address": source.address.to_string(),
        "hostname": source.hostname.as_deref(),
        "weight": source.weight,
        "suspended": is_out,
        "allowed_today": today,
        "spent_today": spent,
    })
}

fn way_in_json(report: &Report, way: &Way) -> Value {
    let security = way.security.as_ref().ok();
    let (trust, name, tlsa) = match security.map(|security| &security.trust) {
        Some(Trust::WebPki { name }) => ("web", Some(name.to_string()), Vec::new()),
        Some(Trust::Dane(pins)) => {
            ("dane", Some(pins.base.to_string()), pins.records.iter().map(ToString::to_string).collect())
        }
        Some(Trust::Any | Trust::Judged { .. }) | None => ("none", None, Vec::new()),
    };
    let starttls = security.map(|security| match security.starttls {
        Tls::Off => "off",
        Tls::IfOffered => "if offered",
        Tls::Required => "required",
        Tls::Implicit => "implicit",
    });
    json!({
        "host": &*way.candidate.host,
        "address": way.candidate.endpoint.ip().map(|ip| ip.to_string()),
        "port": way.candidate.endpoint.port(),
        "socket": match &way.candidate.endpoint {
            Endpoint::Unix(path) => Some(&**path),
            Endpoint::Tcp(_) => None,
        },
        "lock_step": way.lock_step,
        "policy": security.map(|security| security.label.as_str()),
        "starttls": starttls,
        "certificate": trust,
        "name": name,
        "tlsa": tlsa,
        "problem": way.security.as_ref().err().map(|failure| reason(report, failure)),
    })
}
