//! Clients that show a certificate, and logins that are tied to their connection, each by a real client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use staffetta_cli::sink::{Scenario, Sink};
use staffetta_testkit::certs::{Authority, Leaf};
use staffetta_tests::{Client, SOON, Service, World, eventually, next};
use tokio_rustls::TlsConnector;

const MESSAGE: &str = "From: john@example.org\nTo: lisa@example.com\nSubject: hello\n\nhello\n";

/// A relay with john, and an MX for example.com.
async fn relay(world: World) -> anyhow::Result<(World, Sink)> {
    let mut world = world.user("john@example.org", "summersun").await?.start().await?;
    let mx = world.mx("example.com", Scenario::default()).await?;
    std::fs::write(world.folder().join("message"), MESSAGE)?;
    Ok((world, mx))
}

/// Asks clients for certificates that the world's authority has signed.
fn asking(world: World, mechanisms: &str) -> World {
    let ca = format!("{:?}", world.ca());
    world.set("tls.client_ca", ca).set("auth.mechanisms", mechanisms)
}

async fn run(world: &World, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(world.folder());
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("not UTF-8")
}

/// curl submits with these words beside the usual ones; what it and the server said.
async fn curl(world: &World, url: &str, certificate: Option<&Leaf>, login: &[&str]) -> anyhow::Result<Output> {
    let ca = world.ca();
    let mut arguments = vec!["--silent", "--verbose", "--ssl-reqd", "--cacert", text(&ca)?, "--upload-file", "message"];
    arguments.extend(["--mail-from", "john@example.org", "--mail-rcpt", "lisa@example.com", "--crlf", "--url", url]);
    if let Some(leaf) = certificate {
        arguments.extend(["--cert", text(&leaf.certificate)?, "--key", text(&leaf.key)?]);
    }
    arguments.extend(login);
    run(world, "curl", &arguments).await
}

const EXTERNAL: [&str; 4] = ["--login-options", "AUTH=EXTERNAL", "--user", "john@example.org:"];
const PLAIN: [&str; 2] = ["--user", "john@example.org:summersun"];

#[tokio::test(flavor = "multi_thread")]
async fn curl_logs_in_by_its_certificate() -> anyhow::Result<()> {
    let (world, mut mx) = relay(asking(World::new().await?, "[\"EXTERNAL\", \"PLAIN\"]")).await?;
    let [starttls, implicit] = [("smtp", world.submission()), ("smtps", world.submissions())]
        .map(|(scheme, at)| format!("{scheme}://localhost:{}", at.port()));
    let john = world.client_certificate("john", &["john@example.org"])?;
    for url in [&starttls, &implicit] {
        let output = curl(&world, url, Some(&john), &EXTERNAL).await?;
        ensure!(output.status.success() && said(&output).contains("AUTH EXTERNAL"), "{}", said(&output));
        ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
    }
    ensure!(world.log(Service::Frontend).contains("a client has shown its certificate"));

    // A certificate for somebody else, for nobody, from somebody else, none: and the password goes on working.
    let lisa = world.client_certificate("lisa", &["lisa@example.org"])?;
    let output = curl(&world, &starttls, Some(&lisa), &EXTERNAL).await?;
    ensure!(!output.status.success() && said(&output).contains("< 535 5.7.8"), "{}", said(&output));
    let elsewhere = world.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let foreign = Authority::new(&elsewhere)?.leaf("john", &["john@example.org"])?;
    for certificate in [Some(&foreign), None] {
        let output = curl(&world, &starttls, certificate, &EXTERNAL).await?;
        ensure!(!output.status.success() && said(&output).contains("250-AUTH PLAIN\r\n"), "{}", said(&output));
        let output = curl(&world, &starttls, certificate, &PLAIN).await?;
        ensure!(output.status.success(), "{}", said(&output));
        next(&mut mx).await?;
    }
    Ok(())
}

async fn fingerprint(world: &World, leaf: &Leaf) -> anyhow::Result<String> {
    let arguments = ["x509", "-noout", "-fingerprint", "-sha256", "-in", text(&leaf.certificate)?];
    let printed = said(&run(world, "openssl", &arguments).await?);
    Ok(printed.trim().split_once('=').context(printed.clone())?.1.to_owned())
}

/// swaks on port 25 with a certificate; what it and the server said.
async fn swaks(world: &World, at: SocketAddr, certificate: Option<&Leaf>) -> anyhow::Result<Output> {
    let server = format!("localhost:{}", at.port());
    let mut arguments = vec!["--server", &server, "--tls", "--from", "john@example.org", "--to", "lisa@example.com"];
    if let Some(leaf) = certificate {
        arguments.extend(["--tls-cert", text(&leaf.certificate)?, "--tls-key", text(&leaf.key)?]);
    }
    run(world, "swaks", &arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_relays_by_a_trusted_certificate() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (web, other) =
        (world.client_certificate("web", &["web.test"])?, world.client_certificate("other", &["b.test"])?);
    let elsewhere = world.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let odd = Authority::new(&elsewhere)?.odd_leaf("odd", &["odd.test"])?;
    let trusted = format!("[{:?}, {:?}]", fingerprint(&world, &web).await?, fingerprint(&world, &odd).await?);
    let (world, mut mx) = relay(world.set("frontend.trusted_certificates", trusted)).await?;
    let output = swaks(&world, world.smtp(), Some(&web)).await?;
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(next(&mut mx).await?.recipients == ["lisa@example.com"]);
    // One that proves nothing is as good as none, and does not keep its client away.
    for certificate in [Some(&other), Some(&odd), None] {
        let output = swaks(&world, world.smtp(), certificate).await?;
        ensure!(said(&output).contains("554 5.7.1 <lisa@example.com>: Relay access denied"), "{}", said(&output));
    }
    // It is no login.
    let output = swaks(&world, world.submission(), Some(&web)).await?;
    ensure!(said(&output).contains("530 5.7.0 Authentication required"), "{}", said(&output));
    Ok(())
}

/// gsasl logs in on 587; what it and the server said. Where it can bind a login to the connection it does nothing else,
/// unless it is told to.
async fn gsasl(world: &World, mechanism: &[&str], password: &str) -> anyhow::Result<String> {
    let (ca, server) = (world.ca(), format!("localhost:{}", world.submission().port()));
    let login =
        ["--authentication-id", "john@example.org", "--authorization-id", "john@example.org", "--password", password];
    let connection = ["--smtp", "--starttls", "--x509-ca-file", text(&ca)?, "--connect", &server];
    let arguments = [&connection[..], &login, &["--mechanism"], mechanism].concat();
    Ok(said(&run(world, "gsasl", &arguments).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn gsasl_ties_its_login_to_the_connection() -> anyhow::Result<()> {
    let world = World::new().await?.set("auth.mechanisms", "[\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-256\", \"PLAIN\"]");
    let world = world.scram_user("john@example.org", "summersun").await?.start().await?;
    for (mechanism, password, answer) in [
        (&["SCRAM-SHA-256-PLUS"][..], "summersun", "235 2.7.0"),
        (&["SCRAM-SHA-256", "--no-cb"], "summersun", "235 2.7.0"),
        (&["SCRAM-SHA-256-PLUS"], "wintersun", "535 5.7.8"),
    ] {
        let said = gsasl(&world, mechanism, password).await?;
        ensure!(said.contains(answer), "{mechanism:?}: {said}");
    }
    Ok(())
}

/// A client that keeps its TLS sessions.
fn keeping_sessions(
    ca: &Path,
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let chain = vec![CertificateDer::from_pem_file(&leaf.certificate)?];
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[version])?.with_root_certificates(roots);
    Ok(Arc::new(builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&leaf.key)?)?).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_session_shows_the_certificate_that_it_began_with() -> anyhow::Result<()> {
    let world = World::new().await?;
    let authorities = world.folder().join("authorities.pem");
    std::fs::copy(world.ca(), &authorities)?;
    let world = world.set("tls.client_ca", format!("{authorities:?}")).set("auth.mechanisms", "[\"EXTERNAL\"]");
    let world = world.user("john@example.org", "summersun").await?.start().await?;
    let john = world.client_certificate("john", &["john@example.org"])?;
    let clients = [
        keeping_sessions(&world.ca(), &john, &rustls::version::TLS12)?,
        keeping_sessions(&world.ca(), &john, &rustls::version::TLS13)?,
    ];
    for resumed in [false, true, true] {
        for tls in &clients {
            let mut client = Client::connect_with(tls, world.submissions()).await?;
            ensure!(client.is_resumed() == resumed);
            client.expect("AUTH EXTERNAL =", 235).await?;
            client.expect("QUIT", 221).await?;
        }
    }

    // Whoever signed it is not believed any longer: a session from before is worth no more than a new one.
    let elsewhere = world.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    std::fs::copy(Authority::new(&elsewhere)?.ca(), &authorities)?;
    world.hang_up(Service::Frontend)?;
    let log = &world;
    eventually(SOON, move || async move {
        ensure!(log.log(Service::Frontend).contains("clients' authorities reloaded"));
        Ok(())
    })
    .await?;
    for tls in &clients {
        let mut client = Client::connect_with(tls, world.submissions()).await?;
        ensure!(client.is_resumed());
        ensure!(client.command("AUTH EXTERNAL =").await?.code != 235);
    }
    Ok(())
}
