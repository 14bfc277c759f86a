//! A wrong configuration ends with all that is wrong, and exit code 1.

use std::fs;
use std::process::Command;

use anyhow::Context;
use staffetta_queue::server::{LocalServer, Options};
use staffetta_testkit::certs::Authority;
use staffetta_testkit::dns::FakeDns;
use staffetta_testkit::ports::Port;
use staffetta_tests::program;

/// Runs a program on a configuration; exit code and standard error.
fn run(name: &str, arguments: &[&str], config: &str) -> anyhow::Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("staffetta.toml");
    fs::write(&file, config)?;
    let output =
        Command::new(program(name)?).args(arguments).arg("--config").arg(&file).output().context("cannot run")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Ok((output.status.code(), said.replace(&file.display().to_string(), "staffetta.toml")))
}

const WRONG: &str = r#"hostname = "mail.example.org"
colour = "red"

[redis]
durability = "maybe"

[tls]
certificate = "/nonexistent/cert.pem"
key = "/nonexistent/key.pem"

[frontend]
size_limit = "40 apples"
trusted_networks = ["10.0.0.0/40"]
"#;

#[test]
fn every_program_reports_all_errors_with_line_and_key() -> anyhow::Result<()> {
    let everywhere = ["staffetta.toml:2: colour"];
    let queue = ["staffetta.toml:5: redis.durability", "\"none\", \"fsync\", \"replicated\", \"managed\""];
    let frontend = ["staffetta.toml:12: frontend.size_limit", "staffetta.toml:13: frontend.trusted_networks"];
    let certificate = ["staffetta.toml:8: tls.certificate", "staffetta.toml:9: tls.key"];
    for (name, arguments, certificates) in [
        ("staffetta-auth", &[][..], false),
        ("staffetta-delivery", &[], false),
        ("staffetta-frontend", &[], true),
        ("staffetta", &["check"], true),
        ("staffetta", &["config"], true),
        ("staffetta", &["up"], true),
    ] {
        let (code, said) = run(name, arguments, WRONG)?;
        assert_eq!(code, Some(1), "{name}: {said}");
        for part in everywhere.iter().chain(&queue).chain(&frontend) {
            assert!(said.contains(part), "{name}: no {part:?} in\n{said}");
        }
        let prefix = format!("{name}: ");
        assert!(said.lines().all(|line| line.starts_with(&prefix)), "{said}");
        // Only those who speak TLS need the files.
        for part in certificate {
            assert_eq!(said.contains(part), certificates, "{name}: {part:?} in\n{said}");
        }
    }
    Ok(())
}

#[test]
fn the_configuration_in_force_is_shown_without_its_secrets() -> anyhow::Result<()> {
    let text = "hostname = \"mail.test\"\n[redis]\nurl = \"redis://u:hush@r:6379\"\n";
    let (code, said) = run("staffetta", &["config", "--changed", "--service", "delivery"], text)?;
    assert_eq!((code, &*said), (Some(0), "hostname = \"mail.test\"\n\n[redis]\nurl = \"redis://***@r:6379\"\n"));
    let (code, said) = run("staffetta", &["config", "--service", "delivery"], text)?;
    assert!(code == Some(0) && said.contains("\npartitions = ") && !said.contains("hush"), "{said}");
    Ok(())
}

#[test]
fn check_tries_what_the_configuration_names() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = vec![("appendonly".to_owned(), "no".to_owned())];
    let redis = LocalServer::start_with(&folder.path().join("redis"), Options { settings, ..Options::default() })?;
    let nobody = Port::reserve()?;
    let config = format!(
        "redis.url = \"{}\"\ncolour = \"red\"\nauth.sql.url = \"postgres://u:secret@127.0.0.1:{}/mail\"\n\
         dns.servers = [\"127.0.0.1:{}\"]\nfrontend.listener = [{{ name = \"smtp\", bind = \"127.0.0.1:{}\", kind = \"relay\", tls = \"off\" }}]\n",
        redis.url(),
        nobody.number(),
        nobody.number(),
        nobody.number(),
    );
    let (code, said) = run("staffetta", &["check"], &config)?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("staffetta.toml:1: redis.url") && said.contains("appendonly"), "{said}");
    assert!(said.contains("staffetta.toml:2: colour"), "{said}");
    assert!(said.contains("staffetta.toml:3: auth.sql.url") && !said.contains("secret"), "{said}");
    assert!(said.contains("staffetta.toml:4: dns.servers"), "{said}");
    Ok(())
}

/// On the machine of one service the others' certificates, databases and keys are not there.
#[tokio::test(flavor = "multi_thread")]
async fn check_for_one_service_tries_and_requires_what_it_needs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = LocalServer::start(&folder.path().join("redis"))?;
    let (dns, nobody) = (FakeDns::start().await?, Port::reserve()?);
    let config = format!(
        "hostname = \"mail.example.org\"\nredis.url = \"{}\"\nauth.sql.url = \"postgres://u@127.0.0.1:{}/mail\"\n\
         dns.servers = [\"{}\"]\n[[delivery.dkim]]\ndomain = \"example.org\"\nselector = \"a\"\nkey = \"/nonexistent\"\n",
        redis.url(),
        nobody.number(),
        dns.address(),
    );
    let findings = [("frontend", "tls.certificate"), ("auth", "auth.sql.url"), ("delivery", "delivery.dkim")];
    for (service, _) in findings {
        let (code, said) = run("staffetta", &["check", "--service", service], &config)?;
        assert_eq!(code, Some(1), "{service}: {said}");
        for (owner, finding) in findings {
            assert_eq!(said.contains(&format!(": {finding}")), owner == service, "{service}, {finding}: {said}");
        }
    }
    let sound = config
        .replace("[[delivery.dkim]]", "[[delivery.route]]")
        .replace("selector = \"a\"\nkey = \"/nonexistent\"", "via = \"mx\"");
    let (code, said) = run("staffetta", &["check", "--service", "delivery"], &sound)?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}

/// What is away may be there tomorrow.
#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_what_does_not_answer() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = LocalServer::start(&folder.path().join("redis"))?;
    let leaf = Authority::new(folder.path())?.leaf("relay", &["other.example.org"])?;
    let (dns, nobody) = (FakeDns::start().await?, Port::reserve()?);
    let there = std::net::TcpListener::bind("127.0.0.1:0")?;
    dns.host("smart.example.org", std::net::Ipv4Addr::LOCALHOST);
    let (here, away) = (there.local_addr()?.port(), nobody.number());
    let route = |via: String| format!("[[delivery.route]]\ndomain = \"*\"\nvia = \"{via}\"\n");
    let config = |hostname: &str, auth: u16, certificate: &str, via: &str, port: u16| {
        let head = format!(
            "hostname = {hostname:?}\nredis.url = \"{}\"\ndns.servers = [\"{}\"]\n",
            redis.url(),
            dns.address()
        );
        let postmaster = if hostname.starts_with("mail") { "" } else { "postmaster = \"admin@example.org\"\n" };
        let tls = format!("[tls]\ncertificate = {certificate:?}\nkey = {:?}\n", leaf.key);
        format!(
            "{head}[frontend]\nauth = \"http://127.0.0.1:{auth}\"\n{postmaster}{tls}{}",
            route(format!("smtp://{via}:{port}"))
        )
    };
    let certificate = leaf.certificate.display().to_string();
    let bad = config("mail.example.org", away, &certificate, "gone.example.org", away);
    let (_, frontend) = run("staffetta", &["check", "--service", "frontend"], &bad)?;
    let (code, delivery) = run("staffetta", &["check", "--service", "delivery"], &bad)?;
    let refused = config("mail.example.org", away, &certificate, "smart.example.org", away);
    let (_, refused) = run("staffetta", &["check", "--service", "delivery"], &refused)?;
    assert_eq!(code, Some(0), "warnings only: {delivery}");
    for (said, expected) in [
        (&frontend, "warning: hostname: mail.example.org has no address in the DNS".to_owned()),
        (&frontend, "warning: frontend.postmaster is not set: mail for postmaster is refused".to_owned()),
        (&frontend, format!("warning: frontend.auth: nobody answers at http://127.0.0.1:{away}: ")),
        (&frontend, format!("warning: tls.certificate: {certificate} does not carry the name mail.example.org")),
        (&delivery, format!("warning: delivery.route[0].via: gone.example.org:{away}: has no address")),
        (&refused, format!("warning: delivery.route[0].via: smart.example.org:{away}: Connection refused")),
    ] {
        assert!(said.contains(&expected), "no {expected:?} in\n{said}");
    }
    let list = format!("smtp://127.0.0.1:{here}\", \"smtps://127.0.0.1:{away}\", \"mx://gone.example.org");
    let several = refused_by(&list, &config("mail.example.org", away, &certificate, "smart.example.org", away));
    let (_, several) = run("staffetta", &["check", "--service", "delivery"], &several)?;
    for expected in
        [format!("127.0.0.1:{away}: Connection refused"), "mx://gone.example.org: has no mail hosts".to_owned()]
    {
        let expected = format!("warning: delivery.route[0].via: {expected}");
        assert!(several.contains(&expected) && !several.contains(&format!("127.0.0.1:{here}")), "{several}");
    }
    dns.host("other.example.org", std::net::Ipv4Addr::LOCALHOST);
    let good = config("other.example.org", here, &certificate, "smart.example.org", here);
    for service in ["frontend", "delivery"] {
        let (code, said) = run("staffetta", &["check", "--service", service], &good)?;
        let about = ["hostname", "frontend.", "tls.", "delivery."].map(|key| format!("warning: {key}"));
        assert!(code == Some(0) && !about.iter().any(|about| said.contains(about)), "{service}: {said}");
    }
    Ok(())
}

/// The same configuration with these ways of its route.
fn refused_by(ways: &str, config: &str) -> String {
    let (before, _) = config.rsplit_once("via = ").unwrap_or_default();
    format!("{before}via = [\"{ways}\"]\n")
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() -> anyhow::Result<()> {
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let mut child = Command::new(program("staffetta")?)
        .arg("hash")
        .stdin(std::process::Stdio::piped())
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no stdin")?, b"summersun\n")?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write the result"));
    Ok(())
}

#[test]
fn a_wrong_command_line_ends_with_2() -> anyhow::Result<()> {
    for arguments in [
        &["launch"][..],
        &["queue", "show", "not-an-id"],
        &["queue", "delete"],
        &["queue", "list", "--sender", ""],
        &["user", "add"],
    ] {
        let output = Command::new(program("staffetta")?).args(arguments).output()?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    Ok(())
}
